//! Other people's clients, where they are installed.

use std::process::{Command, Output};

use envol::nbd::Refusal;

use crate::support::Fixture;

/// Runs a program; `None`, with its name said, where it is not installed. Under `REQUIRE_ALL=1` that is a failure.
fn run(program: &str, arguments: &[&str]) -> Option<Output> {
    match Command::new(program).args(arguments).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            assert!(std::env::var_os("REQUIRE_ALL").is_none_or(|value| value != "1"), "{program} is not installed");
            println!("skipped: {program} is not installed");
            None
        }
        Err(error) => panic!("{program}: {error}"),
    }
}

/// What a program that must succeed printed.
fn stdout_of(program: &str, arguments: &[&str]) -> Option<String> {
    let output = run(program, arguments)?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{program} {arguments:?}: {stdout}{stderr}");
    Some(stdout.into_owned())
}

#[test]
fn nbdinfo_reads_size_flags_and_contexts() {
    let fixture = Fixture::new();
    let Some(shown) = stdout_of("nbdinfo", &["--json", &fixture.uri("vol")]) else { return };
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    let export = &shown["exports"][0];
    assert_eq!(export["export-size"], 1 << 20, "{shown}");
    assert_eq!(export["description"], "the volume vol");
    assert_eq!(export["contexts"], serde_json::json!(["base:allocation"]));
    for can in
        ["can_cache", "can_df", "can_fast_zero", "can_flush", "can_fua", "can_multi_conn", "can_trim", "can_zero"]
    {
        assert_eq!(export[can], true, "{can}");
    }
    assert_eq!(export["block_size_minimum"], 1);
}

/// Bytes that repeat at no power of two, with a hole in the middle.
fn pattern() -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..1 << 20).map(|at: u32| (at % 249) as u8).collect();
    bytes[100_000..600_000].fill(0);
    bytes
}

#[test]
fn nbdcopy_copies_there_and_back_over_several_connections() {
    let fixture = Fixture::new();
    let (here, back) = (fixture.directory.path().join("here"), fixture.directory.path().join("back"));
    std::fs::write(&here, pattern()).expect("written");
    let connections = "--connections=4";
    let there = stdout_of("nbdcopy", &["--flush", connections, here.to_str().unwrap(), &fixture.uri("vol")]);
    if there.is_none() {
        return;
    }
    stdout_of("nbdcopy", &[connections, &fixture.uri("vol"), back.to_str().unwrap()]);
    assert!(std::fs::read(&back).expect("copied") == pattern());
}

#[test]
fn qemu_img_converts_there_and_compares_equal() {
    let fixture = Fixture::new();
    let here = fixture.directory.path().join("here");
    std::fs::write(&here, pattern()).expect("written");
    let (here, there) = (here.to_str().unwrap(), fixture.uri("vol"));
    if stdout_of("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", here, &there]).is_none() {
        return;
    }
    stdout_of("qemu-img", &["compare", "-f", "raw", "-F", "raw", here, &there]);
    let map = stdout_of("qemu-img", &["map", "--output=json", "-f", "raw", &there]).expect("qemu-img is here");
    let map: serde_json::Value = serde_json::from_str(&map).expect("JSON");
    assert!(map.as_array().expect("a list").iter().any(|run| run["zero"] == true), "{map}");
}

#[test]
fn qemu_img_shows_why_an_export_is_refused() {
    let fixture = Fixture::new();
    let reason = "the KMS key is Disabled: enable it and attach again";
    fixture.exports.set("refused", Err(Refusal::Policy(reason.into())));
    let Some(output) = run("qemu-img", &["info", &fixture.uri("refused")]) else { return };
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(reason), "{said}");
}

#[test]
fn nbdinfo_lists_the_exports() {
    let fixture = Fixture::new();
    let uri = fixture.uri("");
    let Some(shown) = stdout_of("nbdinfo", &["--list", "--json", &uri]) else { return };
    let shown: serde_json::Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["exports"][0]["export-name"], "vol", "{shown}");
}
