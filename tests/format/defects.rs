//! One image for each defect, made from a good one: each is refused for its own reason, or opened from the other copy.

use envol::block::fault::{Action, Fault, Rule, Target};
use envol::block::memory::MemoryDevice;
use envol::block::{BlockDeviceExt, BlockError, Durability};
use envol::units::{ByteCount, ByteOffset};
use envol::volume::{self, CopyFault, CopyState, Rollback, Unverified, VolumeError};
use nix::errno::Errno;
use serde_json::{Value, json};

use crate::support::{
    FakeKms, ID, OTHER_ID, PLACES, caller, copy, edit_body, edit_prefix, make, open, open_device, put_body,
    put_mac_right, refusal, spec, used,
};

fn good() -> Vec<u8> {
    make(&spec(ID))
}

/// Both copies, changed likewise.
fn both(edit: impl Fn(&mut [u8], usize)) -> Vec<u8> {
    let mut image = good();
    edit(&mut image, 0);
    edit(&mut image, 1);
    image
}

/// The faults of both copies of an image that is damaged in both.
fn faults(image: &[u8]) -> [CopyFault; 2] {
    match refusal(image) {
        VolumeError::Damaged { first, second } => [first, second],
        other => panic!("{other:?}"),
    }
}

macro_rules! assert_refused {
    ($image:expr, $pattern:pat) => {
        let error = refusal(&$image);
        assert!(matches!(error, $pattern), "{error:?}");
    };
}

macro_rules! assert_faults {
    ($image:expr, $pattern:pat) => {
        for fault in faults(&$image) {
            assert!(matches!(fault, $pattern), "{fault:?}");
        }
    };
}

#[test]
fn row_53_what_is_empty_or_zero_is_not_a_volume() {
    for image in [vec![], vec![0], vec![b'E'], vec![0; 2 << 20], b"ENVOLVO".to_vec()] {
        assert_refused!(image, VolumeError::NotAVolume);
    }
}

#[test]
fn row_54_a_backing_cut_anywhere_in_its_headers_is_refused_without_a_panic() {
    let image = good();
    for which in [0, 1] {
        for end in copy(&image, which) {
            assert!(matches!(
                refusal(&image[..end]),
                VolumeError::NotAVolume | VolumeError::Damaged { .. } | VolumeError::BackingTooSmall { .. }
            ));
        }
    }
}

#[test]
fn row_54_a_copy_torn_after_any_byte_leaves_the_other() {
    let image = good();
    for which in [0, 1] {
        for end in copy(&image, which) {
            let mut torn = image.clone();
            let range = copy(&image, which);
            torn[end..range.end].fill(0);
            if torn != image {
                assert!(open(&torn).is_ok(), "copy {which} torn at {end}");
            }
        }
    }
}

#[test]
fn row_55_a_backing_that_is_too_small_is_refused_and_a_larger_one_is_not_exposed() {
    let mut image = good();
    image.extend_from_slice(&[7; 4096]);
    let (verified, _) = open(&image).expect("opens");
    assert_eq!(verified.header().size, ByteCount::new(64 << 10));
    image.truncate(image.len() - 4097);
    assert_refused!(image, VolumeError::BackingTooSmall { .. });
}

#[test]
fn row_56_each_copy_is_found_without_the_other() {
    for which in [0, 1] {
        let mut image = good();
        image[PLACES[which]] ^= 1;
        assert!(open(&image).is_ok());
    }
}

