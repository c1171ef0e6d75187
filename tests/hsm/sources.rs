//! Where a domain key may come from: a file (`running`), a credential of the service manager, a passphrase.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use envol::kms::embedded::hsm::{DomainKeySource, Failure, HsmError};
use envol::kms::embedded::{Embedded, OpenError, StoreError};
use envol::kms::{EncryptionContext, WrappedKey};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::memory::{hits, readable_keys};
use crate::place::{Place, await_end, caller, parent_of, signal};
use crate::support::have;

const PASSPHRASE: &[u8] = b"correct horse battery staple";

fn write(path: &Path, content: &[u8], mode: u32) {
    fs::remove_file(path).ok();
    fs::write(path, content).expect("written");
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("ours");
}

fn sealed(kms: &Embedded) -> WrappedKey {
    let key = kms.create_key(&caller(), "", None).expect("made").arn.into();
    kms.encrypt(&caller(), &key, b"text", &EncryptionContext::default()).expect("sealed").wrapped
}

fn opens(kms: &Embedded, blob: &WrappedKey) {
    let opened = kms.decrypt_bytes(&caller(), None, blob, &EncryptionContext::default()).expect("opens");
    assert_eq!(opened.plaintext.expose(), b"text");
}

fn refusal(place: &Place, source: &DomainKeySource) -> String {
    place.try_open(source).err().expect("refused").to_string()
}

fn passphrase(place: &Place) -> (PathBuf, DomainKeySource) {
    let from = place.path().join("passphrase");
    let stretching = place.path().join("domain.stretching");
    (from.clone(), DomainKeySource::Passphrase { from, stretching })
}

#[test]
fn the_key_of_the_file_is_a_credential_too_which_the_services_group_may_read() {
    let place = Place::new();
    let blob = sealed(&place.open());
    let path = place.path().join("envol.domain-key");
    fs::rename(place.domain_key(), &path).expect("moved");
    let source = DomainKeySource::Credential { path: path.clone() };
    for mode in [0o400, 0o440] {
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("ours");
        opens(&place.try_open(&source).expect("opens"), &blob);
    }
    for mode in [0o444, 0o460] {
        fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("ours");
        assert!(refusal(&place, &source).contains("may be used by others"));
    }
    write(&path, &[7; 32], 0o400);
    assert!(matches!(place.try_open(&source), Err(OpenError::Store(StoreError::OtherDomainKey))));
    write(&path, &[7; 31], 0o400);
    assert!(refusal(&place, &source).contains("31 bytes"));
    fs::remove_file(&path).expect("removed");
    assert!(place.try_open(&source).is_err() && !path.exists(), "a credential is never made");
}

#[test]
fn a_passphrase_opens_what_it_sealed_and_no_other_does() {
    let place = Place::new();
    let (file, source) = passphrase(&place);
    write(&file, PASSPHRASE, 0o600);
    let blob = sealed(&place.try_open(&source).expect("opens"));
    let with_line_end = [PASSPHRASE, b"\n"].concat();
    write(&file, &with_line_end, 0o600);
    opens(&place.try_open(&source).expect("opens"), &blob);
    for other in [&b"correct horse battery stable"[..], b"correct horse battery staple\n\n"] {
        write(&file, other, 0o600);
        assert!(matches!(place.try_open(&source), Err(OpenError::Store(StoreError::OtherDomainKey))));
    }
    for mode in [0o640, 0o604] {
        write(&file, PASSPHRASE, mode);
        assert!(refusal(&place, &source).contains("chmod 0600"));
    }
    for unusable in [&b""[..], b"\n", &[b'x'; 5000]] {
        write(&file, unusable, 0o600);
        let refused = place.try_open(&source).err();
        assert!(matches!(refused, Some(OpenError::Hsm(HsmError::Failed(Failure::Passphrase)))), "{refused:?}");
    }
    write(&file, PASSPHRASE, 0o600);
    let stretching = place.path().join("domain.stretching");
    let kept = fs::read(&stretching).expect("there");
    fs::write(&stretching, "argon2id 19 m=8 t=1 p=1").expect("written");
    assert!(refusal(&place, &source).contains("stretched"));
    fs::remove_file(&stretching).expect("removed");
    assert!(refusal(&place, &source).contains("does not; put it back"));
    assert!(!stretching.exists(), "a new one would open nothing");
    write(&stretching, &kept, 0o600);
    opens(&place.try_open(&source).expect("opens"), &blob);
}

/// `envol kms serve` with what it is given.
struct Served {
    place: tempfile::TempDir,
    process: Child,
    _config: NamedTempFile,
}

