//! The scenario, step by step: acts, tells, and notes what it sees. Judges nothing.
//!
//! Goes on wherever the next step can still be taken, so that one failure shows as its own row; where it cannot, the
//! story ends with the reason.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::Value;

use super::narrate::Narrator;
use super::pattern::{FIRST, Part, Pattern, SECOND, SIZE, checksum, hex};
use super::verdict::{Cleared, Compared, Event, NbdAnswer, Observations, Restarted, Searched, Told, UnderDisabledKey};
use super::{DemoError, KEY, Step, VOLUME};
use crate::cli::render::human_size;
use crate::cli::route::route;
use crate::cli::run::Nothing;
use crate::cli::scene::{Scene, SceneError, wait_for};
use crate::control::api::{Attach, Attachment, CreateKey, CreateVolume, Detach, Failure, Key, Volume};
use crate::control::client::ClientError;
use crate::nbd::client::{Client as NbdClient, ClientError as NbdError};

/// Bytes that one READ asks for.
const READ_BYTES: usize = 1 << 20;

/// Where the header area ends and the data begins (FORMAT.md).
const DATA_OFFSET: usize = 1 << 20;

/// The exit code of a conflict with the present state (product.md).
const CONFLICT: u8 = 4;

/// The story while it is told.
pub(super) struct Story<'a> {
    scene: Scene,
    pattern: Pattern,
    observed: &'a mut Observations,
    narrator: &'a mut Narrator,
    hook: &'a mut dyn FnMut(Step, &Scene),
}

impl<'a> Story<'a> {
    /// The story before its beginning.
    pub(super) fn new(
        scene: Scene,
        observed: &'a mut Observations,
        narrator: &'a mut Narrator,
        hook: &'a mut dyn FnMut(Step, &Scene),
    ) -> Self {
        Self { scene, pattern: Pattern::new(), observed, narrator, hook }
    }

    /// The whole story.
    pub(super) fn tell(mut self) -> Result<(), DemoError> {
        self.narrator.title("envol: an encrypted volume, its KMS key, and real I/O over NBD");
        self.start()?;
        self.create_key()?;
        let volume = self.create_volume()?;
        let mut nbd = self.attach()?;
        self.write_first(&mut nbd)?;
        self.search_backing(Path::new(&volume.backing))?;
        self.disable_key(&mut nbd)?;
        self.detach(nbd)?;
        self.be_refused()?;
        self.enable_key()?;
        self.restart()?;
        self.clear_away(Path::new(&volume.backing))
    }

    fn reached(&mut self, step: Step) {
        (self.hook)(step, &self.scene);
    }

    fn start(&mut self) -> Result<(), DemoError> {
        self.narrator.step("Start a daemon, with a KMS of its own");
        self.narrator.command(&format!("envol daemon --state-dir {}", self.scene.state_dir().display()));
        let status = self.scene.start()?;
        self.narrator
            .fact(&format!("envol {}, pid {}, keys in memory by {}", status.version, status.pid, status.key_memory));
        Ok(())
    }

    fn create_key(&mut self) -> Result<(), DemoError> {
        self.narrator.step("Create a KMS key");
        self.narrator.command("envol key create --alias demo");
        let body = CreateKey {
            alias: Some(KEY.to_owned()),
            description: Some("envol demo".to_owned()),
            ..CreateKey::default()
        };
        let key: Key = self.scene.client().send("POST", &route(&["keys"]), &body)?;
        self.narrator.fact(&format!("{} is {}", key.arn, key.state));
        self.observed.key_arn = key.arn;
        Ok(())
    }

    fn create_volume(&mut self) -> Result<Volume, DemoError> {
        self.narrator
            .step("Create a volume: the KMS gives a data key, wrapped by the KMS key; the header keeps only that");
        self.narrator.command(&format!("envol volume create {VOLUME} --size 64M --key {KEY}"));
        let (name, key) = (VOLUME.to_owned(), Some(KEY.to_owned()));
        let body = CreateVolume { name, size: Some(SIZE), key, ..CreateVolume::default() };
        let volume: Volume = self.scene.client().send_long(&route(&["volumes"]), &body, &mut |_, _| {})?;
        self.narrator.fact(&format!("{}, {}, backing {}", volume.id, human_size(volume.size), volume.backing));
        self.observed.wrapped_under = Some(volume.kms_key.clone());
        Ok(volume)
    }

