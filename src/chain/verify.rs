//! Verifying a log from its first byte to its last, in one pass and bounded memory.
//!
//! Without a key the hashes are followed, with one the MACs too, from the record on that the key made. What stands before
//! the first record (a log of an older program) is bound by its hash as a whole. Lines that do not follow are a
//! finding, whatever they are; where a record says that they were found when the log was opened, they are listed, and it goes
//! on behind them, to the head: what is known to be wrong hides nothing that comes later.

use std::io::{self, BufRead, Read};

use serde::{Deserialize, Serialize};

use super::{GAP_EVENT, Head, LINE_MAX, Link, LinkKey, VerifyKey, hex};
use crate::crypto::digest::{self, RunningSha256};
use crate::sys::locked::LockingFailed;

/// What came of verifying a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Records that follow from one another.
    pub records: u64,
    /// The last of them, to be kept elsewhere.
    pub head: String,
    /// Whether their MACs were verified.
    pub keyed: bool,
    /// Lines before the first record: none of them is verified by itself, and all of them as they were when it was written.
    pub unchained_lines: u64,
    /// Records that mark a gap.
    pub gaps: Vec<Gap>,
    /// Lines that are no records, as a record behind them says.
    pub passed_over: Vec<PassedOver>,
    /// What else is wrong, if anything is: that the head is not there where all follows as far as it goes, else the first of it.
    pub finding: Option<Finding>,
}

/// A record that marks a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The number of the record.
    pub number: u64,
    /// Bytes of a record that a crash cut short: it was never answered, and they were cut off.
    pub cut_bytes: u64,
    /// By how many bytes the log was shorter than it was known to be.
    pub missing_bytes: u64,
    /// Whether there was a chain before, and not its key: this record begins another one.
    pub key_lost: bool,
}

/// Lines that were no records when the log was opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{bytes} bytes from byte {byte} on are no records; record {record} tells that they were found there")]
pub struct PassedOver {
    /// Where they begin.
    pub byte: u64,
    /// How many.
    pub bytes: u64,
    /// The record that tells of them.
    pub record: u64,
}

/// What is wrong with a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Finding {
    /// A line is not the record that has to stand there.
    #[error("line {line} (byte {byte}) is not record {record} as it was written: changed, dropped, moved or put in")]
    Broken {
        /// Which line.
        line: u64,
        /// Where it begins.
        byte: u64,
        /// The record that has to stand there.
        record: u64,
    },
    /// The last line has no end.
    #[error("the log ends within a line (byte {byte}): a crash, or somebody has cut it")]
    Torn {
        /// Where it begins.
        byte: u64,
    },
    /// A chain begins behind another one, which does not go on.
    #[error(
        "line {line} (byte {byte}) begins a chain anew where record {record} has to stand: the key was lost, or the log was forged"
    )]
    BegunAnew {
        /// Which line.
        line: u64,
        /// Where it begins.
        byte: u64,
        /// The record that has to stand there.
        record: u64,
    },
    /// The log ends before the head.
    #[error("the log ends at record {last}, before the head {head}: records were cut off")]
    Truncated {
        /// Its last record.
        last: u64,
        /// The number of the head.
        head: u64,
    },
    /// The record with the head's number is another one.
    #[error("record {head} is not the one of the head: the log was written anew")]
    OtherHead {
        /// The number of the head.
        head: u64,
    },
    /// No line is the first of a chain, by the key that was given.
    #[error("none of its {lines} lines begins a chain{}", if *.keyed { " that this key verifies" } else { "" })]
    NoChain {
        /// How many lines there are.
        lines: u64,
        /// Whether a key was given.
        keyed: bool,
    },
}

/// A log that is being verified.
pub struct Verifier {
    given: Option<VerifyKey>,
    head: Option<Head>,
    head_seen: bool,
    /// The key of the next record.
    key: Option<LinkKey>,
    /// The last record that follows; none before the first.
    last: Option<Link>,
    /// All that has come.
    whole: RunningSha256,
    bytes: u64,
    lines: u64,
    /// What does not follow, up to here.
    astray: Option<Astray>,
    report: Report,
}

