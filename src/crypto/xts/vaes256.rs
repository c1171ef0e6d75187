//! The VAES engine: 16 blocks at a time, two in each of 8 vectors.
//!
//! What the speed rests on: 8 vectors in flight keep both AES units busy; the rounds are a loop whose count the
//! compiler does not know, since unrolled it reorders them and spills; the last round key and the tweak are one operand
//! of the last round; a tweak is multiplied in four instructions, of which the AES units carry out one.
//!
//! The compiler must take the round keys for new ones in each stride (`black_box`): keys that stay the same over a loop
//! are kept in registers, and where those run short on the stack, which is neither locked nor wiped. No function here
//! has a branch or an address that depends on a key, a tweak or data.

use std::arch::x86_64::*;
use std::hint::black_box;

use super::runs::Runs;
use super::schedule::RoundKeys;
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
            for (start, run) in starts.iter().zip(runs) {
                let mut tweaks = first_tweaks(start);
                for mut stride in run.strides::<STRIDE>() {
                    let [first_key, middle_keys @ .., last_key] = black_box(keys.as_slice()) else { unreachable!() };
                    let first_key = _mm256_broadcastsi128_si256(*first_key);
                    let last_key = _mm256_broadcastsi128_si256(*last_key);
                    let mut state = [_mm256_setzero_si256(); WIDE];
                    let mut last = [_mm256_setzero_si256(); WIDE];
                    for i in 0..WIDE {
                        state[i] = _mm256_xor_si256(stride.read(i), _mm256_xor_si256(tweaks[i], first_key));
                        last[i] = _mm256_xor_si256(tweaks[i], last_key);
                        tweaks[i] = times_x_to_the_16(tweaks[i]);
                    }
                    for key in middle_keys {
                        let key = _mm256_broadcastsi128_si256(*key);
                        for block in &mut state {
                            *block = $round(*block, key);
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
    encrypt, _mm256_aesenc_epi128, _mm256_aesenclast_epi128
);
direction!(
    /// Decrypts each run from its starting tweak, in place.
    decrypt, _mm256_aesdec_epi128, _mm256_aesdeclast_epi128
);

/// The tweaks of the first 16 blocks of a run, each straight from the starting one: no chain of multiplications.
#[target_feature(enable = "avx2,vpclmulqdq")]
fn first_tweaks(start: &Tweak) -> [__m256i; WIDE] {
    let (halves, _) = start.as_chunks::<8>();
    let (low, high) = (i64::from_le_bytes(halves[0]), i64::from_le_bytes(halves[1]));
    let start = _mm256_setr_epi64x(low, high, low, high);
    let reduced = _mm256_set1_epi64x(i64::from(REDUCED));
    let mut tweaks = [start; WIDE];
    let mut left = _mm256_setr_epi64x(0, 0, 1, 1);
    for tweak in &mut tweaks {
        let right = _mm256_sub_epi64(_mm256_set1_epi64x(64), left);
        let over = _mm256_srlv_epi64(start, right);
        let carried = _mm256_bslli_epi128::<8>(over);
        let folded = _mm256_clmulepi64_epi128::<0x01>(over, reduced);
        *tweak = _mm256_xor_si256(_mm256_sllv_epi64(start, left), _mm256_xor_si256(carried, folded));
        left = _mm256_add_epi64(left, _mm256_set1_epi64x(2));
    }
    tweaks
}

/// The tweaks 16 blocks further on.
#[target_feature(enable = "avx2,vpclmulqdq")]
fn times_x_to_the_16(tweaks: __m256i) -> __m256i {
    let over = _mm256_bsrli_epi128::<14>(tweaks);
    let folded = _mm256_clmulepi64_epi128::<0x00>(over, _mm256_set1_epi64x(i64::from(REDUCED)));
    _mm256_xor_si256(_mm256_bslli_epi128::<2>(tweaks), folded)
}
