//! The life of a volume, from create to delete, with everything that may come between: a KMS that refuses, throttles,
//! lies or never answers; callers that race; disks that hang or fail; restarts in every state.
//!
//! The registry, the volumes and the files are the real ones. The KMS is scripted (`world`), and where a disk has to
//! misbehave a fault device lies between the file and everything above it.

mod creating;
mod detaching;
mod headers;
mod identity;
mod kms;
mod looking_up;
mod moving;
mod races;
mod restart;
mod script;
mod secrecy;
mod world;
