//! What is done on every rung alike: the jobs, and the places that their requests go to.

use std::num::NonZeroU64;

use fastrand::Rng;
use serde::Serialize;

use crate::units::{ByteCount, ByteOffset};

pub use crate::nbd::client::pipeline::Direction;

/// In which order places are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Each somewhere.
    Random,
    /// Each behind the one before, from the start again after the end.
    Sequential,
}

/// One kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Its name for scripts.
    pub id: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// Read or write.
    pub direction: Direction,
    /// In which order.
    pub order: Order,
    /// Bytes of each request; places are multiples of it.
    pub length: u32,
    /// Requests under way at once.
    pub depth: usize,
}

/// The jobs, in the order in which they are shown.
pub const JOBS: [Job; 6] = [
    job("4k-random-read-qd1", "4k random read, depth 1", Direction::Read, 1),
    job("4k-random-read-qd32", "4k random read, depth 32", Direction::Read, 32),
    stream("256k-read-qd8", "256k sequential read, depth 8", Direction::Read),
    job("4k-random-write-qd1", "4k random write, depth 1", Direction::Write, 1),
    job("4k-random-write-qd32", "4k random write, depth 32", Direction::Write, 32),
    stream("256k-write-qd8", "256k sequential write, depth 8", Direction::Write),
];

/// The longest request of any job.
pub const LENGTH_MAX: u32 = 256 << 10;

/// Most requests under way in any job.
pub const DEPTH_MAX: usize = 32;

const fn job(id: &'static str, title: &'static str, direction: Direction, depth: usize) -> Job {
    assert!(depth <= DEPTH_MAX);
    Job { id, title, direction, order: Order::Random, length: 4096, depth }
}

const fn stream(id: &'static str, title: &'static str, direction: Direction) -> Job {
    Job { id, title, direction, order: Order::Sequential, length: LENGTH_MAX, depth: 8 }
}

/// Where the requests of one step go.
#[derive(Debug, Clone)]
pub struct Places {
    order: Order,
    length: u64,
    /// How many requests fit.
    count: NonZeroU64,
    at: u64,
    random: Rng,
}

impl Places {
    /// Places for `job` in `size` bytes; the same ones for the same seed.
    ///
    /// # Panics
    /// Where not a single request fits.
    pub fn new(job: &Job, size: ByteCount, seed: u64) -> Self {
        let length = u64::from(job.length);
        let count = NonZeroU64::new(size.get() / length).expect("whoever measures makes sure of room");
        let mut random = Rng::with_seed(seed);
        let at = random.u64(0..count.get());
        Self { order: job.order, length, count, at, random }
    }

    /// The next.
    pub fn next_place(&mut self) -> ByteOffset {
        self.at = match self.order {
            Order::Random => self.random.u64(0..self.count.get()),
            Order::Sequential => (self.at + 1) % self.count,
        };
        ByteOffset::new(self.at * self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_lie_whole_within_the_size_and_cover_it() {
        for job in JOBS {
            let size = ByteCount::new(5 * u64::from(job.length) + 77);
            let mut places = Places::new(&job, size, 3);
            let mut seen: Vec<u64> = (0..200).map(|_| places.next_place().get()).collect();
            assert!(seen.iter().all(|at| at + u64::from(job.length) <= size.get()), "{job:?}");
            seen.sort_unstable();
            seen.dedup();
            assert_eq!(seen.len(), 5, "{job:?}");
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_places() {
        let places = |seed| {
            let mut places = Places::new(&JOBS[0], ByteCount::new(1 << 30), seed);
            (0..8).map(|_| places.next_place().get()).collect::<Vec<_>>()
        };
        assert_eq!(places(1), places(1));
        assert_ne!(places(1), places(2));
    }
}
