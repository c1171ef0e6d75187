//! Volumes and attachments.

use super::size::human_size;
use super::style::{Paint, plain};
use super::table::{Cell, Table};
use crate::control::api::{Attachment, LastRefusal, Volume};

/// The part of a key ARN that people tell keys apart by.
pub(super) fn key_tail(arn: &str) -> &str {
    arn.rsplit_once('/').map_or(arn, |(_, tail)| tail)
}

/// `volume list`.
pub(crate) fn volume_list(volumes: &[Volume]) -> String {
    if volumes.is_empty() {
        return "No volumes yet. Make one with: envol volume create NAME --size 10G\n".to_owned();
    }
    let mut table = Table::headed(&["NAME", "ID", "SIZE", "USED", "STATE", "KEY", "BACKING"]);
    for volume in volumes {
        table.row(vec![
            Cell::new(&volume.name),
            Cell::new(&volume.id),
            Cell::number(human_size(volume.size)),
            Cell::number(allocated(volume)),
            state(volume),
            Cell::new(key_tail(&volume.kms_key)),
            Cell::new(&volume.backing),
        ]);
    }
    table.render()
}

pub(super) fn allocated(volume: &Volume) -> String {
    volume.allocated.map_or("?".to_owned(), human_size)
}

/// The state, in red where the last attach was refused.
pub(super) fn state(volume: &Volume) -> Cell {
    match &volume.last_refusal {
        Some(refusal) if refusal.retrying => Cell::painted(format!("{} (retrying)", volume.state), Paint::Warning),
        Some(_) => Cell::painted(format!("{} (refused)", volume.state), Paint::Failure),
        None => Cell::state(&volume.state),
    }
}

/// `volume show` and `volume create`.
pub(crate) fn volume_card(volume: &Volume) -> String {
    let mut table = Table::new();
    table.pair("name", Cell::new(&volume.name));
    table.pair("id", Cell::new(&volume.id));
    table.pair("size", Cell::new(format!("{} ({} bytes)", human_size(volume.size), volume.size)));
    table.pair("state", Cell::state(&volume.state));
    table.pair("KMS key", Cell::new(&volume.kms_key));
    table.pair("KMS", Cell::new(&volume.kms));
    table.pair("backing", Cell::new(&volume.backing));
    table.pair("used", Cell::new(allocated(volume)));
    table.pair("sector", Cell::new(format!("{} bytes", volume.sector_size)));
    table.pair("thick", Cell::new(if volume.thick { "yes" } else { "no" }));
    for attachment in &volume.attachments {
        table.pair("attached", Cell::painted(&attachment.uri, Paint::Good));
        table.pair("since", Cell::new(format!("{}{}", attachment.since, mode(attachment))));
        let clients = if attachment.clients.is_empty() { "none".to_owned() } else { attachment.clients.join(", ") };
        table.pair("clients", Cell::new(clients));
    }
    if let Some(refusal) = &volume.last_refusal {
        table.pair("refused", Cell::painted(refusal_line(refusal), Paint::Failure));
    }
    table.render()
}

fn mode(attachment: &Attachment) -> String {
    let words = [(attachment.read_only, ", read-only"), (attachment.direct, ", around the page cache")];
    words.into_iter().filter_map(|(holds, word)| holds.then_some(word)).collect()
}

/// Why the last attach failed, in one line.
pub(super) fn refusal_line(refusal: &LastRefusal) -> String {
    let exception = refusal.kms_exception.as_ref().map_or(String::new(), |name| format!("{name}: "));
    let retrying = if refusal.retrying { " (retrying)" } else { "" };
    format!("{} {exception}{}{retrying}", refusal.time, refusal.cause)
}

/// A volume in one line, for a question about it.
pub(crate) fn describe(volume: &Volume) -> String {
    plain(&format!("{} ({}, {}, {})", volume.name, volume.id, human_size(volume.size), volume.backing))
}

/// What can be done with an attachment now.
pub(crate) fn attach_hints(attachment: &Attachment) -> String {
    let uri = plain(&attachment.uri);
    let name = plain(&attachment.name);
    let read_only = if attachment.read_only { "-readonly " } else { "" };
    let mut lines = vec![Paint::Idle.text("Use it with one of:")];
    if let Some((_, socket)) = uri.split_once("?socket=") {
        lines.push(format!("  nbd-client -unix {socket} {read_only}-N {name} /dev/nbd0"));
    }
    lines.push(format!("  qemu-img info '{uri}'"));
    lines.push(format!("  nbdcopy '{uri}' {name}.img"));
    lines.push(Paint::Idle.text(format!("and end it with: envol detach {name}")));
    lines.join("\n")
}
