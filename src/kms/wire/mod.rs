//! The AWS KMS JSON protocol, served: the embedded KMS as the unmodified `aws` CLI and the SDKs meet it.
//!
//! `model` says what a request may hold.

pub mod model;
