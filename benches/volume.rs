//! What the volume core costs over what is below it: the device alone, device and cipher called by hand (no locks, no
//! wiped keys, no holes to be seen), and the core, in memory and on a file (of tmpfs, where there is one).
//!
//! `cargo bench --bench volume`; the volume is a real one, made through an embedded KMS.

use std::fmt;
use std::path::Path;
use std::time::SystemTime;

use divan::Bencher;
use divan::counter::BytesCount;
use envol::block::file::{FileDevice, Space};
use envol::block::memory::MemoryDevice;
use envol::block::{BlockDevice, BlockDeviceExt, Durability, Io, Op, Patience};
use envol::crypto::xts::XtsKey;
use envol::kms::embedded::{Embedded, Identity};
use envol::kms::{KeyName, Principal};
use envol::names::VolumeId;
use envol::secret::Secret;
use envol::sync::Arc;
use envol::units::{ByteCount, ByteOffset, SectorSize};
use envol::volume::{self, CreateSpec, EncryptedDevice, Rollback, Unverified};

/// Bytes in the volume: more than most caches of a core hold, so that large requests meet memory.
const SIZE: u64 = 32 << 20;

/// How much lies before the data.
const BASE: u64 = 1 << 20;

const SMALL: usize = 4 << 10;
const LARGE: usize = 256 << 10;

/// Where the bytes lie.
const DEVICES: [Kind; 2] = [Kind::Memory, Kind::File];

fn main() {
    divan::main();
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Memory,
    File,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memory => "memory",
            Self::File => "file",
        })
    }
}

/// A volume, what is below it, and a key for the cipher by hand.
struct Set {
    below: Arc<dyn BlockDevice>,
    core: EncryptedDevice,
    key: XtsKey,
    _dir: tempfile::TempDir,
}

impl Set {
    /// A volume full of noise, or one that is a single hole.
    fn new(kind: Kind, full: bool) -> Self {
        let shared = Path::new("/dev/shm");
        let parent = if shared.is_dir() { shared.to_owned() } else { std::env::temp_dir() };
        let dir = tempfile::tempdir_in(parent).expect("a directory");
        let length = volume::backing_size(ByteCount::new(SIZE)).expect("small");
        let below: Arc<dyn BlockDevice> = match kind {
            Kind::Memory => Arc::new(MemoryDevice::new(length)),
            Kind::File => Arc::new(FileDevice::create(&dir.path().join("v"), length, Space::Thin).expect("a file")),
        };
        let core = make(dir.path(), &below);
        if full {
            let mut noise = vec![0; LARGE];
            for at in (0..SIZE).step_by(LARGE) {
                envol::crypto::random::fill(&mut noise);
                core.write_at(ByteOffset::new(at), &mut noise, Durability::Cached).expect("written");
            }
        }
        let key = Secret::filled_by(|bytes| envol::crypto::random::fill(bytes)).expect("locked memory");
        Self { below, core, key: XtsKey::new(&key).expect("a good key"), _dir: dir }
    }
}

/// A thin volume of [`SIZE`] on `below`, open.
fn make(dir: &Path, below: &Arc<dyn BlockDevice>) -> EncryptedDevice {
    let caller = Principal::new("arn:aws:iam::000000000000:root");
    let identity = Identity { account: "000000000000".to_owned(), region: "us-east-1".to_owned() };
    let kms = Embedded::open(&dir.join("kms"), &dir.join("domain.key"), identity, Arc::new(SystemTime::now));
    let kms = kms.expect("a KMS");
    let key: KeyName = kms.create_key(&caller, "", None).expect("a key").arn.into();
    let spec = CreateSpec {
        id: VolumeId::from_random([7; 9]),
        name: "bench".parse().expect("a name"),
        size: ByteCount::new(SIZE),
        sector_size: SectorSize::B4096,
        scope: ByteCount::new(1 << 40),
        thick: false,
        kms: "embedded".to_owned(),
        key,
    };
    volume::create(below, &kms, &caller, &spec, &mut |_, _| true).expect("made");
    let unverified = Unverified::read(below).expect("read");
    let data_key = unverified.unwrap_key(&kms, &caller).expect("unwrapped");
    let (verified, keys) = unverified.verify(data_key, None, Rollback::Refuse).expect("verified");
    EncryptedDevice::new(Arc::clone(below), &verified, keys)
}

/// Goes round the volume in steps of `length`.
fn places(length: usize) -> impl FnMut() -> ByteOffset {
    let mut at = 0;
    let step = length as u64;
    move || {
        at = (at + step) % (SIZE - SIZE % step);
        ByteOffset::new(at)
    }
}

fn below(at: ByteOffset) -> ByteOffset {
    ByteOffset::new(BASE + at.get())
}

fn each(bencher: Bencher<'_, '_>, length: usize, mut request: impl FnMut(ByteOffset, &mut [u8])) {
    let (mut next, mut data) = (places(length), vec![0x5a; length]);
    bencher.counter(BytesCount::new(length)).bench_local(|| request(next(), &mut data));
}

#[divan::bench_group]
mod read {
    use super::*;

