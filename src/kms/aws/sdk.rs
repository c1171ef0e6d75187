//! One call, through AWS's client: prepared while files can be read, made once the process is confined.
//!
//! One try, without the client's own repetitions; an answer of the KMS is at most 64 KiB, whatever else is read is bounded by
//! the memory of this process, and no redirect of the KMS's is followed. Nothing comes from the environment, which is empty.
//! Errors are sorted by fault here, and carry AWS's exception and text to the letter, up to 4 KiB of it.

use std::error::Error;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::error::CredentialsError;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_sdk_kms::Client;
use aws_sdk_kms::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{
    ConfigBag, Intercept, RuntimeComponents, SharedCredentialsProvider, SharedHttpClient, StalledStreamProtectionConfig,
};
use aws_sdk_kms::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_sdk_kms::primitives::Blob;
use aws_sdk_sts::operation::assume_role::AssumeRoleError;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use aws_smithy_types::body::SdkBody;
use http_body_util::{LengthLimitError, Limited};
use nix::unistd::Uid;

use super::exchange::{self, Asked, Reply};
use super::process::Outcome;
use super::settings::{self, Settings};
use crate::kms::files;
use crate::kms::{DATA_KEY_BYTES, DataKey, EncryptionContext, KeyArn, KmsError};
use crate::limits;
use crate::secret::Secret;

/// [`DATA_KEY_BYTES`] as a request spells it.
const DATA_KEY_LENGTH: i32 = 64;
const _: () = assert!(DATA_KEY_LENGTH as usize == DATA_KEY_BYTES, "the two must agree");

/// Layers of an error that say nothing.
const SAY_NOTHING: [&str; 5] = ["dispatch failure", "response error", "service error", "io error", "other"];

/// A call whose files have been read.
pub(super) struct Prepared<'a> {
    settings: &'a Settings,
    credentials: Option<String>,
    certificates: Option<Vec<u8>>,
}

impl<'a> Prepared<'a> {
    /// Reads what `settings` name.
    pub(super) fn of(settings: &'a Settings) -> Result<Self, KmsError> {
        let credentials = settings.credentials_file.as_deref().map(secrets).transpose()?;
        let certificates = settings.ca_file.as_deref().map(certificates).transpose()?;
        Ok(Self { settings, credentials, certificates })
    }

    /// Makes it, unless the daemon closes `stream` before.
    pub(super) fn call(self, asked: &Asked, secret: &[u8], stream: &UnixStream) -> Outcome {
        let system = |error: io::Error| KmsError::Unreachable(error.to_string());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
        let outcome = runtime.block_on(async {
            let gone = closed(stream.try_clone().map_err(system)?);
            tokio::select! {
                outcome = self.ask(asked, secret) => outcome,
                ended = gone => Err(system(ended.err().unwrap_or(io::ErrorKind::ConnectionAborted.into()))),
            }
        });
        // A name that is still being looked up is nobody's concern any more.
        runtime.shutdown_background();
        outcome
    }

    async fn ask(&self, asked: &Asked, secret: &[u8]) -> Outcome {
        let client = self.client().await?;
        match asked {
            Asked::Generate { key, context } => {
                let request = client.generate_data_key_without_plaintext().number_of_bytes(DATA_KEY_LENGTH);
                let answer = request.key_id(key.as_str()).set_encryption_context(pairs(context)).send().await;
                let answer = answer.map_err(|error| self.failure(error))?;
                sealed(answer.ciphertext_blob, answer.key_id)
            }
            Asked::Decrypt { key, wrapped, context } => {
                let request = client.decrypt().ciphertext_blob(blob(wrapped)?).key_id(key.as_str());
                let answer =
                    request.set_encryption_context(pairs(context)).send().await.map_err(|error| self.failure(error))?;
                opened(answer.plaintext, answer.key_id)
            }
            Asked::ReEncrypt { from, wrapped, to, context } => {
                let request = client.re_encrypt().ciphertext_blob(blob(wrapped)?).source_key_id(from.as_str());
                let request = request.set_source_encryption_context(pairs(context)).destination_key_id(to.as_str());
                let answer = request.set_destination_encryption_context(pairs(context)).send().await;
                let answer = answer.map_err(|error| self.failure(error))?;
                sealed(answer.ciphertext_blob, answer.key_id)
            }
            Asked::Encrypt { key, context } => {
                let request = client.encrypt().plaintext(Blob::new(secret)).key_id(key.as_str());
                let answer =
                    request.set_encryption_context(pairs(context)).send().await.map_err(|error| self.failure(error))?;
                sealed(answer.ciphertext_blob, answer.key_id)
            }
        }
    }

