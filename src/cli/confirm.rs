//! Asking before something that cannot be taken back.
//!
//! Two steps, so that nothing at all happens, not even a question to the daemon, where nobody can answer: first
//! [`Asker::new`], then the facts are fetched, then [`Asker::ask`].

use std::io::{self, IsTerminal, Write};

use super::error::CliError;

/// Proof that there is somebody to ask, or that asking was waived.
pub(crate) struct Asker {
    waived: bool,
}

impl Asker {
    /// Whether the command called `what` may go on: with `--yes`, or with a terminal to ask on.
    pub(crate) fn new(what: &'static str, yes: bool) -> Result<Self, CliError> {
        let terminal = io::stdin().is_terminal() && io::stderr().is_terminal();
        if yes || terminal { Ok(Self { waived: yes }) } else { Err(CliError::NobodyToAsk(what)) }
    }

    /// Asks `question` on the terminal; anything but y or yes is a no.
    pub(crate) fn ask(self, question: &str) -> Result<(), CliError> {
        if self.waived {
            return Ok(());
        }
        let mut stderr = anstream::stderr().lock();
        write!(stderr, "{question} [y/N] ").and_then(|()| stderr.flush()).map_err(CliError::Output)?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).map_err(CliError::Terminal)?;
        if is_yes(&answer) { Ok(()) } else { Err(CliError::NotConfirmed) }
    }
}

fn is_yes(answer: &str) -> bool {
    ["y", "yes"].contains(&answer.trim().to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_plain_yes_is_a_yes() {
        for yes in ["y\n", "YES\n", " yes \n"] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yess\n", "y es\n"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