#[test]
fn every_bit_flipped_in_one_copy_leaves_the_other() {
    let image = good();
    let device = MemoryDevice::holding(&image, false);
    for which in [0, 1] {
        for place in copy(&image, which) {
            for bit in 0..8 {
                let mut byte = [image[place] ^ (1 << bit)];
                let at = ByteOffset::new(place as u64);
                device.write_at(at, &mut byte, Durability::Cached).expect("writes");
                let is_mac = place >= copy(&image, which).end - 64;
                let unverified = Unverified::read(&device).expect("the other copy holds");
                let state = &unverified.copies()[which];
                // The checksum does not cover the MAC; a copy with a changed one is only found out by the key.
                assert!(matches!(state, CopyState::Damaged(_)) != is_mac, "{state:?}");
                if is_mac {
                    let opened = open_device(&device, &FakeKms::HONEST, None, Rollback::Refuse);
                    let (verified, _) = opened.expect("the other copy holds");
                    assert!(matches!(verified.copies()[which], CopyState::Damaged(CopyFault::Mac)));
                }
                device.write_at(at, &mut [image[place]], Durability::Cached).expect("writes");
            }
        }
    }
}

#[test]
fn every_bit_flipped_in_both_copies_is_refused() {
    let image = good();
    let length = copy(&image, 0).len();
    for place in 0..length {
        for bit in 0..8 {
            let mut flipped = image.clone();
            for start in PLACES {
                flipped[start + place] ^= 1 << bit;
            }
            refusal(&flipped);
        }
    }
}

#[test]
fn row_57_a_valid_checksum_over_bad_meaning_is_refused_copy_by_copy() {
    for body in [&b"{}"[..], b"", b"null", b"[1", b"\xff\xfe", b"{\"id\":1}"] {
        let mut image = good();
        put_body(&mut image, 0, body);
        let (verified, _) = open(&image).expect("the other copy holds");
        assert!(matches!(verified.copies()[0], CopyState::Damaged(_)));
        put_body(&mut image, 1, body);
        assert_faults!(image, CopyFault::Body(_) | CopyFault::BodyLength(0));
    }
}

#[test]
fn row_58_two_damaged_copies_are_refused_with_what_is_wrong_with_each() {
    let mut image = good();
    image[200] ^= 1;
    image[PLACES[1] + 12] = 0;
    image[PLACES[1] + 13] = 0;
    let faults = faults(&image);
    assert!(matches!(faults, [CopyFault::Checksum, CopyFault::BodyLength(0)]), "{faults:?}");
}

#[test]
fn row_59_a_body_length_out_of_bounds_is_refused_unread() {
    for length in [0, 16_384 - 112 - 64 + 1, u32::MAX] {
        let image = both(|image, which| {
            image[PLACES[which] + 12..PLACES[which] + 16].copy_from_slice(&length.to_le_bytes());
        });
        assert_faults!(image, CopyFault::BodyLength(_));
    }
}

/// Both copies with one field of the body changed.
fn with_field(field: &str, value: &Value) -> Vec<u8> {
    both(|image, which| edit_body(image, which, |body| body[field] = value.clone()))
}

#[test]
fn row_60_places_that_overflow_or_overlap_are_refused() {
    let cases = [
        ("size", json!(0)),
        ("size", json!(u64::MAX)),
        ("size", json!(4097)),
        ("size", json!(-1)),
        ("data_offset", json!(0)),
        ("data_offset", json!(524_288)),
        ("data_offset", json!(u64::MAX - 4095)),
        ("data_offset", json!(1_048_577)),
        ("scope", json!(0)),
        ("scope", json!(3)),
        ("scope", json!(1u64 << 41)),
    ];
    for (field, value) in cases {
        assert_faults!(with_field(field, &value), CopyFault::Shape(_) | CopyFault::Body(_));
    }
}

#[test]
fn row_61_a_sector_size_that_does_not_exist_is_refused() {
    for value in [json!(0), json!(3), json!(1u32 << 31), json!("4096"), Value::Null] {
        assert_faults!(with_field("sector_size", &value), CopyFault::Body(_));
    }
}

