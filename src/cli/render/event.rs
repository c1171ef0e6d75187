//! A line of the event stream, for people: when, what, how it ended, to which volume, why.

use serde_json::Value;

use super::style::{Paint, plain};

/// One event, given as its JSON line; a line that is no event is shown as it is.
pub(crate) fn event_line(line: &str) -> String {
    let Ok(event) = serde_json::from_str::<Value>(line) else { return plain(line) };
    let text = |pointer: &str| plain(event.pointer(pointer).and_then(Value::as_str).unwrap_or("-"));
    let result = text("/detail/result");
    let paint = if result == "failed" { Paint::Failure } else { Paint::Good };
    let cause = event.pointer("/detail/cause").and_then(Value::as_str).unwrap_or_default();
    let line = format!(
        "{}  {:<16}  {}{}  {}",
        text("/time"),
        text("/detail/event"),
        paint.text(&result),
        " ".repeat(9_usize.saturating_sub(result.chars().count())),
        volume(&event),
    );
    if cause.is_empty() { line } else { format!("{line}  {}", plain(cause)) }
}

/// The volume's id, out of its ARN, which comes first among the resources.
fn volume(event: &Value) -> String {
    let arn = event.pointer("/resources/0").and_then(Value::as_str).unwrap_or("-");
    plain(arn.rsplit_once('/').map_or(arn, |(_, id)| id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_with_its_cause() {
        let event = r#"{"time":"2026-01-02T03:04:05Z","resources":["arn:aws:ec2:us-east-1:000000000000:volume/vol-0",
            "arn:aws:kms:us-east-1:000000000000:key/k"],
            "detail":{"event":"attachVolume","result":"failed","cause":"arn:k is\n disabled."}}"#;
        let text = anstream::adapter::strip_str(&event_line(event)).to_string();
        assert_eq!(text, "2026-01-02T03:04:05Z  attachVolume      failed     vol-0  arn:k is  disabled.");
    }

    #[test]
    fn a_line_that_is_no_event_is_shown_without_its_escapes() {
        assert_eq!(event_line("not\x1bjson"), "not json");
    }
}
