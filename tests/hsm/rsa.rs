//! RSA keys, which take seconds to make: who waits for one, who does not, and who is refused.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use envol::kms::embedded::{Embedded, KeySpec, KeyState, NewDataKeyPair};
use envol::kms::{EncryptionContext, KeyName, KmsError};
use envol::limits::HSM_RSA_KEYS_AT_ONCE;

use crate::place::{Place, await_end, caller, is_internal, pid_of, signal};

const STOP: i32 = 19;
const CONTINUE: i32 = 18;
const KILL: i32 = 9;
const REFUSED: usize = 3;

fn new_key(kms: &Embedded) -> KeyName {
    kms.create_key(&caller(), "", None).expect("made").arn.into()
}

fn make_rsa(kms: &Embedded, key: &KeyName, spec: KeySpec) -> Result<(), KmsError> {
    let context = EncryptionContext::default();
    kms.generate_data_key_pair(&caller(), key, &NewDataKeyPair { spec, context: &context, clear: false }).map(drop)
}

fn is_throttled(outcome: &Result<(), KmsError>) -> bool {
    matches!(outcome, Err(KmsError::Throttled { exception, .. }) if exception == "ThrottlingException")
}

#[test]
fn keys_are_used_and_revoked_while_rsa_keys_are_made() {
    let place = Place::new();
    let kms = place.open();
    let [sealing, used] = [0, 1].map(|_| new_key(&kms));
    let none = EncryptionContext::default();
    let blob = kms.encrypt(&caller(), &used, b"text", &none).expect("sealed").wrapped;
    let (asking, made) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..HSM_RSA_KEYS_AT_ONCE {
            scope.spawn(|| {
                asking.fetch_add(1, Ordering::SeqCst);
                make_rsa(&kms, &sealing, KeySpec::Rsa4096).expect("made");
                made.fetch_add(1, Ordering::SeqCst);
            });
        }
        while asking.load(Ordering::SeqCst) < HSM_RSA_KEYS_AT_ONCE {
            thread::yield_now();
        }
        for _ in 0..10 {
            kms.decrypt_bytes(&caller(), None, &blob, &none).map(drop).expect("opened");
            kms.disable_key(&caller(), &used).expect("disabled");
            assert!(kms.decrypt_bytes(&caller(), None, &blob, &none).is_err(), "revoked");
            kms.enable_key(&caller(), &used).expect("enabled");
            pid_of(&kms);
        }
        assert!(made.load(Ordering::SeqCst) < HSM_RSA_KEYS_AT_ONCE, "fifty calls take less than so many keys");
    });
    assert_eq!(made.load(Ordering::SeqCst), HSM_RSA_KEYS_AT_ONCE);
}

#[test]
fn more_rsa_keys_than_the_limit_are_throttled_and_hold_up_nobody_who_needs_no_hsm() {
    let place = Place::new();
    let kms = place.open();
    let [sealing, other] = [0, 1].map(|_| new_key(&kms));
    let hsm = pid_of(&kms);
    signal(hsm, STOP);
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        for _ in 0..HSM_RSA_KEYS_AT_ONCE + REFUSED {
            let (tell, kms, sealing) = (tell.clone(), &kms, &sealing);
            scope.spawn(move || tell.send(make_rsa(kms, sealing, KeySpec::Rsa2048)).expect("somebody waits"));
        }
        for _ in 0..REFUSED {
            let outcome = told.recv().expect("told");
            assert!(is_throttled(&outcome), "{outcome:?}");
        }
        kms.disable_key(&caller(), &other).expect("disabled");
        kms.list_keys(&caller()).expect("listed");
        kms.schedule_key_deletion(&caller(), &other, 7).expect("scheduled");
        assert_eq!(kms.describe_key(&caller(), &other).expect("told").state, KeyState::PendingDeletion);
        assert!(told.try_recv().is_err(), "the others wait");
        signal(hsm, CONTINUE);
        for _ in 0..HSM_RSA_KEYS_AT_ONCE {
            told.recv().expect("told").expect("made");
        }
    });
    assert_eq!(pid_of(&kms), hsm, "the same HSM");
    make_rsa(&kms, &sealing, KeySpec::Rsa2048).expect("there is room again");
}

#[test]
fn a_key_that_waits_for_the_hsm_to_be_made_holds_up_no_revocation() {
    let place = Place::new();
    let kms = place.open();
    let other = new_key(&kms);
    let hsm = pid_of(&kms);
    signal(hsm, STOP);
    thread::scope(|scope| {
        let making = [
            scope.spawn(|| kms.create_key(&caller(), "", None).map(drop)),
            scope.spawn(|| kms.rotate_key_on_demand(&caller(), &other).map(drop)),
        ];
        thread::sleep(Duration::from_millis(50));
        kms.update_key_description(&caller(), &other, "changed").expect("changed");
        assert!(making.iter().all(|making| !making.is_finished()), "they wait, and nobody for them");
        signal(hsm, CONTINUE);
        for making in making {
            making.join().expect("no panic").expect("made");
        }
    });
}

#[test]
fn an_rsa_key_under_which_the_hsm_dies_is_made_by_the_next() {
    let place = Place::new();
    let kms = place.open();
    let sealing = new_key(&kms);
    let hsm = pid_of(&kms);
    signal(hsm, STOP);
    thread::scope(|scope| {
        let making: Vec<_> = (0..2).map(|_| scope.spawn(|| make_rsa(&kms, &sealing, KeySpec::Rsa2048))).collect();
        thread::sleep(Duration::from_millis(50));
        signal(hsm, KILL);
        await_end(hsm);
        for making in making {
            making.join().expect("no panic").expect("made");
        }
    });
    assert_ne!(pid_of(&kms), hsm);
}

#[test]
fn zeroizing_ends_the_waiting_for_rsa_keys() {
    let place = Place::new();
    let kms = place.open();
    let sealing = new_key(&kms);
    signal(pid_of(&kms), STOP);
    thread::scope(|scope| {
        let making: Vec<_> = (0..2).map(|_| scope.spawn(|| make_rsa(&kms, &sealing, KeySpec::Rsa2048))).collect();
        thread::sleep(Duration::from_millis(50));
        kms.zeroize(&caller()).expect("zeroized");
        for making in making {
            let outcome = making.join().expect("no panic");
            assert!(is_internal(&outcome) && format!("{outcome:?}").contains("zeroized"), "{outcome:?}");
        }
    });
}
