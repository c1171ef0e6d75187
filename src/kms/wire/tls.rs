//! TLS in front of the wire: which certificate and key, and the handshake's bounds.

use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::Uid;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use zeroize::Zeroizing;

use crate::kms::files;
use crate::limits;
use crate::sync::Arc;

/// A certificate and its key, ready to serve with.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// Why TLS cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A key that is not secret.
    #[error("{path} {why}; give it to the user of envol and chmod 0600 it")]
    NotSecret {
        /// Which.
        path: PathBuf,
        /// As in "can be read by others".
        why: &'static str,
    },
    /// A file without what it should have.
    #[error("{path} holds no {what}: {why}")]
    Content {
        /// Which.
        path: PathBuf,
        /// As in "private key".
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The two do not belong together, or the algorithm is not known.
    #[error("the certificate and the key cannot be used")]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    /// Reads a chain of certificates and the key of the first, both as PEM.
    ///
    /// # Errors
    /// [`TlsError`]: nothing is served with a key that others can read.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let content = |path: &Path, what, why: String| TlsError::Content { path: path.to_owned(), what, why };
        let pem = read(certificate, false)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
        let chain = chain.map_err(|error| content(certificate, "certificate", error.to_string()))?;
        let pem = read(key, true)?;
        let private = PrivateKeyDer::from_pem_slice(&pem);
        let private = private.map_err(|error| content(key, "private key", error.to_string()))?;
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
        let mut config = builder.with_no_client_auth().with_single_cert(chain, private)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    /// The encrypted stream over `stream`, where the client agrees in time.
    pub(super) async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S) -> io::Result<TlsStream<S>> {
        let agreed = timeout(limits::KMS_READ_DEADLINE, self.0.accept(stream)).await;
        agreed.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// The bytes of a file, wiped on drop.
fn read(path: &Path, secret: bool) -> Result<Zeroizing<Vec<u8>>, TlsError> {
    let failed = |source| TlsError::File { path: path.to_owned(), source };
    let (file, facts) = files::open(path).map_err(failed)?;
    if secret {
        let judged = files::judge_secret(&facts, Uid::effective().as_raw());
        judged.map_err(|why| TlsError::NotSecret { path: path.to_owned(), why })?;
    }
    files::read(&file, &facts).map_err(failed)
}
