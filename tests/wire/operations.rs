//! Every operation that is served, by boto3; every response is valid by the service model.

use std::collections::BTreeSet;

use crate::support::python_has;
use crate::world::World;

#[test]
fn every_operation_does_what_its_users_know_and_answers_by_the_model() {
    if !python_has(&["boto3"]) {
        return;
    }
    let world = World::new();
    let printed = world.script("operations.py");
    let succeeded: BTreeSet<String> = serde_json::from_str(&printed).expect("names");
    let served: BTreeSet<String> = envol::kms::wire::served().map(str::to_owned).collect();
    assert_eq!(succeeded, served, "every operation was tried, and succeeded at least once");
}

#[test]
fn every_operation_in_every_state_does_what_the_table_says() {
    if !python_has(&["boto3"]) {
        return;
    }
    let world = World::new();
    world.script("matrix.py");
}

#[test]
fn what_is_made_over_the_wire_outlives_the_daemon() {
    if !python_has(&["boto3"]) {
        return;
    }
    let mut world = World::new();
    world.script("before.py");
    world.daemon.kill();
    world.daemon.run();
    world.endpoint = world.daemon.json(["status"])["kms_endpoints"][0].as_str().expect("an endpoint").to_owned();
    world.script("after.py");
}
