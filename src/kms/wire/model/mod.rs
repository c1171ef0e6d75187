//! The service model of AWS KMS, as far as requests go, and the judgement of a request by it.
//!
//! `tables` is generated from the public model (scripts/generate-kms-model); here is what its entries mean. A request is
//! judged in two steps, as AWS does it: what cannot be read as the members' types is a `SerializationException`; all
//! constraints that do not hold are told together in one `ValidationException`. Members that the model does not know are
//! ignored, and `null` is an absent member. Values of sensitive members and blobs are never repeated.

#[rustfmt::skip]
mod tables;

use std::collections::HashMap;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use regex_lite::Regex;
use serde_json::{Map, Value};

use crate::limits;

pub use tables::OPERATIONS;

/// An operation, by what it takes.
#[derive(Debug)]
pub struct Operation {
    /// Its name, such as `CreateKey`.
    pub name: &'static str,
    /// Its members.
    pub members: &'static [Member],
}

/// A member of an operation or of a structure.
#[derive(Debug)]
pub struct Member {
    /// Its name on the wire.
    pub name: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it may be.
    pub shape: &'static Shape,
}

/// What a value may be.
#[derive(Debug)]
pub struct Shape {
    /// Its type and constraints.
    pub kind: Kind,
    /// Whether its value is kept out of every text.
    pub sensitive: bool,
}

/// Types with their constraints. A bound that the model lacks is 0 or `u64::MAX`.
#[derive(Debug)]
pub enum Kind {
    /// Text, its length in characters; all of it must match the pattern.
    Text(Bounds, Option<&'static str>),
    /// One of these texts.
    Enum(&'static [&'static str]),
    /// Bytes, as base64 on the wire.
    Blob(Bounds),
    /// A whole number.
    Integer(Bounds),
    /// `true` or `false`.
    Boolean,
    /// Seconds since 1970.
    Timestamp,
    /// Several of one shape.
    List(Bounds, &'static Shape),
    /// Texts to texts.
    Map(&'static Shape, &'static Shape),
    /// Members of its own.
    Structure(&'static [Member]),
}

/// The least and the most, both included.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    least: u64,
    most: u64,
}

/// What is wrong with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wrong {
    /// It cannot be read: the text of a `SerializationException`.
    Unreadable(String),
    /// It can, and breaks constraints: the text of a `ValidationException`.
    Invalid(String),
}

impl Member {
    const fn required(name: &'static str, shape: &'static Shape) -> Self {
        Self { name, required: true, shape }
    }

    const fn optional(name: &'static str, shape: &'static Shape) -> Self {
        Self { name, required: false, shape }
    }
}

impl Shape {
    const fn new(kind: Kind) -> Self {
        Self { kind, sensitive: false }
    }

    const fn sensitive(self) -> Self {
        Self { kind: self.kind, sensitive: true }
    }

    fn is_shown(&self) -> bool {
        !self.sensitive && !matches!(self.kind, Kind::Blob(_))
    }
}

impl Kind {
    const fn text(least: u64, most: u64, pattern: Option<&'static str>) -> Self {
        Self::Text(Bounds { least, most }, pattern)
    }

    const fn blob(least: u64, most: u64) -> Self {
        Self::Blob(Bounds { least, most })
    }

    const fn integer(least: u64, most: u64) -> Self {
        Self::Integer(Bounds { least, most })
    }

    const fn list(least: u64, most: u64, of: &'static Shape) -> Self {
        Self::List(Bounds { least, most }, of)
    }
}

impl Operation {
    /// The operation called `name`.
    pub fn named(name: &str) -> Option<&'static Self> {
        OPERATIONS.binary_search_by(|operation| operation.name.cmp(name)).ok().map(|at| &OPERATIONS[at])
    }

    /// Judges the members of a request.
    ///
    /// # Errors
    /// What is wrong, in the words of AWS.
    pub fn judge(&self, request: &Map<String, Value>) -> Result<(), Wrong> {
        let mut broken = Broken::default();
        structure(self.members, "", request, &mut broken)?;
        match broken.count {
            0 => Ok(()),
            1 => Err(Wrong::Invalid(format!("1 validation error detected: {}", broken.told[0]))),
            count => Err(Wrong::Invalid(format!("{count} validation errors detected: {}", broken.told.join("; ")))),
        }
    }

    /// The members of a request that may be shown in an audit record, named as there (`keyId`). Tokens of grants are
    /// left out, as CloudTrail does.
    pub fn shown(&self, request: &Map<String, Value>) -> Map<String, Value> {
        let is_token = |member: &Member| ["GrantToken", "GrantTokens"].contains(&member.name);
        let shown = self.members.iter().filter(|member| member.shape.is_shown() && !is_token(member));
        shown.filter_map(|member| Some((lower(member.name), present(request, member.name)?.clone()))).collect()
    }
}

