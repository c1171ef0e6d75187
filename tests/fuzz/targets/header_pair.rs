//! Both copies of a volume's header, edited, of any generation and of another volume: what opens is a header that was
//! written, and one whole copy is enough where the other was damaged by chance.

use std::collections::BTreeSet;

use super::volumes::{SoftKms, VOLUMES, open, put_checksum_right};
use super::{Input, edit};

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let (mut forged, mut volumes) = (false, BTreeSet::new());
    let copies = [0, 1].map(|place| {
        let choice = input.byte();
        let (volume, generation) = (usize::from(choice & 1), usize::from(choice >> 1 & 1));
        volumes.insert(volume);
        let mut copy = VOLUMES[volume].copies[generation][place].clone();
        if choice & 4 != 0 {
            edit(&mut copy, &mut input);
        }
        if choice & 8 != 0 {
            forged = true;
            put_checksum_right(&mut copy);
        }
        copy
    });
    let device = VOLUMES[0].backing([&copies[0], &copies[1]]);
    let written = |copy: &[u8]| {
        let all = VOLUMES.iter().flat_map(|volume| volume.copies.iter().enumerate());
        let mut found = all.filter(|(_, copies)| copies.iter().any(|written| copy.starts_with(written)));
        found.next().map(|(generation, _)| generation)
    };
    let whole = copies.each_ref().map(|copy| written(copy));
    match open(&device, &SoftKms(0)) {
        Ok(verified) => {
            let (_, generation, _) = verified.identity();
            let known: Vec<u64> =
                whole.iter().flatten().map(|generation| 1 + u64::try_from(*generation).expect("small")).collect();
            assert!(known.contains(&generation), "a generation that neither copy was written with opens");
        }
        Err(error) => {
            assert!(
                forged || volumes.len() == 2 || whole == [None, None],
                "one copy is whole, and it does not open: {error}"
            );
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let plain = (0..16).map(|choice| vec![choice & 3, choice >> 2]);
    let damaged = [8_u8, 12, 16, 24, 32, 40, 48, 80, 112, 250]
        .into_iter()
        .flat_map(|at| [4_u8, 6, 12, 14].map(|choice| vec![choice, 0, 0, 0, 0, at, 7, 2]));
    plain.chain(damaged).collect()
}
