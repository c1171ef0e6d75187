//! The audit log's chain: whatever is changed in it is found, whatever a crash leaves is marked, and no key that made the
//! MAC of a record stays behind.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use envol::chain::{self, Finding, Gap, Head, Link, LinkKey, PassedOver, Report, Verifier, VerifyKey};
use envol::kms::Principal;
use envol::kms::embedded::Embedded;

use crate::world::{World, caller, refusal};

const LOG: &str = "audit.ndjson";
const RATCHET: &str = "audit.ratchet";

fn root() -> Principal {
    Principal::root("000000000000")
}

/// Takes the verify key, which is forgotten.
fn take_key(kms: &Embedded) -> VerifyKey {
    let key = kms.audit_verify_key(&root()).expect("nobody has it");
    kms.forget_audit_verify_key(&root(), &key.fingerprint()).expect("forgotten");
    key
}

fn copy(key: &VerifyKey) -> VerifyKey {
    VerifyKey::new(key.expose()).expect("locks")
}

fn log(world: &World) -> Vec<u8> {
    fs::read(world.dir().join(LOG)).expect("there")
}

fn judged(log: &[u8], key: &VerifyKey, head: Option<Head>) -> Report {
    chain::verify(log, Some(copy(key)), head).expect("read")
}

fn names(world: &World) -> Vec<String> {
    world.audit().iter().map(|line| line["eventName"].as_str().expect("named").to_owned()).collect()
}

// ---- what is changed ---------------------------------------------------------------------------------------------

const RECORDS: usize = 100_000;
const CALLERS: usize = 32;
/// Every so many lines the verifying is remembered, to go on from there with another end.
const STEP: usize = 500;

/// A log of a hundred thousand records, its key and its head.
fn long_log() -> (Vec<Vec<u8>>, VerifyKey, Head) {
    let world = World::new();
    let kms = world.open();
    let key = take_key(&kms);
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| (0..RECORDS / CALLERS).for_each(|_| drop(kms.list_aliases(&caller()).expect("listed"))));
        }
    });
    drop(kms);
    let log = log(&world);
    let report = judged(&log, &key, None);
    assert_eq!(report.finding, None);
    assert!(report.records >= 100_000, "{}", report.records);
    let head = report.head.parse().expect("a head");
    assert_eq!(judged(&log, &key, Some(head)).finding, None);
    (log.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect(), key, head)
}

/// What is done to a log: from which line on, what stands there instead of how many.
fn mutation(lines: &[Vec<u8>], random: &mut fastrand::Rng) -> (&'static str, usize, usize, Vec<Vec<u8>>) {
    let at = random.usize(..lines.len());
    let other = loop {
        match random.usize(..lines.len()) {
            other if other != at => break other,
            _ => {}
        }
    };
    let mut line = lines[at].clone();
    let byte = random.usize(..line.len());
    match random.u8(..10) {
        0 | 1 => {
            line[byte] ^= random.u8(1..);
            ("a byte changed", at, 1, vec![line])
        }
        2 => {
            line.remove(byte);
            ("a byte dropped", at, 1, vec![line])
        }
        3 => {
            line.insert(byte, random.u8(..));
            // A byte that is doubled is the same wherever it is put in.
            ("a byte put in", at, 1, vec![line])
        }
        4 => ("a record dropped", at, 1, Vec::new()),
        5 => {
            let (one, two) = (at.min(other), at.max(other));
            let mut instead = lines[one..=two].to_vec();
            instead.swap(0, two - one);
            ("two records swapped", one, two + 1 - one, instead)
        }
        6 => ("a record put in elsewhere, too", at, 0, vec![lines[other].clone()]),
        7 => ("a record doubled", at, 1, vec![line.clone(), line]),
        8 => {
            let object = Link::read(&lines[other][..lines[other].len() - 1]).expect("a record").0;
            ("an object put in", at, 0, vec![[&object[..], b"\n"].concat()])
        }
        _ => ("cut off", at, lines.len() - at, Vec::new()),
    }
}

