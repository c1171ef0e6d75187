//! What has changed and is not seen yet: AWS shows a change after seconds or minutes. Off, unless a rehearsal of that is
//! configured; signed requests alone see the past, and what they change holds at once for whatever changes something after.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::store::{StoreError, View};
use crate::sync::Mutex;

/// What was there before each of the changes that are not seen yet, oldest first.
#[derive(Default)]
pub(super) struct Past {
    delay: Duration,
    views: Mutex<VecDeque<(Instant, View)>>,
}

impl Past {
    /// In which a change is seen after `delay`.
    pub(super) fn of(delay: Duration) -> Self {
        Self { delay, views: Mutex::default() }
    }

    /// How long a change is not seen.
    pub(super) fn delay(&self) -> Duration {
        self.delay
    }

    /// Notes what was there before a change that has been made now.
    pub(super) fn note(&self, before: View) {
        self.views.lock().push_back((Instant::now(), before));
    }

    /// What `work` makes of what is seen now: of `present` where all changes are.
    pub(super) fn see<T, E: From<StoreError>>(
        &self,
        present: impl FnOnce() -> Result<View, StoreError>,
        work: impl FnOnce(&View) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut views = self.views.lock();
        while views.front().is_some_and(|(changed, _)| changed.elapsed() >= self.delay) {
            views.pop_front();
        }
        match views.front() {
            Some((_, before)) => work(before),
            None => {
                drop(views);
                work(&present()?)
            }
        }
    }
}
