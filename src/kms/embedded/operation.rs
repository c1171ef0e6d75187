//! The operations, and which of them each state of a key allows.

use crate::kms::{KeyArn, KmsError};

use super::{KeyState, refusal};

macro_rules! operations {
    ($($name:ident)*) => {
        /// Every operation, as AWS spells it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Operation {
            $($name,)*
            /// One that AWS has and this KMS has not.
            Other(&'static str),
        }

        impl Operation {
            /// Its name.
            pub(super) fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)*
                    Self::Other(name) => name,
                }
            }

            /// The one called `name`.
            pub(super) fn named(name: &'static str) -> Self {
                match name {
                    $(stringify!($name) => Self::$name,)*
                    name => Self::Other(name),
                }
            }
        }
    };
}
operations! {
    CreateKey DescribeKey ListKeys EnableKey DisableKey ScheduleKeyDeletion CancelKeyDeletion DeleteKey
    UpdateKeyDescription GetKeyPolicy ListKeyPolicies TagResource UntagResource ListResourceTags
    EnableKeyRotation DisableKeyRotation GetKeyRotationStatus ListKeyRotations RotateKeyOnDemand RotateKey
    CreateAlias UpdateAlias DeleteAlias ListAliases
    Encrypt Decrypt ReEncrypt GenerateDataKey GenerateDataKeyWithoutPlaintext GenerateRandom GenerateMac VerifyMac
    GetPublicKey Sign Verify DeriveSharedSecret GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext
    GetKeyLastUsage GetParametersForImport ImportKeyMaterial DeleteImportedKeyMaterial DeleteExpiredKeyMaterial
    PutKeyPolicy CreateGrant ListGrants ListRetirableGrants RetireGrant RevokeGrant
    CreateAccessKey ListAccessKeys DeleteAccessKey GetIdentities PutIdentities ExplainRight
    AssumeRole GetCallerIdentity LookupEvents
    ZeroizeHsm InitialiseHsm BackUpKms GetAuditVerifyKey ForgetAuditVerifyKey
}

impl Operation {
    /// Whether it is one that uses key material.
    pub(super) fn is_cryptographic(self) -> bool {
        matches!(
            self,
            Self::Encrypt
                | Self::Decrypt
                | Self::ReEncrypt
                | Self::GenerateDataKey
                | Self::GenerateDataKeyWithoutPlaintext
                | Self::GenerateRandom
                | Self::GenerateMac
                | Self::VerifyMac
                | Self::Sign
                | Self::Verify
                | Self::DeriveSharedSecret
                | Self::GenerateDataKeyPair
                | Self::GenerateDataKeyPairWithoutPlaintext
        )
    }

    /// Whether it changes nothing, as CloudTrail counts it.
    pub(super) fn is_read_only(self) -> bool {
        self.is_cryptographic() || self.name().starts_with("Get") || self.only_looks()
    }

    fn only_looks(self) -> bool {
        self.name().starts_with("List")
            || matches!(self, Self::DescribeKey | Self::LookupEvents | Self::AssumeRole | Self::ExplainRight)
    }

    /// The service of AWS that has it.
    pub(super) fn source(self) -> &'static str {
        match self {
            Self::CreateAccessKey | Self::ListAccessKeys | Self::DeleteAccessKey => "iam.amazonaws.com",
            Self::GetIdentities | Self::PutIdentities | Self::ExplainRight => "iam.amazonaws.com",
            Self::AssumeRole | Self::GetCallerIdentity => "sts.amazonaws.com",
            Self::LookupEvents => "cloudtrail.amazonaws.com",
            _ => "kms.amazonaws.com",
        }
    }

    /// Whether nobody asks for it: time alone brings it about.
    pub(super) fn is_internal(self) -> bool {
        matches!(self, Self::DeleteKey | Self::RotateKey | Self::DeleteExpiredKeyMaterial)
    }

    /// Whether AWS lets an alias stand for the key that it is about.
    pub(super) fn takes_alias(self) -> bool {
        self.is_cryptographic() || matches!(self, Self::DescribeKey | Self::GetPublicKey)
    }

    /// How it refuses `alias`, where it takes none.
    pub(super) fn refuses_alias(self, alias: &str) -> KmsError {
        match self {
            Self::CreateAlias | Self::UpdateAlias => refusal::alias_of_an_alias(),
            _ => refusal::invalid_key_id(alias),
        }
    }
}

/// Whether `state` allows `operation`.
pub(super) fn permit(operation: Operation, state: KeyState, key: &KeyArn) -> Result<(), KmsError> {
    use Operation as Op;
    let depends = operation.is_cryptographic() || matches!(operation, Op::GetParametersForImport | Op::GetPublicKey);
    if !depends && operation.is_read_only() {
        return Ok(());
    }
    match (operation, state) {
        (Op::DeleteAlias | Op::CreateKey | Op::DeleteKey | Op::DeleteImportedKeyMaterial, _) => Ok(()),
        (Op::PutKeyPolicy | Op::RetireGrant | Op::RevokeGrant, _) => Ok(()),
        (Op::CancelKeyDeletion, KeyState::PendingDeletion) => Ok(()),
        (Op::CancelKeyDeletion, _) => Err(refusal::not_pending_deletion(key)),
        (_, KeyState::Enabled) => Ok(()),
        (_, KeyState::PendingDeletion) => Err(refusal::pending_deletion(key)),
        (
            Op::EnableKey
            | Op::DisableKey
            | Op::ScheduleKeyDeletion
            | Op::CreateAlias
            | Op::UpdateAlias
            | Op::UpdateKeyDescription
            | Op::TagResource
            | Op::UntagResource
            | Op::GetParametersForImport
            | Op::ImportKeyMaterial,
            KeyState::Disabled,
        ) => Ok(()),
        (
            Op::ScheduleKeyDeletion
            | Op::CreateAlias
            | Op::UpdateAlias
            | Op::UpdateKeyDescription
            | Op::TagResource
            | Op::UntagResource
            | Op::GetParametersForImport
            | Op::ImportKeyMaterial
            // What the calendar does is refused for the key's origin.
            | Op::EnableKeyRotation
            | Op::DisableKeyRotation,
            KeyState::PendingImport,
        ) => Ok(()),
        (_, KeyState::PendingImport) => Err(refusal::pending_import(key)),
        (_, KeyState::Disabled) => Err(refusal::disabled(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_known_by_its_name_and_others_keep_theirs() {
        assert_eq!(Operation::named("ReEncrypt"), Operation::ReEncrypt);
        assert_eq!(Operation::named("Encapsulate"), Operation::Other("Encapsulate"));
        assert_eq!(Operation::named("Encapsulate").name(), "Encapsulate");
    }
}
