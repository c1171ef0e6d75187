//! What may be read of a part of a volume after faults: for each piece of 512 bytes what it may hold while the machine
//! stays up, and what else it may hold after a power cut.

/// Bytes that are old or new as one.
pub const PIECE: usize = 512;

type Version = [u8; PIECE];

#[derive(Debug, Clone)]
struct Piece {
    /// What it may hold now; one version unless a request failed or is under way.
    live: Vec<Version>,
    /// What it may hold beside that once the power was cut: versions that no flush has covered.
    earlier: Vec<Version>,
}

/// A part of a volume, from its start on.
#[derive(Debug, Clone)]
pub struct Ledger {
    pieces: Vec<Piece>,
    /// Whether a piece that is old or new stays what it was read as.
    settles: bool,
}

/// A piece that holds what it must not.
#[derive(Debug, PartialEq, Eq)]
pub struct Lost {
    pub byte: usize,
}

/// How a change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Acknowledged,
    /// Refused with an error, or not answered: each piece is old or new.
    Open,
}

impl Ledger {
    /// `length` bytes of zeros, which are on the disk.
    pub fn new(length: usize) -> Self {
        let zeros = Piece { live: vec![[0; PIECE]], earlier: Vec::new() };
        Self { pieces: vec![zeros; length / PIECE], settles: true }
    }

    /// The same on a disk that fails: what it did not take the page cache may show for a while, and then no more.
    pub fn on_a_sick_disk(length: usize) -> Self {
        Self { settles: false, ..Self::new(length) }
    }

    /// `bytes` were written from byte `at` on.
    pub fn change(&mut self, at: usize, bytes: &[u8], end: End) {
        let mut done = 0;
        while done < bytes.len() {
            let (piece, within) = ((at + done) / PIECE, (at + done) % PIECE);
            let length = (PIECE - within).min(bytes.len() - done);
            self.pieces[piece].change(within, &bytes[done..done + length], end);
            done += length;
        }
    }

    /// A FLUSH was acknowledged that began after everything so far.
    pub fn flush(&mut self) {
        self.pieces.iter_mut().for_each(|piece| piece.earlier.clear());
    }

    /// A FUA request for these bytes was acknowledged.
    pub fn cover(&mut self, at: usize, length: usize) {
        let end = (at + length).div_ceil(PIECE);
        self.pieces[at / PIECE..end].iter_mut().for_each(|piece| piece.earlier.clear());
    }

    /// Holds what was read from byte 0 on, with the machine up all the time; from then on that is what is there.
    pub fn judge(&mut self, plain: &[u8]) -> Result<(), Lost> {
        self.look(plain, |piece, found| piece.live.contains(found))?;
        if !self.settles {
            return Ok(());
        }
        for (piece, found) in self.pieces.iter_mut().zip(plain.chunks(PIECE)) {
            piece.live = vec![found.try_into().expect("a piece")];
        }
        Ok(())
    }

    /// The same after a power cut.
    pub fn judge_after_cut(&self, plain: &[u8]) -> Result<(), Lost> {
        self.look(plain, |piece, found| piece.live.contains(found) || piece.earlier.contains(found))
    }

    /// What is there, for people: a version of earlier on, or none that there ever was.
    pub fn tell(&self, lost: &Lost, plain: &[u8]) -> String {
        let (piece, found) = (&self.pieces[lost.byte / PIECE], &plain[lost.byte..lost.byte + PIECE]);
        let earlier = piece.earlier.iter().rposition(|version| version == found);
        let differing = piece.live[0].iter().zip(found).filter(|(allowed, found)| allowed != found).count();
        format!(
            "{lost:?}: {} versions allowed; found what was there {:?} of {} versions ago, {differing} bytes off; zeros: {}",
            piece.live.len(),
            earlier.map(|place| piece.earlier.len() - place),
            piece.earlier.len(),
            found.iter().all(|byte| *byte == 0)
        )
    }

    fn look(&self, plain: &[u8], allows: impl Fn(&Piece, &Version) -> bool) -> Result<(), Lost> {
        assert_eq!(plain.len(), self.pieces.len() * PIECE, "all of the part is read");
        let found = plain.chunks(PIECE).map(|found| found.try_into().expect("a piece"));
        match self.pieces.iter().zip(found).position(|(piece, found)| !allows(piece, found)) {
            Some(piece) => Err(Lost { byte: piece * PIECE }),
            None => Ok(()),
        }
    }
}

impl Piece {
    fn change(&mut self, within: usize, bytes: &[u8], end: End) {
        let mut changed = self.live.clone();
        changed.iter_mut().for_each(|version| version[within..within + bytes.len()].copy_from_slice(bytes));
        if end == End::Acknowledged {
            self.earlier.append(&mut self.live);
        }
        changed.retain(|version| !self.live.contains(version));
        self.live.append(&mut changed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_must_be_there_and_what_was_not_flushed_may_be_gone_after_a_power_cut() {
        let (old, mut new) = (vec![0; 1024], vec![0; 1024]);
        new[500..600].fill(7);
        let mut ledger = Ledger::new(1024);
        ledger.change(500, &[7; 100], End::Acknowledged);
        assert_eq!(ledger.judge(&old), Err(Lost { byte: 0 }));
        assert_eq!(ledger.judge_after_cut(&old), Ok(()));
        assert_eq!(ledger.judge(&new), Ok(()));
        ledger.cover(512, 88);
        assert_eq!(ledger.judge_after_cut(&old), Err(Lost { byte: 512 }));
        ledger.flush();
        assert_eq!(ledger.judge_after_cut(&old), Err(Lost { byte: 0 }));
        assert_eq!(ledger.judge_after_cut(&new), Ok(()));
    }

    #[test]
    fn what_failed_is_old_or_new_piece_by_piece_until_it_was_read() {
        let mut ledger = Ledger::new(1024);
        ledger.change(0, &[7; 1024], End::Open);
        let mut torn = vec![7; 1024];
        torn[512..].fill(0);
        assert_eq!(ledger.judge(&torn), Ok(()));
        assert_eq!(ledger.judge(&[7; 1024]), Err(Lost { byte: 512 }));
        let mut ledger = Ledger::on_a_sick_disk(1024);
        ledger.change(0, &[7; 1024], End::Open);
        assert_eq!((ledger.judge(&[7; 1024]), ledger.judge(&torn)), (Ok(()), Ok(())));
        torn[3] = 1;
        assert_eq!(ledger.judge_after_cut(&torn), Err(Lost { byte: 0 }), "neither old nor new");
    }
}
