//! Key pairs against OpenSSL, both ways: what one made the other uses.

use envol::crypto::digest::Sha2;
use envol::crypto::pair::{Message, Oaep, Pair, PairError, PairSpec, Private, Public, Signing};
use openssl::derive::Deriver;
use openssl::ec::{EcGroup, EcKey};
use openssl::encrypt::{Decrypter, Encrypter};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{HasPublic, Id, PKey, PKeyRef, Public as PublicHalf};
use openssl::rsa::{Padding, Rsa};
use openssl::sign::{RsaPssSaltlen, Signer, Verifier};

/// Every kind but the larger RSA keys, whose making takes seconds: one of 4,096 bits is made in
/// [`an_rsa_key_of_4096_bits_is_made_and_used`].
const QUICK: [PairSpec; 6] =
    [PairSpec::Rsa2048, PairSpec::P256, PairSpec::P384, PairSpec::P521, PairSpec::Secp256k1, PairSpec::Ed25519];

fn made(spec: PairSpec) -> Pair {
    spec.generate().expect("made")
}

fn private(spec: PairSpec, pair: &Pair) -> Private<'_> {
    Private { spec, der: pair.private.bytes() }
}

fn public(spec: PairSpec, pair: &Pair) -> Public<'_> {
    Public { spec, der: &pair.public }
}

/// A pair that OpenSSL made: PKCS #8 and `SubjectPublicKeyInfo`.
fn foreign(spec: PairSpec) -> (Vec<u8>, Vec<u8>) {
    let curve = |nid| {
        let group = EcGroup::from_curve_name(nid).expect("known");
        PKey::from_ec_key(EcKey::generate(&group).expect("made")).expect("a key")
    };
    let key = match spec {
        PairSpec::P256 => curve(Nid::X9_62_PRIME256V1),
        PairSpec::P384 => curve(Nid::SECP384R1),
        PairSpec::P521 => curve(Nid::SECP521R1),
        PairSpec::Secp256k1 => curve(Nid::SECP256K1),
        PairSpec::Ed25519 => PKey::generate_ed25519().expect("made"),
        rsa => {
            let bits = u32::from(rsa.modulus_bits().expect("RSA"));
            PKey::from_rsa(Rsa::generate(bits).expect("made")).expect("a key")
        }
    };
    (key.private_key_to_pkcs8().expect("encoded"), key.public_key_to_der().expect("encoded"))
}

fn digest(digest: Sha2) -> MessageDigest {
    match digest {
        Sha2::Sha224 => MessageDigest::sha224(),
        Sha2::Sha256 => MessageDigest::sha256(),
        Sha2::Sha384 => MessageDigest::sha384(),
        Sha2::Sha512 => MessageDigest::sha512(),
    }
}

fn verified<T: HasPublic>(key: &PKeyRef<T>, signing: Signing, message: &[u8], signature: &[u8]) -> bool {
    let mut verifier = match signing {
        Signing::Ed25519 => Verifier::new_without_digest(key),
        signing => Verifier::new(digest(signing.digest()), key),
    }
    .expect("a verifier");
    if let Signing::Pss(_) = signing {
        verifier.set_rsa_padding(Padding::PKCS1_PSS).expect("set");
        verifier.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).expect("set");
    }
    verifier.verify_oneshot(signature, message).unwrap_or(false)
}

fn signed(private: &[u8], signing: Signing, message: &[u8]) -> Vec<u8> {
    let key = PKey::private_key_from_pkcs8(private).expect("a key");
    let mut signer = match signing {
        Signing::Ed25519 => Signer::new_without_digest(&key),
        signing => Signer::new(digest(signing.digest()), &key),
    }
    .expect("a signer");
    if let Signing::Pss(_) = signing {
        signer.set_rsa_padding(Padding::PKCS1_PSS).expect("set");
        signer.set_rsa_pss_saltlen(RsaPssSaltlen::DIGEST_LENGTH).expect("set");
    }
    signer.sign_oneshot_to_vec(message).expect("signed")
}

/// Those ways to sign that OpenSSL 3.0 has too: Ed25519ph came later.
fn comparable(spec: PairSpec) -> impl Iterator<Item = Signing> {
    spec.signings().iter().copied().filter(|signing| *signing != Signing::Ed25519ph)
}

#[test]
fn keys_that_are_made_here_are_read_and_their_signatures_verified_there() {
    for spec in QUICK {
        let pair = made(spec);
        let theirs: PKey<PublicHalf> = PKey::public_key_from_der(&pair.public).expect("they read it");
        let whole = PKey::private_key_from_pkcs8(pair.private.bytes()).expect("they read it");
        assert!(theirs.public_eq(&whole), "{spec:?}: the halves belong together");
        for signing in comparable(spec) {
            let (signature, other) = two_signatures(spec, &pair, signing);
            assert!(verified(&theirs, signing, b"message", &signature), "{spec:?} {signing:?}");
            assert!(!verified(&theirs, signing, b"messagf", &signature), "{spec:?} {signing:?}");
            let deterministic = matches!(signing, Signing::Pkcs1(_) | Signing::Ed25519);
            assert_eq!(signature == other, deterministic, "{spec:?} {signing:?}");
        }
    }
}

