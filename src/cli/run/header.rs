//! `envol volume header`: the file is read and written here, by whoever calls, never by the daemon.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

use super::Session;
use super::volume::show;
use crate::cli::args::{BackupArgs, HeaderCommand, RestoreArgs};
use crate::cli::confirm::Asker;
use crate::cli::error::CliError;
use crate::cli::render::{describe, volume_card};
use crate::cli::route::route;
use crate::control::api::{HeaderBackup, RestoreHeader, Volume};
use crate::limits::HEADER_COPY_MAX;

pub(super) fn run(session: &Session, command: &HeaderCommand) -> Result<(), CliError> {
    match command {
        HeaderCommand::Backup(args) => back_up(session, args),
        HeaderCommand::Restore(args) => restore(session, args),
    }
}

fn back_up(session: &Session, args: &BackupArgs) -> Result<(), CliError> {
    let failed = |source| CliError::File { path: args.file.clone(), source };
    let kept: HeaderBackup = session.client.get(&route(&["volumes", &args.volume, "header"]))?;
    let bytes = BASE64_STANDARD.decode(&kept.header).map_err(|bad| failed(io::Error::other(bad)))?;
    write_new(&args.file, &bytes).map_err(failed)?;
    let line = |kept: &HeaderBackup| {
        let HeaderBackup { name, volume, generation, .. } = kept;
        format!("the header of {name} ({volume}), generation {generation}, is in {}\n", args.file.display())
    };
    session.console.answer(&kept, line)
}

fn restore(session: &Session, args: &RestoreArgs) -> Result<(), CliError> {
    let asker = Asker::new("volume header restore", args.yes)?;
    let failed = |source| CliError::File { path: args.file.clone(), source };
    let mut bytes = Vec::new();
    let file = fs::File::open(&args.file).map_err(failed)?;
    // One byte more than a header has shows that it is none, and is enough to send.
    file.take(HEADER_COPY_MAX as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    let found = show(session, &args.volume)?;
    asker.ask(&format!("Overwrite the header of {} with what is in {}?", describe(&found), args.file.display()))?;
    let body = RestoreHeader { header: BASE64_STANDARD.encode(&bytes), accept_rollback: args.accept_rollback };
    let volume: Volume = session.client.send("POST", &route(&["volumes", &args.volume, "header"]), &body)?;
    session.console.answer(&volume, volume_card)
}

/// A file of the caller's alone, durable on return; what is there already is left alone.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
