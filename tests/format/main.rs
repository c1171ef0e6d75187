//! The header of a volume: golden images of every released version, each defect by name, crashes at every point of an
//! update, and a KMS that lies. Images are taken apart and put together here by FORMAT.md and OpenSSL alone.
#![allow(clippy::cast_possible_truncation, reason = "places and lengths of tests are small")]

mod crashes;
mod defects;
mod forgeries;
mod golden;
mod kms;
mod records;
mod sectors;
mod support;