#[test]
fn any_one_change_in_a_hundred_thousand_records_is_found() {
    let (lines, key, head) = long_log();
    let mut random = fastrand::Rng::with_seed(4);
    for keyed in [true, false] {
        let mut remembered = Vec::new();
        let mut verifier = Verifier::new(keyed.then(|| copy(&key)), Some(head));
        for (number, line) in lines.iter().enumerate() {
            if number % STEP == 0 {
                remembered.push(verifier.fork().expect("locks"));
            }
            verifier.add(line).expect("locks");
        }
        assert_eq!(verifier.finish().finding, None);
        for number in 0..5_000 {
            let (what, at, gone, instead) = mutation(&lines, &mut random);
            if !keyed && at + 1 >= lines.len() {
                // Of the last record's MAC nobody can tell without the key.
                continue;
            }
            let mut verifier = remembered[at / STEP].fork().expect("locks");
            let changed = lines[at - at % STEP..at].iter().chain(&instead).chain(&lines[at + gone..]);
            for line in changed {
                verifier.add(line).expect("locks");
                if !verifier.is_intact() {
                    break;
                }
            }
            let found = verifier.finish().finding;
            assert!(found.is_some(), "mutation {number} of line {at}, keyed {keyed}: {what}");
            if number % 500 == 0 {
                // From the first byte, as everybody would do it.
                let whole = [lines[..at].concat(), instead.concat(), lines[at + gone..].concat()].concat();
                let key = keyed.then(|| copy(&key));
                assert!(chain::verify(&whole[..], key, Some(head)).expect("read").finding.is_some(), "{what}");
            }
        }
    }
}

