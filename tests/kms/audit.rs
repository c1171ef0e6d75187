//! The audit log: a line for every call, in order, and nothing secret in it.

use std::fs::{self, OpenOptions};
use std::io::Write;

use envol::kms::embedded::{AuditFilter, Embedded, SignedRequest};
use envol::kms::{EncryptionContext, KeyName, Kms, Principal};
use jiff::Timestamp;
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
    let user = json!({
        "type": "IAMUser", "principalId": "test", "userName": "test", "arn": caller().as_str(), "accountId": "000000000000",
        "invokedBy": "AWS Internal",
    });
    assert_eq!(generated["userIdentity"], user);
    assert_eq!(
        (&generated["sourceIPAddress"], &generated["userAgent"]),
        (&json!("AWS Internal"), &json!("AWS Internal"))
    );
    assert_eq!((&generated["eventVersion"], &generated["eventType"]), (&json!("1.08"), &json!("AwsApiCall")));
    assert_eq!((&generated["managementEvent"], &generated["eventCategory"]), (&json!(true), &json!("Management")));
    assert_eq!(generated["recipientAccountId"], "000000000000");
    assert_eq!(generated["additionalEventData"], json!({ "keyMaterialId": key.current_key_material_id }));
    assert_eq!(generated["responseElements"], Value::Null, "what a cryptographic operation answers is not shown");
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
    assert_eq!(refused["responseElements"], Value::Null);
    assert_eq!(refused.get("additionalEventData"), None);
    assert_eq!(lines[0]["readOnly"], false);
    let made = &lines[0]["responseElements"]["keyMetadata"];
    assert_eq!(
        (&made["arn"], &made["keyState"], &made["keyManager"]),
        (&json!(key.arn), &json!("Enabled"), &json!("CUSTOMER"))
    );
    assert_eq!(lines[2]["responseElements"], json!({ "keyId": key.arn }), "DisableKey names the key that it changed");
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
fn a_line_that_a_crash_cut_short_gives_way_to_a_record_that_says_so() {
    let world = World::new();
    drop(world.open().create_key(&caller(), "", None).expect("made"));
    let path = world.dir().join("audit.ndjson");
    let mut log = OpenOptions::new().append(true).open(path).expect("there");
    log.write_all(b"{\"eventName\":\"Decr").expect("written");
    drop(world.open().list_keys(&caller()).expect("listed"));
    let names: Vec<Value> = world.audit().into_iter().map(|line| line["eventName"].clone()).collect();
    assert_eq!(names, ["CreateKey", "AuditLogGap", "ListKeys"]);
}

#[test]
fn what_a_change_answers_is_shown_as_far_as_cloudtrail_shows_it() {
    let world = World::new();
    let kms = world.open();
    let root = Principal::root("000000000000");
    let key = kms.create_key(&root, "", Some("alias/a")).expect("made");
    let name: KeyName = key.arn.clone().into();
    kms.schedule_key_deletion(&root, &name, 7).expect("scheduled");
    let access = kms.create_access_key(&root, "root").expect("made");
    let role = Principal::new("arn:aws:sts::000000000000:assumed-role/envol/infrastructure");
    kms.list_keys(&role).expect("listed");
    world.pass_days(7);
    kms.list_keys(&root).expect("listed");
    let lines = world.audit();
    assert_eq!(lines[1]["responseElements"], json!({ "keyId": key.arn }), "CreateAlias");
    let scheduled = json!({
        "keyId": key.arn, "keyState": "PendingDeletion", "deletionDate": "Jan 22, 2027, 8:00:00 AM",
        "pendingWindowInDays": 7,
    });
    assert_eq!(lines[2]["responseElements"], scheduled);
    assert_eq!(lines[2]["userIdentity"]["type"], "Root");
    let shown = &lines[3]["responseElements"]["accessKey"];
    assert_eq!((&shown["accessKeyId"], &shown["userName"]), (&json!(access.key.id), &json!("root")));
    assert!(!lines[3].to_string().contains(std::str::from_utf8(access.secret.expose()).expect("letters")));
    assert_eq!(lines[3]["eventSource"], "iam.amazonaws.com");
    assert_eq!(lines[4]["userIdentity"]["type"], "AssumedRole");
    assert_eq!(lines[4]["userIdentity"]["principalId"], "envol:infrastructure");
    let issuer = &lines[4]["userIdentity"]["sessionContext"]["sessionIssuer"];
    assert_eq!(issuer["arn"], "arn:aws:iam::000000000000:role/envol");
    let gone = &lines[5];
    assert_eq!((&gone["eventName"], &gone["eventType"]), (&json!("DeleteKey"), &json!("AwsServiceEvent")));
    assert_eq!(gone["userIdentity"], json!({ "accountId": "000000000000", "invokedBy": "AWS Internal" }));
    assert_eq!(gone["serviceEventDetails"], json!({ "keyId": key.key_id }));
    assert_eq!((&gone["requestParameters"], &gone["responseElements"]), (&Value::Null, &Value::Null));
}

