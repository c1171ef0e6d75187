//! `envol kms backup` and `restore`: a KMS in one file, carried elsewhere, with every volume on it.
#![allow(unsafe_code, reason = "the shared support starts and signals processes")]

mod copies;
mod fitting;
mod killed;
mod owner;
mod safe;
#[path = "../support/mod.rs"]
mod support;
mod ways;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use safe::{Safe, code, member, names};
use support::{Daemon, command, have, must, random_file};

#[test]
fn a_kms_is_carried_elsewhere_while_it_serves_and_every_volume_attaches_there() {
    if !have(&["nbdcopy"]) {
        return;
    }
    let (safe, daemon) = (Safe::new(), Daemon::start());
    daemon.json(["key", "create", "--alias", "mine"]);
    let file = safe.path("random");
    random_file(&file, 8 << 20);
    for (name, key) in [("one", "alias/mine"), ("two", "alias/aws/ebs")] {
        let uri = daemon.attached(name, "8M", &["--key", key]);
        must(&mut command(&["nbdcopy", file.to_str().expect("text"), &uri]));
    }
    daemon.json(["key", "rotate", "alias/mine"]);
    let who = r#"{ "accounts": { "000000000000": { "users": { "carried": {} } } } }"#;
    let policy = r#"{ "Statement": { "Sid": "carried", "Effect": "Allow", "Principal": { "AWS": "000000000000" }, "Action": "kms:*", "Resource": "*" } }"#;
    safe.write("identities", who.as_bytes());
    safe.write("policy", policy.as_bytes());
    daemon.json(["iam", "put", &safe.text("identities")]);
    daemon.json(["key", "policy", "put", "alias/mine", &safe.text("policy")]);
    let rights = |daemon: &Daemon| [daemon.json(["key", "policy", "get", "alias/mine"]), daemon.json(["iam", "show"])];
    let given = rights(&daemon);
    assert!(given.iter().all(|told| told.to_string().contains("carried")), "{given:?}");
    // Keys are made all the while.
    let made = std::thread::scope(|scope| {
        let making =
            scope.spawn(|| (0..30).map(|_| member(&daemon.json(["key", "create"]), "key_id").to_owned()).collect());
        let before: Vec<String> = vec![member(&daemon.json(["key", "create"]), "key_id").to_owned()];
        let told = daemon.json(safe.words("backup"));
        assert_eq!(member(&told, "file"), safe.text("kms.backup"));
        let _: Vec<String> = making.join().expect("no panic");
        before
    });
    let left = names(&daemon.path().join("state"));
    assert!(!left.iter().any(|name| name.contains("copy")), "the copy is removed: {left:?}");
    for name in ["one", "two"] {
        let backing = daemon.backing(name);
        daemon.detach(name);
        fs::copy(backing, safe.path(name)).expect("carried");
    }

    let mut elsewhere = Daemon::prepared(|state_dir| assert_eq!(code(&safe.restore(state_dir)), 0));
    for key in made {
        assert_eq!(elsewhere.json(["key", "show", &key])["state"], "Enabled", "what was answered before is there");
    }
    assert_eq!(elsewhere.json(["key", "show", "alias/mine"])["rotations"], 1);
    assert_eq!(rights(&elsewhere), given, "who may do what there");
    let log = elsewhere.json(["audit", "list"]).to_string();
    assert!(!log.contains("RotateKeyOnDemand") && log.contains("DescribeKey"), "it begins a log of its own: {log}");
    let volumes = elsewhere.path().join("state/volumes");
    for name in ["one", "two"] {
        let place = volumes.join(format!("{name}.envol"));
        fs::create_dir_all(&volumes).expect("made");
        fs::copy(safe.path(name), &place).expect("carried");
        elsewhere.json(["volume", "add", place.to_str().expect("text"), "--yes"]);
        let uri = elsewhere.attach(name);
        let back = safe.path("back");
        let _ = fs::remove_file(&back);
        must(&mut command(&["nbdcopy", &uri, back.to_str().expect("text")]));
        assert!(fs::read(&back).expect("readable") == fs::read(&file).expect("readable"), "{name} is as it was");
    }
    elsewhere.terminate();
    elsewhere.run();
    assert_eq!(elsewhere.json(["key", "show", "alias/mine"])["state"], "Enabled");
}

