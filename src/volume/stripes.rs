//! The striped lock over pieces, which makes the read-modify-write of a partly covered piece safe.
//!
//! A stripe is every 64th region of 1 MiB. Whoever writes part of a piece reads, changes and writes back all of it, and
//! holds its stripe exclusively meanwhile. Everybody else holds the stripes of what they touch shared:
//! - writers of whole pieces, TRIM and WRITE_ZEROES, since what they wrote between that read and that write-back would
//!   be lost though acknowledged;
//! - readers, since the write-back changes the ciphertext of whole pieces. A block of 16 bytes holding one written byte
//!   and 15 of others is torn as a whole, and a piece that was a hole turns from zeros, which are plaintext as they
//!   are, into ciphertext: a reader in the middle of either would see noise in bytes that nobody is writing.
//!
//! A reader that races a writer of whole pieces needs no exclusion: every byte of such a piece is being written, so
//! noise is confined to what races. Nothing here orders two such writers; the client that races itself does.
//!
//! A reader that holds nothing is the other way to the same end: each stripe counts its exclusive holders, up when one
//! takes it and up again when it lets go. A read that saw an even count before and the same count after was not in the
//! middle of any; one that saw another is read again, holding the stripe. So no lock is held while the disk works.
//!
//! No deadlock: an exclusive holder holds one stripe and waits for no other; a shared holder takes all of its stripes at
//! once, each once, in ascending order, and no stripe while it holds any. So whoever holds a stripe waits only for a
//! higher one or for the disk.

use crate::block::Patience;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use crate::units::{ByteOffset, Extent};

const STRIPES: usize = 64;
/// Bytes that lie together in one stripe.
pub(super) const REGION: u64 = 1 << 20;

/// One lock for each stripe.
#[derive(Debug)]
pub(super) struct Stripes([Stripe; STRIPES]);

#[derive(Debug, Default)]
struct Stripe {
    lock: RwLock<()>,
    /// Twice the number of exclusive holders so far; odd while there is one.
    changes: AtomicU64,
}

/// A stripe held exclusively.
#[must_use = "it is held as long as this lives"]
pub(super) struct Excluded<'s> {
    changes: &'s AtomicU64,
    _held: RwLockWriteGuard<'s, ()>,
}

/// Some of the stripes, one bit for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct StripeSet(u64);

