//! Conditions: an operator, the key that it looks at, and the values that it compares with.
//!
//! All conditions of a statement must hold; of one condition's values one must match, and of a negated operator's none. A
//! key that the request does not supply makes a condition false, and one with a negated operator true; with `IfExists` it
//! is true, with `ForAllValues:` too, with `ForAnyValue:` false. Without a set operator, a key with several values matches if
//! one of them does, and by a negated operator if none does.

use serde_json::{Map, Value};

use super::Malformed;
use super::context::{Context, Side};
use super::keys;
use super::operand::{Operand, Order, Test};
use super::pattern::Case;
use crate::limits;

/// What is to hold of a multivalued key's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    All,
    Any,
}

/// One key under one operator.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    set: Option<Set>,
    test: Test,
    negated: bool,
    if_exists: bool,
    /// In lower case.
    key: String,
    operands: Vec<Operand>,
}

/// The operators by name, with what they compare and whether they are negated.
const OPERATORS: &[(&str, Test, bool)] = &[
    ("StringEquals", Test::Text(Case::Sensitive), false),
    ("StringNotEquals", Test::Text(Case::Sensitive), true),
    ("StringEqualsIgnoreCase", Test::Text(Case::Ignored), false),
    ("StringNotEqualsIgnoreCase", Test::Text(Case::Ignored), true),
    ("StringLike", Test::Like, false),
    ("StringNotLike", Test::Like, true),
    ("NumericEquals", Test::Number(Order::Equal), false),
    ("NumericNotEquals", Test::Number(Order::Equal), true),
    ("NumericLessThan", Test::Number(Order::Less), false),
    ("NumericLessThanEquals", Test::Number(Order::LessOrEqual), false),
    ("NumericGreaterThan", Test::Number(Order::Greater), false),
    ("NumericGreaterThanEquals", Test::Number(Order::GreaterOrEqual), false),
    ("DateEquals", Test::Date(Order::Equal), false),
    ("DateNotEquals", Test::Date(Order::Equal), true),
    ("DateLessThan", Test::Date(Order::Less), false),
    ("DateLessThanEquals", Test::Date(Order::LessOrEqual), false),
    ("DateGreaterThan", Test::Date(Order::Greater), false),
    ("DateGreaterThanEquals", Test::Date(Order::GreaterOrEqual), false),
    ("Bool", Test::Bool, false),
    ("BinaryEquals", Test::Bytes, false),
    ("IpAddress", Test::Network, false),
    ("NotIpAddress", Test::Network, true),
    ("ArnEquals", Test::Arn, false),
    ("ArnLike", Test::Arn, false),
    ("ArnNotEquals", Test::Arn, true),
    ("ArnNotLike", Test::Arn, true),
    ("Null", Test::Null, false),
];

/// Reads the `Condition` element of `place`.
pub(super) fn read(place: &str, element: &Value, variables: bool) -> Result<Vec<Condition>, Malformed> {
    let place = format!("{place}.Condition");
    let mut conditions = Vec::new();
    for (operator, block) in object(&place, element)? {
        let form = Form::named(operator)
            .ok_or_else(|| Malformed::Operator { place: place.clone(), operator: operator.clone() })?;
        let block = object(&format!("{place}.{operator}"), block)?;
        if block.is_empty() {
            return Err(Malformed::Empty { place: format!("{place}.{operator}") });
        }
        for (key, values) in block {
            conditions.push(form.condition((&place, operator), key, values, variables)?);
        }
    }
    if conditions.len() > limits::POLICY_CONDITIONS_MAX {
        return Err(Malformed::TooMany { place, what: "conditions", most: limits::POLICY_CONDITIONS_MAX });
    }
    Ok(conditions)
}

/// An operator with its prefix and suffix.
struct Form {
    set: Option<Set>,
    test: Test,
    negated: bool,
    if_exists: bool,
}

impl Form {
    fn named(operator: &str) -> Option<Self> {
        let (set, rest) = match operator.split_once(':') {
            None => (None, operator),
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("ForAllValues") => (Some(Set::All), rest),
            Some((prefix, rest)) if prefix.eq_ignore_ascii_case("ForAnyValue") => (Some(Set::Any), rest),
            Some(_) => return None,
        };
        let find = |name: &str| OPERATORS.iter().find(|(known, ..)| known.eq_ignore_ascii_case(name));
        let suffix = rest.len().checked_sub("IfExists".len()).filter(|at| rest.is_char_boundary(*at));
        let stem = suffix.filter(|at| rest[*at..].eq_ignore_ascii_case("IfExists")).map(|at| &rest[..at]);
        let (_, test, negated) = *find(stem.unwrap_or(rest))?;
        // Whether a key is missing is not asked of a set, nor if it exists.
        let plain = set.is_none() && stem.is_none();
        (test != Test::Null || plain).then_some(Self { set, test, negated, if_exists: stem.is_some() })
    }

