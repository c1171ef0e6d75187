//! `envol key` and `envol key alias`.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::IgnoredAny;
use serde_json::json;

use super::{Nothing, Session, iam};
use crate::cli::args::{AliasCommand, KeyCommand};
use crate::cli::confirm::Asker;
use crate::cli::error::CliError;
use crate::cli::render::{alias_list, doomed_volumes, key_card, key_list, key_state_line};
use crate::cli::route::route;
use crate::control::api::{
    Alias, CreateKey, ExplainRight, Key, PutAlias, RotateEvery, ScheduleDeletion, TagKey, UntagKey, Volume,
};

pub(super) fn run(session: &Session, command: KeyCommand) -> Result<(), CliError> {
    let console = session.console;
    match command {
        KeyCommand::Create(args) => {
            let tags = named_once(args.tags)?;
            let body = CreateKey {
                alias: args.alias,
                description: args.description,
                spec: args.spec,
                usage: args.usage,
                tags,
                policy: args.policy.as_deref().map(iam::read).transpose()?,
                bypass_lockout_check: args.bypass_lockout_check,
            };
            let key: Key = session.client.send("POST", &route(&["keys"]), &body)?;
            console.answer(&key, |key| key_card(key, &[]))
        }
        KeyCommand::List => {
            let keys: Vec<Key> = session.client.get(&route(&["keys"]))?;
            console.answer(&keys, |keys| key_list(keys))
        }
        KeyCommand::Show(args) => {
            let key = show(session, &args.key)?;
            // Their names are for people; and a KMS alone has no volumes to ask for.
            let named = !console.is_json() && !key.volumes.is_empty();
            let volumes: Vec<Volume> = if named { session.client.get(&route(&["volumes"]))? } else { Vec::new() };
            console.answer(&key, |key| key_card(key, &volumes))
        }
        KeyCommand::Enable(args) => change(session, &args.key, "enable", &Nothing {}),
        KeyCommand::Disable(args) => change(session, &args.key, "disable", &Nothing {}),
        KeyCommand::CancelDeletion(args) => change(session, &args.key, "cancel-deletion", &Nothing {}),
        KeyCommand::Rotate(args) => {
            if args.every.is_none() && !args.stop {
                return change_card(session, &args.key, "rotate", &Nothing {});
            }
            change_card(session, &args.key, "rotation", &RotateEvery { days: args.every })
        }
        KeyCommand::Tag(args) => change_card(session, &args.key, "tag", &TagKey { tags: named_once(args.tags)? }),
        KeyCommand::Untag(args) => change_card(session, &args.key, "untag", &UntagKey { tags: args.names }),
        KeyCommand::ScheduleDeletion(args) => schedule_deletion(session, &args.key, args.days, args.yes),
        KeyCommand::Policy(command) => iam::policy(session, command),
        KeyCommand::Explain(args) => {
            let context = named_once(args.context)?;
            iam::explain(
                session,
                &args.key,
                ExplainRight { principal: args.principal, action: args.action, context, alias: args.alias },
            )
        }
        KeyCommand::Alias(command) => alias(session, command),
    }
}

/// Tags, none of them twice.
fn named_once(tags: Vec<(String, String)>) -> Result<BTreeMap<String, String>, CliError> {
    let mut all = BTreeMap::new();
    for (name, value) in tags {
        if all.contains_key(&name) {
            return Err(CliError::TagTwice(name));
        }
        all.insert(name, value);
    }
    Ok(all)
}

fn change_card<B: Serialize>(session: &Session, key: &str, verb: &str, body: &B) -> Result<(), CliError> {
    let key: Key = session.client.send("POST", &route(&["keys", key, verb]), body)?;
    session.console.answer(&key, |key| key_card(key, &[]))
}

fn show(session: &Session, key: &str) -> Result<Key, CliError> {
    Ok(session.client.get(&route(&["keys", key]))?)
}

fn change<B: Serialize>(session: &Session, key: &str, verb: &str, body: &B) -> Result<(), CliError> {
    let key: Key = session.client.send("POST", &route(&["keys", key, verb]), body)?;
    session.console.answer(&key, key_state_line)
}

fn schedule_deletion(session: &Session, key: &str, days: u32, yes: bool) -> Result<(), CliError> {
    let asker = Asker::new("key schedule-deletion", yes)?;
    let found = show(session, key)?;
    let volumes: Vec<Volume> = session.client.get(&route(&["volumes"]))?;
    if !session.console.is_json() || !yes {
        session.console.note(&doomed_volumes(&found, &volumes));
    }
    asker.ask(&format!("Delete the key {} in {days} days?", found.key_id))?;
    change(session, key, "schedule-deletion", &ScheduleDeletion { days: Some(days) })
}

fn alias(session: &Session, command: AliasCommand) -> Result<(), CliError> {
    let console = session.console;
    match command {
        AliasCommand::Create(args) => {
            let body = PutAlias { name: args.name, target: args.key };
            let alias: Alias = session.client.send("POST", &route(&["aliases"]), &body)?;
            console.answer(&alias, alias_line)
        }
        AliasCommand::Update(args) => {
            let path = route(&["aliases", &args.name]);
            let alias: Alias = session.client.send("PUT", &path, &PutAlias { name: args.name, target: args.key })?;
            console.answer(&alias, alias_line)
        }
        AliasCommand::Delete(args) => {
            let IgnoredAny = session.client.send("DELETE", &route(&["aliases", &args.name]), &Nothing {})?;
            let gone = json!({ "name": args.name });
            console.answer(&gone, |_| format!("the alias {} is deleted; its key stays\n", args.name))
        }
        AliasCommand::List => {
            let aliases: Vec<Alias> = session.client.get(&route(&["aliases"]))?;
            console.answer(&aliases, |aliases| alias_list(aliases))
        }
    }
}

fn alias_line(alias: &Alias) -> String {
    format!("{} points to {}\n", alias.name, alias.target_key_id)
}