    fn attach(&mut self) -> Result<NbdClient, DemoError> {
        self.narrator.step("Attach it: the KMS unwraps the data key, the daemon keeps it in secret memory");
        self.narrator.command(&format!("envol attach {VOLUME}"));
        let attachment: Attachment = self.post("attach", &Attach::default())?;
        self.narrator.fact(&attachment.uri);
        let nbd = self.connect()?;
        self.narrator.fact(&format!("an NBD client is connected and sees {}", human_size(nbd.size())));
        self.reached(Step::Attached);
        Ok(nbd)
    }

    fn write_first(&mut self, nbd: &mut NbdClient) -> Result<(), DemoError> {
        self.narrator.step("Write over NBD, flush, read back");
        let seen = self.write_and_read(nbd, FIRST)?;
        self.narrator.fact(&format!(
            "{} written at {}, then all of the volume read",
            human_size(FIRST.length as u64),
            FIRST.start()
        ));
        self.tell_sums(&seen);
        self.observed.first = Some(seen);
        self.reached(Step::Written);
        Ok(())
    }

    fn search_backing(&mut self, backing: &Path) -> Result<(), DemoError> {
        self.narrator.step("Look for it in the backing file");
        let doing = "read the backing";
        let system = |source| DemoError::Scene(SceneError::System { doing, source });
        let bytes = fs::read(backing).map_err(system)?;
        let taken = fs::metadata(backing).map_err(system)?.blocks() * 512;
        let written = self.pattern.part(FIRST);
        let seen = Searched {
            markers_written: self.pattern.count_markers(written),
            markers_found: self.pattern.count_markers(&bytes),
            written: FIRST.length as u64,
            taken,
        };
        let sample = |bytes: &[u8]| format!("{} ...", hex(&bytes[..bytes.len().min(24)]));
        self.narrator.fact(&format!("what was written  {}  {} markers", sample(written), seen.markers_written));
        let data = bytes.get(DATA_OFFSET..).unwrap_or_default();
        self.narrator.fact(&format!("what lies there   {}  {} markers", sample(data), seen.markers_found));
        self.narrator.fact(&format!("a 64 MiB volume, and the file takes {}", human_size(taken)));
        self.observed.backing = Some(seen);
        Ok(())
    }

    fn disable_key(&mut self, nbd: &mut NbdClient) -> Result<(), DemoError> {
        self.narrator.step("Disable the KMS key while the volume is attached; I/O goes on");
        self.narrator.command(&format!("envol key disable {KEY}"));
        let key: Key = self.scene.client().send("POST", &route(&["keys", KEY, "disable"]), &Nothing {})?;
        self.narrator.fact(&format!("{KEY} is {}", key.state));
        self.reached(Step::Disabled);
        let io = self.write_and_read(nbd, SECOND)?;
        let volume: Volume = self.scene.client().get(&route(&["volumes", VOLUME]))?;
        let key: Key = self.scene.client().get(&route(&["keys", KEY]))?;
        let more = human_size(SECOND.length as u64);
        self.narrator.fact(&format!("{more} more written at {}, aligned to nothing; all read", SECOND.start()));
        self.tell_sums(&io);
        let seen = UnderDisabledKey { key_state: key.state, volume_state: volume.state, io };
        self.narrator.fact(&format!("the volume is {}, the key {}", seen.volume_state, seen.key_state));
        self.observed.under_disabled_key = Some(seen);
        Ok(())
    }

    fn detach(&mut self, nbd: NbdClient) -> Result<(), DemoError> {
        self.narrator.step("Detach it: in-flight I/O is drained and flushed, the data key wiped");
        nbd.disconnect()?;
        self.narrator.command(&format!("envol detach {VOLUME}"));
        let volume: Volume = self.post("detach", &Detach::default())?;
        self.narrator.fact(&format!("the volume is {}", volume.state));
        let answer = self.ask_over_nbd()?;
        self.narrator.fact(&format!("an NBD client that asks for it now: {}", words_of(&answer)));
        self.observed.after_detach = Some(answer);
        self.reached(Step::Detached);
        Ok(())
    }