    fn condition(
        &self,
        (place, operator): (&str, &str),
        key: &str,
        values: &Value,
        variables: bool,
    ) -> Result<Condition, Malformed> {
        let texts = texts(&format!("{place}.{operator}.{key}"), values)?;
        if texts.is_empty() {
            return Err(Malformed::Empty { place: format!("{place}.{operator}.{key}") });
        }
        if texts.len() > limits::POLICY_VALUES_MAX {
            let place = format!("{place}.{operator}.{key}");
            return Err(Malformed::TooMany { place, what: "values", most: limits::POLICY_VALUES_MAX });
        }
        let operands = texts.iter().map(|text| {
            let read =
                if text.len() <= limits::POLICY_VALUE_MAX { Operand::read(text, self.test, variables)? } else { None };
            read.ok_or_else(|| Malformed::Value {
                place: place.to_owned(),
                operator: operator.to_owned(),
                value: text.clone(),
                wanted: self.test.wanted(),
            })
        });
        let operands = operands.collect::<Result<_, _>>()?;
        let Self { set, test, negated, if_exists } = *self;
        Ok(Condition { set, test, negated, if_exists, key: key.to_lowercase(), operands })
    }
}

impl Condition {
    /// The key that it looks at, in lower case.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Whether it is `ForAllValues` over a key that has one value: AWS takes no such key policy.
    pub(super) fn is_overly_permissive(&self) -> bool {
        self.set == Some(Set::All) && keys::needs_presence(&self.key)
    }

    /// Whether it holds of a request.
    pub(super) fn holds(&self, context: &Context, side: Side) -> bool {
        let values = context.values(&self.key, side);
        if self.test == Test::Null {
            return self.operands.iter().any(|operand| operand.truth() == Some(values.is_empty()));
        }
        if values.is_empty() {
            return self.if_exists || self.set.map_or(self.negated, |set| set == Set::All);
        }
        let matches = |value: &String| self.operands.iter().any(|operand| operand.matches(value, context, side));
        match self.set {
            Some(Set::All) => values.iter().all(|value| matches(value) != self.negated),
            Some(Set::Any) => values.iter().any(|value| matches(value) != self.negated),
            None => values.iter().any(matches) != self.negated,
        }
    }
}

fn object<'a>(place: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Malformed> {
    value.as_object().ok_or_else(|| Malformed::Type { place: place.to_owned(), wanted: "an object" })
}

