//! Tweaks: elements of GF(2^128) modulo x^128 + x^7 + x^2 + x + 1, little-endian, as IEEE 1619 multiplies them.
//!
//! Plain integer arithmetic without a branch or a table; the engines have their own for what is done per block.

/// A tweak as the cipher sees it.
pub(super) type Tweak = [u8; 16];

/// How many sectors' tweaks are encrypted together: enough to keep the AES units busy, little enough for the stack.
pub(super) const AT_ONCE: usize = 64;

/// How many sectors a small request touches at the most: it is spared the clearing of room for more.
pub(super) const FEW: usize = 4;

/// What x^128 is, reduced.
pub(super) const REDUCED: u8 = 0x87;

/// Fills `tweaks` with the numbers of consecutive sectors, from `first` on, yet to be encrypted.
pub(super) fn number(first: u64, tweaks: &mut [Tweak]) {
    let mut number = first;
    for tweak in tweaks {
        *tweak = u128::from(number).to_le_bytes();
        number = number.wrapping_add(1);
    }
}

/// Times x: from one block to the next.
pub(super) fn times_x(tweak: u128) -> u128 {
    (tweak << 1) ^ ((tweak >> 127).wrapping_neg() & u128::from(REDUCED))
}

/// Times x^32: from the first block of a piece to the first of the next.
fn times_x_to_the_32(tweak: u128) -> u128 {
    let over = tweak >> 96;
    (tweak << 32) ^ over ^ (over << 1) ^ (over << 2) ^ (over << 7)
}

/// The tweak of the first block of the piece that lies `pieces` behind.
pub(super) fn pieces_later(tweak: Tweak, pieces: usize) -> Tweak {
    (0..pieces).fold(u128::from_le_bytes(tweak), |tweak, _| times_x_to_the_32(tweak)).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_piece_later_is_32_blocks_later() {
        let mut tweak = u128::MAX / 3;
        for _ in 0..500 {
            let stepped = (0..32).fold(tweak, |tweak, _| times_x(tweak));
            assert_eq!(pieces_later(tweak.to_le_bytes(), 1), stepped.to_le_bytes());
            assert_eq!(pieces_later(tweak.to_le_bytes(), 0), tweak.to_le_bytes());
            tweak = stepped.rotate_left(1) ^ 5;
        }
    }

    #[test]
    fn the_highest_bit_is_reduced() {
        assert_eq!(times_x(1 << 127), 0x87);
        assert_eq!(times_x(3), 6);
    }
}
