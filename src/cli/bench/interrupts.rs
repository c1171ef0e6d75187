//! Ctrl-C and SIGTERM: they end the measuring between two steps, so that everything is cleared away as after a failure.

use std::thread;

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

use crate::sync::Arc;
use crate::sync::atomic::{AtomicU8, Ordering};

/// Which signal has come.
#[derive(Debug, Clone, Default)]
pub(super) struct Interrupts(Arc<AtomicU8>);

impl Interrupts {
    /// From here on, these signals no longer end the process. Where they cannot be watched for they still do, and leave
    /// a directory behind, no more.
    pub(super) fn watch() -> Self {
        let interrupts = Self::default();
        let caught = Arc::clone(&interrupts.0);
        let Ok(runtime) = Builder::new_current_thread().enable_io().build() else { return interrupts };
        let inside = runtime.enter();
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return interrupts;
        };
        drop(inside);
        let wait = move || {
            let number = runtime.block_on(async {
                tokio::select! {
                    _ = interrupt.recv() => nix::libc::SIGINT,
                    _ = terminate.recv() => nix::libc::SIGTERM,
                }
            });
            caught.store(u8::try_from(number).unwrap_or(u8::MAX), Ordering::SeqCst);
        };
        // Detached: it sleeps until a signal comes or the process ends.
        let _watching = thread::Builder::new().name("interrupts".into()).spawn(wait);
        interrupts
    }

    /// The number of the signal that has come.
    pub(super) fn caught(&self) -> Option<u8> {
        Some(self.0.load(Ordering::SeqCst)).filter(|number| *number != 0)
    }

    /// Whether none has.
    pub(super) fn none(&self) -> bool {
        self.caught().is_none()
    }
}
