//! Random requests against OpenSSL and the `xts-mode` crate, which both know whole sectors only.

use std::ops::Range;

use aes::Aes256;
use aes::cipher::KeyInit;
use envol::crypto::xts::{Engine, KeyRefused, XtsKey};
use envol::secret::Secret;
use envol::units::{PieceNumber, SectorSize};
use openssl::cipher::Cipher;
use openssl::cipher_ctx::CipherCtx;

use crate::support::{Numbers, on_every_engine};

const SIZES: [SectorSize; 2] = [SectorSize::B512, SectorSize::B4096];

fn bytes(sectors: SectorSize) -> usize {
    usize::try_from(sectors.bytes()).expect("small")
}

/// `data` encrypted by OpenSSL, from sector `first` on.
fn openssl_encrypts(key: &[u8; 64], sectors: SectorSize, first: u64, data: &[u8]) -> Vec<u8> {
    let mut context = CipherCtx::new().expect("a context");
    context.encrypt_init(Some(Cipher::aes_256_xts()), Some(key), None).expect("the key is taken");
    let mut sealed = vec![0; data.len()];
    let pairs = data.chunks(bytes(sectors)).zip(sealed.chunks_mut(bytes(sectors)));
    for (number, (plain, sealed)) in pairs.enumerate() {
        let tweak = u128::from(first + number as u64).to_le_bytes();
        context.encrypt_init(None, None, Some(&tweak)).expect("the tweak is taken");
        assert_eq!(context.cipher_update(plain, Some(sealed)).expect("encrypts"), plain.len());
    }
    sealed
}

/// `data` encrypted by the `xts-mode` crate, from sector `first` on.
fn xts_mode_encrypts(key: &[u8; 64], sectors: SectorSize, first: u64, data: &[u8]) -> Vec<u8> {
    let half = |part: &[u8]| Aes256::new_from_slice(part).expect("32 bytes");
    let mut sealed = data.to_vec();
    let cipher = xts_mode::Xts128::new(half(&key[..32]), half(&key[32..]));
    cipher.encrypt_area(&mut sealed, bytes(sectors), first.into(), xts_mode::get_tweak_default);
    sealed
}

/// The pieces `part` of a run of sectors, both ways, on one engine; `plain` and `sealed` are the whole sectors.
fn assert_part(
    key: &(Engine, XtsKey),
    sectors: SectorSize,
    first_sector: u64,
    part: Range<usize>,
    [plain, sealed]: [&[u8]; 2],
) {
    let (engine, key) = key;
    let first = PieceNumber::new(first_sector * sectors.pieces() + part.start as u64);
    let place = part.start * 512..part.end * 512;
    let (plain, sealed) = (&plain[place.clone()], &sealed[place]);
    let what = format!("{engine}, pieces {part:?} from {first_sector} of {sectors:?}");
    let mut data = plain.to_vec();
    key.encrypt(sectors, first, &mut data);
    assert!(data == sealed, "encrypted in place by {what}");
    key.decrypt(sectors, first, &mut data);
    assert!(data == plain, "decrypted in place by {what}");
    data.fill(0xa5);
    key.encrypt_into(sectors, first, plain, &mut data);
    assert!(data == sealed, "encrypted into another buffer by {what}");
    data.fill(0xa5);
    key.decrypt_into(sectors, first, sealed, &mut data);
    assert!(data == plain, "decrypted into another buffer by {what}");
}

/// Sector numbers where a carry, a sign or a truncation would show, as far as their pieces have numbers.
fn telling_numbers(sectors: SectorSize) -> Vec<u64> {
    let last = u64::MAX / sectors.pieces();
    let around = |number: u64| (number.saturating_sub(100)..).step_by(50).take(5);
    let powers = [0, 1 << 31, 1 << 32, 1 << 33, 1 << 60, 1 << 63];
    powers.into_iter().flat_map(around).chain([1, (1 << 32) - 1, last - 200]).filter(|n| *n <= last - 200).collect()
}

#[test]
fn a_hundred_thousand_random_sectors_of_each_size_are_what_both_oracles_make_of_them() {
    const SECTORS: usize = 100_000;
    const AT_ONCE: usize = 200;
    let mut numbers = Numbers::seeded();
    for sectors in SIZES {
        let telling = telling_numbers(sectors);
        let mut plain = vec![0; AT_ONCE * bytes(sectors)];
        for round in 0..SECTORS / AT_ONCE {
            let key = numbers.key();
            let random = numbers.below(u64::MAX / sectors.pieces() - AT_ONCE as u64);
            let first = telling.get(round).copied().unwrap_or(random);
            numbers.fill(&mut plain);
            let sealed = openssl_encrypts(&key, sectors, first, &plain);
            assert!(xts_mode_encrypts(&key, sectors, first, &plain) == sealed, "the oracles agree");
            for key in &on_every_engine(&key) {
                assert_part(key, sectors, first, 0..plain.len() / 512, [&plain, &sealed]);
            }
        }
    }
}

