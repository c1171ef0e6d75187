//! The way down: clients that are in the way, requests in flight, disks that hang or fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use envol::attach::{AttachError, AttachOptions, Caching, Force, LookUp, State};
use envol::block::fault::{Rule, Target};
use envol::block::{BlockDeviceExt, BlockError, Durability};
use envol::units::ByteOffset;
use envol::volume::{Condition, Wanted};
use nix::errno::Errno;

use crate::world::{World, eventually, volume};

#[test]
fn the_scenario_of_a_life() {
    let world = World::new();
    assert_eq!(world.create("db").state, State::Available);
    assert_eq!(world.last_event(), ("createVolume".into(), "available".into(), String::new()));
    let attached = world.attach("db").expect("attached");
    assert_eq!(attached.state, State::InUse);
    assert_eq!((attached.record.condition, attached.record.wanted), (Condition::Dirty, Wanted::Attached));
    assert_eq!(world.last_event(), ("attachVolume".into(), "attached".into(), String::new()));
    world.write("db", 9);
    assert_eq!(world.show("db").attachment.expect("attached").traffic.written_bytes.get(), 8192);
    let detached = world.detach("db").expect("detached");
    assert_eq!((detached.state, detached.record.condition), (State::Available, Condition::Clean));
    assert_eq!(detached.record.wanted, Wanted::Detached);
    assert_eq!(world.last_event(), ("detachVolume".into(), "detached".into(), String::new()));
    world.attach("db").expect("attached again");
    assert_eq!(world.read("db"), [9; 8192]);
    world.detach("db").expect("detached");
    let backing = world.backing("db");
    world.registry().delete(&crate::world::caller(), &volume("db")).expect("deleted");
    assert!(!backing.exists());
    assert_eq!(world.last_event(), ("deleteVolume".into(), "deleted".into(), String::new()));
    assert!(world.registry().list().is_empty());
}

#[test]
fn a_detached_volume_cannot_be_detached() {
    let world = World::new();
    world.create("db");
    for force in [Force::No, Force::Yes] {
        let error = world.registry().detach(&volume("db"), force).expect_err("not attached");
        assert_eq!((error.exit_code(), error.code()), (4, "volume.not_attached"));
    }
}

#[test]
fn a_connected_client_is_named_and_respected_unless_forced() {
    let world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    let closed = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&closed);
    let close = Box::new(move || told.store(true, Ordering::SeqCst));
    let guard = world.attachment("db").client("pid 7, uid 1000".into(), close).expect("counted");
    assert_eq!(world.show("db").attachment.expect("attached").clients, ["pid 7, uid 1000"]);
    let error = world.detach("db").expect_err("in use");
    assert_eq!((error.exit_code(), error.code()), (4, "volume.in_use"));
    assert!(error.to_string().contains("pid 7, uid 1000"));
    assert!(!closed.load(Ordering::SeqCst));
    world.write("db", 1);
    world.registry().detach(&volume("db"), Force::Yes).expect("forced");
    assert!(closed.load(Ordering::SeqCst), "its session is closed");
    drop(guard);
}

#[test]
fn a_client_that_has_just_gone_is_waited_for() {
    let world = World::with(|settings| settings.detach_grace = Duration::from_secs(60));
    world.create("db");
    world.attach("db").expect("attached");
    let guard = world.attachment("db").client("leaving".into(), Box::new(|| ())).expect("counted");
    std::thread::scope(|scope| {
        let detach = scope.spawn(|| world.detach("db"));
        std::thread::sleep(Duration::from_millis(20));
        drop(guard);
        detach.join().expect("no panic").expect("detached within the grace");
    });
}

#[test]
fn requests_in_flight_end_well_and_later_ones_are_refused() {
    let world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    let (attachment, disk) = (world.attachment("db"), world.disk());
    disk.add(Rule::hold(Target::Write));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            assert!(attachment.enter());
            let written = attachment.device().write_at(ByteOffset::ZERO, &mut [3; 4096], Durability::Cached);
            attachment.leave();
            written
        });
        disk.wait_held(1);
        let detach = scope.spawn(|| world.registry().detach(&volume("db"), Force::Yes));
        eventually("draining", || matches!(world.registry().look_up("db"), LookUp::Draining));
        assert!(!attachment.enter(), "no request is let in any more");
        assert!(attachment.client("late".into(), Box::new(|| ())).is_none());
        assert_eq!(world.show("db").state, State::Detaching);
        assert!(!detach.is_finished(), "it waits for the write in flight");
        disk.release();
        writer.join().expect("no panic").expect("the write in flight ends well");
        detach.join().expect("no panic").expect("detached");
    });
    world.attach("db").expect("attached again");
    assert_eq!(world.read("db")[..4096], [3; 4096]);
}

