//! Who may: the rules of IAM's and the KMS's evaluation, one after the other.

use std::collections::BTreeMap;

use envol::policy::{Constraint, Grant, Missing, Place, Reason};

use crate::{ALICE, Case, DEFAULT, KEY, of_key, own};

const ROOT: &str = "arn:aws:iam::111122223333:root";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/app/one";
const STRANGER: &str = "arn:aws:iam::999999999999:user/mallory";

fn grant(grantee: &str, constraint: Option<Constraint>) -> Grant {
    Grant::new("g1".to_owned(), grantee, vec!["Decrypt".to_owned()], constraint).expect("a grant")
}

#[test]
fn what_nobody_allows_is_refused_and_the_reason_says_who_would_have_to() {
    let case = Case::default();
    assert_eq!(case.decision().reason, Reason::Nothing(Missing::Identity));
    let nobody = of_key("Allow", "arn:aws:iam::111122223333:user/bob", "");
    let decision = Case { key: Some(&nobody), ..case }.decision();
    assert_eq!(decision.reason, Reason::Nothing(Missing::KeyPolicy));
}

#[test]
fn an_own_policy_counts_only_where_the_key_hands_over_to_the_account() {
    let allow = own("Allow", "kms:Decrypt", "");
    let case = Case { own: vec![&allow], ..Case::default() };
    assert!(case.allowed());
    let Reason::Identity(source, Some(by)) = case.decision().reason else { panic!("both decide") };
    assert_eq!((source.statement, by.place, by.statement), (1, Place::KeyPolicy, 1));
    let bob = of_key("Allow", "arn:aws:iam::111122223333:user/bob", "");
    assert!(!Case { key: Some(&bob), ..case }.allowed(), "nothing hands over");
}

#[test]
fn a_key_policy_that_names_the_principal_is_enough() {
    for principal in [ALICE, "*"] {
        let named = of_key("Allow", principal, "");
        let case = Case { key: Some(&named), ..Case::default() };
        assert!(matches!(case.decision().reason, Reason::KeyPolicy(_)), "{principal}");
    }
    let role = of_key("Allow", "arn:aws:iam::111122223333:role/app", "");
    assert!(Case { who: SESSION, key: Some(&role), ..Case::default() }.allowed());
}

#[test]
fn the_root_has_what_the_key_hands_to_the_account_and_no_more() {
    assert!(Case { who: ROOT, ..Case::default() }.allowed());
    let alice = of_key("Allow", ALICE, "");
    assert!(!Case { who: ROOT, key: Some(&alice), ..Case::default() }.allowed());
    assert!(Case { who: ROOT, key: None, action: "kms:CreateKey", resource: "*", ..Case::default() }.allowed());
}

#[test]
fn a_denial_anywhere_stands_over_every_allowance() {
    let (allow, deny) = (own("Allow", "kms:*", ""), own("Deny", "kms:Decrypt", ""));
    let denied = Case { own: vec![&allow, &deny], ..Case::default() };
    assert!(
        matches!(denied.decision().reason, Reason::Denied(source) if source.place == Place::Identity("own".to_owned()))
    );
    let by_key = format!(
        r#"{{"Statement":[{{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}},
            {{"Sid":"no","Effect":"Deny","Principal":{{"AWS":"{ALICE}"}},"Action":"kms:Decrypt","Resource":"*"}}]}}"#
    );
    let Reason::Denied(source) = Case { key: Some(&by_key), ..Case::default() }.decision().reason else {
        panic!("denied")
    };
    assert_eq!((source.place, source.statement, source.sid.as_deref()), (Place::KeyPolicy, 2, Some("no")));
    // An IAM Deny counts where an IAM Allow would not.
    let named = of_key("Allow", ALICE, "");
    assert!(!Case { key: Some(&named), own: vec![&deny], ..Case::default() }.allowed());
    // A grant denies nothing, and is stopped by a denial.
    let with_grant = Case { own: vec![&deny], grants: vec![grant(ALICE, None)], ..Case::default() };
    assert!(!with_grant.allowed());
}

