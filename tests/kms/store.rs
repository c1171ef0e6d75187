//! The store's file: what is refused at opening, and a disk that is full.

use std::fs;
use std::process::Command;

use envol::kms::embedded::{Embedded, Identity, OpenError, StoreError};
use envol::kms::{KmsError, Principal};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use crate::world::{World, caller, identity, named};

const KEYS: TableDefinition<'static, [u8; 16], &[u8]> = TableDefinition::new("keys");
const TOKENS: TableDefinition<'static, [u8; 48], &[u8]> = TableDefinition::new("tokens");
const MATERIALS: TableDefinition<'static, [u8; 48], [u8; 61]> = TableDefinition::new("materials");
const META: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("meta");

fn used() -> World {
    let world = World::new();
    world.open().create_key(&caller(), "", Some("alias/a")).expect("made");
    world
}

fn change_meta(world: &World, name: &str, value: &[u8]) {
    let database = Database::open(world.dir().join("keys.redb")).expect("opens");
    let transaction = database.begin_write().expect("begun");
    transaction.open_table(META).expect("there").insert(name, value).expect("written");
    transaction.commit().expect("committed");
}

fn error(world: &World) -> StoreError {
    match world.try_open().err().expect("refused") {
        OpenError::Store(error) => error,
        other => panic!("not the store: {other}"),
    }
}

#[test]
fn a_store_of_a_newer_schema_is_refused() {
    let world = used();
    change_meta(&world, "schema", &5u32.to_be_bytes());
    assert!(matches!(error(&world), StoreError::Newer { found: 5 }));
}

#[test]
fn a_store_of_the_schema_without_key_pairs_is_brought_up_to_date() {
    let world = used();
    let none = Default::default();
    let sealed = world.open().encrypt(&caller(), &named("alias/a"), b"text", &none).expect("sealed").wrapped;
    change_meta(&world, "schema", &3u32.to_be_bytes());
    let opened = world.open().decrypt_bytes(&caller(), None, &sealed, &none).expect("its material is there");
    assert_eq!(opened.plaintext.expose(), b"text");
    let database = Database::open(world.dir().join("keys.redb")).expect("opens");
    let meta = database.begin_read().expect("a snapshot").open_table(META).expect("there");
    assert_eq!(meta.get("schema").expect("read").expect("there").value(), 4u32.to_be_bytes());
}

#[test]
fn a_store_of_the_schema_before_policies_is_brought_up_to_date() {
    let world = used();
    let database = Database::open(world.dir().join("keys.redb")).expect("opens");
    let transaction = database.begin_write().expect("begun");
    transaction.delete_table(TableDefinition::<[u8; 16], &[u8]>::new("policies")).expect("deleted");
    transaction.delete_table(TableDefinition::<[u8; 48], &[u8]>::new("grants")).expect("deleted");
    transaction.delete_table(TableDefinition::<[u8; 48], &[u8]>::new("grant index")).expect("deleted");
    transaction.delete_table(TableDefinition::<&str, &[u8]>::new("documents")).expect("deleted");
    transaction.commit().expect("committed");
    drop(database);
    change_meta(&world, "schema", &3u32.to_be_bytes());
    for _ in 0..2 {
        let kms = world.open();
        let (_, policy) = kms.key_policy(&caller(), &named("alias/a"), None).expect("there");
        kms.put_key_policy(&root(), &named("alias/a"), None, (&policy, false)).expect("put");
        kms.put_identities(&root(), "{}").expect("put");
        let sealed =
            kms.encrypt(&caller(), &named("alias/a"), b"text", &Default::default()).expect("its material is there");
        kms.decrypt_bytes(&caller(), None, &sealed.wrapped, &Default::default()).expect("opened");
    }
}

fn root() -> Principal {
    Principal::root("000000000000")
}

#[test]
fn a_store_of_the_first_schema_is_brought_up_to_date() {
    let world = used();
    // The records of the first schema lacked tags, rotation and how a material came to be.
    let database = Database::open(world.dir().join("keys.redb")).expect("opens");
    let transaction = database.begin_write().expect("begun");
    transaction.delete_table(TableDefinition::<&str, &[u8]>::new("access keys")).expect("deleted");
    transaction.delete_table(TableDefinition::<[u8; 16], &[u8]>::new("last uses")).expect("deleted");
    // Its tokens were all of one length, in another table.
    {
        let tokens = transaction.open_table(TOKENS).expect("there");
        let mut materials = transaction.open_table(MATERIALS).expect("made");
        for (place, token) in tokens.iter().expect("read").map(|entry| entry.expect("read")) {
            let token: [u8; 61] = token.value().try_into().expect("of a key that encrypts");
            materials.insert(place.value(), token).expect("written");
        }
    }
    transaction.delete_table(TOKENS).expect("deleted");
    {
        let mut keys = transaction.open_table(KEYS).expect("there");
        let (id, record) =
            keys.first().expect("read").map(|(id, record)| (id.value(), record.value().to_vec())).expect("one");
        let mut record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
        let fields = record.as_object_mut().expect("a record");
        assert!(fields.remove("tags").is_some() && fields.remove("rotation").is_some());
        fields["materials"][0].as_object_mut().expect("a material").remove("by").expect("there");
        keys.insert(id, record.to_string().as_bytes()).expect("written");
    }
    transaction.commit().expect("committed");
    drop(database);
    change_meta(&world, "schema", &1u32.to_be_bytes());
    let kms = world.open();
    assert_eq!(kms.list_keys(&caller()).expect("listed")[0].aliases, ["alias/a"]);
    let sealed =
        kms.encrypt(&caller(), &named("alias/a"), b"text", &Default::default()).expect("its material is there");
    kms.decrypt_bytes(&caller(), None, &sealed.wrapped, &Default::default()).expect("opened");
    kms.create_access_key(&envol::kms::Principal::root("000000000000"), "root").expect("made");
    drop(kms);
    assert_eq!(world.open().list_keys(&caller()).expect("listed").len(), 1);
}

