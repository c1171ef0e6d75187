//! A volume: a backing with an envol header on it (FORMAT.md). Made, opened and used here, with a [`BlockDevice`] and a
//! [`Kms`] given as arguments; which kinds they are is not known here.
//!
//! The way in is one-way: [`Unverified`] (read, nothing in it trusted) -> [`Unverified::verify`] with the data key ->
//! ([`Verified`], [`SectorKeys`]), the only source of sector keys -> [`EncryptedDevice`].
//!
//! [`BlockDevice`]: crate::block::BlockDevice
//! [`Kms`]: crate::kms::Kms

mod codec;
mod copies;
mod create;
mod encrypted;
mod error;
mod export;
mod extents;
mod fill;
mod header;
mod keys;
mod open;
mod pieces;
mod record;
mod rewrap;
mod stripes;
mod zeros;

pub use copies::{CopyState, MARK};
pub use create::{backing_size, create, destroy_header, holds_header};
pub use encrypted::EncryptedDevice;
pub use error::{CopyFault, VolumeError, WeakKey};
pub use export::CryptTable;
pub use header::{BadShape, CreateSpec, Fingerprint, Header};
pub use keys::SectorKeys;
pub use open::{Unverified, Verified};
pub use record::{Condition, Record, Rollback, Standing, Wanted};
pub use rewrap::{Backup, Elsewhere, Resealed, Side};

use crate::units::ByteCount;

/// Told how far long work has come: bytes done of bytes in all. Answers whether to go on.
pub type Progress<'p> = &'p mut dyn FnMut(ByteCount, ByteCount) -> bool;
