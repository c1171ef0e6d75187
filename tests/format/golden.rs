//! Golden images: what version 1 wrote once must open for ever, and mean the same bytes.
//!
//! With `ENVOL_WRITE_GOLDEN` in the environment, images that are not kept yet are written first: for a new version, run
//! once. An image that is kept is never written again.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Once};

use envol::block::memory::MemoryDevice;
use envol::block::{BlockDeviceExt, Durability};
use envol::units::{ByteCount, ByteOffset, SectorSize};
use envol::volume::{CreateSpec, EncryptedDevice, Rollback};

use crate::support::{FakeKms, ID, PLACES, copy, device_for, make, open, open_device, spec};

/// How much data an image keeps, from where in the volume.
const SAMPLE: usize = 8192;

struct Golden {
    name: &'static str,
    spec: CreateSpec,
    /// In the middle of a scope boundary where there is one.
    sample_at: u64,
}

fn all() -> [Golden; 3] {
    let scopes = CreateSpec {
        size: ByteCount::new((2 << 20) + 512),
        sector_size: SectorSize::B512,
        scope: ByteCount::new(1 << 20),
        ..spec(ID)
    };
    [
        Golden { name: "v1-thin-4096", spec: spec(ID), sample_at: 4096 },
        Golden { name: "v1-thin-512-scopes", spec: scopes, sample_at: (1 << 20) - 4096 },
        Golden { name: "v1-thick-4096", spec: CreateSpec { thick: true, ..spec(ID) }, sample_at: 0 },
    ]
}

/// The images that are kept.
fn kept() -> [Golden; 3] {
    static WRITTEN: Once = Once::new();
    if env::var_os("ENVOL_WRITE_GOLDEN").is_some() {
        WRITTEN.call_once(|| all().iter().for_each(write));
    }
    all()
}

fn write(golden: &Golden) {
    let device = Arc::new(MemoryDevice::holding(&make(&golden.spec), false));
    let opened = open_device(&*device, &FakeKms::HONEST, None, Rollback::Refuse);
    let (verified, keys) = opened.unwrap_or_else(|error| panic!("{error}"));
    let volume = EncryptedDevice::new(device.clone(), &verified, keys);
    volume.write_at(ByteOffset::new(golden.sample_at), &mut plaintext(), Durability::Cached).expect("writes");
    let image = device.contents();
    let sample = (1 << 20) + golden.sample_at as usize;
    let parts = [("copy-a", copy(&image, 0)), ("copy-b", copy(&image, 1)), ("sample", sample..sample + SAMPLE)];
    for (name, range) in parts.into_iter().filter(|(name, _)| !path(golden, name).exists()) {
        fs::write(path(golden, name), &image[range]).expect("writes");
    }
}

fn path(golden: &Golden, part: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/format/golden").join(format!("{}.{part}", golden.name))
}

fn part(golden: &Golden, part: &str) -> Vec<u8> {
    fs::read(path(golden, part)).expect("golden images are kept")
}

fn plaintext() -> Vec<u8> {
    (0..SAMPLE).map(|place| (place ^ (place >> 8)) as u8).collect()
}

/// The backing that an image stands for.
fn assembled(golden: &Golden, copies: &[usize]) -> MemoryDevice {
    let device = device_for(&golden.spec);
    let put = |place: u64, mut bytes: Vec<u8>| {
        device.write_at(ByteOffset::new(place), &mut bytes, Durability::Cached).expect("writes");
    };
    for which in copies {
        put(PLACES[*which] as u64, part(golden, ["copy-a", "copy-b"][*which]));
    }
    put((1 << 20) + golden.sample_at, part(golden, "sample"));
    device
}

#[test]
fn every_golden_image_opens_from_either_copy_and_reads_as_written() {
    for golden in kept() {
        for copies in [&[0, 1][..], &[0], &[1]] {
            let device = Arc::new(assembled(&golden, copies));
            let opened = open_device(&*device, &FakeKms::HONEST, None, Rollback::Refuse);
            let (verified, keys) = opened.unwrap_or_else(|error| panic!("{} {copies:?}: {error}", golden.name));
            let header = verified.header();
            let shape = (header.size, header.sector_size, header.scope, header.thick);
            let (made, id) = (&golden.spec, golden.spec.id.clone());
            assert_eq!(shape, (made.size, made.sector_size, made.scope, made.thick), "{}", golden.name);
            assert_eq!((&header.id, verified.identity().1), (&id, 1));
            let mut bytes = vec![0; SAMPLE];
            let volume = EncryptedDevice::new(device, &verified, keys);
            volume.read_at(ByteOffset::new(golden.sample_at), &mut bytes).expect("reads");
            assert!(bytes == plaintext(), "{}", golden.name);
        }
    }
}

#[test]
fn a_new_volume_differs_from_its_golden_image_in_salt_checksum_and_mac_only() {
    for golden in kept() {
        let mut image = make(&golden.spec);
        for which in [0, 1] {
            let range = copy(&image, which);
            let kept = part(&golden, ["copy-a", "copy-b"][which]);
            assert_eq!(range.len(), kept.len());
            let new = &mut image[range];
            let mac = new.len() - 64;
            new[48..112].copy_from_slice(&kept[48..112]);
            new[mac..].copy_from_slice(&kept[mac..]);
            assert!(new == kept, "{}", golden.name);
        }
        assert!(open(&image).is_ok(), "salt, checksum and MAC belong together");
    }
}
