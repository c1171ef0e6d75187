//! Holds the table of bad inputs (`tests/INPUTS.md`) to the tests that there are: every row is there, and every test that it
//! names is one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Rows of the catalogue.
const ROWS: u32 = 137;

/// Rows of which no test is asked: their part is not made yet, and those of which the table says why there is none.
const LATER: [u32; 18] = [18, 19, 20, 21, 22, 23, 24, 25, 52, 69, 89, 90, 103, 109, 123, 124, 132, 136];
const NOT_SHOWN: [u32; 3] = [49, 128, 134];

fn table() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/INPUTS.md")).expect("the table")
}

/// The rows: their number, and what they say of tests.
fn rows(table: &str) -> Vec<(u32, String)> {
    let cells = table.lines().filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"));
    let rows = cells.map(|cells| cells.split(" | ").map(str::to_owned).collect::<Vec<_>>());
    rows.filter_map(|cells| Some((cells[0].parse().ok()?, cells[2].clone()))).collect()
}

/// The tests that a row names, between backticks.
fn tests_in(said: &str) -> impl Iterator<Item = &str> {
    said.split('`').skip(1).step_by(2)
}

/// What is wrong with `test`, as the table names it; nothing where it is a test.
fn fault(test: &str) -> Option<String> {
    let Some((file, name)) = test.rsplit_once("::") else { return Some(format!("{test}: no name of a test")) };
    let below = if file.starts_with("src/") { "" } else { "tests/" };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("{below}{file}.rs"));
    let Ok(text) = fs::read_to_string(&path) else { return Some(format!("{test}: there is no such file")) };
    let is_test = text.match_indices(&format!("fn {name}(")).any(|(at, _)| {
        // Its attributes and comments stand between it and the end of what comes before.
        let before = &text[..at];
        let attributes = &before[before.rfind(['}', '{', ';']).map_or(0, |end| end + 1)..];
        attributes.contains("#[test]") && !attributes.contains("#[ignore")
    });
    (!is_test).then(|| format!("{test}: there is no such test"))
}

#[test]
fn every_row_is_in_the_table_and_names_tests_that_there_are() {
    let rows = rows(&table());
    let numbers: Vec<u32> = rows.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, (1..=ROWS).collect::<Vec<_>>());
    let mut faults = Vec::new();
    for (number, said) in &rows {
        let tests: Vec<&str> = tests_in(said).collect();
        if LATER.contains(number) {
            assert!(said.starts_with("later: ") && tests.is_empty(), "row {number}: {said}");
        } else if NOT_SHOWN.contains(number) {
            assert!(tests.is_empty() && said.len() > 20, "row {number} says why there is no test: {said}");
        } else {
            assert!(!tests.is_empty(), "row {number} has no test");
        }
        faults.extend(tests.iter().filter_map(|test| fault(test)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_test_that_is_called_after_a_row_is_in_that_row() {
    let mut named = BTreeSet::new();
    for file in ["defects", "records", "sectors", "kms"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/format/{file}.rs"));
        let text = fs::read_to_string(path).expect("there");
        let tests = text.lines().filter_map(|line| line.strip_prefix("fn row_"));
        named.extend(tests.map(|rest| {
            let number = rest.split('_').next().and_then(|number| number.parse::<u32>().ok()).expect("a number");
            (number, format!("format/{file}::row_{}", rest.split('(').next().expect("a name")))
        }));
    }
    assert!(named.len() > 15);
    let rows = rows(&table());
    let missing: Vec<_> = named
        .iter()
        .filter(|(number, test)| {
            !rows.iter().any(|(row, said)| row == number && tests_in(said).any(|named| named == test))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_test_that_is_not_there_is_found() {
    for bad in ["inputs", "nowhere::test", "inputs::fault", "inputs::no_such_test"] {
        assert!(fault(bad).is_some(), "{bad}");
    }
    assert_eq!(fault("inputs::a_test_that_is_not_there_is_found"), None);
}
