//! A key as the store keeps it, and its states; which operation each state allows is in `operation`.
//!
//! ```text
//!            DisableKey                 ScheduleKeyDeletion
//! Enabled <-------------> Disabled        any other ---> PendingDeletion ---(its date)---> gone
//!            EnableKey                     Disabled <--- CancelKeyDeletion
//!
//! PendingImport ---(all of its material is there)---> Enabled         of keys with imported material; it is also where
//! Enabled, Disabled ---(some expires, is deleted)---> PendingImport   CancelKeyDeletion leads while some is missing
//! ```
//! The store keeps what is lasting; ARNs follow from the identity. Names of keys are read here too.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::kms::{KeyArn, KmsError};
use crate::limits;

use super::hsm::MaterialId;
use super::spec::{KeySpec, KeyUsage};
use super::{Identity, KeyState, Manager, refusal};

/// What the store keeps of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyRecord {
    pub(super) state: StoredState,
    pub(super) manager: StoredManager,
    pub(super) description: String,
    pub(super) created: Timestamp,
    /// Oldest first; the last is the current one. Empty before the first import only.
    pub(super) materials: Vec<MaterialRecord>,
    #[serde(default)]
    pub(super) tags: BTreeMap<String, String>,
    /// Automatic rotation, where it is on.
    #[serde(default)]
    pub(super) rotation: Option<Rotation>,
    /// What kind of key it is.
    #[serde(default)]
    pub(super) spec: KeySpec,
    /// What it is for, where keys of that kind can be for several things.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<KeyUsage>,
    /// Where its materials come from.
    #[serde(default)]
    pub(super) origin: Origin,
    /// Imported material that becomes the current one at the next rotation by hand.
    #[serde(default)]
    pub(super) pending: Option<MaterialRecord>,
}

/// Where a key's materials come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Origin {
    /// `AWS_KMS`: made in the HSM.
    #[default]
    #[serde(rename = "AWS_KMS")]
    Kms,
    /// `EXTERNAL`: imported.
    #[serde(rename = "EXTERNAL")]
    External,
}

impl Origin {
    /// As AWS spells it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kms => "AWS_KMS",
            Self::External => "EXTERNAL",
        }
    }
}

/// What is known of imported material.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Imported {
    /// Whether it is there; else it has expired or was deleted.
    pub(super) present: bool,
    pub(super) expires: Option<Timestamp>,
    pub(super) description: Option<String>,
}

/// Automatic rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rotation {
    pub(super) period_days: u32,
    pub(super) next: Timestamp,
}

/// How a material came to be, the first one aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(super) enum RotationType {
    Automatic,
    #[default]
    OnDemand,
}

/// What the store keeps of one material, beside its token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MaterialRecord {
    pub(super) id: MaterialId,
    pub(super) created: Timestamp,
    /// Means nothing for the first one.
    #[serde(default)]
    pub(super) by: RotationType,
    /// Of imported material.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) import: Option<Imported>,
}

impl MaterialRecord {
    /// When it expires.
    pub(super) fn expires(&self) -> Option<Timestamp> {
        self.import.as_ref().and_then(|import| import.expires)
    }

    /// Whether it can be used.
    pub(super) fn is_present(&self) -> bool {
        self.import.as_ref().is_none_or(|import| import.present)
    }
}

/// [`KeyState`] with what belongs to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum StoredState {
    Enabled,
    Disabled,
    PendingDeletion { deletion_date: Timestamp },
    PendingImport,
}

/// [`Manager`], as it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum StoredManager {
    Customer,
    Aws,
}

/// A key's name, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// By id or key ARN.
    Key(Uuid),
    /// By alias or alias ARN; holds `alias/NAME`.
    Alias(String),
}

impl KeyRecord {
    /// What it is for.
    pub(super) fn usage(&self) -> KeyUsage {
        self.usage.unwrap_or(self.spec.usages()[0])
    }

    /// An enabled symmetric key that has no material yet.
    pub(super) fn new(manager: StoredManager, created: Timestamp) -> Self {
        Self {
            state: StoredState::Enabled,
            manager,
            description: String::new(),
            created,
            materials: Vec::new(),
            tags: BTreeMap::new(),
            rotation: None,
            spec: KeySpec::default(),
            usage: None,
            origin: Origin::default(),
            pending: None,
        }
    }

