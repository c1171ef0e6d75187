//! The search: bytes in, names of the secrets that are among them out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::keys::Known;

/// As much of a secret as counts as a trace of it.
const TRACE: usize = 16;
/// As much as is looked at first.
const HEAD: usize = 8;

/// All traces of secrets, in every form.
pub(crate) struct Scan {
    /// One bit for each three bytes that some trace begins with.
    beginnings: Vec<u64>,
    traces: HashMap<[u8; HEAD], Vec<(String, Vec<u8>)>>,
}

impl Scan {
    /// One that finds any of `secrets`: each 16 bytes of it, raw, in hex and in base64 at any alignment.
    pub(crate) fn new(secrets: &[Known]) -> Self {
        let mut scan = Self { beginnings: vec![0; 1 << 18], traces: HashMap::new() };
        for Known { name, bytes } in secrets {
            for part in bytes.chunks_exact(TRACE) {
                scan.add(format!("{name}, raw"), part.to_vec());
                let hex: String = part.iter().map(|byte| format!("{byte:02x}")).collect();
                scan.add(format!("{name}, hex"), hex.to_uppercase().into_bytes());
                scan.add(format!("{name}, hex"), hex.into_bytes());
                for skipped in 0..3 {
                    let whole = &part[skipped..skipped + 12];
                    scan.add(format!("{name}, base64"), STANDARD.encode(whole).into_bytes());
                }
            }
        }
        scan
    }

    fn add(&mut self, name: String, trace: Vec<u8>) {
        let (word, bit) = place(&trace);
        self.beginnings[word] |= bit;
        let head = trace[..HEAD].try_into().expect("a trace is longer than its head");
        self.traces.entry(head).or_default().push((name, trace));
    }

    /// The secrets in `bytes`, and how often each was seen.
    pub(crate) fn search(&self, bytes: &[u8]) -> Found {
        let mut found = Found::default();
        for at in 0..bytes.len().saturating_sub(TRACE - 1) {
            let rest = &bytes[at..];
            let (word, bit) = place(rest);
            if self.beginnings[word] & bit == 0 {
                continue;
            }
            let head: &[u8; HEAD] = rest.first_chunk().expect("longer than a trace");
            for (name, trace) in self.traces.get(head).into_iter().flatten() {
                if rest.starts_with(trace) {
                    *found.0.entry(name.clone()).or_default() += 1;
                }
            }
        }
        found
    }

    /// The secrets in a file.
    pub(crate) fn file(&self, path: &Path) -> Found {
        self.search(&std::fs::read(path).expect("readable"))
    }

    /// The secrets in the files below a directory, but for the file `but_for`.
    pub(crate) fn directory(&self, path: &Path, but_for: &Path) -> Found {
        let mut found = Found::default();
        for entry in std::fs::read_dir(path).expect("readable").map(|entry| entry.expect("an entry").path()) {
            if entry.is_dir() {
                found.join(self.directory(&entry, but_for));
            } else if entry.is_file() && entry != but_for {
                found.join(self.file(&entry));
            }
        }
        found
    }

    /// The secrets in the memory of a process: all of its mappings that the kernel gives out. A secret that lies across
    /// two mappings is none of ours.
    pub(crate) fn process(&self, pid: u32) -> Memory {
        let memory = File::open(format!("/proc/{pid}/mem")).expect("root may read it, and its owner");
        let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).expect("procfs");
        let mut seen = Memory::default();
        for Mapping { start, length, secret, name } in mappings(&smaps) {
            let mut bytes = vec![0; length];
            if memory.read_exact_at(&mut bytes, start).is_err() {
                seen.withheld += if secret { length } else { 0 };
                continue;
            }
            seen.read += length;
            if bytes.iter().all(|byte| *byte == 0) {
                continue;
            }
            let found = self.search(&bytes);
            seen.places
                .extend(found.kinds().iter().map(|kind| format!("{kind} at {start:x}, {} KiB, {name}", length >> 10)));
            seen.found.join(found);
        }
        assert!(seen.read > 1 << 20, "the memory was read");
        seen
    }
}

fn place(bytes: &[u8]) -> (usize, u64) {
    let beginning = usize::from(bytes[0]) | usize::from(bytes[1]) << 8 | usize::from(bytes[2]) << 16;
    (beginning / 64, 1 << (beginning % 64))
}

/// A stretch of a process's memory.
#[derive(Clone)]
struct Mapping {
    start: u64,
    length: usize,
    /// Whether it is of memfd_secret.
    secret: bool,
    /// The file or purpose.
    name: String,
}

/// The mappings that have pages, and those of which the kernel does not say it.
fn mappings(smaps: &str) -> Vec<Mapping> {
    let mut found = Vec::new();
    let mut of = Mapping { start: 0, length: 0, secret: false, name: String::new() };
    for line in smaps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().expect("no line is empty");
        let number = |text: &str| u64::from_str_radix(text, 16).expect("an address");
        if let Some((start, end)) = first.split_once('-') {
            let length = usize::try_from(number(end) - number(start)).expect("64 bits");
            let name = words.nth(4).unwrap_or("anonymous").to_owned();
            of = Mapping { start: number(start), length, secret: name.contains("secretmem"), name };
        } else if first == "Rss:" && (of.secret || words.next() != Some("0")) {
            found.push(of.clone());
        }
    }
    found
}

/// Secrets that were found, by name and form, with counts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Found(BTreeMap<String, usize>);

impl Found {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn join(&mut self, other: Self) {
        for (name, count) in other.0 {
            *self.0.entry(name).or_default() += count;
        }
    }

    /// The names without form and number: `sector key`, `encrypting round key`.
    pub(crate) fn kinds(&self) -> BTreeSet<&str> {
        self.0
            .keys()
            .map(|name| name.split([',', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']).next().expect("one").trim())
            .collect()
    }
}

/// What a look into a process gave.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) found: Found,
    /// Bytes that were read.
    pub(crate) read: usize,
    /// Kinds of secrets and the mappings where they were, for whoever reads a failure.
    pub(crate) places: BTreeSet<String>,
    /// Bytes of secret pages, which the kernel did not give out.
    pub(crate) withheld: usize,
}

#[test]
fn every_form_of_a_secret_is_found_wherever_it_lies() {
    let secret: Vec<u8> = (0..64_u8).map(|byte| byte.wrapping_mul(37).wrapping_add(11)).collect();
    let scan = Scan::new(&[Known { name: "key 1".into(), bytes: secret.clone() }]);
    let hex: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
    for before in 0..5 {
        for form in [secret.clone(), hex.clone().into_bytes(), hex.to_uppercase().into_bytes()] {
            let bytes = [vec![b'x'; before], form].concat();
            assert_eq!(scan.search(&bytes).kinds(), ["key"].into());
        }
        let coded = STANDARD.encode([vec![b'x'; before], secret.clone(), vec![b'y'; 4]].concat());
        assert_eq!(scan.search(coded.as_bytes()).kinds(), ["key"].into());
    }
    assert_eq!(scan.search(&secret[16..32]).0, [("key 1, raw".to_owned(), 1)].into());
    assert!(scan.search(&secret[1..16]).is_empty());
}
