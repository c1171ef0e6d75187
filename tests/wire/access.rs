//! Who may use which key, by boto3.

use crate::support::python_has;
use crate::world::World;

#[test]
fn policies_grants_and_sessions_decide_who_may_use_a_key() {
    if !python_has(&["boto3"]) {
        return;
    }
    let world = World::new();
    world.script("access.py");
    let log = world.daemon.log();
    assert!(!log.contains(&world.key.1), "{log}");
}