/// Lines that do not follow from the last record.
#[derive(Clone)]
struct Astray {
    line: u64,
    byte: u64,
    bytes: u64,
    digest: RunningSha256,
    /// Whether its last line has an end.
    whole: bool,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_intact(&self) -> bool {
        self.finding.is_none() && self.passed_over.is_empty()
    }
}

/// As much of a record that marks a gap as is needed.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct GapRecord {
    event_name: String,
    service_event_details: GapDetails,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct GapDetails {
    cut_bytes: u64,
    missing_bytes: u64,
    key_lost: bool,
    passed_over_bytes: u64,
    passed_over_sha256: Option<String>,
}

/// Verifies what `log` holds: with `key` the MACs, with `head` that it is still there.
///
/// # Errors
/// Where it cannot be read. What is wrong with it is in the report.
pub fn verify(mut log: impl BufRead, key: Option<VerifyKey>, head: Option<Head>) -> io::Result<Report> {
    let mut verifier = Verifier::new(key, head);
    let mut piece = Vec::new();
    let most = u64::try_from(LINE_MAX).expect("it is small") + 1;
    loop {
        piece.clear();
        log.by_ref().take(most).read_until(b'\n', &mut piece)?;
        if piece.is_empty() {
            return Ok(verifier.finish());
        }
        verifier.add(&piece).map_err(io::Error::other)?;
    }
}

impl Verifier {
    /// Of a log of which nothing has come.
    pub fn new(key: Option<VerifyKey>, head: Option<Head>) -> Self {
        let head_seen = head.is_none_or(|head| head.number == 0);
        let report = Report {
            records: 0,
            head: String::new(),
            keyed: key.is_some(),
            unchained_lines: 0,
            gaps: Vec::new(),
            passed_over: Vec::new(),
            finding: None,
        };
        let (whole, astray) = (RunningSha256::default(), None);
        Self { given: key, head, head_seen, key: None, last: None, whole, bytes: 0, lines: 0, astray, report }
    }

    /// Adds the next line, its end included; a piece without one is a part of a line that is too long, or the end of the log.
    ///
    /// # Errors
    /// Where no memory can be locked for a key.
    pub fn add(&mut self, piece: &[u8]) -> Result<(), LockingFailed> {
        let line = piece.strip_suffix(b"\n");
        let read = line.filter(|line| line.len() <= LINE_MAX).and_then(Link::read);
        let taken = match read {
            Some((object, link)) => self.follows(&object, link) || self.begins(&object, link)?,
            None => false,
        };
        if !taken {
            self.stray(piece, line.is_some());
        }
        self.whole.update(piece);
        self.bytes += u64::try_from(piece.len()).expect("a piece is in memory");
        self.lines += u64::from(line.is_some());
        Ok(())
    }

    /// Whether nothing is wrong up to here.
    pub fn is_intact(&self) -> bool {
        self.report.is_intact() && self.astray.is_none()
    }

    /// One that goes on from here by itself.
    ///
    /// # Errors
    /// Where no memory can be locked for its keys.
    pub fn fork(&self) -> Result<Self, LockingFailed> {
        let given = self.given.as_ref().map(|key| VerifyKey::new(key.expose())).transpose()?;
        let key = self.key.as_ref().map(|key| LinkKey::new(key.expose())).transpose()?;
        let (whole, astray, report) = (self.whole.clone(), self.astray.clone(), self.report.clone());
        let Self { head, head_seen, last, bytes, lines, .. } = *self;
        Ok(Self { given, head, head_seen, key, last, whole, bytes, lines, astray, report })
    }

    /// The log has ended.
    pub fn finish(mut self) -> Report {
        self.leave_astray();
        let last = self.last.unwrap_or_else(|| Link::beginning(&digest::sha256(&[])));
        self.report.head = last.head().to_string();
        // Behind a line that does not follow nobody can tell of the head; what else was found hides nothing of it.
        if !matches!(self.report.finding, Some(Finding::Broken { .. })) {
            self.report.finding = self.wrong_at_the_end(last).or(self.report.finding);
        }
        self.report
    }

    fn wrong_at_the_end(&self, last: Link) -> Option<Finding> {
        if self.last.is_none() && self.bytes > 0 {
            return Some(Finding::NoChain { lines: self.lines, keyed: self.report.keyed });
        }
        let head = self.head.filter(|_| !self.head_seen)?.number;
        Some(if head > last.number {
            Finding::Truncated { last: last.number, head }
        } else {
            Finding::OtherHead { head }
        })
    }

