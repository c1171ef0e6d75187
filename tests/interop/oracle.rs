//! The backing, decrypted by somebody else's AES: the PyPI package `cryptography`, with the keys that break-glass gives.

use std::process::{Command, Stdio};

use crate::support::{Daemon, command, have, must, python, random_file};

/// Reads a dmsetup table on standard input and writes the plaintext of the volume to standard output.
const DECRYPT: &str = r#"
import sys
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
for line in sys.stdin.read().splitlines():
    start, count, target, cipher, key, iv_offset, backing, offset, *options = line.split()
    assert target == "crypt" and "xts" in cipher and "plain64" in cipher, line
    sector = next((int(o.split(":")[1]) for o in options if o.startswith("sector_size:")), 512)
    large = "iv_large_sectors" in options
    with open(backing, "rb") as file:
        file.seek(int(offset) * 512)
        for at in range(0, int(count) * 512, sector):
            number = int(iv_offset) + at // 512
            tweak = (number * 512 // sector if large else number).to_bytes(16, "little")
            decryptor = Cipher(algorithms.AES(bytes.fromhex(key)), modes.XTS(tweak)).decryptor()
            sys.stdout.buffer.write(decryptor.update(file.read(sector)) + decryptor.finalize())
"#;

#[test]
fn python_decrypts_the_backing_of_a_filled_volume() {
    let python = python();
    let has_cryptography = Command::new(&python)
        .args(["-c", "import cryptography"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !have(&["nbdcopy"]) || !(has_cryptography || have(&["/the python package cryptography"])) {
        return;
    }
    for sector_size in ["4096", "512"] {
        let daemon = Daemon::start();
        let plain = daemon.path().join("plain");
        random_file(&plain, 2 << 20);
        let uri = daemon.attached("db", "3M", &["--sector-size", sector_size, "--scope", "1M"]);
        must(&mut command(&["nbdcopy", plain.to_str().expect("UTF-8"), &uri]));
        daemon.detach("db");
        daemon.json(["volume", "fill", "db"]);
        let table = daemon.envol(["volume", "export-key", "db", "--yes"]);
        assert!(table.status.success(), "{table:?}");
        let mut decrypt = Command::new(&python);
        decrypt.args(["-c", DECRYPT]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = decrypt.spawn().expect("Python starts");
        std::io::Write::write_all(&mut process.stdin.take().expect("piped"), &table.stdout).expect("the table");
        let output = process.wait_with_output().expect("Python ends");
        assert!(output.status.success(), "the script failed");
        let mut expected = std::fs::read(&plain).expect("the plaintext");
        expected.resize(3 << 20, 0);
        assert!(output.stdout == expected, "{sector_size}: another AES reads other bytes");
    }
}

#[test]
fn export_key_is_refused_while_the_key_is_disabled() {
    let daemon = Daemon::start();
    daemon.json(["key", "create", "--alias", "k"]);
    daemon.attached("db", "1M", &["--key", "alias/k"]);
    daemon.json(["key", "disable", "alias/k"]);
    let error = daemon.refused(5, ["volume", "export-key", "db", "--yes"]);
    assert_eq!(error["kms_exception"], "DisabledException");
}
