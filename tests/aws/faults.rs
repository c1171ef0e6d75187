//! What a KMS can do wrong, one row after the other: what is said, how often it is asked, and that the volume is well
//! afterwards.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use envol::kms::aws::{Aws, Parent, Settings};
use envol::kms::{EncryptionContext, KeyName, Kms, KmsError, Principal};
use envol::sys::hardening::Hardening;
use envol::sys::locked::KeyMemoryChoice;

use crate::server::{Act, KEY, Server};
use crate::support::Daemon;
use crate::world::{Files, SECRET, chmod, create, section, state, text};

/// A daemon with a volume `db` of a KMS that does as it is told.
struct World {
    files: Files,
    server: Server,
    daemon: Daemon,
}

impl World {
    /// An attach gives up after `seconds`.
    fn new(seconds: u32) -> Self {
        let (files, server) = (Files::new(), Server::start());
        files.credentials("AKIAAAAAAAAAAAAAAAAA", SECRET);
        let configuration = format!("[timings]\nattach_deadline_s = {seconds}\n{}", section(&files, server.endpoint()));
        let daemon = files.daemon(&configuration);
        create(&daemon, "db", "alias/volumes");
        server.act(Act::Honest);
        Self { files, server, daemon }
    }

    /// The next attach fails with this exit code and one of these words; the error, and how often the KMS was asked.
    fn refused(&self, act: Act, (exit_code, words): (i32, &str)) -> (serde_json::Value, usize) {
        self.server.act(act.clone());
        let error = self.daemon.refused(exit_code, ["attach", "db"]);
        assert!(words.split(' ').any(|word| error["code"] == word), "{act:?}: {error}");
        assert_eq!(state(&self.daemon, "db"), "available", "{act:?}");
        let asked = self.server.requests().len();
        self.server.act(Act::Honest);
        (error, asked)
    }
}

fn raw(status: u16, kind: &'static str, body: &str) -> Act {
    Act::Raw(status, kind, body.as_bytes().to_vec())
}

const JSON: &str = "application/x-amz-json-1.1";

#[test]
fn a_refusal_is_told_to_the_letter_and_asked_once() {
    let world = World::new(20);
    for (exception, message, code) in [
        (
            "AccessDeniedException",
            "User: u is not authorized to perform: kms:ReEncryptFrom on resource: k",
            "attach.kms.access_denied",
        ),
        ("DisabledException", "arn:aws:kms:r:1:key/k is disabled.", "attach.kms.disabled"),
        ("KMSInvalidStateException", "arn:aws:kms:r:1:key/k is pending deletion.", "attach.kms.pending_deletion"),
        ("KMSInvalidStateException", "arn:aws:kms:r:1:key/k is unavailable.", "attach.kms.unavailable"),
        ("InvalidCiphertextException", "", "attach.kms.invalid_ciphertext"),
        ("NotFoundException", "Key 'arn:aws:kms:r:1:key/k' does not exist", "attach.kms.not_found"),
        ("ExpiredTokenException", "The security token included in the request is expired", "attach.kms.refused"),
    ] {
        let (error, asked) = world.refused(Act::Refuse(400, exception, message), (5, code));
        assert_eq!((text(&error, "kms_exception"), asked), (exception, 1));
        assert!(text(&error, "message").contains(message), "{error}");
        if exception == "AccessDeniedException" {
            assert!(text(&error, "remedy").contains("allow kms:ReEncryptFrom on"), "{error}");
        }
        let events = world.daemon.envol(["events", "--json"]).stdout;
        let last = String::from_utf8(events).expect("text").lines().last().map(serde_json::from_str);
        let last: serde_json::Value = last.expect("an event").expect("JSON");
        let cause = if message.is_empty() { exception } else { message };
        assert_eq!((&last["detail"]["result"], &last["detail"]["cause"]), (&"failed".into(), &cause.into()));
    }
    world.daemon.attach("db");
}

#[test]
fn a_refusal_with_far_too_long_a_text_is_a_refusal_all_the_same() {
    let world = World::new(20);
    // Three bytes, none of them at a limit; and what JSON writes in six.
    for letter in ["\u{20ac}", "\\u0001"] {
        let text = letter.repeat(9000);
        let body = format!("{{\"__type\": \"DisabledException\", \"message\": \"{text}\"}}");
        let (error, asked) = world.refused(raw(400, JSON, &body), (5, "attach.kms.disabled"));
        assert_eq!(asked, 1);
        assert!(error["message"].as_str().is_some_and(|text| (4000..5000).contains(&text.len())), "it is cut");
    }
}

