//! The domain key: without it, or with another, the store opens nothing, and says why.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};

use envol::kms::embedded::{DomainKeyError, Embedded, OpenError, StoreError};

use crate::world::{World, caller, identity};

fn used() -> World {
    let world = World::new();
    world.open().create_key(&caller(), "", None).expect("made");
    world
}

fn error(world: &World) -> OpenError {
    world.try_open().err().expect("refused")
}

#[test]
fn a_new_domain_key_is_32_bytes_that_only_its_owner_reads() {
    let world = used();
    let facts = fs::metadata(world.domain_key()).expect("made");
    assert_eq!((facts.len(), facts.permissions().mode() & 0o7777), (32, 0o600));
    let left: Vec<_> =
        fs::read_dir(world.place.path()).expect("listed").map(|entry| entry.expect("read").file_name()).collect();
    assert_eq!(left.len(), 2, "nothing but the key and the directory: {left:?}");
}

#[test]
fn a_store_without_its_domain_key_is_refused_and_gets_no_new_one() {
    let world = used();
    fs::remove_file(world.domain_key()).expect("removed");
    assert!(matches!(error(&world), OpenError::DomainKey(DomainKeyError::Missing(_))));
    assert!(!world.domain_key().exists());
}

#[test]
fn a_store_with_another_domain_key_is_refused() {
    let (world, other) = (used(), used());
    fs::copy(other.domain_key(), world.domain_key()).expect("copied");
    assert!(matches!(error(&world), OpenError::Store(StoreError::OtherDomainKey)));
}

#[test]
fn a_domain_key_that_others_may_use_is_refused_with_the_remedy() {
    let world = used();
    for mode in [0o640, 0o604, 0o620, 0o666] {
        fs::set_permissions(world.domain_key(), Permissions::from_mode(mode)).expect("changed");
        let error = error(&world);
        assert!(matches!(error, OpenError::DomainKey(DomainKeyError::Exposed { mode: found, .. }) if found == mode));
        assert!(error.to_string().contains("chmod 0600"));
    }
    fs::set_permissions(world.domain_key(), Permissions::from_mode(0o400)).expect("changed");
    world.open();
}

#[test]
fn a_domain_key_of_another_length_kind_or_owner_is_refused() {
    let world = used();
    let key = fs::read(world.domain_key()).expect("there");
    for length in [0, 31, 33] {
        let bytes: Vec<u8> = key.iter().copied().cycle().take(length).collect();
        fs::write(world.domain_key(), bytes).expect("written");
        assert!(matches!(error(&world), OpenError::DomainKey(DomainKeyError::Length { .. })), "{length} bytes");
    }
    fs::write(world.domain_key(), &key).expect("written");
    world.open();
    let elsewhere = world.place.path().join("elsewhere");
    fs::rename(world.domain_key(), &elsewhere).expect("moved");
    symlink(&elsewhere, world.domain_key()).expect("linked");
    assert!(matches!(error(&world), OpenError::DomainKey(DomainKeyError::File { .. })), "a link is not followed");
    fs::remove_file(world.domain_key()).expect("removed");
    fs::rename(&elsewhere, world.domain_key()).expect("moved back");
    chown(world.domain_key(), Some(12345), None).expect("the tests run as root");
    assert!(matches!(error(&world), OpenError::DomainKey(DomainKeyError::Owner { owner: 12345, .. })));
}

#[test]
fn a_domain_key_in_the_directory_of_the_store_is_refused() {
    let world = World::new();
    let beside = world.dir().join("domain.key");
    let error = Embedded::open(&world.dir(), &beside, identity(), world.clock()).err().expect("refused");
    assert!(matches!(error, OpenError::DomainKey(DomainKeyError::BesideStore(_))));
    assert!(!beside.exists());
}
