//! What the KMS says when it says no: the exceptions' names and texts, to the letter as AWS gives them.

use crate::kms::{KeyArn, KmsError, Principal};

use super::rights::identities::BadIdentities;
use super::spec::{KeySpec, KeyUsage};
use crate::policy::Malformed;

fn refused(exception: &str, message: impl Into<String>) -> KmsError {
    KmsError::Refused { exception: exception.to_owned(), message: message.into() }
}

/// `ThrottlingException`
pub(in crate::kms) fn throttled() -> KmsError {
    let message = "You have exceeded the rate at which you may call KMS. Reduce the frequency of your calls.";
    KmsError::Throttled { exception: "ThrottlingException".to_owned(), message: message.to_owned() }
}

/// `DisabledException`
pub(super) fn disabled(key: &KeyArn) -> KmsError {
    refused("DisabledException", format!("{key} is disabled."))
}

/// `KMSInvalidStateException` of a key that is going away.
pub(super) fn pending_deletion(key: &KeyArn) -> KmsError {
    refused("KMSInvalidStateException", format!("{key} is pending deletion."))
}

/// `KMSInvalidStateException` of a key that lacks material.
pub(super) fn pending_import(key: &KeyArn) -> KmsError {
    refused("KMSInvalidStateException", format!("{key} is pending import."))
}

/// `UnsupportedOperationException` of a key whose material comes from elsewhere, or does not.
pub(super) fn wrong_origin(key: &KeyArn, origin: &str) -> KmsError {
    let text = format!("{key} origin is {origin} which is not valid for this operation.");
    refused("UnsupportedOperationException", text)
}

/// `KMSInvalidStateException` of a rotation to material that nobody has brought.
pub(super) fn no_material_waits(key: &KeyArn) -> KmsError {
    let text = format!("No available key material pending rotation for the key: {key}.");
    refused("KMSInvalidStateException", text)
}

/// `KMSInvalidStateException` of new material while other new material waits.
pub(super) fn material_waits(key: &KeyArn) -> KmsError {
    refused("KMSInvalidStateException", format!("There is key material pending rotation for the key: {key}."))
}

/// `IncorrectKeyMaterialException`: another material than before, or none that such a key can have.
pub(super) fn incorrect_material() -> KmsError {
    refused("IncorrectKeyMaterialException", "")
}

/// `InvalidImportTokenException`: changed, or of another key.
pub(super) fn invalid_import_token() -> KmsError {
    refused("InvalidImportTokenException", "")
}

/// `ExpiredImportTokenException`
pub(super) fn expired_import_token() -> KmsError {
    refused("ExpiredImportTokenException", "")
}

/// `ValidationException` of a date on which imported material cannot expire.
pub(super) fn bad_expiry() -> KmsError {
    refused("ValidationException", "The validTo date must be in the future, and within 365 days.")
}

/// `NotFoundException` of material that the key has not.
pub(super) fn no_such_material(id: &str) -> KmsError {
    refused("NotFoundException", format!("The key has no key material {id}"))
}

/// `KMSInvalidStateException` of a key that is not going away.
pub(super) fn not_pending_deletion(key: &KeyArn) -> KmsError {
    refused("KMSInvalidStateException", format!("{key} is not pending deletion."))
}

/// `NotFoundException` of something that cannot be a key's name.
pub(super) fn invalid_key_id(name: &str) -> KmsError {
    refused("NotFoundException", format!("Invalid keyId '{name}'"))
}

/// `NotFoundException` of an ARN of another region.
pub(super) fn invalid_arn(region: &str) -> KmsError {
    refused("NotFoundException", format!("Invalid arn {region}"))
}

/// `NotFoundException` of a key that is not there.
pub(super) fn no_such_key(arn: &str) -> KmsError {
    refused("NotFoundException", format!("Key '{arn}' does not exist"))
}

/// `NotFoundException` of an alias that is not there.
pub(super) fn no_such_alias(arn: &str) -> KmsError {
    refused("NotFoundException", format!("Alias {arn} is not found."))
}

/// `AlreadyExistsException` of an alias.
pub(super) fn alias_exists(arn: &str) -> KmsError {
    refused("AlreadyExistsException", format!("An alias with the name {arn} already exists"))
}

/// `ValidationException` of an alias name without `alias/`.
pub(super) fn alias_without_prefix() -> KmsError {
    refused(
        "ValidationException",
        "Alias must start with the prefix \"alias/\". Please see \
         https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html",
    )
}

