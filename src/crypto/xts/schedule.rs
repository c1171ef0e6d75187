//! AES-256 round keys (FIPS 197, 5.2 and 5.3.5), expanded by the processor's own instructions, for the x86 engines.
//!
//! Expanded once per key, in place, into memory that the caller has locked. The instructions take the same time for
//! every key.

use std::arch::asm;
use std::arch::x86_64::*;

/// AES-256 has 14 rounds, so 15 round keys.
pub(super) type RoundKeys = [__m128i; 15];

/// The round keys of both halves. Locked memory wipes them when it is given back.
pub(super) struct Keys {
    /// For encrypting data.
    pub(super) encrypt: RoundKeys,
    /// For decrypting data: in reverse, the middle ones through the inverse MixColumns.
    pub(super) decrypt: RoundKeys,
    /// For encrypting tweaks.
    pub(super) tweak: RoundKeys,
}

/// The same keys, of which the compiler does not know that. Keys that stay the same over a loop are kept in registers, and
/// where those run short on the stack, which is neither locked nor wiped: so each stride reads them anew.
#[inline]
#[expect(clippy::pointers_in_nomem_asm_block, reason = "the block touches no memory, and that is what it says")]
pub(super) fn read_anew(keys: &RoundKeys) -> &RoundKeys {
    let mut place = std::ptr::from_ref(keys);
    // SAFETY: no instruction at all: the pointer comes back as it was, to keys that are borrowed for as long.
    unsafe {
        asm!("/* {0} */", inout(reg) place, options(nomem, nostack, preserves_flags));
        &*place
    }
}

impl Keys {
    /// Expands both halves.
    #[target_feature(enable = "aes")]
    pub(super) fn expand(data: &[u8; 32], tweak: &[u8; 32]) -> Self {
        let encrypt = expand(data);
        Self { encrypt, decrypt: inverse(&encrypt), tweak: expand(tweak) }
    }
}

#[target_feature(enable = "aes")]
fn expand(key: &[u8; 32]) -> RoundKeys {
    let mut keys = [_mm_setzero_si128(); 15];
    let (halves, _) = key.as_chunks::<16>();
    keys[0] = block(halves[0]);
    keys[1] = block(halves[1]);
    even::<0x01, 2>(&mut keys);
    odd::<3>(&mut keys);
    even::<0x02, 4>(&mut keys);
    odd::<5>(&mut keys);
    even::<0x04, 6>(&mut keys);
    odd::<7>(&mut keys);
    even::<0x08, 8>(&mut keys);
    odd::<9>(&mut keys);
    even::<0x10, 10>(&mut keys);
    odd::<11>(&mut keys);
    even::<0x20, 12>(&mut keys);
    odd::<13>(&mut keys);
    even::<0x40, 14>(&mut keys);
    keys
}

/// A round key of even number: its first word takes the rotated, substituted last word and the round constant.
#[target_feature(enable = "aes")]
fn even<const CONSTANT: i32, const NUMBER: usize>(keys: &mut RoundKeys) {
    let assisted = _mm_aeskeygenassist_si128::<CONSTANT>(keys[NUMBER - 1]);
    keys[NUMBER] = chain(keys[NUMBER - 2], _mm_shuffle_epi32::<0xff>(assisted));
}

/// A round key of odd number: its first word takes the substituted last word only.
#[target_feature(enable = "aes")]
fn odd<const NUMBER: usize>(keys: &mut RoundKeys) {
    let assisted = _mm_aeskeygenassist_si128::<0>(keys[NUMBER - 1]);
    keys[NUMBER] = chain(keys[NUMBER - 2], _mm_shuffle_epi32::<0xaa>(assisted));
}

/// Each word becomes the XOR of all words up to it, and of `first`.
#[target_feature(enable = "aes")]
fn chain(words: __m128i, first: __m128i) -> __m128i {
    let words = _mm_xor_si128(words, _mm_slli_si128::<4>(words));
    let words = _mm_xor_si128(words, _mm_slli_si128::<8>(words));
    _mm_xor_si128(words, first)
}

/// The keys of the equivalent inverse cipher.
#[target_feature(enable = "aes")]
fn inverse(encrypt: &RoundKeys) -> RoundKeys {
    let mut keys = *encrypt;
    keys.reverse();
    for key in &mut keys[1..14] {
        *key = _mm_aesimc_si128(*key);
    }
    keys
}

#[target_feature(enable = "aes")]
fn block(bytes: [u8; 16]) -> __m128i {
    let (halves, _) = bytes.as_chunks::<8>();
    _mm_set_epi64x(i64::from_le_bytes(halves[1]), i64::from_le_bytes(halves[0]))
}
