//! What the daemon is confined to, by its configuration, and how far that went.

use std::path::{Path, PathBuf};

use tracing::{info, warn};

use super::config::Config;
use super::{DaemonError, state_dir};
use crate::control::api;
use crate::kms::wire::Address;
use crate::sys::confinement::{self, Landlocked, Reachable};
use crate::sys::hardening::Hardening;
use crate::sys::locked::{self, KeyMemory, KeyMemoryChoice};

/// How many loop devices are followed down to a file.
const LOOPS_MAX: usize = 8;

/// What was asked for, what of it holds, and what does not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Confined {
    asked: Hardening,
    reached: Vec<String>,
    missing: Vec<String>,
}

/// Confines this process as far as the configuration asks and the kernel can, for ever. To be called while there is one
/// thread, when everything that runs programs has been started.
///
/// # Errors
/// `hardening = "require"`, and something is missing; or what the daemon is to reach cannot be made.
pub(super) fn confine(config: &Config) -> Result<Confined, DaemonError> {
    let mut confined = Confined { asked: config.hardening, reached: Vec::new(), missing: Vec::new() };
    for reached in ["no cores", "not dumpable", "no new privileges"] {
        confined.reached.push(reached.to_owned());
    }
    if config.hardening == Hardening::Off {
        warn!("the daemon is not confined: hardening = \"off\"");
        return Ok(confined);
    }
    // They have to exist to be named.
    state_dir::make(&config.state_dir)?;
    super::sockets::make_directories(config)?;
    confined.note("landlock", landlocked(config));
    let filtered = confinement::seccomp().map(|()| "seccomp".to_owned()).map_err(|error| error.to_string());
    confined.note("seccomp", filtered);
    confined.note("memfd_secret", key_memory(config));
    confined.judge()
}

