//! `envol volume`.

use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde::de::IgnoredAny;
use zeroize::Zeroize;

use super::{Nothing, Session, header};
use crate::cli::args::{CreateArgs, VolumeCommand};
use crate::cli::confirm::Asker;
use crate::cli::error::CliError;
use crate::cli::render::{describe, volume_card, volume_list};
use crate::cli::route::route;
use crate::control::api::{AddVolume, CreateVolume, ExportedKey, Rewrap, Volume};
use crate::units::ByteCount;

pub(super) fn run(session: &Session, command: VolumeCommand) -> Result<(), CliError> {
    match command {
        VolumeCommand::Create(args) => create(session, *args),
        VolumeCommand::List => {
            let volumes: Vec<Volume> = session.client.get(&route(&["volumes"]))?;
            session.console.answer(&volumes, |volumes| volume_list(volumes))
        }
        VolumeCommand::Show(args) => session.console.answer(&show(session, &args.volume)?, volume_card),
        VolumeCommand::Delete(args) => delete(session, &args.volume, args.yes),
        VolumeCommand::Add(args) => add(session, absolute_text(&args.path)?, args.yes),
        VolumeCommand::Forget(args) => forget(session, &args.volume, args.yes),
        VolumeCommand::Fill(args) => {
            let path = route(&["volumes", &args.volume, "fill"]);
            let volume: Volume = with_progress("filling", |told| session.client.send_long(&path, &Nothing {}, told))?;
            session.console.answer(&volume, volume_card)
        }
        VolumeCommand::Rewrap(args) => {
            let path = route(&["volumes", &args.volume, "rewrap"]);
            let volume: Volume = session.client.send("POST", &path, &Rewrap { key: args.key, kms: args.kms })?;
            session.console.answer(&volume, volume_card)
        }
        VolumeCommand::Header(command) => header::run(session, &command),
        VolumeCommand::ExportKey(args) => export_key(session, &args.volume, args.yes),
    }
}

pub(super) fn show(session: &Session, volume: &str) -> Result<Volume, CliError> {
    Ok(session.client.get(&route(&["volumes", volume]))?)
}

fn create(session: &Session, args: CreateArgs) -> Result<(), CliError> {
    let body = CreateVolume {
        name: args.name.into(),
        size: args.size.map(ByteCount::get),
        key: args.key,
        kms: args.kms,
        backing: args.backing.as_deref().map(absolute_text).transpose()?,
        sector_size: args.sector_size.map(u32::from),
        scope: args.scope.map(ByteCount::get),
        thick: args.thick,
        force: args.force,
    };
    let path = route(&["volumes"]);
    let volume: Volume = with_progress("writing", |told| session.client.send_long(&path, &body, told))?;
    session.console.answer(&volume, volume_card)
}

fn delete(session: &Session, volume: &str, yes: bool) -> Result<(), CliError> {
    let asker = Asker::new("volume delete", yes)?;
    let found = show(session, volume)?;
    asker.ask(&format!("Destroy the volume {}? Its data can never be read again.", describe(&found)))?;
    let IgnoredAny = session.client.send("DELETE", &route(&["volumes", volume]), &Nothing {})?;
    session.console.answer(&found, |gone| format!("{} is deleted\n", describe(gone)))
}

fn add(session: &Session, path: String, yes: bool) -> Result<(), CliError> {
    let asker = Asker::new("volume add", yes)?;
    let route = route(&["volumes", "add"]);
    let body = AddVolume { path, dry_run: true };
    let claimed: Volume = session.client.send("POST", &route, &body)?;
    asker.ask(&format!("Take in the volume {}, under the KMS key {}?", describe(&claimed), claimed.kms_key))?;
    let volume: Volume = session.client.send("POST", &route, &AddVolume { dry_run: false, ..body })?;
    session.console.answer(&volume, volume_card)
}

fn forget(session: &Session, volume: &str, yes: bool) -> Result<(), CliError> {
    let asker = Asker::new("volume forget", yes)?;
    let found = show(session, volume)?;
    asker
        .ask(&format!("Forget the volume {}? Its backing stays; add it again with `volume add`.", describe(&found)))?;
    let IgnoredAny = session.client.send("POST", &route(&["volumes", volume, "forget"]), &Nothing {})?;
    session.console.answer(&found, |gone| format!("{} is forgotten; its backing stays\n", describe(gone)))
}

/// The table alone on stdout, so that it can be piped; the warnings on stderr.
fn export_key(session: &Session, volume: &str, yes: bool) -> Result<(), CliError> {
    let asker = Asker::new("volume export-key", yes)?;
    let found = show(session, volume)?;
    asker.ask(&format!("Print the sector keys of {} in clear?", describe(&found)))?;
    let path = route(&["volumes", volume, "export-key"]);
    let mut key: ExportedKey = session.client.send("POST", &path, &Nothing {})?;
    let shown = if session.console.is_json() { session.console.document(&key) } else { show_exported(session, &key) };
    key.table.zeroize();
    shown
}

fn show_exported(session: &Session, key: &ExportedKey) -> Result<(), CliError> {
    for warning in &key.warnings {
        session.console.note(&format!("warning: {warning}"));
    }
    session.console.text(&key.table)
}

/// `path` as text that another process, in another directory, understands.
fn absolute_text(path: &Path) -> Result<String, CliError> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    absolute.into_os_string().into_string().map_err(|text| CliError::PathNotText(text.into()))
}

/// Runs long work with a bar on stderr, which draws nothing unless that is a terminal.
fn with_progress<T, E>(
    doing: &'static str,
    work: impl FnOnce(&mut dyn FnMut(u64, u64)) -> Result<T, E>,
) -> Result<T, E> {
    let bar = ProgressBar::no_length();
    let template = "{msg} [{wide_bar}] {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {eta}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed").progress_chars("=> "));
    bar.set_message(doing);
    let done = work(&mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    done
}