#[test]
fn a_detach_wipes_its_keys_and_gives_the_backing_back_whoever_holds_the_attachment() {
    let world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    let kept = world.attachment("db");
    world.detach("db").expect("detached");
    let read = kept.device().read_at(ByteOffset::ZERO, &mut [0; 512]);
    assert_eq!(read, Err(BlockError::Detached));
    world.attach("db").expect("its backing is free");
    drop(kept);
}

#[test]
fn on_a_disk_that_hangs_the_keys_go_at_the_deadline_and_the_volume_stays_detaching() {
    let world = World::with(|settings| settings.drain_deadline = Duration::from_millis(100));
    world.create("db");
    world.attach("db").expect("attached");
    let (attachment, disk) = (world.attachment("db"), world.disk());
    let closed = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&closed);
    let guard = attachment.client("stuck".into(), Box::new(move || told.store(true, Ordering::SeqCst)));
    disk.add(Rule::hold(Target::Write));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            assert!(attachment.enter());
            let written = attachment.device().write_at(ByteOffset::ZERO, &mut [3; 4096], Durability::Cached);
            attachment.leave();
            written
        });
        disk.wait_held(1);
        let error = world.registry().detach(&volume("db"), Force::Yes).expect_err("the disk hangs");
        assert!(matches!(error, AttachError::StillDetaching(_)), "{error:?}");
        assert_eq!(error.exit_code(), 4);
        assert!(closed.load(Ordering::SeqCst), "the session is closed");
        let (event, result, cause) = world.last_event();
        assert_eq!((event.as_str(), result.as_str(), cause), ("detachVolume", "failed", error.cause()));
        let read = attachment.device().read_at(ByteOffset::new(65536), &mut [0; 512]);
        assert_eq!(read, Err(BlockError::Detached), "the keys are gone");
        for error in [
            world.attach("db").expect_err("still detaching"),
            world.detach("db").expect_err("still detaching"),
            world.registry().delete(&crate::world::caller(), &volume("db")).expect_err("still detaching"),
        ] {
            assert_eq!((error.exit_code(), error.code()), (4, "volume.detaching"));
        }
        disk.release();
        // Carried out or refused for want of keys: either is true to what the client was told, which is nothing.
        let _ = writer.join().expect("no panic");
    });
    drop(guard);
    eventually("the last call has returned", || world.show("db").state == State::Available);
    assert_eq!(world.last_event(), ("detachVolume".into(), "detached".into(), String::new()));
    let ends = world.events().iter().filter(|event| event["detail"]["event"] == "detachVolume").count();
    assert_eq!(ends, 2, "the missed deadline is told once, and the end");
    world.attach("db").expect("free again");
}

#[test]
fn a_flush_that_hangs_keeps_no_key_either() {
    let world = World::with(|settings| settings.drain_deadline = Duration::from_millis(100));
    world.create("db");
    world.attach("db").expect("attached");
    let (attachment, disk) = (world.attachment("db"), world.disk());
    disk.add(Rule::hold(Target::Flush));
    let error = world.detach("db").expect_err("the disk hangs");
    assert_eq!(error.code(), "volume.detaching");
    assert_eq!(attachment.device().read_at(ByteOffset::ZERO, &mut [0; 512]), Err(BlockError::Detached));
    disk.release();
    eventually("the flush has returned", || world.show("db").state == State::Available);
}

#[test]
fn after_a_failed_flush_the_volume_is_detached_and_marked() {
    let world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    world.disk().add(Rule::always(Target::Flush, Errno::EIO));
    let error = world.detach("db").expect_err("the flush failed");
    assert_eq!((error.exit_code(), error.code()), (8, "storage.flush_failed"));
    let view = world.show("db");
    assert_eq!((view.state, view.record.condition), (State::Error, Condition::Failed));
    assert_eq!(view.record.wanted, Wanted::Detached);
    assert_eq!(world.last_event().1, "failed");
    world.attach("db").expect("the next attach forgets what was never written, and serves");
    assert_eq!(world.show("db").record.condition, Condition::Dirty);
}

