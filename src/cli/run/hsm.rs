//! `envol kms zeroize` and `initialise`.

use super::{Nothing, Session};
use crate::cli::args::ZeroizeArgs;
use crate::cli::confirm::Asker;
use crate::cli::error::CliError;
use crate::cli::render::hsm_line;
use crate::cli::route::route;
use crate::control::api::{Hsm, Status};

pub(super) fn zeroize(session: &Session, args: &ZeroizeArgs) -> Result<(), CliError> {
    let asker = Asker::new("kms zeroize", args.yes)?;
    if !args.yes {
        let status: Status = session.client.get(&route(&["status"]))?;
        session.console.note(&what_is_lost(&status));
    }
    asker.ask("Zeroize the HSM?")?;
    let hsm: Hsm = session.client.send("POST", &route(&["kms", "zeroize"]), &Nothing {})?;
    session.console.answer(&hsm, hsm_line)
}

pub(super) fn initialise(session: &Session) -> Result<(), CliError> {
    let hsm: Hsm = session.client.send("POST", &route(&["kms", "initialise"]), &Nothing {})?;
    session.console.answer(&hsm, hsm_line)
}

fn what_is_lost(status: &Status) -> String {
    format!(
        "{} keys can no longer be used, and {} volumes no longer be attached. The domain key comes from {}: if that is a \
         file, it is destroyed, and without a copy of it all of them are lost for ever.",
        status.keys.len(),
        status.volumes.len(),
        status.hsm.domain_key
    )
}
