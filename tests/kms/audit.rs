//! The audit log: a line for every call, in order, and nothing secret in it.

use std::fs::{self, OpenOptions};
use std::io::Write;

use envol::kms::embedded::SignedRequest;
use envol::kms::{EncryptionContext, KeyName, Kms, Principal};
use serde_json::{Value, json};

use crate::world::{World, caller, context, named, refusal};

#[test]
fn every_call_leaves_its_line_refused_ones_too() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "words", Some("alias/a")).expect("made");
    let name: KeyName = key.arn.clone().into();
    let volume = context(&[("aws:ebs:id", "vol-1")]);
    let made = kms.generate_data_key_without_plaintext(&caller(), &named("alias/a"), &volume).expect("made");
    kms.decrypt(&caller(), &key.arn, &made.wrapped, &volume).expect("opened");
    kms.encrypt(&caller(), &name, b"text", &volume).expect("sealed");
    kms.generate_data_key(&caller(), &name, 64, &volume).expect("made");
    kms.rotate_key_on_demand(&caller(), &name).expect("rotated");
    kms.disable_key(&caller(), &name).expect("disabled");
    refusal(kms.decrypt(&caller(), &key.arn, &made.wrapped, &volume).map(|_| ()));
    kms.enable_key(&caller(), &name).expect("enabled");
    refusal(kms.describe_key(&caller(), &named("nonsense")));
    kms.list_keys(&caller()).expect("listed");
    kms.create_alias(&caller(), "alias/b", &name).expect("made");
    kms.update_alias(&caller(), "alias/b", &name).expect("moved");
    kms.delete_alias(&caller(), "alias/b").expect("deleted");
    refusal(kms.delete_alias(&caller(), "alias/aws/ebs"));
    kms.list_aliases(&caller()).expect("listed");
    kms.schedule_key_deletion(&caller(), &name, 7).expect("scheduled");
    kms.cancel_key_deletion(&caller(), &name).expect("cancelled");
    kms.schedule_key_deletion(&caller(), &name, 7).expect("scheduled");
    world.pass_days(7);
    kms.list_keys(&caller()).expect("listed");
    let lines = world.audit();
    let found: Vec<(&str, &str)> = lines
        .iter()
        .map(|line| (line["eventName"].as_str().expect("named"), line["errorCode"].as_str().unwrap_or_default()))
        .collect();
    let expected = [
        ("CreateKey", ""),
        ("CreateAlias", ""),
        ("GenerateDataKeyWithoutPlaintext", ""),
        ("Decrypt", ""),
        ("Encrypt", ""),
        ("GenerateDataKey", ""),
        ("RotateKeyOnDemand", ""),
        ("DisableKey", ""),
        ("Decrypt", "DisabledException"),
        ("EnableKey", ""),
        ("DescribeKey", "NotFoundException"),
        ("ListKeys", ""),
        ("CreateAlias", ""),
        ("UpdateAlias", ""),
        ("DeleteAlias", ""),
        ("DeleteAlias", "NotAuthorizedException"),
        ("ListAliases", ""),
        ("ScheduleKeyDeletion", ""),
        ("CancelKeyDeletion", ""),
        ("ScheduleKeyDeletion", ""),
        ("DeleteKey", ""),
        ("ListKeys", ""),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_line_has_the_fields_of_cloudtrail() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", None).expect("made");
    let volume = context(&[("aws:ebs:id", "vol-1")]);
    let made = kms.generate_data_key_without_plaintext(&caller(), &key.arn.clone().into(), &volume).expect("made");
    kms.disable_key(&caller(), &key.arn.clone().into()).expect("disabled");
    refusal(kms.decrypt(&caller(), &key.arn, &made.wrapped, &volume).map(|_| ()));
    let lines = world.audit();
    let generated = &lines[1];
    assert_eq!(generated["userIdentity"], json!({ "arn": caller().as_str() }));
    assert_eq!(generated["eventTime"], "2027-01-15T08:00:00Z");
    assert_eq!(generated["eventSource"], "kms.amazonaws.com");
    assert_eq!(generated["awsRegion"], "us-east-1");
    assert_eq!(generated["readOnly"], true);
    assert_eq!(
        generated["requestParameters"],
        json!({ "keyId": key.arn, "encryptionContext": { "aws:ebs:id": "vol-1" }, "numberOfBytes": 64 })
    );
    let resource = json!({ "accountId": "000000000000", "type": "AWS::KMS::Key", "ARN": key.arn });
    assert_eq!(generated["resources"], json!([resource]));
    assert_eq!(generated.get("errorCode"), None);
    let refused = lines.last().expect("there are lines");
    assert_eq!(refused["errorCode"], "DisabledException");
    assert_eq!(refused["errorMessage"], format!("{} is disabled.", key.arn));
    assert_eq!(refused["requestParameters"]["encryptionAlgorithm"], "SYMMETRIC_DEFAULT");
    assert_eq!(refused["resources"], json!([resource]));
    assert_eq!(lines[0]["readOnly"], false);
}

#[test]
fn neither_plaintext_nor_blob_is_in_the_log_or_the_store() {
    let world = World::new();
    let kms = world.open();
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let plaintext = b"a plaintext that nobody else has";
    let none = EncryptionContext::default();
    let blob = kms.encrypt(&caller(), &key, plaintext, &none).expect("sealed").wrapped;
    let made = kms.generate_data_key(&caller(), &key, 64, &none).expect("made");
    kms.decrypt_bytes(&caller(), None, &blob, &none).expect("opened");
    drop(kms);
    let domain_key = fs::read(world.domain_key()).expect("there");
    let secrets: [&[u8]; 4] = [plaintext, made.plaintext.expose(), &domain_key, &blob.bytes()[77..]];
    for file in ["audit.ndjson", "keys.redb"] {
        let bytes = fs::read(world.dir().join(file)).expect("there");
        assert!(bytes.len() > 100, "{file} is written");
        let hexed: Vec<String> = secrets.iter().map(|secret| hex(&secret[..16])).collect();
        for (secret, hexed) in secrets.iter().zip(hexed) {
            assert!(!bytes.windows(16).any(|window| window == &secret[..16]), "{file}");
            assert!(!bytes.windows(32).any(|window| window == hexed.as_bytes()), "{file}");
        }
    }
}

#[test]
fn a_client_cannot_make_a_line_long_by_its_name_or_by_what_it_is_refused_for() {
    let world = World::new();
    let kms = world.open();
    let mut request = SignedRequest::new(Principal::root("000000000000"), "AKID".to_owned());
    request.user_agent = Some("\u{20ac}".repeat(10_000));
    refusal(kms.describe_key(&request, &named(&"\u{20ac}".repeat(600))));
    let line = world.audit().pop().expect("a line");
    let text = |member: &str| line[member].as_str().expect("text").to_owned();
    assert_eq!(text("userAgent"), "\u{20ac}".repeat(341), "1,024 bytes, and no character torn");
    assert!(text("errorMessage").starts_with("Invalid keyId '\u{20ac}") && text("errorMessage").len() <= 1024);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_line_that_a_crash_cut_short_is_removed_at_the_next_opening() {
    let world = World::new();
    drop(world.open().create_key(&caller(), "", None).expect("made"));
    let path = world.dir().join("audit.ndjson");
    let mut log = OpenOptions::new().append(true).open(path).expect("there");
    log.write_all(b"{\"eventName\":\"Decr").expect("written");
    drop(world.open().list_keys(&caller()).expect("listed"));
    let names: Vec<Value> = world.audit().into_iter().map(|line| line["eventName"].clone()).collect();
    assert_eq!(names, ["CreateKey", "ListKeys"]);
}