    async fn client(&self) -> Result<Client, KmsError> {
        let common = self.common()?;
        let credentials = self.credentials_of(&common).await?;
        let mut builder =
            aws_sdk_kms::config::Builder::from(&common).credentials_provider(credentials).interceptor(Judge);
        if let Some(endpoint) = &self.settings.endpoint {
            builder = builder.endpoint_url(endpoint);
        }
        Ok(Client::from_conf(builder.build()))
    }

    /// What every request of this process is made with.
    fn common(&self) -> Result<SdkConfig, KmsError> {
        // A little before the daemon gives up, so that it hears what it was that took so long.
        let whole = limits::KMS_CALL_DEADLINE - Duration::from_millis(500);
        let timeouts = TimeoutConfig::builder().connect_timeout(limits::KMS_CONNECT_DEADLINE).operation_timeout(whole);
        let builder = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(self.settings.region.clone()))
            .retry_config(RetryConfig::disabled())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled())
            .timeout_config(timeouts.build())
            .time_source(aws_smithy_async::time::SystemTimeSource::new())
            .sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new())
            .http_client(self.http_client()?);
        Ok(builder.build())
    }

    /// https is https, with certificates that are trusted, and never falls back to http.
    fn http_client(&self) -> Result<SharedHttpClient, KmsError> {
        let trusted = match &self.certificates {
            Some(certificates) => TrustStore::empty().with_pem_certificate(certificates.clone()),
            None => TrustStore::default(),
        };
        let tls = TlsContext::builder().with_trust_store(trusted).build();
        let file = &self.settings.ca_file;
        let tls = tls.map_err(|error| KmsError::Misconfigured { text: chain(&error), file: file.clone() })?;
        let provider = Provider::Rustls(CryptoMode::Ring);
        Ok(Builder::new().tls_provider(provider).tls_context(tls).build_https())
    }

    /// The credentials of the file's profile, or of the machine's role; with a role assumed, those of that.
    async fn credentials_of(&self, common: &SdkConfig) -> Result<SharedCredentialsProvider, KmsError> {
        let settings = self.settings;
        let mut config = ProviderConfig::empty()
            .with_region(common.region().cloned())
            .with_sleep_impl(aws_smithy_async::rt::sleep::TokioSleep::new())
            .with_time_source(aws_smithy_async::time::SystemTimeSource::new());
        if let Some(client) = common.http_client() {
            config = config.with_http_client(client);
        }
        let base = match &self.credentials {
            Some(text) => {
                let file = EnvConfigFiles::builder().with_contents(EnvConfigFileKind::Credentials, text.clone());
                let provider = ProfileFileCredentialsProvider::builder().configure(&config);
                let provider = provider.profile_files(file.build()).profile_name(settings.profile.clone());
                SharedCredentialsProvider::new(provider.build())
            }
            None => {
                let mut metadata = aws_config::imds::Client::builder().configure(&config).max_attempts(1);
                if let Some(endpoint) = &settings.metadata_endpoint {
                    let bad = |error: BoxError| KmsError::Misconfigured { text: chain(&*error), file: None };
                    metadata = metadata.endpoint(endpoint).map_err(bad)?;
                }
                let provider = ImdsCredentialsProvider::builder().configure(&config).imds_client(metadata.build());
                SharedCredentialsProvider::new(provider.build())
            }
        };
        let Some(role) = &settings.role else { return Ok(base) };
        let mut sts = common.clone().into_builder();
        sts.set_endpoint_url(settings.sts_endpoint.clone());
        let assumed = AssumeRoleProvider::builder(role).session_name("envol").configure(&sts.build());
        Ok(SharedCredentialsProvider::new(assumed.build_from_provider(base).await))
    }
}

