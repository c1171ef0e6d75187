//! `envol iam` and `envol key policy`.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{self, Command};

use serde::de::IgnoredAny;
use serde_json::{Value, json};

use super::Session;
use crate::cli::args::{IamCommand, PolicyCommand};
use crate::cli::error::CliError;
use crate::cli::render::{explained_card, identity_list};
use crate::cli::route::route;
use crate::control::api::{ExplainRight, ExplainedRight, Identities, KeyPolicy, PutKeyPolicy};
use crate::limits;

/// What edits where nobody says.
const EDITOR: &str = "vi";

pub(super) fn run(session: &Session, command: IamCommand) -> Result<(), CliError> {
    let console = session.console;
    match command {
        IamCommand::Show => {
            let identities: Identities = session.client.get(&route(&["identities"]))?;
            console.answer(&parsed(&identities.document), |_| with_line_end(&identities.document))
        }
        IamCommand::Put(args) => {
            let document = read(&args.file)?;
            let IgnoredAny =
                session.client.send("POST", &route(&["identities"]), &Identities { document: document.clone() })?;
            console.answer(&parsed(&document), |_| "the identities are replaced\n".to_owned())
        }
        IamCommand::List => {
            let identities: Identities = session.client.get(&route(&["identities"]))?;
            let listed = listed(&parsed(&identities.document));
            console.answer(&listed, |listed| identity_list(listed))
        }
    }
}

/// A row of `iam list` for each user and role.
fn listed(document: &Value) -> Vec<Value> {
    let members = |value: &Value| value.as_object().cloned().into_iter().flatten().collect::<Vec<_>>();
    let names = |value: &Value| members(value).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
    let mut rows = Vec::new();
    for (account, entry) in members(&document["accounts"]) {
        for (kind, kinds) in [("user", "users"), ("role", "roles")] {
            for (name, entry) in members(&entry[kinds]) {
                let groups = if entry["groups"].is_array() { entry["groups"].clone() } else { json!([]) };
                rows.push(json!({
                    "arn": format!("arn:aws:iam::{account}:{kind}/{name}"),
                    "groups": groups,
                    "policies": names(&entry["policies"]),
                    "tags": if entry["tags"].is_object() { entry["tags"].clone() } else { json!({}) },
                }));
            }
        }
    }
    rows
}

pub(super) fn policy(session: &Session, command: PolicyCommand) -> Result<(), CliError> {
    let console = session.console;
    match command {
        PolicyCommand::Get(args) => {
            let policy = of_key(session, &args.key)?;
            console.answer(&parsed(&policy), |_| with_line_end(&policy))
        }
        PolicyCommand::Put(args) => put(session, &args.key, read(&args.file)?, args.bypass_lockout_check),
        PolicyCommand::Edit(args) => {
            let before = of_key(session, &args.key)?;
            let after = edited(&before)?;
            if after == before {
                return console.answer(&parsed(&after), |_| "the policy is as it was\n".to_owned());
            }
            put(session, &args.key, after, args.bypass_lockout_check)
        }
    }
}

pub(super) fn explain(session: &Session, key: &str, asked: ExplainRight) -> Result<(), CliError> {
    let explained: ExplainedRight = session.client.send("POST", &route(&["keys", key, "explain"]), &asked)?;
    session.console.answer(&explained, explained_card)
}

fn of_key(session: &Session, key: &str) -> Result<String, CliError> {
    let answer: KeyPolicy = session.client.get(&route(&["keys", key, "policy"]))?;
    Ok(answer.policy)
}

fn put(session: &Session, key: &str, policy: String, bypass_lockout_check: bool) -> Result<(), CliError> {
    let shown = parsed(&policy);
    let body = PutKeyPolicy { policy, bypass_lockout_check };
    let IgnoredAny = session.client.send("POST", &route(&["keys", key, "policy"]), &body)?;
    session.console.answer(&shown, |_| format!("the policy of {key} is replaced\n"))
}

/// What a document is as JSON; its text where it is none.
fn parsed(document: &str) -> Value {
    serde_json::from_str(document).unwrap_or_else(|_| document.into())
}

fn with_line_end(text: &str) -> String {
    if text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

/// The text of a file, or of the standard input.
pub(super) fn read(file: &str) -> Result<String, CliError> {
    let failed = |source| CliError::Document { file: file.to_owned(), source };
    let most = u64::try_from(limits::IDENTITIES_MAX).expect("a megabyte") + 1;
    let mut text = String::new();
    if file == "-" {
        io::stdin().take(most).read_to_string(&mut text).map_err(failed)?;
    } else {
        fs::File::open(file).and_then(|open| open.take(most).read_to_string(&mut text)).map_err(failed)?;
    }
    Ok(text)
}

/// `before` as the editor leaves it.
fn edited(before: &str) -> Result<String, CliError> {
    let failed = CliError::Editor;
    let name = format!("envol-policy-{}-{:016x}.json", process::id(), fastrand::u64(..));
    let place = Passing(env::temp_dir().join(name));
    let path = &place.0;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.write_all(before.as_bytes()).map_err(failed)?;
    drop(file);
    let editor = ["VISUAL", "EDITOR"].iter().find_map(|name| env::var(name).ok()).filter(|words| !words.is_empty());
    let editor = editor.unwrap_or_else(|| EDITOR.to_owned());
    let mut words = editor.split_whitespace();
    let program = words.next().unwrap_or(EDITOR);
    let status = Command::new(program).args(words).arg(path).status().map_err(failed)?;
    if !status.success() {
        return Err(failed(io::Error::other(format!("{program} ended with {status}"))));
    }
    fs::read_to_string(path).map_err(failed)
}

/// A file that is removed once it is not needed any more.
struct Passing(PathBuf);

impl Drop for Passing {
    fn drop(&mut self) {
        // Nobody is told: it holds no secret, and lies where files pass.
        let _ = fs::remove_file(&self.0);
    }
}
