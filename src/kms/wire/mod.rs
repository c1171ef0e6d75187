//! The AWS KMS JSON protocol, served: the embedded KMS as the unmodified `aws` CLI and the SDKs meet it.
//!
//! `model` says what a request may hold, `sigv4` who signed it.

pub mod model;
mod refusal;
pub mod sigv4;
