//! How the wire says no, before a request reaches the KMS: the names and texts of AWS's common errors.

use crate::kms::KmsError;

/// The exception `name` with its text.
pub(super) fn refused(name: &str, message: impl Into<String>) -> KmsError {
    KmsError::Refused { exception: name.to_owned(), message: message.into() }
}

/// A request that nobody signed.
pub(super) fn missing_token() -> KmsError {
    refused("MissingAuthenticationTokenException", "Missing Authentication Token")
}

/// An access key that is not here, or a session of a service that is not here.
pub(super) fn unrecognized_client() -> KmsError {
    refused("UnrecognizedClientException", "The security token included in the request is invalid.")
}

/// A signature that lacks something.
pub(super) fn incomplete(message: impl Into<String>) -> KmsError {
    refused("IncompleteSignatureException", message)
}

/// A signature that is wrong, or of another time.
pub(super) fn invalid_signature(message: impl Into<String>) -> KmsError {
    refused("InvalidSignatureException", message)
}

/// An operation that AWS KMS does not have.
pub(super) fn unknown_operation() -> KmsError {
    refused("UnknownOperationException", "")
}

/// A body that cannot be read.
pub(super) fn unreadable(message: impl Into<String>) -> KmsError {
    refused("SerializationException", message)
}

/// A constraint that does not hold.
pub(super) fn invalid(message: impl Into<String>) -> KmsError {
    refused("ValidationException", message)
}

/// Something that AWS KMS has and this one has not.
pub(super) fn unsupported(what: &str) -> KmsError {
    refused("UnsupportedOperationException", format!("{what} is not supported by this KMS."))
}