#[test]
fn requests_of_one_to_two_hundred_pieces_may_start_anywhere_in_a_sector() {
    let mut numbers = Numbers::seeded();
    for sectors in SIZES {
        let per_sector = usize::try_from(sectors.pieces()).expect("small");
        let mut plain = vec![0; 208 * 512];
        numbers.fill(&mut plain);
        let (key, first) = (numbers.key(), numbers.below(1 << 40));
        let sealed = openssl_encrypts(&key, sectors, first, &plain);
        for key in &on_every_engine(&key) {
            for (count, start) in (1..=200).flat_map(|count| (0..per_sector).map(move |start| (count, start))) {
                assert_part(key, sectors, first, start..start + count, [&plain, &sealed]);
            }
        }
    }
}

#[test]
fn every_number_of_large_sectors_around_a_batch_may_start_and_end_anywhere_in_a_sector() {
    let mut numbers = Numbers::seeded();
    let sectors = SectorSize::B4096;
    let mut plain = vec![0; 131 * 4096];
    numbers.fill(&mut plain);
    let (key, first) = (numbers.key(), numbers.below(1 << 40));
    let sealed = openssl_encrypts(&key, sectors, first, &plain);
    for key in &on_every_engine(&key) {
        for (count, head) in (1..=70).chain(126..=131).flat_map(|count| (0..8).map(move |head| (count, head))) {
            let tail = (3 * head + count) % 8;
            if head + tail < 8 * count {
                assert_part(key, sectors, first, head..8 * count - tail, [&plain, &sealed]);
            }
        }
    }
}

#[test]
fn a_single_piece_is_the_piece_of_its_whole_sector() {
    let mut numbers = Numbers::seeded();
    for (sectors, first) in SIZES.into_iter().flat_map(|s| telling_numbers(s).into_iter().map(move |n| (s, n))) {
        let mut plain = vec![0; 2 * bytes(sectors)];
        numbers.fill(&mut plain);
        let key = numbers.key();
        let sealed = openssl_encrypts(&key, sectors, first, &plain);
        for key in &on_every_engine(&key) {
            for piece in 0..plain.len() / 512 {
                assert_part(key, sectors, first, piece..piece + 1, [&plain, &sealed]);
            }
        }
    }
}

#[test]
fn the_last_piece_that_has_a_number_can_be_encrypted() {
    let key = Numbers::seeded().key();
    let zeros = [0; 4096];
    for sectors in SIZES {
        let sector = u64::MAX / sectors.pieces();
        let sealed = openssl_encrypts(&key, sectors, sector, &zeros[..bytes(sectors)]);
        for (engine, key) in on_every_engine(&key) {
            let mut piece = [0; 512];
            key.encrypt(sectors, PieceNumber::new(u64::MAX), &mut piece);
            assert_eq!(piece, sealed[sealed.len() - 512..], "{engine}");
        }
    }
}

#[test]
fn units_of_any_number_of_blocks_are_what_openssl_makes_of_them() {
    let mut numbers = Numbers::seeded();
    let (key, mut tweak, mut plain) = (numbers.key(), [0; 16], vec![0; 16 * 140]);
    numbers.fill(&mut tweak);
    numbers.fill(&mut plain);
    for blocks in 1..=140 {
        let plain = &plain[..16 * blocks];
        let sealed = openssl::symm::encrypt(openssl::symm::Cipher::aes_256_xts(), &key, Some(&tweak), plain);
        let sealed = sealed.expect("openssl encrypts");
        for (engine, key) in on_every_engine(&key) {
            let mut data = plain.to_vec();
            key.encrypt_unit(tweak, &mut data);
            assert!(data == sealed, "{engine} encrypts {blocks} blocks");
            key.decrypt_unit(tweak, &mut data);
            assert!(data == plain, "{engine} decrypts {blocks} blocks");
        }
    }
}

#[test]
fn every_engine_refuses_a_key_with_equal_halves() {
    for engine in Engine::available() {
        for byte in [0, 0x5a] {
            let secret = Secret::filled_by(|key| key.fill(byte)).expect("memory locks");
            assert_eq!(XtsKey::with_engine(&secret, engine).err(), Some(KeyRefused::EqualHalves), "{engine}");
            assert_eq!(XtsKey::new(&secret).err(), Some(KeyRefused::EqualHalves));
        }
        let nearly = Secret::filled_by(|key| key[63] = 1).expect("memory locks");
        assert!(XtsKey::with_engine(&nearly, engine).is_ok(), "{engine}: one bit is a difference");
    }
}

#[test]
fn a_request_that_is_not_whole_pieces_panics_and_an_empty_one_is_nothing() {
    for (engine, key) in on_every_engine(&Numbers::seeded().key()) {
        key.encrypt(SectorSize::B4096, PieceNumber::new(3), &mut []);
        let cut = std::panic::catch_unwind(|| key.encrypt(SectorSize::B4096, PieceNumber::new(3), &mut [0; 513]));
        assert!(cut.is_err(), "{engine}");
        assert!(std::panic::catch_unwind(|| key.decrypt_unit([0; 16], &mut [0; 17])).is_err(), "{engine}");
        for (from, into) in [(512, 1024), (1024, 512), (512, 511), (513, 513)] {
            let into = &mut vec![0; into];
            let between = || key.encrypt_into(SectorSize::B512, PieceNumber::new(3), &vec![0; from], into);
            let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(between));
            assert!(refused.is_err(), "{engine}: {from}");
        }
    }
}
