//! Which KMS is meant, and as whom it is called. Nothing here is a secret: credentials are named, and read by the process
//! that calls.

use std::fs::Metadata;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use hyper::Uri;
use serde::{Deserialize, Serialize};

/// A KMS that speaks AWS's protocol, as the configuration names it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Such as `eu-central-1`.
    pub region: String,
    /// Its URL; AWS's own for the region where `None`.
    pub endpoint: Option<String>,
    /// Certificates (PEM) that are trusted instead of the system's.
    pub ca_file: Option<PathBuf>,
    /// A file as AWS's programs have it in `~/.aws/credentials`; the machine's role (instance metadata) where `None`.
    pub credentials_file: Option<PathBuf>,
    /// Which of the profiles in that file.
    pub profile: String,
    /// The ARN of a role to assume with these credentials.
    pub role: Option<String>,
    /// Where roles are assumed; AWS's own for the region where `None`.
    pub sts_endpoint: Option<String>,
    /// Where instance metadata is; where AWS has it where `None`.
    pub metadata_endpoint: Option<String>,
}

/// What is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEndpoint {
    /// Not a URL of the two kinds.
    #[error("is not http:// or https://, a host, and perhaps a port")]
    NotAnEndpoint,
    /// Data keys would cross a network in clear.
    #[error("is not on this machine, and http is not encrypted: use https, or say insecure_http = true")]
    InClear,
    /// Credentials would cross a network in clear.
    #[error("is neither on this machine nor link-local, where instance metadata is: use https")]
    FarMetadata,
}

/// Whether `pem` is at least one certificate, and nothing that looks like one and is none; else why not.
#[cfg(feature = "aws")]
pub(crate) fn judge_certificates(pem: &[u8]) -> Result<(), String> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() { Err("no certificate is in it".to_owned()) } else { Ok(()) }
}

/// Nothing that a build without AWS's client has a use for.
#[cfg(not(feature = "aws"))]
pub(crate) fn judge_certificates(_: &[u8]) -> Result<(), String> {
    Err("this envol was built without the kind aws (cargo feature `aws`)".to_owned())
}

/// Whether `user`, who is in `groups`, can read a file, by what its directory says of it.
pub(crate) fn is_readable_by(facts: &Metadata, user: u32, groups: &[u32]) -> bool {
    let (owner, group) = (facts.mode() & 0o400 != 0, facts.mode() & 0o040 != 0);
    user == 0 || if facts.uid() == user { owner } else { group && groups.contains(&facts.gid()) }
}

/// What an endpoint comes to.
struct Endpoint {
    encrypted: bool,
    local: bool,
    link_local: bool,
}

/// Where AWS has instance metadata for IPv6; it is no link-local address.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local() || address == METADATA_V6,
    }
}

impl Endpoint {
    fn of(url: &str) -> Option<Self> {
        let url: Uri = url.parse().ok()?;
        let encrypted = match url.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        let host = url.host()?.trim_matches(['[', ']']);
        let address: Option<IpAddr> = host.parse().ok();
        let local = host == "localhost" || address.is_some_and(|address| address.is_loopback());
        let link_local = address.is_some_and(is_link_local);
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && !url.authority()?.as_str().contains('@');
        bare.then_some(Self { encrypted, local, link_local })
    }

    /// The TCP port of an endpoint.
    #[cfg(any(feature = "aws", test))]
    fn port_of(url: &str) -> Option<u16> {
        let own = if Self::of(url)?.encrypted { 443 } else { 80 };
        Some(url.parse::<Uri>().ok()?.port_u16().unwrap_or(own))
    }
}

