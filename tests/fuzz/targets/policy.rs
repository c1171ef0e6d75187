//! Policies and requests: whatever is taken as a policy decides without failing, always alike, and a denial of everything
//! stands over it. The input is the policy, a zero byte, and lines `name=value` of what the request says.

use std::collections::BTreeMap;

use envol::policy::{Context, Decision, Document, Kind, Named, Policies, Reason, Request, Who, decide};

const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const DENY: &str = r#"{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}"#;

pub(crate) fn run(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == 0).unwrap_or(data.len());
    let (text, said) = data.split_at(at);
    let (Ok(text), Ok(said)) = (std::str::from_utf8(text), std::str::from_utf8(said.get(1..).unwrap_or_default()))
    else {
        return;
    };
    let context = said_by(said);
    for kind in [Kind::Key, Kind::Identity, Kind::Trust] {
        match Document::read(text, kind) {
            Ok(document) => {
                assert_eq!(Document::read(text, kind), Ok(document.clone()));
                judge(&document, kind, &context);
            }
            Err(malformed) => assert!(!malformed.to_string().is_empty()),
        }
    }
}

fn said_by(lines: &str) -> Context {
    let mut context = Context::default();
    for (name, value) in lines.lines().filter_map(|line| line.split_once('=')) {
        match name.strip_suffix("[]") {
            Some(name) => context.set_many(name, [value]),
            None => context.set(name, value),
        }
    }
    context
}

fn judge(document: &Document, kind: Kind, context: &Context) {
    let deny = Document::read(DENY, Kind::Identity).expect("a policy");
    for who in [
        "arn:aws:iam::111122223333:user/alice",
        "arn:aws:sts::111122223333:assumed-role/app/one",
        "arn:aws:iam::999999999999:root",
    ] {
        let who = Who::named(who).expect("somebody");
        for action in ["kms:Decrypt", "kms:CreateGrant", "sts:AssumeRole"] {
            let own = [Named { name: "own", document }];
            let (key, identity) = match kind {
                Kind::Identity => (None, &own[..]),
                Kind::Key | Kind::Trust => (Some((document, "111122223333")), &[][..]),
            };
            let asked = |identity: &[Named<'_>]| -> Decision {
                let pairs = BTreeMap::new();
                let request = Request { who: &who, action, resource: KEY, context, pairs: &pairs };
                decide(&request, &Policies { key, identity, session: None, grants: &[] })
            };
            assert_eq!(asked(identity), asked(identity));
            let denied = [identity, &[Named { name: "deny", document: &deny }]].concat();
            let decision = asked(&denied);
            assert!(!decision.allowed && matches!(decision.reason, Reason::Denied(_)), "{decision:?}");
        }
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let statement = |rest: &str| format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",{rest}}}]}}"#);
    let own = |condition: &str| statement(&format!(r#""Action":"kms:*","Resource":"*","Condition":{{{condition}}}"#));
    [
        (statement(r#""Principal":{"AWS":"111122223333"},"Action":"kms:*","Resource":"*""#), ""),
        (
            statement(r#""Principal":"*","Action":["kms:Dec*"],"NotResource":"arn:aws:kms:*:*:key/${aws:username}""#),
            "aws:username=a",
        ),
        (statement(r#""Principal":{"AWS":"arn:aws:iam::111122223333:role/app"},"Action":"sts:AssumeRole""#), ""),
        (own(r#""ForAnyValue:StringLike":{"kms:ResourceAliases":["alias/*","a?c"]}"#), "kms:ResourceAliases[]=alias/a"),
        (own(r#""ForAllValues:StringNotEquals":{"aws:TagKeys":"b"}"#), "aws:TagKeys[]=a\naws:TagKeys[]=b"),
        (own(r#""NumericLessThanIfExists":{"kms:RotationPeriodInDays":"400"}"#), "kms:RotationPeriodInDays=90"),
        (
            own(r#""DateGreaterThan":{"aws:CurrentTime":"2027-01-15T08:00:00Z"}"#),
            "aws:CurrentTime=2027-01-16T00:00:00Z",
        ),
        (own(r#""IpAddress":{"aws:SourceIp":["10.0.0.0/8","::1"]}"#), "aws:SourceIp=10.1.2.3"),
        (own(r#""ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/*"}"#), "aws:PrincipalArn=arn:aws:iam::1:user/a"),
        (own(r#""Null":{"kms:ViaService":true},"Bool":{"aws:SecureTransport":"false"}"#), "aws:SecureTransport=false"),
        (
            own(r#""StringEquals":{"kms:EncryptionContext:a":"${aws:PrincipalTag/t, 'x'}"}"#),
            "kms:EncryptionContext:A=x",
        ),
    ]
    .into_iter()
    .map(|(policy, said)| [policy.as_bytes(), &[0], said.as_bytes()].concat())
    .collect()
}
