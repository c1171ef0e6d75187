//! The heap of the program, which can be told to leave nothing in what is given back.
//!
//! The HSM tells it so: the libraries that compute with private keys wipe their values, but not the numbers in between, and those
//! are as good as the key. It costs a write over everything that is freed, which nobody but the HSM needs; the others pay one
//! load. A block that grows is never moved by the system's allocator then, since that would leave its old place as it was.

use std::alloc::{GlobalAlloc, Layout, System};
use std::mem::MaybeUninit;
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};

use zeroize::Zeroize;

static WIPES: AtomicBool = AtomicBool::new(false);

/// The system's heap.
pub struct Heap;

/// From here on, all memory of the heap is wiped when it is given back.
pub(crate) fn wipe_what_is_given_back() {
    WIPES.store(true, Ordering::Relaxed);
}

// SAFETY: every block is the system allocator's, asked for and given back with the layout that the caller names; what is
// done beside that is a write into a block that its owner gives up.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller answers for the layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller answers for the layout.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if WIPES.load(Ordering::Relaxed) {
            // SAFETY: the caller gives the block up: it is as long as the layout says, and nobody else's.
            unsafe { slice::from_raw_parts_mut(block.cast::<MaybeUninit<u8>>(), layout.size()) }.zeroize();
        }
        // SAFETY: the block is of this allocator, with this layout.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !WIPES.load(Ordering::Relaxed) {
            // SAFETY: the caller answers for block, layout and size.
            return unsafe { System.realloc(block, layout, size) };
        }
        // SAFETY: the caller answers for the size, which is not zero and does not overflow when it is rounded up.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        // SAFETY: as above; the two blocks are different, both at least as long as what is copied, and the old one is given up.
        unsafe {
            let place = self.alloc(new);
            if !place.is_null() {
                block.copy_to_nonoverlapping(place, layout.size().min(size));
                self.dealloc(block, layout);
            }
            place
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is given back cannot be looked at; so this is of a block that shrinks and grows, with the wipes and without.
    #[test]
    fn a_block_keeps_what_is_in_it_when_it_grows_and_shrinks() {
        for wiping in [false, true] {
            WIPES.store(wiping, Ordering::Relaxed);
            let heap = Heap;
            let layout = Layout::array::<u8>(64).expect("small");
            // SAFETY: each block is used within its size and given back once, with the layout that it has by then.
            unsafe {
                let block = heap.alloc_zeroed(layout);
                block.write_bytes(7, 64);
                let block = heap.realloc(block, layout, 4096);
                assert_eq!(slice::from_raw_parts(block, 64), [7; 64]);
                let block = heap.realloc(block, Layout::array::<u8>(4096).expect("small"), 16);
                assert_eq!(slice::from_raw_parts(block, 16), [7; 16]);
                heap.dealloc(block, Layout::array::<u8>(16).expect("small"));
            }
        }
        WIPES.store(false, Ordering::Relaxed);
    }
}
