//! Grants, policies and sessions over time: what outlives a restart, and what goes with its key, its role or its hour.

use std::collections::BTreeMap;

use envol::kms::embedded::{AskedRole, Embedded, GrantConstraint, NewGrant, PageOf, RetiredGrant, SignedRequest};
use envol::kms::{EncryptionContext, KeyName, Principal};

use crate::world::{World, caller, named, refusal};

const ALICE: &str = "arn:aws:iam::000000000000:user/alice";
const ROLE: &str = "arn:aws:iam::000000000000:role/app";
const IDENTITIES: &str = r#"{"accounts":{"000000000000":{"roles":{"app":{
    "trust":{"Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/alice"},"Action":"sts:AssumeRole"}},
    "policies":{"use":{"Statement":{"Effect":"Allow","Action":"kms:Encrypt","Resource":"*"}}}}}}}}"#;

fn signed(arn: &str) -> SignedRequest {
    SignedRequest::new(Principal::new(arn), "AKIA".to_owned())
}

fn root() -> Principal {
    Principal::root("000000000000")
}

fn new<'a>(operations: &'a [String], constraint: Option<GrantConstraint>) -> NewGrant<'a> {
    NewGrant { grantee: ALICE, retiring: None, operations, constraint, name: None }
}

fn listed(kms: &Embedded, key: &KeyName) -> usize {
    let page = PageOf { limit: 100, marker: None };
    kms.page_of_grants(&caller(), key, (None, None), &page).expect("listed").items.len()
}

fn may_encrypt(kms: &Embedded, arn: &str, pairs: &[(&str, &str)]) -> bool {
    let context = EncryptionContext::new(pairs.iter().copied());
    kms.encrypt(&signed(arn), &named("alias/a"), b"text", &context).is_ok()
}

#[test]
fn a_grant_outlives_a_restart_and_goes_with_its_key() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", Some("alias/a")).expect("made");
    let name = named(&key.key_id);
    let operations = ["Encrypt".to_owned()];
    let pairs = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    let constraint = Some(GrantConstraint::Subset(pairs));
    let grant = kms.create_grant(&caller(), &name, &new(&operations, constraint)).expect("made");
    drop(kms);
    let kms = world.open();
    assert!(may_encrypt(&kms, ALICE, &[("a", "b"), ("c", "d")]) && !may_encrypt(&kms, ALICE, &[]));
    assert_eq!(listed(&kms, &name), 1);
    kms.schedule_key_deletion(&caller(), &name, 7).expect("scheduled");
    world.pass_days(8);
    assert!(refusal(kms.describe_key(&caller(), &name)).starts_with("NotFoundException"));
    let gone = refusal(kms.retire_grant(&caller(), RetiredGrant::Token(&grant.token)));
    assert_eq!(gone, "InvalidGrantTokenException: ");
    let page = PageOf { limit: 100, marker: None };
    assert!(kms.page_of_retirable_grants(&caller(), ALICE, &page).expect("listed").items.is_empty());
}

#[test]
fn one_principals_grants_are_found_among_thousands_of_others() {
    let world = World::new();
    let kms = world.open();
    let key = kms.create_key(&caller(), "", Some("alias/a")).expect("made");
    let (name, operations) = (named(&key.key_id), ["Encrypt".to_owned()]);
    for number in 0..200 {
        let grantee = format!("arn:aws:iam::000000000000:user/u{number}");
        let other = NewGrant { grantee: &grantee, ..new(&operations, None) };
        kms.create_grant(&caller(), &name, &other).expect("made");
    }
    assert!(!may_encrypt(&kms, ALICE, &[]));
    let grant = kms.create_grant(&caller(), &name, &new(&operations, None)).expect("made");
    assert!(may_encrypt(&kms, ALICE, &[]));
    kms.revoke_grant(&caller(), &name, &grant.id).expect("revoked");
    assert!(!may_encrypt(&kms, ALICE, &[]));
    let (mut marker, mut seen) = (None, 0);
    loop {
        let page = PageOf { limit: 70, marker: marker.as_deref() };
        let page = kms.page_of_grants(&caller(), &name, (None, None), &page).expect("listed");
        seen += page.items.len();
        marker = page.next;
        if marker.is_none() {
            break;
        }
    }
    assert_eq!(seen, 200);
}