    #[divan::bench(args = DEVICES, consts = [SMALL, LARGE])]
    fn device_alone<const LENGTH: usize>(bencher: Bencher<'_, '_>, kind: Kind) {
        let set = Set::new(kind, true);
        each(bencher, LENGTH, |at, data| set.below.read_at(below(at), data).expect("read"));
    }

    #[divan::bench(args = DEVICES, consts = [SMALL, LARGE])]
    fn device_and_cipher_by_hand<const LENGTH: usize>(bencher: Bencher<'_, '_>, kind: Kind) {
        let set = Set::new(kind, true);
        each(bencher, LENGTH, |at, data| {
            set.below.read_at(below(at), data).expect("read");
            set.key.decrypt(SectorSize::B4096, at.piece(), data);
        });
    }

    #[divan::bench(args = DEVICES, consts = [SMALL, LARGE])]
    fn core<const LENGTH: usize>(bencher: Bencher<'_, '_>, kind: Kind) {
        let set = Set::new(kind, true);
        each(bencher, LENGTH, |at, data| set.core.read_at(at, data).expect("read"));
    }

    #[divan::bench(args = DEVICES, consts = [SMALL, LARGE])]
    fn core_over_a_hole<const LENGTH: usize>(bencher: Bencher<'_, '_>, kind: Kind) {
        let set = Set::new(kind, false);
        each(bencher, LENGTH, |at, data| set.core.read_at(at, data).expect("read"));
    }
}

#[divan::bench_group]
mod write {
    use super::*;

    #[divan::bench(args = DEVICES, consts = [SMALL, LARGE])]
    fn device_alone<const LENGTH: usize>(bencher: Bencher<'_, '_>, kind: Kind) {
        let set = Set::new(kind, true);
        each(bencher, LENGTH, |at, data| {
            set.below.write_at(below(at), data, Durability::Cached).expect("written");
        });
    }

    #[divan::bench(args = DEVICES, consts = [SMALL, LARGE])]
    fn device_and_cipher_by_hand<const LENGTH: usize>(bencher: Bencher<'_, '_>, kind: Kind) {
        let set = Set::new(kind, true);
        each(bencher, LENGTH, |at, data| {
            set.key.encrypt(SectorSize::B4096, at.piece(), data);
            set.below.write_at(below(at), data, Durability::Cached).expect("written");
        });
    }

    #[divan::bench(args = DEVICES, consts = [SMALL, LARGE])]
    fn core<const LENGTH: usize>(bencher: Bencher<'_, '_>, kind: Kind) {
        let set = Set::new(kind, true);
        each(bencher, LENGTH, |at, data| set.core.write_at(at, data, Durability::Cached).expect("written"));
    }

    /// From a byte in the middle of a piece: read, decrypted, changed, encrypted and written under the lock.
    #[divan::bench(args = DEVICES, consts = [100, SMALL])]
    fn core_crooked<const LENGTH: usize>(bencher: Bencher<'_, '_>, kind: Kind) {
        let set = Set::new(kind, true);
        let request = |at: ByteOffset, data: &mut [u8]| {
            let crooked = ByteOffset::new(at.get().min(SIZE - 2 * SMALL as u64) / 512 * 512 + 77);
            set.core.write_at(crooked, data, Durability::Cached).expect("written");
        };
        each(bencher, LENGTH, request);
    }
}

/// 4 KiB requests on a file, so many in a batch.
#[divan::bench_group]
mod batches {
    use super::*;

    const SIZES: [usize; 3] = [1, 8, 32];

    fn run(bencher: Bencher<'_, '_>, count: usize, device: &dyn BlockDevice, base: u64, write: bool) {
        let (mut next, mut memory) = (places(SMALL), vec![0x5a; SMALL * count]);
        bencher.counter(BytesCount::new(SMALL * count)).bench_local(|| {
            let operation = |data| {
                let at = ByteOffset::new(base + next().get());
                Io::new(
                    if write {
                        Op::Write { at, from: data, durability: Durability::Cached }
                    } else {
                        Op::Read { at, into: data }
                    },
                    0,
                )
            };
            let mut batch: Vec<Io<'_>> = memory.chunks_mut(SMALL).map(operation).collect();
            device.submit(&mut batch, Patience::MayBlock, &mut |_| ());
            batch.iter().all(|io| io.outcome() == Some(Ok(())))
        });
    }

    #[divan::bench(args = SIZES)]
    fn read_device_alone(bencher: Bencher<'_, '_>, count: usize) {
        run(bencher, count, &Set::new(Kind::File, true).below, BASE, false);
    }

    #[divan::bench(args = SIZES)]
    fn read_core(bencher: Bencher<'_, '_>, count: usize) {
        run(bencher, count, &Set::new(Kind::File, true).core, 0, false);
    }

    #[divan::bench(args = SIZES)]
    fn write_device_alone(bencher: Bencher<'_, '_>, count: usize) {
        run(bencher, count, &Set::new(Kind::File, true).below, BASE, true);
    }

    #[divan::bench(args = SIZES)]
    fn write_core(bencher: Bencher<'_, '_>, count: usize) {
        run(bencher, count, &Set::new(Kind::File, true).core, 0, true);
    }
}
