//! The audit log verified: a log that was changed is told as changed, and any bytes are read in one pass, however they come.

use std::io::BufReader;
use std::sync::LazyLock;

use envol::chain::{self, Head, Link, VerifyKey};
use envol::crypto::digest;

use super::{Input, edit};

/// A log of twelve records, two of which mark gaps.
static LOG: LazyLock<(Vec<u8>, Head)> = LazyLock::new(|| {
    let mut key = key().first().expect("locks");
    let (mut link, mut log) = (Link::beginning(&digest::sha256(&[])), Vec::new());
    for number in 0..12 {
        let object = match number % 6 {
            5 => "{\"eventName\":\"AuditLogGap\",\"serviceEventDetails\":{\"cutBytes\":17}}".to_owned(),
            _ => format!("{{\"eventID\":\"{number}\",\"eventName\":\"Decrypt\",\"resources\":[]}}"),
        };
        link = link.next(object.as_bytes(), &key);
        link.write(object.as_bytes(), &mut log);
        key.advance();
    }
    (log, link.head())
});

fn key() -> VerifyKey {
    VerifyKey::new(&[5; 32]).expect("locks")
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let (log, head) = &*LOG;
    if input.byte() % 4 == 3 {
        let raw = input.0;
        let at_once = chain::verify(raw, None, None).expect("read");
        let slowly = chain::verify(BufReader::with_capacity(3, raw), None, None).expect("read");
        assert_eq!(at_once, slowly);
        let lines = u64::try_from(raw.iter().filter(|byte| **byte == b'\n').count()).expect("few");
        assert!(at_once.records + at_once.unchained_lines <= lines);
        assert!(
            raw.is_empty()
                || chain::verify(raw, Some(key()), Some(*head)).expect("read").finding.is_some()
                || raw == &log[..]
        );
        return;
    }
    let mut changed = log.clone();
    match input.byte() % 4 {
        0 => {
            let mut lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
            let (one, other) = (input.within(lines.len()), input.within(lines.len()));
            match input.byte() % 3 {
                0 => lines.swap(one, other),
                1 => drop(lines.remove(one)),
                _ => lines.insert(one, lines[other]),
            }
            changed = lines.concat();
        }
        _ => edit(&mut changed, &mut input),
    }
    let report = chain::verify(&changed[..], Some(key()), Some(*head)).expect("read");
    assert_eq!(report.finding.is_none(), changed == *log, "{:?}", report.finding);
    assert!(report.records <= 12);
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let log = &LOG.0;
    let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    let raw = [&log[..], lines[0], &lines[..3].concat(), &lines[1..].concat(), b"{}\n{}\n", &log[..log.len() - 1], b""];
    let raw = raw.into_iter().map(|log| [&[3], log].concat());
    let moved = (0..12).map(|number| vec![0, 0, 0, 0, 0, number, 0, 0, 0, 11 - number, number]);
    let edits = (0..8).map(|what| vec![0, 1, what, 0, 0, 2, 7 * what, 0, 0, 1, 1, 65]);
    raw.chain(moved).chain(edits).collect()
}
