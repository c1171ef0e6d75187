//! The part of AWS STS that is served beside the KMS: GetCallerIdentity and AssumeRole, in the query protocol.
//!
//! A request is a form (`Action=AssumeRole&RoleArn=...`) signed for the service `sts`; answers are XML. Parameters that ask for
//! what is not done here are refused by name.

use std::collections::BTreeMap;
use std::fmt::Write;

use hyper::StatusCode;
use jiff::Timestamp;
use percent_encoding::percent_decode_str;

use super::refusal::refused;
use crate::kms::KmsError;
use crate::kms::embedded::{AskedRole, Embedded, Region, SignedRequest};

const VERSION: &str = "2011-06-15";
const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// What AssumeRole takes, beside the action and the version.
const PARAMETERS: &[&str] = &["RoleArn", "RoleSessionName", "Policy", "DurationSeconds", "ExternalId"];

/// The exceptions of JSON and what the query protocol calls them, with their status.
const CODES: &[(&str, &str, StatusCode)] = &[
    ("AccessDeniedException", "AccessDenied", StatusCode::FORBIDDEN),
    ("ExpiredTokenException", "ExpiredToken", StatusCode::FORBIDDEN),
    ("IncompleteSignatureException", "IncompleteSignature", StatusCode::BAD_REQUEST),
    ("InvalidSignatureException", "SignatureDoesNotMatch", StatusCode::FORBIDDEN),
    ("MissingAuthenticationTokenException", "MissingAuthenticationToken", StatusCode::FORBIDDEN),
    ("ThrottlingException", "Throttling", StatusCode::BAD_REQUEST),
    ("UnrecognizedClientException", "InvalidClientTokenId", StatusCode::FORBIDDEN),
];

/// Carries out a request whose signature holds; the answer's text.
pub(super) fn serve(
    kms: &Embedded,
    region: &Region,
    request: &SignedRequest,
    body: &[u8],
    throttling: Option<KmsError>,
) -> Result<String, KmsError> {
    let form = read(body)?;
    let action = form.get("Action").map(String::as_str);
    if form.get("Version").is_none_or(|version| version != VERSION) {
        return Err(refused("InvalidAction", format!("Could not find the operation for version {VERSION}")));
    }
    let (name, outcome) = match (action, throttling) {
        (Some("GetCallerIdentity"), None) => ("GetCallerIdentity", caller_identity(kms, request, &form)),
        (Some("GetCallerIdentity"), Some(refusal)) => ("GetCallerIdentity", Err(refusal)),
        (Some("AssumeRole"), None) => ("AssumeRole", assume_role(kms, request, &form)),
        (Some("AssumeRole"), Some(refusal)) => ("AssumeRole", Err(refusal)),
        (action, _) => {
            let text = format!("Could not find operation {} for version {VERSION}", action.unwrap_or_default());
            return Err(refused("InvalidAction", text));
        }
    };
    match outcome {
        Ok(result) => Ok(wrapped(name, &result, &request.id.to_string())),
        Err(error) if !request.is_recorded() => kms.refuse(region, request, name, error),
        Err(error) => Err(error),
    }
}

/// Status and text of a refusal.
pub(super) fn failure(error: &KmsError, id: &str) -> (StatusCode, String) {
    let (status, code, message) = match error {
        KmsError::Refused { exception, message } | KmsError::Throttled { exception, message } => {
            let known = CODES.iter().find(|(name, ..)| name == exception);
            let (code, status) =
                known.map_or((exception.as_str(), StatusCode::BAD_REQUEST), |(_, code, status)| (*code, *status));
            (status, code, message.as_str())
        }
        _ => (StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", "An internal error occurred."),
    };
    let kind = if status.is_server_error() { "Receiver" } else { "Sender" };
    let text = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>{kind}</Type><Code>{}</Code><Message>{}</Message></Error>\
         <RequestId>{id}</RequestId></ErrorResponse>",
        escaped(code),
        escaped(message)
    );
    (status, text)
}

fn caller_identity(
    kms: &Embedded,
    request: &SignedRequest,
    form: &BTreeMap<String, String>,
) -> Result<Vec<(&'static str, String)>, KmsError> {
    only(form, &[])?;
    let who = kms.caller_identity(request)?;
    Ok(vec![("Arn", who.full_arn().to_owned()), ("UserId", who.id()), ("Account", who.account().to_owned())])
}

