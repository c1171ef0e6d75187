//! Decisions against a second evaluator, which knows no conditions and is written as the rules are told, one sentence after
//! the other, with no thought for how long it takes.

use std::collections::BTreeMap;

use envol::policy::Grant;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{ACCOUNT, Case};

const ROOT: &str = "arn:aws:iam::111122223333:root";
const ALICE: &str = "arn:aws:iam::111122223333:user/alice";
const ROLE: &str = "arn:aws:iam::111122223333:role/app";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/app/one";
const STRANGER: &str = "arn:aws:iam::999999999999:user/mallory";
const STRANGERS: &str = "arn:aws:iam::999999999999:root";

const CALLERS: &[&str] = &[ROOT, ALICE, SESSION, STRANGER, STRANGERS];
const NAMED: &[&str] = &["*", ROOT, ALICE, ROLE, SESSION, STRANGER, STRANGERS];
const ACTIONS: &[&str] = &["kms:Encrypt", "kms:Decrypt"];

/// A statement without conditions about every resource.
#[derive(Debug, Clone)]
struct Plain {
    allows: bool,
    /// Whom it names; in an own policy it does not count.
    named: &'static str,
    action: &'static str,
}

impl Plain {
    fn is_about(&self, action: &str) -> bool {
        self.action == "kms:*" || self.action == action
    }

    fn written(&self, of_key: bool) -> Value {
        let effect = if self.allows { "Allow" } else { "Deny" };
        let mut statement = json!({ "Effect": effect, "Action": self.action, "Resource": "*" });
        if of_key {
            statement["Principal"] = json!({ "AWS": self.named });
        }
        statement
    }
}

fn account_of(arn: &str) -> &str {
    arn.split(':').nth(4).expect("an ARN")
}

/// What a caller is called beside by their account.
fn own_names(who: &str) -> Vec<&str> {
    if who == SESSION { vec![SESSION, ROLE] } else { vec![who] }
}

/// How directly `named` is `who`: 3 as a session, 2 as themselves, 1 by the account, 0 not at all.
fn directness(named: &str, who: &str) -> u8 {
    match named {
        "*" => 2,
        named if named == who && who == SESSION => 3,
        named if own_names(who).contains(&named) => 2,
        named if named.ends_with(":root") && account_of(named) == account_of(who) => 1,
        _ => 0,
    }
}

fn expected(
    who: &str,
    action: &str,
    (key, own, session): (&[Plain], &[Plain], Option<&[Plain]>),
    grants: &[(&str, &str)],
) -> bool {
    let denies = |statements: &[Plain]| statements.iter().any(|one| !one.allows && one.is_about(action));
    if key.iter().any(|one| !one.allows && one.is_about(action) && directness(one.named, who) > 0) {
        return false;
    }
    if denies(own) || session.is_some_and(denies) {
        return false;
    }
    let allows = |statements: &[Plain]| statements.iter().any(|one| one.allows && one.is_about(action));
    let own_allow = who.ends_with(":root") || allows(own);
    let session_allows = session.is_none_or(allows);
    let by_key = key.iter().filter(|one| one.allows && one.is_about(action)).map(|one| directness(one.named, who));
    let by_key = by_key.max().unwrap_or(0);
    let given = grants.iter().filter(|(_, operation)| action == format!("kms:{operation}"));
    let by_grant = given.map(|(grantee, _)| directness(grantee, who)).max().unwrap_or(0);
    let same_account = account_of(who) == ACCOUNT;
    let direct = |directness: u8| directness == 3 || (directness == 2 && session_allows);
    let through_the_account = (by_key > 0 || by_grant > 0) && own_allow && session_allows;
    direct(by_grant) || (same_account && direct(by_key)) || through_the_account
}

fn plain() -> impl Strategy<Value = Plain> {
    let action = prop::sample::select(&["kms:*", "kms:Encrypt", "kms:Decrypt"][..]);
    let allows = prop_oneof![4 => Just(true), 1 => Just(false)];
    (allows, prop::sample::select(NAMED), action).prop_map(|(allows, named, action)| Plain { allows, named, action })
}

fn policy(statements: &[Plain], of_key: bool) -> String {
    let statements: Vec<Value> = statements.iter().map(|one| one.written(of_key)).collect();
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn decisions_are_those_of_the_rules_as_they_are_told(
        who in prop::sample::select(CALLERS),
        action in prop::sample::select(ACTIONS),
        key in vec(plain(), 1..4),
        own in vec(plain(), 0..3),
        session in prop::option::of(vec(plain(), 1..3)),
        grants in vec((prop::sample::select(&NAMED[1..]), prop::sample::select(&["Encrypt", "Decrypt"][..])), 0..3),
    ) {
        let of_key = policy(&key, true);
        let of_own = (!own.is_empty()).then(|| policy(&own, false));
        let of_session = session.as_ref().map(|statements| policy(statements, false));
        let given = |(grantee, operation): &(&str, &str)| {
            Grant::new("g".to_owned(), grantee, vec![(*operation).to_owned()], None).expect("a grant")
        };
        let case = Case {
            who,
            action,
            key: Some(&of_key),
            own: of_own.iter().map(String::as_str).collect(),
            session: of_session.as_deref(),
            grants: grants.iter().map(given).collect(),
            pairs: BTreeMap::new(),
            ..Case::default()
        };
        let expected = expected(who, action, (&key, &own, session.as_deref()), &grants);
        prop_assert_eq!(case.allowed(), expected, "{:?}", case.decision());
    }
}
