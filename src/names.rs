//! Names of things: volume ids and volume names. Strict character sets, judged once, at the door.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits;

/// The id of a volume: `vol-` and 17 lower-case hex digits, as EC2 spells them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId(String);

/// The name of a volume: 1-64 of `[A-Za-z0-9._-]`, starting with a letter or digit, and not shaped like an id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeName(String);

/// A name that cannot be one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Not `vol-` and 17 hex digits.
    #[error("a volume id is `vol-` and 17 hex digits")]
    Id,
    /// Outside the character set, the length, or shaped like an id.
    #[error(
        "a volume name is 1 to {} of A-Z a-z 0-9 . _ -, starts with a letter or digit and is not shaped like an id",
        limits::VOLUME_NAME_MAX
    )]
    Name,
}

fn is_id(text: &str) -> bool {
    text.strip_prefix("vol-")
        .is_some_and(|rest| rest.len() == 17 && rest.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

impl VolumeId {
    /// The id that 68 random bits give; the rest of `random` is not used.
    pub fn from_random(random: [u8; 9]) -> Self {
        let digits: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        Self(format!("vol-{}", &digits[..17]))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl VolumeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VolumeId {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        if is_id(text) { Ok(Self(text.to_owned())) } else { Err(BadName::Id) }
    }
}

impl FromStr for VolumeName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let shaped = (1..=limits::VOLUME_NAME_MAX).contains(&text.len())
            && text.bytes().all(allowed)
            && text.as_bytes()[0].is_ascii_alphanumeric();
        let like_an_id = is_id(&text.to_ascii_lowercase());
        if shaped && !like_an_id { Ok(Self(text.to_owned())) } else { Err(BadName::Name) }
    }
}

/// Text forms, serde's among them, all pass the one check in `FromStr`.
macro_rules! text_forms {
    ($($name:ty),*) => {$(
        impl TryFrom<String> for $name {
            type Error = BadName;

            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )*};
}
text_forms!(VolumeId, VolumeName);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_character_set_are_refused() {
        let long = "a".repeat(limits::VOLUME_NAME_MAX + 1);
        for bad in ["", "../x", "/abs", "a\0b", ".hidden", "-x", "vоl", "a b", "vol-0123456789abcdef0", &long] {
            assert_eq!(bad.parse::<VolumeName>(), Err(BadName::Name), "{bad:?}");
        }
        let longest = "a".repeat(limits::VOLUME_NAME_MAX);
        for good in ["a", "db.1_x-y", "vol-1", "0", &longest] {
            assert!(good.parse::<VolumeName>().is_ok(), "{good:?}");
        }
    }

    #[test]
    fn ids_have_seventeen_digits() {
        let id = VolumeId::from_random([0xab; 9]);
        assert_eq!(id.as_str(), "vol-abababababababab".to_owned() + "a");
        assert_eq!(id.as_str().parse(), Ok(id.clone()));
        assert!("vol-ABABABABABABABABA".parse::<VolumeId>().is_err());
    }
}
