//! One copy of a volume's header, the other one absent: it is what was written, or it does not open.

use std::ops::Range;

use envol::volume::{Backup, Unverified};

use super::volumes::{MAC, PREFIX, SALT, SoftKms, VOLUMES, open, put_checksum_right};
use super::{Input, edit};

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    let genuine = &VOLUMES[0].copies[1][0];
    let mut copy = genuine.clone();
    if mode & 1 == 0 {
        edit(&mut copy, &mut input);
    } else {
        copy = input.0.to_vec();
    }
    if mode & 2 != 0 {
        put_checksum_right(&mut copy);
    }
    if let Ok(kept) = Backup::decode(&copy) {
        let again = Backup::decode(&copy).expect("as before");
        assert_eq!((kept.header(), kept.generation()), (again.header(), again.generation()));
    }
    let device = VOLUMES[0].backing([&copy, &[]]);
    if let Ok(unverified) = Unverified::read(&device) {
        let bytes = unverified.back_up();
        assert!(copy.starts_with(&bytes), "what was read is written as it was");
        let kept = Backup::decode(&bytes).expect("what was read can be read again");
        assert_eq!(kept.header(), unverified.header());
    }
    let opens = open(&device, &SoftKms(0)).is_ok();
    // A header that an earlier run has sealed, and the corpus keeps, differs in its salt, and so in checksum and MAC. Another
    // volume's is a volume, too, wherever it lies: whose it is, the record says.
    let mut sealed = VOLUMES.iter().flat_map(|volume| volume.copies.iter().flatten());
    assert!(!opens || sealed.any(|sealed| says_as_much(&copy, sealed)), "only what the data key has sealed opens");
    assert!(opens || !copy.starts_with(genuine), "and that does");
    assert!(open(&device, &SoftKms(1)).is_err(), "and by no other KMS");
}

/// Whether `copy` holds the same prefix and body as `sealed`, whatever the salt.
fn says_as_much(copy: &[u8], sealed: &[u8]) -> bool {
    let same = |range: Range<usize>| copy.get(range.clone()) == sealed.get(range);
    same(0..SALT) && same(PREFIX..sealed.len() - MAC)
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let [[older, _], [newer, _]] = &VOLUMES[0].copies;
    let other = &VOLUMES[1].copies[0][1];
    let raw = [older, newer, other].into_iter().flat_map(|copy| [1, 3].map(|mode| [&[mode], &copy[..]].concat()));
    let edits = [0_u8, 2].into_iter().flat_map(|mode| {
        let of = move |at: u8| vec![mode, 0, 0, 0, 0, at, 9];
        [8, 12, 16, 24, 32, 40, 48, 80, 112, 200].map(of)
    });
    raw.chain(edits).chain([vec![0]]).collect()
}