fn landlocked(config: &Config) -> Result<String, String> {
    let abi = confinement::landlock_abi().ok_or("the kernel has none, or it is not in its list of security modules")?;
    match confinement::landlock(&reachable(config)) {
        Ok(Landlocked::Fully) => Ok(format!("landlock (version {abi})")),
        Ok(Landlocked::Partly) => Ok(format!("landlock (version {abi}, in part)")),
        Ok(Landlocked::Not) => Err("the kernel does not enforce it".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Keys in pages that only this process reads, unless the configuration asks for another kind.
fn key_memory(config: &Config) -> Result<String, String> {
    match locked::kind() {
        Some(kind @ KeyMemory::MemfdSecret) => Ok(format!("keys in {kind}")),
        Some(kind @ KeyMemory::Mlock) if config.key_memory == KeyMemoryChoice::Mlock => Ok(format!("keys in {kind}")),
        Some(kind) => Err(format!("the kernel has none (secretmem.enable=1 before Linux 6.5); keys lie in {kind}")),
        None => Err("there is no memory for keys".to_owned()),
    }
}

impl Confined {
    fn note(&mut self, what: &str, outcome: Result<String, String>) {
        match outcome {
            Ok(reached) => self.reached.push(reached),
            Err(why) => self.missing.push(format!("{what}: {why}")),
        }
    }

    fn judge(self) -> Result<Self, DaemonError> {
        let (reached, missing) = (self.reached.join(", "), self.missing.join("; "));
        if missing.is_empty() {
            info!(reached, "confined");
        } else if self.asked == Hardening::Require {
            return Err(DaemonError::NotHardened(missing));
        } else {
            warn!(reached, missing, "confined in part");
        }
        Ok(self)
    }

    /// As `envol status` tells it.
    pub(super) fn shown(&self) -> api::Hardening {
        let asked = self.asked.to_string();
        api::Hardening { asked, reached: self.reached.clone(), missing: self.missing.clone() }
    }
}

/// What the daemon has to do with.
fn reachable(config: &Config) -> Reachable {
    let mut changed = vec![config.state_dir.clone()];
    for place in &config.volume_dirs {
        match place.canonicalize() {
            Ok(real) => changed.extend(with_what_is_behind(real)),
            Err(error) => warn!(path = %place.display(), %error, "out of reach until the daemon is started again"),
        }
    }
    let mut sockets = vec![config.socket.clone()];
    let mut ports: Vec<u16> =
        config.listen.iter().chain(&config.insecure_listen).map(std::net::SocketAddr::port).collect();
    for (address, _) in &config.served.listen {
        match address {
            Address::Unix(path) => sockets.push(path.clone()),
            Address::Tcp(address) | Address::Tls(address) => ports.push(address.port()),
        }
    }
    ports.extend(config.served.tls_listen.iter().map(std::net::SocketAddr::port));
    let sockets = sockets.iter().filter_map(|path| path.parent()).map(Path::to_owned).collect();
    // Who holds a file, what lies on a device: the kernel tells it there; loop devices are asked what is behind them.
    let read = ["/proc", "/sys"].into_iter().map(PathBuf::from).chain(loop_devices()).collect();
    Reachable { changed, sockets, read, ports, connected: Vec::new() }
}

/// A device that is a loop device needs the file behind it too: its lock is taken there.
fn with_what_is_behind(place: PathBuf) -> Vec<PathBuf> {
    let mut places = vec![place];
    while places.len() <= LOOPS_MAX {
        let Some(behind) = places.last().and_then(|last| behind_loop(last)) else { break };
        places.push(behind);
    }
    places
}

fn behind_loop(device: &Path) -> Option<PathBuf> {
    let name = whole_device(device.strip_prefix("/dev").ok()?.to_str()?);
    let shown = std::fs::read_to_string(format!("/sys/block/{name}/loop/backing_file")).ok()?;
    Some(PathBuf::from(shown.trim_end()))
}

/// `loop3` of `loop3p1`, and of itself.
fn whole_device(name: &str) -> &str {
    let numbered = |whole: &str| whole.ends_with(|last: char| last.is_ascii_digit());
    match name.rsplit_once('p') {
        Some((whole, part)) if numbered(whole) && part.parse::<u32>().is_ok() => whole,
        _ => name,
    }
}

fn loop_devices() -> impl Iterator<Item = PathBuf> {
    let names = std::fs::read_dir("/sys/block").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter(|name| name.as_encoded_bytes().starts_with(b"loop")).map(|name| Path::new("/dev").join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_told_from_its_device() {
        for (name, whole) in [("loop3", "loop3"), ("loop3p1", "loop3"), ("loop12p10", "loop12"), ("vdb", "vdb")] {
            assert_eq!(whole_device(name), whole);
        }
    }

    #[test]
    #[cfg(feature = "aws")]
    fn the_daemon_itself_connects_nowhere_whatever_it_is_configured_to_have_called() {
        let dir = tempfile::tempdir().expect("a directory");
        let options = crate::daemon::Options {
            state_dir: Some(dir.path().join("state")),
            socket: Some(dir.path().join("control.sock")),
            ..crate::daemon::Options::default()
        };
        let text = "[nbd]\nlisten = [\"127.0.0.1:10809\"]\n[kms.far]\nkind = \"aws\"\nregion = \"us-east-1\"\n";
        let config = Config::of(text, Path::new("envol.toml"), options).expect("well written");
        let reachable = reachable(&config);
        assert_eq!((reachable.ports, reachable.connected), (vec![10809], vec![]));
    }

    #[test]
    fn what_is_missing_ends_the_start_only_where_all_is_required() {
        let lacking =
            |asked| Confined { asked, reached: Vec::new(), missing: vec!["seccomp: none".to_owned()] }.judge();
        assert!(lacking(Hardening::Prefer).is_ok());
        assert!(
            matches!(lacking(Hardening::Require), Err(DaemonError::NotHardened(missing)) if missing == "seccomp: none")
        );
    }
}
