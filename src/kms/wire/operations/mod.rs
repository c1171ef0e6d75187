//! The operations that are served: how each one's members become a call to the KMS, and its result members again.
//!
//! An operation that the model has and this table has not is refused as unsupported; so is a member that asks for what is
//! not here. Nothing is accepted that is not done.

mod grants;
mod import;
mod keys;
mod lists;
mod pairs;
mod usage;

use serde_json::Value;

use super::input::Input;
use crate::kms::KmsError;
use crate::kms::embedded::{Embedded, SignedRequest};

/// Carries an operation out; `Null` where its answer has no body.
type Handler = fn(&Embedded, &SignedRequest, &Input) -> Result<Value, KmsError>;

/// What is served.
const SERVED: &[(&str, Handler)] = &[
    ("CancelKeyDeletion", keys::cancel_key_deletion),
    ("CreateAlias", keys::create_alias),
    ("CreateGrant", grants::create_grant),
    ("CreateKey", keys::create_key),
    ("Decrypt", usage::decrypt),
    ("DeleteAlias", keys::delete_alias),
    ("DeleteImportedKeyMaterial", import::delete_imported_key_material),
    ("DeriveSharedSecret", pairs::derive_shared_secret),
    ("DescribeKey", keys::describe_key),
    ("DisableKey", keys::disable_key),
    ("DisableKeyRotation", keys::disable_key_rotation),
    ("EnableKey", keys::enable_key),
    ("EnableKeyRotation", keys::enable_key_rotation),
    ("Encrypt", usage::encrypt),
    ("GenerateDataKey", usage::generate_data_key),
    ("GenerateDataKeyPair", pairs::generate_data_key_pair),
    ("GenerateDataKeyPairWithoutPlaintext", pairs::generate_data_key_pair_without_plaintext),
    ("GenerateDataKeyWithoutPlaintext", usage::generate_data_key_without_plaintext),
    ("GenerateMac", usage::generate_mac),
    ("GenerateRandom", usage::generate_random),
    ("GetKeyLastUsage", keys::get_key_last_usage),
    ("GetKeyPolicy", lists::get_key_policy),
    ("GetKeyRotationStatus", keys::get_key_rotation_status),
    ("GetParametersForImport", import::get_parameters_for_import),
    ("GetPublicKey", pairs::get_public_key),
    ("ImportKeyMaterial", import::import_key_material),
    ("ListAliases", lists::list_aliases),
    ("ListGrants", grants::list_grants),
    ("ListKeyPolicies", lists::list_key_policies),
    ("ListKeyRotations", lists::list_key_rotations),
    ("ListKeys", lists::list_keys),
    ("ListResourceTags", lists::list_resource_tags),
    ("ListRetirableGrants", grants::list_retirable_grants),
    ("PutKeyPolicy", keys::put_key_policy),
    ("ReEncrypt", usage::re_encrypt),
    ("RetireGrant", grants::retire_grant),
    ("RevokeGrant", grants::revoke_grant),
    ("RotateKeyOnDemand", keys::rotate_key_on_demand),
    ("ScheduleKeyDeletion", keys::schedule_key_deletion),
    ("Sign", pairs::sign),
    ("TagResource", keys::tag_resource),
    ("UntagResource", keys::untag_resource),
    ("UpdateAlias", keys::update_alias),
    ("UpdateKeyDescription", keys::update_key_description),
    ("Verify", pairs::verify),
    ("VerifyMac", usage::verify_mac),
];

/// The handler of an operation.
pub(super) fn handler(name: &str) -> Option<Handler> {
    SERVED.iter().find(|(served, _)| *served == name).map(|(_, handler)| *handler)
}

/// The names of the operations that are served.
pub fn served() -> impl Iterator<Item = &'static str> {
    SERVED.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kms::wire::model;

    #[test]
    fn every_operation_that_is_served_is_one_of_the_model() {
        assert!(served().all(|name| model::Operation::named(name).is_some()));
    }
}