/// `ValidationException` of a colon: AWS's model lets it pass, AWS does not.
pub(super) fn colon_in_alias(name: &str) -> KmsError {
    refused("ValidationException", format!("{name} contains invalid characters for an alias"))
}

/// `ValidationException` of an alias that is to point to an alias.
pub(super) fn alias_of_an_alias() -> KmsError {
    refused("ValidationException", "Aliases must refer to keys. Not aliases")
}

/// `InvalidAliasNameException` of `alias/` and nothing behind it.
pub(super) fn empty_alias_name() -> KmsError {
    refused("InvalidAliasNameException", "The alias name is empty behind the prefix \"alias/\".")
}

/// `NotAuthorizedException` of an alias below `alias/aws/`.
pub(super) fn reserved_alias() -> KmsError {
    refused("NotAuthorizedException", "")
}

/// `LimitExceededException` of one alias too many.
pub(super) fn too_many_aliases(key: &KeyArn, most: usize) -> KmsError {
    refused("LimitExceededException", format!("The key {key} has {most} aliases, and no more are allowed."))
}

/// `LimitExceededException` of one rotation too many.
pub(super) fn too_many_rotations(key: &KeyArn) -> KmsError {
    refused(
        "LimitExceededException",
        format!(
            "The on-demand rotations limit has been reached for the given keyId. \
             No more on-demand rotations can be performed for this key: {key}"
        ),
    )
}

/// `AccessDeniedException` by the policy of a managed key.
pub(super) fn access_denied(caller: &Principal, action: &str) -> KmsError {
    refused(
        "AccessDeniedException",
        format!(
            "User: {caller} is not authorized to perform: kms:{action} on this resource because the resource does not \
             exist in this Region, no resource-based policies allow access, or a resource-based policy explicitly denies \
             access"
        ),
    )
}

/// `AccessDeniedException` of a caller to whom no policy gives the right.
pub(super) fn no_policy_allows(caller: &Principal, action: &str, resource: &str) -> KmsError {
    let because = format!("because no identity-based policy allows the kms:{action} action");
    not_authorised(caller, &format!("kms:{action}"), resource, &because)
}

/// `AccessDeniedException`, and why.
pub(super) fn not_authorised(caller: &Principal, action: &str, resource: &str, because: &str) -> KmsError {
    let text = format!("User: {caller} is not authorized to perform: {action} on resource: {resource} {because}");
    refused("AccessDeniedException", text.trim_end())
}

/// `MalformedPolicyDocumentException` of a policy that is not taken.
pub(super) fn malformed_policy(malformed: &Malformed) -> KmsError {
    refused("MalformedPolicyDocumentException", malformed.to_string())
}

/// `MalformedPolicyDocumentException` of a policy that its caller could not change again.
pub(super) fn locked_out() -> KmsError {
    let text = "The new key policy will not allow you to update the key policy in the future.";
    refused("MalformedPolicyDocumentException", text)
}

/// `MalformedPolicyDocumentException` of identities that are not taken.
pub(super) fn bad_identities(bad: &BadIdentities) -> KmsError {
    refused("MalformedPolicyDocumentException", format!("The identities are not taken: {bad}"))
}

/// `LimitExceededException` of one grant too many.
pub(super) fn too_many_grants(key: &KeyArn, most: u64) -> KmsError {
    refused("LimitExceededException", format!("The key {key} has {most} grants, and no more are allowed."))
}

/// `InvalidArnException` of a principal that is none.
pub(super) fn invalid_arn_of_principal(principal: &str) -> KmsError {
    refused("InvalidArnException", format!("{principal:?} is not the ARN of a principal"))
}

/// `ValidationError` (so AWS calls it) of an operation that the key has not, or a constraint that it cannot have.
pub(super) fn invalid_grant(message: impl Into<String>) -> KmsError {
    refused("ValidationError", message)
}

/// `InvalidGrantTokenException`
pub(super) fn invalid_grant_token() -> KmsError {
    refused("InvalidGrantTokenException", "")
}

/// `InvalidGrantIdException`
pub(super) fn invalid_grant_id() -> KmsError {
    refused("InvalidGrantIdException", "")
}

/// `NotFoundException` of a grant that is not there.
pub(super) fn no_such_grant(id: &str, key: &KeyArn) -> KmsError {
    refused("NotFoundException", format!("Grant ID {id} not found for key {key}"))
}

/// `ValidationException` with its text.
pub(super) fn invalid(message: impl Into<String>) -> KmsError {
    refused("ValidationException", message)
}

