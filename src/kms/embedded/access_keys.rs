//! Access keys: the credentials with which requests are signed.
//!
//! A secret is made here, shown once and stored sealed under the domain key, for its id and account alone. They are kept
//! in the store of the KMS's own region and are good in all of them. Whoever is the account's root makes and deletes them,
//! and only through a door of the daemon's own.

use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::crypto::random;
use crate::kms::{KmsError, Principal};
use crate::limits;
use crate::policy::Who;
use crate::sys::locked::LockedMemory;

use super::admin::on_nothing;
use super::audit::{Call, date};
use super::caller::Caller;
use super::operation::Operation;
use super::store::Lookup;
use super::{Embedded, Plaintext, refusal};

/// The user who is the account's administrator.
const ROOT: &str = "root";

/// What the store keeps of an access key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AccessKeyRecord {
    pub(super) user: String,
    /// Their account, where it is not that of the keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) account: Option<String>,
    pub(super) created: Timestamp,
    /// The secret, sealed under the domain key; base64.
    pub(super) sealed_secret: String,
}

/// An access key without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessKey {
    /// Its id, `AKIA` and 16 of `A-Z2-7`.
    pub id: String,
    /// Whose it is.
    pub user: String,
    /// When it was made.
    pub created: SystemTime,
}

/// An access key that has just been made.
pub struct NewAccessKey {
    /// All but the secret.
    pub key: AccessKey,
    /// The secret: 40 letters, never shown again.
    pub secret: Plaintext,
}

impl Embedded {
    /// Makes an access key of `user`.
    ///
    /// # Errors
    /// Where the caller is not root, the name cannot be a user's, or they have too many.
    pub fn create_access_key(&self, caller: &Principal, user: &str) -> Result<NewAccessKey, KmsError> {
        let call = on_access_key(caller, Operation::CreateAccessKey, "userName", user);
        self.change(&call, |tables, trail| {
            let (account, user) = self.read_user(user)?;
            judge_right(&call)?;
            let of_user = |record: &AccessKeyRecord| record.user == user && record.account == account;
            let own = tables.all_access_keys()?.into_iter().filter(|(_, record)| of_user(record));
            if own.count() >= limits::ACCESS_KEYS_PER_USER {
                return Err(refusal::too_many_access_keys(limits::ACCESS_KEYS_PER_USER));
            }
            let (id, secret) = (new_id("AKIA"), new_secret()?);
            let sealed = self.hsm.keep(&self.purpose_of(&id), secret.bytes())?;
            let created = trail.now;
            let sealed_secret = STANDARD.encode(sealed);
            let record = AccessKeyRecord { user, account, created, sealed_secret };
            let user = self.user(&record);
            tables.put_access_key(&id, &record)?;
            let shown = json!({ "userName": user, "accessKeyId": id, "status": "Active", "createDate": date(created) });
            trail.response.insert("accessKey".to_owned(), shown);
            let key = AccessKey { id, user, created: created.into() };
            Ok(NewAccessKey { key, secret: Plaintext::new(secret) })
        })
    }

    /// Every access key.
    ///
    /// # Errors
    /// Where the caller is not root.
    pub fn list_access_keys(&self, caller: &Principal) -> Result<Vec<AccessKey>, KmsError> {
        let call = on_nothing(caller.into(), Operation::ListAccessKeys);
        self.observe(&call, |view, _| {
            judge_right(&call)?;
            let keys = view.all_access_keys()?.into_iter();
            let shown = |(id, record)| AccessKey { id, user: self.user(&record), created: record.created.into() };
            Ok(keys.map(shown).collect())
        })
    }

    /// Deletes an access key: from here on no request that it signs is answered.
    ///
    /// # Errors
    /// Where the caller is not root, or there is none with that id.
    pub fn delete_access_key(&self, caller: &Principal, id: &str) -> Result<(), KmsError> {
        let call = on_access_key(caller, Operation::DeleteAccessKey, "accessKeyId", id);
        self.change(&call, |tables, _| {
            judge_right(&call)?;
            if tables.remove_access_key(id)? { Ok(()) } else { Err(refusal::no_such_access_key(id)) }
        })
    }

