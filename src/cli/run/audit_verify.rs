//! `envol audit verify`: done here and without a daemon, which may be what is not trusted. `envol audit verify-key`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Nothing, Session};
use crate::chain::{self, VerifyKey};
use crate::cli::args::{AuditVerifyArgs, AuditVerifyKeyArgs, Global};
use crate::cli::error::CliError;
use crate::cli::render::{Console, audit_report};
use crate::cli::route::route;
use crate::control::api::{AuditVerifyKey, ForgetAuditVerifyKey};
use crate::places;

/// Bytes of a verify key's file, and room.
const KEY_FILE_MAX: u64 = 1 << 10;

/// How often, and for how long each time, the end of a line that is being written is waited for.
const WAITS: u32 = 20;
const WAIT: Duration = Duration::from_millis(50);

pub(super) fn verify(global: &Global, args: &AuditVerifyArgs) -> Result<(), CliError> {
    let path = args.log.clone().map_or_else(|| log(global), Ok)?;
    let key = args.key.as_deref().map(read_key).transpose()?;
    let failed = |source| CliError::File { path: path.clone(), source };
    let file = Patient { file: File::open(&path).map_err(failed)?, last: b'\n', waits: 0 };
    let report = chain::verify(BufReader::with_capacity(1 << 18, file), key, args.head).map_err(failed)?;
    Console::new(global.json).answer(&report, audit_report)?;
    match (report.finding, report.passed_over.into_iter().next()) {
        (Some(finding), _) => Err(CliError::BrokenLog(finding)),
        (None, Some(lines)) => Err(CliError::NoRecords(lines)),
        (None, None) => Ok(()),
    }
}

/// Writes the key first and has it forgotten then: a crash in between loses nothing.
pub(super) fn write_key(session: &Session, args: &AuditVerifyKeyArgs) -> Result<(), CliError> {
    let failed = |source| CliError::File { path: args.file.clone(), source };
    // Before it is asked for: a file that is there already is to cost nothing.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&args.file).map_err(failed)?;
    // It is ours, and the daemon still has the key; where the file stays, nothing is lost by it.
    let removed = || drop(fs::remove_file(&args.file));
    let route = route(&["audit", "verify-key"]);
    let AuditVerifyKey { key, fingerprint } = match session.client.send("POST", &route, &Nothing {}) {
        Ok(key) => key,
        Err(error) => {
            removed();
            return Err(error.into());
        }
    };
    let text = Zeroizing::new(format!("{}\n", *Zeroizing::new(key)));
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| sync_directory(&args.file)) {
        removed();
        return Err(failed(error));
    }
    let body = ForgetAuditVerifyKey { fingerprint: fingerprint.clone() };
    let unsure = |error| CliError::NotForgotten { path: args.file.clone(), source: Box::new(error) };
    let IgnoredAny = session.client.send("DELETE", &route, &body).map_err(unsure)?;
    let told = json!({ "file": args.file.display().to_string(), "fingerprint": fingerprint });
    let line = |_: &_| {
        format!("the verify key is in {}, and nowhere else; keep it away from this machine\n", args.file.display())
    };
    session.console.answer(&told, line)
}

fn log(global: &Global) -> Result<PathBuf, CliError> {
    let state_dir = global.state_dir.clone().or_else(places::default_state_dir).ok_or(CliError::NoLog)?;
    Ok(state_dir.join("kms/audit.ndjson"))
}

fn read_key(path: &Path) -> Result<VerifyKey, CliError> {
    let failed = |source| CliError::File { path: path.to_owned(), source };
    let mut text = Zeroizing::new(String::new());
    let read = File::open(path).and_then(|file| file.take(KEY_FILE_MAX).read_to_string(&mut text));
    match read {
        Err(error) if error.kind() != io::ErrorKind::InvalidData => return Err(failed(error)),
        _ => {}
    }
    text.parse().map_err(|_| CliError::NotAVerifyKey(path.to_owned()))
}

fn sync_directory(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => File::open(parent)?.sync_all(),
        _ => File::open(".")?.sync_all(),
    }
}

/// A log that may be written meanwhile: where it ends within a line, the rest of that is waited for.
struct Patient {
    file: File,
    last: u8,
    waits: u32,
}

impl Read for Patient {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.file.read(buffer)?;
            if let Some(last) = buffer[..read].last() {
                self.last = *last;
                return Ok(read);
            }
            if buffer.is_empty() || self.last == b'\n' || self.waits == WAITS {
                return Ok(0);
            }
            self.waits += 1;
            thread::sleep(WAIT);
        }
    }
}
