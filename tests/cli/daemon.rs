//! The command line against the real daemon: every command, and the exit code of every kind of failure.

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::program::{Said, command, envol_at};

/// A daemon of the test's own, killed with it.
pub(crate) struct Daemon {
    child: Child,
    dir: tempfile::TempDir,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let log = fs::File::create(dir.path().join("log")).expect("a log");
        let mut command = command(&["daemon", "--state-dir"]);
        command.arg(dir.path().join("state")).arg("--socket").arg(dir.path().join("control.sock"));
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the program runs");
        let daemon = Self { child, dir };
        let deadline = Instant::now() + Duration::from_secs(20);
        while daemon.run("status --json").code != Some(0) {
            assert!(Instant::now() < deadline, "the daemon came up: {}", daemon.log());
            thread::sleep(Duration::from_millis(20));
        }
        daemon
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).expect("a log")
    }

    /// Its state directory.
    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("control.sock")
    }

    fn run(&self, words: &str) -> Said {
        envol_at(&self.socket(), &words.split(' ').collect::<Vec<_>>())
    }

    /// What `words` answer as JSON.
    fn told(&self, words: &str) -> Value {
        let said = self.run(&format!("{words} --json"));
        assert_eq!(said.code, Some(0), "{words}: {}\n{}", said.stderr, self.log());
        said.document()
    }

    /// The exit code, code and exception with which `words` fail.
    fn refused(&self, words: &str) -> (i32, Value) {
        let said = self.run(&format!("{words} --json"));
        assert_eq!(said.stdout, "", "{words}: nothing on stdout");
        (said.code.expect("an exit code"), said.error())
    }

    fn code(&self, words: &str) -> i32 {
        self.refused(words).0
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }
}

#[test]
fn a_key_has_a_kind_tags_and_a_period() {
    let daemon = Daemon::start();
    let key = daemon.told("key create --alias mac --spec HMAC_256 --tag Env=Prod --tag Note=a=b --tag Empty=");
    assert_eq!(key["key_spec"], "HMAC_256");
    assert_eq!(key["tags"], json!({"Env": "Prod", "Note": "a=b", "Empty": ""}));
    let pair = daemon.told("key create --spec ECC_NIST_P256 --usage KEY_AGREEMENT");
    assert_eq!([&pair["key_spec"], &pair["key_usage"]], ["ECC_NIST_P256", "KEY_AGREEMENT"]);
    assert_eq!((&pair["algorithms"], &pair["current_key_material_id"]), (&json!(["ECDH"]), &json!("")));
    let tagged = daemon.told("key tag alias/mac Env=Test Team=web");
    assert_eq!(tagged["tags"], json!({"Env": "Test", "Note": "a=b", "Empty": "", "Team": "web"}));
    assert_eq!(daemon.told("key untag alias/mac Env Note Empty absent")["tags"], json!({"Team": "web"}));
    daemon.told("key create --alias turning");
    assert_eq!(daemon.told("key rotate alias/turning --every 90")["rotation_period_days"], 90);
    let stopped = daemon.told("key rotate alias/turning --stop");
    assert_eq!((&stopped["rotation_period_days"], &stopped["rotations"]), (&Value::Null, &json!(0)));
    for (words, code, say) in [
        (
            "key create --spec RSA_9",
            2,
            "RSA_9 is no kind of key that is made here; there are SYMMETRIC_DEFAULT, HMAC_224",
        ),
        ("key create --spec RSA_2048", 2, "a key of the kind RSA_2048 has to be for ENCRYPT_DECRYPT or SIGN_VERIFY"),
        (
            "key create --spec ECC_SECG_P256K1 --usage KEY_AGREEMENT",
            2,
            "a key of the kind ECC_SECG_P256K1 has to be for SIGN_VERIFY",
        ),
        ("key create --tag Env=a --tag Env=b", 2, "Env is given twice"),
        ("key tag alias/mac aws:Env=a", 5, "Tags beginning with aws: are reserved"),
        ("key rotate alias/mac --every 90", 5, "UnsupportedOperationException"),
        ("key rotate alias/turning --every 89", 2, "89 is not in 90..=2560"),
        ("key tag alias/mac Env", 2, "a tag is NAME=VALUE"),
    ] {
        let (exit, refused) = daemon.refused(words);
        assert_eq!(exit, code, "{words}: {refused}");
        assert!(refused["message"].as_str().is_some_and(|text| text.contains(say)), "{words}: {refused}");
    }
}

