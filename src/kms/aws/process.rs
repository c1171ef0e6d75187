//! The processes that call the KMS, and their parent: this same program, told apart by the name it is started under.
//!
//! The parent starts a process for each call that it is asked for, with the stream to the daemon on standard output, and
//! hands it the settings of the KMS that it was asked for by name. It waits for none: a process that has given its answer
//! ends, one whose stream closes ends at once, and one that does neither is killed. When the daemon is gone, so is all of
//! this.
//!
//! A process that calls reads what it needs of credentials and certificates, and is then confined, as the configuration
//! asks: it may read what names and certificates are looked up in, connect to the ports of the KMS, and run nothing. It
//! leaves no core, cannot be looked into, and is out of swap where the limit on locked memory allows it.

use std::collections::BTreeMap;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use super::exchange::{self, Asked, Reply};
use super::settings::Settings;
use crate::kms::{DataKey, KmsError, frame};
use crate::limits;
use crate::sys::channel::Channel;
use crate::sys::hardening::{self, Hardening};
use crate::sys::locked::{self, KeyMemoryChoice};
use crate::sys::seclusion;

/// The name of the parent.
pub(super) const PARENT: &str = "envol-kms-parent";
/// The name of a process that calls.
const CALLER: &str = "envol-kms-call";
/// This program, whatever lies under its name by now.
pub(super) const PROGRAM: &str = "/proc/self/exe";

/// What the first byte of a message to the parent says: a process that calls is asked for. The rest is the name of the KMS's
/// section; the stream to the process comes along.
const CALL: u8 = 1;

/// Bytes of a message to the parent at the most: names are far shorter.
const CALL_MAX: usize = 256;

/// How often the parent looks whether processes have ended, while there are any.
const LOOKING: Duration = Duration::from_secs(1);

/// Where names and certificates are looked up: the C library's files and plugins, and the system's certificates.
#[cfg(feature = "aws")]
const LOOKED_UP: [&str; 13] = [
    "/etc/resolv.conf",
    "/etc/hosts",
    "/etc/nsswitch.conf",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/ld.so.cache",
    "/etc/ssl",
    "/etc/pki",
    "/etc/ca-certificates",
    "/usr/share/ca-certificates",
    "/usr/lib",
    "/lib",
    "/lib64",
];

/// What a call came to: what is told of it, and the data key where there is one.
pub(super) type Outcome = Result<(Reply, Option<DataKey>), KmsError>;

/// Does the work of the process that this one was started as, if its name is one of theirs.
pub fn run_as_named() -> Option<ExitCode> {
    let mut words = env::args_os();
    let outcome = match words.next()?.to_str()? {
        PARENT => run_parent(words),
        CALLER => run_call(words),
        _ => return None,
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "envol: a call to the KMS failed: {error}");
            ExitCode::FAILURE
        }
    })
}

fn run_parent(mut words: impl Iterator<Item = OsString>) -> io::Result<()> {
    hardening::seal_process()?;
    seclusion::keep_descriptors_to_ourselves()?;
    let manner = [words.next().unwrap_or_default(), words.next().unwrap_or_default()];
    let sections: BTreeMap<String, Settings> = serde_json::from_reader(io::stdin().lock())?;
    let channel = Channel::from(seclusion::socket_of_stdout()?);
    let mut calls = Calls(Vec::new());
    loop {
        // Without a deadline while there is nothing to look after: an idle parent does not wake up.
        channel.bound_waiting(if calls.0.is_empty() { Duration::ZERO } else { LOOKING })?;
        let mut message = [0; CALL_MAX];
        match channel.receive(&mut message) {
            Ok((0, _)) => return Ok(()),
            // Where no process is started the stream is closed, which tells the daemon.
            Ok((length, stream)) => match section_of(&message[..length], &sections).zip(stream) {
                Some((settings, stream)) => note(calls.start(&manner, settings, stream)),
                None => note(Err(io::Error::other("what was asked for is no call of a KMS that is configured"))),
            },
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        calls.look_after();
    }
}

/// The message that asks for a call of the KMS of `section`.
pub(super) fn call_of(section: &str) -> Vec<u8> {
    [&[CALL], section.as_bytes()].concat()
}

/// The settings of the section that `message` asks for a call of.
fn section_of<'s>(message: &[u8], sections: &'s BTreeMap<String, Settings>) -> Option<&'s Settings> {
    let (&first, name) = message.split_first()?;
    let name = std::str::from_utf8(name).ok().filter(|_| first == CALL)?;
    sections.get(name)
}

/// What the parent has to say is said, and it goes on.
fn note(outcome: io::Result<()>) {
    if let Err(error) = outcome {
        let _ = writeln!(io::stderr(), "envol: no process to call the KMS from: {error}");
    }
}

