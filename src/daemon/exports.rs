//! Attached volumes as NBD exports: what joins `attach` to `nbd`, which know nothing of each other.

use crate::attach::{Attachment, LastRefusal, LookUp, Registry};
use crate::block::BlockDevice;
use crate::control::rfc3339;
use crate::limits;
use crate::nbd::{Export, Exports, Listing, Peer, Refusal, Session};
use crate::sync::Arc;

/// All volumes of a registry.
pub(super) struct Volumes(pub(super) Arc<Registry>);

/// One of them, attached.
struct Attached(Arc<Attachment>);

impl Exports for Volumes {
    fn list(&self) -> Vec<Listing> {
        self.0.attached().into_iter().map(|attachment| Attached(attachment).listing()).collect()
    }

    fn find(&self, name: &str) -> Result<Arc<dyn Export>, Refusal> {
        match self.0.look_up(name) {
            LookUp::Attached(attachment) => Ok(Arc::new(Attached(attachment))),
            LookUp::Unknown => Err(Refusal::Unknown),
            LookUp::Draining => Err(Refusal::ShuttingDown),
            LookUp::Refused(refusal) => Err(Refusal::Policy(told(&refusal))),
            LookUp::DeadConnectionWindow => Err(Refusal::CloseSilently),
        }
    }
}

impl Export for Attached {
    fn listing(&self) -> Listing {
        let record = self.0.record();
        Listing { name: record.name.to_string(), description: format!("{}, {}", record.id, record.size) }
    }

    fn enter(&self) -> bool {
        self.0.enter()
    }

    fn leave(&self) {
        self.0.leave();
    }

    fn device(&self) -> &dyn BlockDevice {
        self.0.device()
    }

    fn connected(&self, session: Arc<dyn Session>) -> Result<Box<dyn Send>, Refusal> {
        let name = client_name(session.peer());
        let guard = self.0.client(name, Box::new(move || session.close())).ok_or(Refusal::ShuttingDown)?;
        Ok(Box::new(guard))
    }
}

/// Why there is no export and since when, in one line for a client's screen: all of it where the line of the client with
/// the least room allows, else with the ARNs cut to their ends, else without the exception's name, else all of it after all.
fn told(refusal: &LastRefusal) -> String {
    let (time, cause) = (rfc3339(refusal.time), refusal.cause.trim());
    let named = match &refusal.kms_exception {
        Some(exception) if !cause.starts_with(exception.as_str()) => format!("{time} {exception}: {cause}"),
        _ => format!("{time} {cause}"),
    };
    let choices = [named.clone(), without_arns(&named), without_arns(&format!("{time} {cause}"))];
    let fits = |text: &&String| text.len() <= limits::NBD_CLIENT_TEXT_MAX;
    choices.iter().find(fits).cloned().unwrap_or(named)
}

/// The text with every ARN cut to what stands behind its account: `arn:aws:kms:us-east-1:000000000000:key/ID` is `key/ID`.
fn without_arns(text: &str) -> String {
    let short = |word: &str| match word.splitn(6, ':').collect::<Vec<_>>()[..] {
        [arn, _, _, _, _, resource] if arn.ends_with("arn") => format!("{}{resource}", &arn[..arn.len() - 3]),
        _ => word.to_owned(),
    };
    text.split(' ').map(short).collect::<Vec<_>>().join(" ")
}

/// A client as people are told of it. The program's name is a courtesy: nothing is decided by it.
fn client_name(peer: &Peer) -> String {
    match peer {
        Peer::Tcp(address) => address.to_string(),
        Peer::Unix { pid, uid, .. } => match std::fs::read_to_string(format!("/proc/{pid}/comm")) {
            Ok(program) => format!("{} (pid {pid}, uid {uid})", program.trim().escape_default()),
            Err(_) => format!("pid {pid}, uid {uid}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    fn refusal(exception: &str, cause: &str) -> LastRefusal {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_471_803);
        LastRefusal { time, cause: cause.to_owned(), kms_exception: Some(exception.to_owned()), retrying: false }
    }

    /// The ARN of a key, of which people need the end.
    const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/3596112f-cd80-4fb3-bb1e-c9a47548cc1b";

    #[test]
    fn a_refusal_by_the_kms_fits_the_line_of_nbd_client() {
        for (exception, cause, expected) in [
            (
                "DisabledException",
                format!("{ARN} is disabled."),
                "DisabledException: key/3596112f-cd80-4fb3-bb1e-c9a47548cc1b is disabled.",
            ),
            (
                "KMSInvalidStateException",
                format!("{ARN} is pending deletion."),
                "key/3596112f-cd80-4fb3-bb1e-c9a47548cc1b is pending deletion.",
            ),
            (
                "NotFoundException",
                format!("Key '{ARN}' does not exist"),
                "Key 'key/3596112f-cd80-4fb3-bb1e-c9a47548cc1b' does not exist",
            ),
            ("InvalidCiphertextException", "InvalidCiphertextException".to_owned(), "InvalidCiphertextException"),
        ] {
            let text = told(&refusal(exception, &cause));
            assert_eq!(text, format!("2026-11-23T22:10:03Z {expected}"));
            assert!(text.len() <= limits::NBD_CLIENT_TEXT_MAX);
        }
    }

    #[test]
    fn a_refusal_too_long_for_any_line_is_told_whole() {
        let text = told(&refusal("AccessDeniedException", &"no ".repeat(100)));
        assert!(text.starts_with("2026-11-23T22:10:03Z AccessDeniedException: no no "));
        assert!(text.ends_with("no"));
    }
}
