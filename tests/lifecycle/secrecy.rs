//! No key in any text: not in the log at its most talkative, not in events, records, views or errors.

use std::fmt::{Debug, Display, Write as _};
use std::io;
use std::sync::{Arc, Mutex};

use envol::crypto::xts::XtsKey;
use envol::kms::{DataKey, DecryptedKey};
use envol::secret::Secret;
use envol::sys::locked::LockedMemory;
use envol::volume::SectorKeys;
use static_assertions::assert_not_impl_any;
use tracing_subscriber::fmt::MakeWriter;

use crate::script::{Act, refusal};
use crate::world::{World, caller, volume};

// What holds a key never gains, by accident, a way to be copied, printed, compared or serialised.
assert_not_impl_any!(LockedMemory: Clone, Debug, Display, PartialEq, serde::Serialize);
assert_not_impl_any!(Secret<32>: Clone, Debug, Display, PartialEq, serde::Serialize);
assert_not_impl_any!(XtsKey: Clone, Debug, Display, PartialEq, serde::Serialize);
assert_not_impl_any!(DataKey: Clone, Debug, Display, PartialEq, serde::Serialize);
assert_not_impl_any!(DecryptedKey: Clone, Debug, Display, PartialEq, serde::Serialize);
assert_not_impl_any!(SectorKeys: Clone, Debug, Display, PartialEq, serde::Serialize);

#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<u8>>>);

impl io::Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Kept {
    type Writer = Self;

    fn make_writer(&'w self) -> Self {
        self.clone()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes all");
        text
    })
}

#[test]
fn no_key_is_in_any_text() {
    let log = Kept::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).finish();
    // For all threads: the other tests of this binary log here too, which only makes the haystack larger.
    tracing::subscriber::set_global_default(subscriber).expect("no other test sets one");

    let world = World::new();
    let mut said = String::new();
    let mut say = |what: &dyn std::fmt::Debug| writeln!(said, "{what:?}").expect("a string takes all");
    say(&world.create("db"));
    say(&world.attach("db"));
    world.write("db", 1);
    say(&world.detach("db"));
    let mut weak = [0; 64];
    weak[5] = 1;
    for act in [refusal("DisabledException", "it is disabled."), Act::WrongKey, Act::Give(weak)] {
        world.kms.next([act]);
        say(&world.attach("db"));
    }
    say(&world.registry().rehearse(&caller(), &volume("db"), crate::world::WRITABLE));
    say(&world.registry().list());

    let mut places = vec![said.into_bytes(), log.0.lock().expect("no panic").clone()];
    for file in std::fs::read_dir(world.settings.state_dir.join("records")).expect("readable") {
        places.push(std::fs::read(file.expect("an entry").path()).expect("readable"));
    }
    places.push(std::fs::read(world.settings.state_dir.join("events.ndjson")).expect("readable"));
    places.push(std::fs::read(world.backing("db")).expect("readable"));
    let log = String::from_utf8_lossy(&places[1]);
    assert!(log.contains("attached") && log.contains("is disabled"), "the log was listened to");

    let finds = |needle: &[u8]| places.iter().any(|place| place.windows(needle.len()).any(|window| window == needle));
    assert!(finds(world.show("db").record.fingerprint.as_bytes()), "what is public is found");
    for key in world.kms.data_keys() {
        for half in key.chunks(32) {
            assert!(!finds(&half[..16]), "raw");
            assert!(!finds(&hex(half).as_bytes()[..32]), "hex");
            assert!(!finds(format!("{half:?}").as_bytes()), "as a list of numbers");
        }
    }
}
