//! The evaluator of policies, by itself: what is a policy, what it decides, and that others decide the same.

mod decisions;
mod documents;
mod naive;
mod oracle;
mod source;

use std::collections::BTreeMap;

use envol::policy::{Context, Decision, Document, Grant, Kind, Named, Policies, Request, Who, decide};

pub(crate) const ACCOUNT: &str = "111122223333";
pub(crate) const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
pub(crate) const ALICE: &str = "arn:aws:iam::111122223333:user/alice";

/// The policy that hands a key to its account.
pub(crate) const DEFAULT: &str = r#"{"Version":"2012-10-17","Id":"key-default-1","Statement":[{"Sid":"Enable IAM User Permissions",
    "Effect":"Allow","Principal":{"AWS":"arn:aws:iam::111122223333:root"},"Action":"kms:*","Resource":"*"}]}"#;

/// What is asked, and what there is to decide by; a key's policy where one is given.
#[derive(Clone)]
pub(crate) struct Case<'a> {
    pub(crate) who: &'a str,
    pub(crate) action: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) context: Context,
    pub(crate) pairs: BTreeMap<String, String>,
    pub(crate) key: Option<&'a str>,
    pub(crate) own: Vec<&'a str>,
    pub(crate) session: Option<&'a str>,
    pub(crate) grants: Vec<Grant>,
}

impl Default for Case<'_> {
    fn default() -> Self {
        Self {
            who: ALICE,
            action: "kms:Decrypt",
            resource: KEY,
            context: Context::default(),
            pairs: BTreeMap::new(),
            key: Some(DEFAULT),
            own: Vec::new(),
            session: None,
            grants: Vec::new(),
        }
    }
}

impl Case<'_> {
    pub(crate) fn decision(&self) -> Decision {
        let read = |text: &str, kind| Document::read(text, kind).unwrap_or_else(|error| panic!("{text}: {error}"));
        let who = Who::named(self.who).expect("a principal");
        let key = self.key.map(|text| read(text, Kind::Key));
        let own: Vec<Document> = self.own.iter().map(|text| read(text, Kind::Identity)).collect();
        let own: Vec<Named<'_>> = own.iter().map(|document| Named { name: "own", document }).collect();
        let session = self.session.map(|text| read(text, Kind::Identity));
        let (action, resource) = (self.action, self.resource);
        let request = Request { who: &who, action, resource, context: &self.context, pairs: &self.pairs };
        decide(
            &request,
            &Policies {
                key: key.as_ref().map(|document| (document, ACCOUNT)),
                identity: &own,
                session: session.as_ref(),
                grants: &self.grants,
            },
        )
    }

    pub(crate) fn allowed(&self) -> bool {
        self.decision().allowed
    }
}

/// A policy of an identity with one statement.
pub(crate) fn own(effect: &str, action: &str, rest: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":"{action}","Resource":"*"{rest}}}]}}"#
    )
}

/// A key's policy with one statement.
pub(crate) fn of_key(effect: &str, principal: &str, rest: &str) -> String {
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Principal":{{"AWS":"{principal}"}},"Action":"kms:*","Resource":"*"{rest}}}]}}"#
    )
}
