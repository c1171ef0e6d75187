//! The event log: what happened to volumes, as EventBridge would have it (EC2 user guide, "EBS Volume Notification"),
//! one JSON document a line.
//!
//! A line is written with one call, so a killed daemon leaves at most one torn line, the last; it is cut off when the
//! log is opened. The log is not synced after each line: a power cut may cost the newest, and nothing is decided by them.
//! An event that cannot be written is logged and fails nothing.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use crate::kms::KeyArn;
use crate::limits;
use crate::names::VolumeId;
use crate::sync::{Arc, Mutex};

/// The event log, followed live through [`EventLog::watch`].
pub struct EventLog {
    path: PathBuf,
    account: String,
    region: String,
    file: Mutex<File>,
    watchers: Mutex<Watchers>,
}

type Wake = Arc<dyn Fn() + Send + Sync>;

#[derive(Default)]
struct Watchers {
    next: u64,
    wakes: BTreeMap<u64, Wake>,
}

/// Keeps a follower registered.
pub struct Watch {
    log: Arc<EventLog>,
    number: u64,
}

/// What happened, in the words of EC2's events; what concerns keys and headers has none there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) enum Happening {
    CreateVolume,
    AttachVolume,
    ReattachVolume,
    DetachVolume,
    DeleteVolume,
    ExportKey,
    RewrapVolume,
    RestoreHeader,
    AcceptRewrap,
    AcceptRollback,
}

/// One event, its envelope still to come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event<'e> {
    pub(super) happening: Happening,
    pub(super) volume: &'e VolumeId,
    /// Left out of the resources where it is not known yet.
    pub(super) key: Option<&'e KeyArn>,
    /// `None` where it went well, else why not: the KMS's own text where it was the KMS.
    pub(super) failure: Option<&'e str>,
}

#[derive(Serialize)]
struct Line<'e> {
    version: &'static str,
    id: String,
    #[serde(rename = "detail-type")]
    detail_type: &'static str,
    source: &'static str,
    account: &'e str,
    time: String,
    region: &'e str,
    resources: Vec<String>,
    detail: Detail<'e>,
}

#[derive(Serialize)]
struct Detail<'e> {
    event: Happening,
    result: &'static str,
    cause: &'e str,
    #[serde(rename = "request-id")]
    request_id: &'static str,
}

impl Happening {
    fn success(self) -> &'static str {
        match self {
            Self::CreateVolume => "available",
            Self::AttachVolume | Self::ReattachVolume => "attached",
            Self::DetachVolume => "detached",
            Self::DeleteVolume => "deleted",
            Self::ExportKey => "exported",
            Self::RewrapVolume => "rewrapped",
            Self::RestoreHeader => "restored",
            Self::AcceptRewrap | Self::AcceptRollback => "accepted",
        }
    }
}

