//! Keys, randomness and hexadecimal for the tests of this folder.

use envol::crypto::xts::{Engine, XtsKey};
use envol::secret::Secret;

/// The key on each engine of this processor, with the engine's name for messages.
pub(crate) fn on_every_engine(key: &[u8; 64]) -> Vec<(Engine, XtsKey)> {
    let secret = Secret::filled_by(|bytes| *bytes = *key).expect("memory locks");
    let with = |engine| XtsKey::with_engine(&secret, engine).expect("a key with different halves");
    Engine::available().into_iter().map(|engine| (engine, with(engine))).collect()
}

/// The bytes that `text` writes out.
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().map(|c| c.to_digit(16).expect("a hexadecimal digit")).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty(), "two digits a byte");
    pairs.iter().map(|[high, low]| u8::try_from(high << 4 | low).expect("eight bits")).collect()
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed.
pub(crate) struct Numbers {
    state: u64,
}

impl Numbers {
    /// From a fresh seed, or from `ENVOL_SEED` to repeat a failure. The seed is printed, and so shown with a failure.
    pub(crate) fn seeded() -> Self {
        let seed = std::env::var("ENVOL_SEED").map_or_else(|_| fresh(), |text| text.parse().expect("a number"));
        eprintln!("ENVOL_SEED={seed}");
        Self { state: seed }
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn fill(&mut self, out: &mut [u8]) {
        for part in out.chunks_mut(8) {
            part.copy_from_slice(&self.next().to_le_bytes()[..part.len()]);
        }
    }

    pub(crate) fn key(&mut self) -> [u8; 64] {
        let mut key = [0; 64];
        self.fill(&mut key);
        key
    }
}

fn fresh() -> u64 {
    let mut bytes = [0; 8];
    envol::crypto::random::fill(&mut bytes);
    u64::from_le_bytes(bytes)
}
