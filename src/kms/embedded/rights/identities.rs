//! Identities: accounts with their users, groups and roles, and the policies of each, from one document.
//!
//! ```json
//! { "accounts": { "111122223333": {
//!     "users":  { "alice": { "groups": ["volumes"], "policies": { "own": { POLICY } }, "tags": { "team": "red" } } },
//!     "groups": { "volumes": { "policies": { "use": { POLICY } } } },
//!     "roles":  { "app": { "trust": { POLICY }, "policies": {}, "tags": {}, "max_session_seconds": 3600 } } } } }
//! ```
//! All but the names may be left out. The document is read whole or refused, so whatever stands in it counts. Each account
//! has a root without being listed. Access keys are elsewhere (`access_keys`): a user who has one and is not listed has no
//! policies.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::limits;
use crate::policy::{self, Document, Kind, Malformed, Who};
use crate::sync::Arc;

/// A document of identities that is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadIdentities {
    /// It is too long.
    #[error("it is longer than {most} bytes", most = limits::IDENTITIES_MAX)]
    TooLong,
    /// It is no JSON, or has a name twice.
    #[error("{0}")]
    Json(Malformed),
    /// Members that are not known, or of another type.
    #[error("{0}")]
    Shape(String),
    /// An account that is not twelve digits.
    #[error("the account {0:?} is not twelve digits")]
    Account(String),
    /// A name that no user, group or role can have.
    #[error("the name {0:?} is not 1 to 64 of A-Z a-z 0-9 _+=,.@-, or it is root")]
    Name(String),
    /// A group that is not there.
    #[error("the user {user} is in the group {group}, which is not there")]
    Group {
        /// The user's ARN.
        user: String,
        /// The group's name.
        group: String,
    },
    /// A policy.
    #[error("the policy {name} of {of}: {malformed}")]
    Policy {
        /// Whose it is.
        of: String,
        /// Its name.
        name: String,
        /// What is wrong with it.
        malformed: Box<Malformed>,
    },
    /// A session that AWS would not let last so long.
    #[error("max_session_seconds of {0} is not between 3600 and 43200")]
    Duration(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    accounts: BTreeMap<String, Account>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Account {
    #[serde(default)]
    users: BTreeMap<String, User>,
    #[serde(default)]
    groups: BTreeMap<String, Group>,
    #[serde(default)]
    roles: BTreeMap<String, RoleEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    policies: BTreeMap<String, Value>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(default)]
    policies: BTreeMap<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleEntry {
    trust: Value,
    #[serde(default)]
    policies: BTreeMap<String, Value>,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default = "hour")]
    max_session_seconds: u32,
}

fn hour() -> u32 {
    *limits::SESSION_SECONDS_MOST.start()
}

/// The identities, read.
#[derive(Debug, Default)]
pub(in crate::kms::embedded) struct Identities {
    /// By the ARN of the user or role.
    bearers: BTreeMap<String, Bearer>,
    /// Since when each role has been there, by its ARN.
    since: BTreeMap<String, Timestamp>,
}

/// A user or a role.
#[derive(Debug, Default)]
pub(in crate::kms::embedded) struct Bearer {
    /// Its policies, those of its groups with them, each with a name for people.
    pub(in crate::kms::embedded) policies: Vec<(String, Arc<Document>)>,
    pub(in crate::kms::embedded) tags: BTreeMap<String, String>,
    pub(in crate::kms::embedded) role: Option<Role>,
}

/// What only a role has.
#[derive(Debug)]
pub(in crate::kms::embedded) struct Role {
    pub(in crate::kms::embedded) trust: Document,
    pub(in crate::kms::embedded) max_session_seconds: u32,
}

/// The policies of a group, each with a name for people.
type Named = Vec<(String, Arc<Document>)>;

impl Identities {
    /// Reads the document.
    pub(in crate::kms::embedded) fn read(text: &str) -> Result<Self, BadIdentities> {
        if text.len() > limits::IDENTITIES_MAX {
            return Err(BadIdentities::TooLong);
        }
        let value = policy::read_json(text).map_err(BadIdentities::Json)?;
        let file: File = serde_json::from_value(value).map_err(|error| BadIdentities::Shape(error.to_string()))?;
        let mut bearers = BTreeMap::new();
        for (account, entry) in file.accounts {
            if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(BadIdentities::Account(account));
            }
            read_account(&account, entry, &mut bearers)?;
        }
        Ok(Self { bearers, since: BTreeMap::new() })
    }

    /// Notes since when each role has been there: as in `before`, or else from `now` on.
    pub(in crate::kms::embedded) fn go_on_from(&mut self, before: &BTreeMap<String, Timestamp>, now: Timestamp) {
        let roles = self.bearers.iter().filter(|(_, bearer)| bearer.role.is_some()).map(|(arn, _)| arn);
        self.since = roles.map(|arn| (arn.clone(), before.get(arn).copied().unwrap_or(now))).collect();
    }

    /// Since when each role has been there.
    pub(in crate::kms::embedded) fn since(&self) -> &BTreeMap<String, Timestamp> {
        &self.since
    }

    /// Whether the role of `who` has been there from `then` on: one that was taken out and comes back is another.
    pub(in crate::kms::embedded) fn has_been_there(&self, who: &Who, then: Timestamp) -> bool {
        self.role(who.arn()).is_some() && self.since.get(who.arn()).is_some_and(|since| *since <= then)
    }

    /// The user, or the role of the session.
    pub(in crate::kms::embedded) fn bearer(&self, who: &Who) -> Option<&Bearer> {
        self.bearers.get(who.arn())
    }

    /// The role with that ARN.
    pub(in crate::kms::embedded) fn role(&self, arn: &str) -> Option<&Role> {
        self.bearers.get(arn).and_then(|bearer| bearer.role.as_ref())
    }

    /// Whether a policy of anybody asks for the condition key, which is in lower case.
    pub(in crate::kms::embedded) fn asks_for(&self, who: &Who, key: &str) -> bool {
        self.bearer(who).is_some_and(|bearer| bearer.policies.iter().any(|(_, document)| document.asks_for(key)))
    }
}

