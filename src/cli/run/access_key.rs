//! `envol kms access-key`.

use serde::de::IgnoredAny;
use serde_json::json;

use super::{Nothing, Session};
use crate::cli::args::AccessKeyCommand;
use crate::cli::error::CliError;
use crate::cli::render::{access_key_card, access_key_list};
use crate::cli::route::route;
use crate::control::api::{AccessKey, CreateAccessKey, NewAccessKey};

pub(super) fn run(session: &Session, command: AccessKeyCommand) -> Result<(), CliError> {
    let console = session.console;
    match command {
        AccessKeyCommand::Create(args) => {
            let body = CreateAccessKey { user: args.user };
            let key: NewAccessKey = session.client.send("POST", &route(&["access-keys"]), &body)?;
            console.answer(&key, access_key_card)
        }
        AccessKeyCommand::List => {
            let keys: Vec<AccessKey> = session.client.get(&route(&["access-keys"]))?;
            console.answer(&keys, |keys| access_key_list(keys))
        }
        AccessKeyCommand::Delete(args) => {
            let IgnoredAny = session.client.send("DELETE", &route(&["access-keys", &args.id]), &Nothing {})?;
            let gone = json!({ "access_key_id": args.id });
            console.answer(&gone, |_| format!("the access key {} is deleted\n", args.id))
        }
    }
}