#[test]
fn an_answer_of_sts_without_end_ends_the_call_and_not_the_machine() {
    let (files, server) = (Files::new(), Server::start());
    files.credentials("AKIAAAAAAAAAAAAAAAAA", SECRET);
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let sts = format!("http://{}", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1 << 14]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n");
            // No more than that, where nothing else ends it: then it is silent.
            let piece = vec![b' '; 1 << 20];
            let whole = (0..1024).all(|_| stream.write_all(&piece).is_ok());
            if whole {
                let _ = std::io::copy(&mut stream, &mut std::io::sink());
            }
        }
    });
    let role = format!("role = \"arn:aws:iam::123456789012:role/envol\"\nsts_endpoint = \"{sts}\"\n");
    let timings = "[timings]\nattach_deadline_s = 8\n";
    let daemon = files.daemon(&format!("{timings}{}{role}", section(&files, server.endpoint())));
    let error = daemon.refused(6, ["volume", "create", "db", "--size", "8M", "--kms", "far", "--key", KEY]);
    assert!(daemon.log().contains("memory allocation of"), "{error}: {}", daemon.log());
    assert!(server.requests().is_empty());
}

#[test]
fn a_wrong_clock_is_named_and_asked_once() {
    let world = World::new(20);
    let message =
        "Signature expired: 20261124T200000Z is now earlier than 20261124T210000Z (20261124T211500Z - 15 min.)";
    let (error, asked) =
        world.refused(Act::Refuse(400, "InvalidSignatureException", message), (5, "attach.kms.refused"));
    assert_eq!(asked, 1, "no loop");
    assert!(text(&error, "message").contains("Signature expired"), "{error}");
    assert!(text(&error, "remedy").contains("clock"), "{error}");
}

#[test]
fn throttling_and_failures_are_waited_out_and_told_where_they_last() {
    let world = World::new(3);
    let throttled = || Act::Refuse(400, "ThrottlingException", "Rate exceeded");
    for passing in [
        vec![throttled(), throttled()],
        vec![raw(429, "text/plain", "slow down")],
        vec![Act::Refuse(500, "KMSInternalException", "internal")],
        vec![Act::Refuse(400, "KeyUnavailableException", "unavailable")],
        vec![raw(503, "text/html", "<html>no backend</html>"), raw(502, "text/html", "")],
        vec![Act::Hang, Act::Short],
    ] {
        let tries = passing.len() + 1;
        world.server.next(passing);
        world.daemon.attach("db");
        assert_eq!(world.server.requests().len(), tries, "each was tried again");
        world.daemon.detach("db");
    }
    // The last try may be cut off by the deadline.
    let mut tries = (0..8).map(|_| world.refused(throttled(), (6, "attach.kms.throttled attach.kms.timeout")));
    let (error, asked) = tries.find(|(error, _)| error["code"] == "attach.kms.throttled").expect("it is told");
    assert_eq!(text(&error, "kms_exception"), "ThrottlingException");
    assert!(asked > 2, "{asked} tries");
    world.refused(raw(503, "text/html", ""), (6, "attach.kms.unreachable attach.kms.timeout"));
    world.refused(Act::Hang, (6, "attach.kms.unreachable attach.kms.timeout"));
    world.daemon.attach("db");
}

#[test]
fn a_kms_that_is_slow_or_silent_holds_nobody_up_for_ever() {
    let world = World::new(2);
    world.refused(Act::Silent, (6, "attach.kms.timeout"));
    world.refused(Act::Endless(1, Duration::from_secs(1)), (6, "attach.kms.timeout"));
    // What comes after the attach was given up is dropped: no volume appears.
    world.refused(Act::Late(Duration::from_secs(4)), (6, "attach.kms.timeout"));
    world.server.wait_idle();
    assert_eq!(state(&world.daemon, "db"), "available");
    world.daemon.attach("db");
}