/// The names of the events that pass.
fn names(kms: &Embedded, filter: AuditFilter) -> Vec<String> {
    let found = kms.audit_records(&Principal::root("000000000000"), &filter, 100).expect("found");
    assert_eq!(found.unreadable, 0);
    found.records.iter().map(|record| record["eventName"].as_str().expect("named").to_owned()).collect()
}

#[test]
fn records_are_found_by_key_principal_volume_and_time() {
    let world = World::new();
    let kms = world.open();
    let all = AuditFilter::default;
    let one = kms.create_key(&caller(), "", Some("alias/one")).expect("made");
    let other = kms.create_key(&Principal::root("000000000000"), "", None).expect("made");
    world.pass_seconds(100);
    let volume = context(&[("aws:ebs:id", "vol-1"), ("other", "pair")]);
    kms.encrypt(&caller(), &other.arn.clone().into(), b"text", &volume).expect("sealed");
    refusal(kms.describe_key(&caller(), &named("alias/none")));
    let everything = ["CreateKey", "CreateAlias", "CreateKey", "Encrypt", "DescribeKey"];
    assert_eq!(names(&kms, all()), everything);
    for key in [one.arn.as_str(), &one.key_id, "alias/one", "arn:aws:kms:us-east-1:000000000000:alias/one"] {
        let found = names(&kms, AuditFilter { key: Some(key.to_owned()), ..all() });
        assert_eq!(found, ["CreateKey", "CreateAlias"], "{key}");
    }
    assert_eq!(names(&kms, AuditFilter { key: Some("alias/none".to_owned()), ..all() }), ["DescribeKey"]);
    for principal in ["test", caller().as_str()] {
        let found = names(&kms, AuditFilter { principal: Some(principal.to_owned()), ..all() });
        assert_eq!(found, ["CreateKey", "CreateAlias", "Encrypt", "DescribeKey"], "{principal}");
    }
    let by_root = names(&kms, AuditFilter { principal: Some("root".to_owned()), ..all() });
    assert_eq!(by_root.iter().filter(|name| *name != "LookupEvents").collect::<Vec<_>>(), ["CreateKey"]);
    assert_eq!(names(&kms, AuditFilter { volume: Some("vol-1".to_owned()), ..all() }), ["Encrypt"]);
    assert!(names(&kms, AuditFilter { volume: Some("vol-2".to_owned()), ..all() }).is_empty());
    let then = Timestamp::from_second(1_800_000_050).expect("a time");
    assert_eq!(names(&kms, AuditFilter { until: Some(then), ..all() }), &everything[..3]);
    assert_eq!(names(&kms, AuditFilter { since: Some(then), ..all() })[..2], everything[3..]);
    let both = AuditFilter { key: Some(other.key_id.clone()), since: Some(then), ..all() };
    assert_eq!(names(&kms, both), ["Encrypt"]);
    let root = Principal::root("000000000000");
    let newest = kms.audit_records(&root, &AuditFilter { until: Some(then), ..all() }, 2).expect("found").records;
    assert_eq!(newest.iter().map(|record| &record["eventName"]).collect::<Vec<_>>(), ["CreateAlias", "CreateKey"]);
    let shown = kms.audit_record(&root, newest[0]["eventID"].as_str().expect("an id")).expect("found");
    assert_eq!(shown, newest[0]);
    assert!(refusal(kms.audit_record(&root, "none")).starts_with("NotFoundException: "));
}

