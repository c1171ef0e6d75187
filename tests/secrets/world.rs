//! A daemon under which a volume is attached, used and detached over and over.

use std::path::PathBuf;
use std::process::Command;

use envol::chain::VerifyKey;
use envol::nbd::client::Client;

use crate::keys::{self, Known};
use crate::scan::{Memory, Scan};
use crate::support::{Daemon, must};

/// Key scopes of the volume, each with keys of its own.
const SCOPES: u64 = 3;

pub(crate) struct World {
    pub(crate) daemon: Daemon,
    pub(crate) scan: Scan,
    plaintext: Vec<u8>,
}

impl World {
    /// A daemon whose keys lie in `key_memory`, and a volume that was never attached.
    pub(crate) fn new(key_memory: &str) -> Self {
        Self::under(key_memory, &[])
    }

    /// The same, with variables in the daemon's environment.
    pub(crate) fn under(key_memory: &str, environment: &[(&str, &str)]) -> Self {
        let place = tempfile::tempdir().expect("a directory");
        let config = place.path().join("envol.toml");
        std::fs::write(&config, format!("key_memory = \"{key_memory}\"\n")).expect("written");
        let daemon = Daemon::start_under(&["--config", config.to_str().expect("text")], environment);
        assert_eq!(daemon.json(["status"])["key_memory"], key_memory);
        daemon.json(["key", "create", "--alias", "k"]);
        let size = format!("{SCOPES}M");
        daemon.json(["volume", "create", "db", "--size", &size, "--scope", "1M", "--key", "alias/k"]);
        let mut known = keys::of_volume(&daemon.path().join("state"), &daemon.backing("db"), SCOPES);
        known.push(audit_verify_key(&daemon));
        known.push(access_key(&daemon));
        let plaintext: Vec<u8> = (0..64).map(|_| fastrand::u8(..)).collect();
        known.push(Known { name: "plaintext".into(), bytes: plaintext.clone() });
        Self { daemon, scan: Scan::new(&known), plaintext }
    }

    /// Attaches, reads and writes on two connections, and detaches. Now and then the table of keys is asked for, or the
    /// attach is refused first.
    pub(crate) fn cycle(&self, number: usize) {
        if number % 4 == 1 {
            self.daemon.json(["key", "disable", "alias/k"]);
            self.daemon.refused(5, ["attach", "db"]);
            self.daemon.json(["key", "enable", "alias/k"]);
        }
        self.daemon.attach("db");
        self.use_it();
        if number % 4 == 2 {
            let output = self.daemon.envol(["volume", "export-key", "db", "--yes"]);
            assert!(output.status.success(), "{output:?}");
        }
        self.daemon.detach("db");
    }

    /// Requests of all sorts: small and large, whole sectors and parts of a piece.
    pub(crate) fn use_it(&self) {
        let mut clients: Vec<_> =
            (0..2).map(|_| Client::connect(&self.daemon.nbd_socket(), "db").expect("served")).collect();
        let plaintext = self.plaintext.repeat(16 << 10);
        for (offset, length) in [(0, 1 << 20), (4096, 4096), (77, 640), (1 << 20, 256 << 10), ((2 << 20) - 100, 200)] {
            let mut back = vec![0; length];
            for client in &mut clients {
                client.write(offset, &plaintext[..length]).expect("written");
                client.read(offset, &mut back).expect("read");
            }
            assert_eq!(back, plaintext[..length]);
        }
        clients.iter_mut().for_each(|client| client.flush().expect("flushed"));
        clients.into_iter().for_each(|client| client.disconnect().expect("leaves"));
    }

    /// The break-glass table of the daemon holds the sector keys that are searched for.
    pub(crate) fn check_keys_against_table(&self) {
        let output = self.daemon.envol(["volume", "export-key", "db", "--yes"]);
        let table = String::from_utf8(output.stdout).expect("text");
        let sector_keys = keys::in_table(&table);
        assert_eq!(sector_keys.len() as u64, SCOPES);
        for key in sector_keys {
            assert_eq!(
                self.scan.search(&key).kinds(),
                ["encrypting round key", "sector key", "tweak round key"].into()
            );
        }
    }

    pub(crate) fn memory(&self) -> Memory {
        let memory = self.scan.process(self.daemon.pid());
        eprintln!("{} KiB of memory were searched, {} KiB withheld", memory.read >> 10, memory.withheld >> 10);
        eprintln!("found: {:#?}", memory.places);
        memory
    }

    /// A core of the daemon as it is now.
    pub(crate) fn core(&self) -> PathBuf {
        let prefix = self.daemon.path().join("core");
        must(Command::new("gcore").arg("-o").arg(&prefix).arg(self.daemon.pid().to_string()));
        prefix.with_extension(self.daemon.pid().to_string())
    }

    /// How much memory the daemon has locked, in KiB.
    pub(crate) fn locked_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.daemon.pid())).expect("procfs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmLck:")).expect("it is told");
        line.trim().strip_suffix(" kB").expect("in KiB").parse().expect("a number")
    }
}

/// The verify key of the audit log, which the daemon hands out for good: from then on it is left nowhere.
fn audit_verify_key(daemon: &Daemon) -> Known {
    let path = daemon.path().join("verify.key");
    daemon.json(["audit", "verify-key", path.to_str().expect("text")]);
    let key: VerifyKey = std::fs::read_to_string(path).expect("there").parse().expect("a verify key");
    Known { name: "audit verify key".into(), bytes: key.expose().to_vec() }
}

/// The secret of an access key, which the daemon shows once.
fn access_key(daemon: &Daemon) -> Known {
    let made = daemon.json(["kms", "access-key", "create", "--user", "root"]);
    let secret = made["secret_access_key"].as_str().expect("text");
    Known { name: "access key's secret".into(), bytes: secret.into() }
}

/// How many cycles were asked for.
pub(crate) fn cycles() -> usize {
    let asked = std::env::var("ENVOL_SECRET_CYCLES").ok();
    asked.map_or(12, |count| count.parse().expect("ENVOL_SECRET_CYCLES is a number"))
}
