//! The operators against `iam-rs`, an evaluator of others, and the wildcards against regular expressions.
//!
//! Left out is what iam-rs does otherwise than the documentation of IAM: `ArnEquals` compares without wildcards there, ARNs
//! are not compared part by part, and a list under a plain negated operator matches if one of its values does.

use envol::policy::{Context, Document, Kind};
use iam_rs::{Arn, ContextValue, IAMPolicy, IAMRequest, Principal, PrincipalId, evaluate_policy};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{Case, KEY};

const KEY_NAME: &str = "kms:EncryptionContext:a";
const LIST_NAME: &str = "aws:TagKeys";

/// What a request supplies under the key that the policy asks for.
#[derive(Debug, Clone)]
enum Given {
    Missing,
    One(String),
    Many(Vec<String>),
}

fn both(operator: &str, values: &Value, given: &Given) -> (bool, bool) {
    let name = if operator.contains(':') { LIST_NAME } else { KEY_NAME };
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "kms:Encrypt", "Resource": "*", "Condition": { operator: { name: values } },
    }] });
    let text = policy.to_string();
    let (mut context, mut theirs) = (Context::default(), iam_rs::Context::new());
    match given {
        Given::Missing => {}
        Given::One(value) => {
            context.set(name, value.as_str());
            let value = match value.parse() {
                Ok(truth) if operator.contains("Bool") => ContextValue::Boolean(truth),
                _ => ContextValue::String(value.clone()),
            };
            theirs.insert(name.to_owned(), value);
        }
        Given::Many(values) => {
            context.set_many(name, values.clone());
            theirs.insert(name.to_owned(), ContextValue::StringList(values.clone()));
        }
    }
    let ours = Case { key: None, own: vec![&text], action: "kms:Encrypt", context, ..Case::default() }.allowed();
    let principal = Principal::Aws(PrincipalId::String("arn:aws:iam::111122223333:user/alice".to_owned()));
    let arn = Arn::parse(KEY).expect("an ARN");
    let request = IAMRequest::new_with_context(principal, "kms:Encrypt", arn, theirs);
    let policy = IAMPolicy::from_json(&text).expect("a policy");
    let decided = evaluate_policy(&policy, &request).expect("a decision");
    (ours, decided == iam_rs::Decision::Allow)
}

/// Texts of few letters, so that some are equal.
fn text() -> impl Strategy<Value = String> {
    "[abAB]{1,3}"
}

fn pattern() -> impl Strategy<Value = String> {
    "[ab*?]{1,4}"
}

fn given<S: Strategy<Value = String> + 'static>(one: S, list: bool) -> BoxedStrategy<Given> {
    let one = one.boxed();
    if list {
        prop_oneof![1 => Just(Given::Missing), 4 => vec(one, 0..4).prop_map(Given::Many)].boxed()
    } else {
        prop_oneof![1 => Just(Given::Missing), 4 => one.prop_map(Given::One)].boxed()
    }
}

/// An operator of `stems`, with `IfExists` or with a set operator, and what is given for it.
fn asked(
    stems: &'static [&'static str],
    sets: bool,
    value: fn() -> BoxedStrategy<String>,
) -> impl Strategy<Value = (String, Given)> {
    let forms: &'static [&'static str] =
        if sets { &["", "IfExists", "ForAllValues:", "ForAnyValue:"] } else { &["", "IfExists"] };
    let named = (prop::sample::select(stems), prop::sample::select(forms));
    named.prop_flat_map(move |(stem, form)| {
        let list = form.ends_with(':');
        let operator = if list { format!("{form}{stem}") } else { format!("{stem}{form}") };
        (Just(operator), given(value(), list))
    })
}

const TEXTS: &[&str] = &["StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"];
const LIKE: &[&str] = &["StringLike", "StringNotLike"];
const NUMBERS: &[&str] = &[
    "NumericEquals",
    "NumericNotEquals",
    "NumericLessThan",
    "NumericLessThanEquals",
    "NumericGreaterThan",
    "NumericGreaterThanEquals",
];
const DATES: &[&str] =
    &["DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals"];
const ADDRESSES: &[&str] = &["IpAddress", "NotIpAddress"];

fn number() -> BoxedStrategy<String> {
    (-2i32..3, prop::sample::select(&["", ".0", ".5"][..])).prop_map(|(whole, rest)| format!("{whole}{rest}")).boxed()
}

fn date() -> BoxedStrategy<String> {
    (1u8..4, 0u8..2).prop_map(|(day, hour)| format!("2027-01-0{day}T0{hour}:00:00Z")).boxed()
}

fn address() -> BoxedStrategy<String> {
    (0u8..3, 0u8..3).prop_map(|(third, last)| format!("10.0.{third}.{last}")).boxed()
}

fn network() -> BoxedStrategy<String> {
    (address(), prop::sample::select(&["", "/32", "/24", "/23", "/0"][..])).prop_map(|(at, bits)| at + bits).boxed()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn texts_are_compared_alike((operator, given) in asked(TEXTS, true, || text().boxed()), values in vec(text(), 1..4)) {
        let (ours, theirs) = both(&operator, &json!(values), &given);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn wildcards_are_compared_alike((operator, given) in asked(LIKE, true, || text().boxed()), values in vec(pattern(), 1..4)) {
        let (ours, theirs) = both(&operator, &json!(values), &given);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn numbers_are_compared_alike((operator, given) in asked(NUMBERS, false, number), values in vec(number(), 1..4)) {
        let (ours, theirs) = both(&operator, &json!(values), &given);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn dates_are_compared_alike((operator, given) in asked(DATES, false, date), values in vec(date(), 1..4)) {
        let (ours, theirs) = both(&operator, &json!(values), &given);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn addresses_are_compared_alike((operator, given) in asked(ADDRESSES, false, address), values in vec(network(), 1..4)) {
        let (ours, theirs) = both(&operator, &json!(values), &given);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn truths_are_compared_alike(wanted: bool, exists: bool, given in prop_oneof![Just("true"), Just("false"), Just("")]) {
        let operator = if exists { "BoolIfExists" } else { "Bool" };
        let given = if given.is_empty() { Given::Missing } else { Given::One(given.to_owned()) };
        let (ours, theirs) = both(operator, &json!(wanted), &given);
        prop_assert_eq!(ours, theirs);
        let (ours, theirs) = both("Null", &json!(wanted), &given);
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn a_pattern_matches_what_the_regular_expression_matches(pattern in "[ab*?.]{0,8}", subject in "[ab.]{0,8}") {
        let expression = regex_lite::escape(&pattern).replace(r"\*", ".*").replace(r"\?", ".");
        let expected = regex_lite::Regex::new(&format!("^{expression}$")).expect("an expression").is_match(&subject);
        let text = crate::own("Allow", "kms:*", &format!(r#","Condition":{{"StringLike":{{"{KEY_NAME}":"{pattern}"}}}}"#));
        let mut context = Context::default();
        context.set(KEY_NAME, subject);
        prop_assert_eq!(Case { key: None, own: vec![&text], context, ..Case::default() }.allowed(), expected);
    }

    #[test]
    fn no_text_makes_the_reader_fail_otherwise_than_by_a_refusal(text in ".{0,200}") {
        for kind in [Kind::Key, Kind::Identity, Kind::Trust] {
            let _ = Document::read(&text, kind);
        }
    }
}
