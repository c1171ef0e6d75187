//! What is measured, set up and filled: the lower rungs on a volume of their own, a daemon with another, the kernel's
//! device on top where that can be had, and the other servers. All of it is gone once this is dropped.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::BenchFailure;
use crate::bench::ladder::{self, Ladder};
use crate::bench::report::RungReport;
use crate::bench::rungs::{KernelRung, Rung, ServerRung};
use crate::bench::verify::{GoOn, Noise, ServerStore};
use crate::bench::{BenchError, machine};
use crate::cli::args::Against;
use crate::cli::render::human_size;
use crate::cli::route::route;
use crate::cli::scene::{Scene, TemporaryDir};
use crate::control::api::{Attach, Attachment, CreateKey, CreateVolume, Key, Volume};
use crate::nbd::client::NbdUri;
use crate::units::ByteCount;

/// What is kept free beside the two volumes: headers, the KMS's store, logs.
const BESIDE: ByteCount = ByteCount::new(32 << 20);

/// The least that another server must have, and what every rung must keep once more after it was measured.
const LEAST: ByteCount = ByteCount::new(4 << 20);

const NAME: &str = "bench";
const OURS: &str = "NBD over unix";

/// Another server, as it was found.
pub(super) struct Peer {
    label: String,
    uri: NbdUri,
    size: ByteCount,
    read_only: bool,
}

/// Everything that is measured. Fields go in this order: what uses a thing before it.
pub(super) struct Stage {
    /// What is known of each rung, absent ones too.
    pub(super) reports: Vec<RungReport>,
    /// The rungs that are not absent, in the same order.
    pub(super) rungs: Vec<Box<dyn Rung>>,
    /// The volume of the lower rungs.
    pub(super) ladder: Ladder,
    uri: NbdUri,
    backing: PathBuf,
    _scene: Scene,
    _dir: TemporaryDir,
}

impl Peer {
    /// Looks at the server of `against`; nothing is written.
    pub(super) fn look_at(against: &Against, read_only: bool) -> Result<Self, BenchFailure> {
        let Against { label, uri } = against.clone();
        let store = ServerStore::connect(&label, &uri)?;
        let size = store.size();
        if size < LEAST {
            return Err(BenchFailure::ServerTooSmall { server: label, size });
        }
        if store.is_read_only() && !read_only {
            return Err(BenchFailure::ServerReadOnly(label));
        }
        Ok(Self { label, uri, size, read_only: store.is_read_only() })
    }

    /// In one line, for a question about it.
    pub(super) fn describe(&self, most: ByteCount) -> String {
        format!(
            "{} (the first {} of {})",
            self.label,
            human_size(self.size.min(most).get()),
            human_size(self.size.get())
        )
    }

    fn report(&self, number: usize, used: ByteCount, read_only: bool) -> RungReport {
        let mut notes = Vec::new();
        if self.size < used {
            let (has, rest) = (human_size(self.size.get()), human_size(used.get()));
            notes.push(format!("has only {has} where the others have {rest}: more of it fits into a cache"));
        }
        if read_only {
            let also = if self.read_only { ", the export is read-only" } else { "" };
            notes.push(format!("neither filled nor verified (--read-only{also}): holes are fast"));
        }
        let (label, uri, reference) = (self.label.clone(), Some(self.uri.to_string()), Some("nbd".to_owned()));
        RungReport { id: format!("server-{}", number + 1), label, uri, reference, absent: None, notes }
    }
}

impl Stage {
    /// Sets everything up below `parent`, fills it and verifies it.
    pub(super) fn set(
        parent: &Path,
        size: ByteCount,
        peers: &[Peer],
        read_only: bool,
        go_on: GoOn<'_>,
    ) -> Result<Self, BenchFailure> {
        check_room(parent, size)?;
        let dir = TemporaryDir::new(parent, NAME)?;
        let ladder = Ladder::make(&ladder::subdirectory(dir.path(), "core")?, size)?;
        let (scene, backing) = start_daemon(&dir, size)?;
        let uri = NbdUri::unix(scene.nbd_socket(), NAME);
        let (reports, rungs) = (Vec::new(), Vec::new());
        let mut stage = Self { reports, rungs, ladder, uri, backing, _scene: scene, _dir: dir };
        stage.fill(Noise { seed: fastrand::u64(..), size }, go_on)?;
        if !read_only {
            for peer in peers {
                check_peer(peer, size, go_on)?;
            }
        }
        stage.raise(size)?;
        for (number, peer) in peers.iter().enumerate() {
            stage.rungs.push(Box::new(ServerRung::connect(&peer.label, &peer.uri, size)?));
            stage.reports.push(peer.report(number, size, read_only));
        }
        Ok(stage)
    }

