//! A look at a backing for whoever asks about volumes: the space that it takes, whether it is there, its header.
//!
//! A disk may not answer, so each look is on a thread that is left behind at a deadline. While it is overdue, nobody else looks
//! there. Only so many looks are under way at once: others wait for one of them to end, and where none does, nobody looks anywhere.

use std::time::Instant;

use super::backing::Seen;
use super::mailbox;
use super::registry::Registry;
use crate::limits;
use crate::names::VolumeId;
use crate::sync::{Condvar, Mutex, thread};

/// Whether whoever asks still waits for disks: for one that does not answer, and then for no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Looking {
    Waits,
    NoMore,
}

/// The looks that have not ended, and when they began.
#[derive(Debug, Default)]
pub(super) struct Looks {
    under_way: Mutex<Vec<(VolumeId, Instant)>>,
    ended: Condvar,
}

fn is_overdue(begun: Instant, now: Instant) -> bool {
    now.saturating_duration_since(begun) >= limits::LOOK_DEADLINE
}

impl Looks {
    /// Counts a look that begins now, in its turn, or answers how to go on where there is to be none.
    fn begin(&self, id: &VolumeId) -> Result<Instant, Looking> {
        let asked = Instant::now();
        let crowd = |looks: &[(VolumeId, Instant)]| looks.len() >= limits::LOOKS_MAX;
        // A crowd of the overdue does not disperse.
        let may_end = |looks: &[(VolumeId, Instant)]| looks.iter().any(|(_, begun)| !is_overdue(*begun, asked));
        let deadline = asked + limits::LOOK_DEADLINE;
        let in_turn = |looks: &mut Vec<_>| crowd(looks) && may_end(looks);
        let mut looks = self.ended.wait_while_until(self.under_way.lock(), deadline, in_turn);
        let now = Instant::now();
        if crowd(&looks) {
            return Err(Looking::NoMore);
        }
        if looks.iter().any(|(of, begun)| of == id && is_overdue(*begun, now)) {
            return Err(Looking::Waits);
        }
        looks.push((id.clone(), now));
        Ok(now)
    }

    fn end(&self, id: &VolumeId, begun: Instant) {
        let mut looks = self.under_way.lock();
        if let Some(place) = looks.iter().position(|(of, when)| of == id && *when == begun) {
            looks.swap_remove(place);
        }
        drop(looks);
        self.ended.notify_all();
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
        if *looking == Looking::NoMore {
            return None;
        }
        let begun = self.looks.begin(id).map_err(|how| *looking = how).ok()?;
        let (sender, receiver) = mailbox::pair();
        let (registry, for_thread) = (self.me.clone(), id.clone());
        let started = thread::Builder::new().name("envol-look".into()).spawn(move || {
            let seen = look();
            if let Some(registry) = registry.upgrade() {
                registry.looks.end(&for_thread, begun);
            }
            drop(sender.deliver(seen));
        });
        if started.is_err() {
            self.looks.end(id, begun);
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

    /// As if the look had begun so long ago that it is overdue.
    fn overdue(looks: &Looks, number: usize) -> Instant {
        let begun = Instant::now().checked_sub(limits::LOOK_DEADLINE).expect("the machine runs longer than that");
        looks.under_way.lock().push((id(number), begun));
        begun
    }

    #[test]
    fn nobody_looks_where_a_look_is_overdue_and_nowhere_once_too_many_are() {
        let looks = Looks::default();
        let begun = overdue(&looks, 0);
        assert_eq!(looks.begin(&id(0)), Err(Looking::Waits));
        assert!(looks.begin(&id(1)).is_ok() && looks.begin(&id(1)).is_ok(), "two at once, neither overdue");
        looks.end(&id(0), begun);
        assert!(looks.begin(&id(0)).is_ok());
        let looks = Looks::default();
        let begun: Vec<_> = (0..limits::LOOKS_MAX).map(|number| overdue(&looks, number)).collect();
        assert_eq!(looks.begin(&id(limits::LOOKS_MAX)), Err(Looking::NoMore));
        looks.end(&id(3), begun[3]);
        assert!(looks.begin(&id(limits::LOOKS_MAX)).is_ok());
    }

    #[test]
    fn a_look_more_than_may_be_under_way_waits_for_another_to_end() {
        let looks = Looks::default();
        let begun: Vec<_> = (0..limits::LOOKS_MAX).map(|number| looks.begin(&id(number)).expect("room")).collect();
        std::thread::scope(|scope| {
            let last = scope.spawn(|| looks.begin(&id(limits::LOOKS_MAX)));
            std::thread::sleep(Duration::from_millis(50));
            assert_eq!(looks.under_way.lock().len(), limits::LOOKS_MAX);
            looks.end(&id(5), begun[5]);
            assert!(last.join().expect("no panic").is_ok());
        });
        assert_eq!(looks.begin(&id(0)), Err(Looking::NoMore), "none has ended in time");
    }
}