    /// The material that encrypts, of a key that may be used.
    pub(super) fn current(&self) -> &MaterialRecord {
        self.materials.last().expect("a key without material is pending import, and never used")
    }

    /// The material that encrypts, if the key has had any.
    pub(super) fn newest(&self) -> Option<&MaterialRecord> {
        self.materials.last()
    }

    /// Whether it cannot be used for lack of a material that it has had, or of any.
    pub(super) fn lacks_material(&self) -> bool {
        self.materials.is_empty() || !self.materials.iter().all(MaterialRecord::is_present)
    }

    /// When the next of its materials expires.
    pub(super) fn expiry(&self) -> Option<Timestamp> {
        self.materials.iter().chain(&self.pending).filter_map(MaterialRecord::expires).min()
    }

    /// The materials that a rotation made, oldest first.
    pub(super) fn rotated(&self) -> &[MaterialRecord] {
        self.materials.get(1..).unwrap_or_default()
    }

    /// On-demand rotations so far.
    pub(super) fn on_demand_rotations(&self) -> usize {
        self.rotated().iter().filter(|material| material.by == RotationType::OnDemand).count()
    }

    /// When it is rotated next, should it be enabled then.
    pub(super) fn rotation_date(&self) -> Option<Timestamp> {
        self.rotation.filter(|_| self.state == StoredState::Enabled).map(|rotation| rotation.next)
    }

    /// The days between two automatic rotations and the date of the next one; `None` where they are off or the key is going
    /// away.
    pub(super) fn automatic_rotation(&self) -> Option<(u32, Timestamp)> {
        let rotation = self.rotation.filter(|_| self.deletion_date().is_none());
        rotation.map(|rotation| (rotation.period_days, rotation.next))
    }

    /// When it will be gone.
    pub(super) fn deletion_date(&self) -> Option<Timestamp> {
        match self.state {
            StoredState::PendingDeletion { deletion_date } => Some(deletion_date),
            StoredState::Enabled | StoredState::Disabled | StoredState::PendingImport => None,
        }
    }
}

impl From<StoredState> for KeyState {
    fn from(state: StoredState) -> Self {
        match state {
            StoredState::Enabled => Self::Enabled,
            StoredState::Disabled => Self::Disabled,
            StoredState::PendingDeletion { .. } => Self::PendingDeletion,
            StoredState::PendingImport => Self::PendingImport,
        }
    }
}

impl From<StoredManager> for Manager {
    fn from(manager: StoredManager) -> Self {
        match manager {
            StoredManager::Customer => Self::Customer,
            StoredManager::Aws => Self::Aws,
        }
    }
}

impl StoredManager {
    /// The text of the policy that such a key has: as AWS gives it to a key made without one, and to `alias/aws/ebs`.
    pub(super) fn policy(self, identity: &Identity) -> String {
        let (account, region) = (&identity.account, &identity.region);
        let root = json!({ "AWS": format!("arn:aws:iam::{account}:root") });
        let policy = match self {
            Self::Customer => json!({
                "Version": "2012-10-17",
                "Id": "key-default-1",
                "Statement": [{
                    "Sid": "Enable IAM User Permissions",
                    "Effect": "Allow",
                    "Principal": root,
                    "Action": "kms:*",
                    "Resource": "*",
                }],
            }),
            Self::Aws => json!({
                "Version": "2012-10-17",
                "Id": "auto-ebs-2",
                "Statement": [
                    {
                        "Sid": "Allow access through EBS for all principals in the account that are authorized to use EBS",
                        "Effect": "Allow",
                        "Principal": { "AWS": "*" },
                        "Action": [
                            "kms:Encrypt", "kms:Decrypt", "kms:ReEncrypt*", "kms:GenerateDataKey*", "kms:CreateGrant",
                            "kms:DescribeKey",
                        ],
                        "Resource": "*",
                        "Condition": { "StringEquals": {
                            "kms:CallerAccount": account,
                            "kms:ViaService": format!("ec2.{region}.amazonaws.com"),
                        } },
                    },
                    {
                        "Sid": "Allow direct access to key metadata to the account",
                        "Effect": "Allow",
                        "Principal": root,
                        "Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"],
                        "Resource": "*",
                    },
                ],
            }),
        };
        format!("{policy:#}")
    }
}

