//! The audit log: one line of JSON for every call, refused ones too, in CloudTrail's shape where that is known.
//!
//! Lines are appended in the order in which the calls took effect. A line says who asked for what under which
//! encryption context and what came of it; it never holds plaintext, a blob or a token. Texts that a client can make long
//! are cut as CloudTrail cuts them. A line that was not written
//! whole (a crash, a full disk) is cut off again: its call was never answered.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use jiff::Timestamp;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::kms::{EncryptionContext, KmsError};
use crate::limits;
use crate::sync::Mutex;

use super::Identity;
use super::caller::{Caller, SignedRequest};
use super::operation::Operation;

/// The log's file, in the KMS's directory.
pub(super) const FILE: &str = "audit.ndjson";

/// A call, as it was asked.
#[derive(Clone)]
pub(super) struct Call<'a> {
    /// Who asks.
    pub(super) caller: Caller<'a>,
    /// What for.
    pub(super) operation: Operation,
    /// The key, as the caller names it.
    pub(super) key: Option<&'a str>,
    /// The encryption context.
    pub(super) context: Option<&'a EncryptionContext>,
    /// The other parameters that may be shown, as AWS names them.
    pub(super) parameters: Vec<(&'static str, Value)>,
}

/// The open log.
pub(super) struct AuditLog(Mutex<Tail>);

struct Tail {
    file: File,
    /// Where the last whole line ends.
    length: u64,
}

impl AuditLog {
    /// Opens the log in `dir`, or makes it.
    pub(super) fn open(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        let mut file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        let length = end_of_whole_lines(&file)?;
        if length < file.metadata()?.len() {
            file.set_len(length)?;
        }
        file.seek(SeekFrom::End(0))?;
        Ok(Self(Mutex::new(Tail { file, length })))
    }

    /// Appends the line of a call.
    pub(super) fn record(
        &self,
        identity: &Identity,
        time: Timestamp,
        call: &Call<'_>,
        resources: &[String],
        failure: Option<&KmsError>,
    ) -> io::Result<()> {
        let mut line = serde_json::to_vec(&event(identity, time, call, resources, failure))?;
        line.push(b'\n');
        self.0.lock().append(&line)
    }
}

impl Tail {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if let Err(error) = self.file.write_all(line) {
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += u64::try_from(line.len()).expect("a line is short");
        Ok(())
    }
}

/// How far the log consists of whole lines.
fn end_of_whole_lines(file: &File) -> io::Result<u64> {
    let mut reader = BufReader::new(file);
    let mut end = 0;
    let mut at = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = reader.read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(end);
        }
        at += u64::try_from(read).expect("a line is short");
        if line.last() == Some(&b'\n') {
            end = at;
        }
    }
}

fn event(
    identity: &Identity,
    time: Timestamp,
    call: &Call<'_>,
    resources: &[String],
    failure: Option<&KmsError>,
) -> Value {
    let mut event = json!({
        "eventVersion": "1.08",
        "userIdentity": { "arn": call.caller.principal.as_str() },
        "eventTime": time.to_string(),
        "eventSource": if call.operation.is_of_iam() { "iam.amazonaws.com" } else { "kms.amazonaws.com" },
        "eventName": call.operation.name(),
        "awsRegion": identity.region,
        "requestParameters": parameters(call),
        "responseElements": null,
        "requestID": call.caller.request.map_or_else(Uuid::new_v4, |request| request.id).to_string(),
        "eventID": Uuid::new_v4().to_string(),
        "readOnly": call.operation.is_read_only(),
        "resources": resources.iter().map(|arn| resource(identity, arn)).collect::<Vec<_>>(),
        "eventType": "AwsApiCall",
        "managementEvent": true,
        "recipientAccountId": identity.account,
        "eventCategory": "Management",
    });
    if let Some(request) = call.caller.request {
        add_origin(&mut event, identity, request);
    }
    if let Some(error) = failure {
        let (code, message) = error_fields(error);
        event["errorCode"] = code.into();
        event["errorMessage"] = cut(&message).into();
    }
    event
}

/// What only a signed request has.
fn add_origin(event: &mut Value, identity: &Identity, request: &SignedRequest) {
    event["userIdentity"]["accountId"] = identity.account.as_str().into();
    event["userIdentity"]["accessKeyId"] = request.access_key_id.as_str().into();
    event["sourceIPAddress"] = request.source.as_str().into();
    if let Some(agent) = &request.user_agent {
        event["userAgent"] = cut(agent).into();
    }
}

fn parameters(call: &Call<'_>) -> Value {
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
    Value::Object(shown)
}

fn resource(identity: &Identity, arn: &str) -> Value {
    let kind = if arn.contains(":alias/") { "AWS::KMS::Alias" } else { "AWS::KMS::Key" };
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