/// Stripes held shared. Most requests touch one, so that is the cheap case.
#[expect(dead_code, reason = "guards are held, not read")]
#[expect(
    clippy::large_enum_variant,
    reason = "it lives on the stack, and a box would be an allocation for each request"
)]
pub(super) enum Shared<'s> {
    Few(Option<RwLockReadGuard<'s, ()>>),
    Many([Option<RwLockReadGuard<'s, ()>>; STRIPES]),
}

impl StripeSet {
    /// No stripe.
    pub(super) const NONE: Self = Self(0);

    /// The stripes that `extent` touches.
    pub(super) fn of(extent: Extent) -> Self {
        if extent.is_empty() {
            return Self::NONE;
        }
        let first = extent.start().get() / REGION;
        let count = (extent.end().get() - 1) / REGION - first + 1;
        if count >= STRIPES as u64 {
            return Self(u64::MAX);
        }
        Self(((1 << count) - 1u64).rotate_left(u32::try_from(first % STRIPES as u64).expect("below 64")))
    }

    /// The stripes of both.
    pub(super) fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn ascending(self) -> impl Iterator<Item = usize> {
        (0..STRIPES).filter(move |stripe| self.0 >> stripe & 1 == 1)
    }
}

impl Stripes {
    /// Stripes that nobody holds.
    pub(super) fn new() -> Self {
        Self(std::array::from_fn(|_| Stripe::default()))
    }

    /// Holds all of `set` shared; `None` where that would have to wait and may not.
    pub(super) fn share(&self, set: StripeSet, patience: Patience) -> Option<Shared<'_>> {
        let take = |stripe: usize| match patience {
            Patience::MayBlock => Some(self.0[stripe].lock.read()),
            Patience::TryNow => self.0[stripe].lock.try_read(),
        };
        if set.0.count_ones() <= 1 {
            let only = (set != StripeSet::NONE).then(|| take(set.0.trailing_zeros() as usize));
            return match only {
                Some(None) => None,
                one => Some(Shared::Few(one.flatten())),
            };
        }
        let mut held = [const { None }; STRIPES];
        for stripe in set.ascending() {
            held[stripe] = Some(take(stripe)?);
        }
        Some(Shared::Many(held))
    }

    /// Holds all of `set` shared, waiting as long as it takes.
    pub(super) fn wait_to_share(&self, set: StripeSet) -> Shared<'_> {
        self.share(set, Patience::MayBlock).expect("whoever may block is not sent away")
    }

    /// Holds the stripe of the byte at `at` exclusively.
    pub(super) fn exclude(&self, at: ByteOffset) -> Excluded<'_> {
        let stripe = at.get() / REGION % STRIPES as u64;
        let Stripe { lock, changes } = &self.0[usize::try_from(stripe).expect("below 64")];
        let held = lock.write();
        changes.fetch_add(1, Ordering::SeqCst);
        Excluded { changes, _held: held }
    }

    /// How often stripes of `set` were held exclusively so far; `None` where one is now.
    pub(super) fn changes(&self, set: StripeSet) -> Option<u64> {
        // Counts only grow, so the sum is the same only where each is.
        set.ascending().try_fold(0u64, |sum, stripe| {
            let changes = self.0[stripe].changes.load(Ordering::SeqCst);
            changes.is_multiple_of(2).then(|| sum.wrapping_add(changes))
        })
    }
}

impl Drop for Excluded<'_> {
    fn drop(&mut self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::ByteCount;

    fn set(start: u64, length: u64) -> Vec<usize> {
        let extent = Extent::new(ByteOffset::new(start), ByteCount::new(length)).expect("small");
        StripeSet::of(extent).ascending().collect()
    }

    #[test]
    fn an_extent_touches_the_stripes_of_its_regions() {
        assert!(set(0, 0).is_empty());
        assert_eq!(set(REGION - 1, 1), [0]);
        assert_eq!(set(REGION - 1, 2), [0, 1]);
        assert_eq!(set(63 * REGION, 2 * REGION), [0, 63]);
        assert_eq!(set(5, 64 * REGION).len(), 64);
        assert_eq!(set(REGION, 63 * REGION).len(), 63);
        assert_eq!(set(1 << 47, 1 << 40).len(), 64);
    }

    #[test]
    fn whoever_may_not_wait_is_sent_away_by_an_exclusive_holder_of_one_of_its_stripes() {
        let stripes = Stripes::new();
        let extent = Extent::new(ByteOffset::ZERO, ByteCount::new(2 * REGION)).expect("small");
        let held = stripes.exclude(ByteOffset::new(REGION));
        assert!(stripes.share(StripeSet::of(extent), Patience::TryNow).is_none());
        drop(held);
        assert!(stripes.share(StripeSet::of(extent), Patience::TryNow).is_some());
    }

    #[test]
    fn an_exclusive_holder_is_seen_while_it_holds_and_ever_after() {
        let stripes = Stripes::new();
        let set =
            |start, length| StripeSet::of(Extent::new(ByteOffset::new(start), ByteCount::new(length)).expect("small"));
        let (both, other) = (set(0, 2 * REGION), set(2 * REGION, 1));
        let (before, untouched) = (stripes.changes(both), stripes.changes(other));
        assert!(before.is_some());
        let held = stripes.exclude(ByteOffset::new(REGION));
        assert_eq!(stripes.changes(both), None);
        drop(held);
        let after = stripes.changes(both);
        assert!(after.is_some() && after != before);
        assert_eq!(stripes.changes(other), untouched);
    }
}
