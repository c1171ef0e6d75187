//! Stack memory and registers that held key material, wiped after use.

use crate::sys::registers;
use crate::sys::wipes::{self, Wipe};

/// More than any function of this folder and the crypto crates below it uses: found by scanning the memory of a process
/// for its keys, in a debug and a release build.
const WIPED_BYTES: usize = 8 << 10;

/// More than the portable engine uses, whose frames are those of the `aes` crate's widest backend: found likewise.
const DEEPLY_WIPED_BYTES: usize = 16 << 10;

/// Runs `work`, then wipes the stack and the vector registers that it used.
///
/// The crypto crates wipe their values on drop, but not the copies that a move leaves behind, nor spilled registers.
/// The language promises nothing about such copies, so this is done in addition to wiping values, never instead.
pub(super) fn wiped_after<R>(work: impl FnOnce() -> R) -> R {
    wiped::<WIPED_BYTES, R>(work)
}

/// As [`wiped_after`], for work that uses more of the stack.
pub(super) fn deeply_wiped_after<R>(work: impl FnOnce() -> R) -> R {
    wiped::<DEEPLY_WIPED_BYTES, R>(work)
}

fn wiped<const BYTES: usize, R>(work: impl FnOnce() -> R) -> R {
    let result = in_a_frame_of_its_own(work);
    if wipes::takes_place(Wipe::Stack) {
        wipe::<BYTES>();
        registers::wipe();
    }
    result
}

#[inline(never)]
fn in_a_frame_of_its_own<R>(work: impl FnOnce() -> R) -> R {
    work()
}

/// The frame of this function lies where that of the work lay. `black_box` makes the compiler write all of the zeros;
/// `zeroize` would write them byte by byte, which costs more than a sector's encryption.
#[inline(never)]
fn wipe<const BYTES: usize>() {
    std::hint::black_box(&mut [0u8; BYTES]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_of_the_work_survives_the_wiping() {
        assert_eq!(wiped_after(|| [7; 3000]), [7; 3000]);
    }
}
