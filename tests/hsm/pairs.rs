//! The memory of the processes, searched for private keys: once a request is answered they are in none.

use std::fs;
use std::sync::Arc;
use std::time::SystemTime;

use envol::crypto::pair::Oaep;
use envol::kms::embedded::{KeySpec, KeyUsage, MessageType, NewDataKeyPair, NewKey, Signed};
use envol::kms::{EncryptionContext, KeyName};
use envol::sys::locked::KeyMemoryChoice;
use openssl::bn::BigNumRef;
use openssl::hash::{MessageDigest, hash};
use openssl::pkey::PKey;
use openssl::symm::{Cipher, decrypt_aead};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use crate::memory::{derived, hits};
use crate::place::{Place, caller, parent_of, pid_of};

/// What of a private key nobody else must have, in pieces of 16 bytes, the first two of each: numbers in both orders of bytes, Ed25519's seed and what
/// follows from it.
fn secrets(pkcs8: &[u8]) -> Vec<Vec<u8>> {
    let key = PKey::private_key_from_pkcs8(pkcs8).expect("read");
    let numbers = match (key.rsa(), key.ec_key()) {
        (Ok(rsa), _) => {
            let all: [Option<&BigNumRef>; 5] = [Some(rsa.d()), rsa.p(), rsa.q(), rsa.dmp1(), rsa.dmq1()];
            all.into_iter().flatten().map(BigNumRef::to_vec).collect()
        }
        (_, Ok(curve)) => vec![curve.private_key().to_vec()],
        _ => {
            let seed = key.raw_private_key().expect("Ed25519");
            vec![hash(MessageDigest::sha512(), &seed).expect("hashed").to_vec(), seed]
        }
    };
    let both = numbers.into_iter().flat_map(|number| {
        let other: Vec<u8> = number.iter().rev().copied().collect();
        [number, other]
    });
    both.flat_map(|number| number.chunks_exact(16).take(2).map(<[u8]>::to_vec).collect::<Vec<_>>()).collect()
}

/// The private keys of all pairs in the store.
fn private_keys(place: &Place) -> Vec<Vec<u8>> {
    let domain_key = fs::read(place.domain_key()).expect("there");
    let sealing = derived(&domain_key, b"envol domain key: tokens");
    let database = redb::Database::open(place.store().join("keys.redb")).expect("nobody else has it open");
    let table: TableDefinition<'_, [u8; 48], &[u8]> = TableDefinition::new("tokens");
    let tokens = database.begin_read().expect("a snapshot").open_table(table).expect("there");
    let opened = tokens.iter().expect("readable").filter_map(|entry| {
        let (at, token) = entry.expect("an entry");
        let (at, token) = (at.value(), token.value());
        if token[0] != 3 {
            return None;
        }
        let public_end = 4 + usize::from(u16::from_be_bytes([token[2], token[3]]));
        let (public, rest) = (&token[4..public_end], &token[public_end..]);
        let digest = hash(MessageDigest::sha256(), public).expect("hashed");
        let associated = [&token[..2], &at, &digest, b"000000000000"].concat();
        let (nonce, (body, tag)) = (&rest[..12], rest[12..].split_at(rest.len() - 28));
        Some(decrypt_aead(Cipher::aes_256_gcm(), &sealing, Some(nonce), &associated, body, tag).expect("opens"))
    });
    opened.collect()
}

const KINDS: [(KeySpec, KeyUsage); 6] = [
    (KeySpec::Rsa2048, KeyUsage::Encryption),
    (KeySpec::Rsa2048, KeyUsage::Signing),
    (KeySpec::P256, KeyUsage::Agreement),
    (KeySpec::P521, KeyUsage::Signing),
    (KeySpec::Secp256k1, KeyUsage::Signing),
    (KeySpec::Ed25519, KeyUsage::Signing),
];

#[test]
fn private_keys_are_in_no_memory_once_they_were_made_or_used() {
    let place = Place::new();
    let open = || place.open_with(KeyMemoryChoice::Mlock, &place.file(), Arc::new(SystemTime::now)).expect("opens");
    let kms = open();
    let names: Vec<KeyName> = KINDS
        .map(|(spec, usage)| {
            let new = NewKey { spec, usage: Some(usage), ..NewKey::default() };
            kms.create(&caller(), &new).expect("made").arn.into()
        })
        .to_vec();
    drop(kms);
    let keys = private_keys(&place);
    assert_eq!(keys.len(), KINDS.len());
    let kms = open();
    let none = EncryptionContext::default();
    for ((_, usage), name) in KINDS.iter().zip(&names) {
        let public = kms.public_key(&caller(), name).expect("given");
        match usage {
            KeyUsage::Encryption => {
                let (blob, _) = kms.encrypt_oaep(&caller(), name, (Oaep::Sha256, &none), b"p").expect("encrypted");
                kms.decrypt_oaep(&caller(), name, (Oaep::Sha256, &none), &blob).map(drop).expect("decrypted");
            }
            KeyUsage::Agreement => {
                kms.derive_shared_secret(&caller(), name, &public.der).map(drop).expect("derived");
            }
            _ => {
                let algorithm = *public.spec.algorithms(*usage).last().expect("one at least");
                let signed = Signed { algorithm, kind: MessageType::Raw, message: b"message" };
                kms.sign(&caller(), name, &signed).map(drop).expect("signed");
            }
        }
    }
    let hsm = pid_of(&kms);
    let sealing = derived(&fs::read(place.domain_key()).expect("there"), b"envol domain key: tokens");
    assert!(hits(hsm, &sealing[..16]) > 0, "the search finds what is there");
    for secret in keys.iter().flat_map(|key| secrets(key)) {
        assert_eq!((hits(hsm, &secret), hits(parent_of(hsm), &secret)), (0, 0));
    }
}

#[test]
fn data_key_pairs_are_in_the_hsms_memory_no_longer_than_a_request() {
    let place = Place::new();
    let kms = place.open_with(KeyMemoryChoice::Mlock, &place.file(), Arc::new(SystemTime::now)).expect("opens");
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let none = EncryptionContext::default();
    let specs = [KeySpec::Rsa2048, KeySpec::P256, KeySpec::P384, KeySpec::Ed25519];
    let made = specs.map(|spec| {
        let asked = NewDataKeyPair { spec, context: &none, clear: true };
        let pair = kms.generate_data_key_pair(&caller(), &key, &asked).expect("made");
        secrets(pair.private.expect("asked for").expose())
    });
    let hsm = pid_of(&kms);
    for secret in made.iter().flatten() {
        assert_eq!(hits(hsm, secret), 0);
    }
}
