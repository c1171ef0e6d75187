//! How answers look: tables and lines for people, one JSON document for scripts, two lines for an error.
//!
//! The only place of the command line that writes to stdout and stderr. Answers go to stdout and hints to stderr, and
//! hints only where stderr is a terminal, so `$(envol attach db)` holds the URI and nothing else. Colour follows the
//! terminal, NO_COLOR and CLICOLOR (anstream). Text that came from elsewhere passes [`style::plain`], so that no
//! description or path can drive the terminal.

mod access_key;
mod audit;
mod doctor;
mod event;
mod identity;
mod key;
mod size;
mod status;
mod style;
mod table;
mod volume;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

use super::error::CliError;
use crate::control::api::{Failure, Problem};

pub(crate) use access_key::{access_key_card, access_key_list};
pub(crate) use audit::{audit_card, audit_list, audit_report};
pub(crate) use doctor::doctor_page;
pub(crate) use event::event_line;
pub(crate) use identity::{explained_card, identity_list};
pub(crate) use key::{alias_list, doomed_volumes, key_card, key_list, key_state_line};
pub(crate) use size::human_size;
pub(crate) use status::{Rates, hsm_line, status_page};
pub(crate) use style::{Paint, plain};
pub(crate) use table::{Cell, Table};
pub(crate) use volume::{attach_hints, describe, volume_card, volume_list};

/// Where a command writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Console {
    json: bool,
}

impl Console {
    /// A console for text, or for JSON.
    pub(crate) fn new(json: bool) -> Self {
        Self { json }
    }

    /// Whether scripts read it.
    pub(crate) fn is_json(self) -> bool {
        self.json
    }

    /// The answer: `value` as one JSON document, or what `text` makes of it.
    pub(crate) fn answer<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> Result<(), CliError> {
        if self.json { self.document(value) } else { self.text(&text(value)) }
    }

    /// `value` as one JSON document on stdout.
    pub(crate) fn document<T: Serialize>(self, value: &T) -> Result<(), CliError> {
        self.text(&document(value))
    }

    /// Text on stdout, with a line end unless it has one.
    pub(crate) fn text(self, text: &str) -> Result<(), CliError> {
        let mut stdout = anstream::stdout().lock();
        write_lines(&mut stdout, text).map_err(CliError::Output)
    }

    /// Text on stderr, whoever reads it.
    pub(crate) fn note(self, text: &str) {
        // Where even stderr cannot be written to, there is nobody left to tell.
        let _ = write_lines(&mut anstream::stderr().lock(), text);
    }

    /// Text on stderr, for people only.
    pub(crate) fn hint(self, text: &str) {
        if !self.json && io::stderr().is_terminal() {
            self.note(text);
        }
    }

    /// A failure.
    pub(crate) fn problem(self, problem: &Problem) {
        if self.json {
            self.note(&document(&Failure { error: problem.clone() }));
        } else {
            self.note(&two_lines(problem));
        }
    }
}

fn write_lines(to: &mut impl Write, text: &str) -> io::Result<()> {
    to.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        to.write_all(b"\n")?;
    }
    to.flush()
}

fn document<T: Serialize>(value: &T) -> String {
    serde_json::to_string_pretty(value).expect("what the API answers has string keys and no failing serializer")
}

/// What failed and why; what to do about it.
fn two_lines(problem: &Problem) -> String {
    let name = Paint::Failure.text("envol:");
    format!("{name} {}\n  {}", plain(&problem.message), plain(&problem.remedy))
}

/// Prints clap's own words (a usage error, or the help or version that was asked for) and gives the exit code.
pub(crate) fn usage(error: &clap::Error, json: bool) -> u8 {
    let asked_for = !error.use_stderr();
    if json && !asked_for {
        let text = error.render().to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let remedy = "see envol --help".to_owned();
        let problem = Problem { code: "cli.usage".to_owned(), message, remedy, kms_exception: None, exit_code: 2 };
        Console::new(true).problem(&problem);
    } else {
        // As for every note: where it cannot be written, there is nobody left to tell.
        let _ = error.print();
    }
    if asked_for { 0 } else { 2 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem() -> Problem {
        Problem {
            code: "attach.kms.disabled".to_owned(),
            message: "the key is\x1b[2J disabled".to_owned(),
            remedy: "enable it".to_owned(),
            kms_exception: Some("DisabledException".to_owned()),
            exit_code: 5,
        }
    }

    #[test]
    fn an_error_is_two_lines_and_cannot_drive_the_terminal() {
        let text = anstream::adapter::strip_str(&two_lines(&problem())).to_string();
        assert_eq!(text.lines().count(), 2);
        assert!(!two_lines(&problem()).contains("\x1b[2J"));
        assert!(text.starts_with("envol: the key is"));
        assert!(text.ends_with("\n  enable it"));
    }

    #[test]
    fn a_json_error_has_the_four_fields_that_scripts_rely_on() {
        let text = document(&Failure { error: problem() });
        let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["error"]["code"], "attach.kms.disabled");
        assert_eq!(value["error"]["kms_exception"], "DisabledException");
        assert!(value["error"]["message"].is_string() && value["error"]["remedy"].is_string());
    }
}