#[test]
fn a_backup_without_a_daemon_and_under_a_passphrase_for_the_domain_key_is_whole_too() {
    let safe = Safe::new();
    safe.write("domain", b"another passphrase");
    let mut daemon = Daemon::start_with(&["--passphrase-file", &safe.text("domain")]);
    let key = member(&daemon.json(["key", "create"]), "key_id").to_owned();
    daemon.json(safe.words("backup"));
    assert_eq!(daemon.refused(4, safe.words("backup"))["exit_code"], 4, "a backup is never overwritten");
    fs::remove_file(safe.path("kms.backup")).expect("there");
    daemon.terminate();
    let words = safe.words("backup").into_iter().chain(["--domain-passphrase-file".into(), safe.text("domain")]);
    daemon.json(words);
    let elsewhere = Daemon::prepared(|state_dir| assert_eq!(code(&safe.restore(state_dir)), 0));
    assert_eq!(elsewhere.json(["key", "show", &key])["state"], "Enabled");
    assert!(elsewhere.json(["status"])["hsm"]["domain_key"].to_string().contains("domain.key"));
}

#[test]
fn what_is_not_whole_or_not_opened_leaves_nothing_behind() {
    let (safe, daemon) = (Safe::new(), Daemon::start());
    // More than one chunk of 64 KiB.
    let words = "w".repeat(8000);
    for _ in 0..16 {
        daemon.json(["key", "create", "--description", &words]);
    }
    daemon.json(safe.words("backup"));
    let backup = fs::read(safe.path("kms.backup")).expect("readable");
    assert!(backup.len() > (64 << 10) + 100, "it has more than one chunk");
    let domain_key = fs::read(daemon.path().join("state/domain.key")).expect("root reads it");
    assert!(!backup.windows(32).any(|window| window == domain_key), "no clear domain key is in it");

    let place = safe.path("state");
    let refused = |content: &[u8], expected: i32| {
        fs::write(safe.path("kms.backup"), content).expect("written");
        let output = safe.restore(&place);
        assert_eq!(code(&output), expected, "{output:?}");
        assert_eq!(names(&place), ["lock"], "nothing but the lock is left");
        String::from_utf8(output.stderr).expect("text")
    };
    let head = backup.iter().enumerate().filter(|(_, byte)| **byte == b'\n').nth(1).expect("two lines").0 + 1;
    for at in [head + 1, head + 4, head + 40, head + 4 + (64 << 10), backup.len() / 2, backup.len() - 1] {
        let mut changed = backup.clone();
        changed[at] ^= 1;
        refused(&changed, 7);
    }
    for length in [0, 10, head, head + 3, head + 100, backup.len() - 1] {
        refused(&backup[..length], 7);
    }
    // The last chunk is left out, and the one before it ends the file.
    let second = head + 4 + (64 << 10) + 16;
    refused(&backup[..second], 7);
    refused(&[&backup[..], b"x"].concat(), 7);
    refused(b"something else entirely", 7);
    safe.write("passphrase", b"wrong horse battery staple\n");
    let said = refused(&backup, 7);
    assert!(said.contains("passphrase") && !said.contains("wrong horse"), "{said}");
    safe.write("passphrase", b"correct horse battery staple\n");
    fs::set_permissions(safe.path("passphrase"), fs::Permissions::from_mode(0o644)).expect("ours");
    refused(&backup, 2);
    fs::set_permissions(safe.path("passphrase"), fs::Permissions::from_mode(0o600)).expect("ours");

    fs::write(safe.path("kms.backup"), &backup).expect("written");
    assert_eq!(code(&safe.restore(&daemon.path().join("state"))), 4, "a daemon uses it");
    assert_eq!(code(&safe.restore(&place)), 0);
    assert_eq!(code(&safe.restore(&place)), 4, "there is a KMS already");
}
