//! Failures as callers are told them. Each is sorted by fault, once; HTTP status and exit code follow from the fault.

use axum::Json;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use tracing::{debug, error};

use super::api::{Failure, Problem};
use crate::attach::AttachError;
use crate::kms::KmsError;

/// Whose fault a failure is, and so what may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A bug, or the machine.
    Internal,
    /// The request makes no sense.
    Usage,
    /// The request is too long.
    TooLong,
    /// The request came too slowly.
    Slow,
    /// There is no such method here.
    Method,
    /// What was named does not exist.
    NotFound,
    /// The present state does not allow it.
    Conflict,
    /// Too many ask at once.
    Busy,
    /// The KMS said no.
    KmsRefused,
    /// The KMS could not be reached or throttles.
    KmsAway,
    /// Something is not what it was made as: damaged, forged, rolled back.
    Integrity,
    /// The storage failed.
    Storage,
    /// The caller may not.
    NotPermitted,
}

impl Fault {
    const fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            Self::Usage | Self::TooLong | Self::Slow | Self::Method => 2,
            Self::NotFound => 3,
            Self::Conflict | Self::Busy => 4,
            Self::KmsRefused => 5,
            Self::KmsAway => 6,
            Self::Integrity => 7,
            Self::Storage => 8,
            Self::NotPermitted => 9,
        }
    }

    /// The sort behind an exit code that another module's errors are sorted by.
    const fn of_exit_code(code: u8) -> Self {
        match code {
            2 => Self::Usage,
            3 => Self::NotFound,
            4 => Self::Conflict,
            5 => Self::KmsRefused,
            6 => Self::KmsAway,
            7 => Self::Integrity,
            8 => Self::Storage,
            9 => Self::NotPermitted,
            _ => Self::Internal,
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::Internal | Self::Storage => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Usage => StatusCode::BAD_REQUEST,
            Self::TooLong => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Slow => StatusCode::REQUEST_TIMEOUT,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Conflict => StatusCode::CONFLICT,
            Self::Busy | Self::KmsAway => StatusCode::SERVICE_UNAVAILABLE,
            Self::KmsRefused => StatusCode::FAILED_DEPENDENCY,
            Self::Integrity => StatusCode::UNPROCESSABLE_ENTITY,
            Self::NotPermitted => StatusCode::FORBIDDEN,
        }
    }

    /// What may help, where nothing closer is known.
    const fn remedy(self) -> &'static str {
        match self {
            Self::Internal => "see the daemon's log; this is a fault of envol or of the machine",
            Self::Usage | Self::Method => "correct the request; the API is described at /openapi.json",
            Self::TooLong => "send a shorter request",
            Self::Slow => "send the whole request at once",
            Self::NotFound => "see what there is with `envol status`",
            Self::Conflict => "see the present state with `envol status`",
            Self::Busy => "wait for other callers to end, then try again",
            Self::KmsRefused => "see the key's state with `envol key show`, and who may use it",
            Self::KmsAway => "see that the KMS runs and can be reached, then try again",
            Self::Integrity => "do not write to the backing; compare it with a backup",
            Self::Storage => "see that the storage is well and has room; the daemon's log says more",
            Self::NotPermitted => "run this as root, as the daemon's own user, or as a member of the group it admits",
        }
    }
}

/// A failure on its way to the caller.
#[derive(Debug)]
pub(super) struct Refused {
    fault: Fault,
    problem: Problem,
}

impl Refused {
    pub(super) fn new(fault: Fault, code: impl Into<String>, message: impl Into<String>) -> Self {
        let problem = Problem {
            code: code.into(),
            message: message.into(),
            remedy: fault.remedy().to_owned(),
            kms_exception: None,
            exit_code: fault.exit_code(),
        };
        Self { fault, problem }
    }

    /// A peer that is not admitted.
    pub(super) fn stranger() -> Self {
        Self::new(Fault::NotPermitted, "control.not_permitted", "this user may not use the control socket")
    }

    fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.problem.remedy = remedy.into();
        self
    }

    pub(super) fn message(&self) -> &str {
        &self.problem.message
    }

    /// Status and body, for an answer written by hand.
    pub(super) fn into_parts(self) -> (StatusCode, Vec<u8>) {
        let body = serde_json::to_vec(&Failure { error: self.problem }).expect("text and numbers serialise");
        (self.fault.status(), body)
    }

    /// The problem alone, for a line of a stream whose status is already sent. Logged.
    pub(super) fn into_problem(self) -> Problem {
        self.log();
        self.problem
    }

    /// What went wrong with a volume or a key has been logged where it happened, with what was known there.
    fn log(&self) {
        let Problem { code, message, .. } = &self.problem;
        match self.fault {
            Fault::Internal => error!(code, "{message}"),
            _ => debug!(code, "{message}"),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let status = self.fault.status();
        (status, Json(Failure { error: self.into_problem() })).into_response()
    }
}