    /// Writes noise to core and export, reads it back and looks for it in their backings.
    fn fill(&self, noise: Noise, go_on: GoOn<'_>) -> Result<(), BenchFailure> {
        self.ladder.fill(noise, go_on)?;
        let mut store = ServerStore::connect(OURS, &self.uri)?;
        noise.write_to(&mut store, go_on)?;
        noise.check_in(&mut store, go_on)?;
        let backing = File::open(&self.backing);
        let backing = backing.map_err(|source| BenchError::System { doing: "open the backing", source })?;
        Ok(noise.check_hidden_in(OURS, &backing, self.ladder.base(), go_on)?)
    }

    /// The rungs of the ladder.
    fn raise(&mut self, size: ByteCount) -> Result<(), BenchFailure> {
        self.rungs.extend(self.ladder.rungs()?);
        self.rungs.push(Box::new(ServerRung::connect(OURS, &self.uri, size)?));
        self.reports.extend([
            RungReport::of_ladder("cipher", "cipher", None),
            RungReport::of_ladder("file", "backing file", Some("cipher")),
            RungReport::of_ladder("core", "volume core", Some("file")),
            RungReport::of_ladder("nbd", OURS, Some("core")),
        ]);
        let mut kernel = RungReport::of_ladder("kernel", "kernel device", Some("nbd"));
        match KernelRung::attach(&self.uri) {
            Ok(rung) => {
                kernel.notes.push(format!("{}, O_DIRECT, a thread for each request", rung.device().display()));
                self.rungs.push(Box::new(rung));
            }
            Err(reason) => kernel.absent = Some(reason),
        }
        self.reports.push(kernel);
        Ok(())
    }

    /// Has core, export and the other servers keep something once more, now that they have been driven hard.
    pub(super) fn check_again(&self, peers: &[Peer], read_only: bool, go_on: GoOn<'_>) -> Result<(), BenchFailure> {
        self.fill(Noise { seed: fastrand::u64(..), size: LEAST }, go_on)?;
        if !read_only {
            for peer in peers {
                check_peer(peer, LEAST, go_on)?;
            }
        }
        Ok(())
    }
}

/// Writes noise to the first `most` bytes of another server and reads it back.
fn check_peer(peer: &Peer, most: ByteCount, go_on: GoOn<'_>) -> Result<(), BenchFailure> {
    let noise = Noise { seed: fastrand::u64(..), size: peer.size.min(most) };
    let mut store = ServerStore::connect(&peer.label, &peer.uri)?;
    noise.write_to(&mut store, go_on)?;
    Ok(noise.check_in(&mut store, go_on)?)
}

fn check_room(dir: &Path, size: ByteCount) -> Result<(), BenchFailure> {
    let needed = size.checked_add(size).and_then(|both| both.checked_add(BESIDE)).unwrap_or(ByteCount::new(u64::MAX));
    // Where nobody can tell, the first write that does not fit will.
    let left = machine::space_left(dir).map_or(needed, ByteCount::new);
    if left < needed { Err(BenchFailure::NoRoom { dir: dir.to_owned(), needed, left }) } else { Ok(()) }
}

/// A daemon whose state lies in `dir`, with a volume of `size` attached; also says where its backing lies.
fn start_daemon(dir: &TemporaryDir, size: ByteCount) -> Result<(Scene, PathBuf), BenchFailure> {
    let doing = "find this program again on the disk";
    let program = std::env::current_exe().map_err(|source| BenchError::System { doing, source })?;
    let scene = Scene::set(&program, &std::env::temp_dir(), NAME)?;
    let mut scene = scene.with_state_dir(dir.path().join("state"));
    scene.start()?;
    let client = scene.client();
    let alias = format!("alias/{NAME}");
    let body = CreateKey { alias: Some(alias.clone()), ..CreateKey::default() };
    let _: Key = client.send("POST", &route(&["keys"]), &body)?;
    let body =
        CreateVolume { name: NAME.to_owned(), size: Some(size.get()), key: Some(alias), ..CreateVolume::default() };
    let volume: Volume = client.send_long(&route(&["volumes"]), &body, &mut |_, _| {})?;
    let _: Attachment = client.send("POST", &route(&["volumes", NAME, "attach"]), &Attach::default())?;
    Ok((scene, volume.backing.into()))
}
