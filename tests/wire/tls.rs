//! The KMS behind TLS, by the unmodified `aws` CLI; and what can be rehearsed of a KMS that is slow, throttles, or shows its
//! changes late.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use openssl::ssl::{SslConnector, SslMethod, SslVersion};

use crate::authority::Authority;
use crate::support::{Daemon, have, must, must_fail};
use crate::world::{World, aws};

/// A KMS alone, whose section of the configuration says `more`.
fn kms(files: &tempfile::TempDir, more: &str) -> Daemon {
    let path = files.path().join("envol.toml");
    fs::write(&path, format!("[kms.embedded]\nkind = \"embedded\"\n{more}")).expect("written");
    Daemon::start_kms(&["--config", path.to_str().expect("text")])
}

fn secret(path: &std::path::Path, pem: &[u8]) {
    fs::write(path, pem).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("ours");
}

/// A KMS behind TLS, with its certificates in `files`: the authority's is `ca.pem`.
fn behind_tls(files: &tempfile::TempDir) -> World {
    let authority = Authority::new();
    let (key, certificate) = authority.sign("127.0.0.1");
    let at = |name: &str| files.path().join(name);
    authority.write(&at("ca.pem"));
    fs::write(at("kms.pem"), certificate.to_pem().expect("PEM")).expect("written");
    secret(&at("kms.key"), &key.private_key_to_pem_pkcs8().expect("PEM"));
    let (certificate, key) = (at("kms.pem"), at("kms.key"));
    let more = format!(
        "tls_listen = [\"127.0.0.1:0\"]\ntls_certificate = \"{}\"\ntls_key = \"{}\"\n",
        certificate.display(),
        key.display()
    );
    World::of(kms(files, &more))
}

/// A connection to it, without a word.
fn connect(world: &World) -> TcpStream {
    TcpStream::connect(world.endpoint.strip_prefix("https://").expect("https")).expect("connects")
}

#[test]
fn the_aws_cli_drives_it_over_https_with_the_authority_and_not_without() {
    if !have(&[&aws()]) {
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    let world = behind_tls(&files);
    assert!(world.endpoint.starts_with("https://127.0.0.1:"), "{}", world.endpoint);
    let ca = files.path().join("ca.pem").display().to_string();
    let made = must(&mut world.aws(&["--ca-bundle", &ca, "create-key", "--output", "text"]));
    assert!(made.contains("Enabled"), "{made}");
    let refused = must_fail(&mut world.aws(&["list-keys"]));
    assert!(refused.contains("CERTIFICATE_VERIFY_FAILED"), "{refused}");
    let plain = world.endpoint.replace("https", "http");
    let mut command = world.aws(&["list-keys"]);
    command.env("AWS_ENDPOINT_URL_KMS", plain);
    must_fail(&mut command);
}

#[test]
fn no_tls_older_than_1_2_is_spoken() {
    let files = tempfile::tempdir().expect("a directory");
    let world = behind_tls(&files);
    let agrees = |version| {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).expect("a client");
        builder.set_ca_file(files.path().join("ca.pem")).expect("the authority");
        // The client at least is willing.
        builder.set_security_level(0);
        builder.set_min_proto_version(Some(version)).expect("a version");
        builder.set_max_proto_version(Some(version)).expect("a version");
        builder.build().connect("127.0.0.1", connect(&world)).is_ok()
    };
    let versions = [SslVersion::TLS1, SslVersion::TLS1_1, SslVersion::TLS1_2, SslVersion::TLS1_3];
    assert_eq!(versions.map(agrees), [false, false, true, true]);
}

