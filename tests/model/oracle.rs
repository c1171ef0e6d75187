//! The ciphertext on the backing, against keys and a cipher that OpenSSL makes by FORMAT.md.

use envol::block::{BlockDeviceExt, Durability};
use envol::units::{ByteCount, ByteOffset, Extent, SectorSize};
use openssl::md::Md;
use openssl::pkey::Id;
use openssl::pkey_ctx::{HkdfMode, PkeyCtx};
use openssl::symm::{Cipher, Crypter, Mode};

use crate::support::{DATA_KEY, Shape, open};

const SIZE: u64 = 3 << 20;
const DATA: usize = 1 << 20;

fn derive(label: &[u8]) -> [u8; 64] {
    let mut context = PkeyCtx::new_id(Id::HKDF).expect("a context");
    context.derive_init().expect("starts");
    context.set_hkdf_mode(HkdfMode::EXPAND_ONLY).expect("a mode");
    context.set_hkdf_md(Md::sha512()).expect("a digest");
    context.set_hkdf_key(&DATA_KEY).expect("a key");
    context.add_hkdf_info(label).expect("a label");
    let mut out = [0; 64];
    context.derive(Some(&mut out)).expect("derives");
    out
}

/// Encrypts a whole volume sector by sector.
fn encrypted(plain: &[u8], sectors: SectorSize) -> Vec<u8> {
    let size = sectors.bytes() as usize;
    let mut all = Vec::new();
    for (number, sector) in plain.chunks(size).enumerate() {
        let scope = (number * size / (1 << 20)) as u64;
        let key = derive(&[&b"envol 1 sector keys "[..], &scope.to_le_bytes()].concat());
        let tweak = (number as u128).to_le_bytes();
        let mut cipher = Crypter::new(Cipher::aes_256_xts(), Mode::Encrypt, &key, Some(&tweak)).expect("a cipher");
        let mut out = vec![0; size + 16];
        let length = cipher.update(sector, &mut out).expect("encrypts");
        all.extend_from_slice(&out[..length]);
    }
    all
}

fn plaintext() -> Vec<u8> {
    (0..SIZE).map(|place| (place as u8) ^ (place >> 8) as u8 ^ (place >> 16) as u8).collect()
}

#[test]
fn what_lies_on_the_backing_is_what_openssl_makes_by_the_format() {
    for sectors in [SectorSize::B512, SectorSize::B4096] {
        let backing = Shape { size: SIZE, sectors, thick: false }.make();
        let device = open(backing.clone());
        device.write_at(ByteOffset::ZERO, &mut plaintext(), Durability::Cached).expect("writes");
        assert!(backing.contents()[DATA..] == encrypted(&plaintext(), sectors), "{sectors:?}");
    }
}

#[test]
fn writes_of_a_piece_at_a_time_give_the_ciphertext_of_whole_sectors() {
    let backing = Shape { size: SIZE, sectors: SectorSize::B4096, thick: false }.make();
    let device = open(backing.clone());
    let plain = plaintext();
    for (number, piece) in plain.chunks(512).enumerate().rev() {
        device.write_at(ByteOffset::new(512 * number as u64), &mut piece.to_vec(), Durability::Cached).expect("writes");
    }
    assert!(backing.contents()[DATA..] == encrypted(&plain, SectorSize::B4096));
}

#[test]
fn a_thick_volume_and_a_filled_one_hold_encrypted_zeros() {
    for sectors in [SectorSize::B512, SectorSize::B4096] {
        let zeros = encrypted(&vec![0; SIZE as usize], sectors);
        let thick = Shape { size: SIZE, sectors, thick: true }.make();
        assert!(thick.contents()[DATA..] == zeros, "{sectors:?}");
        let thin = Shape { size: SIZE, sectors, thick: false }.make();
        let device = open(thin.clone());
        let mut told = Vec::new();
        device
            .fill(&mut |done, all| {
                told.push((done.get(), all.get()));
                true
            })
            .expect("fills");
        assert!(thin.contents()[DATA..] == zeros, "{sectors:?}");
        assert_eq!(told.last(), Some(&(SIZE, SIZE)));
    }
}

#[test]
fn a_new_thin_volume_takes_no_space_and_a_trimmed_one_gives_it_back() {
    let backing = Shape { size: SIZE, sectors: SectorSize::B4096, thick: false }.make();
    let headers = backing.allocated();
    assert!(headers <= ByteCount::new(4 * 4096));
    let device = open(backing.clone());
    device.write_at(ByteOffset::ZERO, &mut plaintext(), Durability::Cached).expect("writes");
    assert_eq!(backing.allocated().get(), headers.get() + SIZE);
    device.zero(Extent::new(ByteOffset::ZERO, ByteCount::new(SIZE)).expect("small")).expect("zeroes");
    assert_eq!(backing.allocated(), headers);
}
