//! libnbd's, QEMU's, fio's and nbdkit's clients on a daemon of the test's own.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::{Daemon, command, have, must, must_fail, random_file};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn nbdinfo(arguments: &[&str]) -> Value {
    let printed = must(Command::new("nbdinfo").arg("--json").args(arguments));
    serde_json::from_str(&printed).expect("JSON")
}

#[test]
fn nbdinfo_sees_an_export_as_it_is() {
    if !have(&["nbdinfo"]) {
        return;
    }
    let daemon = Daemon::start();
    let uri = daemon.attached("db", "64M", &[]);
    let seen = &nbdinfo(&[&uri])["exports"][0];
    assert_eq!(seen["export-size"], 64 << 20);
    for (flag, expected) in [
        ("is_read_only", false),
        ("can_flush", true),
        ("can_fua", true),
        ("can_trim", true),
        ("can_zero", true),
        ("can_fast_zero", true),
        ("can_cache", true),
        ("can_df", true),
        ("can_multi_conn", true),
    ] {
        assert_eq!(seen[flag], expected, "{flag}: {seen}");
    }
    for can in [
        "connect",
        "flush",
        "fua",
        "trim",
        "zero",
        "fast-zero",
        "cache",
        "df",
        "multi-conn",
        "write",
        "read",
        "structured-reply",
    ] {
        must(Command::new("nbdinfo").args(["--can", can, &uri]));
    }
    for is in ["read-only", "rotational", "tls"] {
        must_fail(Command::new("nbdinfo").args(["--is", is, &uri]));
    }
    assert_eq!(seen["block_size_minimum"], 1);
    assert_eq!(seen["block_size_preferred"], 4096);
}

#[test]
fn a_read_only_attachment_is_seen_as_one() {
    if !have(&["nbdinfo", "nbdsh"]) {
        return;
    }
    let daemon = Daemon::start();
    daemon.json(["volume", "create", "db", "--size", "1M"]);
    let before = std::fs::read(daemon.backing("db")).expect("the backing");
    let uri = daemon.json(["attach", "db", "--read-only"])["uri"].as_str().expect("a URI").to_owned();
    must(Command::new("nbdinfo").args(["--is", "read-only", &uri]));
    for can in ["write", "trim", "zero"] {
        must_fail(Command::new("nbdinfo").args(["--can", can, &uri]));
    }
    nbdsh(&uri, "h.set_strict_mode(0)\nrefused('EPERM', h.pwrite, b'x' * 512, 0)\nrefused('EPERM', h.trim, 512, 0)");
    daemon.detach("db");
    assert!(std::fs::read(daemon.backing("db")).expect("the backing") == before, "nothing was written");
}

#[test]
fn nbdinfo_lists_what_is_attached() {
    if !have(&["nbdinfo"]) {
        return;
    }
    let daemon = Daemon::start();
    daemon.attached("one", "1M", &[]);
    daemon.attached("two", "2M", &[]);
    daemon.json(["volume", "create", "three", "--size", "1M"]);
    let socket = format!("nbd+unix:///?socket={}", daemon.nbd_socket().display());
    let list = nbdinfo(&["--list", &socket]);
    let mut names: Vec<_> =
        list["exports"].as_array().expect("exports").iter().map(|e| e["export-name"].clone()).collect();
    names.sort_by_key(ToString::to_string);
    assert_eq!(names, ["one", "two"]);
}

/// The map of an export as (offset, length, is data).
fn map(uri: &str) -> Vec<(u64, u64, bool)> {
    let printed = must(Command::new("nbdinfo").args(["--map", "--json", uri]));
    let runs: Vec<Value> = serde_json::from_str(&printed).expect("JSON");
    let number = |run: &Value, field: &str| run[field].as_u64().expect("a number");
    runs.iter().map(|run| (number(run, "offset"), number(run, "length"), number(run, "type") == 0)).collect()
}

#[test]
fn trim_and_zeroes_make_holes_that_the_map_shows() {
    if !have(&["nbdinfo", "nbdsh"]) {
        return;
    }
    let daemon = Daemon::start();
    let uri = daemon.attached("db", "4M", &[]);
    assert_eq!(map(&uri), [(0, 4 << 20, false)]);
    nbdsh(&uri, "h.pwrite(b'x' * (3 << 20), 0)");
    assert_eq!(map(&uri), [(0, 3 << 20, true), (3 << 20, 1 << 20, false)]);
    nbdsh(&uri, "h.trim(1 << 20, 0)\nh.zero(1 << 20, 1 << 20)\nassert h.pread(2 << 20, 0) == bytes(2 << 20)");
    assert_eq!(map(&uri), [(0, 2 << 20, false), (2 << 20, 1 << 20, true), (3 << 20, 1 << 20, false)]);
}

