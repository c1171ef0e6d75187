//! The sections `[kms.NAME]`: which KMSs there are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::{Fault, absolute_path, region};
use crate::kms::aws::{self, BadEndpoint, Settings};
use crate::kms::wire::{Address, BadAddress, Rehearsal};

/// The section that the embedded KMS has where no other is configured.
const EMBEDDED: &str = "embedded";

/// The name of the KMS whose keys AWS owns, which is always there.
pub(in crate::daemon) const OWNED: &str = "aws-owned";

/// Bytes of a section's name: a header holds it.
const NAME_MAX: usize = 64;

/// A section as written. Each member belongs to one of the kinds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenKms {
    kind: Kind,
    passphrase_file: Option<Spanned<PathBuf>>,
    #[serde(default)]
    listen: Vec<Spanned<String>>,
    #[serde(default)]
    insecure_listen: Vec<Spanned<String>>,
    #[serde(default)]
    tls_listen: Vec<Spanned<SocketAddr>>,
    tls_certificate: Option<Spanned<PathBuf>>,
    tls_key: Option<Spanned<PathBuf>>,
    delay_ms: Option<Spanned<u32>>,
    throttle_every: Option<Spanned<NonZeroU64>>,
    consistency_delay_ms: Option<Spanned<u32>>,
    region: Option<Spanned<String>>,
    endpoint: Option<Spanned<String>>,
    insecure_http: Option<Spanned<bool>>,
    ca_file: Option<Spanned<PathBuf>>,
    credentials_file: Option<Spanned<PathBuf>>,
    profile: Option<Spanned<String>>,
    role: Option<Spanned<String>>,
    sts_endpoint: Option<Spanned<String>>,
    metadata_endpoint: Option<Spanned<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Embedded,
    Aws,
}

/// The KMSs that are configured.
pub(super) struct Kmses {
    /// The name of the embedded one's section.
    pub(super) embedded: String,
    /// Where the passphrase is that its domain key follows from, if it does.
    pub(super) passphrase_file: Option<PathBuf>,
    /// How it is served.
    pub(super) served: Served,
    /// Those of the `aws` kind.
    pub(super) aws: BTreeMap<String, Settings>,
}

/// How the embedded KMS is served in AWS's protocol.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::daemon) struct Served {
    /// Where, in clear; and whether beyond loopback is meant.
    pub(in crate::daemon) listen: Vec<(Address, bool)>,
    /// Where, behind TLS.
    pub(in crate::daemon) tls_listen: Vec<SocketAddr>,
    /// The files of the certificate and of its key.
    pub(in crate::daemon) tls: Option<(PathBuf, PathBuf)>,
    /// What is rehearsed.
    pub(in crate::daemon) rehearsal: Rehearsal,
    /// How long a change is not seen.
    pub(in crate::daemon) consistency_delay: Duration,
}

/// Judges the sections. The embedded KMS has one at the most: two names for one store would be two names for each of its
/// keys.
pub(super) fn judge(sections: BTreeMap<Spanned<String>, WrittenKms>) -> Result<Kmses, Fault> {
    let mut sections: Vec<(Spanned<String>, WrittenKms)> = sections.into_iter().collect();
    sections.sort_by_key(|(name, _)| name.span().start);
    let mut kmses =
        Kmses { embedded: EMBEDDED.to_owned(), passphrase_file: None, served: Served::default(), aws: BTreeMap::new() };
    let (mut embedded, mut taken) = (None, None);
    for (name, written) in sections {
        judge_name(&name)?;
        match written.kind {
            Kind::Embedded if embedded.is_some() => {
                return Err(Fault::at(&name, "the embedded KMS has a section already"));
            }
            Kind::Embedded => {
                (kmses.passphrase_file, kmses.served) = written.embedded()?;
                kmses.embedded = name.get_ref().clone();
                embedded = Some(name);
            }
            Kind::Aws => {
                let settings = written.aws(&name)?;
                kmses.aws.insert(name.get_ref().clone(), settings);
                taken = (name.get_ref() == EMBEDDED).then_some(name).or(taken);
            }
        }
    }
    // Volumes of the embedded KMS, which is always there, would be taken for that one's.
    match taken {
        Some(name) if embedded.is_none() => Err(Fault::at(&name, "the embedded KMS has this name: choose another")),
        _ => Ok(kmses),
    }
}

fn judge_name(name: &Spanned<String>) -> Result<(), Fault> {
    if name.get_ref() == OWNED {
        return Err(Fault::at(name, "the KMS of keys that AWS owns has this name: choose another"));
    }
    let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=NAME_MAX).contains(&name.get_ref().len()) && name.get_ref().bytes().all(word) {
        return Ok(());
    }
    Err(Fault::at(name, format!("a KMS is named by 1 to {NAME_MAX} of A-Z a-z 0-9 _ -")))
}

/// Refuses a member that the section's kind does not have.
fn foreign<T>(member: Option<&Spanned<T>>, name: &str, kind: &str) -> Result<(), Fault> {
    member.map_or(Ok(()), |member| Err(Fault::at(member, format!("{name} is not for a KMS of the kind {kind}"))))
}

