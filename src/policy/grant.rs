//! Grants: one principal, one key, some operations, as long as the encryption context is as they say.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::Malformed;
use super::who::{Named, Way, Who, is_account};

/// Operations that have no encryption context of their own, so that no constraint limits them. What CreateGrant gives on is
/// judged by [`Grant::covers`].
const UNCONSTRAINED: &[&str] = &["CreateGrant", "DescribeKey", "RetireGrant"];

/// A grant, as far as rights go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: String,
    grantee: Named,
    operations: Vec<String>,
    constraint: Option<Constraint>,
}

/// What the encryption context of a request must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Constraint {
    /// These pairs and no others.
    Equals(BTreeMap<String, String>),
    /// These pairs, and whatever else.
    Subset(BTreeMap<String, String>),
}

impl Grant {
    /// A grant of `operations` to the principal with this ARN.
    ///
    /// # Errors
    /// Where the ARN is no principal's.
    pub fn new(
        id: String,
        grantee: &str,
        operations: Vec<String>,
        constraint: Option<Constraint>,
    ) -> Result<Self, Malformed> {
        Ok(Self { id, grantee: Named::read(&arn_of(grantee))?, operations, constraint })
    }
    /// Whether it may give `who` the operation with that encryption context, policies aside.
    pub fn suits(&self, who: &Who, operation: &str, pairs: &BTreeMap<String, String>) -> bool {
        self.gives(who, operation, pairs).is_some()
    }

    /// How it gives `who` the operation with that encryption context, if it does.
    pub(super) fn gives(&self, who: &Who, operation: &str, pairs: &BTreeMap<String, String>) -> Option<Way> {
        let listed = self.operations.iter().any(|own| own == operation);
        let free = UNCONSTRAINED.contains(&operation);
        let holds = free || self.constraint.as_ref().is_none_or(|constraint| constraint.holds(pairs));
        if listed && holds { self.grantee.names(who) } else { None }
    }

    /// Whether a grant of `operations` under `constraint` gives nothing that this one does not.
    pub fn covers(&self, operations: &[String], constraint: Option<&Constraint>) -> bool {
        let stricter = match (&self.constraint, constraint) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(own), Some(other)) => own.covers(other),
        };
        stricter && operations.iter().all(|operation| self.operations.contains(operation))
    }
}

/// A session by its principal id, as EC2's infrastructure has one (`ACCOUNT:ROLE:SESSION`), is a session by its ARN; an account
/// by its number is its root.
pub fn arn_of(principal: &str) -> Cow<'_, str> {
    if is_account(principal) {
        return format!("arn:aws:iam::{principal}:root").into();
    }
    let parts = principal.split_once(':').and_then(|(account, rest)| Some((account, rest.rsplit_once(':')?)));
    match parts {
        Some((account, (role, session))) if account != "arn" => {
            format!("arn:aws:sts::{account}:assumed-role/{role}/{session}").into()
        }
        _ => principal.into(),
    }
}

impl Constraint {
    /// Whether a request with these pairs meets it.
    pub fn holds(&self, pairs: &BTreeMap<String, String>) -> bool {
        match self {
            Self::Equals(own) => own == pairs,
            Self::Subset(own) => own.iter().all(|(name, value)| pairs.get(name) == Some(value)),
        }
    }

    /// Whether whatever meets `other` meets this one.
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Equals(own), Self::Equals(other)) => own == other,
            (Self::Equals(_), Self::Subset(_)) => false,
            (Self::Subset(_), Self::Equals(other) | Self::Subset(other)) => self.holds(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> BTreeMap<String, String> {
        text.chars().map(|letter| (letter.to_string(), "1".to_owned())).collect()
    }

    fn grant(operations: &[&str], constraint: Option<Constraint>) -> Grant {
        let operations = operations.iter().map(|name| (*name).to_owned()).collect();
        Grant::new("id".to_owned(), "arn:aws:iam::111122223333:user/alice", operations, constraint).expect("a grant")
    }

    #[test]
    fn a_grant_gives_its_operations_to_its_grantee_under_its_constraint() {
        let alice = Who::named("arn:aws:iam::111122223333:user/alice").expect("a user");
        let bob = Who::named("arn:aws:iam::111122223333:user/bob").expect("a user");
        let given = grant(&["Decrypt", "DescribeKey"], Some(Constraint::Subset(pairs("a"))));
        assert_eq!(given.gives(&alice, "Decrypt", &pairs("ab")), Some(Way::Self_));
        assert_eq!(given.gives(&alice, "Decrypt", &pairs("b")), None);
        assert_eq!(given.gives(&alice, "DescribeKey", &pairs("")), Some(Way::Self_));
        assert_eq!(given.gives(&alice, "Encrypt", &pairs("a")), None);
        assert_eq!(given.gives(&bob, "Decrypt", &pairs("a")), None);
        let exact = grant(&["Decrypt"], Some(Constraint::Equals(pairs("a"))));
        assert_eq!(exact.gives(&alice, "Decrypt", &pairs("ab")), None);
        assert_eq!(exact.gives(&alice, "Decrypt", &pairs("a")), Some(Way::Self_));
    }

    #[test]
    fn a_session_is_a_grantee_by_its_principal_id_too() {
        let id = "111122223333:aws:ec2-infrastructure:i-0123";
        let who =
            Who::named("arn:aws:sts::111122223333:assumed-role/aws:ec2-infrastructure/i-0123").expect("a session");
        let grant = Grant::new("id".to_owned(), id, vec!["Decrypt".to_owned()], None).expect("a grant");
        assert_eq!(grant.gives(&who, "Decrypt", &pairs("")), Some(Way::Session));
    }

    #[test]
    fn a_grant_from_a_grant_is_as_strict_or_stricter() {
        let names = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let (equals, subset) = (|text| Constraint::Equals(pairs(text)), |text| Constraint::Subset(pairs(text)));
        for (own, other, expected) in [
            (None, Some(subset("a")), true),
            (Some(subset("a")), None, false),
            (Some(subset("a")), Some(subset("ab")), true),
            (Some(subset("ab")), Some(subset("a")), false),
            (Some(subset("a")), Some(equals("ab")), true),
            (Some(subset("a")), Some(equals("b")), false),
            (Some(equals("a")), Some(equals("a")), true),
            (Some(equals("a")), Some(subset("a")), false),
            (Some(equals("a")), Some(equals("ab")), false),
        ] {
            let covered = grant(&["Decrypt", "CreateGrant"], own.clone()).covers(&names("Decrypt"), other.as_ref());
            assert_eq!(covered, expected, "{own:?} {other:?}");
        }
        assert!(!grant(&["Decrypt"], None).covers(&names("Decrypt Encrypt"), None));
    }
}
