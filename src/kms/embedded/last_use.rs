//! GetKeyLastUsage: the last cryptographic operation that each key was used for with success.
//!
//! It is kept in memory and follows from the audit log, whose records are durable before calls are answered. From time
//! to time it is written into the store together with how far in the log it goes; when the store is opened, the lines
//! behind that are read again. So no Decrypt writes to the store, and nothing is forgotten in a crash.

use std::collections::HashMap;
use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::kms::{KeyName, KmsError};
use crate::limits;
use crate::sync::Mutex;

use super::admin::on_key;
use super::audit::{AuditLog, Call};
use super::call::Trail;
use super::caller::Caller;
use super::operation::Operation;
use super::store::{Store, StoreError};
use super::{Embedded, Identity, OpenError, refusal};

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

/// The last uses of a region's keys.
pub(super) struct LastUses(Mutex<Known>);

struct Known {
    of_key: HashMap<Uuid, LastUse>,
    /// Uses since they were last written into the store.
    unsaved: usize,
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
    pub(super) fn load(store: &Store, audit: &AuditLog, identity: &Identity) -> Result<Self, OpenError> {
        let (mut of_key, until) = store.last_uses()?;
        for line in audit.lines_from(until).map_err(OpenError::AuditLog)? {
            let line = line.map_err(OpenError::AuditLog)?;
            // A line that is no record of ours is nobody's use of a key; reading the log itself tells of it.
            let Ok(line) = serde_json::from_str::<Line>(&line) else { continue };
            if line.error_code.is_none() && uses_key(&line.event_name) {
                let time = line.event_time;
                let used = LastUse { operation: line.event_name, time, event: line.event, request: line.request };
                let keys = line.resources.iter().filter_map(|resource| key_of(&resource.arn, identity));
                of_key.extend(keys.map(|key| (key, used.clone())));
            }
        }
        Ok(Self(Mutex::new(Known { of_key, unsaved: 0 })))
    }

    /// Notes that the call has used the keys of its trail.
    pub(super) fn note(&self, call: &Call<'_>, trail: &Trail, identity: &Identity) {
        if !uses_key(call.operation.name()) {
            return;
        }
        let used = LastUse {
            operation: call.operation.name().to_owned(),
            time: Timestamp::from_second(trail.now.as_second()).unwrap_or(trail.now),
            event: trail.event,
            request: trail.request,
        };
        let mut known = self.0.lock();
        let keys = trail.resources.iter().filter_map(|arn| key_of(arn, identity));
        known.of_key.extend(keys.map(|key| (key, used.clone())));
        known.unsaved += 1;
    }

    /// Whether it is time to write them into the store.
    pub(super) fn are_many(&self) -> bool {
        self.0.lock().unsaved >= limits::KEY_USES_UNSAVED_MAX
    }

    fn of(&self, key: Uuid) -> Option<LastUse> {
        self.0.lock().of_key.get(&key).cloned()
    }

    /// Writes all of them into the store. Uses are noted before their lines are added, so none is behind `until`.
    pub(super) fn save(&self, store: &Store, until: u64) -> Result<(), StoreError> {
        let all: Vec<(Uuid, LastUse)> = {
            let mut known = self.0.lock();
            known.unsaved = 0;
            known.of_key.iter().map(|(key, used)| (*key, used.clone())).collect()
        };
        store.put_last_uses(&all, until)
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

    /// Writes the last uses into the store, so that few lines of the log are read when it is opened.
    pub(super) fn save_last_uses(&self) -> Result<(), KmsError> {
        let until = self.audit.durable();
        self.last_uses.save(&self.store, until).map_err(|error| refusal::internal(&error))
    }
}

/// Whether it is an operation whose last time is kept.
fn uses_key(operation: &str) -> bool {
    const USES: [&str; 7] = [
        "Decrypt",
        "Encrypt",
        "GenerateDataKey",
        "GenerateDataKeyWithoutPlaintext",
        "GenerateMac",
        "ReEncrypt",
        "VerifyMac",
    ];
    USES.contains(&operation)
}

/// The key whose ARN it is, where it is one of this region.
fn key_of(arn: &str, identity: &Identity) -> Option<Uuid> {
    let id = arn.strip_prefix(&identity.arn("key/"))?;
    Uuid::try_parse(id).ok()
}
