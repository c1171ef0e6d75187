//! One call as one line: CloudTrail's record of it, field by field.
//!
//! As CloudTrail does, texts that a client can make long are cut, times have whole seconds, what a cryptographic operation
//! answered is left out, and a call that changed something names the key in `responseElements` although its answer may
//! not. What time alone brings about is an `AwsServiceEvent`. Calls through a door of the daemon's own are "AWS Internal", as
//! those are that a service of AWS makes in somebody's name.

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::kms::KmsError;
use crate::kms::embedded::call::Trail;
use crate::kms::embedded::operation::Operation;
use crate::kms::embedded::{Identity, KeyMetadata, KeyState, KeyUsage};
use crate::limits;

use super::Call;

/// Whoever is not a client with a signature.
const INTERNAL: &str = "AWS Internal";

/// What a line tells of.
pub(super) struct Told<'a> {
    pub(super) identity: &'a Identity,
    pub(super) call: &'a Call<'a>,
    pub(super) trail: &'a Trail,
    pub(super) failure: Option<&'a KmsError>,
    /// The event's id.
    pub(super) id: Uuid,
    /// Whether the answer that the trail holds is that of this call, and not of one that came with it.
    pub(super) first: bool,
}

impl Told<'_> {
    /// The record.
    pub(super) fn event(&self) -> Value {
        let (call, trail, identity) = (self.call, self.trail, self.identity);
        let internal = call.operation.is_internal();
        let mut event = json!({
            "eventVersion": "1.08",
            "userIdentity": self.user(),
            "eventTime": Timestamp::from_second(trail.now.as_second()).unwrap_or(trail.now).to_string(),
            "eventSource": call.operation.source(),
            "eventName": call.operation.name(),
            "awsRegion": identity.region,
            "sourceIPAddress": call.caller.request.map_or(INTERNAL, |request| request.source.as_str()),
            "userAgent": self.agent(),
            "requestParameters": if internal { Value::Null } else { self.parameters() },
            "responseElements": self.response(),
            "requestID": trail.request.to_string(),
            "eventID": self.id.to_string(),
            "readOnly": call.operation.is_read_only(),
            "resources": trail.resources.iter().map(|arn| resource(identity, arn)).collect::<Vec<_>>(),
            "eventType": if internal { "AwsServiceEvent" } else { "AwsApiCall" },
            "managementEvent": true,
            "recipientAccountId": identity.account,
            "eventCategory": "Management",
        });
        if self.failure.is_none() && !trail.additional.is_empty() {
            event["additionalEventData"] = Value::Object(trail.additional.clone());
        }
        if internal {
            event["serviceEventDetails"] = self.details();
        }
        if let Some(error) = self.failure {
            let (code, message) = error_fields(error);
            event["errorCode"] = code.into();
            event["errorMessage"] = cut(&message).into();
        }
        event
    }

    fn user(&self) -> Value {
        let own = self.identity.account.as_str();
        if self.call.operation.is_internal() {
            return json!({ "accountId": own, "invokedBy": INTERNAL });
        }
        let account = self.call.caller.principal.account().unwrap_or(own);
        let arn = self.call.caller.principal.as_str();
        let mut user = json!({ "arn": arn, "accountId": account });
        match arn.rsplit_once(':').map(|(_, resource)| resource.split('/').collect::<Vec<_>>()).as_deref() {
            Some(["root"]) => {
                user["type"] = "Root".into();
                user["principalId"] = account.into();
            }
            Some(["user", .., name]) => {
                user["type"] = "IAMUser".into();
                user["principalId"] = (*name).into();
                user["userName"] = (*name).into();
            }
            Some(["assumed-role", role, session]) => {
                user["type"] = "AssumedRole".into();
                user["principalId"] = format!("{role}:{session}").into();
                user["sessionContext"] = json!({ "sessionIssuer": {
                    "type": "Role",
                    "principalId": role,
                    "arn": format!("arn:aws:iam::{account}:role/{role}"),
                    "accountId": account,
                    "userName": role,
                } });
            }
            _ => user["type"] = "Unknown".into(),
        }
        match self.call.caller.request {
            Some(request) => user["accessKeyId"] = request.access_key_id.as_str().into(),
            None => user["invokedBy"] = INTERNAL.into(),
        }
        user
    }

    fn agent(&self) -> Value {
        match self.call.caller.request {
            Some(request) => request.user_agent.as_deref().map_or(Value::Null, |agent| cut(agent).into()),
            None => INTERNAL.into(),
        }
    }

    fn parameters(&self) -> Value {
        let call = self.call;
        let mut shown = call.caller.request.map(|request| request.shown.clone()).unwrap_or_default();
        if let Some(key) = call.key {
            shown.insert("keyId".to_owned(), key.into());
        }
        if let Some(context) = call.context {
            let pairs: Map<String, Value> =
                context.pairs().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
            shown.insert("encryptionContext".to_owned(), Value::Object(pairs));
        }
        shown.extend(call.parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        if shown.is_empty() { Value::Null } else { Value::Object(shown) }
    }

    /// What may be shown of the answer.
    fn response(&self) -> Value {
        let operation = self.call.operation;
        let silent = operation.is_read_only() && operation != Operation::AssumeRole;
        if self.failure.is_some() || silent || operation.is_internal() {
            return Value::Null;
        }
        let mut shown = if self.first { self.trail.response.clone() } else { Map::new() };
        let key = self.trail.resources.iter().find(|arn| !is_alias(arn));
        if let Some(key) = key.filter(|_| operation != Operation::CreateKey) {
            shown.insert("keyId".to_owned(), key.as_str().into());
        }
        if shown.is_empty() { Value::Null } else { Value::Object(shown) }
    }

    /// Of what time alone brought about: the key's id, and how it came.
    fn details(&self) -> Value {
        let id = self.trail.resources.first().and_then(|arn| arn.rsplit_once('/')).map(|(_, id)| id);
        let mut details = json!({ "keyId": id });
        if self.call.operation == Operation::RotateKey {
            details["rotationType"] = "AUTOMATIC".into();
        }
        details
    }
}

