//! What is no policy, and what a refusal says.

use envol::policy::{Document, Kind, Malformed};

fn refused(text: &str, kind: Kind) -> Malformed {
    match Document::read(text, kind) {
        Ok(_) => panic!("{text} was taken"),
        Err(malformed) => malformed,
    }
}

fn key(elements: &str) -> String {
    format!(r#"{{"Version":"2012-10-17","Statement":[{{{elements}}}]}}"#)
}

const WHO: &str = r#""Principal":{"AWS":"111122223333"}"#;
const REST: &str = r#""Action":"kms:*","Resource":"*""#;

/// A text and whether what it is refused with is as expected.
type Refusal<'a> = (String, fn(&Malformed) -> bool);

#[test]
fn what_a_key_policy_may_not_be_is_refused_by_name() {
    let allow = r#""Effect":"Allow""#;
    let cases: Vec<Refusal<'_>> = vec![
        ("my policy".to_owned(), |m| matches!(m, Malformed::Json(_))),
        ("[]".to_owned(), |m| matches!(m, Malformed::Type { .. })),
        ("{}".to_owned(), |m| matches!(m, Malformed::Lacks { element: "Statement", .. })),
        (r#"{"Statement":[]}"#.to_owned(), |m| matches!(m, Malformed::Lacks { element: "Statement", .. })),
        (r#"{"Version":"2015-01-01","Statement":[]}"#.to_owned(), |m| matches!(m, Malformed::Version(_))),
        (r#"{"Statements":[]}"#.to_owned(), |m| matches!(m, Malformed::Unknown { .. })),
        (key(&format!("{WHO},{REST}")), |m| matches!(m, Malformed::Lacks { element: "Effect", .. })),
        (key(&format!(r#""Effect":"allow",{WHO},{REST}"#)), |m| matches!(m, Malformed::Effect { .. })),
        (key(&format!(r#"{allow},"Effect":"Deny",{WHO},{REST}"#)), |m| matches!(m, Malformed::Json(_))),
        (key(&format!("{allow},{REST}")), |m| matches!(m, Malformed::Lacks { element: "Principal", .. })),
        (key(&format!("{allow},{WHO}")), |m| matches!(m, Malformed::Lacks { element: "Action", .. })),
        (key(&format!(r#"{allow},{WHO},"Action":"kms:*""#)), |m| {
            matches!(m, Malformed::Lacks { element: "Resource", .. })
        }),
        (key(&format!(r#"{allow},{WHO},{REST},"NotAction":"kms:*""#)), |m| matches!(m, Malformed::Both { .. })),
        (key(&format!(r#"{allow},{WHO},{REST},"Conditions":{{}}"#)), |m| matches!(m, Malformed::Unknown { .. })),
        (key(&format!(r#"{allow},"NotPrincipal":{{"AWS":"111122223333"}},{REST}"#)), |m| {
            matches!(m, Malformed::AllowsNotPrincipal { .. })
        }),
        (key(&format!(r#"{allow},"Principal":"alice",{REST}"#)), |m| matches!(m, Malformed::Principal(_))),
        (key(&format!(r#"{allow},"Principal":{{"AWS":"arn:aws:iam::111122223333:user/*"}},{REST}"#)), |m| {
            matches!(m, Malformed::Principal(_))
        }),
        (key(&format!(r#"{allow},"Principal":{{"Federated":"cognito"}},{REST}"#)), |m| {
            matches!(m, Malformed::Unknown { .. })
        }),
        (key(&format!(r#"{allow},{WHO},"Action":"Encrypt","Resource":"*""#)), |m| {
            matches!(m, Malformed::Action { .. })
        }),
        (key(&format!(r#"{allow},{WHO},"Action":[],"Resource":"*""#)), |m| matches!(m, Malformed::Action { .. })),
        (key(&format!(r#"{allow},{WHO},"Action":"kms:*","Resource":"key/1""#)), |m| {
            matches!(m, Malformed::Resource { .. })
        }),
        (key(&format!(r#"{allow},{WHO},{REST},"Condition":{{"StringMatches":{{}}}}"#)), |m| {
            matches!(m, Malformed::Operator { .. })
        }),
        (key(&format!(r#"{allow},{WHO},{REST},"Condition":{{"Bool":{{"kms:KeySize":"true"}}}}"#)), |m| {
            matches!(m, Malformed::ConditionKey { .. })
        }),
        (key(&format!(r#"{allow},{WHO},{REST},"Condition":{{"Bool":{{"aws:SecureTransport":"yes"}}}}"#)), |m| {
            matches!(m, Malformed::Value { .. })
        }),
        (format!("{}{}", key(&format!("{allow},{WHO},{REST}")), " ".repeat(32 << 10)), |m| {
            matches!(m, Malformed::TooLong)
        }),
    ];
    for (text, is_expected) in cases {
        let malformed = refused(&text, Kind::Key);
        assert!(is_expected(&malformed), "{text}: {malformed:?}");
        assert!(!malformed.to_string().is_empty());
    }
}

#[test]
fn for_all_values_over_what_may_be_missing_is_called_overly_permissive() {
    for name in ["kms:EncryptionContext:app", "aws:RequestTag/team"] {
        let condition = format!(r#""Condition":{{"ForAllValues:StringEquals":{{"{name}":"x"}}}}"#);
        let text = key(&format!(r#""Effect":"Allow",{WHO},{REST},{condition}"#));
        let malformed = refused(&text, Kind::Key);
        assert!(
            malformed.to_string().starts_with("OverlyPermissiveCondition: Using the ForAllValues set operator with a")
        );
        let text = key(&format!(r#""Effect":"Allow",{REST},{condition}"#));
        assert!(Document::read(&text, Kind::Identity).is_ok(), "IAM takes it");
    }
}

#[test]
fn policies_of_identities_and_of_trust_have_their_own_elements() {
    let allow = r#""Effect":"Allow""#;
    let named = key(&format!("{allow},{WHO},{REST}"));
    assert!(matches!(refused(&named, Kind::Identity), Malformed::Unknown { .. }));
    assert!(matches!(refused(&named, Kind::Trust), Malformed::Unknown { .. }));
    let trust = key(&format!(r#"{allow},{WHO},"Action":"sts:AssumeRole""#));
    assert!(Document::read(&trust, Kind::Trust).is_ok());
    let other_service =
        key(&format!(r#"{allow},"Action":"s3:*","Resource":"*","Condition":{{"StringLike":{{"s3:prefix":"a/*"}}}}"#));
    assert!(Document::read(&other_service, Kind::Identity).is_ok());
}

#[test]
fn the_keys_that_are_asked_for_are_known() {
    let text = key(&format!(
        r#""Effect":"Allow",{REST},"Condition":{{"ForAnyValue:StringEquals":{{"kms:ResourceAliases":"alias/a"}}}}"#
    ));
    let document = Document::read(&text, Kind::Identity).expect("a policy");
    assert!(document.asks_for("kms:resourcealiases") && !document.asks_for("kms:requestalias"));
}