#[test]
fn whoever_has_the_disk_can_write_what_comes_and_change_nothing_that_was_written() {
    let world = World::new();
    let kms = world.open();
    let key = take_key(&kms);
    for _ in 0..5 {
        kms.list_keys(&caller()).expect("listed");
    }
    drop(kms);
    // The key of the next record, as `progress` lays it down.
    let ratchet = fs::read(world.dir().join(RATCHET)).expect("there");
    let stolen: [u8; 32] = ratchet[104..136].try_into().expect("32 bytes");
    let log = log(&world);
    let lines: Vec<&[u8]> = log.split_inclusive(|byte| *byte == b'\n').collect();
    for from in 0..=lines.len() {
        let mut forged = lines[..from].concat();
        let mut link = match from {
            0 => Link::beginning(&envol::crypto::digest::sha256(&[])),
            from => Link::read(&lines[from - 1][..lines[from - 1].len() - 1]).expect("a record").1,
        };
        let mut stolen = LinkKey::new(&stolen).expect("locks");
        for _ in 0..3 {
            link = link.next(br#"{"eventName":"Forged"}"#, &stolen);
            link.write(br#"{"eventName":"Forged"}"#, &mut forged);
            stolen.advance();
        }
        let finding = judged(&forged, &key, None).finding;
        assert_eq!(finding.is_none(), from == lines.len(), "forged from record {from} on: {finding:?}");
    }
}

#[test]
fn the_verify_key_is_handed_out_until_somebody_has_it_and_no_key_of_a_record_stays() {
    let world = World::new();
    let kms = world.open();
    assert!(refusal(kms.audit_verify_key(&caller())).starts_with("AccessDeniedException"));
    let key = kms.audit_verify_key(&root()).expect("nobody has it");
    let again = kms.audit_verify_key(&root()).expect("nobody said that they have it");
    assert_eq!(key.expose(), again.expose());
    let other = refusal(kms.forget_audit_verify_key(&root(), "of another key"));
    assert!(other.starts_with("AuditVerifyKeyGoneException"), "{other}");
    drop(kms);
    let kms = world.open();
    assert_eq!(kms.audit_verify_key(&root()).expect("a restart forgets nothing").expose(), key.expose());
    kms.forget_audit_verify_key(&root(), &key.fingerprint()).expect("forgotten");
    assert!(refusal(kms.audit_verify_key(&root())).starts_with("AuditVerifyKeyGoneException"));
    kms.list_keys(&caller()).expect("listed");
    drop(kms);
    let (log, ratchet) = (log(&world), fs::read(world.dir().join(RATCHET)).expect("there"));
    let report = judged(&log, &key, None);
    assert_eq!((report.finding, report.records), (None, 8));
    let mut used = key.first().expect("locks");
    for record in 0..8 {
        for (name, bytes) in [(LOG, &log), (RATCHET, &ratchet)] {
            let hexed = chain::hex(used.expose());
            assert!(
                !bytes.windows(32).any(|window| window == used.expose()),
                "the key of record {record} is in {name}"
            );
            assert!(
                !bytes.windows(64).any(|window| window == hexed.as_bytes()),
                "the key of record {record} is in {name}"
            );
        }
        used.advance();
    }
    assert!(ratchet.windows(32).any(|window| window == used.expose()), "the search finds the one that is there");
    let text = String::from_utf8(log).expect("text");
    assert!(
        text.contains("\"eventName\":\"GetAuditVerifyKey\"") && text.contains("\"eventName\":\"ForgetAuditVerifyKey\"")
    );
}

// ---- what a crash leaves -----------------------------------------------------------------------------------------

/// A log of four records, and the ratchet as it was before each of them and after the last.
fn short_log() -> (World, VerifyKey, Vec<Vec<u8>>) {
    let world = World::new();
    let kms = world.open();
    let key = take_key(&kms);
    let mut ratchets = Vec::new();
    for _ in 0..4 {
        ratchets.push(fs::read(world.dir().join(RATCHET)).expect("there"));
        kms.list_keys(&caller()).expect("listed");
    }
    ratchets.push(fs::read(world.dir().join(RATCHET)).expect("there"));
    (world, key, ratchets)
}

/// The KMS of `world`, its log and its ratchet as given; opened, used once, and closed.
fn used_with(world: &World, log: &[u8], ratchet: &[u8]) {
    fs::write(world.dir().join(LOG), log).expect("written");
    fs::write(world.dir().join(RATCHET), ratchet).expect("written");
    world.open().list_keys(&caller()).expect("listed");
}

#[test]
fn a_crash_at_every_byte_of_the_last_record_leaves_one_gap_that_is_marked() {
    let (world, key, ratchets) = short_log();
    let whole = log(&world);
    let before = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("lines") + 1;
    let records = judged(&whole, &key, None).records;
    for end in before..=whole.len() {
        // The key was not replaced yet: that is done when the record is durable.
        used_with(&world, &whole[..end], &ratchets[3]);
        let report = judged(&log(&world), &key, None);
        assert_eq!(report.finding, None, "cut at {end}");
        let torn = u64::try_from(end - before).expect("short");
        let gaps: Vec<u64> = report.gaps.iter().map(|gap| gap.cut_bytes).collect();
        let (expected, gained) = match end {
            end if end == before => (vec![], 0),
            end if end == whole.len() => (vec![], 1),
            _ => (vec![torn], 1),
        };
        assert_eq!((gaps, report.records), (expected, records - 1 + gained + 1), "cut at {end}");
        assert_eq!(log(&world)[..before], whole[..before], "what was answered is there");
    }
    assert_eq!(names(&world).last().expect("a line"), "ListKeys");
}

#[test]
fn a_crash_while_the_gap_is_marked_is_marked_as_well() {
    let (world, key, ratchets) = short_log();
    let whole = log(&world);
    let torn = &whole[..whole.len() - 9];
    used_with(&world, torn, &ratchets[3]);
    let marked = log(&world);
    let before = judged(&marked, &key, None);
    assert_eq!((before.finding, before.gaps.len()), (None, 1));
    // The record that marks it, written in part over what is longer, and whole with the rest behind it.
    let start = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("lines") + 1;
    let gap_ends = start + marked[start..].iter().position(|byte| *byte == b'\n').expect("a line") + 1;
    for written in (start..=gap_ends).step_by(7).chain([gap_ends]) {
        let mut bytes = torn.to_vec();
        bytes.resize(bytes.len().max(written), 0);
        bytes[start..written].copy_from_slice(&marked[start..written]);
        used_with(&world, &bytes, &ratchets[3]);
        let report = judged(&log(&world), &key, None);
        assert_eq!(report.finding, None, "written to {written}");
        assert!(!report.gaps.is_empty(), "written to {written}");
    }
}

/// A file system writes the pages of a batch in any order, and a disk their sectors.
#[test]
fn a_power_cut_within_a_batch_loses_nothing_that_was_answered_and_is_told() {
    let world = World::new();
    let kms = world.open();
    let key = take_key(&kms);
    let (before, ratchet) = (log(&world), fs::read(world.dir().join(RATCHET)).expect("there"));
    for _ in 0..24 {
        kms.list_keys(&caller()).expect("listed");
    }
    drop(kms);
    let whole = log(&world);
    let mut random = fastrand::Rng::with_seed(7);
    let (mut torn, mut passed_over) = (0, 0);
    for number in 0..200 {
        let unit = if number % 2 == 0 { 512 } else { 4096 };
        let mut left = before.clone();
        left.resize(random.usize(before.len()..=whole.len()), 0);
        for from in (0..left.len()).step_by(unit) {
            let (from, to) = (from.max(before.len()), (from + unit).min(left.len()));
            if from < to && random.u8(..4) > 0 {
                left[from..to].copy_from_slice(&whole[from..to]);
            }
        }
        let told = !(whole.starts_with(&left) && left.ends_with(b"\n"));
        used_with(&world, &left, &ratchet);
        let after = log(&world);
        assert!(after.starts_with(&before), "state {number}: what was answered is there");
        let report = judged(&after, &key, None);
        assert_eq!(report.finding, None, "state {number}");
        assert_eq!(!report.gaps.is_empty() || !report.passed_over.is_empty(), told, "state {number}");
        torn += usize::from(report.passed_over.is_empty() && told);
        passed_over += report.passed_over.len();
    }
    assert!(torn > 20 && passed_over > 20, "both came: {torn} torn, {passed_over} passed over");
}

#[test]
fn a_key_that_a_power_cut_left_behind_goes_on_over_the_records_behind_it() {
    let (world, key, ratchets) = short_log();
    let whole = log(&world);
    for (behind, ratchet) in ratchets.iter().enumerate() {
        used_with(&world, &whole, ratchet);
        let report = judged(&log(&world), &key, None);
        assert_eq!((report.finding, report.gaps), (None, vec![]), "ratchet {behind}");
    }
}

#[test]
fn whole_lines_that_were_put_in_while_nobody_looked_stay_are_marked_and_found() {
    let (world, key, ratchets) = short_log();
    let whole = log(&world);
    let line = whole.split_inclusive(|byte| *byte == b'\n').next().expect("a line");
    for put_in in [line, b"{}\n", b"\0\0\0\n\0", b"{\"eventName\":\"Decrypt\"}\n{\"event"] {
        used_with(&world, &[&whole[..], put_in].concat(), &ratchets[4]);
        let after = log(&world);
        let bytes = put_in.iter().rposition(|byte| *byte == b'\n').expect("a line") + 1;
        assert_eq!(after[whole.len()..whole.len() + bytes], put_in[..bytes], "it stays for whoever wants to see it");
        let report = judged(&after, &key, None);
        let (byte, bytes) = (u64::try_from(whole.len()).expect("short"), u64::try_from(bytes).expect("short"));
        let record = judged(&whole, &key, None).records + 1;
        assert_eq!((&report.finding, report.is_intact()), (&None, false));
        assert_eq!(report.passed_over, [PassedOver { byte, bytes, record }]);
        assert_eq!(report.records, record + 1, "what comes behind it is verified");
        // It hides nothing: neither a change behind it, nor that the end was cut off.
        let mut changed = after.clone();
        let last = changed.len() - 9;
        changed[last] ^= 1;
        let found = judged(&changed, &key, None).finding;
        assert!(matches!(found, Some(Finding::Broken { .. })), "{found:?}");
        let head = report.head.parse().expect("a head");
        let end = after[..after.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("lines") + 1;
        let cut_off = Some(Finding::Truncated { last: record, head: record + 1 });
        assert_eq!(judged(&after[..end], &key, Some(head)).finding, cut_off);
        assert_eq!(judged(&after[..end + 5], &key, Some(head)).finding, cut_off, "nor does a torn line");
    }
}

#[test]
fn a_log_shorter_than_it_was_known_to_be_or_without_its_key_goes_on_and_does_not_verify() {
    let (world, key, ratchets) = short_log();
    let whole = log(&world);
    let start = whole[..whole.len() - 1].iter().rposition(|byte| *byte == b'\n').expect("lines") + 1;
    used_with(&world, &whole[..start], &ratchets[4]);
    let marked = world.audit();
    let marked = &marked[marked.len() - 2];
    assert_eq!((&marked["eventName"], &marked["eventType"]), (&"AuditLogGap".into(), &"AwsServiceEvent".into()));
    assert_eq!(marked["serviceEventDetails"]["missingBytes"], whole.len() - start);
    assert!(judged(&log(&world), &key, None).finding.is_some());
    used_with(&world, &whole, b"");
    let marked = world.audit();
    assert_eq!(marked[marked.len() - 2]["serviceEventDetails"]["keyLost"], true);
    assert!(judged(&log(&world), &key, None).finding.is_some());
    let without = chain::verify(&log(&world)[..], None, None).expect("read");
    let (byte, records) = (u64::try_from(whole.len()).expect("short"), judged(&whole, &key, None).records);
    let anew = Finding::BegunAnew { line: records + 1, byte, record: records + 1 };
    assert_eq!(without.finding, Some(anew), "it takes no key to see that there are two chains");
    assert_eq!(without.gaps, [Gap { number: 1, cut_bytes: 0, missing_bytes: 0, key_lost: true }]);
    let new = take_key(&world.open());
    let report = judged(&log(&world), &new, None);
    assert_eq!((report.finding, report.unchained_lines > 5), (None, true), "there is a key again, for what comes");
}

#[test]
fn a_log_of_an_older_program_is_gone_on_with_and_bound_as_a_whole() {
    let (world, _, _) = short_log();
    let old: String = world
        .audit()
        .into_iter()
        .map(|mut line| {
            line.as_object_mut().and_then(|line| line.remove("chain")).expect("chained");
            format!("{line}\n")
        })
        .collect();
    used_with(&world, old.as_bytes(), b"");
    let kms = world.open();
    let key = take_key(&kms);
    drop(kms);
    let bytes = log(&world);
    assert!(bytes.starts_with(old.as_bytes()));
    let report = judged(&bytes, &key, None);
    let lines = u64::try_from(old.lines().count()).expect("few");
    assert_eq!((report.finding, report.unchained_lines, report.records), (None, lines, 3));
    let mut changed = bytes;
    changed[5] ^= 1;
    assert!(judged(&changed, &key, None).finding.is_some());
}

// ---- killed under load -------------------------------------------------------------------------------------------

/// The test that calls the KMS without end where [`PLACE`] is set.
const LOAD: &str = "chain::whatever_a_sigkill_under_load_leaves_verifies_and_has_all_that_was_answered";
const PLACE: &str = "ENVOL_TEST_CHAIN_PLACE";
const KILLS: u64 = 20;

/// Calls from several threads until somebody kills this process, and says when one was answered.
fn call_without_end(place: &Path) {
    let kms = World::at(place).open();
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                loop {
                    kms.list_keys(&caller()).expect("listed");
                    // The whole line at once, whoever else writes.
                    std::io::stderr().write_all(b"ANSWERED\n").expect("written");
                }
            });
        }
    });
}

