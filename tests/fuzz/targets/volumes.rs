//! A volume, a KMS whose data keys follow from its seals, and images of its header: what the two header targets share.

#[path = "../../support/soft_kms.rs"]
mod soft_kms;

use std::sync::LazyLock;

use envol::block::memory::MemoryDevice;
use envol::crypto::digest;
use envol::kms::{KeyName, Principal};
use envol::units::{ByteCount, SectorSize};
use envol::volume::{self, CreateSpec, Rollback, Unverified, Verified, VolumeError};
pub(crate) use soft_kms::SoftKms;

const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/1";
/// Where the copies lie.
pub(crate) const PLACES: [usize; 2] = [0, 512 << 10];
/// Where the salt lies in a copy, and where the body does; the length of the MAC.
pub(crate) const SALT: usize = 48;
pub(crate) const PREFIX: usize = 112;
pub(crate) const MAC: usize = 64;

pub(crate) fn caller() -> Principal {
    Principal::new("arn:aws:iam::000000000000:root")
}

/// The copies of a header as they were written at two generations, and the image behind them.
pub(crate) struct Genuine {
    /// Copies of the older generation, and of the newer one.
    pub(crate) copies: [[Vec<u8>; 2]; 2],
    image: Vec<u8>,
}

/// A volume, and another of the same size under the same KMS key.
pub(crate) static VOLUMES: LazyLock<[Genuine; 2]> =
    LazyLock::new(|| ["0123456789abcdef0", "0123456789abcdef1"].map(make));

fn make(id: &str) -> Genuine {
    let spec = CreateSpec {
        id: format!("vol-{id}").parse().expect("an id"),
        name: "disk".parse().expect("a name"),
        size: ByteCount::new(4096),
        sector_size: SectorSize::B4096,
        scope: ByteCount::new(1 << 40),
        thick: false,
        kms: "embedded".to_owned(),
        key: KeyName::new(ARN),
    };
    let device = MemoryDevice::new(volume::backing_size(spec.size).expect("small"));
    let mut verified = volume::create(&device, &SoftKms(0), &caller(), &spec, &mut |_, _| true).expect("made");
    let older = copies(&device.contents());
    verified.begin_generation(&device).expect("written");
    let image = device.contents();
    Genuine { copies: [older, copies(&image)], image }
}

fn copies(image: &[u8]) -> [Vec<u8>; 2] {
    PLACES.map(|place| {
        let length = u32::from_le_bytes(image[place + 12..place + 16].try_into().expect("four bytes"));
        image[place..place + PREFIX + usize::try_from(length).expect("small") + MAC].to_vec()
    })
}

impl Genuine {
    /// A backing with these copies, each cut where its place ends.
    pub(crate) fn backing(&self, copies: [&[u8]; 2]) -> MemoryDevice {
        let mut image = self.image.clone();
        for (place, copy) in PLACES.into_iter().zip(copies) {
            let copy = &copy[..copy.len().min(16 << 10)];
            image[place..place + (16 << 10)].fill(0);
            image[place..place + copy.len()].copy_from_slice(copy);
        }
        MemoryDevice::holding(&image, true)
    }
}

/// Reads, unwraps and verifies.
pub(crate) fn open(device: &MemoryDevice, kms: &SoftKms) -> Result<Verified, VolumeError> {
    let unverified = Unverified::read(device)?;
    let data_key = unverified.unwrap_key(kms, &caller())?;
    unverified.verify(data_key, None, Rollback::Refuse).map(|(verified, _)| verified)
}

/// Puts the checksum of a copy right, as an attacker without any key can.
pub(crate) fn put_checksum_right(copy: &mut [u8]) {
    let Some(length) = copy.get(12..16).map(|length| u32::from_le_bytes(length.try_into().expect("four bytes"))) else {
        return;
    };
    let end = PREFIX.saturating_add(usize::try_from(length).expect("64 bits"));
    if copy.len() >= PREFIX && end <= copy.len() {
        let checksum = digest::sha256(&[&copy[..80], &copy[PREFIX..end]]);
        copy[80..PREFIX].copy_from_slice(&checksum);
    }
}
