//! What may happen to a volume at once: attaches, detaches, forced ones, clients, a disk that hangs, the end of the daemon.

use std::sync::atomic::Ordering;

use envol::attach::{AttachError, Force, State};
use envol::block::BlockError;
use shuttle::sync::Arc;
use shuttle::thread;

use crate::world::{Client, Manners, World};
use crate::{break_down, hold};

/// An attach that was refused was refused for a reason that can be here.
fn may_be_refused(outcome: Result<(), AttachError>) {
    if let Err(error) = outcome {
        let expected = [4, 6, 8];
        assert!(expected.contains(&error.exit_code()), "{error:?} {}", error.exit_code());
    }
}

/// The volume still works, and holds what its clients were promised.
fn works(world: &World, clients: &[Client]) {
    world.detach_in_the_end();
    world.attach_in_the_end();
    clients.iter().for_each(Client::check);
    world.detach_in_the_end();
    assert_eq!(world.state(), State::Available);
    assert_eq!(world.disk.inside.load(Ordering::SeqCst), 0, "nobody is in the disk of a volume that is detached");
}

fn attach_detach_and_io(manners: Manners) {
    let world = World::new();
    world.attach_in_the_end();
    let clients = [0, 1].map(|piece| Client::new(&world, piece, manners));
    thread::scope(|scope| {
        clients.iter().for_each(|client| drop(scope.spawn(|| client.visit())));
        scope.spawn(|| may_be_refused(world.detach(Force::Yes)));
        scope.spawn(|| {
            may_be_refused(world.detach(Force::No));
            may_be_refused(world.attach());
        });
    });
    works(&world, &clients);
    world.check_cuts();
}

#[test]
fn clients_attaches_and_detaches_at_once_lose_nothing() {
    hold(|| attach_detach_and_io(Manners::Counted));
}

/// What gives a request away that nobody waited for: the disk is gone, or the keys, or a detach in order leaves it inside.
const UNCOUNTED: [&str; 3] =
    ["nothing else is wrong", "a request found the keys wiped", "detached in order, with a write in the disk"];

#[test]
fn a_client_that_goes_around_the_gate_is_found() {
    break_down(&UNCOUNTED, || attach_detach_and_io(Manners::Uncounted));
}

/// A disk that keeps a client's write while the volume is detached by force; `release` says when it gives it back.
fn forced_detach(manners: Manners) {
    let world = World::new();
    world.attach_in_the_end();
    let attachment = world.attachment().expect("attached");
    let client = Client::new(&world, 0, manners);
    world.disk.hang();
    thread::scope(|scope| {
        scope.spawn(|| client.visit());
        scope.spawn(|| {
            let outcome = world.detach(Force::Yes);
            let held = world.disk.held.load(Ordering::SeqCst);
            if matches!(outcome, Err(AttachError::StillDetaching(_))) {
                // Keys and sessions have gone, whatever the disk does, and nobody else gets the volume.
                assert_eq!(World::read_by(&attachment), Err(BlockError::Detached));
                assert!(!held || world.state() == State::Detaching, "the disk has not answered yet");
                assert!(world.attach().is_err() || !held, "the disk has not answered yet");
            } else {
                assert!(!held, "detached in order, with a write in the disk: {outcome:?}");
            }
            world.disk.release();
        });
    });
    works(&world, &[client]);
}

#[test]
fn a_forced_detach_ends_by_its_deadline_and_the_volume_is_free_when_the_disk_has_answered() {
    hold(|| forced_detach(Manners::Counted));
}

#[test]
fn a_write_that_a_forced_detach_does_not_know_of_is_found() {
    break_down(&UNCOUNTED, || forced_detach(Manners::Uncounted));
}

fn the_end_of_the_daemon(manners: Manners) {
    let world = World::new();
    world.attach_in_the_end();
    let clients = [0, 1].map(|piece| Client::new(&world, piece, manners));
    thread::scope(|scope| {
        clients.iter().for_each(|client| drop(scope.spawn(|| client.visit())));
        scope.spawn(|| may_be_refused(world.detach(Force::No)));
        scope.spawn(|| may_be_refused(world.attach()));
        scope.spawn(|| {
            world.shut_down();
            assert!(world.attachment().is_none(), "nothing is attached any more");
        });
    });
    assert!(world.attachment().is_none(), "nothing is attached after the end");
    assert!(matches!(world.attach(), Err(AttachError::Stopping)));
    while world.state() == State::Detaching {
        thread::yield_now();
    }
    assert_eq!(world.disk.inside.load(Ordering::SeqCst), 0, "nobody is in the disk of a volume that is detached");
    // Whoever was cut off was so by a stop or a detach that was out of time.
    assert!(!world.cut_off.load(Ordering::SeqCst) || world.has_been_stuck(), "a request found the keys wiped");
}

#[test]
fn the_end_of_the_daemon_leaves_nothing_attached() {
    hold(|| the_end_of_the_daemon(Manners::Counted));
}

#[test]
fn a_client_that_the_end_of_the_daemon_does_not_know_of_is_found() {
    break_down(&UNCOUNTED, || the_end_of_the_daemon(Manners::Uncounted));
}

/// Two detaches of a volume whose sync fails, or does not: both report the same end, unless one was out of time or too late.
fn two_detaches() {
    let world = World::new();
    world.attach_in_the_end();
    let client = Client::new(&world, 0, Manners::Counted);
    let outcomes = [0, 1].map(|_| Arc::new(std::sync::Mutex::new(None)));
    thread::scope(|scope| {
        scope.spawn(|| client.visit());
        for outcome in &outcomes {
            scope.spawn(|| *outcome.lock().expect("no panic") = Some(world.detach(Force::Yes)));
        }
    });
    let codes = outcomes.map(|outcome| {
        let outcome = outcome.lock().expect("no panic").take().expect("it has ended");
        outcome.err().map(|error| error.code())
    });
    let late = Some("volume.not_attached");
    assert!(codes.iter().any(|code| *code != late), "somebody has detached it: {codes:?}");
    assert!(codes[0] == codes[1] || codes.contains(&late), "{codes:?}");
    works(&world, &[client]);
    world.check_cuts();
}

#[test]
fn two_detaches_report_one_end() {
    hold(two_detaches);
}
