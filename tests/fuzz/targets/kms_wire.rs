//! Requests in AWS's protocol, judged by the service model: what passes has what the model requires, and what is secret is
//! in no text that is kept or answered.

use envol::kms::wire::model::{Kind, OPERATIONS, Operation, Wrong};
use serde_json::{Map, Value};

pub(crate) fn run(data: &[u8]) {
    let Some((number, body)) = data.split_first() else { return };
    let operation = &OPERATIONS[usize::from(*number) % OPERATIONS.len()];
    assert!(Operation::named(operation.name).is_some_and(|named| named.name == operation.name));
    let Ok(members) = serde_json::from_slice::<Map<String, Value>>(body) else { return };
    let secrets: Vec<&str> = operation
        .members
        .iter()
        .filter(|member| member.shape.sensitive || matches!(member.shape.kind, Kind::Blob(_)))
        .filter_map(|member| members.get(member.name)?.as_str())
        .filter(|text| text.len() >= 8 && only_there(&members, text))
        .collect();
    match operation.judge(&members) {
        Ok(()) => {
            for member in operation.members {
                let there = members.get(member.name).is_some_and(|value| !value.is_null());
                assert!(there || !member.required, "{} is required", member.name);
            }
            let shown = Value::Object(operation.shown(&members)).to_string();
            assert!(secrets.iter().all(|secret| !shown.contains(secret)), "a secret is kept: {shown}");
        }
        Err(Wrong::Unreadable(text) | Wrong::Invalid(text)) => {
            assert!(secrets.iter().all(|secret| !text.contains(secret)), "a secret is repeated: {text}");
        }
    }
    assert_eq!(operation.judge(&members), operation.judge(&members));
}

/// Whether `text` is in no other value and no name, so that where it is found it comes from the secret; nor in any text of ours.
fn only_there(members: &Map<String, Value>, text: &str) -> bool {
    let all = Value::Object(members.clone()).to_string();
    let ours = "1 validation errors detected: Value at failed to satisfy constraint: Member must have length greater less \
                than or equal to not be null satisfy regular expression pattern: enum value set [] of";
    all.matches(text).count() == 1 && !ours.contains(text) && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let bodies = [
        "{}",
        r#"{"KeyId":"alias/a"}"#,
        r#"{"KeyId":"alias/a","Plaintext":"c2VjcmV0c2VjcmV0","EncryptionContext":{"a":"b"}}"#,
        r#"{"CiphertextBlob":"AQcHBwcHBwcH","KeyId":"k","EncryptionContext":{}}"#,
        r#"{"KeyId":"k","NumberOfBytes":0,"KeySpec":"AES_512"}"#,
        r#"{"KeyId":null,"Limit":1001,"Marker":""}"#,
        r#"{"KeyId":"k","Tags":[{"TagKey":"a","TagValue":"b"},{"TagKey":""}]}"#,
        r#"{"KeyId":"k","Message":"bWVzc2FnZW1lc3M=","Mac":"bWFjbWFjbWFj","MacAlgorithm":"HMAC_SHA_256"}"#,
        r#"{"KeyId":"k","Message":"bWVzc2FnZW1lc3M=","MessageType":"DIGEST","Signature":"c2ln","SigningAlgorithm":"none"}"#,
    ];
    let numbers = (0..OPERATIONS.len()).map(|number| u8::try_from(number).expect("few"));
    numbers.zip(bodies.into_iter().cycle()).map(|(number, body)| [&[number], body.as_bytes()].concat()).collect()
}
