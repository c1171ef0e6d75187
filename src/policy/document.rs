//! A policy document, read strictly: what is not known is refused, so that nothing stands in a policy that does nothing.

use serde_json::{Map, Value};

use super::condition::{self, Condition};
use super::context::{Context, Side};
use super::pattern::{Case, Pattern, Reading};
use super::who::{Named, Way, Who, spares};
use super::{Malformed, json, keys};
use crate::limits;

/// What a policy is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A key; `*` as its resource is that key.
    Key,
    /// A user, a group or a role; or a session, which it limits.
    Identity,
    /// A role: who may assume it.
    Trust,
}

/// A policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    statements: Vec<Statement>,
}

/// Whether a statement gives or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Allow,
    Deny,
}

/// One statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) effect: Effect,
    /// `None` in a policy of an identity.
    principals: Option<Listed<Named>>,
    actions: Listed<Pattern>,
    /// `None` in a trust policy.
    resources: Option<Listed<Pattern>>,
    conditions: Vec<Condition>,
}

/// An element, or its `Not` form.
#[derive(Debug, Clone, PartialEq)]
struct Listed<T> {
    except: bool,
    items: Vec<T>,
}

/// What a statement is held against.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) who: &'a Who,
    pub(super) action: &'a str,
    pub(super) resource: &'a str,
    pub(super) context: &'a Context,
    pub(super) side: Side,
}

const ELEMENTS: &[&str] =
    &["Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource", "Condition"];

impl Document {
    /// Reads a policy of that kind.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(text: &str, kind: Kind) -> Result<Self, Malformed> {
        if text.len() > limits::POLICY_MAX {
            return Err(Malformed::TooLong);
        }
        let value = json::read(text)?;
        let members = object("The policy", &value)?;
        only("The policy", members, &["Version", "Id", "Statement"])?;
        let variables = version(members.get("Version"))?;
        if let Some(id) = members.get("Id") {
            string("Id", id)?;
        }
        let statements = match members.get("Statement") {
            None => return Err(Malformed::Lacks { place: "The policy".to_owned(), element: "Statement" }),
            Some(Value::Array(statements)) => statements.as_slice(),
            Some(statement) => std::slice::from_ref(statement),
        };
        if statements.is_empty() {
            return Err(Malformed::Lacks { place: "The policy".to_owned(), element: "Statement" });
        }
        let read = (1..).zip(statements).map(|(number, value)| statement(number, value, kind, variables));
        Ok(Self { statements: read.collect::<Result<_, _>>()? })
    }

    /// Whether one of its conditions asks for `key`, which is in lower case.
    pub fn asks_for(&self, key: &str) -> bool {
        self.statements.iter().any(|statement| statement.conditions.iter().any(|condition| condition.key() == key))
    }

    pub(super) fn statements(&self) -> impl Iterator<Item = (usize, &Statement)> {
        (1..).zip(&self.statements)
    }
}

/// Whether the language of that version has variables.
fn version(version: Option<&Value>) -> Result<bool, Malformed> {
    match version.map(|version| string("Version", version)).transpose()? {
        None | Some("2008-10-17") => Ok(false),
        Some("2012-10-17") => Ok(true),
        Some(other) => Err(Malformed::Version(other.to_owned())),
    }
}

fn statement(number: usize, value: &Value, kind: Kind, variables: bool) -> Result<Statement, Malformed> {
    let place = format!("Statement {number}");
    let members = object(&place, value)?;
    only(&place, members, ELEMENTS)?;
    let sid = members.get("Sid").map(|sid| string(&format!("{place}.Sid"), sid)).transpose()?.map(str::to_owned);
    let effect = effect(&place, members.get("Effect"))?;
    let principals = match kind {
        Kind::Identity => none(&place, members, "Principal", "NotPrincipal").map(|()| None),
        Kind::Key | Kind::Trust => principals(&place, members, effect).map(Some),
    }?;
    let actions = actions(&place, members)?;
    let resources = match kind {
        Kind::Trust => none(&place, members, "Resource", "NotResource").map(|()| None),
        Kind::Key | Kind::Identity => resources(&place, members, variables).map(Some),
    }?;
    let conditions = members.get("Condition").map(|element| condition::read(&place, element, variables));
    let conditions = conditions.transpose()?.unwrap_or_default();
    judge_conditions(&place, &conditions, kind)?;
    Ok(Statement { sid, effect, principals, actions, resources, conditions })
}