#[test]
fn a_key_goes_through_its_states() {
    let daemon = Daemon::start();
    let key = daemon.told("key create --alias backups --description host");
    assert_eq!((&key["state"], &key["aliases"]), (&json!("Enabled"), &json!(["alias/backups"])));
    let id = key["key_id"].as_str().expect("an id");
    for name in [id, key["arn"].as_str().expect("an ARN"), "alias/backups"] {
        assert_eq!(daemon.told(&format!("key show {name}"))["key_id"], *id);
        assert_eq!(daemon.told(&format!("key disable {name}"))["state"], "Disabled");
        assert_eq!(daemon.told(&format!("key enable {name}"))["state"], "Enabled");
    }
    assert_eq!(daemon.told("key rotate alias/backups")["rotations"], 1);
    let doomed = daemon.told(&format!("key schedule-deletion {id} --days 7 --yes"));
    assert_eq!(doomed["state"], "PendingDeletion");
    assert!(doomed["deletion_date"].is_string());
    assert_eq!(daemon.told(&format!("key cancel-deletion {id}"))["state"], "Disabled");
    let listed = daemon.told("key list");
    assert!(listed.as_array().expect("an array").iter().any(|key| key["key_id"] == *id));
}

#[test]
fn a_volume_is_put_under_another_key_and_its_header_kept_and_put_back() {
    let daemon = Daemon::start();
    daemon.told("key create --alias old");
    let new = daemon.told("key create --alias new");
    daemon.told("volume create db --size 16M --key alias/old");
    daemon.told("attach db");
    assert_eq!(daemon.told("volume rewrap db --key alias/new")["kms_key"], new["arn"]);
    assert_eq!(daemon.code("volume rewrap db --key alias/absent"), 3);
    daemon.told("key disable alias/old");
    daemon.told("detach db");
    daemon.told("attach db");
    let file = daemon.dir.path().join("header");
    let file = file.to_str().expect("text");
    assert_eq!(daemon.told(&format!("volume header backup db {file}"))["name"], "db");
    assert_eq!(daemon.code(&format!("volume header restore db {file} --yes")), 4);
    daemon.told("detach db");
    assert_eq!(daemon.code(&format!("volume header restore db {file}")), 2, "nobody to ask");
    assert_eq!(daemon.told(&format!("volume header restore db {file} --yes"))["name"], "db");
    daemon.told("attach db");
    daemon.told("detach db");
    assert_eq!(daemon.code(&format!("volume header restore db {file} --yes")), 7);
    daemon.told(&format!("volume header restore db {file} --accept-rollback --yes"));
    daemon.told("attach db");
}

#[test]
fn an_alias_is_made_moved_and_deleted() {
    let daemon = Daemon::start();
    let one = daemon.told("key create")["key_id"].clone();
    let two = daemon.told("key create")["key_id"].clone();
    let words = |verb: &str, key: &Value| format!("key alias {verb} a {}", key.as_str().expect("an id"));
    assert_eq!(daemon.told(&words("create", &one))["target_key_id"], one);
    assert_eq!(daemon.code(&words("create", &two)), 4);
    assert_eq!(daemon.told(&words("update", &two))["target_key_id"], two);
    assert_eq!(daemon.told("key show alias/a")["key_id"], two);
    daemon.told("key alias delete a");
    assert_eq!(daemon.code("key show alias/a"), 3);
}