#[test]
fn a_database_of_another_program_is_refused() {
    let world = used();
    change_meta(&world, "format", b"something else");
    assert!(matches!(error(&world), StoreError::Foreign));
    fs::remove_file(world.dir().join("keys.redb")).expect("removed");
    drop(Database::create(world.dir().join("keys.redb")).expect("made"));
    assert!(matches!(error(&world), StoreError::Foreign));
}

#[test]
fn a_store_of_another_account_or_region_is_refused() {
    let world = used();
    let others = [
        Identity { account: "111122223333".to_owned(), ..identity() },
        Identity { region: "eu-west-1".to_owned(), ..identity() },
    ];
    for other in others {
        let opened = Embedded::open(&world.dir(), &world.domain_key(), other, world.clock());
        let refused = opened.err().expect("refused");
        assert!(matches!(refused, OpenError::Store(StoreError::OtherIdentity { .. })));
    }
}

#[test]
fn a_store_that_is_open_is_not_opened_again() {
    let world = used();
    let _open = world.open();
    assert!(matches!(error(&world), StoreError::InUse));
}

#[test]
fn damage_is_found_at_opening_or_does_not_matter() {
    let world = used();
    let path = world.dir().join("keys.redb");
    let whole = fs::read(&path).expect("there");
    let mut refused = 0;
    for at in (0..whole.len()).step_by(509) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&path, bytes).expect("written");
        match world.try_open() {
            Err(_) => refused += 1,
            Ok(kms) => {
                let keys = kms.list_keys(&caller()).expect("listed");
                assert_eq!(keys.len(), 1, "a flip at {at} lost a key");
                assert_eq!(keys[0].aliases, ["alias/a"], "a flip at {at} lost an alias");
            }
        }
    }
    assert!(refused > 0, "some flips must have met what is used");
}

/// A small file system of its own for the store, gone with this value.
struct SmallDisk<'a>(&'a World);

impl<'a> SmallDisk<'a> {
    fn under(world: &'a World) -> Self {
        fs::create_dir(world.dir()).expect("made");
        let disk = Self(world);
        disk.mount(&["-t", "tmpfs", "-o", "size=400k", "none"]);
        disk
    }

    fn grow(&self) {
        self.mount(&["-o", "remount,size=8m"]);
    }

    fn mount(&self, options: &[&str]) {
        let status = Command::new("mount").args(options).arg(self.0.dir()).status().expect("mount runs");
        assert!(status.success(), "the tests run as root");
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.dir()).status();
    }
}

fn is_internal(error: &KmsError) -> bool {
    matches!(error, KmsError::Unreachable(text) if text.contains("KMSInternalException"))
}

#[test]
fn on_a_full_disk_nothing_is_acknowledged_that_is_not_kept() {
    let world = World::new();
    let disk = SmallDisk::under(&world);
    let kms = world.open();
    let mut acknowledged = Vec::new();
    let failure = loop {
        match kms.create_key(&caller(), &"d".repeat(4000), None) {
            Ok(key) => acknowledged.push(key.key_id),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 1000, "the disk must fill up");
    };
    assert!(is_internal(&failure), "{failure}");
    assert!(!acknowledged.is_empty());
    drop(kms);
    disk.grow();
    let keys = world.open().list_keys(&caller()).expect("listed");
    assert!(acknowledged.iter().all(|id| keys.iter().any(|key| key.key_id == *id)));
}

#[test]
fn a_call_whose_audit_line_cannot_be_written_gets_no_answer() {
    let world = World::new();
    let disk = SmallDisk::under(&world);
    let kms = world.open();
    kms.create_key(&caller(), "", None).expect("made");
    let filler = world.dir().join("filler");
    assert!(fs::write(&filler, vec![0; 1 << 20]).is_err(), "the disk is full");
    let answered = (0..100).take_while(|_| kms.list_keys(&caller()).is_ok()).count();
    assert!(answered < 100, "one page of the log has room for a few lines");
    assert!(is_internal(&kms.list_keys(&caller()).expect_err("refused")));
    disk.grow();
    fs::remove_file(filler).expect("removed");
    kms.list_keys(&caller()).expect("listed");
    assert_eq!(world.audit().len(), 1 + answered + 1, "whole lines, and only of calls that were answered");
}
