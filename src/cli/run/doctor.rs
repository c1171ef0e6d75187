//! `envol doctor`.

use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crate::cli::args::Global;
use crate::cli::error::CliError;
use crate::cli::render::{Console, doctor_page};
use crate::cli::route::route;
use crate::control::api::Status;
use crate::control::client::{Client, ClientError};
use crate::doctor::{self, Check, Finding, Serving, State, Wanted};

/// How long a daemon may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(5);

/// How often it is looked whether it has.
const STEP: Duration = Duration::from_millis(5);

/// The exit code where envol misses something: usage or configuration.
const MISSING: u8 = 2;

pub(crate) fn doctor(global: &Global, wanted: &Wanted) -> Result<u8, CliError> {
    let (daemon, serving) = daemon(&wanted.socket);
    let mut findings = doctor::examine(wanted, serving.as_ref());
    findings.push(daemon);
    Console::new(global.json).answer(&findings, |findings| doctor_page(findings))?;
    let missing = findings.iter().any(|finding| finding.state == State::Missing);
    Ok(if missing { MISSING } else { 0 })
}

/// Whether a daemon answers at `socket`, and what it says.
fn daemon(socket: &Path) -> (Finding, Option<Serving>) {
    let (check, at) = (Check::Daemon, socket.display());
    let finding = match asked(socket.to_owned()) {
        Some(Ok(status)) => {
            let serving = Serving {
                pid: status.pid,
                state_dir: PathBuf::from(&status.state_dir),
                domain_key: status.hsm.domain_key.clone(),
                verify_key_here: status.verify_key_here,
            };
            return (running(&status), Some(serving));
        }
        Some(Err(ClientError::NoDaemon(_))) => {
            check.limited(format!("none answers at {at}")).remedy("start one: envol daemon, or systemctl start envol")
        }
        Some(Err(ClientError::NotPermitted(_))) => {
            check.limited(format!("this user may not ask at {at}")).remedy("run this as root, or as the daemon's user")
        }
        Some(Err(error)) => check
            .missing(format!("what answers at {at} is not understood: {error}"))
            .remedy("see that the program and the daemon are of one version"),
        None => check
            .missing(format!("what listens at {at} has not answered for {} s", PATIENCE.as_secs()))
            .remedy("see its log for what it waits for, and start it again"),
    };
    (finding, None)
}

fn running(status: &Status) -> Finding {
    let found = format!("version {} answers, process {}", status.version, status.pid);
    match status.version == env!("CARGO_PKG_VERSION") {
        true => Check::Daemon.fine(found),
        false => Check::Daemon
            .limited(format!("{found}; this program is version {}", env!("CARGO_PKG_VERSION")))
            .remedy("start the daemon again, to have one version of both"),
    }
}

/// Its status; `None` where it does not answer in time, and the thread that asks is left to end with this process.
fn asked(socket: PathBuf) -> Option<Result<Status, ClientError>> {
    let asking = thread::spawn(move || Client::new(socket).get(&route(&["status"])));
    for _ in 0..PATIENCE.as_millis() / STEP.as_millis() {
        if asking.is_finished() {
            break;
        }
        thread::sleep(STEP);
    }
    asking.is_finished().then(|| asking.join().expect("asking does not panic"))
}
