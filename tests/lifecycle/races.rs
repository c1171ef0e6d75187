//! Callers at once: one wins, the others are told a typed conflict, nothing is left half done.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use envol::attach::{AttachError, Force, State, VolumeView};
use envol::block::fault::{Rule, Target};

use crate::script::Act;
use crate::world::{World, caller, eventually, request, volume};

/// Runs `act` on `threads` threads at once.
fn at_once<T: Send>(threads: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(threads);
    std::thread::scope(|scope| {
        let run = |number| {
            let (start, act) = (&start, &act);
            scope.spawn(move || {
                start.wait();
                act(number)
            })
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

fn assert_conflicts(outcomes: &[Result<VolumeView, AttachError>]) {
    for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
        assert_eq!(error.exit_code(), 4, "{error:?}");
    }
}

#[test]
fn of_many_attaches_one_wins() {
    let world = World::new();
    world.create("db");
    for _ in 0..10 {
        let before = world.kms.decrypts();
        let outcomes = at_once(8, |_| world.attach("db"));
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        assert_conflicts(&outcomes);
        assert_eq!(world.kms.decrypts() - before, 1, "the losers ask no KMS");
        world.detach("db").expect("detached");
    }
}

#[test]
fn of_many_creates_of_one_name_one_wins_and_the_losers_leave_no_file() {
    let world = World::new();
    let outcomes = at_once(8, |_| world.create_as(request("db")));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_conflicts(&outcomes);
    assert_eq!(world.kms.generates(), 1);
    let files = std::fs::read_dir(world.settings.state_dir.join("volumes")).expect("readable");
    assert_eq!(files.count(), 1);
}

#[test]
fn attaches_and_detaches_in_any_order_leave_a_volume_that_works() {
    let world = World::new();
    world.create("db");
    let (attached, detached) = (AtomicUsize::new(0), AtomicUsize::new(0));
    at_once(6, |number| {
        for round in 0..25 {
            let outcome = if (number + round) % 2 == 0 { world.attach("db") } else { world.detach("db") };
            match outcome {
                Ok(_) if (number + round) % 2 == 0 => attached.fetch_add(1, Ordering::Relaxed),
                Ok(_) => detached.fetch_add(1, Ordering::Relaxed),
                Err(error) => {
                    assert_eq!(error.exit_code(), 4, "{error:?}");
                    0
                }
            };
        }
    });
    let attached_now = usize::from(world.is_attached("db"));
    assert!(attached.load(Ordering::Relaxed) <= detached.load(Ordering::Relaxed) + attached_now);
    if attached_now == 0 {
        world.attach("db").expect("attached");
    }
    world.write("db", 6);
    world.detach("db").expect("detached");
    assert_eq!(world.show("db").state, State::Available);
}

/// Two detaches at once of a volume with a request in flight: how they ended.
fn two_detaches(world: &World, fails: bool) -> [Option<&'static str>; 2] {
    world.attach("db").expect("attached");
    if fails {
        world.disk().add(Rule::always(Target::Flush, nix::errno::Errno::EIO));
    }
    let attachment = world.attachment("db");
    assert!(attachment.enter());
    std::thread::scope(|scope| {
        let first = scope.spawn(|| world.detach("db"));
        eventually("draining", || world.show("db").state == State::Detaching);
        let second = scope.spawn(|| world.registry().detach(&volume("db"), Force::Yes));
        let attach = world.attach("db").expect_err("draining");
        assert_eq!((attach.exit_code(), attach.code()), (4, "volume.detaching"));
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(!first.is_finished() && !second.is_finished());
        attachment.leave();
        [first, second].map(|thread| thread.join().expect("no panic").err().map(|error| error.code()))
    })
}

#[test]
fn a_second_detach_waits_and_reports_the_firsts_result() {
    let world = World::new();
    world.create("db");
    for (fails, expected) in [(false, None), (true, Some("storage.flush_failed"))] {
        // A second one that came too late found the volume detached already, and says nothing about this.
        let rounds = (0..50).map(|_| two_detaches(&world, fails));
        let [first, second] =
            rounds.into_iter().find(|[_, second]| *second != Some("volume.not_attached")).expect("one came in time");
        assert_eq!([first, second], [expected; 2]);
        assert_eq!(world.detach("db").expect_err("not attached any more").code(), "volume.not_attached");
    }
}

#[test]
fn what_is_attached_is_neither_deleted_nor_forgotten_nor_filled() {
    let world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    let registry = world.registry();
    let conflicts = [
        registry.delete(&caller(), &volume("db")).expect_err("attached"),
        registry.forget(&volume("db")).expect_err("attached"),
        registry.fill(&caller(), &volume("db"), &mut |_, _| true).expect_err("attached"),
        world.attach("db").expect_err("attached"),
    ];
    for error in conflicts {
        assert_eq!((error.exit_code(), error.code()), (4, "volume.attached"));
    }
    world.write("db", 1);
}

#[test]
fn a_volume_that_is_being_attached_is_nobody_elses() {
    let world = World::new();
    world.create("db");
    world.kms.next([Act::Hang]);
    std::thread::scope(|scope| {
        let attach = scope.spawn(|| world.attach("db"));
        world.kms.wait_inside(1);
        assert_eq!(world.show("db").state, State::Attaching);
        let registry = world.registry();
        let conflicts = [
            world.attach("db").expect_err("busy"),
            world.detach("db").expect_err("busy"),
            registry.delete(&caller(), &volume("db")).expect_err("busy"),
            registry.rehearse(&caller(), &volume("db"), crate::world::WRITABLE).expect_err("busy"),
        ];
        for error in conflicts {
            assert_eq!((error.exit_code(), error.code()), (4, "volume.busy"));
        }
        world.kms.release();
        attach.join().expect("no panic").expect("attached");
    });
}

#[test]
fn of_an_attach_and_a_delete_one_wins() {
    let world = World::new();
    for round in 0..20 {
        let name = format!("v{round}");
        world.create(&name);
        let outcomes = at_once(2, |number| match number {
            0 => world.attach(&name).map(drop),
            _ => world.registry().delete(&caller(), &volume(&name)),
        });
        let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(won, 1, "{outcomes:?}");
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert!([3, 4].contains(&error.exit_code()), "{error:?}");
        }
    }
}

#[test]
fn a_crowd_of_volumes_comes_and_goes_at_once() {
    let world = World::new();
    at_once(6, |number| {
        let name = format!("v{number}");
        world.create(&name);
        for round in 0..5_u8 {
            world.attach(&name).expect("nobody else wants it");
            world.write(&name, round);
            assert_eq!(world.read(&name), [round; 8192]);
            world.detach(&name).expect("detached");
        }
        world.registry().delete(&caller(), &volume(&name)).expect("deleted");
    });
    assert!(world.registry().list().is_empty());
}
