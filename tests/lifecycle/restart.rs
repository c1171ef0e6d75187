//! The daemon dies or stops in every state of a volume, and comes back.

use std::time::{Duration, Instant};

use envol::attach::{LookUp, State};
use envol::volume::{Condition, Wanted};

use crate::script::{Act, refusal, unreachable};
use crate::world::{World, eventually, request};

#[test]
fn what_was_attached_is_attached_again_through_the_kms() {
    let mut world = World::new();
    world.create("db");
    world.create("idle");
    world.attach("db").expect("attached");
    world.write("db", 4);
    world.restart();
    assert_eq!(world.show("db").record.condition, Condition::Dirty, "nobody detached it in order");
    let before = world.kms.decrypts();
    world.registry().reattach_wanted();
    eventually("attached again", || world.is_attached("db"));
    assert_eq!(world.kms.decrypts() - before, 1);
    assert_eq!(world.read("db"), [4; 8192]);
    eventually("told", || world.last_event() == ("reattachVolume".into(), "attached".into(), String::new()));
    assert!(!world.is_attached("idle"));
}

#[test]
fn what_the_kms_refuses_stays_detached_with_its_cause() {
    let mut world = World::with(|settings| settings.dead_connection_window = Duration::ZERO);
    world.create("db");
    world.create("fine");
    world.attach("db").expect("attached");
    world.restart();
    world.kms.next([refusal("DisabledException", "the key is disabled.")]);
    world.registry().reattach_wanted();
    eventually("refused", || world.show("db").last_refusal.is_some() && world.show("db").state == State::Available);
    let told = world.show("db").last_refusal.expect("noted");
    assert_eq!((told.cause.as_str(), told.retrying), ("the key is disabled.", false));
    eventually("told", || {
        world.last_event() == ("reattachVolume".into(), "failed".into(), "the key is disabled.".into())
    });
    assert!(matches!(world.registry().look_up("db"), LookUp::Refused(refusal) if refusal == told));
    let before = world.kms.decrypts();
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(world.kms.decrypts(), before, "it is not asked again");
    assert_eq!(world.show("db").record.wanted, Wanted::Attached);
    world.attach("db").expect("enabled again, the next attach works");
}

#[test]
fn what_the_kms_does_not_answer_is_tried_again_until_it_does() {
    let mut world = World::with(|settings| settings.attach_deadline = Duration::from_millis(200));
    world.create("db");
    world.attach("db").expect("attached");
    world.restart();
    world.kms.always(unreachable());
    world.registry().reattach_wanted();
    eventually("shown as retrying", || world.show("db").last_refusal.is_some_and(|refusal| refusal.retrying));
    assert!(matches!(world.registry().look_up("db"), LookUp::DeadConnectionWindow));
    world.kms.always(Act::Answer);
    eventually("attached again", || world.is_attached("db"));
    assert_eq!(world.show("db").last_refusal, None);
    let tries = world.events().iter().filter(|event| event["detail"]["event"] == "reattachVolume").count();
    assert!((1..=2).contains(&tries), "one failure and one success, however often it was tried: {tries}");
}

#[test]
fn one_kms_that_never_answers_delays_no_volume_of_another() {
    let mut world = World::new();
    for number in 0..12 {
        world.create(&format!("good{number}"));
        let mut slow = request(&format!("slow{number}"));
        slow.kms = Some("other".into());
        world.create_as(slow).expect("created");
    }
    for view in world.registry().list() {
        world.attach(view.record.name.as_str()).expect("attached");
    }
    world.restart();
    world.other.always(Act::Hang);
    let start = Instant::now();
    world.registry().reattach_wanted();
    eventually("the others are up", || world.registry().attached().len() == 12);
    let took = start.elapsed();
    assert!(took < Duration::from_secs(2), "{took:?}");
    assert!(!world.is_attached("slow0"));
    world.other.always(Act::Answer);
    world.other.release();
    eventually("the slow ones too", || world.registry().attached().len() == 24);
}

