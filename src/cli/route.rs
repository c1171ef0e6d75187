//! Paths of the control API. A word that a user typed is one segment, whatever it holds: everything but letters, digits
//! and `-._~` is percent-encoded (RFC 3986, 2.3), so `alias/x` or an ARN never becomes two segments.

/// `/v1/` and `segments`, each encoded.
pub(crate) fn route(segments: &[&str]) -> String {
    let mut path = "/v1".to_owned();
    for segment in segments {
        path.push('/');
        encode(segment, &mut path);
    }
    path
}

/// A query of `pairs`, its values encoded; nothing where there are none.
pub(crate) fn query<'a>(pairs: impl Iterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        encode(value, &mut text);
    }
    text
}

fn encode(segment: &str, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            into.push(char::from(DIGITS[usize::from(byte >> 4)]));
            into.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_segment_whatever_it_holds() {
        assert_eq!(route(&["keys", "alias/aws/ebs", "disable"]), "/v1/keys/alias%2Faws%2Febs/disable");
        assert_eq!(route(&["volumes", "../x?y#z é"]), "/v1/volumes/..%2Fx%3Fy%23z%20%C3%A9");
    }
}
