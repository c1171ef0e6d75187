//! envol: encrypted block volumes over NBD, their data keys wrapped by a KMS. A local, open EBS/Nitro.
//!
//! Every sector is AES-256-XTS under a data key of its volume. The data key lies in the volume's header, wrapped by a
//! KMS key; it is unwrapped when the volume is attached, held in locked memory while it is, wiped at detach. Disable
//! the KMS key: an attached volume does not notice, the next attach fails and says why, to the NBD client too.
//!
//! # Words
//! - *backing*: the file or disk under a volume; *volume*: a backing with an envol header on it;
//! - *attachment*: a volume open in this daemon; *export*: its NBD name;
//! - *KMS key* (or *root key*): the key in the KMS; *data key*: the clear 64 bytes of a volume; *wrapped key*: the data
//!   key as the KMS sealed it; *encryption context*: the pairs bound to it;
//! - *sector*: the unit that shares an XTS tweak; *piece*: 512 bytes, the unit in which holes are recognised.
//!
//! # Layers
//! A module uses what stands below it, never beside or above (`tests/tidy.rs` holds it to that):
//! ```text
//!   main, cli ........ the command line; reaches the daemon through control::client alone
//!   daemon     bench . configuration, wiring, the order of start and stop; the rungs that are measured
//!   doctor ........... what this machine can do of what envol wants
//!   control      nbd . two doors, the operator's and the guest's; neither knows the other
//!   attach ........... which volumes are known and open; the way from state to state
//!   volume ........... header, keys, the decrypted view of a backing
//!   kms    block ..... who wraps keys; bytes at rest
//!   chain ............ a log whose records are chained, and how that is verified
//!   policy ........... policies in AWS's language, and what they decide
//!   crypto ........... XTS, AEAD, MACs, derivation
//!   units names limits secret sync sys
//! ```
//!
//! # What is promised, in short
//! Whoever has a copy of the backing learns its size, which parts are written, and nothing else; whoever changes the
//! header is found out at attach; whoever changes sectors garbles them (XTS hides, it does not authenticate). A WRITE
//! that was acknowledged survives the death of the daemon, a FLUSH or FUA that was acknowledged survives a power cut.
//! The decisions behind the code are in `src/DESIGN.md`, the KMS against AWS's in `src/kms/KMS.md`, the bytes in `src/volume/FORMAT.md`, the protocol in
//! `src/nbd/PROTOCOL.md`, the states in `src/attach/LIFECYCLE.md`.

pub mod attach;
pub mod bench;
pub mod block;
pub mod chain;
pub mod cli;
pub mod control;
pub mod crypto;
pub mod daemon;
pub mod doctor;
pub mod kms;
pub mod limits;
pub mod names;
pub mod nbd;
pub mod places;
pub mod policy;
pub mod secret;
pub mod sync;
pub mod sys;
pub mod units;
pub mod volume;
