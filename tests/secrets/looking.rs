//! What is found: nothing after detach; while attached, nothing in a core and nothing by the daemon's own user.

use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use envol::sys::locked::{KeyMemoryChoice, choose};

use crate::support::{have, must};
use crate::world::{World, cycles};

/// Whether the kernel has pages that only one process can reach.
fn has_secret_pages() -> bool {
    let there = choose(KeyMemoryChoice::MemfdSecret).is_ok();
    if !there {
        eprintln!("SKIPPED, missing: memfd_secret (Linux 5.14, with secretmem.enable=1 before 6.5)");
    }
    there
}

/// Nothing is left in any place that outlives an attachment.
fn assert_nothing_is_left(world: &World) {
    let memory = world.memory();
    assert!(memory.found.is_empty(), "in memory: {:?}", memory.found);
    let state = world.daemon.path().join("state");
    let stored = world.scan.directory(&state, &state.join("domain.key"));
    assert!(stored.is_empty(), "in the state directory: {stored:?}");
    let logged = world.scan.search(world.daemon.log().as_bytes());
    assert!(logged.is_empty(), "in the log: {logged:?}");
    if have(&["gcore"]) {
        let core = world.scan.file(&world.core());
        assert!(core.is_empty(), "in a core: {core:?}");
    }
}

/// With locked pages that root can read, so that the scan sees all of it.
#[test]
fn nothing_is_left_after_detach() {
    let world = World::new("mlock");
    world.check_keys_against_table();
    (0..4).for_each(|number| world.cycle(number));
    let locked = world.locked_kib();
    (0..cycles()).for_each(|number| world.cycle(number));
    assert_nothing_is_left(&world);
    assert_eq!(world.locked_kib(), locked, "locked memory is what it was");
}

/// The portable engine's code is another crate's, which knows of no stacks: they are wiped behind it, and deep enough.
#[test]
fn nothing_is_left_by_the_portable_engine() {
    let world = World::under("mlock", &[("ENVOL_CIPHER", "portable")]);
    (0..8).for_each(|number| world.cycle(number));
    assert_nothing_is_left(&world);
}

/// Of pages that root can read, none goes into a core. The same look shows that the scan finds keys that are there.
#[test]
fn while_attached_a_core_holds_no_key() {
    let world = World::new("mlock");
    world.daemon.attach("db");
    world.use_it();
    let in_use = world.memory().found;
    let kinds = ["decrypting round key", "encrypting round key", "sector key", "tweak round key"];
    assert_eq!(in_use.kinds(), kinds.into(), "what an attachment needs and no more: {in_use:?}");
    if have(&["gcore"]) {
        let core = world.scan.file(&world.core());
        assert!(core.is_empty(), "in a core: {core:?}");
    }
    world.daemon.detach("db");
}

#[test]
fn with_secret_pages_root_finds_nothing_at_any_time() {
    if !has_secret_pages() {
        return;
    }
    let world = World::new("memfd_secret");
    (0..4).for_each(|number| world.cycle(number));
    world.daemon.attach("db");
    world.use_it();
    let memory = world.memory();
    assert!(memory.found.is_empty(), "in memory: {:?}", memory.found);
    assert!(memory.withheld > 0, "there are pages that the kernel does not give out");
    if have(&["gcore"]) {
        let core = world.scan.file(&world.core());
        assert!(core.is_empty(), "in a core: {core:?}");
    }
    world.daemon.detach("db");
    assert_nothing_is_left(&world);
}

