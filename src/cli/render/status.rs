//! `envol status`: the daemon, its volumes with what they carry, its keys.

use std::collections::BTreeMap;

use super::size::human_size;
use super::style::{Paint, plain};
use super::table::{Cell, Table};
use super::volume::{allocated, key_tail, refusal_line, state};
use crate::control::api::{Hsm, Key, Kms, Status, Traffic, Volume};

/// Bytes a second, read and written, of each volume by its id.
pub(crate) type Rates = BTreeMap<String, (u64, u64)>;

/// The whole page.
pub(crate) fn status_page(status: &Status, rates: &Rates) -> String {
    let mut page = head(status).render();
    page.push_str(&section("Volumes", status.volumes.len(), &volumes(status, rates)));
    for volume in &status.volumes {
        if let Some(refusal) = &volume.last_refusal {
            let line = format!("  {}: {}\n", plain(&volume.name), plain(&refusal_line(refusal)));
            page.push_str(&Paint::Failure.text(line));
        }
    }
    page.push_str(&section("Keys", status.keys.len(), &keys(&status.keys)));
    page
}

fn head(status: &Status) -> Table {
    let mut table = Table::new();
    table.pair("envol", Cell::new(format!("{}, pid {}, since {}", status.version, status.pid, status.since)));
    table.pair("state", Cell::new(&status.state_dir));
    for listener in &status.listeners {
        table.pair("NBD", Cell::new(listener));
    }
    for endpoint in &status.kms_endpoints {
        table.pair("KMS", Cell::new(endpoint));
    }
    for kms in status.kms.iter().filter(|kms| kms.kind != "embedded") {
        table.pair("KMS client", Cell::new(kms_client(kms)));
    }
    table.pair("clients", Cell::new(format!("{} connected", status.connections)));
    table.pair("key memory", Cell::new(&status.key_memory));
    table.pair("HSM", Cell::new(hsm(&status.hsm)));
    if status.verify_key_here {
        table.pair(
            "audit log",
            Cell::new("its verify key is still here: take it away with envol audit verify-key FILE"),
        );
    }
    table.pair("hardening", Cell::new(status.hardening.reached.join(", ")));
    for missing in &status.hardening.missing {
        table.pair("lacking", Cell::new(missing));
    }
    table.pair("disk reads", Cell::new(format!("by {}", status.io)));
    table
}

/// A KMS that the daemon calls.
fn kms_client(kms: &Kms) -> String {
    let identity = kms.identity.as_deref().unwrap_or_default();
    format!("{} ({}): {}, as {identity}", kms.name, kms.kind, kms.place)
}

/// How the HSM does, in a line.
pub(crate) fn hsm_line(state: &Hsm) -> String {
    format!("the HSM is {}\n", hsm(state))
}

fn hsm(hsm: &Hsm) -> String {
    let running = match (hsm.pid, &hsm.reason) {
        (Some(pid), _) => format!("{}, pid {pid}", hsm.state),
        (None, Some(reason)) => format!("{}: {reason}", hsm.state),
        (None, None) => hsm.state.clone(),
    };
    format!("{running}; domain key from {}", hsm.domain_key)
}

fn section(title: &str, count: usize, table: &Table) -> String {
    let heading = Paint::Heading.text(format!("{title} ({count})"));
    if count == 0 { format!("\n{heading}\n") } else { format!("\n{heading}\n{}", table.render()) }
}

fn volumes(status: &Status, rates: &Rates) -> Table {
    let mut table =
        Table::headed(&["NAME", "SIZE", "USED", "STATE", "KEY", "CLIENTS", "READ", "WRITTEN", "NOW"]).indented(2);
    for volume in &status.volumes {
        let traffic = status.traffic.iter().find(|traffic| traffic.volume == volume.id);
        let mut row = vec![
            Cell::new(&volume.name),
            Cell::number(human_size(volume.size)),
            Cell::number(allocated(volume)),
            state(volume),
            Cell::new(key_name(volume, &status.keys)),
        ];
        row.extend(activity(volume, traffic, rates.get(&volume.id)));
        table.row(row);
    }
    table
}

/// What an attached volume carries; nothing for one that is not attached.
fn activity(volume: &Volume, traffic: Option<&Traffic>, rate: Option<&(u64, u64)>) -> Vec<Cell> {
    let clients: usize = volume.attachments.iter().map(|attachment| attachment.clients.len()).sum();
    let Some(traffic) = traffic else { return Vec::new() };
    let (read, written) = rate.copied().unwrap_or((0, 0));
    let now = match (read, written) {
        (0, 0) => "idle".to_owned(),
        _ => format!("{}/s read, {}/s written", human_size(read), human_size(written)),
    };
    vec![
        Cell::number(clients.to_string()),
        Cell::number(human_size(traffic.read_bytes)),
        Cell::number(human_size(traffic.written_bytes)),
        Cell::new(now),
    ]
}

/// The key's first alias where it has one, since that is what people know it by.
fn key_name<'a>(volume: &'a Volume, keys: &'a [Key]) -> &'a str {
    let key = keys.iter().find(|key| key.arn == volume.kms_key);
    key.and_then(|key| key.aliases.first()).map_or(key_tail(&volume.kms_key), String::as_str)
}

fn keys(keys: &[Key]) -> Table {
    let mut table = Table::headed(&["KEY", "STATE", "ALIASES", "VOLUMES"]).indented(2);
    for key in keys {
        table.row(vec![
            Cell::new(&key.key_id),
            Cell::state(&key.state),
            Cell::new(key.aliases.join(" ")),
            Cell::number(key.volumes.len().to_string()),
        ]);
    }
    table
}
