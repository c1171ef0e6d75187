//! The command line: words in, a call to the daemon, words out.
//!
//! Reaches the daemon only through [`crate::control::client`]; the demo also speaks NBD, as any client would,
//! and `bench` has `crate::bench` measure. `args`
//! owns the words, `run` what they mean, `render` how answers look, `demo` the scenario. Every command ends in an exit
//! code (product.md), decided in `error` alone.

pub mod args;
mod bench;
mod confirm;
pub mod demo;
mod error;
mod render;
mod route;
mod run;
mod scene;

use clap::Parser;

pub use args::{
    Cli, Command, DaemonArgs, Global, KmsBackupArgs, KmsCommand, LogFormat, SealDomainKeyArgs, ServeArgs, Task,
};
pub use bench::BenchFailure;
pub use error::CliError;

use crate::control::api::Problem;
use crate::doctor::Wanted;

/// Reads the words of this process.
///
/// # Errors
/// The exit code, once the usage error (or the help that was asked for) has been printed.
pub fn parse() -> Result<Cli, u8> {
    Cli::try_parse().map_err(|error| {
        let json = std::env::args_os().any(|word| word == "--json");
        render::usage(&error, json)
    })
}

/// Carries out `task` and gives the exit code.
pub fn run(global: &Global, task: Task) -> u8 {
    match run::task(global, task) {
        Ok(code) => code,
        Err(error) if error.reader_has_gone() => 0,
        Err(error) => fail(global, &error.problem()),
    }
}

/// Examines the machine for a daemon that is told `wanted`, and gives the exit code.
pub fn doctor(global: &Global, wanted: &Wanted) -> u8 {
    match run::doctor(global, wanted) {
        Ok(code) => code,
        Err(error) if error.reader_has_gone() => 0,
        Err(error) => fail(global, &error.problem()),
    }
}

/// Prints `document`, or `text` that says the same, and gives the exit code.
pub fn tell(global: &Global, document: &impl serde::Serialize, text: &str) -> u8 {
    match render::Console::new(global.json).answer(document, |_| text.to_owned()) {
        Ok(()) => 0,
        Err(error) if error.reader_has_gone() => 0,
        Err(error) => fail(global, &error.problem()),
    }
}

/// Prints `problem` and gives its exit code.
pub fn fail(global: &Global, problem: &Problem) -> u8 {
    render::Console::new(global.json).problem(problem);
    problem.exit_code
}