/// The processes that call, each with the moment at which it has had its time.
struct Calls(Vec<(Child, Instant)>);

impl Calls {
    fn start(&mut self, manner: &[OsString], settings: &Settings, stream: OwnedFd) -> io::Result<()> {
        let settings = serde_json::to_vec(settings)?;
        let mut command = Command::new(PROGRAM);
        let mut child = command.arg0(CALLER).args(manner).env_clear().stdin(Stdio::piped()).stdout(stream).spawn()?;
        let told = child.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(&settings));
        self.0.push((child, Instant::now() + 2 * limits::KMS_CALL_DEADLINE));
        told
    }

    /// Forgets those that have ended, and ends those that have had their time.
    fn look_after(&mut self) {
        self.0.retain_mut(|(child, until)| {
            if Instant::now() >= *until {
                let _ = child.kill();
            }
            matches!(child.try_wait(), Ok(None))
        });
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        for (child, _) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One call: the settings from standard input, the rest from the first message of the stream to the answer.
fn run_call(mut words: impl Iterator<Item = OsString>) -> io::Result<()> {
    hardening::seal_process()?;
    seclusion::bound_memory(limits::KMS_CALL_MEMORY)?;
    let mut stream = UnixStream::from(seclusion::socket_of_stdout()?);
    let settings: Settings = serde_json::from_reader(io::stdin().lock())?;
    let memory = words.next().as_deref().and_then(OsStr::to_str).and_then(KeyMemoryChoice::named);
    let hardening = words.next().as_deref().and_then(OsStr::to_str).and_then(Hardening::named);
    let (memory, hardening) = memory.zip(hardening).ok_or(ErrorKind::InvalidInput)?;
    // Where it cannot be had, the answer has no place, and that is what is told.
    let reserved = locked::choose_for(limits::HSM_KEY_MEMORY_BYTES, memory);
    seclusion::lock_all_memory_where_there_is_room();
    let Some(message) = frame::read(&mut stream)? else { return Ok(()) };
    let (asked, secret) = exchange::decode::<Asked>(message.bytes())?;
    let outcome = reserved.map_err(KmsError::from).and_then(|_| call(&settings, (&asked, secret), hardening, &stream));
    let (reply, data_key) = outcome.unwrap_or_else(|error| (Reply::Failed(error.into()), None));
    let secret = data_key.as_ref().map_or([].as_slice(), |key| key.expose());
    frame::write(&mut stream, exchange::encode(&reply, secret)?.bytes())
}

#[cfg(feature = "aws")]
fn call(settings: &Settings, (asked, secret): (&Asked, &[u8]), hardening: Hardening, stream: &UnixStream) -> Outcome {
    use crate::sys::confinement::{self, Reachable};
    let prepared = super::sdk::Prepared::of(settings)?;
    let read = LOOKED_UP.iter().map(Into::into).collect();
    let reachable = Reachable { read, connected: settings.ports(), ..Reachable::default() };
    let confined = confinement::confine(hardening, &reachable);
    let refused = |why| format!("the process that calls it cannot be confined: {why}");
    confined.map_err(|why| KmsError::Misconfigured { text: refused(why), file: None })?;
    prepared.call(asked, secret, stream)
}

#[cfg(not(feature = "aws"))]
fn call(_: &Settings, _: (&Asked, &[u8]), _: Hardening, _: &UnixStream) -> Outcome {
    Err(KmsError::Misconfigured { text: "this envol was built without AWS's client".to_owned(), file: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_names_a_section_that_is_configured_and_can_say_no_more() {
        let of = |endpoint: &str| Settings { endpoint: Some(endpoint.into()), ..Settings::default() };
        let sections =
            BTreeMap::from([("far".to_owned(), of("https://far")), ("other".to_owned(), of("https://other"))]);
        assert_eq!(section_of(&call_of("far"), &sections), Some(&of("https://far")));
        assert_eq!(section_of(&call_of("other"), &sections), Some(&of("https://other")));
        let forged = serde_json::to_string(&of("https://elsewhere")).expect("words");
        for name in ["", "fa", "far ", "far\0", "nowhere", &forged, &format!("far{forged}")] {
            assert_eq!(section_of(&call_of(name), &sections), None, "{name}");
        }
        for message in [b"".as_slice(), b"far", b"\x02far", b"\x01\xff"] {
            assert_eq!(section_of(message, &sections), None, "{message:?}");
        }
        // Nor has what goes to the process itself a place for settings.
        let asked =
            format!("{{\"settings\": {forged}, \"asked\": {{\"Encrypt\": {{\"key\": \"k\", \"context\": {{}}}}}}}}");
        assert!(serde_json::from_str::<Asked>(&asked).is_err());
    }
}
