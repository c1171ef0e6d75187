//! What is explained is what is done: generated policies, grants and requests, each asked both ways.

use envol::kms::embedded::{AskedRight, Embedded, NewGrant, SignedRequest};
use envol::kms::{EncryptionContext, KeyName, KmsError, Principal};
use serde_json::{Value, json};

use crate::world::{World, caller, named, refusal};

/// Policies and grants that are made up, and requests to each: 10,000 pairs.
const WORLDS: usize = 250;
const REQUESTS: usize = 40;

const ACCOUNT: &str = "000000000000";
const PRINCIPALS: &[&str] = &[
    "arn:aws:iam::000000000000:root",
    "arn:aws:iam::000000000000:user/alice",
    "arn:aws:iam::000000000000:user/bob",
    "arn:aws:sts::000000000000:assumed-role/app/one",
    "arn:aws:iam::111122223333:user/carol",
];
const ACTIONS: &[&str] =
    &["kms:Encrypt", "kms:GenerateDataKey", "kms:GenerateDataKeyWithoutPlaintext", "kms:DescribeKey"];
const PATTERNS: &[&str] = &["kms:*", "kms:Encrypt", "kms:GenerateDataKey*", "kms:Describe*", "*"];

/// Numbers that follow from a seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % most
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn condition(&mut self) -> Option<Value> {
        match self.below(7) {
            0 => Some(json!({ "StringEquals": { "kms:EncryptionContext:app": self.one(&["web", "db"]) } })),
            1 => Some(json!({ "StringNotEquals": { "kms:EncryptionContext:app": "web" } })),
            2 => Some(json!({ "StringEquals": { "kms:RequestAlias": "alias/a" } })),
            3 => Some(json!({ "ForAnyValue:StringEquals": { "kms:EncryptionContextKeys": ["app", "x"] } })),
            4 => Some(
                json!({ "StringEqualsIfExists": { "aws:PrincipalTag/team": "red" }, "Null": { "kms:ViaService": true } }),
            ),
            _ => None,
        }
    }

    fn statement(&mut self, named: bool) -> Value {
        let effect = if self.below(4) == 0 { "Deny" } else { "Allow" };
        let mut made = json!({ "Effect": effect, "Action": self.one(PATTERNS), "Resource": "*" });
        if named {
            let role = "arn:aws:iam::000000000000:role/app";
            let who = self.one(&[
                PRINCIPALS[0],
                PRINCIPALS[1],
                PRINCIPALS[2],
                PRINCIPALS[3],
                PRINCIPALS[4],
                role,
                "*",
                "111122223333",
            ]);
            made["Principal"] = json!({ "AWS": who });
        }
        if let Some(condition) = self.condition() {
            made["Condition"] = condition;
        }
        made
    }

    fn policy(&mut self, named: bool) -> Value {
        let count = 1 + self.below(3);
        let statements: Vec<Value> = (0..count).map(|_| self.statement(named)).collect();
        json!({ "Version": "2012-10-17", "Statement": statements })
    }

    fn identities(&mut self) -> Value {
        let trust = json!({ "Statement": { "Effect": "Allow", "Principal": "*", "Action": "sts:AssumeRole" } });
        json!({ "accounts": {
            ACCOUNT: {
                "users": { "alice": { "policies": { "p": self.policy(false) }, "tags": { "team": "red" } }, "bob": { "groups": ["g"] } },
                "groups": { "g": { "policies": { "p": self.policy(false) } } },
                "roles": { "app": { "trust": trust, "policies": { "p": self.policy(false) }, "tags": { "team": "blue" } } },
            },
            "111122223333": { "users": { "carol": { "policies": { "p": self.policy(false) } } } },
        } })
    }
}

fn asked(
    kms: &Embedded,
    who: &str,
    action: &str,
    (key, context): (&KeyName, &EncryptionContext),
) -> Result<(), KmsError> {
    let request = SignedRequest::new(Principal::new(who), "AKIA".to_owned());
    match action {
        "kms:Encrypt" => kms.encrypt(&request, key, b"text", context).map(|_| ()),
        "kms:GenerateDataKey" => kms.generate_data_key(&request, key, 32, context).map(|_| ()),
        "kms:GenerateDataKeyWithoutPlaintext" => kms.generate_sealed_data_key(&request, key, 32, context).map(|_| ()),
        _ => kms.describe_key(&request, key).map(|_| ()),
    }
}