/// The text of a file of credentials, which is nobody else's.
fn secrets(path: &Path) -> Result<String, KmsError> {
    let bad = |why: String| wrong(path, format!("the credentials {}: {why}", path.display()));
    let failed = |error: io::Error| bad(error.to_string());
    let (file, facts) = files::open(path).map_err(failed)?;
    files::judge_secret(&facts, Uid::effective().as_raw()).map_err(|why| bad(format!("the file {why}")))?;
    let bytes = files::read(&file, &facts).map_err(failed)?;
    String::from_utf8(bytes.to_vec()).map_err(|_| bad("not text".to_owned()))
}

/// The certificates in a file, which are some.
fn certificates(path: &Path) -> Result<Vec<u8>, KmsError> {
    let bad = |why: String| wrong(path, format!("the certificates {}: {why}", path.display()));
    let failed = |error: io::Error| bad(error.to_string());
    let (file, facts) = files::open(path).map_err(failed)?;
    let bytes = files::read(&file, &facts).map_err(failed)?;
    settings::judge_certificates(&bytes).map_err(bad)?;
    Ok(bytes.to_vec())
}

fn wrong(file: &Path, text: String) -> KmsError {
    KmsError::Misconfigured { text, file: Some(file.to_owned()) }
}

/// Returns when the daemon has closed its end.
async fn closed(stream: UnixStream) -> io::Result<()> {
    stream.set_nonblocking(true)?;
    let stream = tokio::net::UnixStream::from_std(stream)?;
    stream.readable().await
}

/// Refuses what no answer of AWS's looks like, before it is read. What it is declared as is no sign: moto says text/html.
#[derive(Debug)]
struct Judge;

/// An answer that is none of AWS's protocol.
#[derive(Debug, thiserror::Error)]
enum Foreign {
    #[error("a redirect (HTTP {0}), and none is followed")]
    Redirect(u16),
}

impl Intercept for Judge {
    fn name(&self) -> &'static str {
        "Judge"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        let status = response.status().as_u16();
        if (300..400).contains(&status) {
            return Err(Foreign::Redirect(status).into());
        }
        let body = response.take_body();
        *response.body_mut() = SdkBody::from_body_1_x(Limited::new(body, limits::KMS_ANSWER_MAX));
        Ok(())
    }
}

