//! Each observation, turned for the worse, fails its own row and no other.

use super::*;

const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/1234abcd-12ab-34cd-56ef-1234567890ab";

fn compared() -> Compared {
    Compared { bytes: 4096, expected: "aa".repeat(32), read: "aa".repeat(32) }
}

fn told() -> Told {
    Told { exit_code: Some(5), exception: Some(DISABLED.to_owned()), text: format!("{ARN} is disabled.") }
}

fn refused(reply: u32) -> NbdAnswer {
    NbdAnswer::Refused { reply, text: format!("{ARN} is disabled.") }
}

fn event(result: &str) -> Event {
    Event { result: result.to_owned(), cause: format!("{ARN} is disabled.") }
}

fn all_held() -> Observations {
    let under_disabled_key =
        UnderDisabledKey { key_state: "Disabled".to_owned(), volume_state: "in-use".to_owned(), io: compared() };
    Observations {
        key_arn: ARN.to_owned(),
        wrapped_under: Some(ARN.to_owned()),
        first: Some(compared()),
        backing: Some(Searched { markers_written: 9, markers_found: 0, written: 4096, taken: 8192 }),
        under_disabled_key: Some(under_disabled_key),
        after_detach: Some(refused(ERR_UNKNOWN)),
        cli: Some(told()),
        api: Some(told()),
        nbd: Some(refused(ERR_POLICY)),
        event: Some(event("failed")),
        status: Some(told()),
        after_enable: Some(compared()),
        restarted: Some(Restarted { exit_code: Some(0), event: Some(event("attached")), io: compared() }),
        cleared: Some(Cleared { exit_code: Some(0), backing_is_gone: true }),
    }
}

/// One thing turned for the worse.
type Turn = fn(&mut Observations);

fn other() -> String {
    "bb".repeat(32)
}

/// Which row each turn must fail.
const TURNS: &[(usize, Turn)] = &[
    (0, |seen| seen.wrapped_under = Some("another key".to_owned())),
    (0, |seen| seen.wrapped_under = None),
    (1, |seen| seen.first.as_mut().expect("seen").read = other()),
    (1, |seen| seen.first.as_mut().expect("seen").bytes = 0),
    (1, |seen| seen.first = None),
    (2, |seen| seen.backing.as_mut().expect("seen").markers_found = 1),
    (2, |seen| seen.backing.as_mut().expect("seen").markers_written = 0),
    (2, |seen| seen.backing.as_mut().expect("seen").taken = 4095),
    (2, |seen| seen.backing = None),
    (3, |seen| seen.under_disabled_key.as_mut().expect("seen").key_state = "Enabled".to_owned()),
    (3, |seen| seen.under_disabled_key.as_mut().expect("seen").volume_state = "error".to_owned()),
    (3, |seen| seen.under_disabled_key.as_mut().expect("seen").io.read = other()),
    (3, |seen| seen.under_disabled_key = None),
    (4, |seen| seen.after_detach = Some(NbdAnswer::LetIn)),
    (4, |seen| seen.after_detach = Some(refused(ERR_POLICY))),
    (4, |seen| seen.after_detach = None),
    (5, |seen| seen.cli.as_mut().expect("seen").exit_code = Some(0)),
    (5, |seen| seen.cli.as_mut().expect("seen").exit_code = None),
    (5, |seen| seen.cli.as_mut().expect("seen").exception = None),
    (5, |seen| seen.cli.as_mut().expect("seen").text = "disabled".to_owned()),
    (5, |seen| seen.cli = None),
    (6, |seen| seen.api.as_mut().expect("seen").exception = Some("NotFoundException".to_owned())),
    (6, |seen| seen.api.as_mut().expect("seen").text = ARN.to_owned()),
    (6, |seen| seen.api = None),
    (7, |seen| seen.nbd = Some(refused(ERR_UNKNOWN))),
    (7, |seen| seen.nbd = Some(NbdAnswer::Refused { reply: ERR_POLICY, text: String::new() })),
    (7, |seen| seen.nbd = Some(NbdAnswer::LetIn)),
    (7, |seen| seen.nbd = None),
    (8, |seen| seen.event = Some(event("attached"))),
    (8, |seen| seen.event.as_mut().expect("seen").cause = String::new()),
    (8, |seen| seen.event = None),
    (9, |seen| seen.status.as_mut().expect("seen").exception = None),
    (9, |seen| seen.status.as_mut().expect("seen").text = String::new()),
    (9, |seen| seen.status = None),
    (10, |seen| seen.after_enable.as_mut().expect("seen").read = other()),
    (10, |seen| seen.after_enable = None),
    (11, |seen| seen.restarted.as_mut().expect("seen").exit_code = None),
    (11, |seen| seen.restarted.as_mut().expect("seen").event = None),
    (11, |seen| seen.restarted.as_mut().expect("seen").event = Some(event("failed"))),
    (11, |seen| seen.restarted.as_mut().expect("seen").io.read = other()),
    (11, |seen| seen.restarted = None),
    (12, |seen| seen.cleared.as_mut().expect("seen").backing_is_gone = false),
    (12, |seen| seen.cleared.as_mut().expect("seen").exit_code = Some(1)),
    (12, |seen| seen.cleared = None),
];

#[test]
fn all_rows_hold_where_all_was_seen() {
    let failed: Vec<Row> = all_held().rows().into_iter().filter(|row| !row.held).collect();
    assert_eq!(failed, []);
}

#[test]
fn each_observation_turned_fails_its_row_and_no_other() {
    for (turn, (expected, turned)) in TURNS.iter().enumerate() {
        let mut seen = all_held();
        turned(&mut seen);
        let failed: Vec<usize> =
            seen.rows().iter().enumerate().filter(|(_, row)| !row.held).map(|(at, _)| at).collect();
        assert_eq!(failed, [*expected], "turn {turn}");
    }
}

#[test]
fn every_row_is_failed_by_some_turn() {
    for row in 0..all_held().rows().len() {
        assert!(TURNS.iter().any(|(expected, _)| *expected == row), "row {row}");
    }
}

#[test]
fn nothing_holds_where_nothing_was_seen() {
    assert!(Observations::default().rows().iter().all(|row| !row.held));
}
