//! Keys and aliases.

use super::style::{Paint, plain};
use super::table::{Cell, Table};
use crate::control::api::{Alias, Key, Volume};

/// `key list`.
pub(crate) fn key_list(keys: &[Key]) -> String {
    if keys.is_empty() {
        return "No keys yet. Make one with: envol key create --alias NAME\n".to_owned();
    }
    let mut table = Table::headed(&["KEY", "STATE", "ALIASES", "VOLUMES", "DESCRIPTION"]);
    for key in keys {
        table.row(vec![
            Cell::new(&key.key_id),
            Cell::state(&key.state),
            Cell::new(key.aliases.join(" ")),
            Cell::number(key.volumes.len().to_string()),
            Cell::new(&key.description),
        ]);
    }
    table.render()
}

/// `key show`, `key create` and `key rotate`; a volume that is among `volumes` is shown with its name.
pub(crate) fn key_card(key: &Key, volumes: &[Volume]) -> String {
    let mut table = Table::new();
    table.pair("key", Cell::new(&key.key_id));
    table.pair("arn", Cell::new(&key.arn));
    table.pair("state", Cell::state(&key.state));
    if let Some(date) = &key.deletion_date {
        table.pair("deleted on", Cell::painted(date, Paint::Failure));
    }
    table.pair("aliases", Cell::new(listed(&key.aliases)));
    if !key.description.is_empty() {
        table.pair("description", Cell::new(&key.description));
    }
    table.pair("managed by", Cell::new(if key.manager == "AWS" { "AWS" } else { "you" }));
    if !key.key_spec.is_empty() {
        table.pair("kind", Cell::new(format!("{}, material from {}", key.key_spec, key.origin)));
    }
    if !key.key_usage.is_empty() {
        table.pair("usage", Cell::new(format!("{} by {}", key.key_usage, key.algorithms.join(", "))));
    }
    table.pair("created", Cell::new(&key.created));
    table.pair("last used", Cell::new(last_use(key)));
    table.pair("rotations", Cell::new(rotations(key)));
    if !key.current_key_material_id.is_empty() {
        table.pair("material", Cell::new(&key.current_key_material_id));
    }
    let tags: Vec<String> = key.tags.iter().map(|(tag, value)| format!("{tag}={value}")).collect();
    table.pair("tags", Cell::new(listed(&tags)));
    let ids = key.volumes.iter().map(|id| match name_of(id, volumes) {
        "" => id.clone(),
        name => format!("{name} ({id})"),
    });
    table.pair("volumes", Cell::new(listed(&ids.collect::<Vec<_>>())));
    table.render()
}

fn last_use(key: &Key) -> String {
    match (&key.last_used, &key.last_operation) {
        (Some(time), Some(operation)) => format!("{time}, {operation}"),
        _ => "never".to_owned(),
    }
}

/// How often it was rotated, and when it will be.
fn rotations(key: &Key) -> String {
    match (key.rotation_period_days, &key.next_rotation_date) {
        (Some(days), Some(next)) => format!("{}, and every {days} days, next on {next}", key.rotations),
        _ => key.rotations.to_string(),
    }
}

/// The name of a volume, empty where it is not known.
fn name_of<'v>(id: &str, volumes: &'v [Volume]) -> &'v str {
    volumes.iter().find(|volume| volume.id == id).map_or("", |volume| &volume.name)
}

fn listed(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

/// What a change of state came to, in one line.
pub(crate) fn key_state_line(key: &Key) -> String {
    let name = key.aliases.first().map_or(key.key_id.clone(), |alias| format!("{alias} ({})", key.key_id));
    let state = Paint::of_state(&key.state).text(plain(&key.state));
    match &key.deletion_date {
        Some(date) => format!("{} is {state}: deleted on {}\n", plain(&name), plain(date)),
        None => format!("{} is {state}\n", plain(&name)),
    }
}

/// `key alias list`.
pub(crate) fn alias_list(aliases: &[Alias]) -> String {
    if aliases.is_empty() {
        return "No aliases yet. Make one with: envol key alias create NAME KEY\n".to_owned();
    }
    let mut table = Table::headed(&["ALIAS", "KEY"]);
    for alias in aliases {
        table.row(vec![Cell::new(&alias.name), Cell::new(&alias.target_key_id)]);
    }
    table.render()
}

/// What dies with `key`, before it is scheduled for deletion.
pub(crate) fn doomed_volumes(key: &Key, volumes: &[Volume]) -> String {
    if key.volumes.is_empty() {
        return format!("No volume known here is under the key {}.\n", plain(&key.key_id));
    }
    let mut table = Table::new().indented(2);
    for id in &key.volumes {
        table.row(vec![Cell::new(name_of(id, volumes)), Cell::new(id)]);
    }
    let heading = Paint::Warning.text("These volumes die with the key; nobody can ever open them again:");
    format!("{heading}\n{}", table.render())
}
