//! Certificates for tests, made by OpenSSL: an authority, and what it signs.

use std::path::Path;

use openssl::asn1::Asn1Time;
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::extension::{BasicConstraints, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};

/// Who signs certificates.
pub(crate) struct Authority {
    key: PKey<Private>,
    certificate: X509,
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
    PKey::from_ec_key(EcKey::generate(&group).expect("a key")).expect("a key")
}

/// A certificate of `key` for `host` (none: an authority), signed by `by`, or by itself.
fn certificate(key: &PKey<Private>, host: Option<&str>, by: Option<&Authority>) -> X509 {
    let mut name = X509NameBuilder::new().expect("a name");
    name.append_entry_by_text("CN", host.unwrap_or("authority")).expect("a name");
    let name = name.build();
    let mut builder = X509::builder().expect("a builder");
    builder.set_version(2).expect("version 3");
    let mut serial = BigNum::new().expect("a number");
    serial.rand(120, openssl::bn::MsbOption::MAYBE_ZERO, false).expect("random");
    builder.set_serial_number(&serial.to_asn1_integer().expect("an integer")).expect("set");
    builder.set_subject_name(&name).expect("set");
    builder.set_issuer_name(by.map_or(&name, |by| by.certificate.subject_name())).expect("set");
    builder.set_not_before(&Asn1Time::days_from_now(0).expect("now")).expect("set");
    builder.set_not_after(&Asn1Time::days_from_now(2).expect("soon")).expect("set");
    builder.set_pubkey(key).expect("set");
    match host {
        None => {
            builder.append_extension(BasicConstraints::new().critical().ca().build().expect("built")).expect("added")
        }
        Some(host) => {
            let mut names = SubjectAlternativeName::new();
            if host.parse::<std::net::IpAddr>().is_ok() {
                names.ip(host)
            } else {
                names.dns(host)
            };
            let names = names.build(&builder.x509v3_context(by.map(|by| &*by.certificate), None)).expect("built");
            builder.append_extension(names).expect("added");
        }
    }
    builder.sign(by.map_or(key, |by| &by.key), MessageDigest::sha256()).expect("signed");
    builder.build()
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = new_key();
        let certificate = certificate(&key, None, None);
        Self { key, certificate }
    }

    /// Its own certificate, as PEM.
    pub(crate) fn write(&self, path: &Path) {
        std::fs::write(path, self.certificate.to_pem().expect("PEM")).expect("written");
    }

    /// A key, and its certificate for `host`.
    pub(crate) fn sign(&self, host: &str) -> (PKey<Private>, X509) {
        let key = new_key();
        let certificate = certificate(&key, Some(host), Some(self));
        (key, certificate)
    }
}