/// A time as CloudTrail shows it within parameters and answers.
pub(in crate::kms::embedded) fn date(time: Timestamp) -> Value {
    time.strftime("%b %-d, %Y, %-I:%M:%S %p").to_string().into()
}

/// A new key as the record of its making shows it.
pub(in crate::kms::embedded) fn key_metadata(account: &str, key: &KeyMetadata, created: Timestamp) -> Value {
    let mut shown = json!({
        "aWSAccountId": account,
        "keyId": key.key_id,
        "arn": key.arn,
        "creationDate": date(created),
        "enabled": key.state == KeyState::Enabled,
        "description": cut(&key.description),
        "keyUsage": key.usage.name(),
        "keyState": key.state.name(),
        "origin": key.origin.name(),
        "keyManager": key.manager.name(),
        "customerMasterKeySpec": key.spec.name(),
        "keySpec": key.spec.name(),
        "multiRegion": false,
    });
    let algorithms = match key.usage {
        KeyUsage::Encryption => "encryptionAlgorithms",
        KeyUsage::Mac => "macAlgorithms",
        KeyUsage::Signing => "signingAlgorithms",
        KeyUsage::Agreement => "keyAgreementAlgorithms",
    };
    shown[algorithms] = json!(key.spec.algorithms(key.usage));
    shown
}

fn is_alias(arn: &str) -> bool {
    arn.contains(":alias/")
}

fn resource(identity: &Identity, arn: &str) -> Value {
    let kind = if is_alias(arn) { "AWS::KMS::Alias" } else { "AWS::KMS::Key" };
    json!({ "accountId": identity.account, "type": kind, "ARN": arn })
}

/// As much of a text as a line has room for.
fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(limits::AUDIT_TEXT_MAX)]
}

/// The exception as the caller gets it.
fn error_fields(error: &KmsError) -> (&str, String) {
    match error {
        KmsError::Refused { exception, message } | KmsError::Throttled { exception, message } => {
            (exception, message.clone())
        }
        error => ("KMSInternalException", error.to_string()),
    }
}
