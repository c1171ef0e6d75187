//! The memory of the processes, searched: domain key and root material are in the HSM's and in no other.
//!
//! The keys to look for are computed here, by OpenSSL, from the domain key's file and the store's tokens.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use envol::crypto::wrapping::Wrapping;
use envol::kms::KeyName;
use envol::kms::embedded::{KeyMaterial, NewKey, Origin};
use envol::sys::locked::KeyMemoryChoice;
use openssl::encrypt::Encrypter;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Padding;
use openssl::sign::Signer;
use openssl::symm::{Cipher, decrypt_aead};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::place::{Place, caller, parent_of, pid_of};
use crate::support::Daemon;

/// SP 800-108 in counter mode with HMAC-SHA-256, one block.
pub(crate) fn derived(key: &[u8], label: &[u8]) -> Vec<u8> {
    let mac_key = PKey::hmac(key).expect("a key");
    let mut signer = Signer::new(MessageDigest::sha256(), &mac_key).expect("HMAC");
    for part in [&1_u32.to_be_bytes()[..], label, &[0], &256_u32.to_be_bytes()] {
        signer.update(part).expect("absorbed");
    }
    signer.sign_to_vec().expect("a MAC")
}

/// The root material of every key in the store, by material id.
pub(crate) fn root_material(store: &Path, domain_key: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let sealing = derived(domain_key, b"envol domain key: tokens");
    let database = redb::Database::open(store).expect("nobody else has it open");
    let table: TableDefinition<'_, [u8; 48], &[u8]> = TableDefinition::new("tokens");
    let snapshot = database.begin_read().expect("a snapshot");
    let materials = snapshot.open_table(table).expect("there");
    let entries = materials.iter().expect("readable").map(|entry| {
        let (place, token) = entry.expect("an entry");
        let (place, token) = (place.value(), token.value());
        let associated = [&[1_u8][..], &place, b"000000000000"].concat();
        let (nonce, body, tag) = (&token[1..13], &token[13..45], &token[45..]);
        let root = decrypt_aead(Cipher::aes_256_gcm(), &sealing, Some(nonce), &associated, body, tag).expect("opens");
        (place[16..].iter().map(|byte| format!("{byte:02x}")).collect(), root)
    });
    entries.collect()
}

const PAGE: u64 = 4096;

/// How often `needle` is in the memory of `pid`: in the pages that there are of its writable mappings.
pub(crate) fn hits(pid: u32, needle: &[u8]) -> usize {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("it runs");
    let open = |name| File::open(format!("/proc/{pid}/{name}")).expect("the tests run as root");
    let (memory, pages) = (open("mem"), open("pagemap"));
    let mappings = maps.lines().filter(|line| line.contains(" rw") && !line.contains("[vvar"));
    let runs = mappings.flat_map(|line| {
        let (start, end) = line.split_whitespace().next().and_then(|range| range.split_once('-')).expect("a range");
        let number = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
        runs_of_pages(&pages, number(start)..number(end))
    });
    let in_run = |run: Range<u64>| {
        let mut bytes = vec![0; usize::try_from(run.end - run.start).expect("less than memory")];
        // Only pages of memfd_secret refuse to be read: of those processes that were not told to have none.
        if memory.read_exact_at(&mut bytes, run.start).is_err() {
            return 0;
        }
        bytes.windows(needle.len()).filter(|window| *window == needle).count()
    };
    runs.map(in_run).sum()
}

/// The parts of `mapping` that have pages, in memory or swapped out.
fn runs_of_pages(pages: &File, mapping: Range<u64>) -> Vec<Range<u64>> {
    let count = usize::try_from((mapping.end - mapping.start) / PAGE).expect("less than memory");
    let mut entries = vec![0; count * 8];
    pages.read_exact_at(&mut entries, mapping.start / PAGE * 8).expect("an entry for each page");
    let mut runs: Vec<Range<u64>> = Vec::new();
    for (at, entry) in (mapping.start..).step_by(4096).zip(entries.as_chunks::<8>().0) {
        let is_there = u64::from_le_bytes(*entry) >> 62 != 0;
        match runs.last_mut() {
            Some(run) if is_there && run.end == at => run.end += PAGE,
            _ if is_there => runs.push(at..at + PAGE),
            _ => {}
        }
    }
    runs
}

/// A configuration under which root can read the memory that keys lie in, with `more` of it.
pub(crate) fn readable_keys(more: &str) -> NamedTempFile {
    let config = NamedTempFile::new().expect("a file");
    fs::write(config.path(), format!("key_memory = \"mlock\"\n{more}")).expect("written");
    config
}

/// One at least, so that the search is known to find what is there.
fn is_found(pid: u32, needle: &[u8]) -> bool {
    hits(pid, needle) > 0
}