#[test]
fn a_volume_goes_through_its_life() {
    let daemon = Daemon::start();
    let key = daemon.told("key create --alias k");
    let made = daemon.told("volume create db --size 16M --key alias/k");
    assert_eq!((&made["state"], &made["kms_key"], &made["size"]), (&json!("available"), &key["arn"], &json!(16 << 20)));
    let id = made["id"].as_str().expect("an id").to_owned();
    assert_eq!(daemon.told(&format!("volume show {id}")), daemon.told("volume show db"));
    assert_eq!(daemon.told("volume list").as_array().expect("an array").len(), 1);
    assert_eq!(daemon.told("attach db --dry-run")["name"], "db");
    let attached = daemon.told("attach db");
    assert_eq!((&attached["volume"], &attached["device"]), (&json!(id), &Value::Null));
    assert!(attached["uri"].as_str().expect("a URI").starts_with("nbd+unix:///db?socket=/"));
    assert_eq!(daemon.told("volume show db")["state"], "in-use");
    assert_eq!(daemon.told("status")["volumes"][0]["attachments"][0]["name"], "db");
    daemon.told("detach db");
    daemon.told("volume fill db");
    let table = daemon.run("volume export-key db --yes").stdout;
    assert!(table.contains(" crypt ") && table.contains("aes-xts-plain64"), "a dmsetup table");
    let backing = made["backing"].as_str().expect("a path");
    daemon.told("volume forget db --yes");
    assert_eq!(daemon.code("volume show db"), 3);
    assert_eq!(daemon.told(&format!("volume add {backing} --yes"))["id"], *id);
    daemon.told("volume delete db --yes");
    assert_eq!(daemon.told("volume list"), json!([]));
}

#[test]
fn an_existing_file_becomes_a_volume_and_outlives_it() {
    let daemon = Daemon::start();
    let path = daemon.dir.path().join("state/volumes/mine");
    fs::write(&path, vec![7; 3 << 20]).expect("written");
    let words = format!("volume create db --backing {}", path.display());
    let (code, error) = daemon.refused(&words);
    assert_eq!((code, &error["code"]), (4, &json!("backing.holds_data")));
    assert_eq!(daemon.told(&format!("{words} --force"))["size"], 2 << 20);
    daemon.told("attach db");
    daemon.told("detach db");
    daemon.told("volume delete db --yes");
    assert_eq!(path.metadata().expect("it outlives the volume").len(), 3 << 20);
    assert_eq!(daemon.code(&format!("volume add {} --yes", path.display())), 7, "it holds no volume any more");
    let (code, error) = daemon.refused("volume create db --size 1M --backing /etc/envol-test");
    assert_eq!((code, &error["code"]), (9, &json!("backing.outside")));
}

#[test]
fn an_older_header_is_refused_until_it_is_accepted() {
    let daemon = Daemon::start();
    let made = daemon.told("volume create db --size 16M");
    let backing = fs::File::options().read(true).write(true).open(made["backing"].as_str().expect("a path"));
    let backing = backing.expect("the backing");
    let mut area = vec![0; 1 << 20];
    backing.read_exact_at(&mut area, 0).expect("read");
    daemon.told("attach db");
    daemon.told("detach db");
    backing.write_all_at(&area, 0).expect("written");
    let (code, error) = daemon.refused("attach db");
    assert_eq!((code, &error["code"]), (7, &json!("volume.rollback")));
    assert!(error["remedy"].as_str().expect("text").contains("--accept-rollback"));
    daemon.told("attach db --accept-rollback");
    daemon.told("detach db");
    daemon.told("attach db");
}

