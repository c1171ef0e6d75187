//! A KMS that lies, at create and at open.

use envol::block::memory::MemoryDevice;
use envol::units::ByteCount;
use envol::volume::{self, CreateSpec, Rollback, VolumeError, WeakKey};

use crate::support::{FakeKms, ID, Lie, caller, device_for, make, open_device, spec};

fn is_told(lie: Lie, error: &VolumeError, at_create: bool) -> bool {
    match lie {
        Lie::OtherKeyId => matches!(error, VolumeError::AnotherKmsKey { .. }),
        Lie::ZeroKey => matches!(error, VolumeError::WeakKey(WeakKey::Zero)),
        Lie::EqualHalves => matches!(error, VolumeError::WeakKey(WeakKey::EqualHalves)),
        Lie::OtherDataKey => !at_create && matches!(error, VolumeError::WrongDataKey { .. }),
        Lie::Refusal => matches!(error, VolumeError::Kms(_)),
        Lie::None => false,
    }
}

#[test]
fn row_76_a_wrong_answer_is_refused_before_the_first_byte_is_read() {
    let device = MemoryDevice::holding(&make(&spec(ID)), true);
    for lie in [Lie::OtherKeyId, Lie::OtherDataKey, Lie::ZeroKey, Lie::EqualHalves, Lie::Refusal] {
        let error = open_device(&device, &FakeKms::lying(lie), None, Rollback::Refuse).err().expect("refused");
        assert!(is_told(lie, &error, false), "{lie:?}: {error:?}");
    }
}

#[test]
fn a_volume_that_could_not_be_opened_is_not_made() {
    for lie in [Lie::OtherKeyId, Lie::ZeroKey, Lie::EqualHalves, Lie::Refusal] {
        let device = device_for(&spec(ID));
        let made = volume::create(&device, &FakeKms::lying(lie), &caller(), &spec(ID), &mut |_, _| true);
        let error = made.err().expect("refused");
        assert!(is_told(lie, &error, true), "{lie:?}: {error:?}");
        assert_eq!(device.allocated(), ByteCount::ZERO);
    }
}

#[test]
fn a_thick_volume_whose_filling_is_stopped_has_no_header() {
    let spec = CreateSpec { thick: true, size: ByteCount::new(1 << 20), ..spec(ID) };
    let device = device_for(&spec);
    let mut calls = 0;
    let mut progress = |done: ByteCount, all: ByteCount| {
        calls += 1;
        assert!(done <= all);
        calls < 3
    };
    let stopped = volume::create(&device, &FakeKms::HONEST, &caller(), &spec, &mut progress);
    assert!(matches!(stopped.err(), Some(VolumeError::Stopped)));
    assert!(!volume::holds_header(&device).expect("reads"));
}

#[test]
fn a_backing_that_is_too_small_is_refused_before_the_kms_is_asked() {
    let device = MemoryDevice::new(ByteCount::new(1 << 20));
    let refused = volume::create(&device, &FakeKms::lying(Lie::Refusal), &caller(), &spec(ID), &mut |_, _| true);
    assert!(matches!(refused.err(), Some(VolumeError::BackingTooSmall { .. })));
}
