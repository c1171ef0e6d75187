//! The end of a process that was started here.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

/// Waits until `process`, which has been told to, has ended; past `deadline` it is killed.
pub(crate) fn await_end(process: &mut Child, deadline: Duration) {
    let end = Instant::now() + deadline;
    while Instant::now() < end {
        match process.try_wait() {
            Ok(None) => thread::sleep(Duration::from_millis(2)),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    let _ = process.kill();
    let _ = process.wait();
}