/// One text or several; truths and numbers are written as texts or as themselves.
fn texts(place: &str, value: &Value) -> Result<Vec<String>, Malformed> {
    let text = |value: &Value| match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let texts: Option<Vec<String>> = match value {
        Value::Array(values) => values.iter().map(text).collect(),
        value => text(value).map(|text| vec![text]),
    };
    texts.ok_or_else(|| Malformed::Type { place: place.to_owned(), wanted: "a text or a list of texts" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn context() -> Context {
        let mut context = Context::default();
        context.set("aws:PrincipalTag/team", "red");
        context.set("kms:ScheduleKeyDeletionPendingWindowInDays", "10");
        context.set("aws:CurrentTime", "2027-01-15T08:00:00Z");
        context.set("aws:SecureTransport", "false");
        context.set("aws:SourceIp", "203.0.113.7");
        context.set("aws:PrincipalArn", "arn:aws:iam::111122223333:user/div/alice");
        context.set("aws:username", "red");
        context.set_many("aws:TagKeys", ["a", "b"]);
        context.set_many("kms:ResourceAliases", Vec::<String>::new());
        context
    }

    fn holds(operator: &str, key: &str, values: Value) -> bool {
        let read = read("S", &json!({ operator: { key: values } }), true).expect("a condition");
        read.iter().all(|condition| condition.holds(&context(), Side::Identity))
    }

    #[test]
    fn each_operator_compares_as_its_name_says() {
        let (team, days) = ("aws:PrincipalTag/Team", "kms:ScheduleKeyDeletionPendingWindowInDays");
        let (now, source, arn) = ("aws:CurrentTime", "aws:SourceIp", "aws:PrincipalArn");
        for (operator, key, value, expected) in [
            ("StringEquals", team, json!("red"), true),
            ("StringEquals", team, json!("Red"), false),
            ("StringEquals", team, json!("r*"), false),
            ("StringEquals", team, json!("${aws:username}"), true),
            ("StringEquals", team, json!(["blue", "red"]), true),
            ("StringNotEquals", team, json!(["blue", "red"]), false),
            ("StringNotEquals", team, json!(["blue", "green"]), true),
            ("StringEqualsIgnoreCase", team, json!("RED"), true),
            ("StringNotEqualsIgnoreCase", team, json!("RED"), false),
            ("StringLike", team, json!("r?d"), true),
            ("StringLike", team, json!("R*"), false),
            ("StringNotLike", team, json!("r*"), false),
            ("NumericEquals", days, json!(10), true),
            ("NumericEquals", days, json!("10.0"), true),
            ("NumericNotEquals", days, json!(10), false),
            ("NumericLessThan", days, json!(10), false),
            ("NumericLessThanEquals", days, json!(10), true),
            ("NumericGreaterThan", days, json!(9), true),
            ("NumericGreaterThanEquals", days, json!(11), false),
            ("DateEquals", now, json!("2027-01-15T08:00:00Z"), true),
            ("DateNotEquals", now, json!("2027-01-15T08:00:00Z"), false),
            ("DateLessThan", now, json!("2027-01-16"), true),
            ("DateLessThanEquals", now, json!("2027-01-15T08:00:00Z"), true),
            ("DateGreaterThan", now, json!("2027-01-15"), true),
            ("DateGreaterThanEquals", now, json!("2028-01-15"), false),
            ("Bool", "aws:SecureTransport", json!(false), true),
            ("Bool", "aws:SecureTransport", json!("True"), false),
            ("BinaryEquals", team, json!("Zm9v"), false),
            ("IpAddress", source, json!("203.0.113.0/24"), true),
            ("NotIpAddress", source, json!("203.0.113.0/24"), false),
            ("ArnEquals", arn, json!("arn:aws:iam::111122223333:user/*"), true),
            ("ArnLike", arn, json!("arn:aws:iam::*:user/div/alice"), true),
            ("ArnLike", arn, json!("arn:aws:*:user/div/alice:x:y"), false),
            ("ArnLike", arn, json!("*"), true),
            ("ArnNotEquals", arn, json!("arn:aws:iam::111122223333:user/*"), false),
            ("ArnNotLike", arn, json!("arn:aws:iam::999999999999:user/*"), true),
        ] {
            assert_eq!(holds(operator, key, value.clone()), expected, "{operator} {key} {value}");
        }
    }

    #[test]
    fn a_missing_key_is_false_and_for_negated_operators_true() {
        for (operator, expected) in [
            ("StringEquals", false),
            ("StringNotEquals", true),
            ("StringLike", false),
            ("StringNotLike", true),
            ("NumericLessThan", false),
            ("NumericNotEquals", true),
            ("Bool", false),
            ("StringEqualsIfExists", true),
            ("StringNotEqualsIfExists", true),
            ("ForAllValues:StringEquals", true),
            ("ForAllValues:StringNotEquals", true),
            ("ForAnyValue:StringEquals", false),
            ("ForAnyValue:StringNotEquals", false),
            ("ForAnyValue:StringEqualsIfExists", true),
        ] {
            let value = if operator.starts_with("Numeric") { "1" } else { "true" };
            assert_eq!(holds(operator, "kms:ViaService", json!(value)), expected, "{operator}");
            assert_eq!(holds(operator, "kms:ResourceAliases", json!(value)), expected, "{operator} of no values");
        }
        assert!(holds("Null", "kms:ViaService", json!("true")) && !holds("Null", "kms:ViaService", json!(false)));
        assert!(holds("Null", "aws:TagKeys", json!("false")));
    }

    #[test]
    fn a_set_operator_asks_for_all_values_or_for_one() {
        for (operator, values, expected) in [
            ("ForAllValues:StringEquals", json!(["a", "b", "c"]), true),
            ("ForAllValues:StringEquals", json!(["a"]), false),
            ("ForAnyValue:StringEquals", json!(["b", "c"]), true),
            ("ForAnyValue:StringEquals", json!(["c"]), false),
            ("ForAnyValue:StringNotEquals", json!(["a"]), true),
            ("ForAnyValue:StringNotEquals", json!(["a", "b"]), false),
            ("ForAllValues:StringNotEquals", json!(["c"]), true),
            ("ForAllValues:StringNotEquals", json!(["a"]), false),
            ("StringEquals", json!("a"), true),
            ("StringNotEquals", json!("a"), false),
        ] {
            assert_eq!(holds(operator, "aws:TagKeys", values.clone()), expected, "{operator} {values}");
        }
    }

    #[test]
    fn what_is_no_operator_or_no_value_of_it_is_refused() {
        let refused = |condition: Value| read("S", &condition, true).expect_err("refused");
        for operator in
            ["StringMatches", "ForSomeValues:StringEquals", "NullIfExists", "ForAnyValue:Null", "IfExists", "é", ""]
        {
            let error = refused(json!({ operator: { "aws:username": "true" } }));
            assert!(matches!(error, Malformed::Operator { .. }), "{operator}: {error}");
        }
        for (operator, value) in [
            ("NumericEquals", json!("ten")),
            ("DateEquals", json!("soon")),
            ("Bool", json!("yes")),
            ("IpAddress", json!("localhost")),
            ("ArnLike", json!("alice")),
            ("BinaryEquals", json!("%")),
        ] {
            let error = refused(json!({ operator: { "aws:username": value } }));
            assert!(matches!(error, Malformed::Value { .. }), "{operator}: {error}");
        }
        for empty in [json!({ "Bool": {} }), json!({ "StringNotEquals": { "aws:username": [] } })] {
            assert!(matches!(refused(empty.clone()), Malformed::Empty { .. }), "{empty}");
        }
        for broken in [json!([]), json!({ "Bool": [] }), json!({ "Bool": { "aws:username": {} } })] {
            assert!(matches!(refused(broken.clone()), Malformed::Type { .. }), "{broken}");
        }
    }
}
