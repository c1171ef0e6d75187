//! The decision: what policies and grants make of a request, and why.
//!
//! ```text
//! any Deny that applies, in whatever policy ............................................ refused
//! no key is concerned: the caller's own policies ....................................... must allow
//! the key's account:   its policy names the caller ..................................... allowed
//!                      its policy names the account, and the caller's own policies ..... both must allow
//!                      a grant gives it to the caller .................................. allowed
//! another account:     the key's policy, and the caller's own .......................... both must allow
//!                      a grant gives it to the caller .................................. allowed
//! the session has a policy of its own, unless the session itself is named .............. must allow as well
//! ```
//! Who may assume a role is decided likewise: its trust policy stands for the key's. An account's root has every right that its account can give, which a key's policy may not hand to the account.

use std::collections::BTreeMap;
use std::fmt;

use super::context::{Context, Side};
use super::document::{Asked, Document, Effect};
use super::grant::Grant;
use super::who::{Way, Who};

/// Of which service the operations of grants are.
const SERVICE: &str = "kms:";

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// By whom.
    pub who: &'a Who,
    /// `service:action`
    pub action: &'a str,
    /// The ARN of a key or an alias, or `*`.
    pub resource: &'a str,
    /// What else is known.
    pub context: &'a Context,
    /// The encryption context, which grants are about.
    pub pairs: &'a BTreeMap<String, String>,
}

/// A policy of an identity, with its name.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    /// Such as `user alice, policy volumes`.
    pub name: &'a str,
    /// The policy.
    pub document: &'a Document,
}

/// What there is to decide by.
#[derive(Debug, Clone, Copy)]
pub struct Policies<'a> {
    /// The key's policy and account, where the request is about a key.
    pub key: Option<(&'a Document, &'a str)>,
    /// The caller's own, from user, groups or role.
    pub identity: &'a [Named<'a>],
    /// What limits the caller's session.
    pub session: Option<&'a Document>,
    /// Grants on the key.
    pub grants: &'a [Grant],
}

/// Where a statement stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the policy of the key.
    KeyPolicy,
    /// In the policy of an identity.
    Identity(String),
    /// In the policy of the session.
    SessionPolicy,
}

/// The statement that decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// In which policy.
    pub place: Place,
    /// The how manieth statement, from 1.
    pub statement: usize,
    /// Its `Sid`.
    pub sid: Option<String>,
}

/// What nobody allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// The key's policy, and no grant either.
    KeyPolicy,
    /// The caller's own policies, to which the key's policy, if there is a key, leaves it.
    Identity,
    /// The session's policy.
    Session,
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// A statement denies.
    Denied(Source),
    /// Nothing allows.
    Nothing(Missing),
    /// The account's root has every right that its account has.
    Root,
    /// The key's policy allows the caller.
    KeyPolicy(Source),
    /// A policy of the caller's own allows; the key's policy hands over to the account, where there is a key.
    Identity(Source, Option<Source>),
    /// The grant with this id.
    Grant(String),
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub allowed: bool,
    /// Why.
    pub reason: Reason,
}

impl Decision {
    fn allowed(reason: Reason) -> Self {
        Self { allowed: true, reason }
    }

    fn refused(reason: Reason) -> Self {
        Self { allowed: false, reason }
    }
}

/// Decides.
pub fn decide(request: &Request<'_>, policies: &Policies<'_>) -> Decision {
    if let Some(source) = denial(request, policies) {
        return Decision::refused(Reason::Denied(source));
    }
    let own = Own::of(request, policies);
    match policies.key {
        None => own.alone(),
        Some((document, account)) => {
            let named = strongest(document, request);
            let given = granted(request, policies);
            if account == request.who.account() { own.with_key(named, given) } else { own.across(named, given) }
        }
    }
}

fn asked<'a>(request: &Request<'a>, side: Side) -> Asked<'a> {
    let Request { who, action, resource, context, .. } = *request;
    Asked { who, action, resource, context, side }
}

/// The first statement of `document` with that effect that applies.
fn first(
    document: &Document,
    effect: Effect,
    request: &Request<'_>,
    place: impl Fn() -> Place,
) -> Option<(Way, Source)> {
    let place_of = place();
    let side = if place_of == Place::KeyPolicy { Side::KeyPolicy } else { Side::Identity };
    let asked = asked(request, side);
    let mut statements = document.statements().filter(|(_, statement)| statement.effect == effect);
    statements.find_map(|(number, statement)| {
        let way = statement.applies(&asked)?;
        Some((way, Source { place: place_of.clone(), statement: number, sid: statement.sid.clone() }))
    })
}

fn denial(request: &Request<'_>, policies: &Policies<'_>) -> Option<Source> {
    let of_key = policies.key.and_then(|(document, _)| first(document, Effect::Deny, request, || Place::KeyPolicy));
    let of_identity = || of_identity(request, policies, Effect::Deny);
    let of_session =
        || policies.session.and_then(|document| first(document, Effect::Deny, request, || Place::SessionPolicy));
    of_key.or_else(of_identity).or_else(of_session).map(|(_, source)| source)
}

