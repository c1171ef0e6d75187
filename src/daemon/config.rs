//! The configuration: a TOML file, under what the command line and the environment say. All of it is judged before
//! anything is opened, and an error names its line.
//!
//! ```toml
//! state_dir = "/var/lib/envol"
//! socket = "/run/envol/control.sock"     # nbd.sock lies beside it
//! group = "envol"                        # its members may use both sockets, as root and the daemon's user may
//! volume_dirs = ["/srv/volumes"]         # where backings may lie, beside <state_dir>/volumes; a device is named itself
//! account = "000000000000"               # in ARNs
//! region = "us-east-1"                   # in ARNs
//! log_format = "human"                   # or "json"
//! hardening = "prefer"                   # or require, off: confinement by landlock and seccomp
//! key_memory = "auto"                    # or memfd_secret, mlock, insecure_unlocked: what keys lie in
//!
//! [nbd]
//! listen = ["127.0.0.1:10809"]           # loopback only; every local user can then use every attached volume
//! insecure_listen = []                   # anywhere, in clear
//! in_flight = "256M"                     # memory for requests in flight, of all connections together; 64M at the least
//!
//! [data_path]
//! cipher = "auto"                        # or vaes-512, vaes-256, aes-ni, portable; ENVOL_CIPHER comes before it
//! io = "auto"                            # or io_uring, threads: how READs wait for a disk; ENVOL_IO comes before it
//!
//! [timings]
//! dead_connection_window_s = 60          # how long after a restart a refused volume just closes connections
//! detach_grace_ms = 500                  # how long detach waits for a client that has just closed
//! drain_deadline_s = 30                  # how long detach waits for requests in flight
//! attach_deadline_s = 30                 # how long an attach may take, the KMS's answer included
//!
//! [kms.embedded]                         # the name that volumes remember
//! kind = "embedded"
//! passphrase_file = "/run/keys/envol"    # the domain key follows from the passphrase in it (mode 0600)
//! listen = ["127.0.0.1:4599"]            # AWS's protocol, in clear: loopback, or the path of a unix socket
//! insecure_listen = []                   # anywhere, in clear
//! tls_listen = ["0.0.0.0:4600"]          # anywhere, behind TLS
//! tls_certificate = "/etc/envol/kms.pem" # the chain, as PEM
//! tls_key = "/etc/envol/kms.key"         # mode 0600
//! delay_ms = 0                           # to rehearse a slow KMS: every request waits so long,
//! throttle_every = 3                     # one that throttles: every third request is refused,
//! consistency_delay_ms = 0               # and AWS's eventual consistency: what changed is seen so much later
//!
//! [kms.frankfurt]                        # another KMS: AWS's, or whatever speaks its protocol
//! kind = "aws"
//! region = "eu-central-1"
//! endpoint = "https://kms.example.com"   # AWS's own unless given
//! ca_file = "/etc/envol/kms-ca.pem"      # trusted instead of the system's certificates
//! credentials_file = "/etc/envol/aws"    # mode 0600, as ~/.aws/credentials; the machine's role unless given
//! profile = "default"                    # which profile of that file
//! role = "arn:aws:iam::111122223333:role/envol"   # assumed with these credentials
//! ```

mod kms;

use std::collections::{BTreeMap, HashSet};
use std::hash::Hash;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use self::kms::{Kmses, WrittenKms};
pub(super) use self::kms::{OWNED, Served};
use super::{LogFormat, Options};
use crate::block::engine::Choice;
use crate::crypto::xts::{Engine, EngineRefused, VARIABLE};
use crate::kms::aws;
use crate::kms::wire::{Address, BadAddress};
use crate::sys::hardening::Hardening;
use crate::sys::locked::KeyMemoryChoice;
use crate::units::ByteCount;
use crate::{limits, places};

