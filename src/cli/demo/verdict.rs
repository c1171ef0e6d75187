//! From what was observed to what held: a pure function, so that each row can be shown to fail.
//!
//! A row holds only on positive evidence: what was not observed has not held.

use serde::Serialize;

use crate::cli::render::human_size;

/// `NBD_REP_ERR_POLICY`, of the NBD protocol's option replies.
const ERR_POLICY: u32 = (1 << 31) + 2;

/// `NBD_REP_ERR_UNKNOWN`.
const ERR_UNKNOWN: u32 = (1 << 31) + 6;

/// The exit code of a KMS's refusal (product.md).
const REFUSED_BY_KMS: i32 = 5;

/// The exception of AWS KMS for a disabled key.
const DISABLED: &str = "DisabledException";

/// A row of the final table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// What was asked.
    pub asked: &'static str,
    /// What was found.
    pub found: String,
    /// Whether that is what was asked.
    pub held: bool,
}

/// What was written, against what was read.
#[derive(Debug, Clone)]
pub(super) struct Compared {
    pub(super) bytes: usize,
    pub(super) expected: String,
    pub(super) read: String,
}

/// What the search of the backing found.
#[derive(Debug, Clone)]
pub(super) struct Searched {
    /// Markers in what was written: shows that the search finds them.
    pub(super) markers_written: usize,
    /// Markers in the backing.
    pub(super) markers_found: usize,
    /// Bytes written.
    pub(super) written: u64,
    /// Bytes of the backing that are taken: shows that the search looked at the right file.
    pub(super) taken: u64,
}

/// I/O under the disabled key.
#[derive(Debug, Clone)]
pub(super) struct UnderDisabledKey {
    pub(super) key_state: String,
    pub(super) volume_state: String,
    pub(super) io: Compared,
}

/// What an NBD client is told.
#[derive(Debug, Clone)]
pub(super) enum NbdAnswer {
    /// It got the export.
    LetIn,
    /// It did not.
    Refused { reply: u32, text: String },
}

/// A refusal, as one of envol's ways to tell tells it.
#[derive(Debug, Clone, Default)]
pub(super) struct Told {
    /// The exit code, where there is one.
    pub(super) exit_code: Option<i32>,
    /// The KMS's exception.
    pub(super) exception: Option<String>,
    /// The text.
    pub(super) text: String,
}

/// An event of the stream.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) result: String,
    pub(super) cause: String,
}

/// A restart of the daemon.
#[derive(Debug, Clone)]
pub(super) struct Restarted {
    pub(super) exit_code: Option<i32>,
    pub(super) event: Option<Event>,
    pub(super) io: Compared,
}

/// What was left when everything was cleared away.
#[derive(Debug, Clone)]
pub(super) struct Cleared {
    pub(super) exit_code: Option<i32>,
    pub(super) backing_is_gone: bool,
}

/// Everything that was seen; what is `None` was not reached.
#[derive(Debug, Clone, Default)]
pub(super) struct Observations {
    pub(super) key_arn: String,
    pub(super) wrapped_under: Option<String>,
    pub(super) first: Option<Compared>,
    pub(super) backing: Option<Searched>,
    pub(super) under_disabled_key: Option<UnderDisabledKey>,
    pub(super) after_detach: Option<NbdAnswer>,
    pub(super) cli: Option<Told>,
    pub(super) api: Option<Told>,
    pub(super) nbd: Option<NbdAnswer>,
    pub(super) event: Option<Event>,
    pub(super) status: Option<Told>,
    pub(super) after_enable: Option<Compared>,
    pub(super) restarted: Option<Restarted>,
    pub(super) cleared: Option<Cleared>,
}

/// What was found, and whether it is what was asked.
type Finding = (String, bool);