#[test]
fn clients_that_never_begin_with_tls_keep_nobody_out_and_are_put_out() {
    if !have(&[&aws()]) {
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    let world = behind_tls(&files);
    let mut silent: Vec<TcpStream> = (0..100).map(|_| connect(&world)).collect();
    let ca = files.path().join("ca.pem").display().to_string();
    must(&mut world.aws(&["--ca-bundle", &ca, "list-keys"]));
    for stream in &mut silent {
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        assert_eq!(stream.read(&mut [0]).expect("the KMS hangs up"), 0);
    }
}

#[test]
fn a_key_that_others_can_read_is_not_served_with() {
    let (files, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let (key, certificate) = authority.sign("127.0.0.1");
    let at = |name: &str| files.path().join(name);
    secret(&at("kms.pem"), &certificate.to_pem().expect("PEM"));
    secret(&at("kms.key"), &key.private_key_to_pem_pkcs8().expect("PEM"));
    secret(&at("other.key"), &authority.sign("127.0.0.1").0.private_key_to_pem_pkcs8().expect("PEM"));
    let refused = |key: &str, told: &str| {
        let text = format!(
            "state_dir = \"{0}/state\"\nsocket = \"{0}/control.sock\"\n[kms.embedded]\nkind = \"embedded\"\n\
             tls_listen = [\"127.0.0.1:0\"]\ntls_certificate = \"{0}/kms.pem\"\ntls_key = \"{0}/{key}\"\n",
            files.path().display()
        );
        fs::write(at("envol.toml"), text).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_envol"));
        let output = command.args(["kms", "serve", "--config"]).arg(at("envol.toml")).output().expect("starts");
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains(told), "{said}");
    };
    refused("other.key", "cannot be used");
    refused("kms.pem", "private key");
    refused("absent.key", "No such file");
    fs::set_permissions(at("kms.key"), fs::Permissions::from_mode(0o644)).expect("ours");
    refused("kms.key", "by others");
    fs::set_permissions(at("kms.key"), fs::Permissions::from_mode(0o600)).expect("ours");
    nix::unistd::mkfifo(&at("pipe.key"), nix::sys::stat::Mode::S_IRUSR).expect("made");
    refused("pipe.key", "not a file");
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(at("kms.key"), Some(65_534), None).expect("root may");
        refused("kms.key", "belongs to another user");
    }
}

#[test]
fn every_third_request_is_refused_where_that_is_rehearsed() {
    if !have(&[&aws()]) {
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    let world = World::of(kms(&files, "listen = [\"127.0.0.1:0\"]\nthrottle_every = 3\n"));
    let answers = (0..6).map(|_| {
        let output = world.aws(&["list-keys"]).output().expect("starts");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    });
    let refused: Vec<String> = answers.filter(|(done, _)| !done).map(|(_, said)| said).collect();
    assert_eq!(refused.len(), 2);
    let text = "An error occurred (ThrottlingException) when calling the ListKeys operation";
    assert!(refused.iter().all(|said| said.contains(text) && said.contains("exceeded the rate")), "{refused:?}");
}

#[test]
fn a_request_is_answered_no_sooner_than_is_rehearsed() {
    if !have(&[&aws()]) {
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    let world = World::of(kms(&files, "listen = [\"127.0.0.1:0\"]\ndelay_ms = 3000\n"));
    let start = Instant::now();
    must(&mut world.aws(&["list-keys"]));
    assert!(start.elapsed() >= Duration::from_secs(3));
}

#[test]
fn a_change_is_seen_in_the_end() {
    if !have(&[&aws()]) {
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    let world = World::of(kms(&files, "listen = [\"127.0.0.1:0\"]\nconsistency_delay_ms = 1500\n"));
    let key = world.daemon.json(["key", "create"])["key_id"].as_str().expect("an id").to_owned();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !world.aws(&["describe-key", "--key-id", &key]).output().expect("starts").status.success() {
        assert!(Instant::now() < deadline, "it is never seen");
    }
}

#[test]
fn a_change_is_seen_late_by_those_who_sign_and_at_once_by_the_daemon() {
    if !have(&[&aws()]) {
        return;
    }
    let files = tempfile::tempdir().expect("a directory");
    // Longer than the test takes.
    let world = World::of(kms(&files, "listen = [\"127.0.0.1:0\"]\nconsistency_delay_ms = 3600000\n"));
    let key = world.daemon.json(["key", "create"])["key_id"].as_str().expect("an id").to_owned();
    let unseen = must_fail(&mut world.aws(&["describe-key", "--key-id", &key]));
    assert!(unseen.contains("NotFoundException"), "{unseen}");
    assert_eq!(world.daemon.json(["key", "show", &key])["state"], "Enabled");
    // A change is made of what is, not of what is seen.
    must(&mut world.aws(&["disable-key", "--key-id", &key]));
    assert_eq!(world.daemon.json(["key", "show", &key])["state"], "Disabled");
}