#[test]
fn a_failed_sync_is_in_the_record_while_the_volume_is_still_attached() {
    let mut world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    world.disk().add(Rule::nth(Target::Sync, 1, Errno::EIO));
    let attachment = world.attachment("db");
    assert!(attachment.enter());
    let device = attachment.device();
    device.flush().expect_err("the sync fails");
    let poisoned = device.write_at(ByteOffset::ZERO, &mut [1; 512], Durability::Cached);
    assert_eq!(poisoned, Err(BlockError::Poisoned));
    device.read_at(ByteOffset::ZERO, &mut [0; 512]).expect("reads go on");
    attachment.leave();
    assert_eq!(world.show("db").state, State::Error);
    eventually("recorded", || world.show("db").record.condition == Condition::Failed);
    drop(attachment);
    world.restart();
    assert_eq!(world.show("db").record.condition, Condition::Failed);
}

#[test]
fn a_stop_of_the_daemon_detaches_everything_and_remembers_what_was_wanted() {
    let mut world = World::new();
    for name in ["one", "two", "three"] {
        world.create(name);
    }
    world.attach("one").expect("attached");
    world.attach("two").expect("attached");
    let guard = world.attachment("two").client("busy".into(), Box::new(|| ())).expect("counted");
    world.registry().shut_down(Instant::now() + Duration::from_secs(10));
    assert!(world.registry().attached().is_empty());
    let error = world.attach("three").expect_err("the daemon stops");
    assert_eq!((error.exit_code(), error.code()), (4, "daemon.stopping"));
    drop(guard);
    world.restart();
    let wanted = |name: &str| world.show(name).record.wanted;
    assert_eq!([wanted("one"), wanted("two"), wanted("three")], [Wanted::Attached, Wanted::Attached, Wanted::Detached]);
    assert_eq!(world.show("one").record.condition, Condition::Clean);
}

#[test]
fn a_stop_ends_by_its_deadline_although_a_disk_hangs() {
    let world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    let (attachment, disk) = (world.attachment("db"), world.disk());
    disk.add(Rule::hold(Target::Flush));
    world.registry().shut_down(Instant::now() + Duration::from_millis(400));
    assert_eq!(attachment.device().read_at(ByteOffset::ZERO, &mut [0; 512]), Err(BlockError::Detached));
    disk.release();
}

#[test]
fn read_only_writes_nothing_and_is_remembered() {
    let mut world = World::new();
    world.create("db");
    let options = AttachOptions { read_only: true, ..crate::world::WRITABLE };
    let backing = world.backing("db");
    let before = std::fs::read(&backing).expect("readable");
    let view = world.registry().attach(&crate::world::caller(), &volume("db"), options).expect("attached");
    assert!(view.attachment.expect("attached").read_only);
    let attachment = world.attachment("db");
    let written = attachment.device().write_at(ByteOffset::ZERO, &mut [1; 512], Durability::Cached);
    assert_eq!(written, Err(BlockError::ReadOnly));
    drop(attachment);
    world.restart();
    world.registry().reattach_wanted();
    eventually("attached again", || world.is_attached("db"));
    assert!(world.show("db").attachment.expect("attached").read_only);
    world.detach("db").expect("detached");
    assert_eq!(std::fs::read(&backing).expect("readable"), before);
}

#[test]
fn around_the_page_cache_is_remembered_until_it_is_attached_otherwise() {
    let mut world = World::new();
    world.create("db");
    let options = AttachOptions { caching: Caching::Direct, ..crate::world::WRITABLE };
    let attached = |world: &World| world.show("db").attachment.expect("attached").caching;
    world.registry().attach(&crate::world::caller(), &volume("db"), options).expect("attached");
    assert_eq!(attached(&world), Caching::Direct);
    world.write("db", 7);
    world.restart();
    world.registry().reattach_wanted();
    eventually("attached again", || world.is_attached("db"));
    assert_eq!((attached(&world), world.read("db")), (Caching::Direct, vec![7; 8192]));
    world.detach("db").expect("detached");
    world.attach("db").expect("attached");
    assert_eq!((attached(&world), world.read("db")), (Caching::PageCache, vec![7; 8192]));
}