    /// Whose access key `id` is, and its secret; `None` where there is none. For whoever verifies signatures.
    ///
    /// # Errors
    /// Where store or HSM fail.
    pub fn access_key(&self, id: &str) -> Result<Option<(Principal, Plaintext)>, KmsError> {
        let Some(record) = self.store.view()?.access_key(id)? else { return Ok(None) };
        let sealed = STANDARD.decode(record.sealed_secret).map_err(|error| refusal::internal(&error))?;
        let secret = self.hsm.recall(&self.purpose_of(id), &sealed).map_err(|error| refusal::internal(&error))?;
        let account = record.account.as_deref().unwrap_or(&self.identity.account);
        Ok(Some((principal(account, &record.user), Plaintext::new(secret))))
    }

    /// The account, where it is another one, and the name of a user who is given by name or by ARN.
    fn read_user(&self, user: &str) -> Result<(Option<String>, String), KmsError> {
        let by_arn = Who::named(user).ok().filter(|who| !who.is_session());
        let name = by_arn.as_ref().and_then(|who| match who.arn().rsplit(':').next()? {
            ROOT => Some(ROOT),
            // A user who is called so is none: who has that name is the root.
            resource => resource.strip_prefix("user/").filter(|name| *name != ROOT),
        });
        let (account, name) = match (&by_arn, name) {
            (Some(who), Some(name)) => (Some(who.account().to_owned()), name),
            _ => (None, user),
        };
        judge_user(name)?;
        Ok((account.filter(|account| *account != self.identity.account), name.to_owned()))
    }

    /// A user as they are told of: by name, and those of another account by ARN.
    fn user(&self, record: &AccessKeyRecord) -> String {
        match &record.account {
            None => record.user.clone(),
            Some(account) => principal(account, &record.user).to_string(),
        }
    }

    fn purpose_of(&self, id: &str) -> Vec<u8> {
        format!("access key {} {id}", self.identity.account).into()
    }
}

fn on_access_key<'a>(caller: &'a Principal, operation: Operation, name: &'static str, value: &str) -> Call<'a> {
    let parameters = vec![(name, Value::from(value))];
    Call { caller: Caller::from(caller), operation, key: None, context: None, parameters }
}

fn principal(account: &str, user: &str) -> Principal {
    if user == ROOT { Principal::root(account) } else { Principal::new(format!("arn:aws:iam::{account}:user/{user}")) }
}

pub(super) fn judge_right(call: &Call<'_>) -> Result<(), KmsError> {
    let principal = call.caller.principal;
    if principal.is_root() {
        Ok(())
    } else {
        Err(refusal::not_root(principal, &format!("iam:{}", call.operation.name())))
    }
}

/// A user's name as IAM has them.
fn judge_user(user: &str) -> Result<(), KmsError> {
    if !(1..=limits::USER_NAME_MAX).contains(&user.len()) {
        let constraint = format!("have length between 1 and {}", limits::USER_NAME_MAX);
        return Err(refusal::validation("userName", Some(user), &constraint));
    }
    if !user.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte)) {
        return Err(refusal::validation("userName", Some(user), "satisfy regular expression pattern: [\\w+=,.@-]+"));
    }
    Ok(())
}

/// The id of an access key: `AKIA` of a user's, `ASIA` of a session's.
pub(super) fn new_id(kind: &str) -> String {
    const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let mut bytes = [0; 16];
    random::fill(&mut bytes);
    let letters = bytes.iter().map(|byte| char::from(LETTERS[usize::from(byte & 31)]));
    kind.chars().chain(letters).collect()
}

/// 240 random bits as 40 letters of base64.
pub(super) fn new_secret() -> Result<LockedMemory, KmsError> {
    let mut bytes = LockedMemory::zeroed(30)?;
    random::fill(bytes.bytes_mut());
    let mut letters = LockedMemory::zeroed(40)?;
    STANDARD.encode_slice(bytes.bytes(), letters.bytes_mut()).expect("30 bytes are 40 letters of base64");
    Ok(letters)
}
