//! The AES-NI engine: 8 blocks at a time, one in each of 8 vectors. Also encrypts the tweaks for the wider engine.
//!
//! Built as the VAES engine is; what is said there of speed, of keys on the stack and of constant time holds here.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::runs::Runs;
use super::schedule::RoundKeys;
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
            for (start, run) in starts.iter().zip(runs) {
                let mut tweaks = first_tweaks(start);
                for mut stride in run.strides::<STRIDE>() {
                    let [first_key, middle_keys @ .., last_key] = black_box(keys.as_slice()) else { unreachable!() };
                    let mut state = [_mm_setzero_si128(); WIDE];
                    let mut last = [_mm_setzero_si128(); WIDE];
                    for i in 0..WIDE {
                        state[i] = _mm_xor_si128(stride.read(i), _mm_xor_si128(tweaks[i], *first_key));
                        last[i] = _mm_xor_si128(tweaks[i], *last_key);
                        tweaks[i] = times_x_to_the_8(tweaks[i]);
                    }
                    for key in middle_keys {
                        for block in &mut state {
                            *block = $round(*block, *key);
                        }
                    }
                    for i in 0..WIDE {
                        stride.write(i, $last_round(state[i], last[i]));
                    }
                }
            }
        }
    };
}

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

/// The tweaks of the first 8 blocks of a run.
#[target_feature(enable = "avx")]
fn first_tweaks(start: &Tweak) -> [__m128i; WIDE] {
    let mut tweaks = [_mm_setzero_si128(); WIDE];
    let mut tweak = u128::from_le_bytes(*start);
    for slot in &mut tweaks {
        *slot = load(&tweak.to_le_bytes());
        tweak = times_x(tweak);
    }
    tweaks
}

/// The tweak 8 blocks further on.
#[target_feature(enable = "avx,pclmulqdq")]
fn times_x_to_the_8(tweak: __m128i) -> __m128i {
    let over = _mm_bsrli_si128::<15>(tweak);
    let folded = _mm_clmulepi64_si128::<0x00>(over, _mm_set1_epi64x(i64::from(REDUCED)));
    _mm_xor_si128(_mm_bslli_si128::<1>(tweak), folded)
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