    /// Takes the record if it follows from the last one, or from a gap behind it that it marks.
    fn follows(&mut self, object: &[u8], link: Link) -> bool {
        let Some(last) = self.last else { return false };
        let maced = self.key.as_ref().is_none_or(|key| digest::equal(&key.mac(&link.hash), &link.mac));
        if link.number != last.number + 1 || link.hash != last.next_hash(object) || !maced {
            return false;
        }
        let gap = gap(object);
        if let Some(astray) = &self.astray {
            let Some(gap) = &gap else { return false };
            let digest = hex(&astray.digest.clone().finish());
            if gap.passed_over_bytes != astray.bytes || gap.passed_over_sha256 != Some(digest) {
                return false;
            }
            let told = PassedOver { byte: astray.byte, bytes: astray.bytes, record: link.number };
            self.report.passed_over.push(told);
            self.astray = None;
        }
        self.take(link, gap);
        true
    }

    /// Takes the record if it is the first of a chain.
    fn begins(&mut self, object: &[u8], link: Link) -> Result<bool, LockingFailed> {
        let goes_on = self.given.is_some() && self.last.is_some();
        if link.number != 1 || goes_on {
            return Ok(false);
        }
        if link.hash != Link::beginning(&self.whole.clone().finish()).next_hash(object) {
            return Ok(false);
        }
        if let Some(given) = &self.given {
            let first = given.first()?;
            if !digest::equal(&first.mac(&link.hash), &link.mac) {
                return Ok(false);
            }
            self.key = Some(first);
        }
        self.leave_astray();
        match self.last {
            None => self.report.unchained_lines = self.lines,
            Some(last) => {
                let (line, byte, record) = (self.lines + 1, self.bytes, last.number + 1);
                self.report.finding.get_or_insert(Finding::BegunAnew { line, byte, record });
            }
        }
        self.take(link, gap(object));
        Ok(true)
    }

    fn take(&mut self, link: Link, gap: Option<GapDetails>) {
        self.last = Some(link);
        self.report.records += 1;
        self.head_seen |= self.head == Some(link.head());
        if let Some(key) = &mut self.key {
            key.advance();
        }
        let told = |GapDetails { cut_bytes, missing_bytes, key_lost, .. }| {
            let gap = Gap { number: link.number, cut_bytes, missing_bytes, key_lost };
            (cut_bytes > 0 || missing_bytes > 0 || key_lost).then_some(gap)
        };
        self.report.gaps.extend(gap.and_then(told));
    }

    fn stray(&mut self, piece: &[u8], whole: bool) {
        if self.last.is_none() {
            return;
        }
        let (line, byte) = (self.lines + 1, self.bytes);
        let new = || Astray { line, byte, bytes: 0, digest: RunningSha256::default(), whole };
        let astray = self.astray.get_or_insert_with(new);
        astray.digest.update(piece);
        astray.bytes += u64::try_from(piece.len()).expect("a piece is in memory");
        astray.whole |= whole;
    }

    /// What does not follow is not followed by anything that says so.
    fn leave_astray(&mut self) {
        let (Some(astray), Some(last)) = (self.astray.take(), self.last) else { return };
        let finding = match astray.whole {
            true => Finding::Broken { line: astray.line, byte: astray.byte, record: last.number + 1 },
            false => Finding::Torn { byte: astray.byte },
        };
        self.report.finding.get_or_insert(finding);
    }
}

