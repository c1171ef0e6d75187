//! What the demo says while it acts: numbered steps, the commands that one would type, what came of them.

use std::io::Write;

use crate::cli::render::{Paint, plain};

/// Tells the story on stdout, or keeps silent.
#[derive(Debug)]
pub struct Narrator {
    aloud: bool,
    step: u32,
}

impl Narrator {
    /// One that speaks.
    pub fn aloud() -> Self {
        Self { aloud: true, step: 0 }
    }

    /// One that does not.
    pub fn silent() -> Self {
        Self { aloud: false, step: 0 }
    }

    /// The title.
    pub(super) fn title(&mut self, title: &str) {
        self.say(&Paint::Heading.text(title));
    }

    /// A new step.
    pub(super) fn step(&mut self, what: &str) {
        self.step += 1;
        let heading = Paint::Heading.text(format!("{:>2}  {what}", self.step));
        self.say(&format!("\n{heading}"));
    }

    /// The command that does what is being done.
    pub(super) fn command(&mut self, command: &str) {
        self.say(&Paint::Idle.text(format!("    $ {}", plain(command))));
    }

    /// What came of it.
    pub(super) fn fact(&mut self, fact: &str) {
        self.say(&format!("    {}", plain(fact)));
    }

    /// A refusal, in the words of whoever refused.
    pub(super) fn refusal(&mut self, who: &str, words: &str) {
        self.say(&format!("    {who}: {}", Paint::Failure.text(plain(words))));
    }

    /// A listener that has gone takes nothing from the verdict, so a failed write is no failure.
    fn say(&mut self, line: &str) {
        if self.aloud {
            let mut stdout = anstream::stdout().lock();
            let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
        }
    }
}