#[test]
fn whatever_a_sigkill_under_load_leaves_verifies_and_has_all_that_was_answered() {
    if let Some(place) = env::var_os(PLACE) {
        return call_without_end(Path::new(&place));
    }
    let world = World::new();
    let key = take_key(&world.open());
    let mut answered = 0;
    for round in 0..KILLS {
        let mut child = Command::new(env::current_exe().expect("this program has a path"))
            .args(["--exact", "--nocapture", "--test-threads=1", LOAD])
            .env(PLACE, world.place.path())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts");
        let mut said = BufReader::new(child.stderr.take().expect("piped")).lines();
        let first = said.next().expect("it calls").expect("text");
        answered += u64::from(first == "ANSWERED");
        thread::sleep(Duration::from_millis(7 * round));
        child.kill().expect("killed");
        answered += u64::try_from(said.map_while(Result::ok).filter(|line| line == "ANSWERED").count()).expect("few");
        child.wait().expect("ended");
        let before = log(&world);
        let torn = before.iter().rev().take_while(|byte| **byte != b'\n').count();
        drop(world.open());
        let report = judged(&log(&world), &key, None);
        assert_eq!(report.finding, None, "round {round}, {torn} bytes torn");
        let found = world.audit().iter().filter(|line| line["eventName"] == "ListKeys").count();
        assert!(u64::try_from(found).expect("few") >= answered, "round {round}: {found} of {answered}");
    }
    assert!(answered > KILLS, "there was load: {answered}");
}

#[test]
fn a_clock_that_jumps_by_years_deletes_nothing_early_and_loses_no_call() {
    let world = World::new();
    let kms = world.open();
    let key = take_key(&kms);
    let made = kms.create_key(&caller(), "", None).expect("made");
    kms.schedule_key_deletion(&caller(), &made.arn.clone().into(), 7).expect("scheduled");
    world.set_back_days(3_650);
    assert_eq!(kms.list_keys(&caller()).expect("listed").len(), 1);
    world.pass_days(3_650 + 6);
    assert_eq!(kms.list_keys(&caller()).expect("listed").len(), 1, "a day is left");
    world.pass_days(3_650);
    assert!(kms.list_keys(&caller()).expect("listed").is_empty());
    drop(kms);
    let report = judged(&log(&world), &key, None);
    assert_eq!(report.finding, None, "what is chained is the order of the calls and not their times");
    assert_eq!(names(&world).last().map(String::as_str), Some("ListKeys"));
}