/// Everything the daemon is told, complete and consistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Config {
    pub(super) state_dir: PathBuf,
    pub(super) socket: PathBuf,
    /// The group whose members may use the sockets.
    pub(super) group: Option<u32>,
    pub(super) volume_dirs: Vec<PathBuf>,
    pub(super) account: String,
    pub(super) region: String,
    pub(super) log_format: LogFormat,
    /// Whether the daemon is confined.
    pub(super) hardening: Hardening,
    /// What keys lie in.
    pub(super) key_memory: KeyMemoryChoice,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) insecure_listen: Vec<SocketAddr>,
    /// Memory for NBD requests in flight.
    pub(super) in_flight: ByteCount,
    /// How the KMS is served in AWS's protocol, and where.
    pub(super) served: Served,
    /// Whether there are no volumes.
    pub(super) kms_alone: bool,
    /// What computes the cipher, where the environment names nothing.
    pub(super) cipher: Engine,
    pub(super) timings: Timings,
    /// What carries out reads that wait for a disk, unless the environment says something else.
    pub(super) io: Choice,
    /// The name of the embedded KMS's section.
    pub(super) kms: String,
    /// The KMSs of the `aws` kind, by the names of their sections.
    pub(super) aws: BTreeMap<String, aws::Settings>,
    /// Where the passphrase is that the domain key follows from, if it does.
    pub(super) passphrase_file: Option<PathBuf>,
}

/// How long things may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Timings {
    pub(super) dead_connection_window: Duration,
    pub(super) detach_grace: Duration,
    pub(super) drain_deadline: Duration,
    pub(super) attach_deadline: Duration,
}

