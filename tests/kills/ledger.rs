//! A client with a part of the volume to itself, and what it knows of that part.

use envol::block::Zeroing;
use envol::nbd::client::{Client, ClientError};

use crate::random::Random;

/// The bytes of a client's part.
pub const PART: usize = 1 << 20;
const PIECE: usize = 512;
/// The longest request of a client.
const LONGEST: u64 = 96 << 10;

/// What a client knows.
pub struct Ledger {
    start: u64,
    random: Random,
    /// What was acknowledged.
    held: Vec<u8>,
    /// What was asked and not answered: from which byte of the part on, and what.
    asked: Option<(usize, Vec<u8>)>,
    pub acknowledged: u64,
    /// How often a request was under way when the daemon was killed, and how often all of it was there afterwards.
    pub interrupted: u64,
    pub landed: u64,
}

/// Something acknowledged that is not there.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost {
    pub byte: u64,
}

impl Ledger {
    /// The client of this number, on a volume that was just made.
    pub fn new(number: u64) -> Self {
        let (start, random) = (number * PART as u64, Random::new(number));
        Self { start, random, held: vec![0; PART], asked: None, acknowledged: 0, interrupted: 0, landed: 0 }
    }

    /// Asks one thing after another until the connection ends.
    pub fn work(&mut self, client: &mut Client) -> ClientError {
        loop {
            if let Err(error) = self.ask(client) {
                return error;
            }
        }
    }

    fn ask(&mut self, client: &mut Client) -> Result<(), ClientError> {
        let what = self.random.below(20);
        let whole = self.random.percent(50);
        let unit = if whole || (1..=2).contains(&what) { PIECE as u64 } else { 1 };
        let length = self.random.within(1..LONGEST / unit) * unit;
        let at = self.random.below((PART as u64 - length) / unit + 1) * unit;
        let place = self.start + at;
        let bytes = match what {
            0 => return client.flush(),
            1 | 2 => vec![0; length as usize],
            _ => self.fresh(length as usize),
        };
        self.asked = Some((at as usize, bytes));
        let (_, bytes) = self.asked.as_ref().expect("just asked");
        match what {
            1 => client.trim(place, length as u32)?,
            2 => client.zero(place, length as u32, Zeroing::MayPunch)?,
            3 => client.write_durably(place, bytes)?,
            _ => client.write(place, bytes)?,
        }
        let (at, bytes) = self.asked.take().expect("just asked");
        self.held[at..at + bytes.len()].copy_from_slice(&bytes);
        self.acknowledged += 1;
        Ok(())
    }

    fn fresh(&mut self, length: usize) -> Vec<u8> {
        let mut random = Random::new(self.random.next());
        let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(|_| random.next().to_le_bytes()).collect();
        bytes.truncate(length);
        bytes
    }

    /// All of the part.
    pub fn read_back(&self, client: &mut Client) -> Result<Vec<u8>, ClientError> {
        let mut plain = vec![0; PART];
        client.read(self.start, &mut plain)?;
        Ok(plain)
    }

    /// Holds what was read after a kill against what was acknowledged; from then on what was read is what is held.
    pub fn judge(&mut self, plain: &[u8]) -> Result<(), Lost> {
        let mut newer = self.held.clone();
        if let Some((at, bytes)) = self.asked.take() {
            newer[at..at + bytes.len()].copy_from_slice(&bytes);
            self.interrupted += 1;
            self.landed += u64::from(newer == plain);
        }
        let pieces = self.held.chunks(PIECE).zip(newer.chunks(PIECE)).zip(plain.chunks(PIECE));
        for (number, ((old, new), found)) in pieces.enumerate() {
            if found != old && found != new {
                return Err(Lost { byte: self.start + (number * PIECE) as u64 });
            }
        }
        self.held.copy_from_slice(plain);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_that_was_acknowledged_and_is_gone_is_found_and_one_that_was_only_asked_may_be_gone() {
        let stale = vec![0; PART];
        let mut ledger = Ledger::new(1);
        ledger.held[700..800].fill(7);
        assert_eq!(ledger.judge(&stale), Err(Lost { byte: PART as u64 + 512 }));
        let mut ledger = Ledger::new(1);
        ledger.asked = Some((700, vec![7; 1000]));
        let mut torn = stale.clone();
        torn[700..1024].fill(7);
        assert_eq!(ledger.judge(&torn), Ok(()), "a piece new, a piece old");
        assert_eq!((ledger.interrupted, ledger.landed), (1, 0));
        assert_eq!(ledger.judge(&stale), Err(Lost { byte: PART as u64 + 512 }), "what was read once stays");
        torn[1500] = 1;
        assert_eq!(ledger.judge(&torn), Err(Lost { byte: PART as u64 + 1024 }), "neither old nor new");
    }
}