/// The constraints that do not hold: all counted, and no more told than an answer has room for.
#[derive(Default)]
struct Broken {
    count: usize,
    told: Vec<String>,
}

impl Broken {
    fn push(&mut self, complaint: impl FnOnce() -> String) {
        self.count += 1;
        if self.told.len() < limits::VIOLATIONS_TOLD_MAX {
            self.told.push(complaint());
        }
    }
}

fn present<'a>(request: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    request.get(name).filter(|value| !value.is_null())
}

/// `KeyId` as texts about it have it: `keyId`.
fn lower(name: &str) -> String {
    let mut letters = name.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

fn structure(members: &[Member], prefix: &str, request: &Map<String, Value>, broken: &mut Broken) -> Result<(), Wrong> {
    for member in members {
        let path = format!("{prefix}{}", lower(member.name));
        match present(request, member.name) {
            Some(given) => value(member.shape, &path, given, broken)?,
            None if member.required => {
                let null = if member.shape.is_shown() { " null" } else { "" };
                broken
                    .push(|| format!("Value{null} at '{path}' failed to satisfy constraint: Member must not be null"));
            }
            None => {}
        }
    }
    Ok(())
}

fn value(shape: &Shape, path: &str, given: &Value, broken: &mut Broken) -> Result<(), Wrong> {
    match (&shape.kind, given) {
        (Kind::Structure(members), Value::Object(inner)) => structure(members, &format!("{path}."), inner, broken),
        (Kind::List(bounds, of), Value::Array(items)) => list(shape, *bounds, of, path, items, broken),
        (Kind::Map(of, to), Value::Object(pairs)) => {
            for (name, inner) in pairs {
                check(of, &Value::from(name.as_str()))?;
                check(to, inner)?;
            }
            Ok(())
        }
        _ => {
            for constraint in check(shape, given)? {
                broken.push(|| complaint(shape, path, given, &constraint));
            }
            Ok(())
        }
    }
}

/// Items with members of their own are told of one by one, plain ones together by the list that they are in.
fn list(
    shape: &Shape,
    bounds: Bounds,
    of: &Shape,
    path: &str,
    items: &[Value],
    broken: &mut Broken,
) -> Result<(), Wrong> {
    let whole = || Value::Array(items.to_vec());
    if let Some(constraint) = bounds.of_length(items.len()) {
        broken.push(|| complaint(shape, path, &whole(), &constraint));
    }
    let mut of_items = Vec::new();
    for (number, item) in (1..).zip(items) {
        if matches!(of.kind, Kind::Structure(_)) {
            value(of, &format!("{path}.{number}.member"), item, broken)?;
            continue;
        }
        for constraint in check(of, item)? {
            if !of_items.contains(&constraint) {
                of_items.push(constraint);
            }
        }
    }
    if !of_items.is_empty() {
        let all = format!("satisfy constraint: [Member must {}]", of_items.join(", Member must "));
        broken.push(|| complaint(of, path, &whole(), &all));
    }
    Ok(())
}

/// The constraints of a plain shape that `given` breaks.
fn check(shape: &Shape, given: &Value) -> Result<Vec<String>, Wrong> {
    match (&shape.kind, given) {
        (Kind::Text(bounds, pattern), Value::String(text)) => {
            let length = bounds.of_length(text.chars().count());
            let pattern = pattern.filter(|pattern| !PATTERNS[pattern].is_match(text));
            let pattern = pattern.map(|pattern| format!("satisfy regular expression pattern: {pattern}"));
            Ok(length.into_iter().chain(pattern).collect())
        }
        (Kind::Enum(values), Value::String(text)) if values.contains(&text.as_str()) => Ok(Vec::new()),
        (Kind::Enum(values), Value::String(_)) => Ok(vec![format!("satisfy enum value set: [{}]", values.join(", "))]),
        (Kind::Blob(bounds), Value::String(text)) => {
            let bytes = STANDARD.decode(text).map_err(|_| Wrong::Unreadable("the value is not base64".to_owned()))?;
            Ok(bounds.of_length(bytes.len()).into_iter().collect())
        }
        (Kind::Integer(bounds), Value::Number(number)) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Ok(bounds.of_value(number).into_iter().collect()),
            (None, Some(_)) => Ok(bounds.of_value(0).into_iter().collect()),
            (None, None) => Err(cannot_be(given, "an Integer")),
        },
        (Kind::Boolean, Value::Bool(_)) => Ok(Vec::new()),
        (Kind::Timestamp, Value::Number(_)) => Ok(Vec::new()),
        (Kind::Text(..) | Kind::Enum(_), _) => Err(cannot_be(given, "a String")),
        (Kind::Blob(_), _) => Err(cannot_be(given, "a Blob")),
        (Kind::Integer(_), _) => Err(cannot_be(given, "an Integer")),
        (Kind::Boolean, _) => Err(cannot_be(given, "a Boolean")),
        (Kind::Timestamp, _) => Err(cannot_be(given, "a Timestamp")),
        (Kind::List(..), _) => Err(cannot_be(given, "a List")),
        (Kind::Map(..), _) => Err(cannot_be(given, "a Map")),
        (Kind::Structure(_), _) => Err(cannot_be(given, "a Structure")),
    }
}