/// `InvalidArnException` of a key that is not named by its ARN.
pub(super) fn invalid_arn_of_key(name: &str) -> KmsError {
    refused("InvalidArnException", format!("{name:?} is not the ARN of a key"))
}

/// STS's `PackedPolicyTooLarge`
pub(super) fn packed_policy_too_large() -> KmsError {
    refused("PackedPolicyTooLarge", "The session policy is longer than 2048 bytes.")
}

/// STS's `MalformedPolicyDocument`
pub(super) fn malformed_session_policy(malformed: &Malformed) -> KmsError {
    refused("MalformedPolicyDocument", malformed.to_string())
}

/// `ExpiredTokenException`
pub(super) fn expired_token() -> KmsError {
    refused("ExpiredTokenException", "The security token included in the request is expired")
}

/// `AccessDeniedException` of access keys and the audit log, which are the account root's matter.
pub(super) fn not_root(caller: &Principal, action: &str) -> KmsError {
    refused("AccessDeniedException", format!("User: {caller} is not authorized to perform: {action}"))
}

/// `NotFoundException` of a record that is not in the audit log.
pub(super) fn no_such_event(id: &str) -> KmsError {
    refused("NotFoundException", format!("The audit log has no event {id}"))
}

/// `DryRunOperationException`: all of it would have been done.
pub(super) fn dry_run() -> KmsError {
    refused("DryRunOperationException", "The request would have succeeded, but the DryRun option is set.")
}

/// `InvalidKeyUsageException` of an algorithm that keys of that spec do not have.
pub(super) fn incompatible_algorithm(algorithm: &str, spec: KeySpec) -> KmsError {
    let spec = spec.name();
    refused("InvalidKeyUsageException", format!("Algorithm {algorithm} is incompatible with key spec {spec}."))
}

/// `InvalidKeyUsageException` of a key that is for something else.
pub(super) fn wrong_usage(key: &KeyArn, usage: KeyUsage, operation: &str) -> KmsError {
    let text = format!("{key} key usage is {} which is not valid for {operation}.", usage.name());
    refused("InvalidKeyUsageException", text)
}

/// `InvalidKeyUsageException` of a pair that encrypts, where a symmetric key is needed.
pub(super) fn wrong_spec(key: &KeyArn, spec: KeySpec, operation: &str) -> KmsError {
    let text = format!("{key} key KeySpec is {} which is not valid for {operation}.", spec.name());
    refused("InvalidKeyUsageException", text)
}

/// `ValidationException` of a key that could be for several things.
pub(super) fn no_usage() -> KmsError {
    let text = "You must specify a KeyUsage value for all KMS keys except for symmetric encryption keys.";
    refused("ValidationException", text)
}

/// `ValidationException` of a key that is to be for what such keys are not.
pub(super) fn incompatible_usage(usage: &str, spec: KeySpec) -> KmsError {
    refused("ValidationException", format!("KeyUsage {usage} is not compatible with KeySpec {}", spec.name()))
}

/// `UnsupportedOperationException` of a pair that is to be imported.
pub(super) fn pair_of_that_origin(origin: &str, spec: KeySpec) -> KmsError {
    let text = format!("Origin {origin} with KeySpec {} is not supported by this KMS.", spec.name());
    refused("UnsupportedOperationException", text)
}

/// `UnsupportedOperationException` of a key that has no public half; AWS says no more.
pub(super) fn no_public_key() -> KmsError {
    refused("UnsupportedOperationException", "")
}

/// `ValidationException` of a digest that the algorithm does not make.
pub(super) fn wrong_digest(algorithm: &str) -> KmsError {
    refused("ValidationException", format!("Digest is invalid length for algorithm {algorithm}."))
}

/// `ValidationException` of a message type that the algorithm does not take.
pub(super) fn wrong_message_type(kind: &str, algorithm: &str) -> KmsError {
    refused("ValidationException", format!("MessageType {kind} is not valid for algorithm {algorithm}."))
}

/// `ValidationException` of a plaintext that is too long for an RSA key.
pub(super) fn too_long_for(algorithm: &str, spec: KeySpec, most: usize) -> KmsError {
    let spec = spec.name();
    let text = format!("Algorithm {algorithm} and key spec {spec} cannot encrypt data larger than {most} bytes.");
    refused("ValidationException", text)
}

