//! Answers that are secrets: their bytes are wiped when the connection has sent them.

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use hyper::header::CONTENT_TYPE;
use serde::Serialize;
use zeroize::Zeroize;

use super::problem::{Fault, Refused};
use crate::sys::registers;
use crate::sys::wipes::{self, Wipe};

/// `secret` as JSON, which takes `room` bytes at the most: growing would leave unwiped copies behind.
pub(super) fn answer(secret: &impl Serialize, room: usize) -> Result<Response, Refused> {
    let mut body = Wiped(Vec::with_capacity(room));
    serde_json::to_writer(&mut body.0, secret)
        .map_err(|error| Refused::new(Fault::Internal, "internal", error.to_string()))?;
    debug_assert!(body.0.len() <= room, "there is room for all of it from the start");
    // The text went through them, and this thread may wait long for its next work.
    registers::wipe();
    Ok(([(CONTENT_TYPE, "application/json")], Body::from(Bytes::from_owner(body))).into_response())
}

/// Bytes that are wiped when the last view of them is dropped.
struct Wiped(Vec<u8>);

impl Drop for Wiped {
    fn drop(&mut self) {
        if wipes::takes_place(Wipe::Answers) {
            self.0.zeroize();
        }
    }
}

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
