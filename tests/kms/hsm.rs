//! The HSM part at the other end of a socketpair, with everything that crosses recorded.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use envol::kms::embedded::hsm::{Client, Hsm, serve};
use envol::kms::embedded::{Embedded, OpenError, StoreError};
use envol::kms::{EncryptionContext, KeyName, KmsError};
use envol::secret::Secret;

use crate::world::{World, caller, identity};

type Record = Arc<Mutex<Vec<u8>>>;

/// An HSM on a thread of its own, whose every byte passes through `record`.
struct Tapped {
    front: Option<UnixStream>,
    record: Record,
    /// To cut the HSM off.
    cut: UnixStream,
    threads: Vec<JoinHandle<()>>,
}

fn tapped(domain_key: [u8; 32]) -> Tapped {
    let (front, tap_front) = UnixStream::pair().expect("a pair");
    let (tap_back, mut back) = UnixStream::pair().expect("a pair");
    let record = Record::default();
    let cut = tap_front.try_clone().expect("cloned");
    let hsm = Hsm::new(Secret::filled_by(|key| *key = domain_key).expect("locked")).expect("locked");
    let clone = |stream: &UnixStream| stream.try_clone().expect("cloned");
    let threads = vec![
        copy(clone(&tap_front), clone(&tap_back), Arc::clone(&record)),
        copy(tap_back, tap_front, Arc::clone(&record)),
        thread::spawn(move || serve(&mut back, &hsm).expect("the front closes between two requests")),
    ];
    Tapped { front: Some(front), record, cut, threads }
}

fn copy(mut from: UnixStream, mut to: UnixStream, record: Record) -> JoinHandle<()> {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            record.lock().expect("not poisoned").extend_from_slice(&buffer[..count]);
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    })
}

fn open(world: &World, tapped: &mut Tapped) -> Result<Embedded, OpenError> {
    let front = tapped.front.take().expect("taken once");
    Embedded::with_hsm(&world.dir(), Client::over(front), identity(), world.clock())
}

#[test]
fn over_a_socketpair_everything_works_and_the_domain_key_never_crosses() {
    let world = World::new();
    let domain_key: [u8; 32] = std::array::from_fn(|at| u8::try_from(at * 7 + 1).expect("small"));
    let mut tapped = tapped(domain_key);
    let kms = open(&world, &mut tapped).expect("opens");
    let key: KeyName = kms.create_key(&caller(), "", None).expect("made").arn.into();
    let none = EncryptionContext::default();
    let plaintext = b"recorded on its way, as a check of the recorder";
    let blob = kms.encrypt(&caller(), &key, plaintext, &none).expect("sealed").wrapped;
    kms.rotate_key_on_demand(&caller(), &key).expect("rotated");
    let made = kms.generate_data_key(&caller(), &key, 64, &none).expect("made");
    for (blob, clear) in [(&blob, plaintext.as_slice()), (&made.wrapped, made.plaintext.expose())] {
        assert_eq!(kms.decrypt_bytes(&caller(), None, blob, &none).expect("opened").plaintext.expose(), clear);
    }
    drop(kms);
    tapped.threads.into_iter().for_each(|thread| thread.join().expect("ends when the front does"));
    let record = tapped.record.lock().expect("not poisoned").clone();
    let crossed = |bytes: &[u8]| record.windows(bytes.len()).any(|window| window == bytes);
    assert!(crossed(plaintext));
    assert!(crossed(made.plaintext.expose()));
    assert!(!crossed(&domain_key[..16]));
    assert!(!crossed(&domain_key[16..]));
    let store = fs::read(world.dir().join("keys.redb")).expect("there");
    assert!(!store.windows(16).any(|window| window == &domain_key[..16]));
}

#[test]
fn without_the_hsm_nothing_is_encrypted_or_opened_and_keys_can_still_be_looked_at() {
    let world = World::new();
    let mut tapped = tapped([7; 32]);
    let kms = open(&world, &mut tapped).expect("opens");
    let key = kms.create_key(&caller(), "", None).expect("made");
    let name: KeyName = key.arn.clone().into();
    let none = EncryptionContext::default();
    let blob = kms.encrypt(&caller(), &name, b"text", &none).expect("sealed").wrapped;
    tapped.cut.shutdown(Shutdown::Both).expect("cut");
    for _ in 0..2 {
        let opened = kms.decrypt_bytes(&caller(), Some(&name), &blob, &none).map(|_| ());
        assert!(
            matches!(&opened, Err(KmsError::Unreachable(text)) if text.starts_with("KMSInternalException")),
            "{opened:?}"
        );
    }
    assert!(matches!(kms.create_key(&caller(), "", None), Err(KmsError::Unreachable(_))));
    assert_eq!(kms.list_keys(&caller()).expect("listed"), [key]);
}

#[test]
fn an_hsm_with_another_domain_key_is_refused_when_the_store_is_opened() {
    let world = World::new();
    open(&world, &mut tapped([1; 32])).expect("opens");
    let error = open(&world, &mut tapped([2; 32])).err().expect("refused");
    assert!(matches!(error, OpenError::Store(StoreError::OtherDomainKey)));
}