impl Identity {
    /// The ARN of key `id`.
    pub(super) fn key_arn(&self, id: Uuid) -> KeyArn {
        KeyArn::new(self.arn(&format!("key/{id}")))
    }

    /// The ARN of a resource, such as `alias/NAME`.
    pub(super) fn arn(&self, resource: &str) -> String {
        format!("arn:aws:kms:{}:{}:{resource}", self.region, self.account)
    }

    /// Reads a key's name in any of its forms. Some operations of AWS take no alias; that is a rule of its wire
    /// (`call`), not of keys.
    pub(super) fn read_name(&self, name: &str) -> Result<Named, KmsError> {
        if name.is_empty() {
            return Err(refusal::validation("keyId", None, "have length greater than or equal to 1"));
        }
        if name.len() > limits::KEY_NAME_MAX {
            let constraint = format!("have length less than or equal to {}", limits::KEY_NAME_MAX);
            return Err(refusal::validation("keyId", None, &constraint));
        }
        let resource = match name.strip_prefix("arn:") {
            None => name,
            Some(rest) => self.own_resource(name, rest)?,
        };
        if resource.starts_with("alias/") {
            return Ok(Named::Alias(resource.to_owned()));
        }
        let id = if name == resource { resource } else { resource.strip_prefix("key/").unwrap_or_default() };
        read_key_id(id).map(Named::Key).ok_or_else(|| refusal::invalid_key_id(name))
    }

    /// What an ARN names, if this KMS can have it.
    fn own_resource<'a>(&self, arn: &str, behind_arn: &'a str) -> Result<&'a str, KmsError> {
        let mut parts = behind_arn.splitn(5, ':');
        let mut part = || parts.next().unwrap_or_default();
        let (partition, service, region, account, resource) = (part(), part(), part(), part(), part());
        if partition != "aws" || service != "kms" {
            return Err(refusal::invalid_key_id(arn));
        }
        if region != self.region {
            return Err(refusal::invalid_arn(region));
        }
        if account != self.account {
            return Err(refusal::no_such_key(arn));
        }
        Ok(resource)
    }
}

/// A key id is a UUID in its usual spelling, and no other.
fn read_key_id(text: &str) -> Option<Uuid> {
    Uuid::try_parse(text).ok().filter(|id| id.to_string() == text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity() -> Identity {
        Identity { account: "000000000000".to_owned(), region: "us-east-1".to_owned() }
    }

    fn text(error: &KmsError) -> String {
        error.to_string()
    }

    #[test]
    fn a_key_is_named_by_id_arn_alias_or_alias_arn() {
        let id = Uuid::from_bytes([0x11; 16]);
        let arn = identity().key_arn(id);
        for name in [id.to_string(), arn.to_string()] {
            assert_eq!(identity().read_name(&name), Ok(Named::Key(id)));
        }
        for name in ["alias/a", "arn:aws:kms:us-east-1:000000000000:alias/a"] {
            let named = identity().read_name(name);
            assert_eq!(named, Ok(Named::Alias("alias/a".to_owned())));
        }
    }

    #[test]
    fn what_cannot_be_a_key_is_not_found_in_the_words_of_aws() {
        let id = "11111111-1111-1111-1111-111111111111";
        let cases = [
            ("fake-key-id".to_owned(), "NotFoundException: Invalid keyId 'fake-key-id'".to_owned()),
            (id.replace('-', ""), format!("NotFoundException: Invalid keyId '{}'", id.replace('-', ""))),
            (format!("key/{id}"), format!("NotFoundException: Invalid keyId 'key/{id}'")),
            (
                format!("arn:aws:kms:eu-west-1:000000000000:key/{id}"),
                "NotFoundException: Invalid arn eu-west-1".to_owned(),
            ),
            (
                format!("arn:aws:kms:us-east-1:111122223333:key/{id}"),
                format!("NotFoundException: Key 'arn:aws:kms:us-east-1:111122223333:key/{id}' does not exist"),
            ),
        ];
        for (name, expected) in cases {
            let error = identity().read_name(&name).expect_err("refused");
            assert_eq!(text(&error), expected);
        }
    }
}
