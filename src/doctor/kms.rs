//! KMSs that are not envol's own: whether the files that their sections name can be used. None is called, and credentials
//! are not read: only what their directory says of them.

use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use nix::unistd::{self, Gid, User};

use super::domain_key::{AS_ROOT, user};
use super::{Check, Finding, Wanted};
use crate::kms::aws::{Settings, is_readable_by, judge_certificates};
use crate::kms::files::judge_secret;

/// One finding for each.
pub(super) fn kmses(wanted: &Wanted) -> Vec<Finding> {
    let user = user(&wanted.state_dir);
    wanted.kmses.iter().map(|(name, settings)| kms(name, settings, user)).collect()
}

fn kms(name: &str, settings: &Settings, user: u32) -> Finding {
    let judged = settings.credentials_file.as_deref().map_or(Ok(()), |file| credentials(name, file, user));
    let judged = judged.and_then(|()| settings.ca_file.as_deref().map_or(Ok(()), |file| certificates(name, file)));
    let (place, identity) = (settings.place(), settings.identity());
    judged.map_or_else(|finding| finding, |()| Check::Kms.fine(format!("{name}: {place}, called as {identity}")))
}

fn credentials(name: &str, file: &Path, user: u32) -> Result<(), Finding> {
    let facts = fs::metadata(file).map_err(|error| unreadable(name, file, &error))?;
    let readable =
        || is_readable_by(&facts, user, &groups(user)).then_some(()).ok_or("cannot be read by the daemon's user");
    judge_secret(&facts, user).and_then(|()| readable()).map_err(|why| {
        let found = format!("{name}: the file of credentials {} {why}", file.display());
        Check::Kms.missing(found).remedy(format!("chown it to the daemon's user, chmod 0600 {}", file.display()))
    })
}

/// The groups of `user`; none where the system does not know that user.
fn groups(user: u32) -> Vec<u32> {
    let known = User::from_uid(user.into()).ok().flatten();
    let groups = known.and_then(|known| {
        let name = CString::new(known.name).ok()?;
        unistd::getgrouplist(&name, known.gid).ok()
    });
    groups.into_iter().flatten().map(Gid::as_raw).collect()
}

fn certificates(name: &str, file: &Path) -> Result<(), Finding> {
    let pem = fs::read(file).map_err(|error| unreadable(name, file, &error))?;
    judge_certificates(&pem).map_err(|why| {
        let found = format!("{name}: the file of certificates {}: {why}", file.display());
        Check::Kms.missing(found).remedy("put the certificate of the authority there that signed the KMS's, as PEM")
    })
}

fn unreadable(name: &str, file: &Path, error: &std::io::Error) -> Finding {
    let found = format!("{name}: {}: {error}", file.display());
    match error.kind() {
        ErrorKind::PermissionDenied => Check::Kms.limited(found).remedy(AS_ROOT),
        _ => Check::Kms.missing(found).remedy(format!("put it there, or correct [kms.{name}]")),
    }
}
