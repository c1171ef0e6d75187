//! AWS Signature Version 4, verified: who signed a request, and that it is the one they signed.
//!
//! The scheme is that of the `Authorization` header. A request is `POST /` without a query, so its canonical form is made
//! of the signed headers and the digest of the body, which is computed here whatever the client says it is. `host`,
//! `x-amz-date` and, for the KMS, `x-amz-target` must be signed: the last one is the operation; so must the token of a
//! session. Each of these, and `Authorization`, is there once, so that nobody on the way can take another one for it. The
//! clock may be five minutes off.

use hyper::header::{AUTHORIZATION, HeaderMap};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use super::refusal::{incomplete, invalid_signature, missing_token, unrecognized_client};
use crate::crypto::{derive, digest};
use crate::kms::KmsError;
use crate::limits;
use crate::secret::Secret;
use crate::sys::locked::LockedMemory;

const SCHEME: &str = "AWS4-HMAC-SHA256";
const TERMINATOR: &str = "aws4_request";
const ONCE: [&str; 5] = ["host", "x-amz-date", "x-amz-target", "authorization", TOKEN];
/// The token of a session.
const TOKEN: &str = "x-amz-security-token";

/// What is served, as signatures name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `kms`
    Kms,
    /// `sts`
    Sts,
}

impl Service {
    fn named(name: &str) -> Option<Self> {
        [Self::Kms, Self::Sts].into_iter().find(|service| service.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::Kms => "kms",
            Self::Sts => "sts",
        }
    }

    /// The headers that must be signed: of the KMS, the operation is one.
    fn must_be_signed(self) -> &'static [&'static str] {
        match self {
            Self::Kms => &["host", "x-amz-date", "x-amz-target"],
            Self::Sts => &["host", "x-amz-date"],
        }
    }
}

/// What the headers of a request claim; true once [`Claim::verify`] has said so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Whose key signed.
    pub access_key_id: String,
    /// The region that it is meant for.
    pub region: String,
    /// What it is meant for.
    pub service: Service,
    /// The token of the session that it is signed in.
    pub token: Option<String>,
    /// The day of the signing key, as it is written.
    day: String,
    /// Lower-case names, in the order signed.
    signed: Vec<String>,
    signature: [u8; 32],
    /// When it was signed, as it is written.
    date: String,
    time: Timestamp,
}

impl Claim {
    /// Reads the claim in the headers of a request.
    ///
    /// # Errors
    /// Where there is none, or one that cannot hold, in the words of AWS.
    pub fn read(headers: &HeaderMap) -> Result<Self, KmsError> {
        if let Some(name) = ONCE.iter().find(|name| is_repeated(headers, name)) {
            return Err(incomplete(format!("Header '{name}' must be there once.")));
        }
        let header = headers.get(AUTHORIZATION).ok_or_else(missing_token)?;
        let header = header.to_str().map_err(|_| incomplete("Authorization header is not text."))?;
        let fields = Fields::read(header)?;
        let [access_key_id, day, region, service, terminator] = fields.scope()?;
        let service = Service::named(service)
            .ok_or_else(|| invalid_signature("Credential should be scoped to correct service: 'kms'."))?;
        if terminator != TERMINATOR {
            let text =
                format!("Credential should be scoped with a valid terminator: '{TERMINATOR}', not '{terminator}'.");
            return Err(invalid_signature(text));
        }
        let signed: Vec<String> = fields.signed.split(';').map(str::to_owned).collect();
        let token = headers.get(TOKEN).map(|token| token.to_str().map(str::to_owned));
        let token = token.transpose().map_err(|_| unrecognized_client())?;
        let mut needed = service.must_be_signed().iter().chain(token.as_ref().map(|_| &TOKEN));
        if let Some(missing) = needed.find(|name| !signed.iter().any(|signed| signed == *name)) {
            return Err(invalid_signature(format!("'{missing}' must be a 'SignedHeader' in the AWS Authorization.")));
        }
        let (date, time) = date_of(headers)?;
        if date[..8] != *day {
            return Err(invalid_signature(format!(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
                 '{day}' != '{}', from '{date}'.",
                &date[..8]
            )));
        }
        let signature = unhex(fields.signature).ok_or_else(mismatch)?;
        let (access_key_id, region, day) = (access_key_id.to_owned(), region.to_owned(), day.to_owned());
        Ok(Self { access_key_id, region, service, token, day, signed, signature, date: date.to_owned(), time })
    }

