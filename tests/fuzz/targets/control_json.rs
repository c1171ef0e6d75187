//! The bodies of the control API, both ways: what is read is written as it is read again.

use envol::control::api;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

fn read<T: DeserializeOwned + Serialize>(data: &[u8]) {
    let Ok(read) = serde_json::from_slice::<T>(data) else { return };
    let written = serde_json::to_vec(&read).expect("it is text and numbers");
    let again: T = serde_json::from_slice(&written).expect("what is written can be read");
    let value = |read: &T| serde_json::to_value(read).expect("it is text and numbers");
    assert_eq!(value(&read), value(&again));
    // Of a request no word is passed over.
    if let Ok(Value::Object(given)) = serde_json::from_slice(data)
        && let Value::Object(known) = value(&read)
        && std::any::type_name::<T>().contains("::Create")
    {
        assert!(given.keys().all(|name| known.contains_key(name)), "a word that nobody knows is passed over");
    }
}

pub(crate) fn run(data: &[u8]) {
    let Some((kind, data)) = data.split_first() else { return };
    match kind % 16 {
        0 => read::<api::CreateVolume>(data),
        1 => read::<api::AddVolume>(data),
        2 => read::<api::Rewrap>(data),
        3 => read::<api::RestoreHeader>(data),
        4 => read::<api::Attach>(data),
        5 => read::<api::Detach>(data),
        6 => read::<api::CreateKey>(data),
        7 => read::<api::ScheduleDeletion>(data),
        8 => read::<api::PutAlias>(data),
        9 => read::<api::CreateAccessKey>(data),
        10 => read::<api::ForgetAuditVerifyKey>(data),
        11 => read::<api::Status>(data),
        12 => read::<api::Step<api::Volume>>(data),
        13 => read::<api::Failure>(data),
        14 => read::<api::Key>(data),
        _ => read::<api::Attachment>(data),
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let bodies: [(u8, &str); 22] = [
        (
            0,
            r#"{"name":"db","size":1073741824,"key":"alias/a","backing":"/srv/db","sector_size":512,"scope":1048576,"thick":true,"force":false}"#,
        ),
        (0, r#"{"name":"db"}"#),
        (1, r#"{"path":"/srv/db.envol","dry_run":true}"#),
        (2, r#"{"key":"alias/b"}"#),
        (3, r#"{"header":"RU5WT0xWT0w=","accept_rollback":true}"#),
        (4, r#"{"read_only":true,"direct":false,"dry_run":false,"accept_rollback":false}"#),
        (4, "{}"),
        (5, r#"{"force":true}"#),
        (6, r#"{"alias":"alias/a","description":"d"}"#),
        (7, r#"{"days":7}"#),
        (8, r#"{"name":"alias/a","key":"k"}"#),
        (8, r#"{"key":"k"}"#),
        (9, r#"{"user":"root"}"#),
        (10, r#"{"fingerprint":"00"}"#),
        (
            11,
            r#"{"version":"0","pid":1,"since":"x","state_dir":"/s","listeners":[],"key_memory":"mlock","io":"threads","connections":0,"volumes":[],"keys":[],"traffic":[{"volume":"v","reads":1,"read_bytes":1,"writes":1,"written_bytes":1,"flushes":1}]}"#,
        ),
        (12, r#"{"progress":{"done":1,"total":2}}"#),
        (12, r#"{"error":{"code":"c","message":"m","remedy":"r","kms_exception":null,"exit_code":7}}"#),
        (13, r#"{"error":{"code":"c","message":"m","remedy":"r","kms_exception":"E","exit_code":5}}"#),
        (
            14,
            r#"{"key_id":"k","arn":"a","state":"Enabled","aliases":[],"description":"","manager":"CUSTOMER","created":"x","deletion_date":null,"rotations":0,"rotation_period_days":null,"next_rotation_date":null,"tags":{},"current_key_material_id":"","volumes":[]}"#,
        ),
        (
            15,
            r#"{"volume":"v","name":"n","uri":"u","device":null,"read_only":false,"direct":false,"clients":[],"since":"x"}"#,
        ),
        (15, "null"),
        (0, r#"{"name":"\u0000","size":18446744073709551616}"#),
    ];
    bodies.into_iter().map(|(kind, body)| [&[kind], body.as_bytes()].concat()).collect()
}
