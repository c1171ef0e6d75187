//! Block status: what the inner device says of the ciphertext, in terms of plaintext.
//!
//! A hole or zeros below are zeros here only in a thin volume and only where they cover a whole piece: half a piece of
//! zero ciphertext is noise. So their runs are rounded inwards, and what falls off is data.

use crate::block::{Allocation, BlockDeviceExt, BlockError, Op, Run};
use crate::units::{ByteCount, Extent, PIECE};

use super::encrypted::EncryptedDevice;
use super::pieces::between;

/// Runs asked for at a time.
const RUNS: usize = 256;

impl EncryptedDevice {
    /// Describes `extent` from its start, until it is covered or `into` holds `most` runs.
    pub(super) fn describe(&self, extent: Extent, into: &mut Vec<Run>, most: usize) -> Result<(), BlockError> {
        if self.thick {
            Run { length: extent.length(), allocation: Allocation::Data }.append(into, most);
            return Ok(());
        }
        let end = extent.end().get().next_multiple_of(PIECE);
        let mut at = extent.start().get() - extent.start().get() % PIECE;
        let mut below = Vec::new();
        while at < end {
            below.clear();
            let asked = self.extent_below(between(at, end));
            self.inner.perform(Op::Extents { extent: asked, into: &mut below, most: RUNS })?;
            let described = at + below.iter().map(|run| run.length.get()).sum::<u64>();
            // A piece that the answer cuts is asked for again, unless that would be without end.
            let next = (described - described % PIECE).min(end);
            let next = if next > at { next } else { at + PIECE };
            if !append_whole_pieces(at, next, &below, extent, into, most) {
                return Ok(());
            }
            at = next;
        }
        Ok(())
    }
}

/// Appends what `below`, which starts at `at`, says of the bytes up to `end`, clipped to `asked`.
fn append_whole_pieces(at: u64, end: u64, below: &[Run], asked: Extent, into: &mut Vec<Run>, most: usize) -> bool {
    let mut append = |start: u64, end: u64, allocation| {
        let start = start.max(asked.start().get());
        let end = end.min(asked.end().get());
        start >= end || Run { length: ByteCount::new(end - start), allocation }.append(into, most)
    };
    let mut told = at;
    let mut start = at;
    for run in below {
        let run_end = start + run.length.get();
        if run.allocation != Allocation::Data {
            let first = start.next_multiple_of(PIECE);
            let last = (run_end - run_end % PIECE).min(end);
            if first < last {
                if !append(told, first, Allocation::Data) || !append(first, last, run.allocation) {
                    return false;
                }
                told = last;
            }
        }
        start = run_end;
    }
    append(told, end, Allocation::Data)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn runs(runs: &[(u64, Allocation)]) -> Vec<Run> {
        runs.iter()
            .map(|(length, allocation)| Run { length: ByteCount::new(*length), allocation: *allocation })
            .collect()
    }

    fn seen(below: &[(u64, Allocation)], asked: Extent) -> Vec<Run> {
        let end = below.iter().map(|(length, _)| length).sum::<u64>();
        let mut into = Vec::new();
        assert!(append_whole_pieces(0, end, &runs(below), asked, &mut into, 100));
        into
    }

    #[test]
    fn holes_are_rounded_inwards_to_whole_pieces() {
        use Allocation::{Data, Hole, Zero};
        let all = between(0, 4096);
        assert_eq!(
            seen(&[(700, Data), (1000, Hole), (2396, Data)], all),
            runs(&[(1024, Data), (512, Hole), (2560, Data)])
        );
        assert_eq!(seen(&[(700, Data), (300, Hole), (3096, Data)], all), runs(&[(4096, Data)]));
        assert_eq!(seen(&[(4096, Hole)], between(100, 101)), runs(&[(1, Hole)]));
        let halves = [(256, Hole), (1024, Zero), (2816, Hole)];
        assert_eq!(seen(&halves, all), runs(&[(512, Data), (512, Zero), (512, Data), (2560, Hole)]));
    }
}