#[test]
fn nbdcopy_brings_back_what_it_took() {
    if !have(&["nbdcopy", "cmp"]) {
        return;
    }
    let daemon = Daemon::start();
    let (plain, back) = (daemon.path().join("plain"), daemon.path().join("back"));
    random_file(&plain, 96 << 20);
    let uri = daemon.attached("db", "96M", &[]);
    must(&mut command(&["nbdcopy", "--connections=4", "--flush", text(&plain), &uri]));
    must(&mut command(&["nbdcopy", "--connections=4", &uri, text(&back)]));
    must(&mut command(&["cmp", text(&plain), text(&back)]));
}

/// Runs a script in nbdsh with `h` connected. `refused(errno, call, arguments...)` expects an error.
fn nbdsh(uri: &str, script: &str) -> String {
    let prelude = "
import nbd
def refused(errno, call, *arguments, **named):
    try:
        call(*arguments, **named)
    except nbd.Error as error:
        assert error.errno == errno, '%s: expected %s, got %s' % (call, errno, error.errno)
    else:
        raise AssertionError('%s was let through, %s expected' % (call, errno))
";
    // nbdsh takes the python3 it finds first, and Debian's is the one that has its module.
    let path = "/usr/bin:/bin";
    must(Command::new("nbdsh").env("PATH", path).args(["--base-allocation", "-u", uri, "-c", prelude, "-c", script]))
}

/// What a correct client never sends: each is refused with its errno, and the connection goes on.
#[test]
fn wrong_requests_are_refused_and_the_stream_stays_in_step() {
    if !have(&["nbdsh"]) {
        return;
    }
    let daemon = Daemon::start();
    let uri = daemon.attached("db", "1M", &[]);
    nbdsh(
        &uri,
        "
h.set_strict_mode(0)
end = 1 << 20
h.pwrite(b'keep' * 128, 0)
refused('EINVAL', h.pread, 1, end)
refused('EINVAL', h.pread, 2, end - 1)
refused('ENOSPC', h.pwrite, b'xx', end - 1)
refused('EINVAL', h.trim, 2, end - 1)
refused('ENOSPC', h.zero, 2, end - 1)
refused('EINVAL', h.pwrite, b'x' * 512, 0, flags=1 << 14)
refused('EINVAL', h.pread, 512, 0, flags=nbd.CMD_FLAG_NO_HOLE)
refused('EINVAL', h.pread, 512, 1 << 63)
assert h.pread(512, 0) == b'keep' * 128
assert h.pread(0, 0) == b''
h.pwrite(b'', 0)
h.pread(512, 0, 0)
h.flush()
h.cache(end, 0)
h.pwrite(b'durable', 5, flags=nbd.CMD_FLAG_FUA)
assert h.pread(7, 5) == b'durable'
h.zero(3, 6, flags=nbd.CMD_FLAG_NO_HOLE)
assert h.pread(7, 5) == b'd\\0\\0\\0ble'
",
    );
}

#[test]
fn structured_replies_answer_block_status_and_df() {
    if !have(&["nbdsh"]) {
        return;
    }
    let daemon = Daemon::start();
    let uri = daemon.attached("db", "1M", &[]);
    nbdsh(
        &uri,
        "
assert h.get_structured_replies_negotiated()
assert h.can_meta_context(nbd.CONTEXT_BASE_ALLOCATION)
h.pwrite(b'x' * 65536, 131072)
seen = []
h.block_status(1 << 20, 0, lambda context, offset, entries, error: seen.extend(entries))
assert seen == [131072, 3, 65536, 0, (1 << 20) - 196608, 3], seen
chunks = []
h.pread_structured(65536, 131072, lambda data, offset, status, error: chunks.append((offset, len(data))), flags=nbd.CMD_FLAG_DF)
assert chunks == [(131072, 65536)], chunks
",
    );
}

/// What each client prints for a volume that is merely not attached, and for one whose last attach was refused. libnbd
/// tells what the server said in its debug output only.
#[test]
fn every_client_is_told_why() {
    if !have(&["nbdinfo", "nbdcopy", "qemu-img", "qemu-io"]) {
        return;
    }
    let daemon = Daemon::start();
    let key = daemon.json(["key", "create", "--alias", "k"]);
    let reason = format!("Z DisabledException: key/{} is disabled.", key["key_id"].as_str().expect("an id"));
    let uri = daemon.attached("db", "1M", &["--key", "alias/k"]);
    daemon.detach("db");
    let clients: [&[&str]; 4] = [
        &["nbdinfo", &uri],
        &["nbdcopy", "--verbose", &uri, "null:"],
        &["qemu-img", "info", &uri],
        &["qemu-io", "-f", "raw", "-c", "read 0 512", &uri],
    ];
    let told = |client: &[&str]| must_fail(command(client).env("LIBNBD_DEBUG", "1"));
    for client in clients {
        let said = told(client);
        let of_a_kms = ["KMS", "kms", "Exception", "POLICY"].iter().find(|word| said.contains(**word));
        assert_eq!(of_a_kms, None, "{client:?}, although it is merely not attached: {said}");
    }
    daemon.json(["key", "disable", "alias/k"]);
    daemon.refused(5, ["attach", "db"]);
    for client in clients {
        let said = told(client);
        assert!(said.contains(&reason), "{client:?} is told all of {reason:?}: {said}");
    }
    daemon.json(["key", "enable", "alias/k"]);
    daemon.attach("db");
    must(Command::new("nbdinfo").arg(&uri));
}