impl Served {
    fn start(place: tempfile::TempDir, arguments: &[&str], variables: &[(&str, &Path)], given: &[u8]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_envol"));
        command.args(["kms", "serve", "--listen"]).arg(place.path().join("kms.sock"));
        command
            .arg("--socket")
            .arg(place.path().join("control.sock"))
            .arg("--state-dir")
            .arg(place.path().join("state"));
        let config = readable_keys("");
        command.arg("--config").arg(config.path());
        command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::piped());
        let mut process = command.spawn().expect("starts");
        process.stdin.take().expect("piped").write_all(given).expect("written");
        Self { place, process, _config: config }
    }

    fn envol(&self, words: &[&str]) -> std::process::Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_envol"));
        command.arg("--json").arg("--socket").arg(self.place.path().join("control.sock"));
        command.args(words).output().expect("runs")
    }

    fn hsm(&self) -> Value {
        loop {
            let output = self.envol(&["status"]);
            if output.status.success() {
                let status: Value = serde_json::from_slice(&output.stdout).expect("JSON");
                return status["hsm"].clone();
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn stop(mut self) -> tempfile::TempDir {
        signal(self.process.id(), 15);
        assert!(self.process.wait().expect("ends").success());
        self.place
    }
}

fn pid_in(hsm: &Value) -> u32 {
    u32::try_from(hsm["pid"].as_u64().unwrap_or_else(|| panic!("{hsm}"))).expect("an id")
}

#[test]
fn a_passphrase_through_a_pipe_is_nowhere_but_in_the_hsm_and_is_given_once() {
    let place = tempfile::tempdir().expect("a directory");
    let served = Served::start(place, &["--passphrase-file", "/dev/stdin"], &[], PASSPHRASE);
    let state = served.hsm();
    let hsm = pid_in(&state);
    assert_eq!(state["domain_key"], "the passphrase in /dev/stdin");
    for pid in [served.process.id(), parent_of(hsm), hsm] {
        for place in ["cmdline", "environ"] {
            let text = fs::read(format!("/proc/{pid}/{place}")).expect("readable");
            assert!(!text.windows(PASSPHRASE.len()).any(|window| window == PASSPHRASE), "{place} of {pid}");
        }
        assert_eq!(hits(pid, PASSPHRASE), 0, "the HSM too has wiped it");
    }
    assert!(served.envol(&["key", "create"]).status.success());
    signal(hsm, 9);
    await_end(hsm);
    assert_eq!(served.envol(&["key", "create"]).status.code(), Some(6));
    assert_eq!(served.hsm()["state"], "failed");
    let place = served.stop();
    let served = Served::start(place, &["--passphrase-file", "/dev/stdin"], &[], PASSPHRASE);
    assert_eq!(served.hsm()["state"], "running", "started again, it is asked for again");
    served.stop();
}

#[test]
fn a_credential_that_systemd_provides_is_used_unasked_and_is_not_destroyed_by_zeroizing() {
    let place = tempfile::tempdir().expect("a directory");
    let credentials = place.path().join("credentials");
    fs::create_dir(&credentials).expect("made");
    let credential = credentials.join("envol.domain-key");
    write(&credential, &[0x5a; 32], 0o400);
    let variables = [("CREDENTIALS_DIRECTORY", credentials.as_path())];
    let served = Served::start(place, &[], &variables, b"");
    let state = served.hsm();
    assert_eq!(state["domain_key"], format!("the credential {}", credential.display()));
    assert!(served.envol(&["key", "create", "--alias", "one"]).status.success());
    assert!(!served.place.path().join("state/domain.key").exists());
    for pid in [served.process.id(), parent_of(pid_in(&state))] {
        assert_eq!(hits(pid, &[0x5a; 32]), 0);
    }
    assert!(served.envol(&["kms", "zeroize", "--yes"]).status.success());
    assert_eq!(served.envol(&["key", "rotate", "alias/one"]).status.code(), Some(6));
    assert!(credential.exists());
    let place = served.stop();
    let served = Served::start(place, &[], &variables, b"");
    assert_eq!(served.hsm()["state"], "zeroized", "that it is there again does not undo it");
    assert!(served.envol(&["kms", "initialise"]).status.success());
    assert!(served.envol(&["key", "rotate", "alias/one"]).status.success());
    served.stop();
}

#[test]
fn a_passphrase_whose_stretching_cannot_be_locked_is_refused_with_the_limit_to_raise() {
    if !have(&["setpriv", "prlimit", "timeout"]) {
        return;
    }
    let place = Place::new();
    let (file, _) = passphrase(&place);
    write(&file, PASSPHRASE, 0o600);
    let mut command = Command::new("timeout");
    command.args(["60", "setpriv", "--bounding-set=-ipc_lock", "prlimit", "--memlock=8388608:8388608"]);
    command.arg(env!("CARGO_BIN_EXE_envol")).args(["kms", "serve", "--listen"]).arg(place.path().join("kms.sock"));
    command.arg("--socket").arg(place.path().join("control.sock"));
    command.arg("--state-dir").arg(place.path().join("state")).arg("--passphrase-file").arg(&file);
    let output = command.output().expect("runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("could not be locked") && said.contains("LimitMEMLOCK"),
        "{said}"
    );
}