#[test]
fn a_volume_that_is_being_retried_can_be_let_go() {
    let mut world = World::with(|settings| {
        settings.attach_deadline = Duration::from_millis(100);
        settings.dead_connection_window = Duration::ZERO;
    });
    world.create("db");
    world.attach("db").expect("attached");
    world.restart();
    world.kms.always(unreachable());
    world.registry().reattach_wanted();
    eventually("refused once", || world.show("db").last_refusal.is_some());
    eventually("let go between two tries", || world.detach("db").is_ok());
    assert_eq!(world.show("db").record.wanted, Wanted::Detached);
    assert_eq!(world.detach("db").expect_err("it is not attached").code(), "volume.not_attached");
    world.kms.always(Act::Answer);
    std::thread::sleep(Duration::from_millis(700));
    assert!(!world.is_attached("db"));
    assert!(matches!(world.registry().look_up("db"), LookUp::Unknown));
}

#[test]
fn a_volume_whose_kms_never_answers_can_be_let_go_meanwhile() {
    let mut world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    world.restart();
    world.kms.next([Act::Hang]);
    world.registry().reattach_wanted();
    world.kms.wait_inside(1);
    world.detach("db").expect("let go, although a try is under way");
    assert_eq!(world.show("db").record.wanted, Wanted::Detached);
    assert_eq!(world.detach("db").expect_err("it was let go").code(), "volume.not_attached");
    world.kms.release();
    eventually("the try has ended", || world.show("db").state == State::Available);
    assert!(!world.is_attached("db"), "the late answer attaches nothing");
    assert_eq!(world.show("db").record.wanted, Wanted::Detached);
    assert!(world.show("db").last_refusal.is_none());
    world.attach("db").expect("free for whoever wants it");
}

#[test]
fn nobody_is_told_that_an_operators_failed_attach_is_retried() {
    let mut world = World::with(|settings| settings.attach_deadline = Duration::from_millis(100));
    world.create("db");
    world.attach("db").expect("attached");
    world.restart();
    world.kms.always(unreachable());
    world.attach("db").expect_err("no KMS");
    assert!(!world.show("db").last_refusal.expect("it failed").retrying, "nothing tries again");
}

#[test]
fn a_crash_while_attaching_leaves_a_volume_that_attaches() {
    let mut world = World::with(|settings| settings.attach_deadline = Duration::from_millis(100));
    world.create("db");
    world.kms.next([Act::Hang]);
    world.attach("db").expect_err("no answer");
    world.kms.release();
    world.restart();
    assert_eq!((world.show("db").state, world.show("db").record.wanted), (State::Available, Wanted::Detached));
    world.attach("db").expect("attached");
}

#[test]
fn a_crash_while_creating_leaves_no_volume_behind() {
    let mut world = World::with(|settings| settings.attach_deadline = Duration::from_millis(100));
    world.kms.next([Act::Hang]);
    world.create_as(request("db")).expect_err("no answer");
    world.kms.release();
    world.restart();
    assert!(world.registry().list().is_empty());
    world.create("db");
}

#[test]
fn a_backing_that_is_gone_is_an_error_and_hides_no_other() {
    let mut world = World::new();
    world.create("db");
    world.create("fine");
    for name in ["db", "fine"] {
        world.attach(name).expect("attached");
    }
    let backing = world.backing("db");
    world.crash();
    std::fs::remove_file(backing).expect("removed");
    world.start();
    world.registry().reattach_wanted();
    eventually("the other is up", || world.is_attached("fine"));
    eventually("refused", || world.show("db").last_refusal.is_some());
    assert_eq!(world.show("db").state, State::Error);
    let error = world.attach("db").expect_err("gone");
    assert_eq!((error.exit_code(), error.code()), (8, "backing.missing"));
    world.registry().delete(&crate::world::caller(), &crate::world::volume("db")).expect("there is nothing to destroy");
}

#[test]
fn a_wish_kept_over_many_restarts_is_still_a_wish() {
    let mut world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    for byte in 0..5 {
        world.write("db", byte);
        if byte % 2 == 0 {
            world.registry().shut_down(Instant::now() + Duration::from_secs(10));
        }
        world.restart();
        world.registry().reattach_wanted();
        eventually("attached again", || world.is_attached("db"));
        assert_eq!(world.read("db"), [byte; 8192]);
    }
}
