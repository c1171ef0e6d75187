//! System calls that std lacks, each behind a safe function that keeps its invariants here.
//!
//! With `crypto/` the only place for `unsafe`; every block says why it is sound.
#![allow(unsafe_code, reason = "raw system calls and mappings live here, each wrapped safely")]

mod arena;
pub(crate) mod channel;
pub(crate) mod child;
mod chunk;
pub(crate) mod clock;
pub(crate) mod closing;
pub(crate) mod confinement;
pub mod hardening;
pub mod heap;
pub(crate) mod inherited;
pub mod locked;
pub(crate) mod locked_box;
pub(crate) mod owner;
pub(crate) mod pages;
pub(crate) mod peer_groups;
pub(crate) mod punctual;
pub(crate) mod registers;
pub(crate) mod ring;
pub(crate) mod seclusion;
pub(crate) mod storage;
pub(crate) mod unix_socket;
pub(crate) mod wipes;