/// What is wrong with options or configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in the file.
    #[error("the configuration {path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// Where in it, from 1.
        line: usize,
        /// What is wrong there.
        reason: String,
    },
    /// An option.
    #[error("the option {option}: {reason}")]
    Option {
        /// Which.
        option: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Neither options nor the environment say where things lie.
    #[error("there is no place for the {0}: name it, or set HOME")]
    NoPlace(&'static str),
}

/// The file as written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    state_dir: Option<Spanned<PathBuf>>,
    socket: Option<Spanned<PathBuf>>,
    group: Option<Spanned<String>>,
    volume_dirs: Vec<Spanned<PathBuf>>,
    account: Option<Spanned<String>>,
    region: Option<Spanned<String>>,
    log_format: Option<LogFormat>,
    hardening: Hardening,
    key_memory: KeyMemoryChoice,
    nbd: WrittenNbd,
    data_path: WrittenDataPath,
    timings: WrittenTimings,
    kms: BTreeMap<Spanned<String>, WrittenKms>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenNbd {
    listen: Vec<Spanned<SocketAddr>>,
    insecure_listen: Vec<Spanned<SocketAddr>>,
    in_flight: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenDataPath {
    io: Choice,
    cipher: Option<Spanned<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct WrittenTimings {
    dead_connection_window_s: Option<u32>,
    detach_grace_ms: Option<u32>,
    drain_deadline_s: Option<u32>,
    attach_deadline_s: Option<NonZeroU32>,
}

/// What is wrong, and where in the file.
struct Fault {
    span: Range<usize>,
    reason: String,
}

impl Fault {
    fn at<T>(place: &Spanned<T>, reason: impl Into<String>) -> Self {
        Self { span: place.span(), reason: reason.into() }
    }
}

impl ConfigError {
    /// The line of the file that is wrong, from 1.
    pub(super) fn line(&self) -> Option<usize> {
        match self {
            Self::Line { line, .. } => Some(*line),
            _ => None,
        }
    }
}

impl Config {
    /// What `options` and the file they name say.
    pub(super) fn load(options: Options) -> Result<Self, ConfigError> {
        let Some(path) = &options.config else {
            return Self::of("", Path::new(""), options);
        };
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
        let path = path.clone();
        Self::of(&text, &path, options)
    }

    /// What `options` and this text say.
    pub(super) fn read(text: &str, options: Options) -> Result<Self, ConfigError> {
        Self::of(text, Path::new(""), options)
    }

    /// Settles what computes the cipher in this process: the environment's word, else the configuration's.
    pub(super) fn settle_cipher(&self) -> Result<Engine, ConfigError> {
        let refused = |refused: EngineRefused| ConfigError::Option { option: VARIABLE, reason: refused.to_string() };
        Engine::choose(self.cipher).map_err(refused)
    }

    pub(super) fn of(text: &str, path: &Path, options: Options) -> Result<Self, ConfigError> {
        let in_file = |Fault { span, reason }| {
            let before = &text.as_bytes()[..span.start.min(text.len())];
            let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
            ConfigError::Line { path: path.to_owned(), line, reason }
        };
        let written: Written = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            in_file(Fault { span, reason: error.message().replace('\n', ", ") })
        })?;
        let config = written.judge().map_err(in_file)?;
        config.under(options)
    }

    /// This, where the options say nothing else.
    fn under(mut self, options: Options) -> Result<Self, ConfigError> {
        if let Some(dir) = options.state_dir {
            self.state_dir = absolute("--state-dir", &dir)?;
        }
        if let Some(socket) = options.socket {
            self.socket = absolute("--socket", &socket)?;
        }
        if self.state_dir.as_os_str().is_empty() {
            self.state_dir = places::default_state_dir().ok_or(ConfigError::NoPlace("state directory"))?;
        }
        if self.socket.as_os_str().is_empty() {
            self.socket = places::default_control_socket().ok_or(ConfigError::NoPlace("control socket"))?;
        }
        self.listen.extend(&options.listen);
        self.insecure_listen.extend(&options.insecure_listen);
        self.kms_alone = options.kms_alone;
        if let Some(file) = options.passphrase_file {
            self.passphrase_file = Some(absolute("--passphrase-file", &file)?);
        }
        let (listen, insecure) = match options.kms_alone {
            true => ("--listen", "--insecure-listen"),
            false => ("--kms-listen", "--kms-insecure-listen"),
        };
        self.served.listen.extend(addresses(listen, &options.kms_listen, false)?);
        self.served.listen.extend(addresses(insecure, &options.kms_insecure_listen, true)?);
        if options.kms_alone && self.served.listen.is_empty() && self.served.tls_listen.is_empty() {
            self.served.listen = addresses(listen, &[KMS_ADDRESS.to_owned()], false)?;
        }
        self.log_format = options.log_format.unwrap_or(self.log_format);
        self.check_addresses()?;
        Ok(self)
    }

    fn check_addresses(&self) -> Result<(), ConfigError> {
        let wrong = |option, reason| Err(ConfigError::Option { option, reason });
        if let Some(address) = self.listen.iter().find(|address| !address.ip().is_loopback()) {
            return wrong("--listen", format!("{address} {NOT_LOOPBACK}"));
        }
        match twice(self.listen.iter().chain(&self.insecure_listen).filter(|address| address.port() != 0)) {
            Some(address) => wrong("--listen", format!("{address} {TWICE}")),
            None => Ok(()),
        }
    }
}

/// Where a KMS alone is served, unless something else is said.
const KMS_ADDRESS: &str = "127.0.0.1:4599";
const NOT_LOOPBACK: &str = "is not a loopback address, and NBD is not encrypted: see insecure_listen";
const TWICE: &str = "is named twice";

impl Written {
    fn judge(self) -> Result<Config, Fault> {
        let in_flight = self.nbd.in_flight()?;
        let (listen, insecure_listen) = self.nbd.judge()?;
        let Kmses { embedded: kms, passphrase_file, served, aws } = kms::judge(self.kms)?;
        Ok(Config {
            state_dir: self.state_dir.map(absolute_path).transpose()?.unwrap_or_default(),
            socket: self.socket.map(absolute_path).transpose()?.unwrap_or_default(),
            group: self.group.as_ref().map(group_id).transpose()?,
            volume_dirs: volume_dirs(self.volume_dirs)?,
            account: self.account.map_or(Ok("000000000000".to_owned()), account)?,
            region: self.region.map_or(Ok("us-east-1".to_owned()), region)?,
            log_format: self.log_format.unwrap_or_default(),
            hardening: self.hardening,
            key_memory: self.key_memory,
            listen,
            insecure_listen,
            in_flight,
            served,
            kms_alone: false,
            cipher: self.data_path.cipher.map_or(Ok(Engine::fastest()), cipher)?,
            timings: self.timings.judge(),
            io: self.data_path.io,
            kms,
            aws,
            passphrase_file,
        })
    }
}

impl WrittenNbd {
    /// The memory for requests in flight.
    fn in_flight(&self) -> Result<ByteCount, Fault> {
        let Some(written) = &self.in_flight else { return Ok(ByteCount::new(limits::IN_FLIGHT_BYTES)) };
        let least = ByteCount::new(limits::IN_FLIGHT_BYTES_LEAST);
        match written.get_ref().parse::<ByteCount>() {
            Ok(size) if size >= least => Ok(size),
            Ok(_) => Err(Fault::at(written, format!("the largest requests need {least} at the least"))),
            Err(error) => Err(Fault::at(written, error.to_string())),
        }
    }

    /// The addresses on loopback, and the others.
    fn judge(self) -> Result<(Vec<SocketAddr>, Vec<SocketAddr>), Fault> {
        if let Some(address) = self.listen.iter().find(|address| !address.get_ref().ip().is_loopback()) {
            return Err(Fault::at(address, format!("{} {NOT_LOOPBACK}", address.get_ref())));
        }
        let fixed = |address: &&Spanned<SocketAddr>| address.get_ref().port() != 0;
        if let Some(address) = twice(self.listen.iter().chain(&self.insecure_listen).filter(fixed)) {
            return Err(Fault::at(address, format!("{} {TWICE}", address.get_ref())));
        }
        let plain = |addresses: Vec<Spanned<_>>| addresses.into_iter().map(Spanned::into_inner).collect();
        Ok((plain(self.listen), plain(self.insecure_listen)))
    }
}

impl WrittenTimings {
    fn judge(self) -> Timings {
        let seconds = |written: Option<u32>, default| written.map_or(default, |s| Duration::from_secs(s.into()));
        let grace = self.detach_grace_ms.map(|ms| Duration::from_millis(ms.into()));
        Timings {
            dead_connection_window: seconds(self.dead_connection_window_s, limits::DEAD_CONNECTION_WINDOW),
            detach_grace: grace.unwrap_or(limits::DETACH_GRACE),
            drain_deadline: seconds(self.drain_deadline_s, limits::DRAIN_DEADLINE),
            attach_deadline: seconds(self.attach_deadline_s.map(NonZeroU32::get), limits::ATTACH_DEADLINE),
        }
    }
}

/// The second of two that are the same.
fn twice<T: Eq + Hash + Copy>(mut things: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = HashSet::new();
    things.find(|thing| !seen.insert(*thing))
}

fn addresses(option: &'static str, words: &[String], insecure: bool) -> Result<Vec<(Address, bool)>, ConfigError> {
    let judge = |word: &String| {
        let address = word.parse().map_err(|bad: BadAddress| format!("{word} {bad}"));
        address.map(|address| (address, insecure)).map_err(|reason| ConfigError::Option { option, reason })
    };
    words.iter().map(judge).collect()
}

fn absolute(option: &'static str, path: &Path) -> Result<PathBuf, ConfigError> {
    std::path::absolute(path).map_err(|error| ConfigError::Option { option, reason: error.to_string() })
}

/// A file is read by a daemon whose working directory nobody knows.
fn absolute_path(path: Spanned<PathBuf>) -> Result<PathBuf, Fault> {
    if path.get_ref().is_absolute() {
        return Ok(path.into_inner());
    }
    Err(Fault::at(&path, format!("{} is not an absolute path", path.get_ref().display())))
}

fn volume_dirs(dirs: Vec<Spanned<PathBuf>>) -> Result<Vec<PathBuf>, Fault> {
    if let Some(dir) = twice(dirs.iter()) {
        return Err(Fault::at(dir, format!("{} {TWICE}", dir.get_ref().display())));
    }
    dirs.into_iter().map(absolute_path).collect()
}

fn cipher(name: Spanned<String>) -> Result<Engine, Fault> {
    name.get_ref().parse().map_err(|refused: EngineRefused| Fault::at(&name, refused.to_string()))
}

fn group_id(name: &Spanned<String>) -> Result<u32, Fault> {
    match nix::unistd::Group::from_name(name.get_ref()) {
        Ok(Some(group)) => Ok(group.gid.as_raw()),
        Ok(None) => Err(Fault::at(name, format!("there is no group {:?}", name.get_ref()))),
        Err(error) => Err(Fault::at(name, format!("the group {:?} cannot be looked up: {error}", name.get_ref()))),
    }
}

fn account(account: Spanned<String>) -> Result<String, Fault> {
    let digits = account.get_ref();
    if digits.len() == 12 && digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Ok(account.into_inner());
    }
    Err(Fault::at(&account, "an account is 12 digits"))
}

