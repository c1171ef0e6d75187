//! Which engine a daemon runs: named by the environment, by its configuration, or the fastest; and that no build that is
//! used has a cipher that is none.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use envol::crypto::xts::{Engine, EngineRefused};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn daemon(dir: &Path, environment: Option<&str>, configured: &str) -> Command {
    let config = dir.join("envol.toml");
    fs::write(&config, format!("[data_path]\ncipher = \"{configured}\"\n")).expect("a configuration");
    let mut command = Command::new(env!("CARGO_BIN_EXE_envol"));
    command.args(["daemon", "--log-format", "json", "--config"]).arg(config);
    command.arg("--state-dir").arg(dir.join("state")).arg("--socket").arg(dir.join("control.sock"));
    command.env_remove("ENVOL_CIPHER").env_remove("ENVOL_LOG").stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(name) = environment {
        command.env("ENVOL_CIPHER", name);
    }
    command
}

/// What the daemon's log says that it runs, and all of the log. The daemon is stopped once it is ready.
fn cipher_of(environment: Option<&str>, configured: &str) -> (String, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut child = daemon(dir.path(), environment, configured).spawn().expect("the program runs");
    let pid = Pid::from_raw(child.id().try_into().expect("a process id"));
    let (mut log, mut named) = (String::new(), None);
    for line in BufReader::new(child.stderr.take().expect("piped")).lines() {
        let line = line.expect("text");
        log = format!("{log}{line}\n");
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {log}"));
        named = named.or(said["cipher"].as_str().map(str::to_owned));
        if said["message"] == "ready" {
            kill(pid, Signal::SIGTERM).expect("runs");
        }
    }
    assert!(child.wait().expect("ends").success(), "{log}");
    (named.unwrap_or_else(|| panic!("no cipher is named: {log}")), log)
}

/// The exit code and the words of a daemon that does not start; it has opened nothing.
fn refused(environment: Option<&str>, configured: &str) -> (i32, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let output = daemon(dir.path(), environment, configured).output().expect("the program runs");
    assert!(!dir.path().join("state").exists(), "nothing was opened");
    (output.status.code().expect("an exit code"), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_daemon_runs_the_engine_that_its_environment_or_its_configuration_names() {
    for engine in Engine::available() {
        let name = engine.to_string();
        assert_eq!(cipher_of(Some(&name), "portable").0, name);
        assert_eq!(cipher_of(None, &name).0, name);
    }
    let fastest = Engine::fastest().to_string();
    assert_eq!(cipher_of(None, "auto").0, fastest);
    assert_eq!(cipher_of(Some("auto"), "portable").0, fastest);
}

#[test]
fn an_engine_that_is_not_there_is_a_usage_error_before_anything_is_opened() {
    for (environment, configured, culprit) in
        [(Some("rot13"), "auto", "ENVOL_CIPHER"), (Some(""), "auto", "ENVOL_CIPHER"), (None, "rot13", "line 2")]
    {
        let (code, said) = refused(environment, configured);
        assert_eq!(code, 2, "{said}");
        assert!(said.contains(culprit) && said.contains("vaes-256"), "{said}");
    }
}

#[test]
#[cfg(not(feature = "bench-null"))]
fn a_build_without_the_feature_knows_no_null_cipher() {
    assert_eq!("null".parse::<Engine>(), Err(EngineRefused::Unknown("null".to_owned())));
    assert_eq!(refused(Some("null"), "auto").0, 2);
    assert_eq!(refused(None, "null").0, 2);
}

#[test]
#[cfg(feature = "bench-null")]
fn the_null_cipher_is_never_chosen_by_itself_and_the_daemon_warns_of_it() {
    assert!(Engine::available().iter().all(|engine| engine.encrypts()));
    assert!(!"null".parse::<Engine>().expect("known").encrypts());
    assert!("nil".parse::<Engine>() == Err(EngineRefused::Unknown("nil".to_owned())));
    let (name, log) = cipher_of(Some("null"), "auto");
    assert_eq!(name, "null");
    assert!(log.contains("NOTHING IS ENCRYPTED") && log.contains("WARN"), "{log}");
}

/// The features that `name` turns on, itself included.
fn turned_on(features: &toml::Table, name: &str) -> Vec<String> {
    let parts = features.get(name).and_then(toml::Value::as_array).into_iter().flatten();
    let below = parts.filter_map(toml::Value::as_str).flat_map(|part| turned_on(features, part));
    [name.to_owned()].into_iter().chain(below).collect()
}

#[test]
fn no_feature_of_the_benchmarks_is_on_by_default_or_named_by_what_builds_and_ships() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let manifest: toml::Table =
        fs::read_to_string(root.join("Cargo.toml")).expect("the manifest").parse().expect("is TOML");
    let features = manifest["features"].as_table().expect("a table");
    assert!(features.contains_key("bench-null") && features.contains_key("bench-peers"));
    let others = features.keys().filter(|name| !name.starts_with("bench-")).map(String::as_str);
    for name in others.chain(["default"]) {
        let on = turned_on(features, name);
        assert!(!on.iter().any(|name| name.starts_with("bench-")), "{name} turns on {on:?}");
    }
    for file in ["scripts/test", "scripts/demo", ".ci/run", "systemd/envol.service"] {
        let text = fs::read_to_string(root.join(file)).expect(file);
        assert!(!text.contains("bench-null") && !text.contains("all-features"), "{file}");
    }
}

#[test]
fn what_a_feature_turns_on_is_found_through_others() {
    let features: toml::Table =
        "default = [\"a\"]\na = [\"b\", \"dep:c\"]\nb = [\"bench-null\"]".parse().expect("is TOML");
    assert!(turned_on(&features, "default").contains(&"bench-null".to_owned()));
    assert!(!turned_on(&features, "absent").contains(&"bench-null".to_owned()));
}
