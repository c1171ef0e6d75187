//! The real kernel as a client, with nbd-client; and its dm-crypt as the oracle of what lies on the backing.

use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::guest::{Guest, NEEDS};
use crate::support::{Daemon, command, have, must, random_file};

/// A TCP port of the loopback that nobody uses at this moment.
pub(crate) fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address").port()
}

/// The scenario, a file system on top: what the kernel wrote while the key was disabled is there after enable and attach.
#[test]
fn a_file_system_outlives_a_disabled_key() {
    if !have(NEEDS) {
        return;
    }
    let port = free_port();
    let daemon = Daemon::start_with(&["--listen", &format!("127.0.0.1:{port}")]);
    let key = daemon.json(["key", "create", "--alias", "finance"]);
    let arn = key["arn"].as_str().expect("an ARN");
    daemon.attached("disk", "256M", &["--key", "alias/finance"]);
    let mut guest = Guest::boot(&[]);
    let connect = format!("nbd-client -N disk 10.0.2.2 {port} /dev/nbd0");

    guest.must(&connect);
    guest.must("mkfs.ext4 -q /dev/nbd0 && mount -t ext4 /dev/nbd0 /mnt");
    guest.must("dd if=/dev/urandom of=/mnt/before bs=64k count=160 && sync");
    daemon.json(["key", "disable", "alias/finance"]);
    guest.must("dd if=/dev/urandom of=/mnt/after bs=64k count=160 && sync");
    let sums = guest.must("cd /mnt && sha256sum before after");
    guest.must("umount /mnt && nbd-client -d /dev/nbd0");
    daemon.detach("disk");
    let said = guest.must_fail(&connect);
    assert!(!said.contains("KMS") && !said.contains("Exception"), "it is merely not attached: {said}");

    let error = daemon.refused(5, ["attach", "disk"]);
    assert_eq!(error["kms_exception"], "DisabledException", "{error}");
    let said = guest.must_fail(&connect);
    let (_, key_id) = arn.split_once(":key/").expect("an ARN of a key");
    let reason = format!("Z DisabledException: key/{key_id} is disabled.");
    assert!(
        said.lines().any(|line| line.trim_end().ends_with(&reason)),
        "nbd-client is told all of {reason:?}: {said}"
    );

    daemon.json(["key", "enable", "alias/finance"]);
    daemon.attach("disk");
    guest.must(&connect);
    guest.must("e2fsck -fn /dev/nbd0");
    guest.must("mount -t ext4 /dev/nbd0 /mnt");
    assert_eq!(guest.must("cd /mnt && sha256sum before after"), sums);
    guest.must("umount /mnt && nbd-client -d /dev/nbd0");
}

/// A terabyte that was only formatted and trimmed takes only what was written.
#[test]
fn a_terabyte_takes_only_what_was_written() {
    if !have(NEEDS) {
        return;
    }
    let port = free_port();
    let daemon = Daemon::start_with(&["--listen", &format!("127.0.0.1:{port}")]);
    daemon.attached("huge", "1T", &[]);
    let mut guest = Guest::boot(&[]);
    guest.must(&format!("nbd-client -N huge 10.0.2.2 {port} /dev/nbd0"));
    guest.must("mkfs.ext4 -q -E lazy_itable_init=1,lazy_journal_init=1,discard /dev/nbd0");
    // Without the kernel zeroing inode tables in the background, what is allocated is what was written.
    guest.must("mount -t ext4 -o noinit_itable /dev/nbd0 /mnt");
    guest.must("dd if=/dev/urandom of=/mnt/file bs=1M count=64 && sync");
    let written = allocated(&daemon, "huge");
    guest.must("rm /mnt/file && sync && fstrim /mnt && umount /mnt && nbd-client -d /dev/nbd0");
    let trimmed = allocated(&daemon, "huge");
    assert!(written < 2 << 30, "{written} bytes for a formatted terabyte and 64 MiB");
    assert!(trimmed + (60 << 20) < written, "trim gave back too little: {written} -> {trimmed}");
}

fn allocated(daemon: &Daemon, volume: &str) -> u64 {
    daemon.json(["volume", "show", volume])["allocated"].as_u64().expect("bytes")
}