#[test]
fn row_62_a_cipher_that_is_not_the_one_is_refused_even_if_sealed() {
    for value in [json!("none"), json!("null"), json!(""), json!("aes-128-xts"), json!("aes-256-cbc"), Value::Null] {
        let image = both(|image, which| {
            edit_body(image, which, |body| body["cipher"] = value.clone());
            put_mac_right(image, which);
        });
        assert_faults!(image, CopyFault::Body(_));
    }
    for removed in ["cipher", "zeros", "wrapped_key", "fingerprint", "id"] {
        let image = both(|image, which| {
            edit_body(image, which, |body| drop(body.as_object_mut().expect("an object").remove(removed)));
        });
        assert_faults!(image, CopyFault::Body(_));
    }
}

/// Both copies with a feature bit set at `place`, sealed as a later envol would.
fn with_feature(place: usize) -> Vec<u8> {
    both(|image, which| {
        edit_body(image, which, |body| body["later"] = json!({"any": "thing"}));
        edit_prefix(image, which, |prefix| prefix[place] = 1);
        put_mac_right(image, which);
    })
}

#[test]
fn row_63_feature_bits_decide_whether_an_unknown_volume_opens() {
    assert!(open(&with_feature(16)).expect("compatible").0.check_writable().is_ok());
    let (verified, _) = open(&with_feature(24)).expect("opens for reading");
    assert!(matches!(verified.check_writable(), Err(VolumeError::ReadOnlyFeatures(1))));
    assert_refused!(with_feature(32), VolumeError::UnsupportedFeatures(1));
}

#[test]
fn row_63_a_rewrite_keeps_what_a_later_version_put_there() {
    let device = MemoryDevice::holding(&with_feature(16), false);
    let (mut verified, _) = open_device(&device, &FakeKms::HONEST, None, Rollback::Refuse).expect("opens");
    verified.begin_generation(&device).expect("writes");
    let image = device.contents();
    let range = copy(&image, 0);
    let body: Value = serde_json::from_slice(&image[range.start + 112..range.end - 64]).expect("JSON");
    assert_eq!(body["later"], json!({"any": "thing"}));
    assert_eq!(image[16], 1);
}

#[test]
fn row_63_a_field_without_a_feature_bit_is_refused() {
    assert_faults!(with_field("later", &json!(1)), CopyFault::UnknownField);
}

#[test]
fn another_format_version_is_named() {
    let image = both(|image, which| image[PLACES[which] + 8] = 2);
    assert_refused!(image, VolumeError::UnsupportedVersion(2));
}

#[test]
fn rows_64_and_65_what_the_context_binds_cannot_be_changed_even_by_whoever_seals() {
    let cases = [
        ("id", json!(OTHER_ID)),
        ("sector_size", json!(512)),
        ("data_offset", json!(1_052_672)),
        ("scope", json!(1u64 << 30)),
    ];
    for (field, value) in cases {
        let mut image = both(|image, which| {
            edit_body(image, which, |body| body[field] = value.clone());
            put_mac_right(image, which);
        });
        image.extend_from_slice(&[0; 4096]);
        assert_refused!(image, VolumeError::Kms(_));
    }
}

#[test]
fn row_65_what_only_the_mac_binds_cannot_be_changed_without_the_key() {
    let cases =
        [("size", json!(4096)), ("zeros", json!("ciphertext")), ("kms", json!("evil")), ("name", json!("other"))];
    for (field, value) in cases {
        assert_refused!(with_field(field, &value), VolumeError::MacMismatch);
    }
    let generation = both(|image, which| edit_prefix(image, which, |prefix| prefix[40] = 9));
    assert_refused!(generation, VolumeError::MacMismatch);
    let salt = both(|image, which| edit_prefix(image, which, |prefix| prefix[50] ^= 1));
    assert_refused!(salt, VolumeError::MacMismatch);
}

#[test]
fn row_66_the_wrapped_key_of_another_volume_is_refused_by_the_kms() {
    let other = make(&spec(OTHER_ID));
    let range = copy(&other, 0);
    let body: Value = serde_json::from_slice(&other[112..range.end - 64]).expect("JSON");
    assert_refused!(with_field("wrapped_key", &body["wrapped_key"]), VolumeError::Kms(_));
}

