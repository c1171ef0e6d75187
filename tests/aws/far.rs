//! Volumes of envol's own KMS, served by another process over the wire: the whole story, beside volumes of the embedded
//! one.

use crate::server::{Act, Server};
use crate::support::{Daemon, command, have, must, random_file};
use crate::world::{Files, SECRET, create, section, state, text};

/// A KMS served alone, and a daemon with volumes whose configuration names it.
struct World {
    kms: Daemon,
    daemon: Daemon,
    _files: Files,
}

impl World {
    fn new(more: &str) -> Self {
        let kms = Daemon::start_kms(&["--listen", "127.0.0.1:0"]);
        kms.json(["key", "create", "--alias", "volumes"]);
        let files = Files::new();
        let made = kms.json(["kms", "access-key", "create", "--user", "root"]);
        files.credentials(text(&made, "access_key_id"), text(&made, "secret_access_key"));
        let endpoint = kms.json(["status"])["kms_endpoints"][0].as_str().expect("an endpoint").to_owned();
        let daemon = files.daemon(&format!("{more}{}", section(&files, &endpoint)));
        Self { kms, daemon, _files: files }
    }
}

/// The operations on the volume `id` that the KMS has recorded, by name.
fn recorded(kms: &Daemon, id: &str) -> Vec<String> {
    let records = kms.json(["audit", "list", "--volume", id]);
    let names = records.as_array().expect("a list").iter();
    let mut names: Vec<String> = names.map(|record| text(record, "eventName").to_owned()).collect();
    names.sort();
    names
}

fn copy(from: &str, to: &str) {
    must(&mut command(&["nbdcopy", from, to]));
}

fn same(daemon: &Daemon, uri: &str, file: &std::path::Path) {
    let back = daemon.path().join("back");
    let _ = std::fs::remove_file(&back);
    copy(uri, back.to_str().expect("text"));
    let (back, was) = (std::fs::read(back).expect("readable"), std::fs::read(file).expect("readable"));
    assert!(back == was, "every byte is as it was");
}

#[test]
fn a_key_disabled_far_away_lets_the_volume_be_and_stops_its_next_attach() {
    if !have(&["nbdcopy"]) {
        return;
    }
    let World { kms, daemon, .. } = &World::new("");
    let made = create(daemon, "db", "alias/volumes");
    let (id, arn) = (text(&made, "id"), text(&made, "kms_key"));
    assert_eq!(made["kms"], "far");
    let near = daemon.attached("near", "8M", &[]);
    let uri = daemon.attach("db");
    let file = daemon.path().join("random");
    random_file(&file, 8 << 20);
    copy(file.to_str().expect("text"), &uri);
    let shown = daemon.json(["status"])["kms"].clone();
    assert_eq!((text(&shown[0], "kind"), text(&shown[1], "kind"), text(&shown[1], "name")), ("embedded", "aws", "far"));

    kms.json(["key", "disable", "alias/volumes"]);
    same(daemon, &uri, &file);
    daemon.detach("db");
    let refused = daemon.refused(5, ["attach", "db"]);
    assert_eq!((text(&refused, "code"), text(&refused, "kms_exception")), ("attach.kms.disabled", "DisabledException"));
    assert!(text(&refused, "message").contains(&format!("{arn} is disabled.")), "{refused}");
    assert!(text(&refused, "remedy").contains("aws kms enable-key"), "{refused}");
    assert_eq!(state(daemon, "near"), "in-use", "another KMS's volume has no part in it");
    assert_eq!(daemon.refused(5, ["attach", "db", "--dry-run"])["code"], "attach.kms.disabled");
    copy(file.to_str().expect("text"), &near);

    kms.json(["key", "enable", "alias/volumes"]);
    same(daemon, &daemon.attach("db"), &file);
    let recorded = recorded(kms, id);
    assert_eq!(recorded, ["Decrypt", "Decrypt", "Decrypt", "Decrypt", "Decrypt", "GenerateDataKeyWithoutPlaintext"]);
}

#[test]
fn a_volume_goes_from_the_embedded_kms_to_another_and_back_while_attached() {
    if !have(&["nbdcopy"]) {
        return;
    }
    let world = World::new("");
    let daemon = &world.daemon;
    daemon.json(["key", "create", "--alias", "here"]);
    let uri = daemon.attached("db", "8M", &["--key", "alias/here"]);
    let id = text(&daemon.json(["volume", "show", "db"]), "id").to_owned();
    let file = daemon.path().join("random");
    random_file(&file, 8 << 20);
    copy(file.to_str().expect("text"), &uri);

    let moved = daemon.json(["volume", "rewrap", "db", "--kms", "far", "--key", "alias/volumes"]);
    assert_eq!((text(&moved, "kms"), text(&moved, "state")), ("far", "in-use"));
    assert_eq!(recorded(&world.kms, &id), ["Decrypt", "Encrypt"]);
    same(daemon, &uri, &file);
    daemon.detach("db");
    daemon.json(["key", "disable", "alias/here"]);
    same(daemon, &daemon.attach("db"), &file);
    assert_eq!(
        daemon.refused(5, ["volume", "rewrap", "db", "--kms", "embedded", "--key", "alias/here"])["code"],
        "attach.kms.disabled"
    );
    let missing = daemon.refused(3, ["volume", "rewrap", "db", "--key", "alias/absent"]);
    assert!(text(&missing, "remedy").contains("that KMS"), "it stays in its KMS unless another is named: {missing}");

    daemon.json(["key", "enable", "alias/here"]);
    let back = daemon.json(["volume", "rewrap", "db", "--kms", "embedded", "--key", "alias/here"]);
    assert_eq!((text(&back, "kms"), text(&back, "state")), ("embedded", "in-use"));
    daemon.detach("db");
    world.kms.json(["key", "disable", "alias/volumes"]);
    same(daemon, &daemon.attach("db"), &file);
}