/// dm-crypt, given the table of `export-key`, reads from the backing what was written through NBD: both sector sizes,
/// across a scope boundary, holes and all.
#[test]
fn dm_crypt_reads_the_backing_of_a_filled_volume() {
    if !have(NEEDS) || !have(&["nbdcopy"]) {
        return;
    }
    let daemon = Daemon::start();
    let plain = daemon.path().join("plain");
    let cases = [("large", "4096", "vda"), ("small", "512", "vdb")];
    let mut drives: Vec<PathBuf> = Vec::new();
    random_file(&plain, 5 << 20);
    for (name, sector_size, _) in cases {
        let uri = daemon.attached(name, "6M", &["--sector-size", sector_size, "--scope", "1M"]);
        must(&mut command(&["nbdcopy", plain.to_str().expect("UTF-8"), &uri]));
        daemon.detach(name);
        daemon.json(["volume", "fill", name]);
        drives.push(daemon.backing(name));
    }
    let expected = sum_of_padded(&plain, 6 << 20);
    let mut guest = Guest::boot(&drives);
    for (name, _, drive) in cases {
        let table = daemon.envol(["volume", "export-key", name, "--yes"]);
        assert!(table.status.success(), "{table:?}");
        let table = String::from_utf8(table.stdout).expect("text");
        let backing = daemon.backing(name);
        let table = table.replace(backing.to_str().expect("UTF-8"), &format!("/dev/{drive}"));
        guest.must(&format!("printf '%s' '' > /tmp/{name}"));
        for line in table.lines() {
            guest.must(&format!("echo '{line}' >> /tmp/{name}"));
        }
        guest.must(&format!("dmsetup create -r {name} < /tmp/{name}"));
        guest.must("dmsetup mknodes");
        let sum = guest.must(&format!("sha256sum < /dev/mapper/{name}"));
        assert!(sum.starts_with(&expected), "{name}: dm-crypt read {sum}, expected {expected}");
    }
}

/// The SHA-256 of a file with zeros behind it up to `size`.
fn sum_of_padded(file: &Path, size: u64) -> String {
    let padded = file.with_extension("padded");
    std::fs::copy(file, &padded).expect("copied");
    std::fs::OpenOptions::new().write(true).open(&padded).expect("opened").set_len(size).expect("padded");
    let printed = must(&mut command(&["sha256sum", padded.to_str().expect("UTF-8")]));
    printed.split_whitespace().next().expect("a sum").to_owned()
}

/// A volume on a block device that is in use twice is refused; its data survive detach and attach.
#[test]
fn a_loop_device_is_a_backing() {
    if !have(&["losetup", "nbdcopy", "cmp"]) {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("disk.img");
    std::fs::File::create(&file).expect("made").set_len(16 << 20).expect("sized");
    let device = must(&mut command(&["losetup", "--find", "--show", file.to_str().expect("UTF-8")])).trim().to_owned();
    let config = directory.path().join("envol.toml");
    std::fs::write(&config, format!("volume_dirs = [\"{device}\"]\n")).expect("written");
    let result = std::panic::catch_unwind(|| {
        let daemon = Daemon::start_with(&["--config", config.to_str().expect("UTF-8")]);
        let made: Value = daemon.json(["volume", "create", "disk", "--backing", &device]);
        assert_eq!(made["size"], 15 << 20, "the device less the header area");
        let (plain, back) = (daemon.path().join("plain"), daemon.path().join("back"));
        random_file(&plain, 15 << 20);
        let uri = daemon.attach("disk");
        must(&mut command(&["nbdcopy", plain.to_str().expect("UTF-8"), &uri]));
        daemon.detach("disk");
        let uri = daemon.attach("disk");
        must(&mut command(&["nbdcopy", &uri, back.to_str().expect("UTF-8")]));
        must(&mut command(&["cmp", plain.to_str().expect("UTF-8"), back.to_str().expect("UTF-8")]));
        let in_use = daemon.refused(4, ["volume", "create", "again", "--backing", &device, "--force"]);
        assert_eq!(in_use["code"], "backing.in_use", "{in_use}");
        daemon.detach("disk");
        let taken = daemon.refused(4, ["volume", "create", "again", "--backing", &device, "--force"]);
        assert!(taken["message"].as_str().is_some_and(|text| text.contains("envol")), "{taken}");
    });
    must(&mut command(&["losetup", "-d", &device]));
    if let Err(panic) = result {
        std::panic::resume_unwind(panic);
    }
}
