//! The AVX-512 engine: 32 blocks at a time, four in each of 8 vectors.
//!
//! The AES units are the limit: they take 14 cycles for the four blocks of a vector, and everything that other units can
//! do meanwhile costs nothing. Carry-less products and affine maps are the AES units' work too, a cycle each. So tweaks
//! are multiplied by x^8, x^16, x^24 and x^32 together, as windows of bytes: see [`Window`].
//!
//! As in the VAES-256 engine, round keys are read anew for every piece, so that none is kept in a register for longer and
//! spilled to the stack, which is neither locked nor wiped. No function here has a branch or an address that depends on
//! a key, a tweak or data.

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

use super::runs::{Piece, Runs, Stride};
use super::schedule::{RoundKeys, read_anew};
use super::tweak::{REDUCED, Tweak};

/// Vectors in flight.
const WIDE: usize = 8;
/// Bytes in flight: a whole piece.
const STRIDE: usize = size_of::<Piece>();

/// Whether this processor has all that the functions of this file enable.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512vbmi")
        && is_x86_feature_detected!("avx512vbmi2")
        && is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
        && is_x86_feature_detected!("gfni")
}

macro_rules! direction {
    ($(#[$doc:meta])* $name:ident, $round:ident, $last_round:ident) => {
        $(#[$doc])*
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vbmi2,aes,vaes,vpclmulqdq,gfni")]
        pub(super) fn $name(keys: &RoundKeys, starts: &[Tweak], runs: Runs<'_>) {
            let Some((first, mut later)) = starts.split_first() else { return };
            let mut next = Multiples::of_run(first);
            for run in runs {
                let mut pieces = run.strides::<STRIDE>();
                while let Some(mut piece) = pieces.next() {
                    let keys = read_anew(keys);
                    let tweaks = next.tweaks();
                    let mut state = whitened(&piece, &tweaks, key(&keys[0]));
                    for number in 1..HALF {
                        let key = key(&keys[number]);
                        state = state.map(|vector| $round(vector, key));
                        pinned(&mut state);
                    }
                    if pieces.left() != 0 {
                        next = next.of_next_piece();
                    } else if let Some((start, others)) = later.split_first() {
                        next = Multiples::of_run(start);
                        later = others;
                    }
                    for number in HALF..14 {
                        let key = key(&keys[number]);
                        state = state.map(|vector| $round(vector, key));
                        pinned(&mut state);
                    }
                    let last_key = key(&keys[14]);
                    for number in 0..WIDE {
                        let last = _mm512_xor_si512(tweaks[number], last_key);
                        piece.write(number, $last_round(state[number], last));
                    }
                }
            }
        }
    };
}

/// The round before which the tweaks of the next piece are prepared: the AES units take what is oldest first, so what the
/// next piece waits for comes before the last rounds of this one.
const HALF: usize = 7;

direction!(
    /// Encrypts each run from its starting tweak.
    encrypt, _mm512_aesenc_epi128, _mm512_aesenclast_epi128
);
direction!(
    /// Decrypts each run from its starting tweak.
    decrypt, _mm512_aesdec_epi128, _mm512_aesdeclast_epi128
);

/// Encrypts the numbers of consecutive sectors, from `first` on: they become starting tweaks. Of `tweaks`, whose length is
/// a multiple of 4, at least the first `count` are filled.
#[target_feature(enable = "avx512f,aes,vaes")]
pub(super) fn encrypt_numbers(keys: &RoundKeys, first: u64, count: usize, tweaks: &mut [Tweak]) {
    let lanes = _mm512_setr_epi64(0, 0, 1, 0, 2, 0, 3, 0);
    let mut numbers = _mm512_add_epi64(_mm512_maskz_set1_epi64(LOWER_HALVES, first.cast_signed()), lanes);
    let (mut left, mut rest) = (count, tweaks);
    while left != 0 {
        let done;
        (done, rest) = match left {
            1..=4 => encrypt_group::<1>(keys, &mut numbers, rest),
            5..=16 => encrypt_group::<4>(keys, &mut numbers, rest),
            _ => encrypt_group::<WIDE>(keys, &mut numbers, rest),
        };
        left = left.saturating_sub(done);
    }
}

/// The lower 64 bits of each block.
const LOWER_HALVES: u8 = 0b0101_0101;

/// Encrypts `numbers` and those behind them, `COUNT` vectors together. Gives how many tweaks that makes, and what of
/// `tweaks` lies behind them.
#[inline]
#[target_feature(enable = "avx512f,aes,vaes")]
fn encrypt_group<'a, const COUNT: usize>(
    keys: &RoundKeys,
    numbers: &mut __m512i,
    tweaks: &'a mut [Tweak],
) -> (usize, &'a mut [Tweak]) {
    let mut state = [_mm512_setzero_si512(); COUNT];
    for vector in &mut state {
        *vector = _mm512_xor_si512(*numbers, key(&keys[0]));
        *numbers = _mm512_add_epi64(*numbers, _mm512_maskz_set1_epi64(LOWER_HALVES, 4));
    }
    let [_, middle_keys @ .., last_key] = black_box(keys.as_slice()) else { unreachable!() };
    for middle_key in middle_keys {
        let key = key(middle_key);
        state = state.map(|vector| _mm512_aesenc_epi128(vector, key));
    }
    let (group, rest) = tweaks.split_at_mut(4 * COUNT);
    let (fours, _) = group.as_chunks_mut::<4>();
    for number in 0..COUNT {
        let sealed = _mm512_aesenclast_epi128(state[number], key(last_key));
        // SAFETY: the reference covers the 64 bytes that are written, at any alignment.
        unsafe { _mm512_storeu_si512(fours[number].as_mut_ptr().cast(), sealed) }
    }
    (4 * COUNT, rest)
}

/// The vectors of a piece under their tweaks and the first round key.
#[inline]
#[target_feature(enable = "avx512f")]
fn whitened(piece: &Stride<'_, STRIDE>, tweaks: &[__m512i; WIDE], key: __m512i) -> [__m512i; WIDE] {
    let mut state = *tweaks;
    for (number, vector) in state.iter_mut().enumerate() {
        *vector = _mm512_ternarylogic_epi64::<XOR>(piece.read(number), *vector, key);
    }
    state
}

/// The truth table of the XOR of three.
const XOR: i32 = 0x96;

/// One round key, for all four blocks.
#[inline]
#[target_feature(enable = "avx512f")]
fn key(key: &__m128i) -> __m512i {
    _mm512_broadcast_i32x4(*key)
}

/// Keeps the compiler from moving instructions of one round among those of another, which makes it spill.
#[inline]
#[target_feature(enable = "avx512f")]
fn pinned(state: &mut [__m512i; WIDE]) {
    let [a, b, c, d, e, f, g, h] = state;
    // SAFETY: no instruction at all: the registers come back as they were.
    unsafe {
        asm!(
            "/* {0} {1} {2} {3} {4} {5} {6} {7} */",
            inout(zmm_reg) * a,
            inout(zmm_reg) * b,
            inout(zmm_reg) * c,
            inout(zmm_reg) * d,
            inout(zmm_reg) * e,
            inout(zmm_reg) * f,
            inout(zmm_reg) * g,
            inout(zmm_reg) * h,
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// Which bytes make up a tweak times x^(8 j).
///
/// A tweak is its bytes c0 to c15. Times x^(8 j) they move up by j, and the j bytes that leave on top come back at the
/// bottom, times x^128 reduced, which is 0x87: the product of a byte and 0x87 has a low byte and seven bits above it, lo
/// and hi. So the bottom is lo(c[16-j]), then lo(c[k]) ^ hi(c[k-1]) for each k to 15, then c0 ^ hi(c15), and from there on
/// the bytes as they were. Two registers hold all of these for every j to 8: the tweak with hi(c15) added to its lowest
/// byte, and eight bytes of the product of the tweak's upper half and 0x87 beneath lo(c8) to lo(c15). A permutation of
/// both is then a multiplication.
#[repr(align(64))]
struct Window([u8; 64]);

static WINDOWS: [Window; 4] = [window(1), window(2), window(3), window(4)];

const fn window(j: usize) -> Window {
    const SECOND: u8 = 64;
    let mut bytes = [0; 64];
    let mut place = 0;
    while place < 64 {
        let lane = place & 0x30;
        let byte = match place % 16 {
            0 => SECOND + small(lane + 16 - j),
            at if at < j => SECOND + small(lane + 8 - j + at),
            at => small(lane + at - j),
        };
        bytes[place] = byte;
        place += 1;
    }
    Window(bytes)
}

#[expect(clippy::cast_possible_truncation, reason = "places within 64 bytes")]
const fn small(place: usize) -> u8 {
    assert!(place < 64);
    place as u8
}

/// What the tweaks of a piece are cut from.
#[derive(Clone, Copy)]
struct Multiples {
    /// The tweaks of blocks 0 to 3 and of blocks 4 to 7.
    bases: [__m512i; 2],
    /// The two registers that the windows of each are cut from.
    sources: [[__m512i; 2]; 2],
}

impl Multiples {
    /// Those of the first piece of a run, straight from the starting tweak.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vpclmulqdq,gfni")]
    fn of_run(start: &Tweak) -> Self {
        let (halves, _) = start.as_chunks::<8>();
        let (low, high) = (i64::from_le_bytes(halves[0]), i64::from_le_bytes(halves[1]));
        let start = _mm512_broadcast_i32x4(_mm_set_epi64x(high, low));
        Self::of([
            shifted(start, _mm512_setr_epi64(0, 0, 1, 1, 2, 2, 3, 3)),
            shifted(start, _mm512_setr_epi64(4, 4, 5, 5, 6, 6, 7, 7)),
        ])
    }

    /// Those of the piece behind.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,vpclmulqdq,gfni")]
    fn of_next_piece(self) -> Self {
        let [a, b] = self.sources;
        Self::of([times(a, &WINDOWS[3]), times(b, &WINDOWS[3])])
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,vpclmulqdq,gfni")]
    fn of(bases: [__m512i; 2]) -> Self {
        Self { bases, sources: [sources(bases[0]), sources(bases[1])] }
    }

    /// The tweaks of the piece.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vbmi")]
    fn tweaks(&self) -> [__m512i; WIDE] {
        let ([a, b], [from_a, from_b], [by_8, by_16, by_24, _]) = (self.bases, self.sources, &WINDOWS);
        [
            a,
            b,
            times(from_a, by_8),
            times(from_b, by_8),
            times(from_a, by_16),
            times(from_b, by_16),
            times(from_a, by_24),
            times(from_b, by_24),
        ]
    }
}

/// Each block of `tweaks` times x to the power that is in both halves of `left`, 7 at the most.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vpclmulqdq")]
fn shifted(tweaks: __m512i, left: __m512i) -> __m512i {
    let over = _mm512_srlv_epi64(tweaks, _mm512_sub_epi64(_mm512_set1_epi64(64), left));
    let carried = _mm512_bslli_epi128::<8>(over);
    let folded = _mm512_clmulepi64_epi128::<0x01>(over, _mm512_set1_epi64(i64::from(REDUCED)));
    _mm512_ternarylogic_epi64::<XOR>(_mm512_sllv_epi64(tweaks, left), carried, folded)
}

/// The two registers that windows are cut from.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,vpclmulqdq,gfni")]
fn sources(tweaks: __m512i) -> [__m512i; 2] {
    const UPPER_HALVES: u64 = 0xff00_ff00_ff00_ff00;
    let product = _mm512_clmulepi64_epi128::<0x01>(tweaks, _mm512_set1_epi64(i64::from(REDUCED)));
    let carried = _mm512_xor_si512(tweaks, _mm512_bsrli_epi128::<8>(product));
    let low_bytes = _mm512_set1_epi64(LOW_BYTE_OF_PRODUCT.cast_signed());
    [carried, _mm512_mask_gf2p8affine_epi64_epi8::<0>(product, UPPER_HALVES, tweaks, low_bytes)]
}

/// The low byte of a byte's product with 0x87, as the matrix of an affine map: the row of bit `i` is the byte `7 - i`, and
/// has the bits `i`, `i - 1`, `i - 2` and `i - 7`, as far as there are such.
const LOW_BYTE_OF_PRODUCT: u64 = {
    let mut matrix = 0;
    let mut i = 0;
    while i < 8 {
        let row = ((REDUCED as u64).reverse_bits() >> (63 - i)) & 0xff;
        matrix |= row << (8 * (7 - i));
        i += 1;
    }
    matrix
};

#[inline]
#[target_feature(enable = "avx512f,avx512vbmi")]
fn times([carried, folded]: [__m512i; 2], window: &Window) -> __m512i {
    // SAFETY: the window is 64 bytes, aligned to as many.
    let window = unsafe { _mm512_load_si512(window.0.as_ptr().cast()) };
    _mm512_permutex2var_epi8(carried, window, folded)
}