impl WrittenKms {
    fn embedded(self) -> Result<(Option<PathBuf>, Served), Fault> {
        let texts = [
            (&self.region, "region"),
            (&self.endpoint, "endpoint"),
            (&self.profile, "profile"),
            (&self.role, "role"),
            (&self.sts_endpoint, "sts_endpoint"),
            (&self.metadata_endpoint, "metadata_endpoint"),
        ];
        for (member, name) in texts {
            foreign(member.as_ref(), name, "embedded")?;
        }
        foreign(self.ca_file.as_ref(), "ca_file", "embedded")?;
        foreign(self.credentials_file.as_ref(), "credentials_file", "embedded")?;
        foreign(self.insecure_http.as_ref(), "insecure_http", "embedded")?;
        let served = self.served()?;
        Ok((self.passphrase_file.map(absolute_path).transpose()?, served))
    }

    fn served(&self) -> Result<Served, Fault> {
        let path = |file: &Option<Spanned<PathBuf>>| file.clone().map(absolute_path).transpose();
        let tls = path(&self.tls_certificate)?.zip(path(&self.tls_key)?);
        if let (Some(address), None) = (self.tls_listen.first(), &tls) {
            return Err(Fault::at(address, "TLS needs a tls_certificate and a tls_key"));
        }
        let mut listen = addresses(&self.listen, false)?;
        listen.extend(addresses(&self.insecure_listen, true)?);
        let time = |written: &Option<Spanned<u32>>| {
            Duration::from_millis(written.as_ref().map_or(0, |written| (*written.get_ref()).into()))
        };
        let throttle_every = self.throttle_every.as_ref().map(|every| *every.get_ref());
        Ok(Served {
            listen,
            tls_listen: self.tls_listen.iter().map(|address| *address.get_ref()).collect(),
            tls,
            rehearsal: Rehearsal { delay: time(&self.delay_ms), throttle_every },
            consistency_delay: time(&self.consistency_delay_ms),
        })
    }

    /// Refuses what belongs to the embedded KMS.
    fn is_not_served(&self) -> Result<(), Fault> {
        for (addresses, name) in [(&self.listen, "listen"), (&self.insecure_listen, "insecure_listen")] {
            foreign(addresses.first(), name, "aws")?;
        }
        foreign(self.tls_listen.first(), "tls_listen", "aws")?;
        foreign(self.tls_certificate.as_ref(), "tls_certificate", "aws")?;
        foreign(self.tls_key.as_ref(), "tls_key", "aws")?;
        foreign(self.delay_ms.as_ref(), "delay_ms", "aws")?;
        foreign(self.throttle_every.as_ref(), "throttle_every", "aws")?;
        foreign(self.consistency_delay_ms.as_ref(), "consistency_delay_ms", "aws")
    }

    fn aws(self, section: &Spanned<String>) -> Result<Settings, Fault> {
        if !aws::AVAILABLE {
            return Err(Fault::at(section, "this envol was built without the kind aws (cargo feature `aws`)"));
        }
        foreign(self.passphrase_file.as_ref(), "passphrase_file", "aws")?;
        self.is_not_served()?;
        let written = self.region.ok_or_else(|| Fault::at(section, "a KMS of the kind aws needs a region"))?;
        let insecure_http = self.insecure_http.is_some_and(Spanned::into_inner);
        let endpoint = |url: Option<Spanned<String>>| url.map(|url| judged_url(url, insecure_http)).transpose();
        if let Some(metadata) = &self.metadata_endpoint {
            told(metadata, Settings::judge_metadata(metadata.get_ref()))?;
        }
        Ok(Settings {
            region: region(written)?,
            endpoint: endpoint(self.endpoint)?,
            ca_file: self.ca_file.map(absolute_path).transpose()?,
            credentials_file: self.credentials_file.map(absolute_path).transpose()?,
            profile: self.profile.map_or_else(|| "default".to_owned(), Spanned::into_inner),
            role: self.role.map(Spanned::into_inner),
            sts_endpoint: endpoint(self.sts_endpoint)?,
            metadata_endpoint: self.metadata_endpoint.map(Spanned::into_inner),
        })
    }
}

/// TCP in clear is for this machine, unless that is meant.
fn addresses(words: &[Spanned<String>], insecure: bool) -> Result<Vec<(Address, bool)>, Fault> {
    let judge = |word: &Spanned<String>| match word.get_ref().parse() {
        Ok(Address::Tcp(at)) if !insecure && !at.ip().is_loopback() => {
            Err(Fault::at(word, format!("{at} is not a loopback address: see tls_listen and insecure_listen")))
        }
        Ok(address) => Ok((address, insecure)),
        Err(bad @ BadAddress) => Err(Fault::at(word, format!("{} {bad}", word.get_ref()))),
    };
    words.iter().map(judge).collect()
}

fn judged_url(url: Spanned<String>, insecure_http: bool) -> Result<String, Fault> {
    judge_url(&url, insecure_http).map(|()| url.into_inner())
}

fn judge_url(url: &Spanned<String>, insecure_http: bool) -> Result<(), Fault> {
    told(url, Settings::judge_endpoint(url.get_ref(), insecure_http))
}

fn told(url: &Spanned<String>, judged: Result<(), BadEndpoint>) -> Result<(), Fault> {
    judged.map_err(|bad| Fault::at(url, format!("{} {bad}", url.get_ref())))
}
