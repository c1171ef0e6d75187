//! An HSM that does not answer: what waits for it, what does not, and what is made up for.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use envol::kms::embedded::hsm::DomainKeySource;
use envol::kms::embedded::{Embedded, HsmState, KeyState};
use envol::kms::{EncryptionContext, KeyName, KmsError};
use envol::sys::locked::KeyMemoryChoice;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::place::{Place, await_end, caller, is_internal, parent_of, pid_of, signal};

const CALLERS: usize = 4;
const DAY: u64 = 86_400;

fn encrypt(kms: &Embedded, key: &KeyName) -> Result<(), KmsError> {
    kms.encrypt(&caller(), key, b"text", &EncryptionContext::default()).map(|_| ())
}

/// Whether it was refused because the HSM is zeroized, and not because a deadline has passed.
fn is_zeroized(outcome: &Result<(), KmsError>) -> bool {
    is_internal(outcome) && format!("{outcome:?}").contains("zeroized")
}

/// A child of `parent` other than `before`.
fn other_child(parent: u32, before: u32) -> u32 {
    loop {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("it runs");
        match children.split_whitespace().map(|id| id.parse().expect("an id")).find(|id| *id != before) {
            Some(child) => return child,
            None => thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[test]
fn a_key_whose_rotation_the_dead_hsm_cannot_make_is_revoked_all_the_same_and_rotated_later() {
    let seconds = Arc::new(AtomicU64::new(1_800_000_000));
    let clock = Arc::clone(&seconds);
    let place = Place::new();
    let now = move || SystemTime::UNIX_EPOCH + Duration::from_secs(clock.load(Ordering::SeqCst));
    let kms = place.open_with(KeyMemoryChoice::Auto, &place.file(), Arc::new(now)).expect("opens");
    let [due, revoked] = [0, 1].map(|_| KeyName::from(kms.create_key(&caller(), "", None).expect("made").arn));
    for key in [&due, &revoked] {
        kms.enable_key_rotation(&caller(), key, Some(90)).expect("enabled");
    }
    let domain_key = fs::read(place.domain_key()).expect("there");
    fs::rename(place.domain_key(), place.path().join("away")).expect("moved");
    let hsm = pid_of(&kms);
    signal(hsm, 9);
    await_end(hsm);
    assert!(is_internal(&encrypt(&kms, &due)));
    seconds.fetch_add(91 * DAY, Ordering::SeqCst);
    let rotations = |key| kms.describe_key(&caller(), key).expect("it can be looked at").rotations;
    assert_eq!(rotations(&due), 0);
    kms.disable_key(&caller(), &revoked).expect("disabled");
    kms.schedule_key_deletion(&caller(), &revoked, 7).expect("scheduled");
    assert_eq!(kms.describe_key(&caller(), &revoked).expect("there").state, KeyState::PendingDeletion);
    fs::rename(place.path().join("away"), place.domain_key()).expect("back");
    seconds.fetch_add(120, Ordering::SeqCst);
    assert_eq!(rotations(&due), 1, "made up for once the HSM is back");
    assert_eq!(rotations(&revoked), 0);
    encrypt(&kms, &due).expect("sealed");
    seconds.fetch_add(7 * DAY, Ordering::SeqCst);
    assert!(kms.describe_key(&caller(), &revoked).is_err(), "deleted in its time");

    kms.zeroize(&caller()).expect("zeroized");
    seconds.fetch_add(91 * DAY, Ordering::SeqCst);
    assert_eq!(rotations(&due), 1);
    fs::write(place.domain_key(), &domain_key).expect("written");
    fs::set_permissions(place.domain_key(), std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("ours");
    kms.initialise(&caller()).expect("initialised");
    assert_eq!(rotations(&due), 2, "at once");
}

#[test]
fn zeroizing_ends_the_waiting_of_all_who_ask_an_hsm_that_is_stuck() {
    let place = Place::new();
    let kms = place.open();
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let hsm = pid_of(&kms);
    signal(hsm, 19);
    let asking = AtomicUsize::new(0);
    thread::scope(|scope| {
        let ask = || {
            asking.fetch_add(1, Ordering::SeqCst);
            encrypt(&kms, &key)
        };
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(ask)).collect();
        while asking.load(Ordering::SeqCst) < CALLERS {
            thread::yield_now();
        }
        thread::sleep(Duration::from_millis(50));
        kms.zeroize(&caller()).expect("zeroized");
        for asked in callers {
            let outcome = asked.join().expect("no panic");
            assert!(is_zeroized(&outcome), "{outcome:?}");
        }
    });
    assert!(!fs::exists(format!("/proc/{hsm}")).expect("told"), "killed");
    assert_eq!(kms.hsm_state(), HsmState::Zeroized);
}

#[test]
fn a_passphrase_that_nobody_brings_holds_up_no_zeroizing() {
    let place = Place::new();
    let from = place.path().join("pipe");
    mkfifo(&from, Mode::S_IRUSR | Mode::S_IWUSR).expect("made");
    let source = DomainKeySource::Passphrase { from: from.clone(), stretching: place.path().join("stretching") };
    let brought = thread::spawn(move || fs::write(from, b"correct horse battery staple").expect("read"));
    let kms = place.try_open(&source).expect("opens once the passphrase is there");
    brought.join().expect("no panic");
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let hsm = pid_of(&kms);
    let parent = parent_of(hsm);
    signal(hsm, 9);
    await_end(hsm);
    thread::scope(|scope| {
        let asked = scope.spawn(|| encrypt(&kms, &key));
        let waits = other_child(parent, hsm);
        kms.zeroize(&caller()).expect("zeroized");
        let outcome = asked.join().expect("no panic");
        assert!(is_zeroized(&outcome), "{outcome:?}");
        await_end(waits);
    });
}