fn two_signatures(spec: PairSpec, pair: &Pair, signing: Signing) -> (Vec<u8>, Vec<u8>) {
    let sign = || private(spec, pair).sign(signing, Message::Whole(b"message")).expect("signed");
    (sign(), sign())
}

#[test]
fn keys_that_are_made_there_sign_and_verify_here() {
    for spec in QUICK {
        let (private, public) = foreign(spec);
        for signing in comparable(spec) {
            let public = Public { spec, der: &public };
            let signature = signed(&private, signing, b"message");
            let message = Message::Whole(b"message");
            assert_eq!(public.verify(signing, message, &signature), Ok(true), "{spec:?} {signing:?}");
            let other = Message::Whole(b"messagf");
            assert_eq!(public.verify(signing, other, &signature), Ok(false), "{spec:?} {signing:?}");
            let ours = Private { spec, der: &private }.sign(signing, message).expect("signed");
            assert_eq!(public.verify(signing, message, &ours), Ok(true), "{spec:?} {signing:?}");
        }
    }
}

#[test]
fn a_digest_is_signed_as_its_message_is_and_only_where_it_is_as_long_as_it_has_to_be() {
    for spec in QUICK.into_iter().filter(|spec| *spec != PairSpec::Ed25519) {
        let pair = made(spec);
        for signing in spec.signings() {
            let of_message = signing.digest().digest(b"message");
            let signature = private(spec, &pair).sign(*signing, Message::Digest(&of_message)).expect("signed");
            let verify = |message| public(spec, &pair).verify(*signing, message, &signature);
            assert_eq!(verify(Message::Whole(b"message")), Ok(true), "{spec:?} {signing:?}");
            assert_eq!(verify(Message::Digest(&of_message)), Ok(true), "{spec:?} {signing:?}");
            for wrong in [&of_message[1..], &[of_message.as_slice(), &[0]].concat(), &[]] {
                assert_eq!(private(spec, &pair).sign(*signing, Message::Digest(wrong)), Err(PairError::Input));
                assert_eq!(verify(Message::Digest(wrong)), Err(PairError::Input));
            }
        }
    }
}

#[test]
fn ed25519_takes_messages_and_its_other_form_digests_and_neither_signature_is_the_others() {
    let spec = PairSpec::Ed25519;
    let pair = made(spec);
    let hash = [7; 64];
    let sign = |signing, message| private(spec, &pair).sign(signing, message);
    let (pure, hashed) = (
        sign(Signing::Ed25519, Message::Whole(&hash)).expect("signed"),
        sign(Signing::Ed25519ph, Message::Digest(&hash)).expect("signed"),
    );
    let verify = |signing, message, signature| public(spec, &pair).verify(signing, message, signature);
    assert_eq!(verify(Signing::Ed25519ph, Message::Digest(&hash), &hashed), Ok(true));
    assert_eq!(verify(Signing::Ed25519ph, Message::Digest(&hash), &pure), Ok(false));
    assert_eq!(verify(Signing::Ed25519, Message::Whole(&hash), &hashed), Ok(false));
    for (signing, message) in [
        (Signing::Ed25519, Message::Digest(hash.as_slice())),
        (Signing::Ed25519ph, Message::Whole(&hash)),
        (Signing::Ed25519ph, Message::Digest(&hash[1..])),
    ] {
        assert_eq!(sign(signing, message), Err(PairError::Input), "{signing:?}");
    }
}

#[test]
fn a_signature_that_is_changed_or_cut_anywhere_is_none() {
    for spec in QUICK {
        let pair = made(spec);
        let signing = *spec.signings().last().expect("one at least");
        let message = Message::Whole(b"message");
        let signature = private(spec, &pair).sign(signing, message).expect("signed");
        for at in 0..signature.len() {
            let mut changed = signature.clone();
            changed[at] ^= 1;
            let verified = public(spec, &pair).verify(signing, message, &changed);
            assert_eq!(verified, Ok(false), "{spec:?}, byte {at}");
            let cut = public(spec, &pair).verify(signing, message, &signature[..at]);
            assert_eq!(cut, Ok(false), "{spec:?}, cut at {at}");
        }
    }
}