    fn be_refused(&mut self) -> Result<(), DemoError> {
        self.narrator.step("Attach it again: the KMS refuses, and everybody who asks is told why");
        self.narrator.command(&format!("envol attach {VOLUME}"));
        let told = self.told_by_cli()?;
        self.narrator.refusal("the command line", &told.text);
        let code = told.exit_code.map_or("none".to_owned(), |code| code.to_string());
        self.narrator.fact(&format!("exit code {code}, {}", told.exception.as_deref().unwrap_or("no exception")));
        self.observed.cli = Some(told);
        let told = self.told_by_api()?;
        self.narrator.refusal("the API", &told.text);
        self.observed.api = Some(told);
        self.reached(Step::Refused);
        let answer = self.ask_over_nbd()?;
        self.narrator.refusal("the NBD server", words_of(&answer));
        self.observed.nbd = Some(answer);
        self.observed.event = self.last_event("attachVolume")?;
        let cause = self.observed.event.as_ref().map_or("no event", |event| &event.cause);
        self.narrator.refusal("the event stream", cause);
        let told = self.told_by_status()?;
        self.narrator.refusal("the status", &told.text);
        self.observed.status = Some(told);
        Ok(())
    }

    fn enable_key(&mut self) -> Result<(), DemoError> {
        self.narrator.step("Enable the key, attach, compare every byte of the volume");
        self.narrator.command(&format!("envol key enable {KEY}"));
        self.narrator.command(&format!("envol attach {VOLUME}"));
        let _: Key = self.scene.client().send("POST", &route(&["keys", KEY, "enable"]), &Nothing {})?;
        match self.post::<_, Attachment>("attach", &Attach::default()) {
            Ok(attachment) => self.narrator.fact(&attachment.uri),
            // It was let in when it should have been refused; the rows above say so already.
            Err(DemoError::Scene(SceneError::Daemon(ClientError::Failed(problem))))
                if problem.exit_code == CONFLICT => {}
            Err(error) => return Err(error),
        }
        self.reached(Step::Reopened);
        let seen = self.compare_all()?;
        self.observed.after_enable = Some(seen);
        self.reached(Step::Compared);
        Ok(())
    }

    fn restart(&mut self) -> Result<(), DemoError> {
        self.narrator.step("Restart the daemon: it asks the KMS again for what was attached");
        let exit_code = self.scene.stop()?;
        let status = self.scene.start()?;
        self.narrator.fact(&format!("pid {}", status.pid));
        let path = route(&["volumes", VOLUME]);
        let volume: Volume = wait_for::<_, DemoError>(|| {
            let volume: Volume = self.scene.client().get(&path)?;
            let refused = volume.last_refusal.as_ref().is_some_and(|refusal| !refusal.retrying);
            Ok((refused || volume.state == "in-use", volume))
        })?;
        self.narrator.fact(&format!("the volume is {}", volume.state));
        let event = self.last_event("reattachVolume")?;
        let io = self.compare_all();
        let none = || Compared { bytes: 0, expected: checksum(self.pattern.whole()), read: String::new() };
        // Where it was not re-attached there is nothing to read, and that is the finding.
        let io = io.unwrap_or_else(|_| none());
        self.observed.restarted = Some(Restarted { exit_code, event, io });
        Ok(())
    }

    fn clear_away(&mut self, backing: &Path) -> Result<(), DemoError> {
        self.narrator.step("Clear everything away");
        self.narrator.command(&format!("envol detach {VOLUME}; envol volume delete {VOLUME} --yes"));
        match self.post::<_, Value>("detach", &Detach::default()) {
            Err(DemoError::Scene(SceneError::Daemon(ClientError::Failed(problem))))
                if problem.exit_code == CONFLICT => {}
            other => drop(other?),
        }
        let _: Value = self.scene.client().send("DELETE", &route(&["volumes", VOLUME]), &Nothing {})?;
        let backing_is_gone = !backing.exists();
        let exit_code = self.scene.stop()?;
        let code = exit_code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
        self.narrator.fact(&format!("the daemon ended on SIGTERM with {code}"));
        self.observed.cleared = Some(Cleared { exit_code, backing_is_gone });
        Ok(())
    }

    fn post<B: serde::Serialize, T: serde::de::DeserializeOwned>(&self, verb: &str, body: &B) -> Result<T, DemoError> {
        Ok(self.scene.client().send("POST", &route(&["volumes", VOLUME, verb]), body)?)
    }

