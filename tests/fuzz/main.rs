//! The kept corpora of the fuzz targets, replayed: what was once found stays found, without a fuzzer and a nightly compiler.
//! `scripts/fuzz` runs the targets themselves.
#![allow(clippy::cast_possible_truncation, reason = "what is cast here is small")]

mod targets;

use std::fs;
use std::path::{Path, PathBuf};

use targets::TARGETS;

fn corpus(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name)
}

/// The files of a target's corpus, by name.
fn kept(name: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(corpus(name)).unwrap_or_else(|error| panic!("no corpus of {name}: {error}"));
    let mut kept: Vec<_> = entries
        .map(|entry| {
            let path = entry.expect("an entry").path();
            (path.display().to_string(), fs::read(&path).expect("a file"))
        })
        .collect();
    kept.sort();
    kept
}

macro_rules! replayed {
    ($($name:ident),* $(,)?) => {$(
        #[test]
        fn $name() {
            let target = TARGETS.iter().find(|target| target.name == stringify!($name)).expect("a target");
            for seed in (target.seeds)() {
                (target.run)(&seed);
            }
            let kept = kept(target.name);
            assert!(kept.len() >= 5, "a corpus of {} is no corpus", kept.len());
            for (_, bytes) in kept {
                (target.run)(&bytes);
            }
        }
    )*

        const REPLAYED: &[&str] = &[$(stringify!($name)),*];
    };
}
replayed! {
    audit_verify, blob_decode, config, control_json, header_decode, header_pair, hsm_request, kms_store, kms_wire, nbd_handshake,
    nbd_transmission, policy, sigv4, wrapped_blob,
}

#[test]
fn every_target_has_a_program_for_the_fuzzer_and_is_replayed() {
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/fuzz_targets");
    let mut named: Vec<String> = fs::read_dir(programs)
        .expect("there are some")
        .map(|entry| entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    named.sort();
    let mut targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    targets.sort_unstable();
    assert_eq!(named, targets);
    assert_eq!(REPLAYED, targets);
}

#[test]
fn a_header_of_the_header_targets_opens() {
    let volume = &targets::volumes::VOLUMES[0];
    for [one, other] in &volume.copies {
        assert!(targets::volumes::open(&volume.backing([one, other]), &targets::volumes::SoftKms(0)).is_ok());
    }
}

/// Not a test of anything: writes the seeds into the corpora, where `ENVOL_WRITE_SEEDS` says so.
#[test]
fn the_seeds_are_written_where_that_is_asked_for() {
    if std::env::var_os("ENVOL_WRITE_SEEDS").is_none() {
        return;
    }
    for target in TARGETS {
        let place = corpus(target.name);
        fs::create_dir_all(&place).expect("made");
        for (number, seed) in (target.seeds)().into_iter().enumerate() {
            fs::write(place.join(format!("seed-{number:02}")), seed).expect("written");
        }
    }
}
