//! How long a decision takes: 200 statements, of which the last allows, and what reading them takes; and how long a Decrypt
//! takes by a grant on a key that has many.
//!
//! `cargo bench --bench policy`. The bars: 50 microseconds for the decision, and as long with 50,000 grants as with one.
//! Making them takes a minute or two; `ENVOL_BENCH_DIR` says on which disk.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use divan::Bencher;
use divan::counter::ItemsCount;
use envol::kms::embedded::{Embedded, Identity, NewGrant, SignedRequest};
use envol::kms::{EncryptionContext, KeyName, Principal};
use envol::policy::{Context, Document, Kind, Named, Policies, Request, Who, decide};

const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const STATEMENTS: usize = 200;
const DEFAULT: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*"}]}"#;

fn main() {
    divan::main();
}

/// Statements of the usual kinds that come close and do not apply, and one that does.
fn statements() -> String {
    let mut text = r#"{"Version":"2012-10-17","Statement":["#.to_owned();
    for number in 0..STATEMENTS - 1 {
        let condition = match number % 4 {
            0 => format!(r#""StringEquals":{{"aws:ResourceTag/Env":"other-{number}"}}"#),
            1 => format!(r#""ForAnyValue:StringLike":{{"kms:ResourceAliases":"alias/team-{number}/*"}}"#),
            2 => format!(r#""StringEquals":{{"kms:EncryptionContext:app":["a-{number}","b-{number}"]}}"#),
            _ => r#""StringLike":{"aws:PrincipalTag/team":"${aws:username}-*"}"#.to_owned(),
        };
        let statement = format!(
            r#"{{"Effect":"Allow","Action":["kms:Decrypt","kms:GenerateDataKey*"],"Resource":"arn:aws:kms:*:*:key/*","Condition":{{{condition}}}}},"#
        );
        text.push_str(&statement);
    }
    write!(text, r#"{{"Effect":"Allow","Action":"kms:Decrypt","Resource":"{KEY}"}}]}}"#).expect("a string takes it");
    text
}

fn read() -> Vec<Document> {
    // A policy has room for 32 KiB, so this is more than one.
    let text = statements();
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let all = value["Statement"].as_array().expect("a list");
    let part = |part: &[serde_json::Value]| {
        let text = serde_json::json!({ "Version": "2012-10-17", "Statement": part }).to_string();
        Document::read(&text, Kind::Identity).expect("a policy")
    };
    all.chunks(50).map(part).collect()
}

#[divan::bench]
fn decision_over_200_statements(bencher: Bencher) {
    let documents = read();
    let own: Vec<Named<'_>> = documents.iter().map(|document| Named { name: "own", document }).collect();
    let key = Document::read(DEFAULT, Kind::Key).expect("a policy");
    let who = Who::named("arn:aws:iam::111122223333:user/alice").expect("a user");
    let mut context = Context::default();
    context.set("aws:ResourceTag/Env", "Prod");
    context.set("aws:PrincipalTag/team", "red-team");
    context.set("aws:username", "alice");
    context.set("kms:EncryptionContext:app", "web");
    context.set_many("kms:ResourceAliases", ["alias/one", "alias/two"]);
    let pairs = BTreeMap::new();
    let request = Request { who: &who, action: "kms:Decrypt", resource: KEY, context: &context, pairs: &pairs };
    let policies = Policies { key: Some((&key, "111122223333")), identity: &own, session: None, grants: &[] };
    assert!(decide(&request, &policies).allowed);
    bencher.bench(|| decide(divan::black_box(&request), divan::black_box(&policies)));
}

#[divan::bench]
fn reading_200_statements(bencher: Bencher) {
    bencher.counter(ItemsCount::new(STATEMENTS)).bench(read);
}

/// Threads that make grants, sharing syncs.
const MAKERS: usize = 8;

#[divan::bench(args = [1, 50_000], sample_count = 200, sample_size = 1)]
fn decrypt_by_a_grant_among(bencher: Bencher, grants: usize) {
    let place = env::var_os("ENVOL_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(place).expect("a directory");
    let identity = Identity { account: "111122223333".to_owned(), region: "us-east-1".to_owned() };
    let (store, domain_key) = (dir.path().join("kms"), dir.path().join("domain.key"));
    let kms = Embedded::open(&store, &domain_key, identity, Arc::new(SystemTime::now)).expect("opens");
    let root = Principal::root("111122223333");
    let key = KeyName::new(kms.create_key(&root, "", None).expect("made").key_id);
    let operations = ["Decrypt".to_owned()];
    let grant_to = |user: usize| {
        let grantee = format!("arn:aws:iam::111122223333:user/u{user}");
        let new = NewGrant { grantee: &grantee, retiring: None, operations: &operations, constraint: None, name: None };
        kms.create_grant(&root, &key, &new).expect("made");
    };
    thread::scope(|scope| {
        for maker in 0..MAKERS {
            let grant_to = &grant_to;
            scope.spawn(move || (maker..grants).step_by(MAKERS).for_each(grant_to));
        }
    });
    let context = EncryptionContext::default();
    let sealed = kms.encrypt(&root, &key, b"text", &context).expect("sealed").wrapped;
    let user = Principal::new("arn:aws:iam::111122223333:user/u0");
    bencher.bench_local(|| {
        let request = SignedRequest::new(user.clone(), "AKIA".to_owned());
        kms.decrypt_bytes(&request, Some(&key), &sealed, &context).expect("opened")
    });
}
