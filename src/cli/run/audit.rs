//! `envol audit`.

use jiff::Timestamp;
use serde_json::Value;

use super::Session;
use crate::cli::args::{AuditCommand, AuditListArgs};
use crate::cli::error::CliError;
use crate::cli::render::{audit_card, audit_list};
use crate::cli::route::{query, route};
use crate::control::api;

pub(super) fn run(session: &Session, command: AuditCommand) -> Result<(), CliError> {
    let console = session.console;
    match command {
        AuditCommand::List(args) => {
            let path = route(&["audit"]) + &asked(args);
            let (records, unreadable): (Vec<Value>, _) =
                session.client.get_with_header(&path, api::UNREADABLE_LINES)?;
            if let Some(lines) = unreadable.filter(|lines| lines != "0") {
                console.note(&format!(
                    "warning: lines of the audit log that are no records, and were passed over: {lines}"
                ));
            }
            console.answer(&records, |records| audit_list(records))
        }
        AuditCommand::Show(args) => {
            let record: Value = session.client.get(&route(&["audit", &args.id]))?;
            console.answer(&record, audit_card)
        }
        AuditCommand::Verify(_) | AuditCommand::VerifyKey(_) => unreachable!("they have a way of their own"),
    }
}

fn asked(args: AuditListArgs) -> String {
    let now = Timestamp::now();
    let pairs = [
        ("key", args.key),
        ("principal", args.principal),
        ("volume", args.volume),
        ("since", args.since.map(|since| since.time(now).to_string())),
        ("until", args.until.map(|until| until.time(now).to_string())),
        ("limit", Some(args.limit.to_string())),
    ];
    query(pairs.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))))
}
