//! A hundred thousand forged headers, and those that somebody has thought of: none opens. The forger knows the format, the
//! other headers of the volume and those of another volume under the same KMS key, and puts every checksum right; what he
//! has not is the data key.

use envol::block::memory::MemoryDevice;
use envol::block::{BlockDeviceExt, Durability};
use envol::units::ByteOffset;
use envol::volume::{CopyFault, Rollback, VolumeError};
use serde_json::{Value, json};

use crate::support::*;

const FORGERIES: usize = 100_000;
const PREFIX: usize = 112;
const MAC: usize = 64;

/// The headers that a forger has before him.
struct Seen {
    /// Of this volume, at two generations; then of the other one.
    copies: Vec<Vec<u8>>,
}

impl Seen {
    fn new() -> (Self, Vec<u8>) {
        let (_, older) = used(ID, 1);
        let (_, newer) = used(ID, 3);
        let (_, other) = used(OTHER_ID, 3);
        let copies = [&older, &newer, &other]
            .into_iter()
            .flat_map(|image| [0, 1].map(|which| image[copy(image, which)].to_vec()));
        (Self { copies: copies.collect() }, newer)
    }

    fn any(&self, random: &mut fastrand::Rng) -> &[u8] {
        &self.copies[random.usize(..self.copies.len())]
    }
}

/// A header like one that was seen, with something in it that nobody sealed.
fn forgery(seen: &Seen, random: &mut fastrand::Rng) -> Vec<u8> {
    let model = seen.any(random);
    let (mut prefix, mut body) = (model[..PREFIX].to_vec(), model[PREFIX..model.len() - MAC].to_vec());
    let mut mac = model[model.len() - MAC..].to_vec();
    for _ in 0..random.usize(1..4) {
        match random.u8(..8) {
            0 => prefix[40..48].copy_from_slice(&random.u64(1..1 << 40).to_le_bytes()),
            1 => prefix[random.usize(16..40)] ^= 1 << random.u8(..8),
            2 => prefix[48..80].iter_mut().for_each(|byte| *byte = random.u8(..)),
            3 => mac = forged_mac(seen, random),
            _ => body = forged_body(&body, seen, random),
        }
    }
    let length = u32::try_from(body.len()).expect("short");
    prefix[12..16].copy_from_slice(&length.to_le_bytes());
    let checksum = openssl::sha::sha256(&[&prefix[..80], &body[..]].concat());
    prefix[80..].copy_from_slice(&checksum);
    [prefix, body, mac].concat()
}

fn forged_mac(seen: &Seen, random: &mut fastrand::Rng) -> Vec<u8> {
    match random.u8(..4) {
        0 => vec![0; MAC],
        1 => (0..MAC).map(|_| random.u8(..)).collect(),
        2 => Vec::new(),
        _ => seen.any(random).iter().rev().take(MAC).rev().copied().collect(),
    }
}

fn forged_body(body: &[u8], seen: &Seen, random: &mut fastrand::Rng) -> Vec<u8> {
    let Ok(mut fields) = serde_json::from_slice::<Value>(body) else { return body.to_vec() };
    let other = seen.any(random);
    let theirs: Value = serde_json::from_slice(&other[PREFIX..other.len() - MAC]).expect("JSON");
    let names: Vec<String> = fields.as_object().expect("an object").keys().cloned().collect();
    let name = &names[random.usize(..names.len())];
    fields[name] = match random.u8(..6) {
        0 => theirs[name].clone(),
        1 => json!(random.u64(..1 << 50)),
        2 => json!(1_u64 << random.u8(9..50)),
        3 => {
            json!(["null", "none", "aes-128-xts", "cipher_null-ecb", "ciphertext", "hole", "other"][random.usize(..7)])
        }
        4 => flipped(&fields[name], random),
        _ => Value::Null,
    };
    serde_json::to_vec(&fields).expect("JSON")
}

fn flipped(value: &Value, random: &mut fastrand::Rng) -> Value {
    let mut text = value.as_str().map_or_else(|| value.to_string(), str::to_owned).into_bytes();
    if let Some(byte) = text.get_mut(random.usize(..).checked_rem(value.to_string().len()).unwrap_or(0)) {
        *byte ^= 1 << random.u8(..5);
    }
    json!(String::from_utf8_lossy(&text))
}