#[test]
fn an_answer_that_cannot_be_true_is_refused_and_not_asked_for_again() {
    let world = World::new(20);
    let halves = [[7; 32], [7; 32]].concat();
    for act in [
        Act::Plaintext(vec![1; 32]),
        Act::Plaintext((0..128).collect()),
        Act::Plaintext(halves),
        Act::Plaintext(vec![0; 64]),
        Act::Plaintext((0..64).collect()),
        Act::KeyId(Some("arn:aws:kms:us-east-1:111122223333:key/another")),
        Act::KeyId(None),
        Act::Endless(1 << 16, Duration::ZERO),
        Act::Redirect,
        raw(200, "text/html", "<html>log in</html>"),
        raw(200, "text/html", "{\"KeyId\": \"k\"}"),
        raw(200, JSON, "{\"KeyId\": "),
        raw(200, JSON, "[]"),
        raw(200, JSON, ""),
        raw(400, "text/html", "<html>bad request</html>"),
        raw(404, JSON, "{}"),
    ] {
        let (_, asked) = world.refused(act.clone(), (7, "attach.kms.bad_answer"));
        assert_eq!(asked, 1, "{act:?}");
    }
    world.daemon.attach("db");
}

#[test]
fn a_kms_that_is_gone_does_not_touch_what_is_attached() {
    let world = World::new(2);
    world.daemon.attach("db");
    world.server.act(Act::Silent);
    assert_eq!(state(&world.daemon, "db"), "in-use");
    world.daemon.detach("db");
    assert!(world.server.requests().is_empty(), "neither I/O nor a detach asks it");
}

#[test]
fn many_volumes_are_attached_after_a_restart_a_few_calls_at_a_time() {
    let mut world = World::new(30);
    let names: Vec<String> = (0..24).map(|number| format!("v{number}")).collect();
    for name in &names {
        create(&world.daemon, name, "alias/volumes");
        world.daemon.attach(name);
    }
    world.daemon.terminate();
    // Each of them is slow, and throttled once.
    world.server.next((0..24).map(|_| Act::Refuse(400, "ThrottlingException", "Rate exceeded")));
    world.daemon.run();
    for name in &names {
        for _ in 0..600 {
            if state(&world.daemon, name) == "in-use" {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        assert_eq!(state(&world.daemon, name), "in-use");
    }
    assert_eq!(world.server.requests().len(), 48);
    assert!(world.server.most_inside() <= 8, "{} at once", world.server.most_inside());
}

#[test]
fn credentials_that_cannot_be_used_are_told_without_being_shown() {
    let world = World::new(2);
    let file = world.files.path("credentials");
    for (content, mode, told) in [
        (format!("[default]\naws_secret_access_key = {SECRET}\n"), 0o600, "credentials"),
        (format!("{SECRET} {SECRET}\n"), 0o600, "credentials"),
        (
            format!("[other]\naws_access_key_id = A\naws_secret_access_key = {SECRET}\n"),
            0o600,
            "the credential provider was not enabled",
        ),
        (format!("[default]\naws_access_key_id = A\naws_secret_access_key = {SECRET}\n"), 0o644, "by others"),
    ] {
        std::fs::write(&file, content).expect("written");
        chmod(&file, mode);
        let (error, asked) = world.refused(Act::Honest, (2, "attach.kms.misconfigured"));
        assert_eq!(asked, 0);
        assert!(text(&error, "remedy").contains(file.to_str().expect("text")), "{error}");
        assert!(text(&error, "message").contains(told), "{error}");
        assert!(!error.to_string().contains(SECRET), "{error}");
    }
    std::fs::remove_file(&file).expect("removed");
    let (error, _) = world.refused(Act::Honest, (2, "attach.kms.misconfigured"));
    assert!(text(&error, "message").contains("No such file"), "{error}");
    assert!(text(&error, "remedy").contains(file.to_str().expect("text")), "{error}");
    world.files.credentials("AKIAAAAAAAAAAAAAAAAA", SECRET);
    world.daemon.attach("db");
    assert!(!world.daemon.log().contains(SECRET), "{}", world.daemon.log());
}

/// Refuses every request in STS's words; where.
fn refusing_sts(asked: &Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let asked = Arc::clone(asked);
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            asked.fetch_add(1, Ordering::SeqCst);
            let body = "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
                        <Code>AccessDenied</Code><Message>User: u is not authorized to perform: sts:AssumeRole</Message>\
                        </Error></ErrorResponse>";
            let head = format!("HTTP/1.1 403 Forbidden\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ = stream.read(&mut [0; 1 << 14]);
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
            // Whatever is still to come of the request is taken, so that the answer is not lost.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = std::io::copy(&mut stream, &mut std::io::sink());
        }
    });
    endpoint
}

