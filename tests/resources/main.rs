//! What serving costs: allocations, descriptors, memory and wake-ups of this whole process, in which server and client
//! live. So each test has the process for itself.
#![allow(
    unsafe_code,
    dead_code,
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "an allocator that counts is unsafe to write; the shared supports hold more than is used here, and panic"
)]

mod allocations;
mod flight;
mod idle;
#[path = "../protocol/support.rs"]
mod support;
#[path = "../format/support.rs"]
mod volumes;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The system's allocator, which counts.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static PROCESS: Mutex<()> = Mutex::new(());

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as this function's own contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as this function's own contract.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as this function's own contract.
        unsafe { System.realloc(memory, layout, size) }
    }
}

/// How many allocations there were so far.
fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Held by a test as long as it needs the process for itself.
fn alone() -> MutexGuard<'static, ()> {
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}
