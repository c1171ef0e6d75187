//! `envol demo`: the scenario that envol exists for, with real I/O through a real NBD connection.
//!
//! `story` acts it out against a daemon of its own (`scene`) and notes what it sees as [`Observations`]; `verdict` is a
//! pure function from these to the rows of the final table, so no step can pass judgement on itself. A step that cannot
//! be taken ends the story, and whatever was not reached has not held. The hook is called after each step and may
//! meddle with the scene: so tests show that every row can fail.

mod narrate;
mod pattern;
mod story;
mod verdict;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};

pub use super::scene::Scene;
pub use narrate::Narrator;
pub use verdict::Row;

use self::story::Story;
use self::verdict::Observations;
use super::args::Global;
use super::error::CliError;
use super::render::{Cell, Console, Paint, Table};
use super::scene::SceneError;
use crate::control::client::ClientError;
use crate::nbd::client::ClientError as NbdError;

/// The demo's volume.
pub const VOLUME: &str = "demo";

/// The demo's key.
pub const KEY: &str = "alias/demo";

/// Why the story could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The daemon, or what it needs, failed.
    #[error(transparent)]
    Scene(#[from] SceneError),
    /// The NBD connection failed.
    #[error("NBD: {0}")]
    Nbd(#[from] NbdError),
}

impl From<ClientError> for DemoError {
    fn from(error: ClientError) -> Self {
        Self::Scene(error.into())
    }
}

/// Where the demo runs.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The program to run as the daemon.
    pub program: PathBuf,
    /// Where the temporary directory is made.
    pub parent: PathBuf,
}

/// The steps after which the hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The volume is attached.
    Attached,
    /// The first part is written and flushed.
    Written,
    /// The key is disabled, the volume attached.
    Disabled,
    /// The volume is detached.
    Detached,
    /// An attach was refused; nobody else has been asked yet.
    Refused,
    /// The key is enabled and the volume attached again; nothing has been read yet.
    Reopened,
    /// Every byte was compared; the daemon is about to be restarted.
    Compared,
}

/// How it ended.
#[derive(Debug)]
pub struct Verdict {
    /// What was asked and what held.
    pub rows: Vec<Row>,
    /// Why the story ended before its end, where it did.
    pub stopped: Option<DemoError>,
    /// How long it took.
    pub took: Duration,
}

impl Verdict {
    /// Whether all of it held.
    pub fn held(&self) -> bool {
        self.stopped.is_none() && self.rows.iter().all(|row| row.held)
    }

    /// 0 only if all of it held.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.held())
    }
}

/// Runs the whole scenario; `hook` is called after each step.
pub fn run(stage: &Stage, narrator: &mut Narrator, hook: &mut dyn FnMut(Step, &Scene)) -> Verdict {
    let started = Instant::now();
    let mut observed = Observations::default();
    let stopped = Scene::set(&stage.program, &stage.parent, "demo")
        .map_err(DemoError::from)
        .and_then(|scene| Story::new(scene, &mut observed, narrator, hook).tell())
        .err();
    Verdict { rows: observed.rows(), stopped, took: started.elapsed() }
}

/// `envol demo`.
pub(super) fn command(global: &Global) -> Result<u8, CliError> {
    let console = Console::new(global.json);
    outlive_interrupts();
    let program = std::env::current_exe().map_err(CliError::Program)?;
    let parent = global.state_dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut narrator = if console.is_json() { Narrator::silent() } else { Narrator::aloud() };
    let verdict = run(&Stage { program, parent }, &mut narrator, &mut |_, _| {});
    let shown = console.answer(&verdict.rows, |_| page(&verdict));
    if let Some(stopped) = &verdict.stopped {
        console.note(&format!("envol: the demo stopped: {stopped}"));
    }
    match shown {
        Err(error) if verdict.held() => Err(error),
        _ => Ok(verdict.exit_code()),
    }
}

/// Has a Ctrl-C end the daemon alone, which the terminal sends it too: the story ends for want of it, and everything is
/// cleared away as after any other failure. (A blocked signal would stay blocked in the daemon; a handled one does not.)
fn outlive_interrupts() {
    let Ok(runtime) = Builder::new_current_thread().enable_io().build() else { return };
    let _entered = runtime.enter();
    // The handler, once there, stays for as long as the process lives. Where it cannot be had, a Ctrl-C leaves a
    // directory behind, no more.
    let _ = signal(SignalKind::interrupt());
}

/// The final table, and the sum under it.
fn page(verdict: &Verdict) -> String {
    let mut table = Table::headed(&["", "What was asked", "What was found"]);
    for row in &verdict.rows {
        let mark = if row.held { Cell::painted("held", Paint::Good) } else { Cell::painted("FAILED", Paint::Failure) };
        table.row(vec![mark, Cell::new(row.asked), Cell::new(&row.found)]);
    }
    let count = verdict.rows.len();
    let held = verdict.rows.iter().filter(|row| row.held).count();
    let seconds = verdict.took.as_secs_f64();
    let paint = if verdict.held() { Paint::Good } else { Paint::Failure };
    format!("\n{}\n{}\n", table.render(), paint.text(format!("{held} of {count} held, in {seconds:.1} s.")))
}
