//! `envol attach` and `envol detach`.

use super::Session;
use crate::cli::args::{AttachArgs, DetachArgs};
use crate::cli::error::CliError;
use crate::cli::render::{attach_hints, describe};
use crate::cli::route::route;
use crate::control::api::{Attach, Attachment, Detach, Volume};

pub(super) fn attach(session: &Session, args: &AttachArgs) -> Result<(), CliError> {
    let path = route(&["volumes", &args.volume, "attach"]);
    let &AttachArgs { read_only, direct, dry_run, accept_rollback, .. } = args;
    let body = Attach { read_only, direct, dry_run, accept_rollback };
    if args.dry_run {
        let volume: Volume = session.client.send("POST", &path, &body)?;
        return session.console.answer(&volume, |volume| format!("{} would be attached now\n", describe(volume)));
    }
    let attachment: Attachment = session.client.send("POST", &path, &body)?;
    session.console.answer(&attachment, |attachment| attachment.uri.clone())?;
    session.console.hint(&attach_hints(&attachment));
    Ok(())
}

pub(super) fn detach(session: &Session, args: &DetachArgs) -> Result<(), CliError> {
    let path = route(&["volumes", &args.volume, "detach"]);
    let volume: Volume = session.client.send("POST", &path, &Detach { force: args.force })?;
    session.console.answer(&volume, |volume| format!("{} is detached; its data key is wiped\n", describe(volume)))
}
