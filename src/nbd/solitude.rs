//! Whether a client waits for each answer before it asks for more, as those that want every write on the disk mostly do.
//!
//! For such a client the thread that receives waits for the disk itself: nobody else would be kept waiting, and no other
//! thread has to be woken. What a client did so far is all there is to go by; where it changes its ways, one request waits
//! for the one before it.

/// A client that so often in turn sent nothing while it was owed one answer is taken to be one that never does.
const CERTAIN: u32 = 8;

/// What one client did while it was owed one answer.
#[derive(Debug, Default)]
pub(super) struct Solitude {
    /// How often in turn nothing arrived meanwhile.
    alone: u32,
    /// Whether one answer is owed, and no other.
    observing: bool,
}

impl Solitude {
    /// Whether it waits for each answer.
    pub(super) fn is_certain(&self) -> bool {
        self.alone >= CERTAIN
    }

    /// Whether something arrived while one answer was owed.
    pub(super) fn note(&mut self, alone: bool) {
        self.alone = if alone { self.alone.saturating_add(1) } else { 0 };
    }

    /// One answer is owed from now on, by somebody else.
    pub(super) fn observe(&mut self) {
        self.observing = true;
    }

    /// Something arrived. Whether all is `answered` is only asked where it matters.
    pub(super) fn arrived(&mut self, answered: impl FnOnce() -> bool) {
        if std::mem::take(&mut self.observing) {
            self.note(answered());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_alone_once_it_was_so_often_enough_in_turn() {
        let mut solitude = Solitude::default();
        (0..CERTAIN - 1).for_each(|_| solitude.note(true));
        assert!(!solitude.is_certain());
        solitude.note(false);
        (0..CERTAIN).for_each(|_| solitude.note(true));
        assert!(solitude.is_certain());
        solitude.note(false);
        assert!(!solitude.is_certain());
    }

    #[test]
    fn what_arrives_while_nothing_is_observed_says_nothing() {
        let mut solitude = Solitude::default();
        (0..2 * CERTAIN).for_each(|_| solitude.arrived(|| unreachable!("nobody asked")));
        assert!(!solitude.is_certain());
        for _ in 0..CERTAIN {
            solitude.observe();
            solitude.arrived(|| true);
        }
        assert!(solitude.is_certain());
        solitude.observe();
        solitude.arrived(|| false);
        assert!(!solitude.is_certain());
    }
}