impl From<KmsError> for Refused {
    fn from(error: KmsError) -> Self {
        of_kms("kms", &error)
    }
}

/// A KMS's failure; `area` opens the code: `kms.disabled`, `attach.kms.disabled`.
pub(super) fn of_kms(area: &str, error: &KmsError) -> Refused {
    let (fault, word, exception) = match error {
        KmsError::Refused { exception, .. } => (refusal(exception), snake(exception), Some(exception)),
        KmsError::Throttled { exception, .. } => (Fault::KmsAway, snake(exception), Some(exception)),
        KmsError::Unreachable(_) => (Fault::KmsAway, "unreachable".to_owned(), None),
        KmsError::BadAnswer(_) => (Fault::Integrity, "bad_answer".to_owned(), None),
        KmsError::Misconfigured { .. } => (Fault::Usage, "misconfigured".to_owned(), None),
        KmsError::NoCaller(_) => (Fault::Internal, "no_caller".to_owned(), None),
        KmsError::NoLockedMemory(_) => (Fault::Internal, "no_locked_memory".to_owned(), None),
    };
    let mut refused = Refused::new(fault, format!("{area}.{word}"), error.to_string());
    if let Some(remedy) = exception.and_then(|exception| remedy(exception)) {
        refused = refused.with_remedy(remedy);
    }
    refused.problem.kms_exception = exception.cloned();
    refused
}

/// What a KMS's refusal means to somebody who administers keys.
fn refusal(exception: &str) -> Fault {
    match exception {
        "NotFoundException" | "NoSuchEntityException" => Fault::NotFound,
        "AlreadyExistsException" | "LimitExceededException" | "AuditVerifyKeyGoneException" => Fault::Conflict,
        "ValidationException"
        | "InvalidAliasNameException"
        | "InvalidArnException"
        | "MalformedPolicyDocumentException" => Fault::Usage,
        _ => Fault::KmsRefused,
    }
}

fn remedy(exception: &str) -> Option<&'static str> {
    Some(match exception {
        "DisabledException" => "enable the key (`envol key enable KEY`), then try again",
        "KMSInvalidStateException" => {
            "see the key's state (`envol key show KEY`); `envol key cancel-deletion KEY` and `envol key enable KEY` \
             bring back one that is pending deletion"
        }
        "NotFoundException" => "see which keys there are (`envol key list`, `envol key alias list`)",
        "AlreadyExistsException" => "choose another name, or point the alias elsewhere (`envol key alias update`)",
        "NotAuthorizedException" => "names that begin with alias/aws/ are kept for managed keys: choose another name",
        "AuditVerifyKeyGoneException" => {
            "use the file that it was written to; without it the hashes can still be verified"
        }
        "MalformedPolicyDocumentException" => {
            "correct the document, then try again; --bypass-lockout-check takes a policy of a key that its maker cannot change"
        }
        "NoSuchEntityException" => "see which access keys there are (`envol kms access-key list`)",
        "AccessDeniedException" => {
            "a key managed for volumes cannot be changed: create your own (`envol key create`); access keys are root's matter"
        }
        _ => return None,
    })
}

/// `KMSInvalidStateException` as `invalid_state`.
fn snake(exception: &str) -> String {
    let name = exception.strip_suffix("Exception").unwrap_or(exception);
    let name = name.strip_prefix("KMS").unwrap_or(name);
    let mut word = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !word.is_empty() {
            word.push('_');
        }
        word.push(letter.to_ascii_lowercase());
    }
    word
}

impl From<AttachError> for Refused {
    fn from(error: AttachError) -> Self {
        let fault = Fault::of_exit_code(error.exit_code());
        let mut refused = Self::new(fault, error.code(), error.to_string()).with_remedy(error.remedy());
        refused.problem.kms_exception = error.kms_exception().map(str::to_owned);
        refused
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_keeps_the_exception_and_has_a_word_of_its_own() {
        for (exception, code, exit_code) in [
            ("DisabledException", "kms.disabled", 5),
            ("KMSInvalidStateException", "kms.invalid_state", 5),
            ("NotFoundException", "kms.not_found", 3),
            ("AlreadyExistsException", "kms.already_exists", 4),
            ("ValidationException", "kms.validation", 2),
        ] {
            let error = KmsError::Refused { exception: exception.to_owned(), message: "text".to_owned() };
            let problem = Refused::from(error).into_problem();
            assert_eq!((problem.code.as_str(), problem.exit_code), (code, exit_code));
            assert_eq!(problem.kms_exception.as_deref(), Some(exception));
        }
    }

    #[test]
    fn a_kms_that_is_away_is_no_refusal() {
        let problem = Refused::from(KmsError::Unreachable("gone".to_owned())).into_problem();
        assert_eq!((problem.exit_code, problem.kms_exception), (6, None));
    }
}