#[test]
fn ten_thousand_requests_are_decided_as_it_is_explained() {
    let world = World::new();
    let (kms, root) = (world.open(), Principal::root(ACCOUNT));
    let arn = kms.create_key(&caller(), "", Some("alias/a")).expect("made").arn;
    let (by_arn, by_alias) = (named(arn.as_str()), named("arn:aws:kms:us-east-1:000000000000:alias/a"));
    let (mut dice, mut allowed) = (Dice(7), 0);
    for _ in 0..WORLDS {
        kms.put_identities(&root, &dice.identities().to_string()).expect("put");
        kms.put_key_policy(&root, &by_arn, None, (&dice.policy(true).to_string(), true)).expect("put");
        let operations = [dice.one(ACTIONS).trim_start_matches("kms:").to_owned()];
        let grantee = dice.one(&PRINCIPALS[1..]);
        let new = NewGrant { grantee, retiring: None, operations: &operations, constraint: None, name: None };
        let grant = (dice.below(3) == 0).then(|| kms.create_grant(&root, &by_arn, &new).expect("made"));
        for _ in 0..REQUESTS {
            let (who, action, alias) = (dice.one(PRINCIPALS), dice.one(ACTIONS), dice.below(2) == 0);
            let pairs: &[(&str, &str)] = dice.one(&[&[][..], &[("app", "web")], &[("app", "db"), ("x", "1")]]);
            // DescribeKey has no encryption context.
            let context = EncryptionContext::new(pairs.iter().copied().filter(|_| action != "kms:DescribeKey"));
            let right =
                AskedRight { principal: who, action, context: context.clone(), alias: alias.then_some("alias/a") };
            let explained = kms.explain(&root, &by_arn, &right).expect("explained");
            let done = asked(&kms, who, action, (if alias { &by_alias } else { &by_arn }, &context));
            match done {
                Ok(()) => assert!(explained.allowed, "{who} {action}: {explained:?}"),
                refused => {
                    let text = refusal(refused);
                    assert!(text.starts_with("AccessDeniedException: "), "{text}");
                    assert!(!explained.allowed, "{who} {action}: {explained:?} {text}");
                }
            }
            allowed += usize::from(explained.allowed);
        }
        if let Some(grant) = grant {
            kms.revoke_grant(&root, &by_arn, &grant.id).expect("revoked");
        }
    }
    let all = WORLDS * REQUESTS;
    assert!((all / 10..all * 9 / 10).contains(&allowed), "{allowed} of {all} were allowed: that tells little");
}

#[test]
fn only_root_has_rights_explained_and_of_somebody_there_can_be() {
    let world = World::new();
    let kms = world.open();
    kms.create_key(&caller(), "", Some("alias/a")).expect("made");
    let right =
        |principal| AskedRight { principal, action: "Decrypt", context: EncryptionContext::default(), alias: None };
    assert!(refusal(kms.explain(&caller(), &named("alias/a"), &right(PRINCIPALS[1]))).starts_with("AccessDenied"));
    let root = Principal::root(ACCOUNT);
    assert!(refusal(kms.explain(&root, &named("alias/a"), &right("alice"))).starts_with("InvalidArnException"));
    assert!(refusal(kms.explain(&root, &named("alias/b"), &right(PRINCIPALS[1]))).starts_with("NotFoundException"));
    let told = kms.explain(&root, &named("alias/a"), &right(PRINCIPALS[1])).expect("explained");
    assert_eq!((told.allowed, told.action.as_str()), (false, "kms:Decrypt"));
    assert_eq!(told.reason, "no policy of the principal's own allows it");
    assert_eq!(told.change, "a policy of arn:aws:iam::000000000000:user/alice that allows kms:Decrypt");
    let told = kms.explain(&root, &named("alias/a"), &right(PRINCIPALS[0])).expect("explained");
    assert_eq!(told.reason, "allowed by the key's policy, statement 1 (\"Enable IAM User Permissions\")");
}