#[test]
fn a_session_ends_with_its_time_and_outlives_a_restart() {
    let world = World::new();
    let kms = world.open();
    kms.create_key(&caller(), "", Some("alias/a")).expect("made");
    kms.put_identities(&root(), IDENTITIES).expect("put");
    let asked = AskedRole { role: ROLE, session: "one", policy: None, seconds: Some(900), external_id: None };
    assert!(
        refusal(kms.assume_role(&signed("arn:aws:iam::000000000000:user/bob"), &asked)).starts_with("AccessDenied")
    );
    let assumed = kms.assume_role(&signed(ALICE), &asked).expect("assumed");
    drop(kms);
    let kms = world.open();
    let session = kms.session(&assumed.access_key_id, &assumed.token).expect("read").expect("a session");
    assert_eq!(session.principal.as_str(), "arn:aws:sts::000000000000:assumed-role/app/one");
    assert_eq!(session.secret.expose(), assumed.secret.expose());
    assert!(may_encrypt(&kms, session.principal.as_str(), &[]));
    assert!(kms.session("ASIAOTHER", &assumed.token).expect("read").is_none());
    world.pass_seconds(901);
    assert!(refusal(kms.session(&assumed.access_key_id, &assumed.token)).starts_with("ExpiredTokenException: "));
    let again = kms.assume_role(&signed(ALICE), &asked).expect("assumed");
    kms.put_identities(&root(), "{}").expect("put");
    assert!(kms.session(&again.access_key_id, &again.token).expect("read").is_none(), "the role is gone");
    world.pass_seconds(1);
    kms.put_identities(&root(), IDENTITIES).expect("put");
    assert!(kms.session(&again.access_key_id, &again.token).expect("read").is_none(), "it is another role");
    let another = kms.assume_role(&signed(ALICE), &asked).expect("assumed");
    drop(kms);
    assert!(world.open().session(&another.access_key_id, &another.token).expect("read").is_some());
}

const BOB: &str = "arn:aws:iam::000000000000:user/bob";
const ACCOUNT: &str = "arn:aws:iam::000000000000:root";

/// A key, and somebody who makes grants on it: to whom, and of what; and whether it is made.
fn granting(kms: &Embedded) -> impl Fn(&str, &str, &[&str]) -> Result<String, String> {
    let key = kms.create_key(&caller(), "", Some("alias/a")).expect("made").key_id;
    move |by: &str, grantee: &str, operations: &[&str]| {
        let operations: Vec<String> = operations.iter().map(ToString::to_string).collect();
        let new = NewGrant { grantee, ..new(&operations, None) };
        let made = match by {
            "" => kms.create_grant(&caller(), &named(&key), &new),
            by => kms.create_grant(&signed(by), &named(&key), &new),
        };
        made.map(|grant| grant.token).map_err(|error| refusal(Err::<(), _>(error)))
    }
}

#[test]
fn a_grant_that_gives_the_caller_nothing_covers_nothing() {
    let world = World::new();
    let kms = world.open();
    let make = granting(&kms);
    make("", ALICE, &["CreateGrant", "Encrypt"]).expect("made");
    // To the account: for those to whom a policy of their own gives it as well.
    make("", ACCOUNT, &["CreateGrant", "Decrypt"]).expect("made");
    assert!(make(ALICE, BOB, &["Decrypt"]).expect_err("denied").starts_with("AccessDeniedException"));
    make(ALICE, BOB, &["Encrypt"]).expect("what her own grant gives");
}

#[test]
fn a_grant_takes_nothing_from_whom_policies_give_the_right() {
    let world = World::new();
    let kms = world.open();
    let make = granting(&kms);
    let all = r#"{"accounts":{"000000000000":{"users":{"alice":{"policies":{"all":
        {"Statement":{"Effect":"Allow","Action":"kms:*","Resource":"*"}}}}}}}}"#;
    kms.put_identities(&root(), all).expect("put");
    make("", ALICE, &["CreateGrant", "Encrypt"]).expect("made");
    make(ALICE, BOB, &["Decrypt"]).expect("by her policy");
}

#[test]
fn a_grant_to_an_account_is_not_everybodys_to_retire() {
    let world = World::new();
    let kms = world.open();
    let make = granting(&kms);
    let token = make("", ACCOUNT, &["Decrypt", "RetireGrant"]).expect("made");
    assert!(refusal(kms.retire_grant(&signed(BOB), RetiredGrant::Token(&token))).starts_with("AccessDeniedException"));
    let may = r#"{"accounts":{"000000000000":{"users":{"bob":{"policies":{"retire":
        {"Statement":{"Effect":"Allow","Action":"kms:RetireGrant","Resource":"*"}}}}}}}}"#;
    kms.put_identities(&root(), may).expect("put");
    kms.retire_grant(&signed(BOB), RetiredGrant::Token(&token)).expect("retired");
    let own = make("", BOB, &["Decrypt", "RetireGrant"]).expect("made");
    kms.put_identities(&root(), "{}").expect("put");
    kms.retire_grant(&signed(BOB), RetiredGrant::Token(&own)).expect("it is his");
}

#[test]
fn only_root_says_who_there_is() {
    let world = World::new();
    let kms = world.open();
    assert!(refusal(kms.put_identities(&caller(), "{}")).starts_with("AccessDeniedException: "));
    assert!(refusal(kms.identities(&caller())).starts_with("AccessDeniedException: "));
    let refused = refusal(kms.put_identities(&root(), r#"{"accounts":{"1":{}}}"#));
    assert_eq!(
        refused,
        "MalformedPolicyDocumentException: The identities are not taken: the account \"1\" is not twelve digits"
    );
    kms.put_identities(&root(), IDENTITIES).expect("put");
    assert_eq!(kms.identities(&root()).expect("there"), IDENTITIES);
}