fn cannot_be(given: &Value, wanted: &str) -> Wrong {
    let kind = match given {
        Value::Null => "NULL_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Number(_) => "NUMBER_VALUE",
        Value::String(_) => "STRING_VALUE",
        Value::Array(_) | Value::Object(_) => {
            return Wrong::Unreadable("Start of list or structure found where not expected.".to_owned());
        }
    };
    Wrong::Unreadable(format!("{kind} can not be converted to {wanted}"))
}

/// That `constraint` does not hold of what is at `path`.
pub(super) fn complaint(shape: &Shape, path: &str, given: &Value, constraint: &str) -> String {
    let shown = if shape.is_shown() { format!(" '{}'", plain(given)) } else { String::new() };
    format!("Value{shown} at '{path}' failed to satisfy constraint: Member must {constraint}")
}

/// A value as AWS writes it into a text.
fn plain(given: &Value) -> String {
    match given {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

impl Bounds {
    fn of_length(self, length: usize) -> Option<String> {
        self.broken(u64::try_from(length).unwrap_or(u64::MAX), "length")
    }

    fn of_value(self, value: u64) -> Option<String> {
        self.broken(value, "value")
    }

    fn broken(self, measured: u64, what: &str) -> Option<String> {
        if measured < self.least {
            return Some(format!("have {what} greater than or equal to {}", self.least));
        }
        (measured > self.most).then(|| format!("have {what} less than or equal to {}", self.most))
    }
}

/// Every pattern of the model; each must match all of a text.
static PATTERNS: LazyLock<HashMap<&'static str, Regex>> = LazyLock::new(|| {
    let mut found = HashMap::new();
    OPERATIONS.iter().for_each(|operation| collect(operation.members, &mut found));
    found
});

