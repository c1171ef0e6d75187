//! The policies that the project's source document shows, completed to valid JSON.

use envol::policy::Context;

use crate::{Case, KEY};

const FINANCE: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [{
    "Effect": "Allow",
    "Action": ["kms:GenerateDataKey", "kms:Encrypt", "kms:Decrypt"],
    "Resource": "arn:aws:kms:us-east-1:111122223333:key/*",
    "Condition": { "ForAnyValue:StringEquals": { "kms:ResourceAliases": "alias/finance-key" } }
  }]
}"#;

const BY_ALIAS: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [{
    "Effect": "Allow",
    "Action": "kms:Encrypt",
    "Resource": "arn:aws:kms:us-east-1:111122223333:key/*",
    "Condition": { "StringEquals": { "kms:RequestAlias": "alias/finance-key" } }
  }]
}"#;

const PROD: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [{
    "Effect": "Allow",
    "Action": ["kms:Encrypt", "kms:GenerateDataKey*"],
    "Resource": "*",
    "Condition": { "StringEquals": { "aws:ResourceTag/Env": "Prod" } }
  }]
}"#;

const TEST_TAGS: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [{
    "Effect": "Allow",
    "Action": ["kms:TagResource", "kms:UntagResource"],
    "Resource": "arn:aws:kms:*:111122223333:key/*",
    "Condition": { "StringEquals": { "aws:RequestTag/Purpose": "Test" } }
  }]
}"#;

const ONLY_RSA: &str = r#"{
  "Version": "2012-10-17",
  "Statement": [{
    "Effect": "Allow",
    "Action": "kms:CreateKey",
    "Resource": "*",
    "Condition": { "StringLike": { "kms:KeySpec": "RSA_*" } }
  }]
}"#;

fn case<'a>(policy: &'a str, action: &'a str, context: Context) -> Case<'a> {
    Case { own: vec![policy], action, context, ..Case::default() }
}

fn aliases(names: &[&str]) -> Context {
    let mut context = Context::default();
    context.set_many("kms:ResourceAliases", names.iter().copied());
    context.only_for_identities("kms:ResourceAliases");
    context
}

fn one(name: &str, value: &str) -> Context {
    let mut context = Context::default();
    context.set(name, value);
    context
}

#[test]
fn a_key_with_the_alias_is_allowed_however_the_request_names_it() {
    assert!(case(FINANCE, "kms:GenerateDataKey", aliases(&["alias/finance-key"])).allowed());
    assert!(case(FINANCE, "kms:GenerateDataKey", aliases(&["alias/other", "alias/finance-key"])).allowed());
    assert!(!case(FINANCE, "kms:GenerateDataKey", aliases(&["alias/other"])).allowed(), "it was pointed elsewhere");
    assert!(!case(FINANCE, "kms:GenerateDataKey", aliases(&[])).allowed());
    let in_key = FINANCE.replace(r#""Effect": "Allow","#, r#""Effect": "Allow", "Principal": "*","#);
    let context = aliases(&["alias/finance-key"]);
    let by_key = Case { key: Some(&in_key), context, action: "kms:Encrypt", ..Case::default() };
    assert!(!by_key.allowed(), "a key policy is not told of the aliases");
}

#[test]
fn by_the_alias_yes_and_by_the_key_no() {
    assert!(case(BY_ALIAS, "kms:Encrypt", one("kms:RequestAlias", "alias/finance-key")).allowed());
    assert!(!case(BY_ALIAS, "kms:Encrypt", Context::default()).allowed());
}

#[test]
fn a_tag_of_the_key_decides() {
    assert!(case(PROD, "kms:GenerateDataKeyWithoutPlaintext", one("aws:ResourceTag/Env", "Prod")).allowed());
    assert!(!case(PROD, "kms:Encrypt", one("aws:ResourceTag/Env", "Dev")).allowed());
    assert!(!case(PROD, "kms:Decrypt", one("aws:ResourceTag/Env", "Prod")).allowed());
}

#[test]
fn a_tag_in_the_request_decides_which_tags_may_be_put() {
    assert!(case(TEST_TAGS, "kms:TagResource", one("aws:RequestTag/Purpose", "Test")).allowed());
    assert!(!case(TEST_TAGS, "kms:TagResource", one("aws:RequestTag/Purpose", "Prod")).allowed());
    assert!(!case(TEST_TAGS, "kms:UntagResource", Context::default()).allowed());
}

#[test]
fn a_spec_in_the_request_decides_which_keys_may_be_made() {
    let create = |spec| Case { key: None, resource: "*", ..case(ONLY_RSA, "kms:CreateKey", one("kms:KeySpec", spec)) };
    assert!(create("RSA_2048").allowed() && !create("SYMMETRIC_DEFAULT").allowed());
    assert!(KEY.contains(":key/"));
}
