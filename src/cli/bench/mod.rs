//! `envol bench`: asks, sets the stage, has it measured with a bar on the way, and shows what came out.
//!
//! What is measured and how is `crate::bench`'s; here are the words, the daemon and the other servers (`stage`), the
//! table and the picture.

mod error;
mod interrupts;
mod picture;
mod stage;
mod table;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

pub use error::BenchFailure;

use self::interrupts::Interrupts;
use self::stage::{Peer, Stage};
use super::args::{BenchArgs, Global};
use super::confirm::Asker;
use super::error::CliError;
use super::render::Console;
use crate::bench::job::{Direction, JOBS};
use crate::bench::machine::{self, Machine};
use crate::bench::measure::{self, Plan};
use crate::bench::report::{Backing, Cipher, JobReport, Report, Settings};
use crate::bench::{BenchError, Job};
use crate::units::ByteCount;

/// How much data, how long each step, how many rounds: so that all of it takes less than a minute.
const USUAL: Extent = Extent { size: ByteCount::new(256 << 20), step: Duration::from_millis(250), rounds: 5 };

/// The same for `--quick`.
const QUICK: Extent = Extent { size: ByteCount::new(16 << 20), step: Duration::from_millis(5), rounds: 5 };

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Extent {
    size: ByteCount,
    step: Duration,
    rounds: u16,
}

impl Extent {
    fn of(args: &BenchArgs) -> Self {
        let usual = if args.quick { QUICK } else { USUAL };
        Self {
            size: args.size.unwrap_or(usual.size),
            step: args.seconds.unwrap_or(usual.step),
            rounds: args.rounds.unwrap_or(usual.rounds),
        }
    }
}

/// `envol bench`.
pub(super) fn command(global: &Global, args: &BenchArgs) -> Result<u8, CliError> {
    let console = Console::new(global.json);
    let extent = Extent::of(args);
    let overwrites = !args.read_only && !args.against.is_empty();
    let asker = if overwrites { Some(Asker::new("bench --against", args.yes)?) } else { None };
    if let Some(svg) = &args.svg {
        check_writable(svg)?;
    }
    let peers = args.against.iter().map(|against| Peer::look_at(against, args.read_only));
    let peers: Vec<Peer> = peers.collect::<Result<_, _>>()?;
    if let Some(asker) = asker {
        let all: Vec<String> = peers.iter().map(|peer| peer.describe(extent.size)).collect();
        asker.ask(&format!("Overwrite {}? What is there is lost.", all.join(", ")))?;
    }
    let interrupts = Interrupts::watch();
    let measured = measure(args, extent, &peers, &interrupts);
    let report = match (measured, interrupts.caught()) {
        (Ok(report), None) => report,
        (_, Some(signal)) => return Err(BenchFailure::Interrupted(signal).into()),
        (Err(failure), None) => return Err(failure.into()),
    };
    if let Some(svg) = &args.svg {
        let drawn = picture::draw(&report)?;
        fs::write(svg, drawn).map_err(|source| BenchFailure::Picture { path: svg.clone(), source })?;
        console.hint(&format!("The picture is in {}", svg.display()));
    }
    console.answer(&report, table::page)?;
    Ok(0)
}

/// Fails before anything is measured where the picture could not be written afterwards.
fn check_writable(path: &Path) -> Result<(), BenchFailure> {
    let failed = |source| BenchFailure::Picture { path: path.to_owned(), source };
    if path.is_dir() {
        return Err(failed(io::ErrorKind::IsADirectory.into()));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let place = if path.exists() { path } else { parent };
    nix::unistd::access(place, nix::unistd::AccessFlags::W_OK).map_err(|errno| failed(errno.into()))
}

/// Sets the stage, measures, and clears everything away.
fn measure(args: &BenchArgs, extent: Extent, peers: &[Peer], interrupts: &Interrupts) -> Result<Report, BenchFailure> {
    let time = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let go_on = || interrupts.none();
    let bar = progress_bar();
    bar.set_message("filling and verifying");
    let parent = args.dir.clone().unwrap_or_else(std::env::temp_dir);
    let mut stage = Stage::set(&parent, extent.size, peers, args.read_only, &go_on)?;
    let jobs: Vec<Job> = JOBS.into_iter().filter(|job| !args.read_only || job.direction == Direction::Read).collect();
    let plan = Plan { rounds: extent.rounds.into(), step: extent.step };
    let before = stage.ladder.in_memory();
    let series = measure::run(&mut stage.rungs, &jobs, plan, &mut |turn| {
        bar.set_length(turn.of as u64);
        bar.set_position(turn.done as u64);
        bar.set_message(turn.job.title);
        go_on()
    })?;
    let after = stage.ladder.in_memory();
    bar.set_message("verifying again");
    stage.check_again(peers, args.read_only, &go_on)?;
    bar.finish_and_clear();
    let jobs = jobs.iter().zip(&series).map(|(job, series)| JobReport::new(job, &stage.reports, series));
    Ok(Report {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        time,
        machine: Machine::this(),
        cipher: Cipher::this()?,
        backing: backing(&parent, extent.size, before.zip(after).map(|(before, after)| before.min(after))),
        settings: Settings { rounds: plan.rounds, seconds: plan.step.as_secs_f64(), read_only: args.read_only },
        jobs: jobs.collect(),
        rungs: stage.reports.clone(),
    })
}

fn backing(dir: &Path, size: ByteCount, in_page_cache: Option<f64>) -> Backing {
    let absolute: PathBuf = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    Backing {
        directory: absolute.display().to_string(),
        file_system: machine::file_system(dir),
        size: size.get(),
        in_page_cache,
    }
}

/// Draws nothing unless stderr is a terminal.
fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::no_length();
    let template = "{msg:32} [{wide_bar}] {percent}% {eta}";
    bar.set_style(ProgressStyle::with_template(template).expect("the template is well-formed").progress_chars("=> "));
    bar
}

impl From<BenchError> for CliError {
    fn from(error: BenchError) -> Self {
        BenchFailure::from(error).into()
    }
}
