//! What an NBD client is told of a name, by the volume's state.

use std::time::Duration;

use envol::attach::{LookUp, Registry};

use crate::script::{Act, refusal, unreachable};
use crate::world::{World, eventually};

fn told(registry: &Registry, name: &str) -> &'static str {
    match registry.look_up(name) {
        LookUp::Attached(_) => "attached",
        LookUp::Unknown => "unknown",
        LookUp::Draining => "draining",
        LookUp::Refused(_) => "refused",
        LookUp::DeadConnectionWindow => "window",
    }
}

#[test]
fn each_state_has_its_answer_and_none_asks_the_kms() {
    let world = World::new();
    let id = world.create("db").record.id;
    let registry = world.registry();
    for name in ["nobody", "", "../x", "vol-00000000000000000", "db"] {
        assert_eq!(told(registry, name), "unknown", "{name:?}");
    }
    world.attach("db").expect("attached");
    assert_eq!((told(registry, "db"), told(registry, id.as_str())), ("attached", "attached"));
    let attachment = world.attachment("db");
    assert!(attachment.enter());
    std::thread::scope(|scope| {
        let detach = scope.spawn(|| world.detach("db"));
        eventually("draining", || told(registry, "db") == "draining");
        attachment.leave();
        detach.join().expect("no panic").expect("detached");
    });
    assert_eq!(told(registry, "db"), "unknown");
    world.kms.next([refusal("DisabledException", "it is disabled.")]);
    world.attach("db").expect_err("refused");
    let before = world.kms.decrypts();
    let LookUp::Refused(why) = registry.look_up("db") else { panic!("it was refused") };
    assert_eq!((why.cause.as_str(), why.kms_exception.as_deref()), ("it is disabled.", Some("DisabledException")));
    assert_eq!(world.kms.decrypts(), before);
}

#[test]
fn the_next_attempt_clears_a_refusal() {
    let world = World::new();
    world.create("db");
    world.kms.next([refusal("DisabledException", "it is disabled."), Act::Hang]);
    world.attach("db").expect_err("refused");
    std::thread::scope(|scope| {
        let attach = scope.spawn(|| world.attach("db"));
        world.kms.wait_inside(1);
        assert_eq!(told(world.registry(), "db"), "unknown");
        world.kms.release();
        attach.join().expect("no panic").expect("attached");
    });
    world.detach("db").expect("detached");
    assert_eq!(told(world.registry(), "db"), "unknown", "merely not attached");
}

#[test]
fn within_the_window_after_a_restart_a_client_may_still_be_waiting() {
    let mut world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    world.restart();
    let registry = world.registry().clone();
    assert_eq!(told(&registry, "db"), "window", "before the first try");
    world.kms.next([Act::Hang, refusal("DisabledException", "it is disabled.")]);
    registry.reattach_wanted();
    world.kms.wait_inside(1);
    assert_eq!(told(&registry, "db"), "window", "during it");
    world.kms.release();
    eventually("attached again", || told(&registry, "db") == "attached");
}

#[test]
fn an_operators_attempt_ends_the_window_with_its_own_result() {
    let mut world = World::new();
    world.create("db");
    world.attach("db").expect("attached");
    world.restart();
    world.kms.next([refusal("DisabledException", "it is disabled.")]);
    world.registry().reattach_wanted();
    eventually("refused", || world.show("db").last_refusal.is_some());
    assert_eq!(told(world.registry(), "db"), "window", "the restart's refusal is not told yet");
    world.kms.next([refusal("DisabledException", "still disabled.")]);
    eventually("tried by hand", || world.attach("db").is_err_and(|error| error.exit_code() == 5));
    assert!(matches!(world.registry().look_up("db"), LookUp::Refused(why) if why.cause == "still disabled."));
}

#[test]
fn after_the_window_the_refusal_is_told() {
    let mut world = World::with(|settings| {
        settings.dead_connection_window = Duration::from_millis(100);
        settings.attach_deadline = Duration::from_millis(50);
    });
    world.create("db");
    eventually("attached", || world.attach("db").is_ok());
    world.restart();
    world.kms.always(unreachable());
    world.registry().reattach_wanted();
    eventually(
        "told, while it is being retried",
        || matches!(world.registry().look_up("db"), LookUp::Refused(why) if why.retrying),
    );
}
