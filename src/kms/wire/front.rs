//! One request: authenticated, read, judged, carried out, and answered in AWS's form. What is signed for STS goes its own way
//! (`sts`) once it is authenticated.
//!
//! In this order (the key's resolution and the right to it follow inside the KMS): signature, operation, body, model,
//! then the operation itself. Whatever an authenticated request for a known operation comes to, the audit log tells of it
//! before it is answered; what nobody signed leaves no line there, only in the daemon's own log (at the level `debug`: anybody can send it).

use std::time::SystemTime;

use hyper::StatusCode;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Response, Version};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tracing::{debug, error};
use uuid::Uuid;

use super::input::Input;
use super::model::{Operation, Wrong};
use super::operations;
use super::refusal::{invalid, invalid_signature, unknown_operation, unreadable, unrecognized_client, unsupported};
use super::sigv4::{Claim, Service};
use super::sts;
use crate::kms::embedded::{Embedded, Plaintext, Region, Session, SignedRequest, throttled};
use crate::kms::{KmsError, Principal};
use crate::policy::Document;
use crate::sync::Arc;

const TARGET: &str = "TrentService.";
const XML: HeaderValue = HeaderValue::from_static("text/xml");
const JSON: HeaderValue = HeaderValue::from_static("application/x-amz-json-1.1");

/// The members by which a request names an algorithm.
const ALGORITHMS: [&str; 3] = ["EncryptionAlgorithm", "SourceEncryptionAlgorithm", "DestinationEncryptionAlgorithm"];

/// A request whose body has arrived whole.
pub(super) struct Whole {
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
    /// Where it came from.
    pub(super) source: String,
    /// Whether it came through TLS.
    pub(super) secure: bool,
    /// Whether a rehearsal has it refused.
    pub(super) throttled: bool,
}

/// A request whose signature holds.
struct Authenticated {
    /// The region that it is signed for.
    region: Region,
    service: Service,
    request: SignedRequest,
}

/// Who signed, and with which secret.
struct Signer {
    principal: Principal,
    secret: Plaintext,
    session_policy: Option<Document>,
}

/// Answers a request to the KMS whose own region's part is `home`.
pub(super) fn answer(home: &Arc<Embedded>, whole: &Whole) -> Response<Bytes> {
    let authenticated = authenticate(home, whole);
    let id = authenticated.as_ref().map_or_else(|_| Uuid::new_v4(), |authenticated| authenticated.request.id);
    let of_sts = match &authenticated {
        Ok(authenticated) => authenticated.service == Service::Sts,
        Err(_) => is_form(&whole.headers),
    };
    if of_sts {
        return answer_of_sts(home, authenticated, whole, id);
    }
    let outcome = match authenticated {
        Ok(authenticated) => serve(home, authenticated, whole),
        Err(error) => {
            debug!(%error, source = whole.source, "a request to the KMS was not authenticated");
            Err(error)
        }
    };
    match outcome {
        Ok(Value::Null) => response(StatusCode::OK, id, Bytes::new()),
        Ok(members) => response(StatusCode::OK, id, members.to_string().into()),
        Err(error) => failure(&error, id),
    }
}

fn is_form(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/x-www-form-urlencoded"))
}

fn answer_of_sts(
    home: &Arc<Embedded>,
    authenticated: Result<Authenticated, KmsError>,
    whole: &Whole,
    id: Uuid,
) -> Response<Bytes> {
    let outcome = authenticated.and_then(|Authenticated { region, request, .. }| {
        sts::serve(home, &region, &request, &whole.body, whole.throttled.then(throttled))
    });
    let (status, text) = match outcome {
        Ok(text) => (StatusCode::OK, text),
        Err(error) => {
            debug!(%error, source = whole.source, "a request to STS was refused");
            sts::failure(&error, &id.to_string())
        }
    };
    let mut response = response(status, id, text.into());
    response.headers_mut().insert(CONTENT_TYPE, XML);
    response
}

/// The answer to what is no request of this protocol.
pub(super) fn refuse(status: StatusCode, exception: &str) -> Response<Bytes> {
    response(status, Uuid::new_v4(), json!({ "__type": exception }).to_string().into())
}