/// What the record says of a gap, if it marks one.
fn gap(object: &[u8]) -> Option<GapDetails> {
    let named = object.windows(GAP_EVENT.len()).any(|window| window == GAP_EVENT.as_bytes());
    let record: GapRecord = named.then(|| serde_json::from_slice(object).ok()).flatten()?;
    (record.event_name == GAP_EVENT).then_some(record.service_event_details)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log of five records and the key that verifies it.
    fn log(before: &str) -> (Vec<String>, VerifyKey) {
        let verify = VerifyKey::new(&[5; 32]).expect("locks");
        let (mut key, mut link) =
            (verify.first().expect("locks"), Link::beginning(&digest::sha256(&[before.as_bytes()])));
        let mut lines: Vec<String> = before.split_inclusive('\n').map(str::to_owned).collect();
        for number in 0..5 {
            let object = format!("{{\"eventName\":\"Event{number}\"}}");
            link = link.next(object.as_bytes(), &key);
            key.advance();
            let mut line = Vec::new();
            link.write(object.as_bytes(), &mut line);
            lines.push(String::from_utf8(line).expect("text"));
        }
        (lines, verify)
    }

    fn judged(lines: &[String], key: Option<VerifyKey>, head: Option<Head>) -> Report {
        verify(lines.concat().as_bytes(), key, head).expect("read")
    }

    #[test]
    fn an_empty_log_is_intact_and_has_a_head() {
        let report = verify(&b""[..], None, None).expect("read");
        assert_eq!((report.records, &report.finding), (0, &None));
        let head: Head = report.head.parse().expect("a head");
        assert_eq!(verify(&b""[..], None, Some(head)).expect("read").finding, None);
    }

    #[test]
    fn what_stands_before_the_first_record_is_bound_as_a_whole() {
        for before in ["", "{\"old\":1}\n{\"old\":2}\n"] {
            let (lines, key) = log(before);
            for key in [None, Some(key)] {
                let report = judged(&lines, key, None);
                assert_eq!((report.records, report.finding), (5, None));
                assert_eq!(report.unchained_lines, u64::try_from(lines.len() - 5).expect("few"));
            }
        }
        let (mut lines, _) = log("{\"old\":1}\n");
        lines[0] = "{\"old\":9}\n".to_owned();
        assert_eq!(judged(&lines, None, None).finding, Some(Finding::NoChain { lines: 6, keyed: false }));
    }

    #[test]
    fn another_key_verifies_nothing() {
        let (lines, _) = log("");
        let other = VerifyKey::new(&[6; 32]).expect("locks");
        assert_eq!(judged(&lines, Some(other), None).finding, Some(Finding::NoChain { lines: 5, keyed: true }));
    }

    #[test]
    fn hashes_that_were_computed_anew_are_found_by_the_key_alone() {
        let (lines, key) = log("");
        let (forged, _) = log("");
        let mut link = Link::read(forged[1].trim_ascii().as_bytes()).expect("a record").1;
        let mut written = forged[..2].concat().into_bytes();
        for line in &lines[3..] {
            let (object, old) = Link::read(line.trim_ascii().as_bytes()).expect("a record");
            link = Link { number: link.number + 1, hash: link.next_hash(&object), mac: old.mac };
            link.write(&object, &mut written);
        }
        assert_eq!(verify(&written[..], None, None).expect("read").finding, None, "who has no key sees nothing");
        let found = verify(&written[..], Some(key), None).expect("read").finding;
        assert!(matches!(found, Some(Finding::Broken { line: 3, record: 3, .. })), "{found:?}");
    }

    #[test]
    fn records_that_were_cut_off_are_found_by_the_head_alone() {
        let (lines, _) = log("");
        let head: Head = judged(&lines, None, None).head.parse().expect("a head");
        assert_eq!(judged(&lines, None, Some(head)).finding, None);
        assert_eq!(judged(&lines[..4], None, None).finding, None, "nobody can tell");
        assert_eq!(judged(&lines[..4], None, Some(head)).finding, Some(Finding::Truncated { last: 4, head: 5 }));
        let other = Head { number: 3, ..head };
        assert_eq!(judged(&lines, None, Some(other)).finding, Some(Finding::OtherHead { head: 3 }));
    }

    #[test]
    fn a_log_that_ends_within_a_line_says_so() {
        let (lines, _) = log("");
        let whole = lines.concat();
        let report = verify(&whole.as_bytes()[..whole.len() - 1], None, None).expect("read");
        let byte = u64::try_from(lines[..4].concat().len()).expect("short");
        assert_eq!((report.records, report.finding), (4, Some(Finding::Torn { byte })));
    }

    #[test]
    fn a_line_longer_than_any_record_takes_no_more_memory_than_one() {
        let (lines, _) = log("");
        let endless = lines.concat().into_bytes();
        let log = endless.chain(io::repeat(b'x').take(20 << 20));
        let report = verify(io::BufReader::new(log), None, None).expect("read");
        assert!(matches!(report.finding, Some(Finding::Torn { .. })), "{:?}", report.finding);
    }
}
