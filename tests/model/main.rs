//! The encrypted device against a plain vector of bytes: random operations at any alignment, races, and what lies on the
//! backing against an oracle that knows FORMAT.md and OpenSSL only.
#![allow(clippy::cast_possible_truncation, reason = "places and lengths of tests are small, and patterns are bytes")]

mod operations;
mod oracle;
mod races;
mod support;
