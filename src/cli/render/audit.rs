//! Records of the audit log.

use serde_json::Value;

use super::style::Paint;
use super::table::{Cell, Table};
use crate::chain::{Gap, Report};

/// `audit list`.
pub(crate) fn audit_list(records: &[Value]) -> String {
    if records.is_empty() {
        return "No such records.\n".to_owned();
    }
    let mut table = Table::headed(&["TIME", "EVENT", "WHO", "ABOUT", "RESULT", "EVENT ID"]);
    for record in records {
        table.row(vec![
            Cell::new(text(record, "/eventTime")),
            Cell::new(text(record, "/eventName")),
            Cell::new(who(record)),
            Cell::new(about(record)),
            result(record),
            Cell::new(text(record, "/eventID")),
        ]);
    }
    table.render()
}

/// `audit show`: what people ask first, then everything.
pub(crate) fn audit_card(record: &Value) -> String {
    let mut table = Table::new();
    table.pair("time", Cell::new(text(record, "/eventTime")));
    table.pair("event", Cell::new(text(record, "/eventName")));
    table.pair("who", Cell::new(text(record, "/userIdentity/arn")));
    table.pair("from", Cell::new(text(record, "/sourceIPAddress")));
    table.pair("about", Cell::new(about(record)));
    table.pair("result", result(record));
    if let Some(message) = record["errorMessage"].as_str() {
        table.pair("message", Cell::new(message));
    }
    for part in ["requestParameters", "responseElements", "additionalEventData"] {
        let members = record[part].as_object().into_iter().flatten();
        for (name, value) in members {
            let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            table.pair(&format!("{}.{name}", short(part)), Cell::new(shown));
        }
    }
    table.pair("request id", Cell::new(text(record, "/requestID")));
    table.pair("event id", Cell::new(text(record, "/eventID")));
    table.render()
}

/// `audit verify`.
pub(crate) fn audit_report(report: &Report) -> String {
    let mut table = Table::new();
    let (word, paint) = match report.finding {
        None if !report.passed_over.is_empty() => {
            ("its records follow from one another; other lines stand between them", Paint::Failure)
        }
        None if report.keyed => ("intact", Paint::Good),
        None => ("its hashes are right; only the key tells whether they were computed anew", Paint::Good),
        Some(_) => ("broken", Paint::Failure),
    };
    table.pair("log", Cell::painted(word, paint));
    table.pair("records", Cell::new(report.records.to_string()));
    if report.unchained_lines > 0 {
        table.pair("before them", Cell::new(format!("{} lines, bound as a whole", report.unchained_lines)));
    }
    for gap in &report.gaps {
        table.pair("gap", Cell::new(format!("record {}: {}", gap.number, told(gap))));
    }
    for lines in &report.passed_over {
        table.pair("passed over", Cell::new(lines.to_string()));
    }
    table.pair("head", Cell::new(report.head.clone()));
    table.render()
}

/// What a record says of a gap.
fn told(gap: &Gap) -> String {
    let parts = [
        gap.key_lost.then(|| "the key was lost, and a new chain begins".to_owned()),
        (gap.missing_bytes > 0).then(|| format!("{} bytes are missing that were known to be there", gap.missing_bytes)),
        (gap.cut_bytes > 0).then(|| format!("{} bytes of a record that a crash cut short", gap.cut_bytes)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn short(part: &str) -> &str {
    match part {
        "requestParameters" => "asked",
        "responseElements" => "answered",
        _ => "also",
    }
}

fn text<'a>(record: &'a Value, pointer: &str) -> &'a str {
    record.pointer(pointer).and_then(Value::as_str).unwrap_or("-")
}

/// `root`, `user/NAME`, a role with its session; whoever else by what they are.
fn who(record: &Value) -> &str {
    match record["userIdentity"]["arn"].as_str() {
        Some(arn) => arn.rsplit_once(':').map_or(arn, |(_, resource)| resource),
        None => text(record, "/userIdentity/invokedBy"),
    }
}

/// The volume, where the encryption context names one; else the resources, without what their ARNs have in common.
fn about(record: &Value) -> String {
    if let Some(volume) = record["requestParameters"]["encryptionContext"]["aws:ebs:id"].as_str() {
        return volume.to_owned();
    }
    let arns = record["resources"].as_array().into_iter().flatten().filter_map(|resource| resource["ARN"].as_str());
    let names: Vec<&str> = arns.map(|arn| arn.rsplit_once(':').map_or(arn, |(_, resource)| resource)).collect();
    if names.is_empty() { text(record, "/requestParameters/keyId").to_owned() } else { names.join(" ") }
}

fn result(record: &Value) -> Cell {
    match record["errorCode"].as_str() {
        Some(code) => Cell::painted(code, Paint::Failure),
        None => Cell::painted("done", Paint::Good),
    }
}
