//! The values in a policy that an operator compares with, read once, when the policy is.

use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

use super::Malformed;
use super::context::{Context, Side};
use super::pattern::{Case, Pattern, Reading};

/// Parts of an ARN: `arn:partition:service:region:account:resource`.
const ARN_PARTS: usize = 6;

/// How two ordered values must stand to each other: the request's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What an operator compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Test {
    Text(Case),
    Like,
    Bool,
    Number(Order),
    Date(Order),
    Arn,
    Network,
    Bytes,
    /// Whether the key is missing.
    Null,
}

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    Text(Pattern, Case),
    Bool(bool),
    Number(f64, Order),
    Date(Timestamp, Order),
    /// Part by part; `None` is any ARN.
    Arn(Option<Vec<Pattern>>),
    Network(IpAddr, u8),
    Bytes(Vec<u8>),
}

impl Test {
    /// What its values are, for whoever wrote another one.
    pub(super) fn wanted(self) -> &'static str {
        match self {
            Self::Text(_) | Self::Like => "text",
            Self::Bool | Self::Null => "\"true\" or \"false\"",
            Self::Number(_) => "a number",
            Self::Date(_) => "a date such as 2027-01-15T08:00:00Z, or seconds since 1970",
            Self::Arn => "an ARN, in whose parts there may be wildcards",
            Self::Network => "an IP address or a CIDR block",
            Self::Bytes => "base64",
        }
    }
}

impl Operand {
    /// Reads `text` for `test`; `None` where it is not what the operator compares with.
    pub(super) fn read(text: &str, test: Test, variables: bool) -> Result<Option<Self>, Malformed> {
        let pattern = |wildcards| Pattern::read(text, Reading { wildcards, variables });
        Ok(match test {
            Test::Text(case) => Some(Self::Text(pattern(false)?, case)),
            Test::Like => Some(Self::Text(pattern(true)?, Case::Sensitive)),
            Test::Bool | Test::Null => truth(text).map(Self::Bool),
            Test::Number(order) => number(text).map(|number| Self::Number(number, order)),
            Test::Date(order) => date(text).map(|date| Self::Date(date, order)),
            Test::Arn if pattern(true)?.is_any() => Some(Self::Arn(None)),
            Test::Arn => arn_pattern(text, variables)?.map(|parts| Self::Arn(Some(parts))),
            Test::Network => network(text).map(|(address, bits)| Self::Network(address, bits)),
            Test::Bytes => STANDARD.decode(text).ok().map(Self::Bytes),
        })
    }

    /// Whether a value of the request is as this one says. One that cannot be read is not.
    pub(super) fn matches(&self, value: &str, context: &Context, side: Side) -> bool {
        match self {
            Self::Text(pattern, case) => pattern.matches(value, *case, context, side),
            Self::Bool(wanted) => truth(value) == Some(*wanted),
            Self::Number(own, order) => number(value).is_some_and(|number| holds(&number, own, *order)),
            Self::Date(own, order) => date(value).is_some_and(|date| holds(&date, own, *order)),
            Self::Arn(parts) => is_arn(parts.as_deref(), value, context, side),
            Self::Network(network, bits) => value.parse().is_ok_and(|address| is_within(address, *network, *bits)),
            Self::Bytes(own) => STANDARD.decode(value).is_ok_and(|bytes| bytes == *own),
        }
    }

    /// The truth that it is; `None` where it is something else.
    pub(super) fn truth(&self) -> Option<bool> {
        if let Self::Bool(truth) = self { Some(*truth) } else { None }
    }
}

fn holds<T: PartialOrd>(value: &T, own: &T, order: Order) -> bool {
    match order {
        Order::Equal => value == own,
        Order::Less => value < own,
        Order::LessOrEqual => value <= own,
        Order::Greater => value > own,
        Order::GreaterOrEqual => value >= own,
    }
}

fn truth(text: &str) -> Option<bool> {
    [true, false].into_iter().find(|truth| truth.to_string().eq_ignore_ascii_case(text))
}

fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    text.parse::<f64>().ok().filter(|number| plain && number.is_finite())
}

fn date(text: &str) -> Option<Timestamp> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    }
    let whole_day = || text.parse::<Date>().ok().filter(|_| text.len() == "2027-01-15".len());
    let midnight = |day: Date| TimeZone::UTC.to_timestamp(day.at(0, 0, 0, 0)).ok();
    text.parse().ok().or_else(|| whole_day().and_then(midnight))
}

fn arn_pattern(text: &str, variables: bool) -> Result<Option<Vec<Pattern>>, Malformed> {
    let parts = parts_of_arn(text);
    let read = |part: &&str| Pattern::read(part, Reading { wildcards: true, variables });
    if parts.len() == ARN_PARTS && parts[0] == "arn" {
        parts.iter().map(read).collect::<Result<_, _>>().map(Some)
    } else {
        Ok(None)
    }
}

/// The parts between the first five colons that are not within a variable.
fn parts_of_arn(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut inside) = (Vec::new(), 0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '$' if text[at..].starts_with("${") => inside = true,
            '}' => inside = false,
            ':' if !inside && parts.len() < ARN_PARTS - 1 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn is_arn(parts: Option<&[Pattern]>, value: &str, context: &Context, side: Side) -> bool {
    let found: Vec<&str> = value.splitn(ARN_PARTS, ':').collect();
    let Some(parts) = parts else { return found.len() == ARN_PARTS };
    found.len() == parts.len()
        && parts.iter().zip(found).all(|(part, found)| part.matches(found, Case::Sensitive, context, side))
}

fn network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, bits) = match text.split_once('/') {
        None => (text.parse::<IpAddr>().ok()?, None),
        Some((address, bits)) => (address.parse().ok()?, Some(bits.parse::<u8>().ok()?)),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    Some((address, bits.unwrap_or(most))).filter(|(_, bits)| *bits <= most)
}

fn is_within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let rest = 32 - u32::from(bits);
            (address.to_bits() ^ network.to_bits()).checked_shr(rest).unwrap_or(0) == 0
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let rest = 128 - u32::from(bits);
            (address.to_bits() ^ network.to_bits()).checked_shr(rest).unwrap_or(0) == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_and_no_others() {
        let within = |text: &str, address: &str| {
            let (network, bits) = network(text).expect("a network");
            is_within(address.parse().expect("an address"), network, bits)
        };
        for (text, address, expected) in [
            ("203.0.113.0/24", "203.0.113.7", true),
            ("203.0.113.0/24", "203.0.114.7", false),
            ("203.0.113.7", "203.0.113.7", true),
            ("0.0.0.0/0", "8.8.8.8", true),
            ("0.0.0.0/0", "::1", false),
            ("2001:db8::/32", "2001:db8:1::1", true),
            ("::/0", "2001:db8::1", true),
            ("2001:db8::/128", "2001:db8::1", false),
        ] {
            assert_eq!(within(text, address), expected, "{text} {address}");
        }
        for text in ["", "1.2.3", "1.2.3.4/33", "::1/129", "1.2.3.4/a"] {
            assert_eq!(network(text), None, "{text}");
        }
    }

    #[test]
    fn dates_are_read_in_the_forms_that_iam_has() {
        let day = date("2027-01-15").expect("a date");
        assert_eq!(Some(day), date("2027-01-15T00:00:00Z"));
        assert_eq!(Some(day), date("2027-01-15T01:00:00+01:00"));
        assert_eq!(Some(day), date(&day.as_second().to_string()));
        for text in ["", "yesterday", "2027-01", "2027-01-15T", "2027-13-01"] {
            assert_eq!(date(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_finite_and_written_as_numbers() {
        assert_eq!(number("-1.5e3"), Some(-1500.0));
        for text in ["", "nan", "inf", "1e999", "0x1", " 1"] {
            assert_eq!(number(text), None, "{text}");
        }
    }
}
