//! A request cut into runs: consecutive pieces of one sector, which share one starting tweak.

/// The unit in which the engines work: 32 blocks.
pub(super) type Piece = [u8; 512];

/// Iterates over the runs of `pieces`: the first ends with the first sector, the others hold a sector each, and the last
/// what is left.
pub(super) struct Runs<'a> {
    next: usize,
    sector: usize,
    pieces: &'a mut [Piece],
}

impl<'a> Runs<'a> {
    /// Cuts `pieces` behind the first `head` pieces, and behind each `sector` pieces after them.
    pub(super) fn new(head: usize, sector: usize, pieces: &'a mut [Piece]) -> Self {
        Self { next: head, sector, pieces }
    }

    /// All of `pieces`, as one run.
    pub(super) fn one(pieces: &'a mut [Piece]) -> Self {
        Self::new(pieces.len(), pieces.len(), pieces)
    }
}

impl<'a> Iterator for Runs<'a> {
    type Item = &'a mut [Piece];

    #[inline]
    fn next(&mut self) -> Option<&'a mut [Piece]> {
        let pieces = std::mem::take(&mut self.pieces);
        let (run, rest) = pieces.split_at_mut(self.next.min(pieces.len()));
        self.next = self.sector;
        self.pieces = rest;
        (!run.is_empty()).then_some(run)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_end_where_sectors_end() {
        let lengths = |head, sector, count| -> Vec<usize> {
            Runs::new(head, sector, &mut vec![[0; 512]; count]).map(|run| run.len()).collect()
        };
        assert_eq!(lengths(8, 8, 0), [0; 0]);
        assert_eq!(lengths(8, 8, 20), [8, 8, 4]);
        assert_eq!(lengths(3, 8, 11), [3, 8]);
        assert_eq!(lengths(3, 8, 2), [2]);
        assert_eq!(lengths(1, 1, 3), [1, 1, 1]);
    }
}