fn of_identity(request: &Request<'_>, policies: &Policies<'_>, effect: Effect) -> Option<(Way, Source)> {
    let place = |named: &Named<'_>| Place::Identity(named.name.to_owned());
    policies.identity.iter().find_map(|named| first(named.document, effect, request, || place(named)))
}

/// The statement of a key's policy that names the caller most directly.
fn strongest(document: &Document, request: &Request<'_>) -> Option<(Way, Source)> {
    let asked = asked(request, Side::KeyPolicy);
    let allowing = document.statements().filter(|(_, statement)| statement.effect == Effect::Allow);
    let mut found: Option<(Way, Source)> = None;
    for (number, statement) in allowing {
        if let Some(way) = statement.applies(&asked).filter(|way| found.as_ref().is_none_or(|(best, _)| way > best)) {
            found = Some((way, Source { place: Place::KeyPolicy, statement: number, sid: statement.sid.clone() }));
        }
    }
    found
}

/// The grant that gives it most directly.
fn granted(request: &Request<'_>, policies: &Policies<'_>) -> Option<(Way, String)> {
    let operation = request.action.strip_prefix(SERVICE)?;
    let giving = policies.grants.iter();
    let ways = giving.filter_map(|grant| Some((grant.gives(request.who, operation, request.pairs)?, grant)));
    ways.max_by_key(|(way, _)| *way).map(|(way, grant)| (way, grant.id.clone()))
}

/// What the caller's own policies say.
struct Own {
    /// Why they allow, if they do.
    allows: Option<Reason>,
    session_allows: bool,
}

impl Own {
    fn of(request: &Request<'_>, policies: &Policies<'_>) -> Self {
        let allows = if request.who.is_root() {
            Some(Reason::Root)
        } else {
            of_identity(request, policies, Effect::Allow).map(|(_, source)| Reason::Identity(source, None))
        };
        let session = policies.session;
        let session_allows =
            session.is_none_or(|document| first(document, Effect::Allow, request, || Place::SessionPolicy).is_some());
        Self { allows, session_allows }
    }

    /// No key is concerned.
    fn alone(self) -> Decision {
        match self.allows {
            None => Decision::refused(Reason::Nothing(Missing::Identity)),
            Some(_) if !self.session_allows => Decision::refused(Reason::Nothing(Missing::Session)),
            Some(reason) => Decision::allowed(reason),
        }
    }

    /// The key is of the caller's account.
    fn with_key(self, named: Option<(Way, Source)>, given: Option<(Way, String)>) -> Decision {
        let direct = |way: Way| way == Way::Session || (way == Way::Self_ && self.session_allows);
        match (named, given) {
            (Some((way, source)), _) if direct(way) => Decision::allowed(Reason::KeyPolicy(source)),
            (_, Some((way, id))) if direct(way) => Decision::allowed(Reason::Grant(id)),
            (Some((Way::Account, source)), _) => self.handed_over(Some(source)),
            (_, Some((Way::Account, id))) => match self.alone() {
                Decision { allowed: true, .. } => Decision::allowed(Reason::Grant(id)),
                refused => refused,
            },
            (None, None) => Decision::refused(Reason::Nothing(Missing::KeyPolicy)),
            _ => Decision::refused(Reason::Nothing(Missing::Session)),
        }
    }

    /// The key is of another account than the caller.
    fn across(self, named: Option<(Way, Source)>, given: Option<(Way, String)>) -> Decision {
        match (named, given) {
            (_, Some((way, id))) if way == Way::Session || (way == Way::Self_ && self.session_allows) => {
                Decision::allowed(Reason::Grant(id))
            }
            (Some((_, source)), _) => self.handed_over(Some(source)),
            (None, Some((_, id))) => match self.alone() {
                Decision { allowed: true, .. } => Decision::allowed(Reason::Grant(id)),
                refused => refused,
            },
            (None, None) => Decision::refused(Reason::Nothing(Missing::KeyPolicy)),
        }
    }

    /// The key's policy leaves it to the caller's own.
    fn handed_over(self, by: Option<Source>) -> Decision {
        match self.alone() {
            Decision { allowed: true, reason: Reason::Identity(source, _) } => {
                Decision::allowed(Reason::Identity(source, by))
            }
            decision => decision,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::KeyPolicy => f.write_str("the key's policy")?,
            Place::Identity(name) => f.write_str(name)?,
            Place::SessionPolicy => f.write_str("the session's policy")?,
        }
        write!(f, ", statement {}", self.statement)?;
        self.sid.as_ref().map_or(Ok(()), |sid| write!(f, " ({sid:?})"))
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(source) => write!(f, "denied by {source}"),
            Self::Nothing(Missing::KeyPolicy) => f.write_str("neither the key's policy nor a grant allows it"),
            Self::Nothing(Missing::Identity) => f.write_str("no policy of the principal's own allows it"),
            Self::Nothing(Missing::Session) => f.write_str("the session's policy does not allow it"),
            Self::Root => f.write_str("the account's root has the rights of its account"),
            Self::KeyPolicy(source) => write!(f, "allowed by {source}"),
            Self::Identity(source, None) => write!(f, "allowed by {source}"),
            Self::Identity(source, Some(by)) => write!(f, "allowed by {source}, to which {by} hands over"),
            Self::Grant(id) => write!(f, "allowed by grant {id}"),
        }
    }
}