/// Reads one byte of the process `argv[1]`, by both ways that there are; prints what came of each.
const READER: &str = r#"
import ctypes, os, sys
pid = int(sys.argv[1])
libc = ctypes.CDLL(None, use_errno=True)
class Piece(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
def by_call(address):
    byte = ctypes.create_string_buffer(1)
    here, there = Piece(ctypes.addressof(byte), 1), Piece(address, 1)
    return libc.process_vm_readv(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
def by_file(address):
    try:
        with open(f"/proc/{pid}/mem", "rb", 0) as memory:
            memory.seek(address)
            return len(memory.read(1))
    except OSError:
        return -1
try:
    address = int(open(f"/proc/{pid}/maps").read().split("-")[0], 16)
except OSError:
    address = 4096
print(by_call(address), by_file(address))
"#;

/// What a process of the user `user` reads of `pid`.
fn looked_into(pid: u32, user: u32) -> String {
    let mut reader = Command::new("/usr/bin/python3");
    reader.args(["-c", READER, &pid.to_string()]).uid(user).gid(user);
    String::from_utf8(reader.output().expect("starts").stdout).expect("text").trim().to_owned()
}

/// Nobody.
const USER: u32 = 65534;

/// A daemon of that user, from a copy of the program that the user can reach, with `before` in front of its command line.
fn daemon_of_nobody(place: &Path, configuration: &str, before: &[&str]) -> Command {
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(0o755)).expect("ours");
    let (program, home) = (place.join("envol"), place.join("home"));
    if !home.exists() {
        std::fs::copy(env!("CARGO_BIN_EXE_envol"), &program).expect("copied");
        std::fs::create_dir(&home).expect("made");
        chown(&home, Some(USER), Some(USER)).expect("root");
    }
    std::fs::write(place.join("envol.toml"), configuration).expect("written");
    let mut words = before.iter().map(Into::into).chain([program.into_os_string()]);
    let mut daemon = Command::new(words.next().expect("the program at the least"));
    daemon.args(words).args([
        "daemon",
        "--state-dir",
        "state",
        "--socket",
        "control.sock",
        "--config",
        "../envol.toml",
    ]);
    daemon.uid(USER).gid(USER).stdin(Stdio::null()).current_dir(&home);
    daemon
}

/// Starts it, and waits until it listens.
fn started(mut daemon: Command, place: &Path) -> Child {
    let mut daemon = daemon.spawn().expect("starts");
    while !place.join("home/nbd.sock").exists() {
        assert_eq!(daemon.try_wait().expect("a child"), None, "the daemon runs");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    daemon
}

fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED, missing: root, to become another user");
    }
    root
}

#[test]
fn a_process_of_the_same_user_cannot_look() {
    if !is_root() || !have(&["/usr/bin/python3"]) {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let mut daemon = started(daemon_of_nobody(place.path(), "", &[]), place.path());
    let mut open = Command::new("/usr/bin/sleep").arg("60").uid(USER).gid(USER).spawn().expect("starts");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let looks = (looked_into(open.id(), USER), looked_into(daemon.id(), USER));
    for child in [&mut open, &mut daemon] {
        child.kill().expect("ours");
        child.wait().expect("ends");
    }
    assert_eq!(looks, ("1 1".to_owned(), "-1 -1".to_owned()), "what is dumpable is read, and the daemon is not");
}

#[test]
fn memory_that_cannot_be_locked_is_refused_unless_the_configuration_says_to_go_on() {
    if !is_root() || !have(&["prlimit"]) {
        return;
    }
    let place = tempfile::tempdir().expect("a directory");
    let none = ["/usr/bin/prlimit", "--memlock=0:0"];
    for choice in ["auto", "mlock", "memfd_secret"] {
        let configuration = format!("key_memory = \"{choice}\"\n");
        let refused = daemon_of_nobody(place.path(), &configuration, &none).output().expect("starts");
        let said = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{choice}: {said}");
        assert!(said.contains("LimitMEMLOCK") && !said.contains(" ready "), "{choice}: {said}");
    }
    let mut daemon =
        started(daemon_of_nobody(place.path(), "key_memory = \"insecure_unlocked\"\n", &none), place.path());
    let mut status = Command::new(env!("CARGO_BIN_EXE_envol"));
    let status = must(status.arg("--socket").arg(place.path().join("home/control.sock")).args(["status", "--json"]));
    daemon.kill().expect("ours");
    daemon.wait().expect("ends");
    assert!(
        status.contains("\"key_memory\": \"insecure_unlocked\"")
            || status.contains("\"key_memory\":\"insecure_unlocked\""),
        "{status}"
    );
}