#[test]
fn a_restarted_daemon_attaches_volumes_of_both_kinds_again() {
    let World { mut daemon, kms, _files } = World::new("");
    create(&daemon, "db", "alias/volumes");
    daemon.attach("db");
    daemon.attached("near", "8M", &[]);
    daemon.terminate();
    daemon.run();
    for name in ["db", "near"] {
        for _ in 0..600 {
            if state(&daemon, name) == "in-use" {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!(state(&daemon, name), "in-use");
    }
    drop((daemon, kms));
}

/// What the processes of the daemon `pid` are called, by their command lines.
fn processes_under(pid: u32) -> Vec<(u32, String)> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).expect("root reads it");
    let pids = children.split_whitespace().map(|pid| pid.parse().expect("a number"));
    pids.map(|pid: u32| (pid, command_line(pid))).collect()
}

fn command_line(pid: u32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ")
}

fn holds(pid: u32, needle: &[u8]) -> bool {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("root reads it");
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).expect("root reads it");
    maps.lines().any(|line| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-')).expect("a range");
        let place = |text| u64::from_str_radix(text, 16).expect("hex");
        let (from, to) = (place(range.0), place(range.1));
        let mut bytes = vec![0; usize::try_from((to - from).min(1 << 28)).expect("small")];
        let read = std::os::unix::fs::FileExt::read_at(&memory, &mut bytes, from).unwrap_or(0);
        bytes[..read].windows(needle.len()).any(|window| window == needle)
    })
}

/// The process that starts the calls of `daemon`, and its command line.
pub(crate) fn parent_of(daemon: &Daemon) -> (u32, String) {
    let parent = processes_under(daemon.pid()).into_iter().find(|(_, line)| line.starts_with("envol-kms-parent"));
    parent.expect("it runs as long as the daemon")
}

#[test]
fn no_credentials_and_no_process_are_left_of_a_call() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let World { kms, daemon, _files: files } = &World::new("");
    create(daemon, "db", "alias/volumes");
    daemon.attach("db");
    let (parent, line) = parent_of(daemon);
    assert_eq!(line.trim_end(), "envol-kms-parent auto prefer", "nothing that is secret is among its words");
    for _ in 0..600 {
        if processes_under(parent).is_empty() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(processes_under(parent), [], "a process that has called has ended");
    let secret = std::fs::read_to_string(files.path("credentials")).expect("readable");
    let secret = secret.trim_end().rsplit(' ').next().expect("the secret").to_owned();
    // The KMS has it, so that looking finds what there is.
    assert_eq!(secret.len(), 40);
    for pid in [daemon.pid(), parent] {
        assert!(!holds(pid, secret.as_bytes()), "{}", command_line(pid));
    }
    assert!(holds(daemon.pid(), b"envol-kms-call"), "what is there is found");
    drop(kms.json(["status"]));
}

#[test]
fn a_process_that_calls_is_confined_while_it_waits_for_its_answer() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let (files, server) = (Files::new(), Server::start());
    files.credentials("AKIAAAAAAAAAAAAAAAAA", SECRET);
    let text =
        format!("hardening = \"require\"\n[timings]\nattach_deadline_s = 3\n{}", section(&files, server.endpoint()));
    let daemon = &files.daemon(&text);
    create(daemon, "db", "alias/volumes");
    server.act(Act::Silent);
    let (parent, _) = parent_of(daemon);
    std::thread::scope(|scope| {
        let attach = scope.spawn(|| daemon.envol(["attach", "db"]));
        while server.requests().is_empty() {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        let (call, line) = processes_under(parent).pop().expect("it waits for its answer");
        assert_eq!(line.trim_end(), "envol-kms-call auto require");
        let status = std::fs::read_to_string(format!("/proc/{call}/status")).expect("root reads it");
        for expected in ["Seccomp:\t2", "NoNewPrivs:\t1"] {
            assert!(status.lines().any(|line| line == expected), "{expected}: {status}");
        }
        assert_eq!(attach.join().expect("no panic").status.code(), Some(6), "nothing came");
    });
}

#[test]
fn a_daemon_confined_altogether_has_volumes_of_another_kms() {
    let World { daemon, .. } = &World::new("hardening = \"require\"\n");
    let reached = daemon.json(["status"])["hardening"]["reached"].to_string();
    assert!(reached.contains("landlock") && reached.contains("seccomp"), "{reached}");
    create(daemon, "db", "alias/volumes");
    daemon.attach("db");
}
