//! What the record finds that no header can tell: other volumes, other keys, older headers.

use envol::block::memory::MemoryDevice;
use envol::kms::KeyArn;
use envol::volume::{Record, Rollback, Standing, VolumeError};

use crate::support::{FakeKms, ID, OTHER_ID, caller, copy, device_for, open_device, spec, used};

fn compare(image: &[u8], record: &Record, rollback: Rollback) -> Result<Standing, VolumeError> {
    let device = MemoryDevice::holding(image, true);
    open_device(&device, &FakeKms::HONEST, Some(record), rollback).map(|(verified, _)| verified.standing())
}

fn refused(image: &[u8], record: &Record, rollback: Rollback) -> VolumeError {
    compare(image, record, rollback).expect_err("refused")
}

#[test]
fn a_header_as_recorded_or_ahead_of_its_record_is_accepted() {
    let (record, image) = used(ID, 2);
    assert_eq!(compare(&image, &record, Rollback::Refuse).expect("same"), Standing::Same);
    let (older, _) = used(ID, 1);
    assert_eq!(compare(&image, &older, Rollback::Refuse).expect("ahead"), Standing::Ahead);
}

#[test]
fn row_67_the_header_of_another_volume_is_refused_by_its_id() {
    let (record, _) = used(ID, 1);
    let (_, other) = used(OTHER_ID, 1);
    assert!(matches!(refused(&other, &record, Rollback::Accept), VolumeError::AnotherVolume { .. }));
}

#[test]
fn row_68_every_older_header_is_a_rollback_unless_accepted() {
    let (record, _) = used(ID, 5);
    for times in 0..5 {
        let (_, older) = used(ID, times);
        let error = refused(&older, &record, Rollback::Refuse);
        assert!(matches!(error, VolumeError::Rollback { recorded: 6, found } if found == times + 1), "{error:?}");
        assert_eq!(compare(&older, &record, Rollback::Accept).expect("accepted"), Standing::RolledBack);
    }
}

#[test]
fn another_header_of_the_recorded_generation_is_refused_unless_accepted() {
    let (mut record, image) = used(ID, 2);
    record.mac.replace_range(..2, if record.mac.starts_with("00") { "01" } else { "00" });
    assert!(matches!(refused(&image, &record, Rollback::Refuse), VolumeError::Forked(3)));
    assert_eq!(compare(&image, &record, Rollback::Accept).expect("accepted"), Standing::RolledBack);
}

#[test]
fn a_valid_header_under_somebody_elses_key_is_refused_whatever_its_generation() {
    let (record, _) = used(ID, 1);
    let theirs = FakeKms { secret: 9, ..FakeKms::HONEST };
    let device = device_for(&spec(ID));
    let made = envol::volume::create(&device, &theirs, &caller(), &spec(ID), &mut |_, _| true);
    let mut verified = made.unwrap_or_else(|error| panic!("{error}"));
    for _ in 0..4 {
        let opened = open_device(&device, &theirs, Some(&record), Rollback::Accept);
        assert!(matches!(opened.err(), Some(VolumeError::ForeignKey { .. })));
        verified.begin_generation(&device).expect("writes");
    }
}

#[test]
fn another_kms_key_is_accepted_only_ahead_of_the_record() {
    let (record, image) = used(ID, 2);
    let renamed = [
        Record { key: KeyArn::new("arn:before"), ..record.clone() },
        Record { kms: "before".to_owned(), ..record.clone() },
    ];
    for record in renamed {
        for rollback in [Rollback::Refuse, Rollback::Accept] {
            assert!(matches!(refused(&image, &record, rollback), VolumeError::KmsKeyChanged { .. }));
            let behind = Record { generation: record.generation - 1, ..record.clone() };
            assert_eq!(compare(&image, &behind, rollback).expect("ahead"), Standing::Rewrapped);
            let ahead = Record { generation: record.generation + 1, ..record.clone() };
            let error = refused(&image, &ahead, rollback);
            assert!(matches!(error, VolumeError::Rollback { .. } | VolumeError::KmsKeyChanged { .. }));
        }
    }
}

#[test]
fn row_73_two_backings_with_one_header_have_one_identity() {
    let (record, image) = used(ID, 1);
    let device = MemoryDevice::holding(&image, true);
    let (twin, _) = open_device(&device, &FakeKms::HONEST, None, Rollback::Refuse).expect("opens");
    assert_eq!(twin.identity(), (record.fingerprint, record.generation, record.mac));
}

#[test]
fn the_two_copies_differ_by_their_salt_and_share_one_identity() {
    let (record, image) = used(ID, 1);
    let (first, second) = (copy(&image, 0), copy(&image, 1));
    assert_ne!(image[first.start + 48..first.start + 80], image[second.start + 48..second.start + 80]);
    assert_ne!(image[first.end - 64..first.end], image[second.end - 64..second.end]);
    let mut only_second = image.clone();
    only_second[first].fill(0);
    assert_eq!(compare(&only_second, &record, Rollback::Refuse).expect("opens"), Standing::Same);
}

#[test]
fn any_region_swapped_between_two_volumes_is_refused_or_opens_as_the_volume_itself() {
    let (record, mine) = used(ID, 1);
    let (_, theirs) = used(OTHER_ID, 1);
    let regions = (0..1 << 20).step_by(512).map(|start| start..start + 512);
    for region in regions.filter(|region| mine[region.clone()] != theirs[region.clone()]) {
        let mut mixed = mine.clone();
        mixed[region.clone()].copy_from_slice(&theirs[region]);
        assert_eq!(compare(&mixed, &record, Rollback::Refuse).expect("the other copy holds"), Standing::Same);
        let mut both = mixed;
        for start in crate::support::PLACES {
            both[start..start + 16384].copy_from_slice(&theirs[start..start + 16384]);
        }
        assert!(compare(&both, &record, Rollback::Refuse).is_err());
    }
}