#[test]
fn a_grant_gives_what_no_policy_gives() {
    let nobody = of_key("Allow", ROOT, "");
    let case = Case { key: Some(&nobody), grants: vec![grant(ALICE, None)], ..Case::default() };
    assert_eq!(case.decision().reason, Reason::Grant("g1".to_owned()));
    assert!(!Case { action: "kms:Encrypt", ..case.clone() }.allowed());
    assert!(!Case { who: "arn:aws:iam::111122223333:user/bob", ..case }.allowed());
    let subset = Constraint::Subset(BTreeMap::from([("aws:ebs:id".to_owned(), "vol-1".to_owned())]));
    let bound = Case { grants: vec![grant(ALICE, Some(subset.clone()))], ..Case::default() };
    assert!(!bound.allowed(), "without the pair");
    let Constraint::Subset(pairs) = subset else { panic!("it was one") };
    assert!(Case { pairs, ..bound }.allowed());
}

#[test]
fn a_grant_to_a_role_is_good_for_its_sessions_and_one_to_the_account_for_whom_it_lets() {
    let to_role = vec![grant("arn:aws:iam::111122223333:role/app", None)];
    assert!(Case { who: SESSION, grants: to_role, ..Case::default() }.allowed());
    let (to_account, allow) = (vec![grant(ROOT, None)], own("Allow", "kms:Decrypt", ""));
    let nobody = of_key("Allow", STRANGER, "");
    let case = Case { key: Some(&nobody), grants: to_account, ..Case::default() };
    assert!(!case.allowed());
    assert!(Case { own: vec![&allow], ..case }.allowed());
}

#[test]
fn from_another_account_both_sides_must_allow() {
    let allow = own("Allow", "kms:Decrypt", "");
    for principal in [STRANGER, "arn:aws:iam::999999999999:root", "999999999999", "*"] {
        let named = of_key("Allow", principal, "");
        let case = Case { who: STRANGER, key: Some(&named), ..Case::default() };
        assert!(!case.allowed(), "{principal}: their own account has not");
        assert!(Case { own: vec![&allow], ..case }.allowed(), "{principal}");
    }
    assert!(!Case { who: STRANGER, own: vec![&allow], ..Case::default() }.allowed(), "the key's account has not");
    assert!(Case { who: STRANGER, grants: vec![grant(STRANGER, None)], ..Case::default() }.allowed());
}

#[test]
fn a_session_policy_takes_away_unless_the_session_itself_is_named() {
    let (allow, other) = (own("Allow", "kms:*", ""), own("Allow", "kms:Encrypt", ""));
    let case = Case { who: SESSION, own: vec![&allow], session: Some(&other), ..Case::default() };
    assert_eq!(case.decision().reason, Reason::Nothing(Missing::Session));
    assert!(Case { action: "kms:Encrypt", ..case.clone() }.allowed());
    let role = of_key("Allow", "arn:aws:iam::111122223333:role/app", "");
    assert!(!Case { key: Some(&role), ..case.clone() }.allowed(), "the role is limited by its session");
    let session = of_key("Allow", SESSION, "");
    assert!(Case { key: Some(&session), ..case.clone() }.allowed());
    let deny = own("Deny", "kms:*", "");
    assert!(!Case { key: Some(&session), session: Some(&deny), ..case }.allowed());
}

#[test]
fn who_is_not_named_is_denied_by_not_principal() {
    let spared = format!(
        r#"{{"Statement":[{{"Effect":"Allow","Principal":"*","Action":"kms:*","Resource":"*"}},
            {{"Effect":"Deny","NotPrincipal":{{"AWS":["{ALICE}","111122223333"]}},"Action":"kms:*","Resource":"*"}}]}}"#
    );
    assert!(Case { key: Some(&spared), ..Case::default() }.allowed());
    assert!(!Case { who: "arn:aws:iam::111122223333:user/bob", key: Some(&spared), ..Case::default() }.allowed());
}