impl EventLog {
    /// Opens (or makes) the log at `path`; a torn last line is cut off.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn open(path: PathBuf, account: &str, region: &str) -> io::Result<Self> {
        let mut file = OpenOptions::new().create(true).read(true).append(true).mode(0o600).open(&path)?;
        let torn = cut_torn_line(&mut file)?;
        if torn > 0 {
            tracing::warn!(path = %path.display(), bytes = torn, "cut a torn last line off the event log");
        }
        let (account, region) = (account.to_owned(), region.to_owned());
        Ok(Self { path, account, region, file: Mutex::new(file), watchers: Mutex::default() })
    }

    /// Whole lines from `position` (bytes) on, and the position behind them; at most
    /// [`limits::EVENT_READ_MAX`] bytes at a time.
    ///
    /// # Errors
    /// Where the file cannot be read.
    pub fn read_from(&self, position: u64) -> io::Result<(String, u64)> {
        let file = File::open(&self.path)?;
        let mut bytes = vec![0; limits::EVENT_READ_MAX];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], position + filled as u64)? {
                0 => break,
                more => filled += more,
            }
        }
        let whole = bytes[..filled].iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        bytes.truncate(whole);
        let text = String::from_utf8(bytes).map_err(|bad| io::Error::new(io::ErrorKind::InvalidData, bad))?;
        Ok((text, position + whole as u64))
    }

    /// Calls `wake` after each event, until the returned value is dropped. (How an async follower learns of news.)
    pub fn watch(self: &Arc<Self>, wake: Box<dyn Fn() + Send + Sync>) -> Watch {
        let mut watchers = self.watchers.lock();
        let number = watchers.next;
        watchers.next += 1;
        watchers.wakes.insert(number, wake.into());
        Watch { log: Arc::clone(self), number }
    }

    /// Writes one event and wakes the followers.
    pub(super) fn record(&self, event: &Event<'_>) {
        let written = serde_json::to_string(&self.line(event))
            .map_err(io::Error::from)
            .and_then(|line| append(&mut self.file.lock(), &format!("{line}\n")));
        if let Err(error) = written {
            tracing::error!(path = %self.path.display(), %error, ?event, "an event could not be written");
        }
        let wakes: Vec<Wake> = self.watchers.lock().wakes.values().cloned().collect();
        wakes.iter().for_each(|wake| wake());
    }

    fn line<'e>(&'e self, event: &Event<'e>) -> Line<'e> {
        let (region, account) = (&self.region, &self.account);
        let volume = format!("arn:aws:ec2:{region}:{account}:volume/{}", event.volume);
        let key = event.key.map(ToString::to_string);
        Line {
            version: "0",
            id: uuid::Uuid::new_v4().to_string(),
            detail_type: "EBS Volume Notification",
            source: "envol",
            account,
            time: in_seconds(SystemTime::now()),
            region,
            resources: std::iter::once(volume).chain(key).collect(),
            detail: Detail {
                event: event.happening,
                result: if event.failure.is_some() { "failed" } else { event.happening.success() },
                cause: event.failure.unwrap_or(""),
                request_id: "",
            },
        }
    }
}

/// All of `line`, or nothing: half of one (a full disk) would spoil the next.
fn append(file: &mut File, line: &str) -> io::Result<()> {
    let before = file.metadata()?.len();
    file.write_all(line.as_bytes()).inspect_err(|_| {
        if let Err(error) = file.set_len(before) {
            tracing::error!(%error, "a torn line stays in the event log");
        }
    })
}

