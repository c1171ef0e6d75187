//! The `aws` kind of KMS: AWS KMS itself, or whatever speaks its protocol, through AWS's own client.
//!
//! That client keeps answers in buffers of its HTTP and TLS that nobody can wipe. So each call is made by a process of its
//! own, which hands the data key over and ends (`process`); this process sees it in locked memory only. The processes are
//! started by a parent that was started before this process was confined: it may not connect anywhere, they may.
//! ```text
//! envol (daemon)               the data keys of volumes; no connection to the KMS, no credentials
//!   envol-kms-parent           the sections of the configuration; started before there is a key or a thread
//!     envol-kms-call           one call: credentials, connection, answer
//! ```
//! The parent is told the settings of all sections when it is started, and never again: a call carries the name of one, so
//! that a daemon that was taken over has the KMSs of its configuration called and nothing else.
//!
//! One call is one try; whoever wants more of them bounds and repeats it (`attach`).

mod exchange;
mod parent;
mod process;
#[cfg(feature = "aws")]
mod sdk;
mod settings;

pub use parent::Parent;
pub use process::run_as_named;
pub use settings::{BadEndpoint, Settings};
pub(crate) use settings::{is_readable_by, judge_certificates};

use std::io::{self, ErrorKind};

use self::exchange::{Asked, Reply};
use super::{
    DATA_KEY_BYTES, DataKey, DecryptedKey, EncryptionContext, GeneratedKey, KeyArn, KeyName, Kms, KmsError, Principal,
    WrappedKey, frame,
};
use crate::limits;
use crate::secret::Secret;
use crate::sync::Arc;
use crate::sys::locked::{LockedMemory, LockingFailed};

/// Whether this build has AWS's client.
pub const AVAILABLE: bool = cfg!(feature = "aws");

/// A KMS that speaks AWS's protocol.
pub struct Aws {
    section: String,
    parent: Arc<Parent>,
}

impl Aws {
    /// The one of the configuration's `section`, called by processes that `parent`, which knows its settings, starts.
    pub fn new(section: String, parent: Arc<Parent>) -> Self {
        Self { section, parent }
    }

    /// Has a process of its own make the call; `secret` goes along in clear.
    fn ask(&self, asked: Asked, secret: &[u8]) -> Result<Answer, KmsError> {
        let message = exchange::encode(&asked, secret).map_err(failed)?;
        let stream = self.parent.start_call(&self.section)?;
        stream.set_read_timeout(Some(limits::KMS_CALL_DEADLINE)).map_err(failed)?;
        frame::write(&mut &stream, message.bytes()).map_err(failed)?;
        match frame::read(&mut &stream).map_err(failed)? {
            Some(message) => Answer::of(message),
            None => Err(failed(ErrorKind::UnexpectedEof.into())),
        }
    }
}

/// What a call came to.
struct Answer {
    message: LockedMemory,
    reply: Reply,
}

impl Answer {
    fn of(message: LockedMemory) -> Result<Self, KmsError> {
        let (reply, _) = exchange::decode(message.bytes()).map_err(failed)?;
        match reply {
            Reply::Failed(failure) => Err(failure.into()),
            reply => Ok(Self { message, reply }),
        }
    }

    fn sealed(self) -> Result<GeneratedKey, KmsError> {
        match self.reply {
            Reply::Sealed { wrapped, key } => Ok(GeneratedKey { wrapped: exchange::wrapped(&wrapped)?, key }),
            _ => Err(failed(ErrorKind::InvalidData.into())),
        }
    }

    fn opened(self) -> Result<DecryptedKey, KmsError> {
        let Reply::Opened { key } = self.reply else { return Err(failed(ErrorKind::InvalidData.into())) };
        let (_, clear) = exchange::decode::<Reply>(self.message.bytes()).map_err(failed)?;
        let clear: &[u8; DATA_KEY_BYTES] = clear.try_into().map_err(|_| exchange::bad_length(clear.len()))?;
        let data_key = DataKey::new(Secret::filled_by(|bytes| bytes.copy_from_slice(clear))?);
        Ok(DecryptedKey { data_key, key })
    }
}

impl Kms for Aws {
    fn generate_data_key_without_plaintext(
        &self,
        _caller: &Principal,
        key: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        self.ask(Asked::Generate { key: key.clone(), context: context.clone() }, &[])?.sealed()
    }

    fn decrypt(
        &self,
        _caller: &Principal,
        key: &KeyArn,
        wrapped: &WrappedKey,
        context: &EncryptionContext,
    ) -> Result<DecryptedKey, KmsError> {
        let (key, context) = (key.clone(), context.clone());
        self.ask(Asked::Decrypt { key, wrapped: exchange::text(wrapped), context }, &[])?.opened()
    }

    fn re_encrypt(
        &self,
        _caller: &Principal,
        (from, wrapped): (&KeyArn, &WrappedKey),
        to: &KeyName,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        let (from, to, context) = (from.clone(), to.clone(), context.clone());
        self.ask(Asked::ReEncrypt { from, wrapped: exchange::text(wrapped), to, context }, &[])?.sealed()
    }

    fn encrypt(
        &self,
        _caller: &Principal,
        key: &KeyName,
        data_key: &Arc<DataKey>,
        context: &EncryptionContext,
    ) -> Result<GeneratedKey, KmsError> {
        self.ask(Asked::Encrypt { key: key.clone(), context: context.clone() }, data_key.expose())?.sealed()
    }
}

/// What stopped the exchange with the process that calls.
fn failed(error: io::Error) -> KmsError {
    if let Some(LockingFailed(errno)) = error.get_ref().and_then(|cause| cause.downcast_ref()) {
        return KmsError::NoLockedMemory(LockingFailed(*errno));
    }
    KmsError::Unreachable(match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => {
            format!("no answer within {} s", limits::KMS_CALL_DEADLINE.as_secs())
        }
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            "the process that calls it has ended without an answer; see the daemon's log".to_owned()
        }
        _ => format!("the process that calls it: {error}"),
    })
}
