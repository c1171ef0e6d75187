//! The AES-NI engine: 8 blocks at a time, one in each of 8 vectors. Also encrypts the tweaks for the wider engine.
//!
//! Built as the VAES engine is; what is said there of speed, of keys on the stack and of constant time holds here.

use std::arch::asm;
use std::arch::x86_64::*;
use std::hint::black_box;

use super::runs::{Runs, Stride};
use super::schedule::{RoundKeys, read_anew};
use super::tweak::{REDUCED, Tweak, times_x};

/// Blocks in flight.
const WIDE: usize = 8;
/// Bytes in one block.
const BLOCK: usize = 16;
/// Bytes in flight; a piece is four strides.
const STRIDE: usize = WIDE * BLOCK;

/// Whether this processor has all that the functions of this file enable.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx") && is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq")
}

macro_rules! direction {
    ($(#[$doc:meta])* $name:ident, $round:ident, $last_round:ident) => {
        $(#[$doc])*
        #[target_feature(enable = "avx,aes,pclmulqdq")]
        pub(super) fn $name(keys: &RoundKeys, starts: &[Tweak], runs: Runs<'_>) {
            let Some((first, mut later)) = starts.split_first() else { return };
            let mut room = [[_mm_setzero_si128(); WIDE]; 2];
            let [tweaks, next] = &mut room;
            let (mut tweaks, mut next) = (tweaks, next);
            first_tweaks(first, next);
            for run in runs {
                let mut strides = run.strides::<STRIDE>();
                while let Some(mut stride) = strides.next() {
                    std::mem::swap(&mut tweaks, &mut next);
                    let keys = read_anew(keys);
                    let mut state = whitened(&stride, tweaks, keys[0]);
                    for number in 1..HALF {
                        let key = keys[number];
                        state = state.map(|vector| $round(vector, key));
                        pinned(&mut state);
                    }
                    if strides.left() != 0 {
                        later_tweaks(tweaks, next);
                    } else if let Some((start, others)) = later.split_first() {
                        first_tweaks(start, next);
                        later = others;
                    }
                    for number in HALF..14 {
                        let key = keys[number];
                        state = state.map(|vector| $round(vector, key));
                        pinned(&mut state);
                    }
                    let last_key = keys[14];
                    for number in 0..WIDE {
                        let ciphered = $last_round(state[number], last_key);
                        stride.write(number, _mm_xor_si128(ciphered, tweaks[number]));
                    }
                }
            }
        }
    };
}

/// The round before which the tweaks of the next stride are prepared: the AES units take what is oldest first, so what
/// the next stride waits for comes before the last rounds of this one.
const HALF: usize = 7;

direction!(
    /// Encrypts each run from its starting tweak, in place.
    encrypt, _mm_aesenc_si128, _mm_aesenclast_si128
);
direction!(
    /// Decrypts each run from its starting tweak, in place.
    decrypt, _mm_aesdec_si128, _mm_aesdeclast_si128
);

/// Encrypts the numbers of consecutive sectors, from `first` on: they become starting tweaks.
#[target_feature(enable = "avx,aes")]
pub(super) fn encrypt_numbers(keys: &RoundKeys, first: u64, tweaks: &mut [Tweak]) {
    let mut number = first.cast_signed();
    for group in tweaks.chunks_mut(WIDE) {
        let mut state = [_mm_setzero_si128(); WIDE];
        for block in &mut state {
            *block = _mm_set_epi64x(0, number);
            number = number.wrapping_add(1);
        }
        let [first_key, middle_keys @ .., last_key] = black_box(keys.as_slice()) else { unreachable!() };
        for block in &mut state {
            *block = _mm_xor_si128(*block, *first_key);
        }
        for key in middle_keys {
            for block in &mut state {
                *block = _mm_aesenc_si128(*block, *key);
            }
        }
        for (state, block) in state.iter().zip(group) {
            store(block, _mm_aesenclast_si128(*state, *last_key));
        }
    }
}

/// Encrypts one tweak value in place.
#[target_feature(enable = "avx,aes")]
pub(super) fn encrypt_tweak(keys: &RoundKeys, tweak: &mut Tweak) {
    let [first_key, middle_keys @ .., last_key] = black_box(keys.as_slice()) else { unreachable!() };
    let mut state = _mm_xor_si128(load(tweak), *first_key);
    for key in middle_keys {
        state = _mm_aesenc_si128(state, *key);
    }
    store(tweak, _mm_aesenclast_si128(state, *last_key));
}

/// The blocks of a stride under their tweaks and the first round key.
#[inline]
#[target_feature(enable = "avx")]
fn whitened(stride: &Stride<'_, STRIDE>, tweaks: &[__m128i; WIDE], key: __m128i) -> [__m128i; WIDE] {
    let mut state = [key; WIDE];
    for (number, block) in state.iter_mut().enumerate() {
        *block = _mm_xor_si128(_mm_xor_si128(stride.read(number), *block), tweaks[number]);
    }
    state
}

/// Keeps the compiler from moving instructions of one round among those of another, which makes it spill.
#[inline]
#[target_feature(enable = "avx")]
fn pinned(state: &mut [__m128i; WIDE]) {
    let [a, b, c, d, e, f, g, h] = state;
    // SAFETY: no instruction at all: the registers come back as they were.
    unsafe {
        asm!(
            "/* {0} {1} {2} {3} {4} {5} {6} {7} */",
            inout(xmm_reg) * a,
            inout(xmm_reg) * b,
            inout(xmm_reg) * c,
            inout(xmm_reg) * d,
            inout(xmm_reg) * e,
            inout(xmm_reg) * f,
            inout(xmm_reg) * g,
            inout(xmm_reg) * h,
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// The tweaks of the first 8 blocks of a run.
#[inline]
#[target_feature(enable = "avx")]
fn first_tweaks(start: &Tweak, tweaks: &mut [__m128i; WIDE]) {
    let mut tweak = u128::from_le_bytes(*start);
    for slot in tweaks {
        *slot = load(&tweak.to_le_bytes());
        tweak = times_x(tweak);
    }
}

/// The tweaks 8 blocks further on.
#[inline]
#[target_feature(enable = "avx,pclmulqdq")]
fn later_tweaks(tweaks: &[__m128i; WIDE], later: &mut [__m128i; WIDE]) {
    for (tweak, later) in tweaks.iter().zip(later) {
        let over = _mm_bsrli_si128::<15>(*tweak);
        let folded = _mm_clmulepi64_si128::<0x00>(over, _mm_set1_epi64x(i64::from(REDUCED)));
        *later = _mm_xor_si128(_mm_bslli_si128::<1>(*tweak), folded);
    }
}

#[target_feature(enable = "avx")]
fn load(bytes: &[u8; BLOCK]) -> __m128i {
    // SAFETY: the reference covers the 16 bytes that are read, at any alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx")]
fn store(bytes: &mut [u8; BLOCK], block: __m128i) {
    // SAFETY: the reference covers the 16 bytes that are written, at any alignment.
    unsafe { _mm_storeu_si128(bytes.as_mut_ptr().cast(), block) }
}
