//! The last rung of `envol bench`: the kernel's own device, attached and detached by the measuring.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::guest::{Guest, NEEDS};
use crate::support::{have, must};

/// A disk with the program and the libraries that it is linked to.
fn disk(dir: &Path) -> std::path::PathBuf {
    let (files, image) = (dir.join("files"), dir.join("disk.img"));
    fs::create_dir(&files).expect("made");
    let program = env!("CARGO_BIN_EXE_envol");
    fs::copy(program, files.join("envol")).expect("copied");
    let linked = must(Command::new("ldd").arg(program));
    for library in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        fs::copy(library, files.join(Path::new(library).file_name().expect("a file"))).expect("copied");
    }
    must(Command::new("mkfs.ext4").args(["-q", "-d"]).args([&files, &image]).arg("1G"));
    image
}

#[test]
fn the_kernels_device_is_measured_where_there_is_one_and_given_back() {
    if !have(NEEDS) || !have(&["ldd"]) {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mut guest = Guest::boot(&[disk(dir.path())]);
    guest.must("mount -t ext4 -o ro /dev/vda /mnt");
    guest.must("mkdir /tmp/data");
    // What the program starts knows no LD_LIBRARY_PATH.
    guest.must("mkdir -p /lib && for library in /mnt/*.so*; do [ -e /lib/${library##*/} ] || cp $library /lib/; done");
    let bench = "/mnt/envol bench --dir /tmp/data --size 4M --rounds 1 --seconds 0.2 --json";
    guest.must(&format!("{bench} >/tmp/report 2>/tmp/errors || {{ cat /tmp/errors; false; }}"));
    let report: Value = serde_json::from_str(&guest.must("cat /tmp/report")).expect("one document");
    let kernel = report["rungs"].as_array().expect("rungs").last().expect("rungs");
    assert_eq!((&kernel["id"], &kernel["absent"]), (&"kernel".into(), &Value::Null), "{kernel}");
    assert!(kernel["notes"].to_string().contains("/dev/nbd0"), "{kernel}");
    for job in report["jobs"].as_array().expect("jobs") {
        let figures = job["results"].as_array().expect("results").last().expect("figures");
        assert_eq!(figures["rung"], "kernel");
        assert!(figures["iops"].as_f64() > Some(0.0) && figures["loss"].is_number(), "{figures}");
    }
    assert_eq!(guest.must("cat /sys/block/nbd0/size").trim(), "0", "the device is free again");
    guest.must("rm /tmp/report /tmp/errors");
    assert_eq!(guest.must("ls /tmp /tmp/data").split_whitespace().collect::<Vec<_>>(), ["/tmp:", "data", "/tmp/data:"]);
}