fn judge_conditions(place: &str, conditions: &[Condition], kind: Kind) -> Result<(), Malformed> {
    let unknown = conditions.iter().find(|condition| !keys::is_known(condition.key(), kind == Kind::Identity));
    if let Some(condition) = unknown {
        return Err(Malformed::ConditionKey { place: place.to_owned(), key: condition.key().to_owned() });
    }
    if kind == Kind::Key && conditions.iter().any(Condition::is_overly_permissive) {
        return Err(Malformed::OverlyPermissive);
    }
    Ok(())
}

fn effect(place: &str, element: Option<&Value>) -> Result<Effect, Malformed> {
    let element = element.ok_or_else(|| Malformed::Lacks { place: place.to_owned(), element: "Effect" })?;
    match string(&format!("{place}.Effect"), element)? {
        "Allow" => Ok(Effect::Allow),
        "Deny" => Ok(Effect::Deny),
        found => Err(Malformed::Effect { place: place.to_owned(), found: found.to_owned() }),
    }
}

/// The element called `name` or its opposite, and which of them it is.
fn either<'a>(
    place: &str,
    members: &'a Map<String, Value>,
    name: &'static str,
    opposite: &str,
) -> Result<(bool, &'a Value), Malformed> {
    match (members.get(name), members.get(opposite)) {
        (Some(value), None) => Ok((false, value)),
        (None, Some(value)) => Ok((true, value)),
        (Some(_), Some(_)) => Err(Malformed::Both { place: place.to_owned(), element: name }),
        (None, None) => Err(Malformed::Lacks { place: place.to_owned(), element: name }),
    }
}

fn none(place: &str, members: &Map<String, Value>, name: &str, opposite: &str) -> Result<(), Malformed> {
    match [name, opposite].into_iter().find(|name| members.contains_key(*name)) {
        None => Ok(()),
        Some(element) => Err(Malformed::Unknown { place: place.to_owned(), element: element.to_owned() }),
    }
}

fn principals(place: &str, members: &Map<String, Value>, effect: Effect) -> Result<Listed<Named>, Malformed> {
    let (except, value) = either(place, members, "Principal", "NotPrincipal")?;
    if except && effect == Effect::Allow {
        return Err(Malformed::AllowsNotPrincipal { place: place.to_owned() });
    }
    let place = format!("{place}.Principal");
    let mut items = Vec::new();
    match value {
        Value::String(text) if text == "*" => items.push(Named::Anyone),
        Value::String(text) => return Err(Malformed::Principal(text.clone())),
        value => {
            for (kind, named) in object(&place, value)? {
                let named = strings(&format!("{place}.{kind}"), named)?;
                match kind.as_str() {
                    "AWS" => items.extend(named.into_iter().map(Named::read).collect::<Result<Vec<_>, _>>()?),
                    "Service" => items.extend(named.into_iter().map(|_| Named::Service)),
                    kind => return Err(Malformed::Unknown { place, element: kind.to_owned() }),
                }
            }
        }
    }
    if items.is_empty() {
        return Err(Malformed::Lacks { place, element: "AWS" });
    }
    Ok(Listed { except, items })
}

