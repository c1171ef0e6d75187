//! One value in locked memory: [`Locked`] is to [`LockedMemory`] what a box is to an allocation.

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ops::Deref;

use super::locked::{LockedMemory, LockingFailed};

/// A value that never moves out of its locked memory; dropped in place, then that is wiped.
pub(crate) struct Locked<T> {
    memory: LockedMemory,
    owns: PhantomData<T>,
}

impl<T> Locked<T> {
    /// The value that `fill` writes into the slot, which lies in locked memory from the start.
    ///
    /// # Errors
    /// Where no memory can be locked; `fill` is not called then.
    pub(crate) fn filled_by(fill: impl FnOnce(&mut MaybeUninit<T>) -> &mut T) -> Result<Self, LockingFailed> {
        const { assert!(align_of::<T>() <= 64, "locked memory is aligned to 64 bytes") };
        let mut memory = LockedMemory::zeroed(size_of::<T>())?;
        let slot = memory.bytes_mut().as_mut_ptr().cast::<MaybeUninit<T>>();
        // SAFETY: the memory is as long as a T, aligned for it, and borrowed by nobody else.
        let slot = unsafe { &mut *slot };
        let slot_address = slot.as_ptr();
        let filled = fill(slot);
        assert!(std::ptr::eq(filled, slot_address), "the slot is what was filled");
        Ok(Self { memory, owns: PhantomData })
    }
}

impl<T> Deref for Locked<T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: `filled_by` left an initialised T at the start of the memory, and nothing else writes there.
        unsafe { &*self.memory.bytes().as_ptr().cast() }
    }
}

impl<T> Drop for Locked<T> {
    fn drop(&mut self) {
        // SAFETY: the T is initialised and is reached no more; its memory outlives this call and is wiped after it.
        unsafe { std::ptr::drop_in_place(self.memory.bytes_mut().as_mut_ptr().cast::<T>()) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    static DROPS: AtomicU32 = AtomicU32::new(0);

    struct Counted(u32);

    impl Drop for Counted {
        fn drop(&mut self) {
            DROPS.fetch_add(self.0 / 7, Ordering::SeqCst);
        }
    }

    #[test]
    fn a_value_is_kept_and_dropped_once() {
        let locked = Locked::filled_by(|slot| slot.write(Counted(7))).expect("locks");
        assert_eq!(locked.0, 7);
        drop(locked);
        assert_eq!(DROPS.load(Ordering::SeqCst), 1);
    }
}
