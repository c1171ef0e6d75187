//! The headers of a signed request: no other request than the one that was signed is taken for it.

use std::sync::LazyLock;

use envol::crypto::digest::{hmac_sha256, sha256};
use envol::kms::wire::sigv4::Claim;
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use jiff::Timestamp;

use super::{Input, edit};

const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const BODY: &[u8] = b"{\"KeyId\":\"alias/a\"}";
const SIGNED: [(&str, &str); 4] = [
    ("content-type", "application/x-amz-json-1.1"),
    ("host", "localhost:4599"),
    ("x-amz-date", "20270115T080000Z"),
    ("x-amz-target", "TrentService.Decrypt"),
];

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The head of the request, signed here by the published scheme.
static HEAD: LazyLock<String> = LazyLock::new(|| {
    let names = SIGNED.map(|(name, _)| name).join(";");
    let lines: String = SIGNED.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical = format!("POST\n/\n\n{lines}\n{names}\n{}", hex(&sha256(&[BODY])));
    let scope = "20270115/us-east-1/kms/aws4_request";
    let text = format!("AWS4-HMAC-SHA256\n20270115T080000Z\n{scope}\n{}", hex(&sha256(&[canonical.as_bytes()])));
    let mut key = [b"AWS4", SECRET].concat();
    for part in scope.split('/') {
        key = hmac_sha256(&key, &[part.as_bytes()]).to_vec();
    }
    let signature = hex(&hmac_sha256(&key, &[text.as_bytes()]));
    let credential = format!("AWS4-HMAC-SHA256 Credential=AKID/{scope}, SignedHeaders={names}, Signature={signature}");
    let signed: String = SIGNED.iter().map(|(name, value)| format!("{name}: {value}\n")).collect();
    format!("{signed}authorization: {credential}\n")
});

/// The headers in `head`; lines that are none are left out.
fn headers(head: &[u8]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(64) {
        let colon = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
        let (name, value) = line.split_at(colon);
        let name = HeaderName::from_bytes(name);
        let value = HeaderValue::from_bytes(value.get(1..).unwrap_or_default().trim_ascii());
        if let (Ok(name), Ok(value)) = (name, value) {
            headers.append(name, value);
        }
    }
    headers
}

/// The values of a header as they are signed.
fn values(headers: &HeaderMap, name: &str) -> Vec<String> {
    let text = |value: &HeaderValue| {
        String::from_utf8_lossy(value.as_bytes()).split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    };
    headers.get_all(name).iter().map(text).collect()
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    let (mut head, mut body) = (HEAD.as_bytes().to_vec(), BODY.to_vec());
    if mode & 1 != 0 {
        edit(&mut body, &mut input);
    }
    if mode & 2 == 0 {
        edit(&mut head, &mut input);
    } else {
        head = input.0.to_vec();
    }
    let headers = headers(&head);
    let now = Timestamp::from_second(1_800_000_000).expect("a time");
    let Ok(claim) = Claim::read(&headers) else {
        assert!(head != HEAD.as_bytes(), "the request that was signed is read");
        return;
    };
    assert!(claim.verify(b"another secret", &headers, &body, now).is_err(), "nobody else signed it");
    let taken = claim.verify(SECRET, &headers, &body, now).is_ok();
    let as_signed = body == BODY
        && SIGNED.iter().all(|(name, value)| values(&headers, name).join(",") == *value)
        && claim.region == "us-east-1";
    assert!(!taken || as_signed, "what was not signed is taken");
    assert!(taken || head != HEAD.as_bytes() || body != BODY, "what was signed is taken");
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let head = HEAD.as_bytes();
    let raw = [&[2], head].concat();
    let edits = (0..24_u8).map(|number| vec![0, number % 8, 0, 0, number / 12, number.wrapping_mul(21), 65, 2, 66]);
    let bodies = (0..8).map(|what| vec![1, what, 0, 0, 0, 3, 1, 1, 1]);
    edits.chain(bodies).chain([vec![0], raw]).collect()
}