impl Settings {
    /// Judges the URL of a KMS, or of where roles are assumed.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge_endpoint(url: &str, insecure_http: bool) -> Result<(), BadEndpoint> {
        let endpoint = Endpoint::of(url).ok_or(BadEndpoint::NotAnEndpoint)?;
        if endpoint.encrypted || endpoint.local || insecure_http { Ok(()) } else { Err(BadEndpoint::InClear) }
    }

    /// Judges the URL of instance metadata, which answer credentials.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn judge_metadata(url: &str) -> Result<(), BadEndpoint> {
        let endpoint = Endpoint::of(url).ok_or(BadEndpoint::NotAnEndpoint)?;
        let near = endpoint.local || endpoint.link_local;
        if endpoint.encrypted || near { Ok(()) } else { Err(BadEndpoint::FarMetadata) }
    }

    /// Where the KMS is, for people.
    pub fn place(&self) -> String {
        self.endpoint.clone().unwrap_or_else(|| format!("AWS, {}", self.region))
    }

    /// As whom it is called, for people.
    pub fn identity(&self) -> String {
        let base = match &self.credentials_file {
            Some(file) => format!("profile {} of {}", self.profile, file.display()),
            None => "the machine's role".to_owned(),
        };
        self.role.iter().fold(base, |base, role| format!("{role} by {base}"))
    }

    /// The TCP ports that a call needs to connect to.
    #[cfg(any(feature = "aws", test))]
    pub(super) fn ports(&self) -> Vec<u16> {
        let of = |url: &Option<String>, own| url.as_deref().map_or(Some(own), Endpoint::port_of);
        let mut ports = vec![of(&self.endpoint, 443)];
        // A profile may name a role too.
        ports.push(of(&self.sts_endpoint, 443));
        if self.credentials_file.is_none() {
            ports.push(of(&self.metadata_endpoint, 80));
        }
        ports.into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_keys_cross_no_network_in_clear_unless_that_is_said() {
        for (url, expected) in [
            ("https://kms.example.com", Ok(())),
            ("https://kms.example.com:8443/", Ok(())),
            ("http://127.0.0.1:4599", Ok(())),
            ("http://[::1]:4599", Ok(())),
            ("http://localhost:5000", Ok(())),
            ("http://kms.example.com", Err(BadEndpoint::InClear)),
            ("http://10.0.0.1", Err(BadEndpoint::InClear)),
            ("ftp://127.0.0.1", Err(BadEndpoint::NotAnEndpoint)),
            ("127.0.0.1:4599", Err(BadEndpoint::NotAnEndpoint)),
            ("https://user:secret@kms.example.com", Err(BadEndpoint::NotAnEndpoint)),
            ("https://kms.example.com/path", Err(BadEndpoint::NotAnEndpoint)),
            ("https://", Err(BadEndpoint::NotAnEndpoint)),
        ] {
            assert_eq!(Settings::judge_endpoint(url, false), expected, "{url}");
        }
        assert_eq!(Settings::judge_endpoint("http://kms.example.com", true), Ok(()));
    }

    #[test]
    fn credentials_of_the_machine_cross_no_network_in_clear() {
        for (url, expected) in [
            ("http://169.254.169.254", Ok(())),
            ("http://[fd00:ec2::254]", Ok(())),
            ("http://[fe80::1]:8080", Ok(())),
            ("http://127.0.0.1:1338", Ok(())),
            ("https://metadata.example.com", Ok(())),
            ("http://metadata.example.com", Err(BadEndpoint::FarMetadata)),
            ("http://10.0.0.1", Err(BadEndpoint::FarMetadata)),
            ("http://[fd00:ec2::255]", Err(BadEndpoint::FarMetadata)),
            ("169.254.169.254", Err(BadEndpoint::NotAnEndpoint)),
        ] {
            assert_eq!(Settings::judge_metadata(url), expected, "{url}");
        }
    }

    #[test]
    fn a_call_connects_to_what_it_needs() {
        let aws = Settings { region: "us-east-1".into(), ..Settings::default() };
        assert_eq!(aws.ports(), [443, 443, 80]);
        let other = Settings {
            endpoint: Some("http://127.0.0.1:4599".into()),
            credentials_file: Some("/c".into()),
            sts_endpoint: Some("https://sts:8443".into()),
            ..aws
        };
        assert_eq!(other.ports(), [4599, 8443]);
    }
}
