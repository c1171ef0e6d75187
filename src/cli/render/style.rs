//! Colours with a meaning, and the removal of whatever could drive a terminal.

use std::fmt::Display;

use anstyle::{AnsiColor, Style};

/// What a colour says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    /// Nothing in particular.
    Plain,
    /// A heading.
    Heading,
    /// As it should be.
    Good,
    /// Not in use, on purpose.
    Idle,
    /// To be looked at.
    Warning,
    /// Broken or refused.
    Failure,
}

impl Paint {
    /// The colour of a state, of a key or of a volume.
    pub(crate) fn of_state(state: &str) -> Self {
        match state {
            "Enabled" | "in-use" => Self::Good,
            "Disabled" | "Unavailable" | "attaching" | "detaching" | "creating" => Self::Warning,
            "PendingDeletion" | "error" => Self::Failure,
            _ => Self::Plain,
        }
    }

    fn style(self) -> Style {
        let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
        match self {
            Self::Plain => Style::new(),
            Self::Heading => Style::new().bold(),
            Self::Good => colour(AnsiColor::Green),
            Self::Idle => Style::new().dimmed(),
            Self::Warning => colour(AnsiColor::Yellow),
            Self::Failure => colour(AnsiColor::Red).bold(),
        }
    }

    /// `text` in this colour.
    pub(crate) fn text(self, text: impl Display) -> String {
        let style = self.style();
        format!("{style}{text}{style:#}")
    }
}

/// `text` on one line, without control characters (escape sequences among them).
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_from_elsewhere_cannot_drive_the_terminal() {
        assert_eq!(plain("a\x1b[31mb\nc\u{9b}d"), "a [31mb c d");
    }

    #[test]
    fn plain_text_carries_no_escape_sequence() {
        assert_eq!(Paint::Plain.text("x"), "x");
        assert!(Paint::Failure.text("x").starts_with('\x1b'));
    }
}