fn read_account(account: &str, entry: Account, bearers: &mut BTreeMap<String, Bearer>) -> Result<(), BadIdentities> {
    let mut groups: BTreeMap<String, Named> = BTreeMap::new();
    for (name, group) in entry.groups {
        judge_name(&name)?;
        let policies = read_policies(&format!("group {name}"), group.policies)?;
        groups.insert(name, policies);
    }
    for (name, user) in entry.users {
        judge_name(&name)?;
        let arn = format!("arn:aws:iam::{account}:user/{name}");
        let mut policies = read_policies(&format!("user {name}"), user.policies)?;
        for group in user.groups {
            match groups.get(&group) {
                Some(of_group) => policies.extend(of_group.iter().cloned()),
                None => return Err(BadIdentities::Group { user: arn, group }),
            }
        }
        bearers.insert(arn, Bearer { policies, tags: user.tags, role: None });
    }
    for (name, role) in entry.roles {
        judge_name(&name)?;
        let arn = format!("arn:aws:iam::{account}:role/{name}");
        let of = format!("role {name}");
        let trust = read_policy(&of, "trust", &role.trust, Kind::Trust)?;
        if !limits::SESSION_SECONDS_MOST.contains(&role.max_session_seconds) {
            return Err(BadIdentities::Duration(of));
        }
        let policies = read_policies(&of, role.policies)?;
        let own = Role { trust, max_session_seconds: role.max_session_seconds };
        bearers.insert(arn, Bearer { policies, tags: role.tags, role: Some(own) });
    }
    Ok(())
}

fn read_policies(of: &str, policies: BTreeMap<String, Value>) -> Result<Named, BadIdentities> {
    let read = |(name, value): (String, Value)| {
        let document = read_policy(of, &name, &value, Kind::Identity)?;
        Ok((format!("policy {name} of {of}"), Arc::new(document)))
    };
    policies.into_iter().map(read).collect()
}

fn read_policy(of: &str, name: &str, value: &Value, kind: Kind) -> Result<Document, BadIdentities> {
    Document::read(&value.to_string(), kind).map_err(|malformed| BadIdentities::Policy {
        of: of.to_owned(),
        name: name.to_owned(),
        malformed: Box::new(malformed),
    })
}

fn judge_name(name: &str) -> Result<(), BadIdentities> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    let may_be = (1..=limits::USER_NAME_MAX).contains(&name.len()) && name.bytes().all(letter) && name != "root";
    if may_be { Ok(()) } else { Err(BadIdentities::Name(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOW: &str =
        r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}}"#;
    const TRUST: &str =
        r#"{"Statement":{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"sts:AssumeRole"}}"#;

    fn of_account(inside: &str) -> Result<Identities, BadIdentities> {
        Identities::read(&format!(r#"{{"accounts":{{"111122223333":{inside}}}}}"#))
    }

    #[test]
    fn a_user_has_the_policies_of_their_groups_as_well() {
        let read = of_account(&format!(
            r#"{{"users":{{"alice":{{"groups":["all"],"policies":{{"own":{ALLOW}}},"tags":{{"team":"red"}}}}}},
                "groups":{{"all":{{"policies":{{"use":{ALLOW}}}}}}},
                "roles":{{"app":{{"trust":{TRUST},"max_session_seconds":7200}}}}}}"#
        ))
        .expect("identities");
        let alice = read.bearer(&Who::named("arn:aws:iam::111122223333:user/alice").expect("a user")).expect("there");
        let names: Vec<&str> = alice.policies.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["policy own of user alice", "policy use of group all"]);
        let session = Who::named("arn:aws:sts::111122223333:assumed-role/app/one").expect("a session");
        assert!(read.bearer(&session).is_some_and(|bearer| bearer.role.is_some()));
        assert_eq!(read.role("arn:aws:iam::111122223333:role/app").map(|role| role.max_session_seconds), Some(7200));
    }

    #[test]
    fn what_would_not_count_is_refused() {
        assert!(matches!(Identities::read("{"), Err(BadIdentities::Json(_))));
        assert!(matches!(Identities::read(r#"{"account":{}}"#), Err(BadIdentities::Shape(_))));
        assert!(matches!(Identities::read(r#"{"accounts":{"1":{}}}"#), Err(BadIdentities::Account(_))));
        for (inside, expected) in [
            (r#"{"users":{"a/b":{}}}"#, "the name \"a/b\""),
            (r#"{"users":{"root":{}}}"#, "the name \"root\""),
            (r#"{"users":{"a":{"groups":["g"]}}}"#, "the user arn:aws:iam::111122223333:user/a is in the group g"),
            (r#"{"users":{"a":{"policies":{"p":{}}}}}"#, "the policy p of user a"),
            (r#"{"users":{"a":{"password":"x"}}}"#, "unknown field"),
            (r#"{"roles":{"r":{"trust":{}}}}"#, "the policy trust of role r"),
            (r#"{"users":{"a":{}},"users":{}}"#, "The policy is not valid JSON"),
        ] {
            let told = of_account(inside).expect_err("refused").to_string();
            assert!(told.starts_with(expected), "{told}");
        }
        let long = of_account(&format!(r#"{{"roles":{{"r":{{"trust":{TRUST},"max_session_seconds":1}}}}}}"#));
        assert!(matches!(long, Err(BadIdentities::Duration(_))));
    }
}
