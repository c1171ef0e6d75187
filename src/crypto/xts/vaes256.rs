//! The VAES engine: 16 blocks at a time, two in each of 8 vectors.
//!
//! What the speed rests on: 8 vectors in flight keep both AES units busy; the rounds are kept apart, since the compiler
//! would mix and spill them; a tweak is multiplied in four instructions, of which the AES units carry out one; the tweaks
//! of the next stride are prepared between the rounds of this one.
//!
//! The 16 registers hold the state, a round key, and little else. So the tweaks are in memory, by intent and not by spilling,
//! in two buffers that take turns; and the last round key is added to the state, never to a tweak: the sum would be spilled,
//! and together with the tweak it is the key. No function here has a branch or an address that depends on a key, a tweak or
//! data.

use std::arch::asm;
use std::arch::x86_64::*;

use super::runs::{Runs, Stride};
use super::schedule::{RoundKeys, read_anew};
use super::tweak::{REDUCED, Tweak};

/// Vectors in flight.
const WIDE: usize = 8;
/// Bytes in one vector: two blocks.
const VECTOR: usize = 32;
/// Bytes in flight; a piece is two strides.
const STRIDE: usize = WIDE * VECTOR;

/// Whether this processor has all that the functions of this file enable.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx2")
        && is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("vaes")
        && is_x86_feature_detected!("vpclmulqdq")
}

macro_rules! direction {
    ($(#[$doc:meta])* $name:ident, $round:ident, $last_round:ident) => {
        $(#[$doc])*
        #[target_feature(enable = "avx2,aes,vaes,vpclmulqdq")]
        pub(super) fn $name(keys: &RoundKeys, starts: &[Tweak], runs: Runs<'_>) {
            let Some((first, mut later)) = starts.split_first() else { return };
            let mut room = [[_mm256_setzero_si256(); WIDE]; 2];
            let [tweaks, next] = &mut room;
            let (mut tweaks, mut next) = (tweaks, next);
            first_tweaks(first, next);
            for run in runs {
                let mut strides = run.strides::<STRIDE>();
                while let Some(mut stride) = strides.next() {
                    std::mem::swap(&mut tweaks, &mut next);
                    let keys = read_anew(keys);
                    let mut state = whitened(&stride, tweaks, key(&keys[0]));
                    for number in 1..HALF {
                        let key = key(&keys[number]);
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
                        let key = key(&keys[number]);
                        state = state.map(|vector| $round(vector, key));
                        pinned(&mut state);
                    }
                    let last_key = key(&keys[14]);
                    for number in 0..WIDE {
                        let ciphered = $last_round(state[number], last_key);
                        stride.write(number, _mm256_xor_si256(ciphered, tweaks[number]));
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
    encrypt, _mm256_aesenc_epi128, _mm256_aesenclast_epi128
);
direction!(
    /// Decrypts each run from its starting tweak, in place.
    decrypt, _mm256_aesdec_epi128, _mm256_aesdeclast_epi128
);

/// The vectors of a stride under their tweaks and the first round key.
#[inline]
#[target_feature(enable = "avx2")]
fn whitened(stride: &Stride<'_, STRIDE>, tweaks: &[__m256i; WIDE], key: __m256i) -> [__m256i; WIDE] {
    let mut state = [key; WIDE];
    for (number, vector) in state.iter_mut().enumerate() {
        *vector = _mm256_xor_si256(_mm256_xor_si256(stride.read(number), *vector), tweaks[number]);
    }
    state
}

/// One round key, for both blocks.
#[inline]
#[target_feature(enable = "avx2")]
fn key(key: &__m128i) -> __m256i {
    _mm256_broadcastsi128_si256(*key)
}

/// Keeps the compiler from moving instructions of one round among those of another, which makes it spill.
#[inline]
#[target_feature(enable = "avx2")]
fn pinned(state: &mut [__m256i; WIDE]) {
    let [a, b, c, d, e, f, g, h] = state;
    // SAFETY: no instruction at all: the registers come back as they were.
    unsafe {
        asm!(
            "/* {0} {1} {2} {3} {4} {5} {6} {7} */",
            inout(ymm_reg) * a,
            inout(ymm_reg) * b,
            inout(ymm_reg) * c,
            inout(ymm_reg) * d,
            inout(ymm_reg) * e,
            inout(ymm_reg) * f,
            inout(ymm_reg) * g,
            inout(ymm_reg) * h,
            options(nomem, nostack, preserves_flags)
        );
    }
}

/// The tweaks of the first 16 blocks of a run, each straight from the starting one: no chain of multiplications.
#[inline]
#[target_feature(enable = "avx2,vpclmulqdq")]
fn first_tweaks(start: &Tweak, tweaks: &mut [__m256i; WIDE]) {
    let (halves, _) = start.as_chunks::<8>();
    let (low, high) = (i64::from_le_bytes(halves[0]), i64::from_le_bytes(halves[1]));
    let start = _mm256_setr_epi64x(low, high, low, high);
    let reduced = _mm256_set1_epi64x(i64::from(REDUCED));
    let mut left = _mm256_setr_epi64x(0, 0, 1, 1);
    for tweak in tweaks {
        let right = _mm256_sub_epi64(_mm256_set1_epi64x(64), left);
        let over = _mm256_srlv_epi64(start, right);
        let carried = _mm256_bslli_epi128::<8>(over);
        let folded = _mm256_clmulepi64_epi128::<0x01>(over, reduced);
        *tweak = _mm256_xor_si256(_mm256_sllv_epi64(start, left), _mm256_xor_si256(carried, folded));
        left = _mm256_add_epi64(left, _mm256_set1_epi64x(2));
    }
}

/// The tweaks 16 blocks further on.
#[inline]
#[target_feature(enable = "avx2,vpclmulqdq")]
fn later_tweaks(tweaks: &[__m256i; WIDE], later: &mut [__m256i; WIDE]) {
    for (tweaks, later) in tweaks.iter().zip(later) {
        let over = _mm256_bsrli_epi128::<14>(*tweaks);
        let folded = _mm256_clmulepi64_epi128::<0x00>(over, _mm256_set1_epi64x(i64::from(REDUCED)));
        *later = _mm256_xor_si256(_mm256_bslli_epi128::<2>(*tweaks), folded);
    }
}
