//! The generated tables are what the generator makes of the model that it names.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::{must, python, python_has};

#[test]
fn the_tables_are_generated_from_the_model_and_from_nothing_else() {
    if !python_has(&["botocore"]) {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let made = must(Command::new(python()).arg(root.join("scripts/generate-kms-model")).arg("--print"));
    let kept = fs::read_to_string(root.join("src/kms/wire/model/tables.rs")).expect("the tables");
    assert!(made == kept, "run scripts/generate-kms-model with the botocore that scripts/test installs");
}

#[test]
fn the_document_lists_every_operation_with_its_state() {
    let served: Vec<&str> = envol::kms::wire::served().collect();
    let (_, section) =
        include_str!("../../src/kms/KMS.md").split_once("\n## Operations\n").expect("a section of operations");
    let section = section.split("\n## ").next().unwrap_or(section);
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let listed: Vec<(&str, bool)> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`'), cells[2] == "served")
        })
        .collect();
    let all = envol::kms::wire::model::OPERATIONS.iter().map(|operation| operation.name);
    let expected: Vec<(&str, bool)> = all.map(|name| (name, served.contains(&name))).collect();
    assert_eq!(listed, expected);
}
