//! The embedded KMS over AWS's protocol, driven by clients that others wrote: boto3, botocore and the `aws` CLI.
#![allow(unsafe_code, reason = "the shared support starts and signals processes")]

mod access;
mod audit;
#[path = "../support/authority.rs"]
mod authority;
mod cli;
mod model;
mod operations;
mod refusals;
mod signatures;
#[path = "../support/mod.rs"]
mod support;
mod tls;
mod world;
