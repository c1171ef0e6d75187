//! The processes beside the front, all of this same program, told apart by the name they are started under.
//!
//! ```text
//! front (daemon, kms serve)      keys of volumes; never the domain key, never root material
//!   envol-hsm-parent             no key at all; started before there is a key or a thread, starts the others
//!     envol-hsm                  the HSM: domain key (or passphrase) on standard input, the streams to the front on standard output
//!     envol-domain-key           writes a new domain key into the file on standard output, and ends
//! ```
//! Each starts with memory of its own (exec), an empty environment and no descriptor but these and standard error. The HSM
//! is confined beside, as the configuration asks: no file is in its reach, no program runs in it.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;

use crate::kms::embedded::domain_key;
use crate::kms::embedded::passphrase::PassphraseError;
use crate::kms::frame;
use crate::limits;
use crate::sync::Arc;
use crate::sys::confinement::{self, Reachable};
use crate::sys::hardening::{self, Hardening};
use crate::sys::heap;
use crate::sys::locked::{self, KeyMemoryChoice, LockingFailed};
use crate::sys::seclusion;

use super::protocol::{Failure, Reply};
use super::server::{Hsm, serve, serve_beside};
use super::source::{self, NoKey};
use super::{spawner, streams};

/// The name of the HSM's parent.
pub(super) const PARENT: &str = "envol-hsm-parent";
/// The name of the HSM.
pub(super) const HSM: &str = "envol-hsm";
/// The name of what makes a domain key.
pub(super) const MAKER: &str = "envol-domain-key";
/// This program, whatever lies under its name by now.
pub(super) const PROGRAM: &str = "/proc/self/exe";

/// Does the work of the process that this one was started as, if its name is one of theirs.
pub fn run_as_named() -> Option<ExitCode> {
    let mut words = env::args_os();
    let outcome = match words.next()?.to_str()? {
        PARENT => spawner::run(words),
        HSM => run_hsm(words),
        MAKER => make_domain_key(words),
        _ => return None,
    };
    Some(match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Where nobody reads standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "envol: the HSM part failed: {error}");
            ExitCode::FAILURE
        }
    })
}

fn make_domain_key(mut words: impl Iterator<Item = OsString>) -> io::Result<()> {
    hardening::seal_process()?;
    reserve_memory(words.next())?;
    domain_key::fill(&mut File::from(seclusion::socket_of_stdout()?))
}

/// The HSM: it reads the domain key, gives up every way to open anything, and serves until the front is gone.
fn run_hsm(mut words: impl Iterator<Item = OsString>) -> io::Result<()> {
    hardening::seal_process()?;
    heap::wipe_what_is_given_back();
    let mut stream = UnixStream::from(seclusion::socket_of_stdout()?);
    let beside = streams::beside(&stream)?;
    let given = File::from(seclusion::take_stdin()?);
    let memory = reserve_memory(words.next());
    let hardening = words.next();
    let key = memory.and_then(|()| source::domain_key(given, words).map_err(io::Error::other));
    let hsm = key.and_then(|key| Hsm::new(key).map(Arc::new).map_err(io::Error::other));
    // A thread is confined by what confined the one that starts it, so that this comes first.
    let confined = confine(hardening.as_deref());
    let hsm = confined.and(hsm).and_then(|hsm| serve_beside(beside, &hsm).map(|()| hsm));
    // Where the limit does not allow it, keys are out of swap all the same: they lie in memory of their own.
    let _ = seclusion::lock_all_memory();
    seclusion::refuse_descriptors()?;
    match hsm {
        Ok(hsm) => serve(&mut stream, &hsm).map_err(io::Error::other),
        Err(error) => {
            refuse_first(&mut stream, failure(&error))?;
            Err(error)
        }
    }
}

/// The kernel does not confine this process as it must be.
#[derive(Debug, thiserror::Error)]
#[error("it cannot be confined: {0}")]
struct NotConfined(String);

/// Confines this process as `word` says.
fn confine(word: Option<&OsStr>) -> io::Result<()> {
    let asked = word.and_then(OsStr::to_str).and_then(Hardening::named).ok_or(io::ErrorKind::InvalidInput)?;
    confinement::confine(asked, &Reachable::default()).map_err(|why| io::Error::other(NotConfined(why)))
}

/// What the front is told of `error`.
fn failure(error: &io::Error) -> Failure {
    let Some(cause) = error.get_ref() else { return Failure::DomainKey };
    match cause.downcast_ref() {
        Some(NoKey::Passphrase(PassphraseError::NoLockedMemory(_))) => Failure::Memory,
        Some(NoKey::Passphrase(PassphraseError::Unfit | PassphraseError::Wrong)) => Failure::Passphrase,
        Some(NoKey::File(error) | NoKey::Passphrase(PassphraseError::Unread(error))) => failure(error),
        None if cause.is::<LockingFailed>() => Failure::Memory,
        None if cause.is::<NotConfined>() => Failure::Confinement,
        None => Failure::DomainKey,
    }
}

/// Has all the memory for keys that requests will need, of the kind that `word` asks for: the best kind takes a descriptor,
/// of which there will be none. What was taken first, the arena keeps.
fn reserve_memory(word: Option<OsString>) -> io::Result<()> {
    let choice = word.as_deref().and_then(OsStr::to_str).and_then(KeyMemoryChoice::named);
    locked::choose_for(limits::HSM_KEY_MEMORY_BYTES, choice.ok_or(io::ErrorKind::InvalidInput)?)
        .map(drop)
        .map_err(io::Error::other)
}

/// Tells the front, which has asked something by now, that there will be no HSM.
fn refuse_first(stream: &mut UnixStream, failure: Failure) -> io::Result<()> {
    if frame::read(stream)?.is_some() {
        let reply = Reply::Failed(failure).encode().map_err(io::Error::other)?;
        frame::write(stream, reply.bytes())?;
    }
    Ok(())
}