/// `ValidationException` of an encryption context, which RSA has no place for.
pub(super) fn context_of_a_pair() -> KmsError {
    let text = "EncryptionContext is not supported when encrypting/decrypting with asymmetric CMKs.";
    refused("ValidationException", text)
}

/// `ValidationException` of another's public key that does not fit.
pub(super) fn other_curve(spec: KeySpec) -> KmsError {
    let text = format!("PublicKey is no DER-encoded SubjectPublicKeyInfo of a key with key spec {}.", spec.name());
    refused("ValidationException", text)
}

/// `KMSInvalidSignatureException`: AWS says no more.
pub(super) fn invalid_signature() -> KmsError {
    refused("KMSInvalidSignatureException", "")
}

/// `KMSInvalidMacException`: AWS says no more.
pub(super) fn invalid_mac() -> KmsError {
    refused("KMSInvalidMacException", "")
}

/// `UnsupportedOperationException` of a key whose kind is not rotated; AWS says no more.
pub(super) fn not_rotated() -> KmsError {
    refused("UnsupportedOperationException", "")
}

/// `ValidationException` of an alias that is to be moved to a key of another kind.
pub(super) fn other_kind(alias: &str) -> KmsError {
    let text = format!("Alias {alias} points to a key of another type or usage, and cannot be moved to this one.");
    refused("ValidationException", text)
}

/// `TagException` with its text.
pub(super) fn tag(message: &str) -> KmsError {
    refused("TagException", message)
}

/// `InvalidMarkerException` of a marker that the list did not give out.
pub(super) fn invalid_marker() -> KmsError {
    refused("InvalidMarkerException", "The marker was not given out by this list.")
}

/// `NotFoundException` of a key policy that is not called `default`.
pub(super) fn no_such_policy() -> KmsError {
    refused("NotFoundException", "No such policy exists")
}

/// `ConflictException` of a rotation by hand shortly before an automatic one.
pub(super) fn rotation_is_near(key: &KeyArn) -> KmsError {
    refused("ConflictException", format!("{key} is about to be rotated automatically."))
}

/// `NoSuchEntityException` of an access key that is not there.
pub(super) fn no_such_access_key(id: &str) -> KmsError {
    refused("NoSuchEntityException", format!("The Access Key with id {id} cannot be found."))
}

/// Of the audit log's verify key, which is handed out once.
pub(super) fn verify_key_is_gone() -> KmsError {
    refused("AuditVerifyKeyGoneException", "The verify key of the audit log was handed out before, and is not kept.")
}

/// `LimitExceededException` of one access key too many.
pub(super) fn too_many_access_keys(most: usize) -> KmsError {
    refused("LimitExceededException", format!("Cannot exceed quota for AccessKeysPerUser: {most}"))
}

/// `LimitExceededException` of one region too many.
pub(super) fn too_many_regions(most: usize) -> KmsError {
    refused("LimitExceededException", format!("There are keys in {most} regions, and no more are allowed."))
}

/// `AccessDeniedException` of a blob whose key is not here.
pub(super) fn unknown_blob_key() -> KmsError {
    refused(
        "AccessDeniedException",
        "The ciphertext refers to a customer master key that does not exist, does not exist in this region, \
         or you are not allowed to access.",
    )
}

/// `IncorrectKeyException` of a blob that another key than the named one sealed.
pub(super) fn incorrect_key() -> KmsError {
    refused(
        "IncorrectKeyException",
        "The key ID in the request does not identify a CMK that can perform this operation.",
    )
}

/// `InvalidCiphertextException`: tampered with, or another context. AWS says no more.
pub(super) fn invalid_ciphertext() -> KmsError {
    refused("InvalidCiphertextException", "")
}

/// `ValidationException`: `constraint` does not hold of `member`; its value is shown where it is neither secret nor
/// long.
pub(super) fn validation(member: &str, value: Option<&str>, constraint: &str) -> KmsError {
    let value = value.map(|value| format!(" '{value}'")).unwrap_or_default();
    refused(
        "ValidationException",
        format!(
            "1 validation error detected: Value{value} at '{member}' failed to satisfy constraint: Member must {constraint}"
        ),
    )
}

/// A failure inside, which trying again later may mend.
pub(super) fn internal(cause: &dyn std::error::Error) -> KmsError {
    KmsError::Unreachable(format!("KMSInternalException: {}", chain(cause)))
}

/// What `cause` says, and what is behind it.
pub(super) fn chain(cause: &dyn std::error::Error) -> String {
    let mut text = cause.to_string();
    let mut next = cause.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
