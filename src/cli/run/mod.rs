//! What each command means: which call it makes, what it asks first, how its answer is shown.

mod access_key;
mod attach;
mod audit;
mod audit_verify;
mod doctor;
mod header;
mod hsm;
mod iam;
mod key;
mod status;
mod volume;
mod words;

use serde::Serialize;

pub(super) use doctor::doctor;

use super::args::{AuditCommand, Global, Task};
use super::error::CliError;
use super::render::Console;
use super::{bench, demo};
use crate::control::client::Client;
use crate::places;

/// The body of a request that says nothing.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Nothing {}

/// Where a command asks, and where it answers.
struct Session {
    client: Client,
    console: Console,
}

/// Carries `task` out and gives the exit code of what was done.
pub(super) fn task(global: &Global, task: Task) -> Result<u8, CliError> {
    let session = || {
        let socket = global.socket.clone().or_else(places::default_control_socket).ok_or(CliError::NoDirectory)?;
        Ok::<_, CliError>(Session { client: Client::new(socket), console: Console::new(global.json) })
    };
    match task {
        Task::AccessKey(command) => access_key::run(&session()?, command),
        Task::Zeroize(args) => hsm::zeroize(&session()?, &args),
        Task::Initialise => hsm::initialise(&session()?),
        Task::Key(command) => key::run(&session()?, command),
        Task::Iam(command) => iam::run(&session()?, command),
        Task::Volume(command) => volume::run(&session()?, command),
        Task::Attach(args) => attach::attach(&session()?, &args),
        Task::Detach(args) => attach::detach(&session()?, &args),
        Task::Status => status::status(&session()?),
        Task::Events(args) => status::events(&session()?, &args),
        Task::Audit(AuditCommand::Verify(args)) => audit_verify::verify(global, &args),
        Task::Audit(AuditCommand::VerifyKey(args)) => audit_verify::write_key(&session()?, &args),
        Task::Audit(command) => audit::run(&session()?, command),
        Task::Demo => return demo::command(global),
        Task::Bench(args) => return bench::command(global, &args),
        Task::Completions(args) => words::completions(Console::new(global.json), &args),
        Task::Man(args) => words::man(Console::new(global.json), &args),
    }?;
    Ok(0)
}