fn assume_role(
    kms: &Embedded,
    request: &SignedRequest,
    form: &BTreeMap<String, String>,
) -> Result<Vec<(&'static str, String)>, KmsError> {
    only(form, PARAMETERS)?;
    let text = |name: &str| form.get(name).map(String::as_str);
    let null = |name: &str| {
        let text = format!(
            "1 validation error detected: Value null at '{name}' failed to satisfy constraint: Member must not be null"
        );
        refused("ValidationError", text)
    };
    let seconds = text("DurationSeconds").map(|seconds| {
        seconds.parse().map_err(|_| refused("MalformedInput", "DurationSeconds is not a whole number."))
    });
    let asked = AskedRole {
        role: text("RoleArn").ok_or_else(|| null("roleArn"))?,
        session: text("RoleSessionName").ok_or_else(|| null("roleSessionName"))?,
        policy: text("Policy"),
        seconds: seconds.transpose()?,
        external_id: text("ExternalId"),
    };
    let assumed = kms.assume_role(request, &asked)?;
    let until = Timestamp::try_from(assumed.until).expect("the clock shows a year of four digits");
    Ok(vec![
        ("Credentials/AccessKeyId", assumed.access_key_id),
        ("Credentials/SecretAccessKey", String::from_utf8_lossy(assumed.secret.expose()).into_owned()),
        ("Credentials/SessionToken", assumed.token),
        ("Credentials/Expiration", until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ("AssumedRoleUser/AssumedRoleId", assumed.id),
        ("AssumedRoleUser/Arn", assumed.principal.to_string()),
    ])
}

/// Refuses parameters that are not known.
fn only(form: &BTreeMap<String, String>, known: &[&str]) -> Result<(), KmsError> {
    match form.keys().find(|name| !["Action", "Version"].contains(&name.as_str()) && !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(refused("ValidationError", format!("The parameter {name} is not supported here."))),
    }
}

/// The parameters of a form; none is there twice.
fn read(body: &[u8]) -> Result<BTreeMap<String, String>, KmsError> {
    let unreadable = || refused("MalformedInput", "The body is not a form.");
    let text = std::str::from_utf8(body).map_err(|_| unreadable())?;
    let decoded = |part: &str| {
        let spaced = part.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8().map(|text| text.into_owned()).map_err(|_| unreadable())
    };
    let mut form = BTreeMap::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if form.insert(decoded(name)?, decoded(value)?).is_some() {
            return Err(unreadable());
        }
    }
    Ok(form)
}

/// An answer: the members under their paths of two names at the most, those of one structure together.
fn wrapped(name: &str, members: &[(&str, String)], id: &str) -> String {
    let mut text = format!("<{name}Response xmlns=\"{NAMESPACE}\"><{name}Result>");
    let mut open = None;
    for (path, value) in members {
        let (structure, member) = path.split_once('/').map_or((None, *path), |(outer, inner)| (Some(outer), inner));
        if structure != open {
            close(&mut text, open);
            structure.into_iter().for_each(|outer| push(&mut text, format_args!("<{outer}>")));
            open = structure;
        }
        push(&mut text, format_args!("<{member}>{}</{member}>", escaped(value)));
    }
    close(&mut text, open);
    push(
        &mut text,
        format_args!(
            "</{name}Result><ResponseMetadata><RequestId>{id}</RequestId></ResponseMetadata></{name}Response>"
        ),
    );
    text
}

fn close(text: &mut String, open: Option<&str>) {
    open.into_iter().for_each(|outer| push(text, format_args!("</{outer}>")));
}

fn push(text: &mut String, part: std::fmt::Arguments<'_>) {
    text.write_fmt(part).expect("a string takes all that is written");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_and_no_name_is_there_twice() {
        let form = read(b"Action=AssumeRole&Policy=%7B%22a%22+%3A1%7D&Empty=").expect("a form");
        assert_eq!(form["Policy"], "{\"a\" :1}");
        assert_eq!(form["Empty"], "");
        for broken in [&b"Action=a&Action=b"[..], b"Action=%ff", b"\xff"] {
            assert!(read(broken).is_err(), "{broken:?}");
        }
    }

    #[test]
    fn an_answer_has_its_members_in_their_structures() {
        let text = wrapped("X", &[("A/B", "1".to_owned()), ("A/C", "<&>".to_owned()), ("D", "2".to_owned())], "id");
        assert!(text.contains("<XResult><A><B>1</B><C>&lt;&amp;&gt;</C></A><D>2</D></XResult>"), "{text}");
    }
}
