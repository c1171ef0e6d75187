//! The boundary of the HSM: whatever comes in is answered by something that can be read, and no reply to bytes that are no
//! request has more in it than a failure.

use std::sync::LazyLock;

use envol::kms::embedded::hsm::micro::Sealer;

static SEALER: LazyLock<Sealer> = LazyLock::new(|| Sealer::new(3).expect("locks"));

/// A failure: its kind, and one field of one byte.
const FAILURE: [u8; 5] = [6, 0, 0, 0, 1];

pub(crate) fn run(data: &[u8]) {
    // New RSA keys take seconds each, and are no matter of decoding; a new pair's kind is its message's last byte.
    if matches!(data, [13, ..] | [15, .., 0..=2]) {
        return;
    }
    let reply = SEALER.raw(data).expect("locks");
    assert!((1..=8).contains(&reply[0]), "a reply of a known kind");
    let known = data.first().is_some_and(|kind| (1..=20).contains(kind));
    assert!(known || (reply.starts_with(&FAILURE) && reply.len() == 6), "nonsense is answered by a failure");
    assert!(reply.len() <= 64 << 10, "a reply is bounded");
}

fn message(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![kind];
    for field in fields {
        bytes.extend(u32::try_from(field.len()).expect("short").to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let (account, key, material, sealed) = (&b"000000000000"[..], &[7; 16][..], &[8; 32][..], &[9; 93][..]);
    let token = [account, key, material, sealed];
    let with = |kind, rest: &[&[u8]]| message(kind, &[&token[..], rest].concat());
    vec![
        message(1, &[]),
        message(2, &[account, key]),
        with(3, &[b"context", b"plaintext"]),
        with(4, &[b"context", &[1; 130]]),
        with(5, &[b"context", &[0, 64]]),
        with(6, &[b"context", &[4, 0]]),
        message(7, &[&token[..], &[b"c", &[1; 130]], &token[..], &[b"d"]].concat()),
        message(8, &[&[0, 32]]),
        message(9, &[b"purpose", b"secret"]),
        message(10, &[b"purpose", &[1; 60]]),
        message(11, &[account, key, &[2]]),
        message(12, &[&token[..], &[&[4], b"message"]].concat()),
        message(14, &[account, key, &[0], b"purpose", &[1; 60], &[1], &[5; 256]]),
        message(15, &[account, key, &[3]]),
        with(16, &[&[6, 1], &[6; 32]]),
        with(17, &[&[1], &[5; 256]]),
        with(18, &[&[4; 91]]),
        with(19, &[b"context", &[3, 1]]),
        message(20, &[&[&[1][..]], &token[..], &[b"", &[5; 256], &[0]], &token[..], &[b"context"]].concat()),
        message(99, &[]),
        vec![3, 255, 255, 255, 255],
    ]
}
