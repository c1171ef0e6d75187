//! A look at a backing for whoever asks about volumes: the space that it takes, whether it is there, its header.
//!
//! A disk may not answer, so each look is on a thread that is left behind at a deadline. While it is overdue, nobody else looks
//! there; and where as many are overdue as may be left behind, nobody looks anywhere.

use std::time::Instant;

use super::backing::Seen;
use super::mailbox;
use super::registry::Registry;
use crate::limits;
use crate::names::VolumeId;
use crate::sync::thread;

/// Whether whoever asks still waits for disks: for one that does not answer, and then for no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looking {
    Waits,
    NoMore,
}

/// The looks that have not ended, and when they began.
#[derive(Debug, Default)]
pub(super) struct Looks(Vec<(VolumeId, Instant)>);

impl Looks {
    /// Counts a look that begins now, or answers `false` where there is to be none.
    fn begin(&mut self, id: &VolumeId, now: Instant) -> bool {
        let is_overdue = |begun: Instant| now.saturating_duration_since(begun) >= limits::LOOK_DEADLINE;
        let overdue: Vec<_> = self.0.iter().filter(|(_, begun)| is_overdue(*begun)).collect();
        let may = overdue.len() < limits::LOOKS_OVERDUE_MAX && overdue.iter().all(|(of, _)| of != id);
        if may {
            self.0.push((id.clone(), now));
        }
        may
    }

    fn end(&mut self, id: &VolumeId, begun: Instant) {
        if let Some(place) = self.0.iter().position(|(of, when)| of == id && *when == begun) {
            self.0.swap_remove(place);
        }
    }
}

impl Registry {
    /// What `look` sees of the volume's backing, if it does in time.
    pub(super) fn look(
        &self,
        id: &VolumeId,
        looking: &mut Looking,
        look: impl FnOnce() -> Seen + Send + 'static,
    ) -> Option<Seen> {
        let begun = Instant::now();
        if *looking == Looking::NoMore || !self.looks.lock().begin(id, begun) {
            return None;
        }
        let (sender, receiver) = mailbox::pair();
        let (registry, for_thread) = (self.me.clone(), id.clone());
        let started = thread::Builder::new().name("envol-look".into()).spawn(move || {
            let seen = look();
            if let Some(registry) = registry.upgrade() {
                registry.looks.lock().end(&for_thread, begun);
            }
            drop(sender.deliver(seen));
        });
        if started.is_err() {
            self.looks.lock().end(id, begun);
        }
        let seen = receiver.wait(begun + limits::LOOK_DEADLINE).ok();
        if seen.is_none() {
            *looking = Looking::NoMore;
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn id(number: usize) -> VolumeId {
        format!("vol-{number:017x}").parse().expect("an id")
    }

    #[test]
    fn nobody_looks_where_a_look_is_overdue_and_nowhere_once_too_many_are() {
        let (mut looks, now) = (Looks::default(), Instant::now());
        let late = now + limits::LOOK_DEADLINE;
        assert!(looks.begin(&id(0), now) && looks.begin(&id(0), now + Duration::from_millis(1)), "none is overdue");
        assert!(!looks.begin(&id(0), late) && looks.begin(&id(1), late));
        looks.end(&id(0), now);
        assert!(looks.begin(&id(0), late), "the other one is not overdue yet");
        let mut looks = Looks::default();
        assert!((0..limits::LOOKS_OVERDUE_MAX).all(|number| looks.begin(&id(number), now)));
        assert!(!looks.begin(&id(limits::LOOKS_OVERDUE_MAX), late));
        looks.end(&id(3), now);
        assert!(looks.begin(&id(limits::LOOKS_OVERDUE_MAX), late));
    }
}
