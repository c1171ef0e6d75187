//! What has changed and is not seen yet: AWS shows a change after seconds or minutes. Off, unless a rehearsal of that is
//! configured; signed requests alone see the past, and what they change holds at once for whatever changes something after.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::store::{StoreError, View};
use crate::limits;
use crate::sync::{Arc, Mutex};

/// What was there before each of the changes that are not seen yet, oldest first, and when it changed.
#[derive(Default)]
pub(super) struct Past {
    delay: Duration,
    views: Mutex<Unseen<View>>,
}

/// States that have changed since, oldest first.
struct Unseen<V>(VecDeque<(Instant, Arc<V>)>);

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
        self.views.lock().note(before, Instant::now(), self.delay);
    }

    /// What `work` makes of what is seen now: of `present` where all changes are.
    pub(super) fn see<T, E: From<StoreError>>(
        &self,
        present: impl FnOnce() -> Result<View, StoreError>,
        work: impl FnOnce(&View) -> Result<T, E>,
    ) -> Result<T, E> {
        let before = self.views.lock().seen(Instant::now(), self.delay);
        match before {
            Some(before) => work(&before),
            None => work(&present()?),
        }
    }
}

impl<V> Default for Unseen<V> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<V> Unseen<V> {
    /// Each keeps pages of the store from being used again: where there are as many as may be, the last change is seen only
    /// when this one is.
    fn note(&mut self, before: V, now: Instant, delay: Duration) {
        self.forget(now, delay);
        let is_full = self.0.len() >= limits::KMS_PAST_VIEWS_MAX;
        match self.0.back_mut() {
            Some((changed, _)) if is_full => *changed = now,
            _ => self.0.push_back((now, Arc::new(before))),
        }
    }

    /// What was there before the first change that is not seen yet, if there is one.
    fn seen(&mut self, now: Instant, delay: Duration) -> Option<Arc<V>> {
        self.forget(now, delay);
        self.0.front().map(|(_, before)| Arc::clone(before))
    }

    fn forget(&mut self, now: Instant, delay: Duration) {
        while self.0.front().is_some_and(|(changed, _)| now.saturating_duration_since(*changed) >= delay) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(10);

    #[test]
    fn a_change_is_seen_once_its_time_has_passed_and_not_before() {
        let (mut unseen, start) = (Unseen::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        unseen.note("first", start, DELAY);
        unseen.note("second", after(4), DELAY);
        let mut seen = |seconds| unseen.seen(after(seconds), DELAY).map(|view| *view);
        assert_eq!(
            [0, 9, 10, 13, 14].map(&mut seen),
            [Some("first"), Some("first"), Some("second"), Some("second"), None]
        );
    }

    #[test]
    fn of_more_changes_than_are_kept_apart_the_last_ones_are_seen_together() {
        let (mut unseen, start) = (Unseen::default(), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        let most = limits::KMS_PAST_VIEWS_MAX as u64;
        (0..most + 2).for_each(|change| unseen.note(change, after(change), DELAY));
        assert_eq!(unseen.0.len() as u64, most);
        let last = after(most + 1) + DELAY;
        assert_eq!(unseen.seen(last - Duration::from_millis(1), DELAY).as_deref(), Some(&(most - 1)));
        assert_eq!(unseen.seen(last, DELAY), None);
    }

    #[test]
    fn what_is_not_asked_for_is_forgotten_with_the_next_change() {
        let (mut unseen, start) = (Unseen::default(), Instant::now());
        (0..5).for_each(|change| unseen.note(change, start, DELAY));
        unseen.note(5, start + DELAY, DELAY);
        assert_eq!(unseen.0.len(), 1);
    }
}
