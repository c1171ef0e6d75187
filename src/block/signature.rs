//! What a backing already holds, asked before a volume is made on it: envol's own header, the mark of something else, or
//! merely bytes that are not zero.
//!
//! Marks are data: a name, places and the bytes there. A disk that carries no mark known here may still hold data, so
//! what is allocated is read as well, all of it up to a bound and evenly spread samples past that. It is a question of
//! care, not of security: nothing that is found is trusted or interpreted.

use super::{Allocation, BlockDevice, BlockDeviceExt, BlockError, Op, Run};
use crate::units::{ByteCount, ByteOffset, Extent};

/// What is read in one go.
const SAMPLE: u64 = 64 << 10;
/// Past so many samples, a run of data is only sampled.
const SAMPLES_MAX: u64 = 1024;
/// Runs of data looked at; a file in more pieces than that surely holds some in these.
const RUNS_MAX: usize = 4096;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// The caller's own mark.
    Own,
    /// Something with a name, such as `an ext2, ext3 or ext4 file system`.
    Foreign(&'static str),
    /// Bytes that are not zero, the first of those looked at here.
    Data(ByteOffset),
}

/// Bytes by which something is known, and where they may lie.
#[derive(Debug, Clone, Copy)]
pub struct Mark<'m> {
    /// From the start of the backing.
    pub places: &'m [u64],
    /// What lies there.
    pub bytes: &'m [u8],
}

struct Known {
    name: &'static str,
    mark: Mark<'static>,
}

const fn known(name: &'static str, places: &'static [u64], bytes: &'static [u8]) -> Known {
    Known { name, mark: Mark { places, bytes } }
}

/// Ordered so that what is certain comes before what is likely.
const KNOWN: &[Known] = &[
    known("a LUKS volume", &[0], b"LUKS\xba\xbe"),
    known(
        "a LUKS2 volume",
        &[0x4000, 0x8000, 0x1_0000, 0x2_0000, 0x4_0000, 0x8_0000, 0x10_0000, 0x20_0000, 0x40_0000],
        b"SKUL\xba\xbe",
    ),
    known("a BitLocker volume", &[3], b"-FVE-FS-"),
    known("a GPT partition table", &[512, 4096], b"EFI PART"),
    known("an LVM physical volume", &[0, 512, 1024, 1536], b"LABELONE"),
    known("a member of a RAID (md)", &[0, 4096], b"\xfc\x4e\x2b\xa9"),
    known("an ext2, ext3 or ext4 file system", &[0x438], b"\x53\xef"),
    known("an XFS file system", &[0], b"XFSB"),
    known("a Btrfs file system", &[0x1_0040], b"_BHRfS_M"),
    known("an F2FS file system", &[0x400], b"\x10\x20\xf5\xf2"),
    known("an NTFS file system", &[3], b"NTFS    "),
    known("an exFAT file system", &[3], b"EXFAT   "),
    known("a FAT file system", &[54], b"FAT1"),
    known("a FAT file system", &[82], b"FAT32   "),
    known("an HFS+ file system", &[0x400], b"H+\x00\x04"),
    known("an APFS container", &[32], b"NXSB"),
    known("a SquashFS image", &[0], b"hsqs"),
    known("an ISO 9660 image", &[0x8001], b"CD001"),
    known("swap space", &[4086, 8182, 16_374, 32_758, 65_526], b"SWAPSPACE2"),
    known("swap space", &[4086, 8182, 16_374, 32_758, 65_526], b"SWAP-SPACE"),
    known("a qcow2 image", &[0], b"QFI\xfb"),
    known("a VMDK image", &[0], b"KDMV"),
    known("a VHDX image", &[0], b"vhdxfile"),
    known("a VHD image", &[0], b"conectix"),
];

/// As [`KNOWN`], the places counted back from the end.
const KNOWN_AT_END: &[Known] =
    &[known("a GPT partition table", &[512, 4096], b"EFI PART"), known("a VHD image", &[512], b"conectix")];

