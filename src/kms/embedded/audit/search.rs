//! Finding records: by key, principal, volume and time.
//!
//! The log is read from its end, and no further than to the last record that is asked for. Reading it is a call like any other and leaves its record, as CloudTrail's `LookupEvents` does; it is the account
//! root's matter, through a door of the daemon's own.

use jiff::Timestamp;
use serde_json::Value;

use crate::kms::embedded::admin::on_nothing;
use crate::kms::embedded::caller::Caller;
use crate::kms::embedded::keys::Named;
use crate::kms::embedded::operation::Operation;
use crate::kms::embedded::store::Lookup;
use crate::kms::embedded::{Embedded, refusal};
use crate::kms::{KmsError, Principal};

/// Which records are wanted: all, but for what is given.
#[derive(Debug, Clone, Default)]
pub struct AuditFilter {
    /// About this key: an id, ARN, alias or alias ARN. Keys that are gone have an id and an ARN.
    pub key: Option<String>,
    /// By this principal: an ARN, the name of a user, `root`, or an access key's id.
    pub principal: Option<String>,
    /// Under the encryption context of this volume, by its id.
    pub volume: Option<String>,
    /// Not before this.
    pub since: Option<Timestamp>,
    /// Before this.
    pub until: Option<Timestamp>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct AuditRecords {
    /// The records, oldest first.
    pub records: Vec<Value>,
    /// Lines that are no record and were passed over, in the part of the log that was read.
    pub unreadable: u64,
}

impl Embedded {
    /// The newest `most` records that pass `filter`.
    ///
    /// # Errors
    /// Where the caller is not root, or the log cannot be read.
    pub fn audit_records(
        &self,
        caller: &Principal,
        filter: &AuditFilter,
        most: usize,
    ) -> Result<AuditRecords, KmsError> {
        let mut found = AuditRecords::default();
        let mut search = self.search(caller, filter)?;
        while found.records.len() < most {
            match search.next() {
                Some(Ok(Some(record))) => found.records.push(record),
                Some(Ok(None)) => found.unreadable += 1,
                Some(Err(error)) => return Err(error),
                None => break,
            }
        }
        found.records.reverse();
        Ok(found)
    }

    /// The record with the event id `id`.
    ///
    /// # Errors
    /// Where the caller is not root, the log cannot be read, or has none.
    pub fn audit_record(&self, caller: &Principal, id: &str) -> Result<Value, KmsError> {
        for record in self.search(caller, &AuditFilter::default())? {
            if let Some(record) = record?.filter(|record| record["eventID"] == id) {
                return Ok(record);
            }
        }
        Err(refusal::no_such_event(id))
    }

    /// The records that pass, the newest first, from the call itself back, and `None` for each line that is none; read when the
    /// call has been answered, so that nobody waits for it.
    fn search(
        &self,
        caller: &Principal,
        filter: &AuditFilter,
    ) -> Result<impl Iterator<Item = Result<Option<Value>, KmsError>> + use<>, KmsError> {
        let mut call = on_nothing(Caller::from(caller), Operation::LookupEvents);
        call.parameters = shown(filter);
        let (keys, lines) = self.observe(&call, |view, _| {
            if !caller.is_root() {
                return Err(refusal::not_root(caller, "cloudtrail:LookupEvents"));
            }
            let keys = filter.key.as_ref().map(|key| self.meant(view, key)).transpose()?;
            let lines = self.audit.lines_back().map_err(|error| refusal::internal(&error))?;
            Ok((keys, lines))
        })?;
        let filter = filter.clone();
        let wanted = move |record: &Value| {
            keys.as_ref().is_none_or(|keys| is_about(record, keys))
                && filter.principal.as_ref().is_none_or(|principal| is_by(record, principal))
                && filter.volume.as_ref().is_none_or(|volume| is_of_volume(record, volume))
                && is_within(record, filter.since, filter.until)
        };
        let records = lines.map(|line| {
            let line = line.map_err(|error| refusal::internal(&error))?;
            Ok(serde_json::from_slice(&line).ok().filter(Value::is_object))
        });
        Ok(records.filter(move |record| !matches!(record, Ok(Some(record)) if !wanted(record))))
    }

    /// What a record may call the key that `name` means: the name itself and, where it can be told, its ARN.
    fn meant(&self, view: &impl Lookup, name: &str) -> Result<Vec<String>, KmsError> {
        let id = match self.identity.read_name(name) {
            Ok(Named::Key(id)) => Some(id),
            Ok(Named::Alias(alias)) => view.alias(&alias)?,
            Err(_) => None,
        };
        let arn = id.map(|id| self.identity.key_arn(id).as_str().to_owned());
        Ok(arn.into_iter().chain([name.to_owned()]).collect())
    }
}

fn shown(filter: &AuditFilter) -> Vec<(&'static str, Value)> {
    let time = |time: &Timestamp| Value::from(time.to_string());
    let text = |text: &String| Value::from(text.as_str());
    let all = [
        ("keyId", filter.key.as_ref().map(text)),
        ("principal", filter.principal.as_ref().map(text)),
        ("volume", filter.volume.as_ref().map(text)),
        ("startTime", filter.since.as_ref().map(time)),
        ("endTime", filter.until.as_ref().map(time)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

fn is_about(record: &Value, keys: &[String]) -> bool {
    let named = |value: &Value| value.as_str().is_some_and(|text| keys.iter().any(|key| key == text));
    let resources = record["resources"].as_array().into_iter().flatten();
    resources.map(|resource| &resource["ARN"]).any(named)
        || (record["eventName"] != Operation::LookupEvents.name() && named(&record["requestParameters"]["keyId"]))
}

fn is_by(record: &Value, principal: &str) -> bool {
    let user = &record["userIdentity"];
    let is_root = principal == "root" && user["type"] == "Root";
    is_root || ["arn", "userName", "accessKeyId"].iter().any(|field| user[field] == principal)
}

fn is_of_volume(record: &Value, volume: &str) -> bool {
    record["requestParameters"]["encryptionContext"]["aws:ebs:id"] == volume
}

fn is_within(record: &Value, since: Option<Timestamp>, until: Option<Timestamp>) -> bool {
    let time: Option<Timestamp> = record["eventTime"].as_str().and_then(|time| time.parse().ok());
    time.is_some_and(|time| since.is_none_or(|since| time >= since) && until.is_none_or(|until| time < until))
}