    /// Whether `secret` made the signature, over these headers and this body, not long before or after `now`.
    ///
    /// # Errors
    /// Where it did not, in the words of AWS; or where no memory can be locked.
    pub fn verify(&self, secret: &[u8], headers: &HeaderMap, body: &[u8], now: Timestamp) -> Result<(), KmsError> {
        let canonical = self.canonical(headers, body).ok_or_else(mismatch)?;
        let service = self.service.name();
        let scope = format!("{}/{}/{service}/{TERMINATOR}", self.day, self.region);
        let text = format!("{SCHEME}\n{}\n{scope}\n{}", self.date, hex(&digest::sha256(&[&canonical])));
        let expected = signature(secret, &self.day, &self.region, service, text.as_bytes())?;
        if !digest::equal(&expected, &self.signature) {
            return Err(mismatch());
        }
        self.judge_time(now)
    }

    fn judge_time(&self, now: Timestamp) -> Result<(), KmsError> {
        let skew = limits::SIGNATURE_SKEW;
        let late = now.duration_since(self.time);
        if late.unsigned_abs() <= skew {
            return Ok(());
        }
        let minutes = skew.as_secs() / 60;
        let (date, now_is) = (&self.date, written(now));
        Err(invalid_signature(if late.is_positive() {
            let least = written(now.saturating_sub(skew).expect("a duration"));
            format!("Signature expired: {date} is now earlier than {least} ({now_is} - {minutes} min.)")
        } else {
            let most = written(now.saturating_add(skew).expect("a duration"));
            format!("Signature not yet current: {date} is still later than {most} ({now_is} + {minutes} min.)")
        }))
    }

    /// The canonical request; `None` where a signed header is not there.
    fn canonical(&self, headers: &HeaderMap, body: &[u8]) -> Option<Vec<u8>> {
        let mut canonical = b"POST\n/\n\n".to_vec();
        for name in &self.signed {
            let mut values = headers.get_all(name).iter();
            canonical.extend_from_slice(name.as_bytes());
            canonical.push(b':');
            append_trimmed(&mut canonical, values.next()?.as_bytes());
            for value in values {
                canonical.push(b',');
                append_trimmed(&mut canonical, value.as_bytes());
            }
            canonical.push(b'\n');
        }
        canonical.push(b'\n');
        canonical.extend_from_slice(self.signed.join(";").as_bytes());
        canonical.push(b'\n');
        canonical.extend_from_slice(hex(&digest::sha256(&[body])).as_bytes());
        Some(canonical)
    }
}

/// The parts of the header, as they are written.
struct Fields<'a> {
    credential: &'a str,
    signed: &'a str,
    signature: &'a str,
}

impl<'a> Fields<'a> {
    fn read(header: &'a str) -> Result<Self, KmsError> {
        let Some(rest) = header.strip_prefix(SCHEME).filter(|rest| rest.starts_with(' ')) else {
            return Err(incomplete(format!("Unsupported AWS 'algorithm': only {SCHEME} is known.")));
        };
        let field = |name: &str| {
            let mut fields = rest.split(',').filter_map(|field| field.trim().split_once('='));
            fields.find(|(field, _)| *field == name).map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
        };
        let missing = |name: &str| incomplete(format!("Authorization header requires '{name}' parameter."));
        Ok(Self {
            credential: field("Credential").ok_or_else(|| missing("Credential"))?,
            signed: field("SignedHeaders").ok_or_else(|| missing("SignedHeaders"))?,
            signature: field("Signature").ok_or_else(|| missing("Signature"))?,
        })
    }