#[test]
fn a_role_that_may_not_be_assumed_is_told_and_asked_for_once() {
    let (files, server, asked) = (Files::new(), Server::start(), Arc::new(AtomicUsize::new(0)));
    files.credentials("AKIAAAAAAAAAAAAAAAAA", SECRET);
    let sts = refusing_sts(&asked);
    let role = format!("role = \"arn:aws:iam::123456789012:role/envol\"\nsts_endpoint = \"{sts}\"\n");
    let daemon = files.daemon(&format!("{}{role}", section(&files, server.endpoint())));
    let words = ["volume", "create", "db", "--size", "8M", "--kms", "far", "--key", KEY];
    let error = daemon.refused(2, words);
    assert_eq!(text(&error, "code"), "attach.kms.misconfigured");
    assert!(text(&error, "message").contains("is not authorized to perform: sts:AssumeRole"), "{error}");
    assert!(text(&error, "remedy").contains("role"), "{error}");
    assert_eq!((asked.load(Ordering::SeqCst), server.requests().len()), (1, 0));
}

#[test]
fn a_daemon_that_has_lost_what_starts_its_calls_says_so_at_once() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let world = World::new(20);
    world.daemon.attach("db");
    let (parent, _) = crate::far::parent_of(&world.daemon);
    let parent = nix::unistd::Pid::from_raw(i32::try_from(parent).expect("small"));
    nix::sys::signal::kill(parent, nix::sys::signal::Signal::SIGKILL).expect("it is there");
    assert_eq!(state(&world.daemon, "db"), "in-use", "what is attached goes on");
    world.daemon.detach("db");
    let (error, asked) = world.refused(Act::Honest, (1, "attach.kms.no_caller"));
    assert_eq!(asked, 0);
    assert!(text(&error, "remedy").contains("restart the daemon"), "{error}");
    assert!(world.daemon.log().contains("restart the daemon"), "{}", world.daemon.log());
}

#[test]
fn a_section_that_is_not_configured_is_not_called_and_the_others_are() {
    let (files, server) = (Files::new(), Server::start());
    let settings = Settings {
        region: "us-east-1".into(),
        endpoint: Some(server.endpoint().to_owned()),
        credentials_file: Some(files.credentials("AKIAAAAAAAAAAAAAAAAA", SECRET)),
        profile: "default".into(),
        ..Settings::default()
    };
    let sections = BTreeMap::from([("far".to_owned(), settings)]);
    let program = Path::new(env!("CARGO_BIN_EXE_envol"));
    let parent = Parent::start_program(program, KeyMemoryChoice::Auto, Hardening::Prefer, &sections);
    let parent = Arc::new(parent.expect("a process"));
    let call = |section: &str| {
        let (key, context) = (KeyName::new("alias/volumes"), EncryptionContext::new([("a", "b")]));
        let kms = Aws::new(section.to_owned(), Arc::clone(&parent));
        kms.generate_data_key_without_plaintext(&Principal::root("111122223333"), &key, &context)
    };
    let long = "far".repeat(200);
    for section in ["nowhere", "", "far\"", &long] {
        assert!(matches!(call(section), Err(KmsError::Unreachable(_))), "{section}");
    }
    assert!(server.requests().is_empty());
    call("far").expect("the parent goes on");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_volume_is_not_made_of_an_answer_that_cannot_be_true() {
    let world = World::new(20);
    let generate = |act: Act| {
        world.server.next([act]);
        world.daemon.refused(7, ["volume", "create", "new", "--size", "8M", "--kms", "far", "--key", KEY])
    };
    let lacking = generate(raw(200, JSON, "{\"KeyId\": \"arn:aws:kms:us-east-1:111122223333:key/k\"}"));
    assert!(text(&lacking, "message").contains("CiphertextBlob"), "{lacking}");
    let long = "A".repeat(4 * 6145 / 3 + 4);
    let long = format!("{{\"KeyId\": \"arn:aws:kms:us-east-1:111122223333:key/k\", \"CiphertextBlob\": \"{long}\"}}");
    generate(Act::Raw(200, JSON, long.into_bytes()));
    generate(Act::KeyId(None));
    let known = world.daemon.json(["volume", "list"]);
    assert_eq!(known.as_array().map(Vec::len), Some(1), "{known}");
}