#[test]
fn actions_and_resources_have_wildcards_and_opposites() {
    let case = Case::default();
    let allowed = |text: &str, action: &str, resource: &str| {
        let own = vec![text];
        Case { own, action, resource, key: None, ..case.clone() }.allowed()
    };
    let statement = |elements: &str| format!(r#"{{"Statement":{{"Effect":"Allow",{elements}}}}}"#);
    let any_data_key = statement(r#""Action":"KMS:GenerateDataKey*","Resource":"*""#);
    assert!(allowed(&any_data_key, "kms:GenerateDataKeyWithoutPlaintext", KEY));
    assert!(!allowed(&any_data_key, "kms:GenerateMac", KEY));
    let all_but = statement(r#""NotAction":["kms:Decrypt","iam:*"],"Resource":"*""#);
    assert!(allowed(&all_but, "kms:Encrypt", KEY) && !allowed(&all_but, "kms:Decrypt", KEY));
    let region = statement(r#""Action":"*","Resource":"arn:aws:kms:us-east-1:*:key/*""#);
    assert!(allowed(&region, "kms:Encrypt", KEY));
    assert!(
        !allowed(&region, "kms:Encrypt", "*")
            && !allowed(&region, "kms:Encrypt", &KEY.replace("us-east-1", "eu-west-1"))
    );
    let not_it = statement(&format!(r#""Action":"*","NotResource":"{KEY}""#));
    assert!(!allowed(&not_it, "kms:Encrypt", KEY) && allowed(&not_it, "kms:ListKeys", "*"));
}

#[test]
fn an_alias_as_a_resource_is_the_alias_and_no_key() {
    let alias = "arn:aws:kms:us-east-1:111122223333:alias/finance";
    let text = format!(r#"{{"Statement":{{"Effect":"Allow","Action":"kms:*","Resource":"{alias}"}}}}"#);
    let case = Case { own: vec![&text], ..Case::default() };
    assert!(!Case { action: "kms:Encrypt", ..case.clone() }.allowed());
    assert!(Case { action: "kms:CreateAlias", resource: alias, key: None, ..case }.allowed());
}

#[test]
fn a_variable_stands_for_what_the_request_says_in_the_newer_language_alone() {
    let statement =
        r#""Statement":{"Effect":"Allow","Action":"kms:*","Resource":"arn:aws:kms:*:*:alias/${aws:username}/*"}"#;
    let (new, old) = (format!(r#"{{"Version":"2012-10-17",{statement}}}"#), format!("{{{statement}}}"));
    let mut case = Case {
        action: "kms:CreateAlias",
        resource: "arn:aws:kms:us-east-1:111122223333:alias/alice/x",
        key: None,
        ..Case::default()
    };
    assert!(!Case { own: vec![&new], ..case.clone() }.allowed(), "the request does not say");
    case.context.set("aws:username", "alice");
    assert!(Case { own: vec![&new], ..case.clone() }.allowed());
    assert!(!Case { own: vec![&old], ..case.clone() }.allowed());
    case.context = envol::policy::Context::default();
    case.context.set("aws:username", "*");
    assert!(!Case { own: vec![&new], ..case }.allowed(), "a wildcard in a value is a letter");
}

#[test]
fn a_pair_whose_name_is_there_in_two_cases_allows_nothing_and_is_denied() {
    let condition = r#","Condition":{"StringEquals":{"kms:EncryptionContext:Dept":"it"}}"#;
    let allow = own("Allow", "kms:*", condition);
    let mut case = Case { own: vec![&allow], ..Case::default() };
    case.context.set("kms:EncryptionContext:dept", "it");
    assert!(case.allowed());
    case.context.set("kms:EncryptionContext:DEPT", "hr");
    assert!(!case.allowed());
    let (all, deny) = (own("Allow", "kms:*", ""), own("Deny", "kms:*", &condition.replace("\"it\"", "\"xx\"")));
    assert!(!Case { own: vec![&all, &deny], ..case }.allowed());
}

#[test]
fn the_default_policy_is_what_aws_gives_a_key() {
    assert!(DEFAULT.contains("Enable IAM User Permissions"));
    let source = Case { who: ROOT, ..Case::default() }.decision().reason;
    assert_eq!(source.to_string(), "allowed by the key's policy, statement 1 (\"Enable IAM User Permissions\")");
}