    fn scope(&self) -> Result<[&'a str; 5], KmsError> {
        let parts: Vec<&str> = self.credential.split('/').collect();
        parts.try_into().map_err(|_| {
            incomplete("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.")
        })
    }
}

fn is_repeated(headers: &HeaderMap, name: &str) -> bool {
    headers.get_all(name).iter().nth(1).is_some()
}

fn date_of(headers: &HeaderMap) -> Result<(&str, Timestamp), KmsError> {
    let missing = || incomplete("Authorization header requires existence of an 'X-Amz-Date' header.");
    let date = headers.get("x-amz-date").ok_or_else(missing)?.to_str().map_err(|_| missing())?;
    let time = DateTime::strptime("%Y%m%dT%H%M%SZ", date).ok().filter(|_| date.len() == 16 && date.is_ascii());
    let time = time.and_then(|time| TimeZone::UTC.to_timestamp(time).ok());
    let wrong = || incomplete(format!("Date must be in ISO-8601 'basic format'. Got '{date}'."));
    Ok((date, time.ok_or_else(wrong)?))
}

fn written(time: Timestamp) -> String {
    time.strftime("%Y%m%dT%H%M%SZ").to_string()
}

fn mismatch() -> KmsError {
    invalid_signature(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key \
         and signing method. Consult the service documentation for details.",
    )
}

/// The signature of `text` with the key that follows from `secret` for a day, a region and a service.
fn signature(secret: &[u8], day: &str, region: &str, service: &str, text: &[u8]) -> Result<[u8; 32], KmsError> {
    let mut key = LockedMemory::zeroed(4 + secret.len())?;
    key.bytes_mut()[..4].copy_from_slice(b"AWS4");
    key.bytes_mut()[4..].copy_from_slice(secret);
    // For a day and a region it is as good as the secret, so it is kept as one.
    let mut signing = Secret::zeroed()?;
    derive::hmac_chain(key.bytes(), [day, region, service, TERMINATOR].map(str::as_bytes), &mut signing);
    Ok(digest::hmac_sha256(signing.expose(), &[text]))
}

