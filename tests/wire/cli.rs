//! The unmodified `aws` CLI: what it prints, and a key disabled with it under an attached volume.

use std::process::Command;

use serde_json::Value;

use crate::support::{have, must, must_fail};
use crate::world::{World, aws};

fn answered(command: &mut Command) -> Value {
    serde_json::from_str(&must(command)).expect("JSON")
}

#[test]
fn a_key_disabled_by_the_aws_cli_lets_the_volume_be_and_stops_its_next_attach() {
    if !have(&[&aws()]) {
        return;
    }
    let world = World::new();
    let made = answered(&mut world.aws(&["create-key", "--description", "volumes"]));
    let (key, arn) = (&made["KeyMetadata"]["KeyId"], made["KeyMetadata"]["Arn"].as_str().expect("an ARN"));
    let key = key.as_str().expect("an id");
    assert_eq!(must(&mut world.aws(&["create-alias", "--alias-name", "alias/db", "--target-key-id", key])), "");
    world.daemon.json(["volume", "create", "db", "--size", "8M", "--key", "alias/db"]);
    world.daemon.attach("db");

    assert_eq!(must(&mut world.aws(&["disable-key", "--key-id", key])), "");
    assert_eq!(world.daemon.json(["volume", "show", "db"])["state"], "in-use", "the attached volume does not notice");
    world.daemon.detach("db");
    let refused = world.daemon.refused(5, ["attach", "db"]);
    assert_eq!(refused["kms_exception"], "DisabledException");
    let message = refused["message"].as_str().expect("a message");
    assert!(message.contains("DisabledException") && message.contains(&format!("{arn} is disabled.")), "{message}");

    assert_eq!(must(&mut world.aws(&["enable-key", "--key-id", key])), "");
    world.daemon.attach("db");
    world.daemon.detach("db");
    must(&mut world.aws(&["schedule-key-deletion", "--key-id", key, "--pending-window-in-days", "7"]));
    let refused = world.daemon.refused(5, ["attach", "db"]);
    assert_eq!(refused["kms_exception"], "KMSInvalidStateException");
    assert!(refused["message"].as_str().is_some_and(|text| text.contains("is pending deletion.")), "{refused}");
}

#[test]
fn the_aws_cli_prints_what_it_prints_of_aws() {
    if !have(&[&aws()]) {
        return;
    }
    let world = World::new();
    let made = answered(&mut world.aws(&["create-key", "--tags", "TagKey=Env,TagValue=Test"]));
    let key = made["KeyMetadata"]["KeyId"].as_str().expect("an id");
    let place = world.daemon.path().join("blob");
    let query = ["--query", "CiphertextBlob", "--output", "text"];
    let words = ["encrypt", "--key-id", key, "--plaintext", "text", "--encryption-context", "a=b"];
    let blob = must(&mut world.aws(&[&words[..], &query].concat()));
    std::fs::write(&place, base64(blob.trim())).expect("written");
    let blob = format!("fileb://{}", place.display());
    let opened = answered(&mut world.aws(&["decrypt", "--ciphertext-blob", &blob, "--encryption-context", "a=b"]));
    assert_eq!(opened["Plaintext"], "dGV4dA==");
    for (words, expected) in [
        (
            ["decrypt", "--ciphertext-blob", &blob, "--encryption-context", "a=c"],
            "An error occurred (InvalidCiphertextException) when calling the Decrypt operation: ".to_owned(),
        ),
        (
            ["describe-key", "--key-id", "alias/none", "--output", "json"],
            "An error occurred (NotFoundException) when calling the DescribeKey operation: Alias \
             arn:aws:kms:us-east-1:000000000000:alias/none is not found."
                .to_owned(),
        ),
        (
            ["cancel-key-deletion", "--key-id", key, "--output", "json"],
            format!(
                "An error occurred (KMSInvalidStateException) when calling the CancelKeyDeletion operation: \
                 arn:aws:kms:us-east-1:000000000000:key/{key} is not pending deletion."
            ),
        ),
    ] {
        let said = must_fail(&mut world.aws(&words));
        assert!(said.contains(expected.trim_end()), "{said}");
    }
    let listed = must(&mut world.aws(&["list-resource-tags", "--key-id", key, "--output", "text"]));
    assert_eq!(listed, "TAGS\tEnv\tTest\n");
}

fn base64(text: &str) -> Vec<u8> {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.decode(text).expect("base64")
}