#[test]
fn what_one_side_encrypts_by_oaep_the_other_decrypts_up_to_the_last_byte_that_fits() {
    let spec = PairSpec::Rsa2048;
    let pair = made(spec);
    let whole = PKey::private_key_from_pkcs8(pair.private.bytes()).expect("they read it");
    for (oaep, hash, most) in [(Oaep::Sha1, MessageDigest::sha1(), 214), (Oaep::Sha256, MessageDigest::sha256(), 190)] {
        assert_eq!(oaep.plaintext_max(2048), most);
        for plaintext in [&[1][..], &vec![9; most]] {
            let ciphertext = public(spec, &pair).encrypt(oaep, plaintext).expect("fits");
            let mut theirs = Decrypter::new(&whole).expect("a decrypter");
            theirs.set_rsa_padding(Padding::PKCS1_OAEP).expect("set");
            theirs.set_rsa_oaep_md(hash).expect("set");
            theirs.set_rsa_mgf1_md(hash).expect("set");
            let mut opened = vec![0; theirs.decrypt_len(&ciphertext).expect("known")];
            let length = theirs.decrypt(&ciphertext, &mut opened).expect("they open it");
            assert_eq!(opened[..length], *plaintext);

            let mut theirs = Encrypter::new(&whole).expect("an encrypter");
            theirs.set_rsa_padding(Padding::PKCS1_OAEP).expect("set");
            theirs.set_rsa_oaep_md(hash).expect("set");
            theirs.set_rsa_mgf1_md(hash).expect("set");
            let mut sealed = vec![0; theirs.encrypt_len(plaintext).expect("known")];
            let length = theirs.encrypt(plaintext, &mut sealed).expect("they seal it");
            let opened = private(spec, &pair).decrypt(oaep, &sealed[..length]).expect("opened");
            assert_eq!(opened.bytes(), plaintext);
        }
        assert_eq!(public(spec, &pair).encrypt(oaep, &vec![9; most + 1]), Err(PairError::Input));
    }
    let ciphertext = public(spec, &pair).encrypt(Oaep::Sha1, b"text").expect("fits");
    let opened = |oaep, ciphertext: &[u8]| private(spec, &pair).decrypt(oaep, ciphertext).map(|_| ());
    assert_eq!(opened(Oaep::Sha256, &ciphertext), Err(PairError::Input));
    assert_eq!(opened(Oaep::Sha1, &ciphertext[1..]), Err(PairError::Input));
    assert_eq!(opened(Oaep::Sha1, &[0; 256]), Err(PairError::Input));
}

#[test]
fn both_sides_agree_on_a_secret_whoever_made_the_keys() {
    for spec in PairSpec::ALL.into_iter().filter(|spec| spec.agrees()) {
        let (ours, (theirs, their_public)) = (made(spec), foreign(spec));
        let secret = private(spec, &ours).agree(&their_public).expect("agreed");
        let theirs = PKey::private_key_from_pkcs8(&theirs).expect("a key");
        let other = PKey::public_key_from_der(&ours.public).expect("a key");
        let mut deriver = Deriver::new(&theirs).expect("a deriver");
        deriver.set_peer(&other).expect("set");
        assert_eq!(deriver.derive_to_vec().expect("agreed"), secret.bytes(), "{spec:?}");
    }
    let ours = made(PairSpec::P256);
    let others = [foreign(PairSpec::P384).1, foreign(PairSpec::Secp256k1).1, ours.public[1..].to_vec(), Vec::new()];
    for other in others {
        let agreed = private(PairSpec::P256, &ours).agree(&other).map(|_| ());
        assert_eq!(agreed, Err(PairError::Peer));
    }
    let other = made(PairSpec::Secp256k1);
    assert_eq!(private(PairSpec::Secp256k1, &other).agree(&other.public).map(|_| ()), Err(PairError::Algorithm));
}

#[test]
fn a_key_has_its_own_algorithms_and_no_other_and_is_of_one_kind() {
    for spec in QUICK {
        let pair = made(spec);
        for signing in Signing::ALL.into_iter().filter(|signing| !spec.signings().contains(signing)) {
            let message = Message::Whole(b"m");
            assert_eq!(private(spec, &pair).sign(signing, message), Err(PairError::Algorithm), "{spec:?} {signing:?}");
            assert_eq!(public(spec, &pair).verify(signing, message, b"s"), Err(PairError::Algorithm));
        }
        for other in QUICK.into_iter().filter(|other| *other != spec) {
            let signing = other.signings()[0];
            let hash = [0; 64];
            let message = Message::Digest(&hash[..signing.digest().bytes()]);
            let key = Private { spec: other, der: pair.private.bytes() };
            assert_eq!(key.sign(signing, message), Err(PairError::Key), "{spec:?} as {other:?}");
            let key = Public { spec: other, der: &pair.public };
            assert_eq!(key.verify(signing, message, b"s"), Err(PairError::Key), "{spec:?} as {other:?}");
        }
    }
}

#[test]
fn an_rsa_key_of_4096_bits_is_made_and_used() {
    let spec = PairSpec::Rsa4096;
    let pair = made(spec);
    let theirs = PKey::public_key_from_der(&pair.public).expect("they read it");
    assert_eq!((theirs.id(), theirs.bits()), (Id::RSA, 4096));
    let signing = Signing::Pss(Sha2::Sha512);
    let signature = private(spec, &pair).sign(signing, Message::Whole(b"message")).expect("signed");
    assert_eq!(signature.len(), 512);
    assert!(verified(&theirs, signing, b"message", &signature));
}