/// RFC 3339 in whole seconds, as EventBridge has it.
fn in_seconds(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// Truncates `file` behind its last newline; answers how many bytes went.
fn cut_torn_line(file: &mut File) -> io::Result<u64> {
    let length = file.seek(SeekFrom::End(0))?;
    let mut keep = length;
    let mut block = [0; 4096];
    while keep > 0 {
        let start = keep.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(keep - start).map_err(io::Error::other)?];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(part)?;
        if let Some(last) = part.iter().rposition(|byte| *byte == b'\n') {
            keep = start + last as u64 + 1;
            break;
        }
        keep = start;
    }
    if keep < length {
        file.set_len(keep)?;
    }
    Ok(length - keep)
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.log.watchers.lock().wakes.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::atomic::{AtomicU32, Ordering};

    fn event<'e>(volume: &'e VolumeId, key: &'e KeyArn, failure: Option<&'e str>) -> Event<'e> {
        Event { happening: Happening::AttachVolume, volume, key: Some(key), failure }
    }

    #[test]
    fn an_event_has_the_shape_of_eventbridge() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = EventLog::open(dir.path().join("events.ndjson"), "000000000000", "us-east-1").expect("opens");
        let volume = VolumeId::from_random([0xab; 9]);
        let key = KeyArn::new("arn:aws:kms:us-east-1:000000000000:key/k");
        log.record(&event(&volume, &key, Some("k is disabled.")));
        let (text, _) = log.read_from(0).expect("reads");
        let line: serde_json::Value = serde_json::from_str(&text).expect("one document");
        assert_eq!(line["detail-type"], "EBS Volume Notification");
        assert_eq!(line["source"], "envol");
        assert_eq!(line["resources"][0], format!("arn:aws:ec2:us-east-1:000000000000:volume/{volume}"));
        assert_eq!(line["resources"][1], key.as_str());
        assert_eq!(line["detail"]["event"], "attachVolume");
        assert_eq!(line["detail"]["result"], "failed");
        assert_eq!(line["detail"]["cause"], "k is disabled.");
        let time = line["time"].as_str().expect("text");
        assert!(time.len() == 20 && time.ends_with('Z'), "{time}");
    }

    #[test]
    fn a_torn_last_line_is_cut_off_and_the_rest_is_kept() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("events.ndjson");
        let torn = "x".repeat(10_000);
        for (before, after) in [("", ""), ("{}\n", "{}\n"), ("{}\n{\"ver", "{}\n"), (torn.as_str(), "")] {
            std::fs::write(&path, before).expect("writes");
            drop(EventLog::open(path.clone(), "0", "r").expect("opens"));
            assert_eq!(std::fs::read_to_string(&path).expect("reads"), after);
        }
    }

    /// A file system of one page, unmounted again on drop.
    struct Tiny(tempfile::TempDir);

    impl Tiny {
        /// `None` where we may not mount.
        fn mounted() -> Option<Self> {
            let dir = tempfile::tempdir().expect("a directory");
            let mut mount = std::process::Command::new("mount");
            mount.args(["-t", "tmpfs", "-o", "size=4096", "none"]).arg(dir.path());
            mount.status().is_ok_and(|status| status.success()).then_some(Self(dir))
        }
    }

    impl Drop for Tiny {
        fn drop(&mut self) {
            let unmounted = std::process::Command::new("umount").arg(self.0.path()).status();
            assert!(unmounted.is_ok_and(|status| status.success()), "the file system is in use");
        }
    }

    #[test]
    #[allow(clippy::print_stderr, reason = "a skip is for whoever reads the test output")]
    fn a_full_disk_costs_whole_events_and_never_half_of_one() {
        let Some(disk) = Tiny::mounted() else {
            assert!(std::env::var_os("REQUIRE_ALL").is_none(), "mounting a tmpfs needs root");
            eprintln!("skipped: mounting a tmpfs needs root");
            return;
        };
        let log = EventLog::open(disk.0.path().join("e"), "0", "r").expect("opens");
        let (volume, key) = (VolumeId::from_random([1; 9]), KeyArn::new("k"));
        (0..40).for_each(|_| log.record(&event(&volume, &key, None)));
        let text = std::fs::read_to_string(disk.0.path().join("e")).expect("reads");
        assert!((1..40).contains(&text.lines().count()), "some did not fit");
        assert!(text.ends_with('\n'), "nothing is torn: {text}");
        drop(log);
    }

    #[test]
    fn a_follower_is_woken_until_it_leaves_and_reads_each_line_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Arc::new(EventLog::open(dir.path().join("e"), "0", "r").expect("opens"));
        let (volume, key) = (VolumeId::from_random([1; 9]), KeyArn::new("k"));
        let woken = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&woken);
        let watch = log.watch(Box::new(move || {
            counter.fetch_add(1, Ordering::Relaxed);
        }));
        log.record(&event(&volume, &key, None));
        let (first, position) = log.read_from(0).expect("reads");
        log.record(&event(&volume, &key, None));
        let (second, end) = log.read_from(position).expect("reads");
        assert_eq!((first.lines().count(), second.lines().count()), (1, 1));
        assert_eq!(log.read_from(end).expect("reads"), (String::new(), end));
        drop(watch);
        log.record(&event(&volume, &key, None));
        assert_eq!(woken.load(Ordering::Relaxed), 2);
    }
}
