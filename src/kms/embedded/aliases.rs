//! The names of aliases: what they may be, and which are nobody's to change.

use crate::kms::KmsError;
use crate::limits;

use super::refusal;

/// The alias of the key that volumes use when nobody names one; made on first use.
pub(super) const EBS: &str = "alias/aws/ebs";

const PREFIX: &str = "alias/";
const MANAGED_PREFIX: &str = "alias/aws/";
const PATTERN: &str = "^[a-zA-Z0-9:/_-]+$";

/// Whether a caller may make an alias called `name`.
pub(super) fn judge_new(name: &str) -> Result<(), KmsError> {
    judge(name)?;
    if name.contains(':') { Err(refusal::colon_in_alias(name)) } else { Ok(()) }
}

/// Whether a caller may make, move or delete an alias called `name`.
pub(super) fn judge(name: &str) -> Result<(), KmsError> {
    if name.is_empty() {
        return Err(refusal::validation("aliasName", None, "have length greater than or equal to 1"));
    }
    if name.len() > limits::ALIAS_MAX {
        let constraint = format!("have length less than or equal to {}", limits::ALIAS_MAX);
        return Err(refusal::validation("aliasName", None, &constraint));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b":/_-".contains(&b)) {
        let constraint = format!("satisfy regular expression pattern: {PATTERN}");
        return Err(refusal::validation("aliasName", Some(name), &constraint));
    }
    if !name.starts_with(PREFIX) {
        return Err(refusal::alias_without_prefix());
    }
    if name.starts_with(MANAGED_PREFIX) {
        return Err(refusal::reserved_alias());
    }
    if name == PREFIX {
        return Err(refusal::empty_alias_name());
    }
    Ok(())
}
