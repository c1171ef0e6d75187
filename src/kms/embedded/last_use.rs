//! GetKeyLastUsage: the last cryptographic operation that each key was used for with success.
//!
//! It is kept in memory and follows from the audit log, whose records are durable before calls are answered. Whenever the
//! log has grown by so much, it is written into the store together with how far in the log it goes; when the store is
//! opened, the lines behind that are read again. So no Decrypt writes to the store, nothing is forgotten in a crash, and
//! how long opening takes does not depend on the age of the log. The regions share it, as they share the log.

use std::collections::HashMap;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tracing::{error, warn};
use uuid::Uuid;

use crate::kms::{KeyName, KmsError};
use crate::limits;
use crate::sync::{Arc, Mutex};

use super::admin::on_key;
use super::audit::{AuditLog, Call};
use super::call::Trail;
use super::caller::Caller;
use super::operation::Operation;
use super::store::Store;
use super::{Embedded, OpenError};

/// The last use of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastUse {
    /// The operation, as AWS spells it.
    pub operation: String,
    /// When, to the second.
    pub time: Timestamp,
    /// The id of its record in the audit log.
    pub event: Uuid,
    /// The id of the request.
    pub request: Uuid,
}

/// What [`Embedded::key_last_usage`] says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyLastUsage {
    /// The key's id.
    pub key_id: String,
    /// When it was made; uses are known from then on.
    pub created: SystemTime,
    /// Its last use, if there was one.
    pub last: Option<LastUse>,
}

/// The last uses of the keys of all regions.
pub(super) struct LastUses {
    known: Mutex<Known>,
    /// That of the KMS's own region.
    store: Arc<Store>,
}

struct Known {
    of_key: HashMap<Uuid, LastUse>,
    /// How far the log went when they were last written into the store, or that was tried.
    until: u64,
}

/// A line of the log, as far as it counts here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    event_name: String,
    event_time: Timestamp,
    #[serde(rename = "eventID")]
    event: Uuid,
    #[serde(rename = "requestID")]
    request: Uuid,
    error_code: Option<String>,
    resources: Vec<Resource>,
}

#[derive(Deserialize)]
struct Resource {
    #[serde(rename = "ARN")]
    arn: String,
}

impl LastUses {
    /// What the store knows, brought up to date from the log.
    pub(super) fn load(store: Arc<Store>, audit: &AuditLog) -> Result<Self, OpenError> {
        let (of_key, until) = store.last_uses()?;
        let mut known = Known { of_key, until };
        let mut unreadable = 0_u64;
        for line in audit.lines_from(until).map_err(OpenError::AuditLog)? {
            let line = line.map_err(OpenError::AuditLog)?;
            match serde_json::from_slice(&line) {
                Ok(line) => known.learn(line),
                Err(_) => unreadable += 1,
            }
        }
        if unreadable > 0 {
            warn!(lines = unreadable, from = until, "lines of the audit log are no records, and are passed over");
        }
        Ok(Self { known: Mutex::new(known), store })
    }

    /// Notes that the call has used the keys of its trail.
    pub(super) fn note(&self, call: &Call<'_>, trail: &Trail) {
        if !uses_key(call.operation.name()) {
            return;
        }
        let used = LastUse {
            operation: call.operation.name().to_owned(),
            time: Timestamp::from_second(trail.now.as_second()).unwrap_or(trail.now),
            event: trail.event,
            request: trail.request,
        };
        let keys = trail.resources.iter().filter_map(|arn| key_of(arn));
        self.known.lock().of_key.extend(keys.map(|key| (key, used.clone())));
    }

    /// Forgets a key that is gone.
    pub(super) fn forget(&self, key: Uuid) {
        self.known.lock().of_key.remove(&key);
    }

    fn of(&self, key: Uuid) -> Option<LastUse> {
        self.known.lock().of_key.get(&key).cloned()
    }

    /// Writes all of them into the store if the log, durable up to `until`, has grown by much since that was last done.
    /// Uses are noted before their lines are added, so none is missing of those before `until`.
    ///
    /// Should it fail, no call fails with it: more of the log is read at the next opening, and it is tried again when the
    /// log has grown by as much once more.
    pub(super) fn keep_up(&self, until: u64) {
        let all: Vec<(Uuid, LastUse)> = {
            let mut known = self.known.lock();
            // A log that was shortened by somebody else has all of it to be read again.
            if until.checked_sub(known.until).is_some_and(|grown| grown < limits::AUDIT_LOG_REREAD_MAX) {
                return;
            }
            known.until = until;
            known.of_key.iter().map(|(key, used)| (*key, used.clone())).collect()
        };
        if let Err(error) = self.store.put_last_uses(&all, until) {
            error!(%error, "the last uses of keys cannot be written into the store; they stay known from the audit log");
        }
    }
}

impl Known {
    fn learn(&mut self, line: Line) {
        let keys = line.resources.iter().filter_map(|resource| key_of(&resource.arn));
        if line.event_name == Operation::DeleteKey.name() {
            keys.for_each(|key| drop(self.of_key.remove(&key)));
        } else if line.error_code.is_none() && uses_key(&line.event_name) {
            let (time, event, request) = (line.event_time, line.event, line.request);
            let used = LastUse { operation: line.event_name, time, event, request };
            self.of_key.extend(keys.map(|key| (key, used.clone())));
        }
    }
}

impl Embedded {
    /// GetKeyLastUsage.
    ///
    /// # Errors
    /// As AWS.
    pub fn key_last_usage<'a>(&self, caller: impl Into<Caller<'a>>, key: &KeyName) -> Result<KeyLastUsage, KmsError> {
        let call = on_key(caller.into(), Operation::GetKeyLastUsage, key);
        self.observe(&call, |view, trail| {
            let key = self.resolve_and_admit(view, trail, &call, key)?;
            let (key_id, created) = (key.id.to_string(), key.record.created.into());
            Ok(KeyLastUsage { key_id, created, last: self.last_uses.of(key.id) })
        })
    }

    /// The last use of the key with this id, for whoever describes it: no call, so it leaves no record.
    pub fn last_use(&self, key_id: &str) -> Option<LastUse> {
        self.last_uses.of(Uuid::try_parse(key_id).ok()?)
    }
}

/// Whether it is an operation whose last time is kept.
fn uses_key(operation: &str) -> bool {
    const USES: [&str; 12] = [
        "Decrypt",
        "DeriveSharedSecret",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyPair",
        "GenerateDataKeyPairWithoutPlaintext",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateMac",
        "ReEncrypt",
        "Sign",
        "Verify",
        "VerifyMac",
    ];
    USES.contains(&operation)
}

/// The key whose ARN it is; no two regions have keys of one id.
fn key_of(arn: &str) -> Option<Uuid> {
    let (_, id) = arn.rsplit_once(":key/")?;
    Uuid::try_parse(id).ok()
}
