//! How busy the processors are with requests, over all connections: who hands work on, and who may watch its socket.
//!
//! Handing a request to another thread pays while a processor has nothing to do, and costs where none has; watching a
//! socket instead of sleeping on it likewise. These are hints: two counters, each changed by an atomic addition.

use std::thread;
use std::time::Duration;

use crate::sync::Arc;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// How long a socket is watched before a thread sleeps on it: a little more than it takes to wake a thread.
pub(super) const WATCH: Duration = Duration::from_micros(50);
/// A sleep shorter than this was hardly worth it.
const BRIEF: Duration = Duration::from_micros(100);
/// So many brief sleeps on end make a socket worth watching, at the least and at the most.
const NEEDED: (u32, u32) = (4, 1024);
/// So many watches that were worth it halve what is needed after one that was not.
const FORGIVEN_AFTER: u32 = 64;

/// The processors of a server.
pub(super) struct Processors {
    count: usize,
    working: AtomicUsize,
    watching: AtomicUsize,
}

/// A thread that works on a request.
pub(super) struct Working(Arc<Processors>);

/// A thread that watches its socket.
pub(super) struct Watching<'p>(&'p Processors);

/// What one connection's sleeps and watches were like.
#[derive(Debug)]
pub(super) struct Habit {
    brief: u32,
    needed: u32,
    paid: u32,
}

impl Processors {
    /// Those that this process may use.
    pub(super) fn new() -> Arc<Self> {
        let count = thread::available_parallelism().map_or(1, usize::from);
        Arc::new(Self { count, working: AtomicUsize::new(0), watching: AtomicUsize::new(0) })
    }

    /// Counts the calling thread as one that works.
    pub(super) fn work(self: &Arc<Self>) -> Working {
        self.working.fetch_add(1, Ordering::Relaxed);
        Working(Arc::clone(self))
    }

    /// Counts another thread as one that works, where there is a processor for it.
    pub(super) fn spare(self: &Arc<Self>) -> Option<Working> {
        let working = Working(Arc::clone(self));
        (self.working.fetch_add(1, Ordering::Relaxed) < self.count).then_some(working)
    }

    /// Counts the calling thread as one that watches: half of the processors at the most, so none where there is one only.
    pub(super) fn watch(&self) -> Option<Watching<'_>> {
        let watching = Watching(self);
        (self.watching.fetch_add(1, Ordering::Relaxed) < self.count / 2).then_some(watching)
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.working.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.watching.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Habit {
    /// Whether it is worth watching before the next sleep.
    pub(super) fn watches(&self) -> bool {
        self.brief >= self.needed
    }

    /// Slept for so long.
    pub(super) fn slept(&mut self, time: Duration) {
        self.brief = if time < BRIEF { self.brief.saturating_add(1) } else { 0 };
    }

    /// Watched; whether something came.
    pub(super) fn watched(&mut self, paid: bool) {
        if !paid {
            (self.brief, self.paid) = (0, 0);
            self.needed = (self.needed * 2).min(NEEDED.1);
            return;
        }
        self.paid += 1;
        if self.paid == FORGIVEN_AFTER {
            (self.paid, self.needed) = (0, (self.needed / 2).max(NEEDED.0));
        }
    }
}

impl Default for Habit {
    fn default() -> Self {
        Self { brief: 0, needed: NEEDED.0, paid: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn processors(count: usize) -> Arc<Processors> {
        Arc::new(Processors { count, working: AtomicUsize::new(0), watching: AtomicUsize::new(0) })
    }

    #[test]
    fn work_is_handed_on_while_a_processor_is_left() {
        let processors = processors(2);
        let mine = processors.work();
        let other = processors.spare().expect("one is left");
        assert!(processors.spare().is_none());
        drop(other);
        assert!(processors.spare().is_some(), "what was refused is not counted");
        drop(mine);
        assert_eq!(processors.working.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn half_of_the_processors_watch() {
        assert!(processors(1).watch().is_none());
        let processors = processors(4);
        let watching = [processors.watch(), processors.watch()];
        assert!(watching.iter().all(Option::is_some));
        assert!(processors.watch().is_none());
        drop(watching);
        assert!(processors.watch().is_some());
    }

    #[test]
    fn a_socket_is_watched_once_sleeps_are_brief_and_not_for_long_in_vain() {
        let mut habit = Habit::default();
        assert!(!habit.watches());
        let sleep_until_watching = |habit: &mut Habit| {
            let mut sleeps = 0;
            while !habit.watches() {
                habit.slept(BRIEF / 2);
                sleeps += 1;
            }
            sleeps
        };
        assert_eq!(sleep_until_watching(&mut habit), 4);
        habit.watched(false);
        assert_eq!(sleep_until_watching(&mut habit), 8);
        (0..20).for_each(|_| habit.watched(false));
        assert_eq!(sleep_until_watching(&mut habit), 1024);
        (0..64 * 20).for_each(|_| habit.watched(true));
        habit.watched(false);
        assert_eq!(sleep_until_watching(&mut habit), 8);
        habit.watched(false);
        habit.slept(BRIEF);
        assert!(!habit.watches());
    }
}
