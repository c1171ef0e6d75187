//! The AWS KMS JSON protocol, served: the embedded KMS as the unmodified `aws` CLI and the SDKs meet it.
//!
//! A request is authenticated (`sigv4`), read and judged by the service model (`model`), carried out by the embedded KMS
//! in the region that it is signed for (`front`, `operations`), and answered; so are the two requests to STS that go with it
//! (`sts`). `server` owns sockets, connections and
//! their bounds, `tls` what encrypts them. What is the same as AWS, what differs and what is left out stands in `src/kms/KMS.md`.

mod front;
mod input;
pub mod model;
mod operations;
mod refusal;
mod rehearsal;
mod server;
pub mod sigv4;
mod sts;
mod tls;

pub use operations::served;
pub use rehearsal::Rehearsal;
pub use server::{Address, BadAddress, ListenError, Listener, Server};
pub use tls::{Tls, TlsError};

use std::time::SystemTime;

/// A time as the protocol has it: seconds since 1970, to the millisecond.
fn seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    (since.as_secs_f64() * 1000.0).round() / 1000.0
}