fn authenticate(home: &Arc<Embedded>, whole: &Whole) -> Result<Authenticated, KmsError> {
    let claim = Claim::read(&whole.headers)?;
    let signer = signer(home, &claim)?.ok_or_else(unrecognized_client)?;
    claim.verify(signer.secret.expose(), &whole.headers, &whole.body, now(home.time()))?;
    let Signer { principal, secret, session_policy } = signer;
    drop(secret);
    let nowhere = || invalid_signature("Credential should be scoped to a valid region.");
    let region = Region::named(&claim.region).ok_or_else(nowhere)?;
    let mut request = SignedRequest::new(principal, claim.access_key_id);
    request.source.clone_from(&whole.source);
    (request.secure, request.session_policy) = (whole.secure, session_policy);
    request.user_agent = whole.headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).map(str::to_owned);
    Ok(Authenticated { region, service: claim.service, request })
}

/// A session by its token, or else a user by their access key.
fn signer(home: &Embedded, claim: &Claim) -> Result<Option<Signer>, KmsError> {
    if let Some(token) = &claim.token {
        let session = home.session(&claim.access_key_id, token)?;
        return Ok(session.map(|Session { principal, secret, policy }| Signer {
            principal,
            secret,
            session_policy: policy,
        }));
    }
    let user = home.access_key(&claim.access_key_id)?;
    Ok(user.map(|(principal, secret)| Signer { principal, secret, session_policy: None }))
}

fn now(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).expect("the clock shows a year of four digits")
}

fn serve(home: &Arc<Embedded>, authenticated: Authenticated, whole: &Whole) -> Result<Value, KmsError> {
    let Authenticated { region, mut request, .. } = authenticated;
    let target = whole.headers.get("x-amz-target").and_then(|target| target.to_str().ok());
    let operation = target.and_then(|target| target.strip_prefix(TARGET)).and_then(Operation::named);
    let operation = operation.ok_or_else(unknown_operation)?;
    let outcome = read(operation, &mut request, &whole.body).and_then(|input| {
        if whole.throttled {
            return Err(throttled());
        }
        let handler = operations::handler(operation.name).ok_or_else(|| unsupported(operation.name))?;
        let kms = home.in_region(&region, &request, operation.name)?;
        kms.judge_grant_tokens(&input.texts("GrantTokens"))?;
        handler(&kms, &request, &input)
    });
    match outcome {
        Err(error) if !request.is_recorded() => home.refuse(&region, &request, operation.name, error),
        outcome => outcome,
    }
}

/// The members of the request, judged; what the audit log is to show of them goes into `request`.
fn read(operation: &Operation, request: &mut SignedRequest, body: &[u8]) -> Result<Input, KmsError> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    let members: Map<String, Value> = match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => members,
        Ok(_) => return Err(unreadable("Unexpected token received from parser")),
        Err(_) => return Err(unreadable("")),
    };
    operation.judge(&members).map_err(|wrong| match wrong {
        Wrong::Unreadable(text) => unreadable(text),
        Wrong::Invalid(text) => invalid(text),
    })?;
    request.shown = operation.shown(&members);
    let input = Input(members);
    let mut algorithms = ALGORITHMS.iter().filter_map(|member| input.text(member));
    request.algorithm = algorithms.find(|algorithm| *algorithm != "SYMMETRIC_DEFAULT").map(str::to_owned);
    request.dry_run = input.flag("DryRun");
    Ok(input)
}

fn failure(error: &KmsError, id: Uuid) -> Response<Bytes> {
    let (status, exception, message) = match error {
        KmsError::Refused { exception, message } | KmsError::Throttled { exception, message } => {
            (StatusCode::BAD_REQUEST, exception.as_str(), message.as_str())
        }
        KmsError::Unreachable(_)
        | KmsError::BadAnswer(_)
        | KmsError::Misconfigured { .. }
        | KmsError::NoCaller(_)
        | KmsError::NoLockedMemory(_) => {
            error!(%error, request = %id, "a request to the KMS failed inside");
            let text = "The request was rejected because an internal exception occurred. The request can be retried.";
            (StatusCode::INTERNAL_SERVER_ERROR, "KMSInternalException", text)
        }
    };
    response(status, id, json!({ "__type": exception, "message": message }).to_string().into())
}

fn response(status: StatusCode, id: Uuid, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.version_mut() = Version::HTTP_11;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    let id = HeaderValue::from_str(&id.to_string()).expect("a UUID is a header's value");
    response.headers_mut().insert("x-amzn-requestid", id);
    response
}
