//! The condition keys that mean something here.
//!
//! A policy that asks for another `kms:`, `aws:` or `sts:` key is refused: what would never be supplied could not be
//! enforced. Keys of other services stand in policies of identities beside these, and are missing from every request here.

/// Keys with this name, in lower case.
const KNOWN: &[&str] = &[
    "aws:currenttime",
    "aws:epochtime",
    "aws:principalaccount",
    "aws:principalarn",
    "aws:principaltype",
    "aws:securetransport",
    "aws:sourceip",
    "aws:tagkeys",
    "aws:useragent",
    "aws:userid",
    "aws:username",
    "kms:bypasspolicylockoutsafetycheck",
    "kms:calleraccount",
    "kms:datakeypairspec",
    "kms:encryptionalgorithm",
    "kms:encryptioncontextkeys",
    "kms:expirationmodel",
    "kms:grantconstrainttype",
    "kms:grantisforawsresource",
    "kms:grantoperations",
    "kms:granteeprincipal",
    "kms:keyagreementalgorithm",
    "kms:keyorigin",
    "kms:keyspec",
    "kms:keyusage",
    "kms:macalgorithm",
    "kms:messagetype",
    "kms:multiregion",
    "kms:multiregionkeytype",
    "kms:policyname",
    "kms:reencryptonsamekey",
    "kms:requestalias",
    "kms:resourcealiases",
    "kms:retiringprincipal",
    "kms:rotationperiodindays",
    "kms:schedulekeydeletionpendingwindowindays",
    "kms:signingalgorithm",
    "kms:validto",
    "kms:viaservice",
    "kms:wrappingalgorithm",
    "kms:wrappingkeyspec",
    "sts:externalid",
    "sts:rolesessionname",
    // Missing from every request, as they would be from such a one to AWS: no MFA device, no network of AWS's, no
    // organisation and no service of AWS is behind it.
    "aws:calledvia",
    "aws:multifactorauthage",
    "aws:multifactorauthpresent",
    "aws:principalisawsservice",
    "aws:principalorgid",
    "aws:principalorgpaths",
    "aws:resourceorgid",
    "aws:sourceaccount",
    "aws:sourcearn",
    "aws:sourceorgid",
    "aws:sourcevpc",
    "aws:sourcevpce",
    "aws:viaawsservice",
    "aws:vpcsourceip",
];

/// Keys with this beginning and something behind it.
const FAMILIES: &[&str] = &[
    "aws:principaltag/",
    "aws:requesttag/",
    "aws:resourcetag/",
    "kms:encryptioncontext:",
    "kms:recipientattestation:",
];

/// Of which a key policy may not ask with `ForAllValues`.
const SINGLE: &[&str] = &["kms:encryptioncontext:", "aws:requesttag/"];

/// Whether `key`, in lower case, is one that a policy may ask for.
pub(super) fn is_known(key: &str, of_identity: bool) -> bool {
    let own = ["kms:", "aws:", "sts:"].iter().any(|prefix| key.starts_with(prefix));
    if !own {
        return of_identity && key.contains(':');
    }
    KNOWN.contains(&key) || FAMILIES.iter().any(|family| key.len() > family.len() && key.starts_with(family))
}

/// Whether `key`, in lower case, has one value that must be there for `ForAllValues` to mean something.
pub(super) fn needs_presence(key: &str) -> bool {
    SINGLE.iter().any(|family| key.starts_with(family))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_never_supplied_is_not_known() {
        assert!(is_known("kms:encryptioncontext:app", false) && is_known("aws:resourcetag/env", true));
        for key in ["kms:encryptioncontext:", "kms:keysize", "aws:requestedregion", "aws:", "username", "s3:prefix"] {
            assert!(!is_known(key, false), "{key}");
        }
        assert!(is_known("s3:prefix", true) && !is_known("kms:keysize", true));
    }
}