fn region(region: Spanned<String>) -> Result<String, Fault> {
    let name = region.get_ref();
    let letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if (1..=32).contains(&name.len()) && name.bytes().all(letter) {
        return Ok(region.into_inner());
    }
    Err(Fault::at(&region, "a region is 1 to 32 of a-z 0-9 -"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Config, ConfigError> {
        let options = Options {
            state_dir: Some("/state".into()),
            socket: Some("/run/control.sock".into()),
            ..Options::default()
        };
        Config::of(text, Path::new("envol.toml"), options)
    }

    #[test]
    fn a_mistake_is_an_error_that_names_its_line() {
        for (text, line) in [
            ("accont = \"000000000000\"", 1),
            ("\n\naccount = \"1\"", 3),
            ("region = \"us-east-1\"\nregion = \"us-east-2\"", 2),
            ("region = \"US East\"", 1),
            ("\n[nbd]\nlisten = [\"127.0.0.1:1\",\n\"10.0.0.1:2\"]", 4),
            ("[nbd]\nlisten = [\"127.0.0.1:1\"]\ninsecure_listen = [\"127.0.0.1:1\"]", 3),
            ("[nbd]\nlisten = \"127.0.0.1:1\"", 2),
            ("[nbd]\nport = 1", 2),
            ("[nbd]\nin_flight = \"63M\"", 2),
            ("[nbd]\nin_flight = \"much\"", 2),
            ("[nbd]\nin_flight = 1", 2),
            ("volume_dirs = [\"/a\", \"/b\",\n\"/a\"]", 2),
            ("volume_dirs = [\"a\"]", 1),
            ("state_dir = \"state\"", 1),
            ("group = \"no such group\"", 1),
            ("log_format = \"xml\"", 1),
            ("\nkey_memory = \"unlocked\"", 2),
            ("hardening = \"yes\"", 1),
            ("[data_path]\ncipher = \"rot13\"", 2),
            ("[data_path]\ncipher = \"\"", 2),
            ("[data_path]\nengine = \"auto\"", 2),
            ("[timings]\n\nattach_deadline_s = 0", 3),
            ("[timings]\ndrain_deadline_s = -1", 2),
            ("[timings]\ndrain_deadline_s = \"1\"", 2),
            ("[kms.a]\nkind = \"embedded\"\n[kms.b]\nkind = \"embedded\"", 3),
            ("[kms.a]\nkind = \"embedded\"\npath = \"/x\"", 3),
            ("[kms.a]\nkind = \"embedded\"\nregion = \"us-east-1\"", 3),
            ("[kms.a]\nkind = \"aws\"", 1),
            ("[kms.a]\nkind = \"embedded\"\nlisten = [\"10.0.0.1:1\"]", 3),
            ("[kms.a]\nkind = \"embedded\"\nlisten = [\"kms.sock\"]", 3),
            ("[kms.a]\nkind = \"embedded\"\ntls_listen = [\"0.0.0.0:1\"]", 3),
            ("[kms.a]\nkind = \"embedded\"\nthrottle_every = 0", 3),
            ("[kms.\"a b\"]\nkind = \"aws\"\nregion = \"r\"", 1),
            ("[kms.embedded]\nkind = \"aws\"\nregion = \"r\"", 1),
            ("[kms.aws-owned]\nkind = \"aws\"\nregion = \"r\"", 1),
            ("[data_path]\nio = \"uring\"", 2),
            ("[kms.a]\n", 1),
            ("[kms.a]\nkind = \"cloud\"", 2),
            ("= 1", 1),
        ] {
            is_refused(text, line);
        }
    }

    fn is_refused(text: &str, line: usize) {
        match read(text) {
            Err(ConfigError::Line { line: at, .. }) => assert_eq!(at, line, "{text:?}"),
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    #[test]
    #[cfg(feature = "aws")]
    fn a_mistake_in_the_section_of_another_kms_is_an_error_that_names_its_line() {
        for (text, line) in [
            ("[kms.a]\nkind = \"aws\"\nregion = \"r\"\nlisten = [\"127.0.0.1:1\"]", 4),
            ("[kms.a]\nkind = \"aws\"\nregion = \"US East\"", 3),
            ("[kms.a]\nkind = \"aws\"\nregion = \"r\"\npassphrase_file = \"/x\"", 4),
            ("[kms.a]\nkind = \"aws\"\nregion = \"r\"\nendpoint = \"http://kms.example.com\"", 4),
            ("[kms.a]\nkind = \"aws\"\nregion = \"r\"\nca_file = \"ca.pem\"", 4),
        ] {
            is_refused(text, line);
        }
    }

    #[test]
    fn the_documented_example_and_the_shipped_one_are_read() {
        let documented: String = include_str!("config.rs")
            .lines()
            .skip_while(|line| *line != "//! ```toml")
            .skip(1)
            .take_while(|line| *line != "//! ```")
            .map(|line| line.trim_start_matches("//!").to_owned() + "\n")
            .collect();
        let documented = documented.replace("\"envol\"  ", "\"root\"  ");
        assert!(documented.contains("[timings]"));
        match read(&documented) {
            Ok(config) => assert_eq!(config.volume_dirs, [PathBuf::from("/srv/volumes")]),
            Err(error) => assert!(!cfg!(feature = "aws") && error.to_string().contains("cargo feature"), "{error}"),
        }
        assert_eq!(
            read(include_str!("../../systemd/envol.toml")).expect("the example is right"),
            read("").expect("empty")
        );
    }

    #[test]
    fn options_come_before_the_file() {
        let config = read("state_dir = \"/elsewhere\"\nlog_format = \"json\"").expect("is right");
        assert_eq!(config.state_dir, PathBuf::from("/state"));
        assert_eq!(config.log_format, LogFormat::Json);
    }

    #[test]
    fn the_cipher_is_the_fastest_unless_one_is_named() {
        assert_eq!(read("").expect("is right").cipher, Engine::fastest());
        for engine in Engine::available() {
            let config = read(&format!("[data_path]\ncipher = \"{engine}\"")).expect("is right");
            assert_eq!(config.cipher, engine);
        }
    }

    #[test]
    fn tcp_off_this_host_needs_the_word_for_it() {
        let listen = |listen: &str, insecure: &str| {
            let addresses = |text: &str| text.parse().into_iter().collect();
            let options = Options {
                state_dir: Some("/state".into()),
                socket: Some("/run/control.sock".into()),
                listen: addresses(listen),
                insecure_listen: addresses(insecure),
                ..Options::default()
            };
            Config::of("", Path::new(""), options)
        };
        assert!(listen("127.0.0.1:10809", "0.0.0.0:10809").is_ok());
        assert!(listen("[::1]:10809", "").is_ok());
        assert!(matches!(listen("0.0.0.0:10809", ""), Err(ConfigError::Option { option: "--listen", .. })));
        assert!(matches!(listen("127.0.0.1:1", "127.0.0.1:1"), Err(ConfigError::Option { .. })));
    }
}
