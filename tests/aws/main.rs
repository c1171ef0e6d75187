//! The `aws` kind of KMS: volumes of envol's own KMS served elsewhere, of one that others wrote (moto), and of one that
//! answers as no KMS should.
#![cfg(feature = "aws")]
#![allow(unsafe_code, reason = "the shared support starts and signals processes")]

#[path = "../support/authority.rs"]
mod authority;
mod far;
mod faults;
mod machine;
mod moto;
mod server;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod world;
