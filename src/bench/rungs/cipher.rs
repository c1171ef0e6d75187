//! The cipher alone, on one core: each request is ciphered in place, in as many buffers as there would be under way.

use std::time::{Duration, Instant};

use super::{Done, Rung};
use crate::bench::job::{DEPTH_MAX, Direction, LENGTH_MAX};
use crate::bench::{BenchError, Job, Latencies, Places};
use crate::crypto::xts::{Engine, XtsKey};
use crate::secret::Secret;
use crate::sys::pages::Pages;
use crate::units::{ByteCount, SectorSize};

/// Bytes that are ciphered between two looks at the clock: a look costs as much as some hundred bytes.
const BETWEEN_LOOKS: usize = 64 << 10;

/// An XTS key of its own.
pub struct CipherRung {
    key: XtsKey,
    sectors: SectorSize,
    size: ByteCount,
    memory: Pages,
}

impl CipherRung {
    /// The engine that volumes use here, under a random key.
    ///
    /// # Errors
    /// No locked memory for the key, or no such engine.
    pub fn new(sectors: SectorSize, size: ByteCount) -> Result<Self, BenchError> {
        let key =
            Secret::filled_by(|bytes| crate::crypto::random::fill(bytes)).map_err(|e| BenchError::Cipher(e.into()))?;
        let key = XtsKey::new(&key)?;
        let mut memory = Pages::allocate(DEPTH_MAX * LENGTH_MAX as usize);
        fastrand::Rng::new().fill(memory.bytes_mut());
        Ok(Self { key, sectors, size, memory })
    }

    /// The engine: that of every volume of this process.
    ///
    /// # Errors
    /// The environment names one that this processor cannot run.
    pub fn engine() -> Result<Engine, BenchError> {
        Engine::chosen().map_err(|refused| BenchError::Cipher(refused.into()))
    }
}

impl Rung for CipherRung {
    fn size(&self) -> ByteCount {
        self.size
    }

    /// No latency is noted: it is the inverse of the rate.
    fn run(
        &mut self,
        job: &Job,
        places: &mut Places,
        length: Duration,
        _latencies: &mut Latencies,
    ) -> Result<Done, BenchError> {
        let bytes = job.length as usize;
        let buffers = &mut self.memory.bytes_mut()[..bytes * job.depth];
        let between_looks = (BETWEEN_LOOKS / bytes).max(1);
        let (start, mut requests) = (Instant::now(), 0);
        let mut slots = (0..job.depth).cycle();
        loop {
            for slot in slots.by_ref().take(between_looks) {
                let data = &mut buffers[slot * bytes..(slot + 1) * bytes];
                let first = places.next_place().piece();
                match job.direction {
                    Direction::Read => self.key.decrypt(self.sectors, first, data),
                    Direction::Write => self.key.encrypt(self.sectors, first, data),
                }
            }
            requests += between_looks as u64;
            let took = start.elapsed();
            if took >= length {
                return Ok(Done { requests, took });
            }
        }
    }
}
