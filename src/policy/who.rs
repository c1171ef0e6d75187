//! Principals: who asks, and whom a policy names.

use super::Malformed;

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Who {
    account: String,
    /// The ARN of the root, the user or the role.
    arn: String,
    /// Of a role's session: its own ARN.
    session: Option<String>,
}

/// Whom a policy names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// `*`
    Anyone,
    /// An account: its root, and whomever it gives the right to.
    Account(String),
    /// A user, a role or a session.
    Arn(String),
    /// A service of AWS, none of which calls here.
    Service,
}

/// In which way somebody is named. The more directly, the greater.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// By their account: policies of identities decide.
    Account,
    /// As user, role or root, or with everybody.
    Self_,
    /// As a session: its session policy does not limit that.
    Session,
}

impl Who {
    /// The principal that `arn` names: an account's root, a user, a role (as whoever assumes it) or a session.
    ///
    /// # Errors
    /// Where it names none.
    pub fn named(arn: &str) -> Result<Self, Malformed> {
        let invalid = || Malformed::Principal(arn.to_owned());
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        let &["arn", "aws", service, "", account, resource] = parts.as_slice() else { return Err(invalid()) };
        if !is_account(account) {
            return Err(invalid());
        }
        let account = account.to_owned();
        match (service, resource.split('/').collect::<Vec<_>>().as_slice()) {
            ("iam", ["root"]) => Ok(Self { account, arn: arn.to_owned(), session: None }),
            ("iam", ["user" | "role", path @ ..]) if is_path(path) => {
                Ok(Self { account, arn: arn.to_owned(), session: None })
            }
            // The roles of AWS's own services have a colon in them.
            ("sts", ["assumed-role", role, session]) if is_path(&[&role.replace(':', "-"), session]) => {
                let of = format!("arn:aws:iam::{account}:role/{role}");
                Ok(Self { account, arn: of, session: Some(arn.to_owned()) })
            }
            _ => Err(invalid()),
        }
    }

    /// Their account.
    pub fn account(&self) -> &str {
        &self.account
    }

    /// The ARN of the root, the user, or the role whose session it is.
    pub fn arn(&self) -> &str {
        &self.arn
    }

    /// The ARN by which they are told of: a session's own.
    pub fn full_arn(&self) -> &str {
        self.session.as_deref().unwrap_or(&self.arn)
    }

    /// What `aws:userid` and CloudTrail's `principalId` are: an account, a user's name, a role's name with the session's.
    pub fn id(&self) -> String {
        let last = |arn: &str| arn.rsplit('/').next().unwrap_or_default().to_owned();
        match &self.session {
            _ if self.is_root() => self.account.clone(),
            None => last(&self.arn),
            Some(session) => format!("{}:{}", last(&self.arn), last(session)),
        }
    }

    /// Whether it is an account's root.
    pub fn is_root(&self) -> bool {
        // A role may have a colon in its name.
        self.session.is_none() && self.arn.ends_with(":root")
    }

    /// Whether it is the session of a role.
    pub fn is_session(&self) -> bool {
        self.session.is_some()
    }
}

impl Named {
    /// Reads a principal of AWS's in a policy: `*`, an account, or an ARN without wildcards.
    pub(super) fn read(text: &str) -> Result<Self, Malformed> {
        if text == "*" {
            return Ok(Self::Anyone);
        }
        if is_account(text) {
            return Ok(Self::Account(text.to_owned()));
        }
        let who = Who::named(text)?;
        Ok(if who.is_root() { Self::Account(who.account) } else { Self::Arn(text.to_owned()) })
    }

    /// How this names `who`, if it does.
    pub(super) fn names(&self, who: &Who) -> Option<Way> {
        match self {
            Self::Anyone => Some(Way::Self_),
            Self::Account(account) if *account != who.account => None,
            Self::Account(_) if who.is_root() => Some(Way::Self_),
            Self::Account(_) => Some(Way::Account),
            Self::Arn(arn) if who.session.as_ref() == Some(arn) => Some(Way::Session),
            Self::Arn(arn) if who.arn == *arn => Some(Way::Self_),
            Self::Arn(_) | Self::Service => None,
        }
    }
}

/// Whether `named` hold everything that `who` is: the account, the user or role, the session. `NotPrincipal` spares
/// nobody else.
pub(super) fn spares(named: &[Named], who: &Who) -> bool {
    let has = |wanted: &Named| named.iter().any(|named| named == wanted || *named == Named::Anyone);
    let own = [Some(who.arn.clone()), who.session.clone()];
    has(&Named::Account(who.account.clone()))
        && (who.is_root() || own.into_iter().flatten().all(|arn| has(&Named::Arn(arn))))
}

/// Twelve digits.
pub(super) fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}

fn is_path(parts: &[&str]) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    !parts.is_empty() && parts.iter().all(|part| !part.is_empty() && part.bytes().all(letter))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn principals_are_read_by_their_arns_and_nothing_else_is_one() {
        let session = Who::named("arn:aws:sts::111122223333:assumed-role/app/one").expect("a session");
        assert_eq!(session.arn(), "arn:aws:iam::111122223333:role/app");
        assert_eq!(session.full_arn(), "arn:aws:sts::111122223333:assumed-role/app/one");
        for text in [
            "",
            "alice",
            "arn:aws:iam::1111:root",
            "arn:aws:iam::111122223333:user/",
            "arn:aws:iam::111122223333:user/*",
            "arn:aws:iam::111122223333:group/devs",
            "arn:aws:sts::111122223333:assumed-role/app",
            "arn:aws:iam:us-east-1:111122223333:root",
            "arn:aws:iam::111122223333:*",
        ] {
            assert_eq!(Named::read(text), Err(Malformed::Principal(text.to_owned())), "{text}");
        }
    }

    #[test]
    fn the_account_names_everybody_in_it_and_its_root_directly() {
        let named = Named::read("arn:aws:iam::111122223333:root").expect("an account");
        assert_eq!(named, Named::read("111122223333").expect("an account"));
        let way = |arn: &str| named.names(&Who::named(arn).expect("somebody"));
        assert_eq!(way("arn:aws:iam::111122223333:root"), Some(Way::Self_));
        assert_eq!(way("arn:aws:iam::111122223333:user/alice"), Some(Way::Account));
        assert_eq!(way("arn:aws:iam::999999999999:user/alice"), None);
    }

    #[test]
    fn who_is_to_be_spared_is_named_with_the_account_the_role_and_the_session() {
        let session = Who::named("arn:aws:sts::111122223333:assumed-role/app/one").expect("a session");
        let named =
            |texts: &[&str]| texts.iter().map(|text| Named::read(text).expect("a principal")).collect::<Vec<_>>();
        let (account, role) = ("111122223333", "arn:aws:iam::111122223333:role/app");
        assert!(spares(&named(&[account, role, session.full_arn()]), &session));
        for lacking in [&[account, role][..], &[role, session.full_arn()], &[account, session.full_arn()]] {
            assert!(!spares(&named(lacking), &session), "{lacking:?}");
        }
        assert!(spares(&named(&[account]), &Who::named("arn:aws:iam::111122223333:root").expect("the root")));
    }
}
