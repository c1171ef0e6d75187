//! The portable engine: blocks in batches through the `aes` crate, tweaks by integer arithmetic. No unsafe code.
//!
//! The crate copies round keys to the stack as it works, so the stack is wiped after each batch.

use aes::cipher::{Array, BlockCipherDecrypt, BlockCipherEncrypt, KeyInit};
use aes::{Aes256, Aes256Enc, Block};

use super::runs::{Piece, Runs, Stride};
use super::tweak::{Tweak, times_x};
use crate::crypto::stack;

const BLOCKS: usize = size_of::<Piece>() / 16;

/// The expanded halves; each wipes itself on drop.
pub(super) struct Keys {
    data: Aes256,
    tweak: Aes256Enc,
}

impl Keys {
    pub(super) fn expand(data: &[u8; 32], tweak: &[u8; 32]) -> Self {
        Self { data: Aes256::new(data.into()), tweak: Aes256Enc::new(tweak.into()) }
    }

    pub(super) fn encrypt_tweaks(&self, tweaks: &mut [Tweak]) {
        stack::deeply_wiped_after(|| self.tweak.encrypt_blocks(Array::cast_slice_from_core_mut(tweaks)));
    }

    pub(super) fn encrypt(&self, starts: &[Tweak], runs: Runs<'_>) {
        stack::deeply_wiped_after(|| each_piece(starts, runs, |blocks| self.data.encrypt_blocks(blocks)));
    }

    pub(super) fn decrypt(&self, starts: &[Tweak], runs: Runs<'_>) {
        stack::deeply_wiped_after(|| each_piece(starts, runs, |blocks| self.data.decrypt_blocks(blocks)));
    }
}

fn each_piece(starts: &[Tweak], runs: Runs<'_>, cipher: impl Fn(&mut [Block])) {
    for (start, run) in starts.iter().zip(runs) {
        let mut tweak = u128::from_le_bytes(*start);
        for piece in run.strides::<{ size_of::<Piece>() }>().map(Stride::in_place) {
            let mut tweaks = [0; BLOCKS];
            for slot in &mut tweaks {
                *slot = tweak;
                tweak = times_x(tweak);
            }
            let (blocks, _) = piece.as_chunks_mut::<16>();
            xor(blocks, &tweaks);
            cipher(Array::cast_slice_from_core_mut(blocks));
            xor(blocks, &tweaks);
        }
    }
}

fn xor(blocks: &mut [[u8; 16]], tweaks: &[u128; BLOCKS]) {
    for (block, tweak) in blocks.iter_mut().zip(tweaks) {
        *block = (u128::from_le_bytes(*block) ^ tweak).to_le_bytes();
    }
}