/// `value` without the blanks around it, and with one blank where there are several.
fn append_trimmed(canonical: &mut Vec<u8>, value: &[u8]) {
    let mut blank = false;
    for byte in value.trim_ascii() {
        if !(blank && *byte == b' ') {
            canonical.push(*byte);
        }
        blank = *byte == b' ';
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let (pairs, []) = digits.as_ref()?.as_chunks::<2>() else { return None };
    let bytes: Option<Vec<u8>> = pairs.iter().map(|[high, low]| u8::try_from(high << 4 | low).ok()).collect();
    bytes?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::HeaderValue;

    const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

    /// `post-vanilla` of the AWS Signature Version 4 test suite.
    #[test]
    fn the_published_signature_is_made() {
        let canonical = "POST\n/\n\nhost:example.amazonaws.com\nx-amz-date:20150830T123600Z\n\nhost;x-amz-date\n\
                         e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        let text = format!(
            "AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/service/aws4_request\n{}",
            hex(&digest::sha256(&[canonical.as_bytes()]))
        );
        let made = signature(SECRET, "20150830", "us-east-1", "service", text.as_bytes()).expect("locks");
        assert_eq!(hex(&made), "5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b");
    }

    fn headers(authorization: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("host", "localhost"),
            ("x-amz-date", "20270115T080000Z"),
            ("x-amz-target", "TrentService.ListKeys"),
            ("authorization", authorization),
        ] {
            headers.insert(name, HeaderValue::from_str(value).expect("a value"));
        }
        headers
    }

    const SIGNED: &str = "SignedHeaders=host;x-amz-date;x-amz-target";

    fn said(authorization: &str) -> String {
        Claim::read(&headers(authorization)).expect_err("refused").to_string()
    }

    #[test]
    fn what_a_header_lacks_is_told() {
        let digits = "0".repeat(64);
        let credential = |scope: &str| format!("{SCHEME} Credential=AKID/{scope}, {SIGNED}, Signature={digits}");
        for (authorization, expected) in [
            ("Basic abc".to_owned(), "IncompleteSignatureException: Unsupported AWS 'algorithm'"),
            (format!("{SCHEME} {SIGNED}"), "IncompleteSignatureException: Authorization header requires 'Credential'"),
            (credential("20270115/us-east-1/kms"), "IncompleteSignatureException: Credential must have exactly 5"),
            (
                credential("20270115/us-east-1/s3/aws4_request"),
                "InvalidSignatureException: Credential should be scoped to",
            ),
            (
                credential("20270115/us-east-1/kms/aws4"),
                "InvalidSignatureException: Credential should be scoped with a",
            ),
            (credential("20270114/us-east-1/kms/aws4_request"), "InvalidSignatureException: Date in Credential scope"),
            (credential("/us-east-1/kms/aws4_request"), "InvalidSignatureException: Date in Credential scope"),
            (
                credential("20270115/us-east-1/kms/aws4_request").replace(";x-amz-target", ""),
                "InvalidSignatureException: 'x-amz-target' must be a 'SignedHeader'",
            ),
            (
                credential("20270115/us-east-1/kms/aws4_request").replace(&digits, "00"),
                "InvalidSignatureException: The request signature we calculated does not match",
            ),
        ] {
            let said = said(&authorization);
            assert!(said.starts_with(expected), "{authorization}: {said}");
        }
        let mut none = headers("");
        none.remove("authorization");
        let refused = Claim::read(&none).expect_err("refused").to_string();
        assert_eq!(refused, "MissingAuthenticationTokenException: Missing Authentication Token");
    }

    #[test]
    fn what_must_be_signed_is_there_once() {
        let digits = "0".repeat(64);
        let signed = format!("{SCHEME} Credential=AKID/20270115/r/kms/aws4_request, {SIGNED}, Signature={digits}");
        assert!(Claim::read(&headers(&signed)).is_ok());
        for name in ["host", "x-amz-date", "x-amz-target", "authorization"] {
            let mut twice = headers(&signed);
            twice.append(name, twice[name].clone());
            let refused = Claim::read(&twice).expect_err("refused").to_string();
            assert_eq!(refused, format!("IncompleteSignatureException: Header '{name}' must be there once."));
        }
    }

    #[test]
    fn blanks_are_counted_as_one() {
        let mut canonical = Vec::new();
        append_trimmed(&mut canonical, b"  a   b  \"c   d\" ");
        assert_eq!(canonical, b"a b \"c d\"");
    }

    #[test]
    fn five_minutes_are_forgiven_and_no_more() {
        let text =
            format!("{SCHEME} Credential=AKID/20270115/r/kms/aws4_request,{SIGNED},Signature={}", "0".repeat(64));
        let claim = Claim::read(&headers(&text)).expect("read");
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).expect("a time");
        assert_eq!(written(at(0)), "20270115T080000Z");
        assert!(claim.judge_time(at(300)).is_ok() && claim.judge_time(at(-300)).is_ok());
        let late = claim.judge_time(at(301)).expect_err("late").to_string();
        assert_eq!(
            late,
            "InvalidSignatureException: Signature expired: 20270115T080000Z is now earlier than 20270115T080001Z \
             (20270115T080501Z - 5 min.)"
        );
        let early = claim.judge_time(at(-301)).expect_err("early").to_string();
        assert!(early.starts_with("InvalidSignatureException: Signature not yet current: "), "{early}");
    }
}
