//! The two copies of a header on the backing: read both, take the newer valid one, write both so that one always holds.
//!
//! A write goes to one copy, is synced, goes to the other, is synced: at every moment one copy is whole, and nothing is
//! overwritten twice between two syncs. The copy that was not chosen (older, damaged, or an equal twin) comes first, and
//! before it a sync: what was read may have been written by a process that was killed before it could sync it.
//! A copy is never repaired silently, and never where something else has put its signature.

use crate::block::signature::{self, Finding, Mark};
use crate::block::{BlockDevice, BlockDeviceExt, BlockError, Durability, Geometry, Io, Patience};
use crate::crypto::random;
use crate::limits::HEADER_COPY_MAX;
use crate::units::{ByteCount, ByteOffset};

use super::codec::{Contents, Copy, MAGIC};
use super::error::{CopyFault, VolumeError};
use super::header::{COPY_PLACES, HEADER_AREA};
use super::keys::HeaderKey;

/// By which a backing is known to hold a volume, for whoever looks before it writes.
pub const MARK: Mark<'static> = Mark { places: &[COPY_PLACES[0].get(), COPY_PLACES[1].get()], bytes: &MAGIC };

/// How one copy was found.
#[derive(Debug)]
pub enum CopyState {
    /// Valid, of the newest generation.
    Current,
    /// Valid, but of this older generation: an update was interrupted.
    Older(u64),
    /// There is none, or it is damaged.
    Damaged(CopyFault),
    /// The device would not give it.
    Unreadable(BlockError),
}

/// The copies as found.
#[derive(Debug)]
pub(super) struct Found {
    /// The newest valid copy.
    pub(super) newest: Copy,
    /// The other, if that is valid too.
    pub(super) other: Option<Copy>,
    /// Which of the two it is.
    pub(super) chosen: usize,
    /// How each was found.
    pub(super) states: [CopyState; 2],
}

/// Reads both copies and takes the newer valid one, the first of two equals.
///
/// # Errors
/// Where no copy is valid; where one that must be newer cannot be understood; where the device gave neither.
pub(super) fn read(device: &dyn BlockDevice) -> Result<Found, VolumeError> {
    let [first, second] = COPY_PLACES.map(|place| read_one(device, place));
    refuse_unknown_features(&first, &second)?;
    let (first, second) = match (first, second) {
        (Ok(first), Ok(second)) => return Ok(Found::of_two(first, second)),
        (Ok(newest), Err(second)) => {
            let states = [CopyState::Current, second];
            return Ok(Found { newest, other: None, chosen: 0, states });
        }
        (Err(first), Ok(newest)) => {
            let states = [first, CopyState::Current];
            return Ok(Found { newest, other: None, chosen: 1, states });
        }
        (Err(first), Err(second)) => (first, second),
    };
    Err(neither(first, second))
}

impl Found {
    fn of_two(first: Copy, second: Copy) -> Self {
        let generations = [first.contents.generation, second.contents.generation];
        let newest = generations[0].max(generations[1]);
        let states = generations.map(|generation| match generation {
            current if current == newest => CopyState::Current,
            older => CopyState::Older(older),
        });
        if generations[0] == newest {
            Self { newest: first, other: Some(second), chosen: 0, states }
        } else {
            Self { newest: second, other: Some(first), chosen: 1, states }
        }
    }

    /// The newest copy whose MAC holds. A write torn between body and MAC leaves a copy whose checksum holds and whose MAC
    /// does not; the other copy is whole then, and as genuine as its MAC says.
    pub(super) fn genuine(self, key: &HeaderKey) -> Option<(Contents, usize, [CopyState; 2])> {
        let Self { newest, other, chosen, mut states } = self;
        let is_there = other.is_some();
        let other = other.filter(|other| other.is_sealed_by(key));
        if newest.is_sealed_by(key) {
            if is_there && other.is_none() {
                states[1 - chosen] = CopyState::Damaged(CopyFault::Mac);
            }
            return Some((newest.contents, chosen, states));
        }
        let other = other?;
        tracing::warn!(copy = chosen, "the newer header copy is not what was sealed; the other one is taken");
        states[chosen] = CopyState::Damaged(CopyFault::Mac);
        states[1 - chosen] = CopyState::Current;
        Some((other.contents, 1 - chosen, states))
    }
}

fn read_one(device: &dyn BlockDevice, place: ByteOffset) -> Result<Copy, CopyState> {
    let mut bytes = [0; HEADER_COPY_MAX];
    let there = device.geometry().size.get().saturating_sub(place.get());
    let length = usize::try_from(there).map_or(HEADER_COPY_MAX, |there| there.min(HEADER_COPY_MAX));
    if length != 0 {
        device.read_at(place, &mut bytes[..length]).map_err(CopyState::Unreadable)?;
    }
    Copy::decode(&bytes[..length]).map_err(CopyState::Damaged)
}

/// A copy with features that must be known outweighs the other, unless that is newer.
fn refuse_unknown_features(
    first: &Result<Copy, CopyState>,
    second: &Result<Copy, CopyState>,
) -> Result<(), VolumeError> {
    let newest = [first, second].into_iter().filter_map(|copy| copy.as_ref().ok()).map(|copy| copy.contents.generation);
    let newest = newest.max().unwrap_or(0);
    for copy in [first, second] {
        if let Err(CopyState::Damaged(CopyFault::Features { unknown, generation })) = copy
            && *generation >= newest
        {
            return Err(VolumeError::UnsupportedFeatures(*unknown));
        }
    }
    Ok(())
}