#[test]
fn row_70_the_newer_copy_counts_and_the_older_is_brought_up_to_date() {
    let (_, old) = used(ID, 1);
    let (record, new) = used(ID, 3);
    for which in [0, 1] {
        let mut image = new.clone();
        let place = PLACES[which]..PLACES[which] + 16384;
        image[place.clone()].copy_from_slice(&old[place]);
        let device = MemoryDevice::holding(&image, false);
        let opened = open_device(&device, &FakeKms::HONEST, Some(&record), Rollback::Refuse);
        let (mut verified, _) = opened.expect("opens");
        assert!(matches!(verified.copies()[which], CopyState::Older(2)));
        assert_eq!(device.contents(), image, "nothing is written before the volume is attached for writing");
        verified.begin_generation(&device).expect("writes");
        let states = Unverified::read(&device).expect("a volume");
        assert!(matches!(states.copies(), [CopyState::Current, CopyState::Current]));
        assert_eq!(states.generation(), 5);
    }
}

fn failing(image: &[u8], spare: u64, count: u64) -> Fault<MemoryDevice> {
    let device = Fault::new(MemoryDevice::holding(image, false));
    let action = Action::Fail(BlockError::System(Errno::EIO));
    device.add(Rule { target: Target::Read, spare, count, action });
    device
}

#[test]
fn row_71_an_unreadable_copy_leaves_the_other_and_two_are_a_storage_failure() {
    for which in [0, 1] {
        let device = failing(&good(), which, 1);
        let (verified, _) = open_device(&device, &FakeKms::HONEST, None, Rollback::Refuse).expect("opens");
        assert!(matches!(verified.copies()[which as usize], CopyState::Unreadable(_)));
    }
    let unreadable = BlockError::System(Errno::EIO);
    let error = Unverified::read(&failing(&good(), 0, 2)).expect_err("nothing to read");
    assert!(matches!(error, VolumeError::Storage(error) if error == unreadable));
    let mut image = good();
    image[200] ^= 1;
    let error = Unverified::read(&failing(&image, 1, 1)).expect_err("one damaged, one unreadable");
    assert!(matches!(error, VolumeError::Storage(error) if error == unreadable), "it may be a good one");
}

#[test]
fn row_72_a_damaged_copy_on_a_read_only_backing_is_left_alone() {
    let mut image = good();
    image[200] ^= 1;
    let device = MemoryDevice::holding(&image, true);
    let (mut verified, _) = open_device(&device, &FakeKms::HONEST, None, Rollback::Refuse).expect("opens");
    let refused = verified.begin_generation(&device);
    assert!(matches!(refused, Err(VolumeError::Storage(BlockError::ReadOnly))));
    assert_eq!(device.contents(), image);
}

#[test]
fn a_copy_is_not_repaired_over_something_elses_signature() {
    let mut image = good();
    image[..16384].fill(0);
    image[512..520].copy_from_slice(b"EFI PART");
    let device = MemoryDevice::holding(&image, false);
    let (mut verified, _) = open_device(&device, &FakeKms::HONEST, None, Rollback::Refuse).expect("opens");
    verified.begin_generation(&device).expect("the volume opens all the same");
    assert_eq!(device.contents(), image, "the only good copy is not put at risk");
    assert!(matches!(verified.copies()[0], CopyState::Damaged(CopyFault::NoMagic)));
}

#[test]
fn a_volume_is_not_made_over_another_and_is_gone_once_destroyed() {
    let device = MemoryDevice::holding(&good(), false);
    let again = volume::create(&device, &FakeKms::HONEST, &caller(), &spec(OTHER_ID), &mut |_, _| true);
    assert!(matches!(again.err(), Some(VolumeError::HeaderExists)));
    volume::destroy_header(&device).expect("writes");
    assert!(!volume::holds_header(&device).expect("reads"));
    assert_refused!(device.contents(), VolumeError::NotAVolume);
}
