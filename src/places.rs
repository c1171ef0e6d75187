//! Where the state and the sockets lie unless an option says so: the environment, then the places that Linux knows.
//!
//! `$STATE_DIRECTORY` and `$RUNTIME_DIRECTORY` (which systemd sets for a service) come before root's `/var/lib/envol`
//! and `/run/envol`, and before anyone else's XDG directories. Without `$XDG_RUNTIME_DIR` the sockets lie in the state
//! directory, which nobody else can write to; never in a shared directory such as /tmp. The daemon and its clients
//! both ask here, so that they always agree.

use std::ffi::OsString;
use std::path::PathBuf;

/// The state directory, or `None` where the environment names no directory at all.
pub fn default_state_dir() -> Option<PathBuf> {
    Surroundings::of_this_process().state_dir()
}

/// The control socket, or `None` where the environment names no directory at all.
pub fn default_control_socket() -> Option<PathBuf> {
    Some(Surroundings::of_this_process().runtime_dir()?.join("control.sock"))
}

/// The credential that holds the embedded KMS's domain key, if the service manager provides one (systemd.exec(5)).
pub fn domain_key_credential() -> Option<PathBuf> {
    Surroundings::of_this_process()
        .path("CREDENTIALS_DIRECTORY")
        .map(|dir| dir.join(CREDENTIAL))
        .filter(|path| path.exists())
}

/// The name of that credential.
const CREDENTIAL: &str = "envol.domain-key";

/// What the defaults depend on.
struct Surroundings<'a> {
    root: bool,
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl Surroundings<'static> {
    fn of_this_process() -> Self {
        Self { root: nix::unistd::geteuid().is_root(), variable: &|name| std::env::var_os(name) }
    }
}

impl Surroundings<'_> {
    /// An absolute path from the environment; of a list, as systemd gives it, the first.
    fn path(&self, name: &str) -> Option<PathBuf> {
        let value = (self.variable)(name)?.into_string().ok()?;
        let first = PathBuf::from(value.split(':').next()?);
        first.is_absolute().then_some(first)
    }

    fn state_dir(&self) -> Option<PathBuf> {
        if let Some(dir) = self.path("STATE_DIRECTORY") {
            return Some(dir);
        }
        if self.root {
            return Some(PathBuf::from("/var/lib/envol"));
        }
        let base = self.path("XDG_STATE_HOME").or_else(|| Some(self.path("HOME")?.join(".local/state")))?;
        Some(base.join("envol"))
    }

    fn runtime_dir(&self) -> Option<PathBuf> {
        if let Some(dir) = self.path("RUNTIME_DIRECTORY") {
            return Some(dir);
        }
        if self.root {
            return Some(PathBuf::from("/run/envol"));
        }
        let own = self.path("XDG_RUNTIME_DIR").map(|dir| dir.join("envol"));
        own.or_else(|| Some(self.state_dir()?.join("run")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(root: bool, variables: &[(&str, &str)]) -> (Option<PathBuf>, Option<PathBuf>) {
        let variable = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        let surroundings = Surroundings { root, variable: &variable };
        (surroundings.state_dir(), surroundings.runtime_dir())
    }

    fn both(state: &str, runtime: &str) -> (Option<PathBuf>, Option<PathBuf>) {
        (Some(state.into()), Some(runtime.into()))
    }

    #[test]
    fn defaults_follow_systemd_then_root_then_xdg() {
        let systemd = [("STATE_DIRECTORY", "/var/lib/one:/var/lib/two"), ("RUNTIME_DIRECTORY", "/run/one")];
        assert_eq!(places(true, &systemd), both("/var/lib/one", "/run/one"));
        assert_eq!(places(true, &[]), both("/var/lib/envol", "/run/envol"));
        let xdg = [("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/r"), ("HOME", "/home/u")];
        assert_eq!(places(false, &xdg), both("/s/envol", "/r/envol"));
    }

    #[test]
    fn sockets_never_default_to_a_shared_directory() {
        let home = [("HOME", "/home/u")];
        assert_eq!(places(false, &home), both("/home/u/.local/state/envol", "/home/u/.local/state/envol/run"));
        assert_eq!(places(false, &[]), (None, None));
        assert_eq!(places(false, &[("HOME", "relative")]), (None, None), "a relative path is no place");
    }
}