/// What to call two copies of which neither is valid. A copy that could not be read may be a good one.
fn neither(first: CopyState, second: CopyState) -> VolumeError {
    match (first, second) {
        (CopyState::Unreadable(error), _) | (_, CopyState::Unreadable(error)) => VolumeError::Storage(error),
        (CopyState::Damaged(CopyFault::NoMagic), CopyState::Damaged(CopyFault::NoMagic)) => VolumeError::NotAVolume,
        (CopyState::Damaged(CopyFault::Version(version)), _) | (_, CopyState::Damaged(CopyFault::Version(version))) => {
            VolumeError::UnsupportedVersion(version)
        }
        (CopyState::Damaged(first), CopyState::Damaged(second)) => VolumeError::Damaged { first, second },
        (CopyState::Current | CopyState::Older(_), _) | (_, CopyState::Current | CopyState::Older(_)) => {
            unreachable!("a valid copy is not among the two that are not")
        }
    }
}

/// Whether a header, of any version and in any condition, starts at either place.
pub(super) fn are_there(device: &dyn BlockDevice) -> Result<bool, BlockError> {
    for place in COPY_PLACES {
        let mut magic = [0; MAGIC.len()];
        let end = place.checked_add(ByteCount::of(&magic)).expect("copies lie in the first MiB");
        if end.get() <= device.geometry().size.get() {
            device.read_at(place, &mut magic)?;
            if magic == MAGIC {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Writes both copies of a new header.
///
/// # Errors
/// Where the device fails; a copy may lie there then.
pub(super) fn write_new(device: &dyn BlockDevice, contents: &Contents, key: &HeaderKey) -> Result<(), BlockError> {
    for which in [0, 1] {
        write_one(device, which, contents, key)?;
        device.flush()?;
    }
    Ok(())
}

/// Writes `contents`, a generation ahead of what was found, to both copies. Answers whether that generation now counts;
/// it does not where the copy that must come first cannot be had, since the only good copy is not put at risk.
///
/// # Errors
/// Where a sync fails or the device refuses. A copy that cannot be written is reported in `states` instead.
pub(super) fn write_next(
    device: &dyn BlockDevice,
    contents: &Contents,
    key: &HeaderKey,
    chosen: usize,
    states: &mut [CopyState; 2],
) -> Result<bool, BlockError> {
    let other = 1 - chosen;
    // Even where nothing is written: what was read is recorded.
    device.flush()?;
    if let Some(name) = anothers_mark(device, &states[other])? {
        tracing::warn!(copy = other, "{name} lies where a header copy belongs: it is left alone");
        return Ok(false);
    }
    report_repair(other, &states[other]);
    for which in [other, chosen] {
        match write_one(device, which, contents, key) {
            Ok(()) => {
                device.flush()?;
                states[which] = CopyState::Current;
            }
            Err(BlockError::System(errno)) => {
                tracing::warn!(copy = which, %errno, "a header copy cannot be written; the other one holds");
                states[which] = CopyState::Unreadable(BlockError::System(errno));
                return Ok(which == chosen);
            }
            Err(refused) => return Err(refused),
        }
    }
    Ok(true)
}

fn write_one(device: &dyn BlockDevice, which: usize, contents: &Contents, key: &HeaderKey) -> Result<(), BlockError> {
    let mut salt = [0; 32];
    random::fill(&mut salt);
    device.write_at(COPY_PLACES[which], &mut contents.encode(&salt, key), Durability::Cached)
}

/// What lies where a copy is not: the name of a partition table, a file system or the like.
fn anothers_mark(device: &dyn BlockDevice, state: &CopyState) -> Result<Option<&'static str>, BlockError> {
    if !matches!(state, CopyState::Damaged(CopyFault::NoMagic)) {
        return Ok(None);
    }
    match signature::examine(&HeaderArea(device), &[])? {
        Some(Finding::Foreign(name)) => Ok(Some(name)),
        _ => Ok(None),
    }
}

/// The header area of a backing, without the data, which may hold anything.
struct HeaderArea<'d>(&'d dyn BlockDevice);

impl BlockDevice for HeaderArea<'_> {
    fn geometry(&self) -> Geometry {
        let whole = self.0.geometry();
        Geometry { size: whole.size.min(HEADER_AREA), ..whole }
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        self.0.submit(batch, patience, done);
    }
}

fn report_repair(which: usize, state: &CopyState) {
    match state {
        CopyState::Current => (),
        CopyState::Older(generation) => {
            tracing::warn!(copy = which, generation, "an older header copy is brought up to date")
        }
        CopyState::Damaged(fault) => tracing::warn!(copy = which, %fault, "a damaged header copy is written anew"),
        CopyState::Unreadable(error) => {
            tracing::warn!(copy = which, %error, "an unreadable header copy is written anew")
        }
    }
}

/// Overwrites both copies with zeros, durably: the data key is lost with them.
///
/// # Errors
/// Where the device fails; it is tried for both copies in any case.
pub(super) fn destroy(device: &dyn BlockDevice) -> Result<(), BlockError> {
    let size = device.geometry().size.get();
    let outcomes = COPY_PLACES.map(|place| {
        let there = size.saturating_sub(place.get());
        let length = usize::try_from(there).map_or(HEADER_COPY_MAX, |there| there.min(HEADER_COPY_MAX));
        let zeros = &mut [0; HEADER_COPY_MAX][..length];
        if length == 0 { Ok(()) } else { device.write_at(place, zeros, Durability::Cached) }
    });
    let synced = device.flush();
    outcomes.into_iter().find(Result::is_err).unwrap_or(synced)
}
