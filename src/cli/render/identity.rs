//! Users and roles, and what they may do.

use serde_json::Value;

use super::style::Paint;
use super::table::{Cell, Table};
use crate::control::api::ExplainedRight;

/// `iam list`.
pub(crate) fn identity_list(rows: &[Value]) -> String {
    if rows.is_empty() {
        return "No users and no roles yet. Put some with: envol iam put FILE\n".to_owned();
    }
    let mut table = Table::headed(&["PRINCIPAL", "GROUPS", "POLICIES", "TAGS"]);
    let texts = |list: &Value| {
        let texts: Vec<&str> = list.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        texts.join(" ")
    };
    for row in rows {
        let tags = row["tags"].as_object().into_iter().flatten();
        let tags: Vec<String> =
            tags.map(|(name, value)| format!("{name}={}", value.as_str().unwrap_or_default())).collect();
        table.row(vec![
            Cell::new(row["arn"].as_str().unwrap_or_default()),
            Cell::new(texts(&row["groups"])),
            Cell::new(texts(&row["policies"])),
            Cell::new(tags.join(" ")),
        ]);
    }
    table.render()
}

/// `key explain`.
pub(crate) fn explained_card(right: &ExplainedRight) -> String {
    let mut table = Table::new();
    let (word, paint) = if right.allowed { ("allowed", Paint::Good) } else { ("refused", Paint::Failure) };
    table.pair("decision", Cell::painted(word, paint));
    table.pair("principal", Cell::new(&right.principal));
    table.pair("action", Cell::new(&right.action));
    table.pair("key", Cell::new(&right.key));
    table.pair("because", Cell::new(&right.reason));
    table.pair("other with", Cell::new(&right.change));
    table.render()
}