fn actions(place: &str, members: &Map<String, Value>) -> Result<Listed<Pattern>, Malformed> {
    let (except, value) = either(place, members, "Action", "NotAction")?;
    let texts = strings(&format!("{place}.Action"), value)?;
    let wrong = |text: &str| Malformed::Action { place: place.to_owned(), action: text.to_owned() };
    let read = |text: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"-*?".contains(&byte);
        let named = text.split_once(':').is_some_and(|(service, action)| {
            [service, action].into_iter().all(|part| !part.is_empty() && part.bytes().all(letter))
        });
        if text != "*" && !named {
            return Err(wrong(text));
        }
        Pattern::read(text, Reading { wildcards: true, variables: false })
    };
    let items: Vec<Pattern> = texts.into_iter().map(read).collect::<Result<_, _>>()?;
    if items.is_empty() { Err(wrong("")) } else { Ok(Listed { except, items }) }
}

fn resources(place: &str, members: &Map<String, Value>, variables: bool) -> Result<Listed<Pattern>, Malformed> {
    let (except, value) = either(place, members, "Resource", "NotResource")?;
    let texts = strings(&format!("{place}.Resource"), value)?;
    let wrong = |text: &str| Malformed::Resource { place: place.to_owned(), resource: text.to_owned() };
    let read = |text: &str| {
        if text != "*" && !(text.starts_with("arn:") && text.len() <= limits::POLICY_VALUE_MAX) {
            return Err(wrong(text));
        }
        Pattern::read(text, Reading { wildcards: true, variables })
    };
    let items: Vec<Pattern> = texts.into_iter().map(read).collect::<Result<_, _>>()?;
    if items.is_empty() { Err(wrong("")) } else { Ok(Listed { except, items }) }
}

impl Statement {
    /// How the statement is about what is asked, if it is; in a policy of an identity, about its bearer.
    pub(super) fn applies(&self, asked: &Asked<'_>) -> Option<Way> {
        if !self.actions.has(|pattern| pattern.matches_plainly(asked.action, Case::Ignored)) {
            return None;
        }
        let way = self.names(asked.who)?;
        let of_resource = |pattern: &Pattern| {
            pattern.is_any() || pattern.matches(asked.resource, Case::Sensitive, asked.context, asked.side)
        };
        if !self.resources.as_ref().is_none_or(|resources| resources.has(of_resource)) {
            return None;
        }
        let holds = |condition: &Condition| {
            if asked.context.is_ambiguous(condition.key(), asked.side) {
                return self.effect == Effect::Deny;
            }
            condition.holds(asked.context, asked.side)
        };
        self.conditions.iter().all(holds).then_some(way)
    }

    fn names(&self, who: &Who) -> Option<Way> {
        match &self.principals {
            None => Some(Way::Self_),
            Some(Listed { except: true, items }) => (!spares(items, who)).then_some(Way::Self_),
            Some(Listed { items, .. }) => items.iter().filter_map(|named| named.names(who)).max(),
        }
    }
}

impl<T> Listed<T> {
    fn has(&self, matches: impl FnMut(&T) -> bool) -> bool {
        self.items.iter().any(matches) != self.except
    }
}

fn object<'a>(place: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Malformed> {
    value.as_object().ok_or_else(|| Malformed::Type { place: place.to_owned(), wanted: "an object" })
}

fn string<'a>(place: &str, value: &'a Value) -> Result<&'a str, Malformed> {
    value.as_str().ok_or_else(|| Malformed::Type { place: place.to_owned(), wanted: "a text" })
}

/// One text or several.
fn strings<'a>(place: &str, value: &'a Value) -> Result<Vec<&'a str>, Malformed> {
    match value {
        Value::Array(values) => values.iter().map(|value| string(place, value)).collect(),
        value => string(place, value).map(|text| vec![text]),
    }
}

/// Refuses an element that is not among `known`.
fn only(place: &str, members: &Map<String, Value>, known: &[&str]) -> Result<(), Malformed> {
    match members.keys().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(element) => Err(Malformed::Unknown { place: place.to_owned(), element: element.clone() }),
    }
}