#[test]
fn reading_the_log_is_roots_alone_and_leaves_its_record_too() {
    let world = World::new();
    let kms = world.open();
    let said = refusal(kms.audit_records(&caller(), &AuditFilter::default(), 10));
    let expected = "AccessDeniedException: User: arn:aws:iam::000000000000:user/test is not authorized to perform: \
                    cloudtrail:LookupEvents";
    assert_eq!(said, expected);
    names(&kms, AuditFilter { key: Some("alias/a".to_owned()), ..AuditFilter::default() });
    let lines = world.audit();
    assert_eq!(lines[0]["errorCode"], "AccessDeniedException");
    assert_eq!(
        (&lines[1]["eventName"], &lines[1]["eventSource"]),
        (&json!("LookupEvents"), &json!("cloudtrail.amazonaws.com"))
    );
    assert_eq!(lines[1]["requestParameters"], json!({ "keyId": "alias/a" }));
}

#[test]
fn a_line_that_is_no_record_hides_nothing_but_itself_and_is_counted() {
    let world = World::new();
    let root = Principal::root("000000000000");
    let key = world.open().create_key(&root, "", None).expect("made");
    let mut log = OpenOptions::new().append(true).open(world.dir().join("audit.ndjson")).expect("there");
    // What a power cut and an editor leave: the first page of a batch as zeros, half a line, bytes that are no text, no object.
    log.write_all(&[&[0; 4096], &b"\"}\n{\"eventName\":\"Decr\n\xff\xfe\n\n5\n"[..]].concat()).expect("written");
    let kms = world.open();
    let name: KeyName = key.arn.into();
    kms.encrypt(&root, &name, b"text", &EncryptionContext::default()).expect("sealed");
    drop(kms);
    let kms = world.open();
    assert_eq!(kms.key_last_usage(&root, &name).expect("told").last.expect("used").operation, "Encrypt");
    let found = kms.audit_records(&root, &AuditFilter::default(), 100).expect("found");
    let names: Vec<_> = found.records.iter().map(|record| record["eventName"].as_str().expect("named")).collect();
    assert_eq!((names, found.unreadable), (vec!["CreateKey", "AuditLogGap", "Encrypt", "GetKeyLastUsage"], 5));
    let behind = found.records[2]["eventID"].as_str().expect("an id");
    assert_eq!(kms.audit_record(&root, behind).expect("found"), found.records[2]);
}

#[test]
fn a_log_that_is_moved_away_is_still_the_one_that_is_written_and_read() {
    let world = World::new();
    let kms = world.open();
    let root = Principal::root("000000000000");
    kms.list_keys(&root).expect("listed");
    let path = world.dir().join("audit.ndjson");
    fs::rename(&path, world.dir().join("audit.ndjson.1")).expect("moved");
    fs::write(&path, "").expect("made");
    assert_eq!(names(&kms, AuditFilter::default()), ["ListKeys"]);
    assert_eq!(fs::read(&path).expect("there"), b"");
}

#[test]
fn looking_at_all_keys_from_within_is_no_call_and_lets_time_pass() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", None).expect("made");
    kms.schedule_key_deletion(&caller(), &key.arn.into(), 7).expect("scheduled");
    let lines = world.audit().len();
    assert_eq!(kms.all_keys().expect("told")[0].key_id, key.key_id);
    assert_eq!(world.audit().len(), lines);
    world.pass_days(7);
    assert_eq!(kms.all_keys().expect("told"), []);
    assert_eq!(world.audit().last().expect("a line")["eventName"], "DeleteKey");
}