#[test]
fn a_hundred_thousand_random_forgeries_are_refused() {
    let (seen, image) = Seen::new();
    let device = MemoryDevice::holding(&image, false);
    let (mut random, mut tried, mut judged_by_mac) = (fastrand::Rng::with_seed(7), 0, 0);
    while tried < FORGERIES {
        let mut forged = forgery(&seen, &mut random);
        if seen.copies.contains(&forged) {
            // What was sealed is no forgery; that it is older, or another volume's, is the record's matter.
            continue;
        }
        tried += 1;
        forged.resize(16 << 10, 0);
        for place in PLACES {
            let at = ByteOffset::new(u64::try_from(place).expect("small"));
            device.write_at(at, &mut forged.clone(), Durability::Cached).expect("written");
        }
        match open_device(&device, &FakeKms::HONEST, None, Rollback::Accept) {
            Ok(_) => panic!("forgery {tried} opens: {}", String::from_utf8_lossy(&forged)),
            Err(VolumeError::MacMismatch) => judged_by_mac += 1,
            Err(_) => {}
        }
    }
    assert!(judged_by_mac > FORGERIES / 20, "only {judged_by_mac} came as far as the MAC");
}

/// Both copies, edited in the same way.
fn both(image: &[u8], edit: impl Fn(&mut Vec<u8>, usize)) -> Vec<u8> {
    let mut image = image.to_vec();
    (0..2).for_each(|which| edit(&mut image, which));
    image
}

#[test]
fn the_forgeries_that_somebody_has_thought_of_are_refused_each_for_what_it_is() {
    let (record, image) = used(ID, 3);
    let (_, other) = used(OTHER_ID, 3);
    let refused = |image: &[u8]| refusal(image);
    // No cipher: not even one that could be sealed.
    for cipher in ["null", "none", "cipher_null-ecb", "aes-128-xts"] {
        let null = both(&image, |image, which| edit_body(image, which, |body| body["cipher"] = cipher.into()));
        assert!(matches!(refused(&null), VolumeError::Damaged { first: CopyFault::Body(_), .. }), "{cipher}");
    }
    // Another key of the KMS, and another KMS.
    let key = both(&image, |image, which| {
        edit_body(image, which, |body| body["key"] = "arn:aws:kms:us-east-1:000000000000:key/2".into())
    });
    assert!(matches!(refused(&key), VolumeError::Kms(_)));
    let kms = both(&image, |image, which| edit_body(image, which, |body| body["kms"] = "elsewhere".into()));
    assert!(matches!(refused(&kms), VolumeError::MacMismatch));
    // The sealed key of another volume.
    let range = copy(&other, 0);
    let theirs: Value = serde_json::from_slice(&other[range.start + PREFIX..range.end - MAC]).expect("JSON");
    let blob = both(&image, |image, which| {
        edit_body(image, which, |body| body["wrapped_key"] = theirs["wrapped_key"].clone())
    });
    assert!(matches!(refused(&blob), VolumeError::Kms(_)));
    // A generation that no rollback is told from.
    let raised = both(&image, |image, which| {
        edit_prefix(image, which, |prefix| prefix[40..48].copy_from_slice(&1000_u64.to_le_bytes()))
    });
    assert!(matches!(refused(&raised), VolumeError::MacMismatch));
    // No MAC, an empty one, that of an older header.
    let stripped = both(&image, |image, which| {
        let range = copy(image, which);
        image[range.end - MAC..range.end].fill(0);
    });
    assert!(matches!(refused(&stripped), VolumeError::MacMismatch));
    let (_, older) = used(ID, 2);
    let borrowed = both(&image, |image, which| {
        let (ours, theirs) = (copy(image, which).end, copy(&older, which).end);
        image[ours - MAC..ours].copy_from_slice(&older[theirs - MAC..theirs]);
    });
    assert!(matches!(refused(&borrowed), VolumeError::MacMismatch));
    // None of them by whoever has a record and accepts a rollback, either.
    for forged in [key, kms, blob, raised, stripped, borrowed] {
        let device = MemoryDevice::holding(&forged, true);
        assert!(open_device(&device, &FakeKms::HONEST, Some(&record), Rollback::Accept).is_err());
    }
}