#[test]
fn domain_key_and_root_material_are_in_no_memory_but_the_hsms() {
    let config = readable_keys("");
    let mut daemon = Daemon::start_with(&["--config", config.path().to_str().expect("plain text")]);
    assert_eq!(daemon.json(["status"])["key_memory"], "mlock");
    let key = daemon.json(["key", "create", "--alias", "one", "--description", "planted in the front, to be found"]);
    daemon.json(["volume", "create", "db", "--size", "4M", "--key", "alias/one"]);
    assert!(daemon.terminate().success());
    let domain_key = fs::read(daemon.path().join("state/domain.key")).expect("there");
    let roots = root_material(&daemon.path().join("state/kms/keys.redb"), &domain_key);
    assert_eq!(roots.len(), 1);
    daemon.run();
    daemon.attach("db");
    daemon.json(["key", "rotate", "alias/one"]);
    daemon.json(["key", "show", key["arn"].as_str().expect("an ARN")]);
    let sector_key = sector_key(&daemon);
    let hsm = u32::try_from(daemon.json(["status"])["hsm"]["pid"].as_u64().expect("a pid")).expect("an id");
    let (parent, front) = (parent_of(hsm), daemon.pid());

    assert!(is_found(front, b"planted in the front, to be found"), "the search finds what is in the front");
    // The search is by root, who sees locked memory, and does not see that of memfd_secret.
    let seen = daemon.json(["status"])["key_memory"] != "memfd_secret";
    assert_eq!(is_found(front, &sector_key[..16]), seen, "and what lies in its locked memory");
    let sealing = derived(&domain_key, b"envol domain key: tokens");
    assert_eq!([is_found(hsm, &sealing[..16]), is_found(hsm, &sealing[16..])], [seen; 2], "and what the HSM lives on");

    for secret in roots.values().chain([&domain_key, &sealing]) {
        for half in secret.chunks(16) {
            for form in [half.to_vec(), hex(half)] {
                assert_eq!(hits(front, &form), 0, "in the front");
                assert_eq!(hits(parent, &form), 0, "in the HSM's parent");
            }
        }
    }
    for root in roots.values() {
        assert_eq!(hits(hsm, &root[..16]), 0, "root material is in the HSM for no longer than a request");
    }
    for half in domain_key.chunks(16) {
        assert_eq!(hits(hsm, half), 0, "nor is the domain key itself, once the keys that follow from it are made");
    }
}

/// `material`, wrapped by OpenSSL under a public key in DER.
fn wrapped(public: &[u8], material: &[u8]) -> Vec<u8> {
    let public = PKey::public_key_from_der(public).expect("a public key");
    let mut encrypter = Encrypter::new(&public).expect("an encrypter");
    encrypter.set_rsa_padding(Padding::PKCS1_OAEP).expect("padding");
    encrypter.set_rsa_oaep_md(MessageDigest::sha256()).expect("a digest");
    encrypter.set_rsa_mgf1_md(MessageDigest::sha256()).expect("a digest");
    let mut out = vec![0; encrypter.encrypt_len(material).expect("a length")];
    let length = encrypter.encrypt(material, &mut out).expect("encrypted");
    out.truncate(length);
    out
}

#[test]
fn key_material_that_is_imported_stays_in_no_memory() {
    let place = Place::new();
    let opened = place.open_with(KeyMemoryChoice::Mlock, &place.file(), Arc::new(SystemTime::now));
    let kms = opened.expect("opens");
    let new = NewKey { origin: Origin::External, ..NewKey::default() };
    let key: KeyName = kms.create(&caller(), &new).expect("made").arn.into();
    let given = kms.parameters_for_import(&caller(), &key, Wrapping::OaepSha256, 2048).expect("given");
    let mut material = [0; 32];
    openssl::rand::rand_bytes(&mut material).expect("random");
    let wrapped = wrapped(&given.public_key, &material);
    let brought =
        KeyMaterial { token: &given.token, wrapped: &wrapped, valid_to: None, kind: None, description: None, id: None };
    kms.import_key_material(&caller(), &key, &brought).expect("imported");
    let hsm = pid_of(&kms);
    let sealing = derived(&fs::read(place.domain_key()).expect("there"), b"envol domain key: tokens");
    assert!(is_found(hsm, &sealing[..16]), "the search finds what is there");
    for half in material.chunks(16) {
        assert_eq!((hits(hsm, half), hits(parent_of(hsm), half)), (0, 0));
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// The first sector key of the attached volume, which is in the front's memory for as long as it is attached.
fn sector_key(daemon: &Daemon) -> Vec<u8> {
    let exported: Value = daemon.json(["volume", "export-key", "db", "--yes"]);
    let text = exported.to_string();
    let digits = text.split(|c: char| !c.is_ascii_hexdigit()).find(|word| word.len() == 128).expect("in the table");
    (0..64).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hexadecimal")).collect()
}