    fn connect(&self) -> Result<NbdClient, NbdError> {
        NbdClient::connect(&self.scene.nbd_socket(), VOLUME)
    }

    /// Writes `part` with a flush, then reads everything back.
    fn write_and_read(&mut self, nbd: &mut NbdClient, part: Part) -> Result<Compared, DemoError> {
        let bytes = self.pattern.fill(part);
        for (piece, at) in bytes.chunks(READ_BYTES).zip((part.start()..).step_by(READ_BYTES)) {
            nbd.write(at, piece)?;
        }
        nbd.flush()?;
        self.read_all(nbd)
    }

    /// Reads the whole volume, holes too.
    fn read_all(&self, nbd: &mut NbdClient) -> Result<Compared, DemoError> {
        let mut bytes = vec![0; self.pattern.whole().len()];
        for (piece, at) in bytes.chunks_mut(READ_BYTES).zip((0..).step_by(READ_BYTES)) {
            nbd.read(at, piece)?;
        }
        Ok(Compared { bytes: bytes.len(), expected: checksum(self.pattern.whole()), read: checksum(&bytes) })
    }

    /// Connects, reads the whole volume and leaves.
    fn compare_all(&mut self) -> Result<Compared, DemoError> {
        let mut nbd = self.connect()?;
        let seen = self.read_all(&mut nbd)?;
        nbd.disconnect()?;
        self.tell_sums(&seen);
        Ok(seen)
    }

    fn tell_sums(&mut self, seen: &Compared) {
        self.narrator.fact(&format!("as written  SHA-256 {}", seen.expected));
        self.narrator.fact(&format!("as read     SHA-256 {}", seen.read));
    }

    /// What an NBD client is told that asks for the volume.
    fn ask_over_nbd(&self) -> Result<NbdAnswer, DemoError> {
        match self.connect() {
            Ok(nbd) => {
                nbd.disconnect()?;
                Ok(NbdAnswer::LetIn)
            }
            Err(NbdError::Refused { reply, text }) => Ok(NbdAnswer::Refused { reply, text }),
            Err(error) => Err(error.into()),
        }
    }

    fn told_by_cli(&self) -> Result<Told, DemoError> {
        let output = self.scene.run(&["attach", VOLUME])?;
        let exit_code = output.status.code();
        let told = match serde_json::from_slice::<Failure>(&output.stderr) {
            Ok(failure) => Told { exit_code, exception: failure.error.kms_exception, text: failure.error.message },
            Err(_) => Told { exit_code, exception: None, text: "no error".to_owned() },
        };
        Ok(told)
    }

    fn told_by_api(&self) -> Result<Told, DemoError> {
        match self.post::<_, Value>("attach", &Attach::default()) {
            Ok(_) => Ok(Told { text: "no error".to_owned(), ..Told::default() }),
            Err(DemoError::Scene(SceneError::Daemon(ClientError::Failed(problem)))) => {
                Ok(Told { exit_code: None, exception: problem.kms_exception, text: problem.message })
            }
            Err(error) => Err(error),
        }
    }

    fn told_by_status(&self) -> Result<Told, DemoError> {
        let volume: Volume = self.scene.client().get(&route(&["volumes", VOLUME]))?;
        Ok(match volume.last_refusal {
            Some(refusal) => Told { exit_code: None, exception: refusal.kms_exception, text: refusal.cause },
            None => Told { text: "no refusal".to_owned(), ..Told::default() },
        })
    }

    /// The last event called `name`.
    fn last_event(&self, name: &str) -> Result<Option<Event>, DemoError> {
        let mut last = None;
        self.scene.client().follow(&route(&["events"]), &mut |line| {
            let event: Value = serde_json::from_str(line).unwrap_or_default();
            let text = |field: &str| event["detail"][field].as_str().unwrap_or_default().to_owned();
            if text("event") == name {
                last = Some(Event { result: text("result"), cause: text("cause") });
            }
            true
        })?;
        Ok(last)
    }
}

fn words_of(answer: &NbdAnswer) -> &str {
    match answer {
        NbdAnswer::LetIn => "it is let in",
        NbdAnswer::Refused { text, .. } => text,
    }
}