impl Observations {
    /// The rows of the final table.
    pub(super) fn rows(&self) -> Vec<Row> {
        let row = |asked: &'static str, finding: Option<Finding>| {
            let (found, held) = finding.unwrap_or_else(|| ("not reached".to_owned(), false));
            Row { asked, found, held }
        };
        vec![
            row("The volume's data key is wrapped by the key that was named", self.wrapped()),
            row("What is written over NBD is read back", self.first.as_ref().map(same)),
            row("The backing holds none of it in clear", self.backing.as_ref().map(searched)),
            row("Disabling the key disturbs no attached volume", self.under_disabled_key.as_ref().map(undisturbed)),
            row("Detach takes the export away", self.after_detach.as_ref().map(export_is_gone)),
            row(
                "The next attach is refused: the command line says why",
                self.cli.as_ref().map(|told| self.cli_told(told)),
            ),
            row("... and the API", self.api.as_ref().map(|told| self.told(told))),
            row("... and the NBD server, to its client", self.nbd.as_ref().map(|answer| self.client_told(answer))),
            row("... and the event stream", self.event.as_ref().map(|event| self.event_told(event))),
            row("... and the status", self.status.as_ref().map(|told| self.told(told))),
            row("With the key enabled, every byte is as it was", self.after_enable.as_ref().map(same)),
            row("A restarted daemon asks the KMS again and re-attaches", self.restarted.as_ref().map(restarted)),
            row("Deleted is deleted, and the daemon ends cleanly", self.cleared.as_ref().map(cleared)),
        ]
    }

    fn wrapped(&self) -> Option<Finding> {
        let under = self.wrapped_under.as_ref()?;
        let short = under.rsplit(':').next().unwrap_or_default();
        Some((short.to_owned(), !under.is_empty() && *under == self.key_arn))
    }

    /// Whether `text` names the key and its state: what somebody needs who has only this text.
    fn names_the_cause(&self, text: &str) -> bool {
        let key_id = self.key_arn.rsplit('/').next().unwrap_or_default();
        !key_id.is_empty() && text.contains(key_id) && text.to_ascii_lowercase().contains("disabled")
    }

    fn told(&self, told: &Told) -> Finding {
        let exception = told.exception.as_deref();
        let named = self.names_the_cause(&told.text);
        let found = format!("{}{}", exception.unwrap_or("no exception"), cause_words(named));
        (found, exception == Some(DISABLED) && named)
    }

    fn cli_told(&self, told: &Told) -> Finding {
        let (found, held) = self.told(told);
        let code = told.exit_code.map_or("no exit code".to_owned(), |code| format!("exit {code}"));
        (format!("{code}, {found}"), held && told.exit_code == Some(REFUSED_BY_KMS))
    }

    fn client_told(&self, answer: &NbdAnswer) -> Finding {
        match answer {
            NbdAnswer::LetIn => ("the client was let in".to_owned(), false),
            NbdAnswer::Refused { reply, text } => {
                let named = self.names_the_cause(text);
                (format!("{}{}", reply_name(*reply), cause_words(named)), *reply == ERR_POLICY && named)
            }
        }
    }

    fn event_told(&self, event: &Event) -> Finding {
        let named = self.names_the_cause(&event.cause);
        (format!("attachVolume {}{}", event.result, cause_words(named)), event.result == "failed" && named)
    }
}

fn cause_words(named: bool) -> &'static str {
    if named { ", naming the key and its state" } else { ", without the reason" }
}

fn reply_name(reply: u32) -> String {
    match reply {
        ERR_POLICY => "ERR_POLICY".to_owned(),
        ERR_UNKNOWN => "ERR_UNKNOWN".to_owned(),
        other => format!("option reply {other:#x}"),
    }
}

fn is_same(compared: &Compared) -> bool {
    compared.bytes > 0 && !compared.expected.is_empty() && compared.expected == compared.read
}

fn same(compared: &Compared) -> Finding {
    let size = human_size(compared.bytes as u64);
    let short = |sum: &str| sum.chars().take(12).collect::<String>();
    let held = is_same(compared);
    let read = short(&compared.read);
    let found = if held {
        format!("{size}, SHA-256 {read}...")
    } else {
        format!("{size}, SHA-256 {read}... instead of {}...", short(&compared.expected))
    };
    (found, held)
}

fn searched(searched: &Searched) -> Finding {
    let found = format!(
        "{} of {} markers in {} of data",
        searched.markers_found,
        searched.markers_written,
        human_size(searched.taken)
    );
    let looked = searched.markers_written > 0 && searched.written > 0 && searched.taken >= searched.written;
    (found, looked && searched.markers_found == 0)
}

fn undisturbed(seen: &UnderDisabledKey) -> Finding {
    let (io, same) = same(&seen.io);
    let held = same && seen.key_state == "Disabled" && seen.volume_state == "in-use";
    (format!("key {}, volume {}, {io}", seen.key_state, seen.volume_state), held)
}

fn export_is_gone(answer: &NbdAnswer) -> Finding {
    match answer {
        NbdAnswer::LetIn => ("a client was let in".to_owned(), false),
        NbdAnswer::Refused { reply, .. } => (reply_name(*reply), *reply == ERR_UNKNOWN),
    }
}

fn exit_words(code: Option<i32>) -> String {
    code.map_or("the daemon was killed".to_owned(), |code| format!("the daemon exited {code}"))
}

fn restarted(seen: &Restarted) -> Finding {
    let event = seen.event.as_ref().map_or("no reattachVolume", |event| match event.result.as_str() {
        "failed" => "reattachVolume failed",
        _ => "reattachVolume done",
    });
    let (io, same) = same(&seen.io);
    let reattached = seen.event.as_ref().is_some_and(|event| event.result != "failed");
    (format!("{}, {event}, {io}", exit_words(seen.exit_code)), same && reattached && seen.exit_code == Some(0))
}

fn cleared(seen: &Cleared) -> Finding {
    let backing = if seen.backing_is_gone { "the backing is gone" } else { "the backing is still there" };
    (format!("{backing}, {}", exit_words(seen.exit_code)), seen.backing_is_gone && seen.exit_code == Some(0))
}

#[cfg(test)]
mod tests;