/// A file that was there before: taken when it is empty or by force, and its own after the volume is deleted.
#[test]
fn an_existing_file_is_a_backing() {
    if !have(&["nbdcopy", "cmp"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("envol.toml");
    std::fs::write(&config, format!("volume_dirs = [\"{}\"]\n", text(directory.path()))).expect("written");
    let daemon = Daemon::start_with(&["--config", text(&config)]);
    let (file, plain, back) = (directory.path().join("disk"), daemon.path().join("plain"), daemon.path().join("back"));
    random_file(&file, 9 << 20);
    let create = ["volume", "create", "db", "--backing", text(&file)];
    daemon.refused(4, create);
    daemon.json(create.iter().chain(&["--force"]));
    random_file(&plain, 4 << 20);
    let uri = daemon.attach("db");
    assert_eq!(map(&uri), [(0, 8 << 20, false)], "what lay in the file is gone");
    must(&mut command(&["nbdcopy", text(&plain), &uri]));
    daemon.detach("db");
    daemon.attach("db");
    must(&mut command(&["nbdcopy", &uri, text(&back)]));
    must(&mut command(&["cmp", "--bytes=4194304", text(&plain), text(&back)]));
    daemon.detach("db");
    daemon.json(["volume", "delete", "db", "--yes"]);
    assert!(file.exists(), "only what envol made is removed");
}

#[test]
fn qemu_img_converts_compares_and_maps() {
    if !have(&["qemu-img"]) {
        return;
    }
    let daemon = Daemon::start();
    let plain = daemon.path().join("plain");
    random_file(&plain, 8 << 20);
    let file = std::fs::OpenOptions::new().write(true).open(&plain).expect("opened");
    file.set_len(32 << 20).expect("sparse behind the data");
    let uri = daemon.attached("db", "32M", &[]);
    must(&mut command(&["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", text(&plain), &uri]));
    must(&mut command(&["qemu-img", "compare", "-f", "raw", "-F", "raw", text(&plain), &uri]));
    let runs: Vec<Value> =
        serde_json::from_str(&must(&mut command(&["qemu-img", "map", "--output=json", &uri]))).expect("JSON");
    let zero: u64 =
        runs.iter().filter(|run| run["zero"] == true).map(|run| run["length"].as_u64().expect("bytes")).sum();
    assert_eq!(zero, 24 << 20, "what was sparse is sparse: {runs:?}");
}

#[test]
fn qemu_io_writes_zeroes_discards_and_verifies() {
    if !have(&["qemu-io"]) {
        return;
    }
    let daemon = Daemon::start();
    let uri = daemon.attached("db", "16M", &[]);
    let mut qemu_io = command(&["qemu-io", "-f", "raw"]);
    for order in [
        "write -P 0x5a 0 8M",
        "write -P 0x11 511 513",
        "read -P 0x11 511 513",
        "read -P 0x5a 0 511",
        "write -z -u 1M 1M",
        "read -P 0 1M 1M",
        "discard 4M 1M",
        "read -P 0 4M 1M",
        "write -f -P 0x77 15M 1M",
        "read -P 0x77 15M 1M",
        "read -P 0x5a 5M 3M",
        "flush",
    ] {
        qemu_io.args(["-c", order]);
    }
    let printed = must(qemu_io.arg(&uri));
    assert!(!printed.contains("failed"), "{printed}");
}

#[test]
fn fio_verifies_mixed_sizes_over_two_connections() {
    if !have(&["fio"]) {
        return;
    }
    let daemon = Daemon::start();
    let uri = daemon.attached("db", "64M", &[]);
    let mut fio =
        command(&["fio", "--ioengine=nbd", "--uri", &uri, "--rw=randrw", "--verify=sha256", "--verify_fatal=1"]);
    fio.args(["--bsrange=512-64k", "--bs_unaligned=0", "--blockalign=512", "--iodepth=16", "--loops=2", "--minimal"]);
    fio.args(["--name=low", "--offset=0", "--size=24M", "--name=high", "--offset=32M", "--size=24M"]);
    fio.current_dir(daemon.path());
    must(&mut fio);
}

#[test]
fn nbdkit_serves_on_what_it_reads_here() {
    if !have(&["nbdkit", "nbdcopy", "cmp"]) {
        return;
    }
    let daemon = Daemon::start();
    let (plain, back) = (daemon.path().join("plain"), daemon.path().join("back"));
    random_file(&plain, 8 << 20);
    daemon.attached("db", "8M", &[]);
    let run = format!("nbdcopy {} \"$uri\" && nbdcopy \"$uri\" {}", text(&plain), text(&back));
    let socket = format!("socket={}", daemon.nbd_socket().display());
    must(&mut command(&["nbdkit", "-U", "-", "nbd", &socket, "export=db", "--run", &run]));
    must(&mut command(&["cmp", text(&plain), text(&back)]));
}
