//! What is wrong with a policy that is not taken.

use crate::limits;

/// Why a text is no policy that could be enforced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Longer than AWS allows.
    #[error("The policy is longer than {most} bytes.", most = limits::POLICY_MAX)]
    TooLong,
    /// No JSON, or a name twice in one object.
    #[error("The policy is not valid JSON: {0}.")]
    Json(String),
    /// Something is of another type than it must be.
    #[error("{place} must be {wanted}.")]
    Type {
        /// What.
        place: String,
        /// Which type.
        wanted: &'static str,
    },
    /// An element that the language, or this kind of policy, does not have.
    #[error("{place} has an element {element:?}, which is not known there.")]
    Unknown {
        /// Where.
        place: String,
        /// Which.
        element: String,
    },
    /// An element that must be there.
    #[error("{place} lacks the element {element}.")]
    Lacks {
        /// Where.
        place: String,
        /// Which.
        element: &'static str,
    },
    /// A condition without a key or a value, which would hold of every request or of none.
    #[error("{place} is empty.")]
    Empty {
        /// What.
        place: String,
    },
    /// An element with its opposite.
    #[error("{place} has both {element} and Not{element}.")]
    Both {
        /// Where.
        place: String,
        /// Which.
        element: &'static str,
    },
    /// A version of the language that nobody has.
    #[error("The policy has Version {0:?}; there are \"2012-10-17\" and \"2008-10-17\".")]
    Version(String),
    /// Neither `Allow` nor `Deny`.
    #[error("{place} has Effect {found:?}, which is neither \"Allow\" nor \"Deny\".")]
    Effect {
        /// Where.
        place: String,
        /// What stands there.
        found: String,
    },
    /// AWS does not support it: it would allow everybody else.
    #[error("{place} has NotPrincipal with the effect Allow: it is for Deny alone.")]
    AllowsNotPrincipal {
        /// Where.
        place: String,
    },
    /// Not a principal, or of a kind that does not exist here.
    #[error("Policy contains a statement with one or more invalid principals: {0:?}.")]
    Principal(String),
    /// Not `service:action` with wildcards.
    #[error("{place} has the action {action:?}, which is neither \"*\" nor SERVICE:ACTION.")]
    Action {
        /// Where.
        place: String,
        /// What stands there.
        action: String,
    },
    /// Neither `*` nor an ARN.
    #[error("{place} has the resource {resource:?}, which is neither \"*\" nor an ARN.")]
    Resource {
        /// Where.
        place: String,
        /// What stands there.
        resource: String,
    },
    /// An operator that the language does not have.
    #[error("{place} has the condition operator {operator:?}, which does not exist.")]
    Operator {
        /// Where.
        place: String,
        /// Which.
        operator: String,
    },
    /// A key that is never supplied, so that a condition on it would not do what it says.
    #[error("{place} has the condition key {key:?}, which this KMS does not know.")]
    ConditionKey {
        /// Where.
        place: String,
        /// Which.
        key: String,
    },
    /// A value that its operator cannot compare with.
    #[error("{place} has the value {value:?} for {operator}, which compares with {wanted}.")]
    Value {
        /// Where.
        place: String,
        /// Which operator.
        operator: String,
        /// The value.
        value: String,
        /// What it would have to be.
        wanted: &'static str,
    },
    /// `${` without its end, or with nothing in it.
    #[error("The policy variable in {0:?} is not written as ${{name}} or ${{name, 'default'}}.")]
    Variable(String),
    /// More of something than is taken.
    #[error("{place} has more than {most} {what}.")]
    TooMany {
        /// Where.
        place: String,
        /// Of what.
        what: &'static str,
        /// How many are taken.
        most: usize,
    },
    /// `ForAllValues` with a key that has one value: it matches requests without the key.
    #[error(
        "OverlyPermissiveCondition: Using the ForAllValues set operator with a single-valued condition key matches requests \
         without the specified [encryption context or tag] or with an unspecified [encryption context or tag]. To fix, remove \
         ForAllValues."
    )]
    OverlyPermissive,
}
