//! The measurements behind `envol bench`: the ladder cipher -> backing file -> volume core -> NBD -> kernel device.
//!
//! A [`Rung`] carries a [`Job`] out for a while; [`measure`] has all rungs take turns, round after round, so that what
//! disturbs the machine disturbs them alike; [`report`] makes figures of it. Everything here is real: the volume has a
//! header and keys from an embedded KMS, and what the rungs keep is read back and compared ([`verify`]), so that nothing
//! can look fast by throwing data away. Starting a daemon, asking, and showing are the command line's business.

pub mod job;
pub mod ladder;
pub mod latency;
pub mod machine;
pub mod measure;
pub mod report;
pub mod rungs;
pub mod verify;

use std::io;
use std::time::Duration;

pub use job::{Job, Order, Places};
pub use latency::Latencies;
pub use rungs::Rung;

use crate::block::BlockError;
use crate::block::file::OpenError;
use crate::crypto::xts::KeyRefused;
use crate::kms::KmsError;
use crate::nbd::client::ClientError;
use crate::units::ByteOffset;
use crate::volume::VolumeError;

/// How long a server may be silent before it counts as failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A file or directory failed.
    #[error("could not {doing}")]
    System {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The backing of the volume core cannot be made.
    #[error("the backing cannot be made")]
    Backing(#[from] OpenError),
    /// The backing or the volume core failed.
    #[error("{rung} failed")]
    Block {
        /// Which rung.
        rung: &'static str,
        /// Why.
        source: BlockError,
    },
    /// The volume cannot be made or opened.
    #[error("the volume cannot be made")]
    Volume(#[from] VolumeError),
    /// The embedded KMS cannot be opened.
    #[error("the embedded KMS cannot be opened")]
    Kms(#[from] crate::kms::embedded::OpenError),
    /// The embedded KMS refused.
    #[error("the embedded KMS refused")]
    Key(#[from] KmsError),
    /// There is no cipher to be measured.
    #[error("the cipher cannot be had")]
    Cipher(#[from] KeyRefused),
    /// A server, or the connection to it, failed.
    #[error("{server} failed")]
    Server {
        /// Which.
        server: String,
        /// Why.
        source: ClientError,
    },
    /// What was written is not what is read.
    #[error("{rung} does not give back what was written to it, at byte {}", .at.get())]
    Lost {
        /// Which rung.
        rung: String,
        /// Where.
        at: ByteOffset,
    },
    /// The backing holds what was written as it was written, or nothing at all.
    #[error("the backing of {rung} does not hold ciphertext at byte {}", .at.get())]
    NotEncrypted {
        /// Which rung.
        rung: String,
        /// Where in the volume.
        at: ByteOffset,
    },
    /// Somebody wants it to end.
    #[error("stopped before the end; there are no figures")]
    Stopped,
}