#[test]
fn every_kind_of_failure_has_its_exit_code() {
    let daemon = Daemon::start();
    daemon.told("key create --alias k");
    let made = daemon.told("volume create db --size 16M --key alias/k");
    assert_eq!(daemon.code("volume create odd --size 1000"), 2, "not a multiple of the sector");
    let absents = ["volume show none", "attach none", "detach none", "key show alias/none", "volume delete none --yes"];
    for absent in absents.into_iter().chain(["volume create new --size 1M --key alias/none"]) {
        assert_eq!(daemon.code(absent), 3, "{absent}");
    }
    assert_eq!(daemon.code("volume create db --size 16M"), 4, "the name is taken");
    assert_eq!(daemon.code("detach db"), 4, "it is not attached");
    daemon.told("attach db");
    assert_eq!(daemon.code("attach db"), 4, "it is attached");
    assert_eq!(daemon.code("volume delete db --yes"), 4, "it is attached");
    daemon.told("key disable alias/k");
    daemon.told("detach db");
    let (code, error) = daemon.refused("attach db");
    assert_eq!((code, &error["kms_exception"]), (5, &json!("DisabledException")));
    assert_eq!(error["code"], "attach.kms.disabled");
    let (code, error) = daemon.refused("attach db --dry-run");
    assert_eq!((code, &error["kms_exception"]), (5, &json!("DisabledException")));
    daemon.told("key enable alias/k");
    spoil_headers(made["backing"].as_str().expect("a path"));
    assert_eq!(daemon.code("attach db"), 7, "both header copies are damaged");
}

fn spoil_headers(backing: &str) {
    let file = fs::File::options().write(true).open(backing).expect("the backing");
    for at in [0, 512 << 10] {
        file.write_all_at(&[0xff; 64], at + 100).expect("written");
    }
}

#[test]
fn a_stranger_is_not_permitted() {
    let daemon = Daemon::start();
    let mut stranger = command(&["status", "--json"]);
    stranger.env("ENVOL_SOCKET", daemon.socket());
    if nix::unistd::geteuid().is_root() {
        fs::set_permissions(daemon.dir.path(), fs::Permissions::from_mode(0o755)).expect("changed");
        stranger.uid(65534).gid(65534);
    } else {
        fs::set_permissions(daemon.socket(), fs::Permissions::from_mode(0o000)).expect("changed");
    }
    assert_eq!(stranger.output().expect("the program runs").status.code(), Some(9));
}

#[test]
fn a_second_daemon_in_the_state_directory_says_so() {
    let daemon = Daemon::start();
    let mut second = command(&["--json", "daemon", "--state-dir"]);
    second.arg(daemon.dir.path().join("state")).arg("--socket").arg(daemon.dir.path().join("second.sock"));
    assert_eq!(second.output().expect("the program runs").status.code(), Some(4));
}

#[test]
fn events_are_lines_oldest_first() {
    let daemon = Daemon::start();
    daemon.told("volume create db --size 16M");
    daemon.told("attach db");
    daemon.told("detach db");
    let said = daemon.run("events --json");
    let names: Vec<String> = said
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("a document"))
        .map(|event| event["detail"]["event"].as_str().expect("a name").to_owned())
        .collect();
    assert_eq!(names, ["createVolume", "attachVolume", "detachVolume"]);
    assert_eq!(daemon.run("events").stdout.lines().count(), 3);
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let daemon = Daemon::start();
    daemon.told("volume create db --size 16M");
    let mut follower = command(&["events", "--follow"]);
    let mut follower = follower.env("ENVOL_SOCKET", daemon.socket()).stdout(Stdio::piped()).spawn().expect("it runs");
    drop(follower.stdout.take());
    // It notices when it next has something to say.
    let deadline = Instant::now() + Duration::from_secs(20);
    let status = loop {
        if let Some(status) = follower.try_wait().expect("waited") {
            break status;
        }
        assert!(Instant::now() < deadline, "it ended");
        daemon.run("attach db --json");
        daemon.run("detach db --json");
    };
    assert_eq!(status.code(), Some(0));
}