fn collect(members: &[Member], found: &mut HashMap<&'static str, Regex>) {
    for member in members {
        let shape = match &member.shape.kind {
            Kind::List(_, of) => of,
            _ => member.shape,
        };
        match &shape.kind {
            Kind::Text(_, Some(pattern)) => {
                let whole = Regex::new(&format!("^(?:{pattern})$")).expect("the model's patterns are well formed");
                found.insert(pattern, whole);
            }
            Kind::Structure(inner) => collect(inner, found),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judged(operation: &str, request: &Value) -> Result<(), Wrong> {
        let request = request.as_object().expect("a structure");
        Operation::named(operation).expect("known").judge(request)
    }

    fn invalid(operation: &str, request: &Value) -> String {
        match judged(operation, request) {
            Err(Wrong::Invalid(text)) => text,
            other => panic!("{operation} {request}: {other:?}"),
        }
    }

    #[test]
    fn every_operation_is_found_by_its_name_and_every_pattern_is_one() {
        assert_eq!(OPERATIONS.len(), 56);
        assert!(OPERATIONS.iter().all(|operation| Operation::named(operation.name).is_some()));
        assert!(Operation::named("createkey").is_none());
        assert!(PATTERNS["[\\w]+"].is_match("default") && !PATTERNS["[\\w]+"].is_match("no default"));
        assert!(PATTERNS["^[a-zA-Z0-9-_.]+$"].is_match("a-b_c.d"));
    }

    #[test]
    fn what_breaks_a_constraint_is_told_in_the_words_of_aws() {
        let one = "1 validation error detected: ";
        for (operation, request, expected) in [
            (
                "GenerateDataKey",
                json!({ "KeyId": "k", "NumberOfBytes": 0 }),
                "Value '0' at 'numberOfBytes' failed to satisfy constraint: Member must have value greater than or equal to 1",
            ),
            (
                "GenerateRandom",
                json!({ "NumberOfBytes": 1025 }),
                "Value '1025' at 'numberOfBytes' failed to satisfy constraint: Member must have value less than or equal to 1024",
            ),
            (
                "Encrypt",
                json!({ "KeyId": "k", "Plaintext": STANDARD.encode([0; 4097]) }),
                "Value at 'plaintext' failed to satisfy constraint: Member must have length less than or equal to 4096",
            ),
            ("EnableKey", json!({}), "Value null at 'keyId' failed to satisfy constraint: Member must not be null"),
            (
                "EnableKey",
                json!({ "KeyId": null }),
                "Value null at 'keyId' failed to satisfy constraint: Member must not be null",
            ),
            (
                "CreateAlias",
                json!({ "AliasName": "alias/a b", "TargetKeyId": "k" }),
                "Value 'alias/a b' at 'aliasName' failed to satisfy constraint: Member must satisfy regular expression \
                 pattern: ^[a-zA-Z0-9:/_-]+$",
            ),
            (
                "GenerateDataKey",
                json!({ "KeyId": "k", "KeySpec": "AES_512" }),
                "Value 'AES_512' at 'keySpec' failed to satisfy constraint: Member must satisfy enum value set: [AES_256, AES_128]",
            ),
            (
                "TagResource",
                json!({ "KeyId": "k", "Tags": [{ "TagKey": "a", "TagValue": "b" }, { "TagKey": "", "TagValue": "b" }] }),
                "Value '' at 'tags.2.member.tagKey' failed to satisfy constraint: Member must have length greater than or equal to 1",
            ),
            (
                "UntagResource",
                json!({ "KeyId": "k", "TagKeys": [""] }),
                "Value '[]' at 'tagKeys' failed to satisfy constraint: Member must satisfy constraint: [Member must have \
                 length greater than or equal to 1]",
            ),
        ] {
            assert_eq!(invalid(operation, &request), format!("{one}{expected}"));
        }
        let two = invalid("CreateAlias", &json!({ "AliasName": "" }));
        assert!(two.starts_with("3 validation errors detected: Value '' at 'aliasName'"), "{two}");
    }

    /// A few hundred KiB of empty tag keys were once told of one by one, each with all of the others: tens of GiB.
    #[test]
    fn what_is_told_of_a_request_does_not_outgrow_it() {
        let keys = vec![""; 100_000];
        let told = invalid("UntagResource", &json!({ "KeyId": "k", "TagKeys": keys }));
        assert!(told.starts_with("1 validation error detected: Value '[, , "), "{}", &told[..100]);
        assert!(told.len() < 2 * keys.len() + 200, "{} bytes", told.len());
        let two = invalid("UntagResource", &json!({ "KeyId": "k", "TagKeys": ["", "a".repeat(129), ""] }));
        assert!(two.ends_with("[Member must have length greater than or equal to 1, Member must have length less than or equal to 128]"), "{two}");
        let told = invalid("TagResource", &json!({ "KeyId": "k", "Tags": vec![json!({}); 100_000] }));
        assert!(told.starts_with("200000 validation errors detected: Value null at 'tags.1.member.tagKey'"));
        assert_eq!(told.matches("must not be null").count(), limits::VIOLATIONS_TOLD_MAX);
    }

    #[test]
    fn what_is_of_another_type_is_not_read() {
        for (operation, request, expected) in [
            ("EnableKey", json!({ "KeyId": 1 }), "NUMBER_VALUE can not be converted to a String"),
            ("ListKeys", json!({ "Limit": "1" }), "STRING_VALUE can not be converted to an Integer"),
            ("ListKeys", json!({ "Limit": 1.5 }), "NUMBER_VALUE can not be converted to an Integer"),
            ("Decrypt", json!({ "CiphertextBlob": "%" }), "the value is not base64"),
            (
                "Decrypt",
                json!({ "CiphertextBlob": "AA==", "EncryptionContext": { "a": 1 } }),
                "NUMBER_VALUE can not be converted to a String",
            ),
            ("EnableKey", json!({ "KeyId": [] }), "Start of list or structure found where not expected."),
        ] {
            assert_eq!(
                judged(operation, &request),
                Err(Wrong::Unreadable(expected.to_owned())),
                "{operation} {request}"
            );
        }
    }

    #[test]
    fn members_that_nobody_knows_are_ignored_and_secrets_are_not_shown() {
        let request = json!({ "KeyId": "k", "Plaintext": "cGxhaW4=", "Unknown": [1], "GrantTokens": ["t"] });
        assert_eq!(judged("Encrypt", &request), Ok(()));
        let shown = Operation::named("Encrypt").expect("known").shown(request.as_object().expect("a structure"));
        assert_eq!(Value::Object(shown), json!({ "keyId": "k" }));
    }
}
