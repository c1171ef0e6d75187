//! Every key of a volume, learnt without asking the daemon for it: its wrapped key is opened by a KMS of the test's own on
//! a copy of the store, everything else follows from `src/volume/FORMAT.md` and FIPS 197. The daemon's own break-glass
//! table then has to hold the same sector keys.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use envol::block::file::{Access, FileDevice};
use envol::crypto::derive::hkdf_expand;
use envol::kms::Principal;
use envol::kms::embedded::{Embedded, Identity};
use envol::volume::Unverified;

use crate::support::{command, must};

/// A secret and what it is.
#[derive(Clone)]
pub(crate) struct Known {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
}

fn known(name: impl Into<String>, bytes: &[u8]) -> Known {
    Known { name: name.into(), bytes: bytes.to_vec() }
}

/// The keys of the volume on `backing`, which has `scopes` scopes, and of its KMS in `state`.
pub(crate) fn of_volume(state: &Path, backing: &Path, scopes: u64) -> Vec<Known> {
    let copy = tempfile::tempdir().expect("a directory");
    must(&mut command(&["cp", "-r", &state.join("kms").to_string_lossy(), &copy.path().to_string_lossy()]));
    let (own_backing, own_key) = (copy.path().join("backing"), copy.path().join("domain.key"));
    must(command(&["cp", "--sparse=always"]).arg(backing).arg(&own_backing));
    must(command(&["cp", "-p"]).arg(state.join("domain.key")).arg(&own_key));

    let identity = Identity { account: "000000000000".into(), region: "us-east-1".into() };
    let kms = Embedded::open(&copy.path().join("kms"), &own_key, identity, Arc::new(SystemTime::now));
    let device = FileDevice::open(&own_backing, Access::ReadOnly).expect("opens");
    let header = Unverified::read(&device).expect("a volume");
    let root = Principal::root("000000000000");
    let data_key = header.unwrap_key(&kms.expect("opens"), &root).expect("unwraps");

    let domain_key = std::fs::read(&own_key).expect("readable");
    let mut found = vec![known("data key", data_key.expose()), known("domain key", &domain_key)];
    let mut derive = |name: String, label: &[u8]| {
        let mut key = [0; 64];
        hkdf_expand(data_key.expose(), label, &mut key);
        found.push(known(name, &key));
        key
    };
    derive("header MAC key".into(), b"envol 1 header mac");
    let scope = |number: u64| [b"envol 1 sector keys ".as_slice(), &number.to_le_bytes()].concat();
    let sector_keys: Vec<_> =
        (0..scopes).map(|number| derive(format!("sector key {number}"), &scope(number))).collect();
    for (number, key) in sector_keys.iter().enumerate() {
        found.extend(round_keys(number, key));
    }
    found
}

/// The sector keys in a dmsetup table, in order.
pub(crate) fn in_table(table: &str) -> Vec<Vec<u8>> {
    let hex = |text: &str| -> Vec<u8> {
        let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
        (0..text.len()).step_by(2).map(digit).collect()
    };
    table.lines().map(|line| hex(line.split(' ').nth(4).expect("a key"))).collect()
}

/// All round keys of a sector key: data, encrypting and decrypting, and tweak.
fn round_keys(number: usize, key: &[u8; 64]) -> Vec<Known> {
    let (data, tweak) = (expand(&key[..32]), expand(&key[32..]));
    let middle = data[1..14].iter().map(|round| inverse_mix_columns(*round)).collect::<Vec<_>>();
    let sets = [("encrypting", &data[..]), ("decrypting", &middle), ("tweak", &tweak[..])];
    let each = |(kind, keys): (&str, &[[u8; 16]])| {
        keys.iter()
            .enumerate()
            .map(|(at, key)| known(format!("{kind} round key {at} of {number}"), key))
            .collect::<Vec<_>>()
    };
    sets.into_iter().flat_map(each).collect()
}

/// FIPS 197, 5.2, for 32 bytes of key.
fn expand(key: &[u8]) -> [[u8; 16]; 15] {
    let substitute = substitution();
    let mut words: Vec<[u8; 4]> = key.chunks_exact(4).map(|word| word.try_into().expect("four bytes")).collect();
    let mut constant = 1;
    for at in 8..60 {
        let mut word = words[at - 1];
        if at % 8 == 0 {
            word.rotate_left(1);
        }
        if at % 4 == 0 {
            word = word.map(|byte| substitute[usize::from(byte)]);
        }
        if at % 8 == 0 {
            word[0] ^= constant;
            constant = times(constant, 2);
        }
        words.push(std::array::from_fn(|byte| word[byte] ^ words[at - 8][byte]));
    }
    std::array::from_fn(|round| words[4 * round..4 * round + 4].as_flattened().try_into().expect("sixteen bytes"))
}

/// FIPS 197, 5.3.3.
fn inverse_mix_columns(state: [u8; 16]) -> [u8; 16] {
    const FACTORS: [u8; 4] = [14, 11, 13, 9];
    std::array::from_fn(|at| {
        let (column, row) = (at / 4 * 4, at % 4);
        (0..4).fold(0, |sum, i| sum ^ times(state[column + i], FACTORS[(4 + i - row) % 4]))
    })
}

/// The product in the field of FIPS 197.
fn times(mut one: u8, mut other: u8) -> u8 {
    let mut product = 0;
    while other != 0 {
        product ^= if other & 1 == 1 { one } else { 0 };
        one = (one << 1) ^ if one & 0x80 == 0 { 0 } else { 0x1b };
        other >>= 1;
    }
    product
}

/// The substitution box of FIPS 197, 5.1.1.
fn substitution() -> [u8; 256] {
    std::array::from_fn(|byte| {
        let byte = u8::try_from(byte).expect("below 256");
        let inverse = (1..=255).find(|other| times(byte, *other) == 1).unwrap_or(0_u8);
        (1..5).fold(inverse ^ 0x63, |sum, by| sum ^ inverse.rotate_left(by))
    })
}

/// FIPS 197, A.3 and the key of C.3.
#[test]
fn the_round_keys_are_those_of_the_standard() {
    let key: Vec<u8> = (0..32).collect();
    let expanded = expand(&key);
    assert_eq!(expanded[14], 0x24fc_79cc_bf09_79e9_371a_c23c_6d68_de36_u128.to_be_bytes());
    let dkey_1 = inverse_mix_columns(expanded[13]);
    assert_eq!(dkey_1, 0x34f1_d1ff_bfce_aa2f_fce9_e25f_2558_016e_u128.to_be_bytes());
}
