//! Signatures by botocore, over requests that are hard to canonicalise: each verifies, and none does once anything is
//! changed.

use std::process::Command;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use envol::kms::wire::sigv4::Claim;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use serde_json::Value;

use crate::support::{must, python, python_has};
use crate::world::script;

struct Signed {
    secret: String,
    headers: HeaderMap,
    body: Vec<u8>,
    time: Timestamp,
}

impl Signed {
    fn read(line: &str) -> Self {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let text = |value: &Value| value.as_str().expect("text").to_owned();
        let mut headers = HeaderMap::new();
        for pair in line["headers"].as_array().expect("headers") {
            let name = HeaderName::from_bytes(text(&pair[0]).as_bytes()).expect("a name");
            headers.append(name, HeaderValue::from_bytes(text(&pair[1]).as_bytes()).expect("a value"));
        }
        let body = STANDARD.decode(text(&line["body"])).expect("base64");
        let time = Timestamp::from_second(line["time"].as_i64().expect("seconds")).expect("a time");
        Self { secret: text(&line["secret"]), headers, body, time }
    }

    fn judge(&self) -> Result<String, String> {
        let claim = Claim::read(&self.headers).map_err(|error| error.to_string())?;
        let verified = claim.verify(self.secret.as_bytes(), &self.headers, &self.body, self.time);
        verified.map(|()| claim.region).map_err(|error| error.to_string())
    }
}

#[test]
fn what_botocore_signs_is_verified_and_nothing_else() {
    if !python_has(&["botocore"]) {
        return;
    }
    let lines = must(Command::new(python()).arg(script("sign.py")));
    assert!(lines.lines().count() >= 10, "{lines}");
    for line in lines.lines() {
        let signed = || Signed::read(line);
        assert_eq!(signed().judge(), Ok("eu-west-1".to_owned()), "{line}");
        let mut changed = signed();
        changed.body.push(b' ');
        assert!(changed.judge().is_err(), "a byte more: {line}");
        let mut changed = signed();
        changed.secret.push('a');
        assert!(changed.judge().is_err(), "another secret: {line}");
        for name in signed().headers.keys().filter(|name| *name != "authorization") {
            let mut changed = signed();
            changed.headers.insert(name, HeaderValue::from_static("20270115T080001Z"));
            assert!(changed.judge().is_err(), "another {name}: {line}");
            changed.headers.remove(name);
            assert!(changed.judge().is_err(), "no {name}: {line}");
        }
        for (old, new) in [("eu-west-1", "us-east-1"), ("Signature=", "Signature=0"), ("host;", "")] {
            let mut changed = signed();
            let header = changed.headers["authorization"].to_str().expect("text").replacen(old, new, 1);
            changed.headers.insert("authorization", HeaderValue::from_str(&header).expect("a value"));
            assert!(changed.judge().is_err(), "{new} for {old}: {line}");
        }
    }
}