/// Says what `device` holds, `own` being the marks of the caller; `None` where all that was looked at is zeros.
///
/// # Errors
/// Where the device cannot be read.
pub fn examine(device: &dyn BlockDevice, own: &[Mark<'_>]) -> Result<Option<Finding>, BlockError> {
    let size = device.geometry().size;
    for mark in own {
        if bears(device, mark, Some)? {
            return Ok(Some(Finding::Own));
        }
    }
    for known in KNOWN {
        if bears(device, &known.mark, Some)? {
            return Ok(Some(Finding::Foreign(known.name)));
        }
    }
    for known in KNOWN_AT_END {
        if bears(device, &known.mark, |back| size.get().checked_sub(back))? {
            return Ok(Some(Finding::Foreign(known.name)));
        }
    }
    if holds_zfs(device)? {
        return Ok(Some(Finding::Foreign("a ZFS pool")));
    }
    if holds_partitions(device)? {
        return Ok(Some(Finding::Foreign("an MBR partition table")));
    }
    first_data(device).map(|found| found.map(Finding::Data))
}

/// Whether `mark` is at one of its places, each turned by `place` into one counted from the start.
fn bears(device: &dyn BlockDevice, mark: &Mark<'_>, place: impl Fn(u64) -> Option<u64>) -> Result<bool, BlockError> {
    let mut found = [0; 16];
    let found = &mut found[..mark.bytes.len().min(16)];
    for at in mark.places.iter().filter_map(|at| place(*at)) {
        if read_within(device, at, found)? && mark.bytes.starts_with(found) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Reads at `at`; `false` where the device does not reach so far.
fn read_within(device: &dyn BlockDevice, at: u64, into: &mut [u8]) -> Result<bool, BlockError> {
    let at = ByteOffset::new(at);
    let extent = Extent::new(at, ByteCount::of(into));
    let within = extent.is_some_and(|extent| extent.fits(device.geometry().size));
    if within {
        device.read_at(at, into)?;
    }
    Ok(within)
}

/// A ZFS label keeps its uberblocks in the second half of its 256 KiB, one in each KiB, in either byte order.
fn holds_zfs(device: &dyn BlockDevice) -> Result<bool, BlockError> {
    const UBERBLOCK: u64 = 0x00ba_b10c;
    let mut found = [0; 8];
    for slot in 0..128 {
        if read_within(device, (128 + slot) << 10, &mut found)?
            && [u64::from_le_bytes(found), u64::from_be_bytes(found)].contains(&UBERBLOCK)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A boot signature alone is not a table: some entry must be in use, and all must have a valid status byte.
fn holds_partitions(device: &dyn BlockDevice) -> Result<bool, BlockError> {
    let mut sector = [0; 512];
    let there = read_within(device, 0, &mut sector)? && sector.ends_with(b"\x55\xaa");
    let entries = || sector[446..510].chunks_exact(16);
    let valid = entries().all(|entry| matches!(entry[0], 0x00 | 0x80));
    Ok(there && valid && entries().any(|entry| entry[4] != 0))
}

/// The first byte that is not zero, of those looked at.
fn first_data(device: &dyn BlockDevice) -> Result<Option<ByteOffset>, BlockError> {
    let all = Extent::new(ByteOffset::ZERO, device.geometry().size).ok_or(BlockError::OutOfRange)?;
    let mut runs: Vec<Run> = Vec::new();
    device.perform(Op::Extents { extent: all, into: &mut runs, most: RUNS_MAX })?;
    let data = runs.iter().filter(|run| run.allocation == Allocation::Data).map(|run| run.length.get());
    let step = (data.sum::<u64>() / SAMPLES_MAX).max(SAMPLE);
    let mut buffer = vec![0; ByteCount::new(SAMPLE).in_memory()];
    let mut start = 0;
    for run in &runs {
        let end = start + run.length.get();
        if run.allocation == Allocation::Data
            && let Some(found) = first_data_within(device, start..end, step, &mut buffer)?
        {
            return Ok(Some(found));
        }
        start = end;
    }
    Ok(None)
}

/// As [`first_data`], of one run: samples that start `step` apart, and always its last bytes.
fn first_data_within(
    device: &dyn BlockDevice,
    run: std::ops::Range<u64>,
    step: u64,
    buffer: &mut [u8],
) -> Result<Option<ByteOffset>, BlockError> {
    let mut at = run.start;
    while at < run.end {
        let length = ByteCount::new((run.end - at).min(SAMPLE)).in_memory();
        let sample = &mut buffer[..length];
        device.read_at(ByteOffset::new(at), sample)?;
        if let Some(index) = sample.iter().position(|byte| *byte != 0) {
            return Ok(Some(ByteOffset::new(at + index as u64)));
        }
        let last = run.end.saturating_sub(SAMPLE);
        // The last sample ends with the run, however the steps fall.
        at = if at < last { (at + step).min(last) } else { run.end };
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::super::memory::MemoryDevice;
    use super::super::{Durability, Effort, Zeroing};
    use super::*;

    const SIZE: u64 = 8 << 20;

    fn with(at: u64, bytes: &[u8]) -> MemoryDevice {
        let device = MemoryDevice::new(ByteCount::new(SIZE));
        device.write_at(ByteOffset::new(at), &mut bytes.to_vec(), Durability::Cached).expect("writes");
        device
    }

    fn finding(device: &MemoryDevice) -> Option<Finding> {
        examine(device, &[Mark { places: &[0, 512 << 10], bytes: b"OURS" }]).expect("readable")
    }

    #[test]
    fn every_mark_is_found_at_each_of_its_places() {
        for known in KNOWN {
            for place in known.mark.places {
                let expected = Some(Finding::Foreign(known.name));
                assert_eq!(finding(&with(*place, known.mark.bytes)), expected, "{} at {place}", known.name);
            }
        }
        for known in KNOWN_AT_END {
            for back in known.mark.places {
                let expected = Some(Finding::Foreign(known.name));
                assert_eq!(finding(&with(SIZE - back, known.mark.bytes)), expected, "{} at -{back}", known.name);
            }
        }
    }

    #[test]
    fn marks_fit_the_buffer_that_they_are_compared_in() {
        assert!(KNOWN.iter().chain(KNOWN_AT_END).all(|known| (2..=16).contains(&known.mark.bytes.len())));
    }

    #[test]
    fn a_mark_off_its_place_is_only_data() {
        assert_eq!(finding(&with(7, b"XFSB")), Some(Finding::Data(ByteOffset::new(7))));
    }

    #[test]
    fn the_callers_own_mark_comes_first() {
        let device = with(512 << 10, b"OURS");
        device.write_at(ByteOffset::ZERO, &mut b"XFSB".to_vec(), Durability::Cached).expect("writes");
        assert_eq!(finding(&device), Some(Finding::Own));
    }

    #[test]
    fn a_boot_sector_is_a_partition_table_only_with_an_entry() {
        let mut sector = [0; 512];
        sector[510..].copy_from_slice(b"\x55\xaa");
        assert_eq!(finding(&with(0, &sector)), Some(Finding::Data(ByteOffset::new(510))));
        sector[446 + 4] = 0x83;
        assert_eq!(finding(&with(0, &sector)), Some(Finding::Foreign("an MBR partition table")));
    }

    #[test]
    fn an_uberblock_in_any_slot_is_zfs() {
        for bytes in [0x00ba_b10c_u64.to_le_bytes(), 0x00ba_b10c_u64.to_be_bytes()] {
            assert_eq!(finding(&with(255 << 10, &bytes)), Some(Finding::Foreign("a ZFS pool")));
        }
    }

    #[test]
    fn holes_and_allocated_zeros_are_nothing() {
        let device = MemoryDevice::new(ByteCount::new(SIZE));
        assert_eq!(finding(&device), None);
        let extent = Extent::new(ByteOffset::ZERO, ByteCount::new(SIZE)).expect("small");
        let (zeroing, effort, durability) = (Zeroing::KeepAllocated, Effort::Any, Durability::Cached);
        device.perform(Op::Zero { extent, zeroing, effort, durability }).expect("zeroes");
        assert_eq!(device.allocated(), ByteCount::new(SIZE));
        assert_eq!(finding(&device), None);
    }

    #[test]
    fn the_very_last_byte_is_looked_at() {
        assert_eq!(finding(&with(SIZE - 1, &[1])), Some(Finding::Data(ByteOffset::new(SIZE - 1))));
    }

    #[test]
    fn a_large_disk_is_sampled_and_its_ends_are_always_among_the_samples() {
        let size = 3 << 30;
        let bytes = |at: u64| {
            let device = MemoryDevice::new(ByteCount::new(size));
            device.write_at(ByteOffset::new(at), &mut [1], Durability::Cached).expect("writes");
            let mut buffer = vec![0; 64 << 10];
            first_data_within(&device, 0..size, size / SAMPLES_MAX, &mut buffer).expect("readable")
        };
        assert_eq!(bytes(0), Some(ByteOffset::ZERO));
        assert_eq!(bytes(size - 1), Some(ByteOffset::new(size - 1)));
        assert_eq!(bytes(SAMPLE + 1), None, "between two samples");
    }

    #[test]
    fn a_device_smaller_than_any_mark_is_examined_without_error() {
        assert_eq!(finding(&MemoryDevice::new(ByteCount::new(3))), None);
        assert_eq!(finding(&MemoryDevice::new(ByteCount::ZERO)), None);
    }
}
