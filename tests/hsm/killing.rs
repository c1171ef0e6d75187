//! SIGKILL, again and again, of the HSM under load: nothing durable is lost, and every call ends.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, ScopedJoinHandle};

use envol::kms::embedded::{Embedded, HsmState};
use envol::kms::{EncryptionContext, KeyName, KmsError, WrappedKey};

use crate::place::{Place, caller, is_internal, signal};

const KILLS: usize = 60;
const THREADS: usize = 4;

/// What was answered, which must hold for ever after.
#[derive(Default)]
struct Durable {
    keys: Vec<String>,
    sealed: Vec<(WrappedKey, Vec<u8>)>,
    materials: BTreeMap<String, String>,
}

/// One call after the other until `stop`; what succeeded is kept, and whatever fails says that trying again may help.
fn load(kms: &Embedded, number: usize, stop: &AtomicBool, done: &AtomicUsize) -> Durable {
    let none = EncryptionContext::default();
    let mut durable = Durable::default();
    let own: KeyName = again(|| kms.create_key(&caller(), "", None)).arn.into();
    durable.keys.push(own.as_str().to_owned());
    for turn in 0.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        match turn % 8 {
            0 => durable.keys.push(again(|| kms.create_key(&caller(), "", None)).arn.as_str().to_owned()),
            1 if turn < 160 => {
                let rotated = again(|| kms.rotate_key_on_demand(&caller(), &own));
                durable.materials.insert(own.as_str().to_owned(), rotated.current_key_material_id);
            }
            2 => {
                let made = again(|| kms.generate_data_key(&caller(), &own, 64, &none));
                durable.sealed.push((made.wrapped, made.plaintext.expose().to_vec()));
            }
            _ => {
                let text = format!("{number} {turn}").into_bytes();
                durable.sealed.push((again(|| kms.encrypt(&caller(), &own, &text, &none)).wrapped, text));
            }
        }
        let (blob, clear) = durable.sealed.last().or(durable.sealed.first()).cloned().unwrap_or_else(|| {
            let text = b"first".to_vec();
            (again(|| kms.encrypt(&caller(), &own, &text, &none)).wrapped, text)
        });
        assert_eq!(again(|| kms.decrypt_bytes(&caller(), None, &blob, &none)).plaintext.expose(), clear);
        done.fetch_add(1, Ordering::SeqCst);
    }
    durable
}

fn again<T>(mut call: impl FnMut() -> Result<T, KmsError>) -> T {
    loop {
        match call() {
            Ok(answer) => return answer,
            failed => assert!(is_internal(&failed), "{:?}", failed.err()),
        }
    }
}

#[test]
fn an_hsm_that_is_killed_over_and_over_loses_nothing_durable() {
    let place = Place::new();
    let kms = place.open();
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let kept = Mutex::new(Vec::new());
    let mut killed = Vec::new();
    thread::scope(|scope| {
        let mut threads = Vec::new();
        for number in 0..THREADS {
            let (kms, stop, done, kept) = (&kms, &stop, &done, &kept);
            threads.push(scope.spawn(move || kept.lock().expect("no panic").push(load(kms, number, stop, done))));
        }
        // One that ends before it is told to has failed, and is told of when all have ended.
        let all_run = || !threads.iter().any(ScopedJoinHandle::is_finished);
        while killed.len() < KILLS && all_run() {
            let before = done.load(Ordering::SeqCst);
            if let HsmState::Running { pid: Some(pid) } = kms.hsm_state() {
                signal(pid, 9);
                killed.push(pid);
            }
            // The next one is killed once some work was done, now sooner, now later.
            while done.load(Ordering::SeqCst) < before + killed.len() % 5 && all_run() {
                thread::yield_now();
            }
        }
        stop.store(true, Ordering::SeqCst);
    });
    killed.dedup();
    assert!(killed.len() > KILLS / 2, "other HSMs came: {killed:?}");
    drop(kms);
    let kms = place.open();
    let known: Vec<String> =
        kms.list_keys(&caller()).expect("listed").into_iter().map(|key| key.arn.as_str().to_owned()).collect();
    let (mut opened, none) = (0, EncryptionContext::default());
    for durable in kept.into_inner().expect("no panic") {
        assert!(durable.keys.iter().all(|key| known.contains(key)), "a key that was answered is there");
        for (key, material) in durable.materials {
            let found = kms.describe_key(&caller(), &KeyName::new(key)).expect("there");
            assert_eq!(found.current_key_material_id, material);
        }
        for (blob, clear) in durable.sealed {
            assert_eq!(kms.decrypt_bytes(&caller(), None, &blob, &none).expect("opens").plaintext.expose(), clear);
            opened += 1;
        }
    }
    assert!(opened > KILLS);
    let log = fs::read_to_string(place.store().join("audit.ndjson")).expect("there");
    assert!(log.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()));
}