fn pairs(context: &EncryptionContext) -> Option<std::collections::HashMap<String, String>> {
    Some(context.pairs().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

fn blob(text: &str) -> Result<Blob, KmsError> {
    exchange::wrapped(text).map(|wrapped| Blob::new(wrapped.bytes()))
}

fn sealed(wrapped: Option<Blob>, key: Option<String>) -> Outcome {
    let wrapped = wrapped.ok_or_else(|| lacking("CiphertextBlob"))?;
    let wrapped = crate::kms::WrappedKey::new(wrapped.into_inner());
    let wrapped = wrapped.map_err(|bad| KmsError::BadAnswer(bad.to_string()))?;
    Ok((Reply::Sealed { wrapped: exchange::text(&wrapped), key: named(key)? }, None))
}

fn opened(plaintext: Option<Blob>, key: Option<String>) -> Outcome {
    let plaintext = plaintext.ok_or_else(|| lacking("Plaintext"))?;
    let clear: &[u8] = plaintext.as_ref();
    let clear: &[u8; DATA_KEY_BYTES] = clear.try_into().map_err(|_| exchange::bad_length(clear.len()))?;
    let data_key = Secret::filled_by(|bytes| bytes.copy_from_slice(clear)).map(DataKey::new);
    Ok((Reply::Opened { key: named(key)? }, Some(data_key?)))
}

/// The key that answered: not empty, and printed as it is.
fn named(key: Option<String>) -> Result<KeyArn, KmsError> {
    key.filter(|key| !key.is_empty()).map(KeyArn::new).ok_or_else(|| lacking("KeyId"))
}

fn lacking(member: &str) -> KmsError {
    KmsError::BadAnswer(format!("it has no {member}"))
}

impl Prepared<'_> {
    /// What stopped a call, by fault.
    fn failure<E: ProvideErrorMetadata + Error + 'static, R: Status + std::fmt::Debug + 'static>(
        &self,
        error: SdkError<E, R>,
    ) -> KmsError {
        match &error {
            SdkError::ServiceError(service) => of_service(service.raw().code(), service.err()),
            SdkError::TimeoutError(_) => KmsError::Unreachable(format!("no answer in time: {}", chain(&error))),
            _ => self.on_the_way(&error),
        }
    }

    /// What kept a call from its answer.
    fn on_the_way(&self, error: &(dyn Error + 'static)) -> KmsError {
        if let Some(what) = foreign(error) {
            return KmsError::BadAnswer(what);
        }
        let text = chain(error);
        let credentials = &self.settings.credentials_file;
        match causes(error).find_map(CredentialsFault::of) {
            Some(CredentialsFault::Invalid) => KmsError::Misconfigured { text, file: credentials.clone() },
            // Instance metadata that are not reached are told as this, too.
            Some(CredentialsFault::Lacking) if credentials.is_some() => {
                KmsError::Misconfigured { text, file: credentials.clone() }
            }
            Some(CredentialsFault::RoleRefused) => KmsError::Misconfigured { text, file: None },
            _ => KmsError::Unreachable(text),
        }
    }
}

/// Why there are no credentials, where waiting does not bring them.
enum CredentialsFault {
    Invalid,
    Lacking,
    RoleRefused,
}

impl CredentialsFault {
    fn of(cause: &(dyn Error + 'static)) -> Option<Self> {
        if let Some(SdkError::ServiceError(said)) = cause.downcast_ref::<SdkError<AssumeRoleError>>() {
            let refused = matches!(of_service(said.raw().code(), said.err()), KmsError::Refused { .. });
            return refused.then_some(Self::RoleRefused);
        }
        match cause.downcast_ref()? {
            CredentialsError::InvalidConfiguration(_) => Some(Self::Invalid),
            CredentialsError::CredentialsNotLoaded(_) => Some(Self::Lacking),
            _ => None,
        }
    }
}

/// The HTTP status of an answer.
trait Status {
    fn code(&self) -> u16;
}

impl Status for aws_sdk_kms::config::http::HttpResponse {
    fn code(&self) -> u16 {
        self.status().as_u16()
    }
}

/// Bytes in the name of an exception; AWS's longest has about forty.
const EXCEPTION_MAX: usize = 128;

/// Exceptions that say: later.
const THROTTLES: [&str; 5] =
    ["ThrottlingException", "Throttling", "TooManyRequestsException", "RequestLimitExceeded", "SlowDown"];

/// Exceptions that say that the KMS itself failed, whatever the status.
const FAILURES: [&str; 4] =
    ["KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException", "ServiceUnavailableException"];

fn of_service(status: u16, error: &(impl ProvideErrorMetadata + Error + 'static)) -> KmsError {
    let message = cut(error.message().unwrap_or_default().to_owned());
    match error.code().filter(|code| code.len() <= EXCEPTION_MAX) {
        Some(code) if status == 429 || THROTTLES.contains(&code) => {
            KmsError::Throttled { exception: code.to_owned(), message }
        }
        Some(code) if status >= 500 || FAILURES.contains(&code) => KmsError::Unreachable(format!("{code}: {message}")),
        Some(code) => KmsError::Refused { exception: code.to_owned(), message },
        None if status == 429 => KmsError::Throttled { exception: "HTTP 429".to_owned(), message },
        None if status >= 500 => KmsError::Unreachable(format!("HTTP {status}")),
        None => KmsError::BadAnswer(format!("HTTP {status}, {}", chain(error))),
    }
}

/// What is wrong with the answer, where what failed is not the way to it.
fn foreign(error: &(dyn Error + 'static)) -> Option<String> {
    let strange = |cause: &&(dyn Error + 'static)| cause.is::<Foreign>() || cause.is::<LengthLimitError>();
    causes(error).find(strange).map(ToString::to_string)
}

/// `error`, and what is behind it.
fn causes<'e>(error: &'e (dyn Error + 'static)) -> impl Iterator<Item = &'e (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&cause| cause.source())
}

/// So much of `text` as is told on.
fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(limits::KMS_TEXT_MAX));
    text
}

/// What `error` says, and what is behind it, each once.
fn chain(error: &dyn Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    let (mut text, mut next) = (error.to_string(), error.source());
    loop {
        if !SAY_NOTHING.contains(&text.as_str()) && !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        let Some(cause) = next else { break };
        (text, next) = (cause.to_string(), cause.source());
    }
    cut(texts.join(": "))
}
