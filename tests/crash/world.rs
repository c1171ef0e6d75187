//! The product on a disk and a directory of ours: a registry, one volume, and the ways to end it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use envol::attach::{
    AttachError, AttachOptions, Attachment, CreateRequest, EventLog, Force, KmsTable, LookUp, NewSeal, Registry,
    Settings,
};
use envol::block::file::{Access, FileDevice, OpenError};
use envol::block::record::{Asked, Journal, Moment, Step};
use envol::block::{BlockDevice, Caching, Durability, Geometry, Io, Patience};
use envol::kms::{KeyName, Kms, Principal};
use envol::units::{ByteCount, SectorSize};
use envol::volume::{self, Record, Rollback};

use crate::disk::Disk;
use crate::image::Image;
use crate::kms::MemoryKms;
use crate::power::{Past, State};
use crate::shelf::{Files, Handle, Log, Shelf};

pub const SIZE: u64 = 64 << 10;
pub const NAME: &str = "db";
/// The KMS that volumes are made under, and another one.
pub const OWN: &str = "embedded";
pub const OTHER: &str = "other";

/// What stands between the disk and the product: nothing, or a defect.
pub type Over = fn(Arc<dyn BlockDevice>) -> Arc<dyn BlockDevice>;

/// What the worlds of one volume share: a directory for what is not under test, and the KMS.
pub struct Ground {
    dir: tempfile::TempDir,
    kms: Arc<MemoryKms>,
    other: Arc<MemoryKms>,
    pub shape: Shape,
    pub over: Over,
}

#[derive(Debug, Clone, Copy)]
pub struct Shape {
    pub sectors: SectorSize,
    pub thick: bool,
    /// How long a wrapped key is.
    pub blob: usize,
}

pub const THIN: Shape = Shape { sectors: SectorSize::B4096, thick: false, blob: 300 };

/// A machine that is up.
pub struct World {
    pub ground: Arc<Ground>,
    pub disk: Arc<Disk>,
    start: Image,
    shelf: Arc<Shelf>,
    registry: Option<Arc<Registry>>,
}

/// A plaintext device that counts its requests in, as the NBD server does.
pub struct Client(Arc<Attachment>);

impl BlockDevice for Client {
    fn geometry(&self) -> Geometry {
        self.0.device().geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        assert!(self.0.enter(), "the volume is attached");
        self.0.device().submit(batch, patience, done);
        self.0.leave();
    }
}

pub fn caller() -> Principal {
    Principal::new("arn:aws:iam::000000000000:user/somebody")
}

pub const fn options(read_only: bool) -> AttachOptions {
    AttachOptions { read_only, caching: Caching::PageCache, rollback: Rollback::Refuse }
}

pub fn whole() -> ByteCount {
    volume::backing_size(ByteCount::new(SIZE)).expect("small")
}

impl Ground {
    pub fn new(shape: Shape) -> Arc<Self> {
        Self::with(shape, |disk| disk)
    }

    pub fn with(shape: Shape, over: Over) -> Arc<Self> {
        let dir = tempfile::tempdir().expect("a directory");
        let kms = |name| Arc::new(MemoryKms::sealing(name, shape.blob));
        Arc::new(Self { dir, kms: kms(OWN), other: kms(OTHER), shape, over })
    }

    fn settings(&self) -> Settings {
        Settings {
            state_dir: self.dir.path().to_owned(),
            volume_dirs: vec![],
            account: "000000000000".into(),
            region: "us-east-1".into(),
            default_kms: OWN.into(),
            attach_deadline: Duration::from_secs(60),
            drain_deadline: Duration::from_secs(60),
            detach_grace: Duration::from_millis(1),
            dead_connection_window: Duration::from_secs(60),
        }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The KMS of the section `name`.
    pub fn kms(&self, name: &str) -> &dyn Kms {
        if name == OTHER { &*self.other } else { &*self.kms }
    }
}

impl World {
    /// A machine with an empty disk.
    pub fn new(ground: &Arc<Ground>) -> Self {
        Self::after(ground, Image::default(), Files::new())
    }

    /// The machine comes up again with what a power cut left.
    pub fn after(ground: &Arc<Ground>, image: Image, files: Files) -> Self {
        let journal = Arc::new(Journal::default());
        let shelf = Shelf::holding(files, Arc::clone(&journal));
        let disk = Disk::holding(&image, whole(), journal);
        Self::up(ground, disk, shelf, image)
    }

    pub fn from_state(ground: &Arc<Ground>, state: &State) -> Self {
        Self::after(ground, state.image.clone(), state.files.clone())
    }

    /// The daemon was killed at `at`, and is started again on a machine that stayed up: what was asked is still in the
    /// kernel, and no more durable than it was. What was under way has landed or not, as `landed` says.
    pub fn killed(ground: &Arc<Ground>, past: &Past, at: Moment, landed: bool) -> Self {
        let steps = past.steps.iter().filter(|step| step.issued <= at).filter_map(|step| {
            let over = step.completed.is_some_and(|(done, _)| done <= at);
            let gone = !landed || matches!(step.asked, Asked::Flush);
            if over { Some(step.clone()) } else { (!gone).then(|| cached(step, at)) }
        });
        let steps: Vec<Step> = steps.collect();
        let so_far = Past { steps: steps.clone(), files: past.files.until(at), ..past.clone() };
        let journal = Arc::new(Journal::from_steps(at, steps));
        let shelf = Shelf::going_on(so_far.files.clone(), Arc::clone(&journal));
        let disk = Disk::holding(&so_far.cached(at), whole(), journal);
        Self::up(ground, disk, shelf, past.start.clone())
    }

    fn up(ground: &Arc<Ground>, disk: Disk, shelf: Shelf, start: Image) -> Self {
        let (ground, disk, shelf) = (Arc::clone(ground), Arc::new(disk), Arc::new(shelf));
        let mut world = Self { ground, disk, start, shelf, registry: None };
        world.start_daemon();
        world
    }

    fn start_daemon(&mut self) {
        let settings = self.ground.settings();
        let events = EventLog::open(self.ground.file("events"), &settings.account, &settings.region).expect("opens");
        let own = Arc::clone(&self.ground.kms) as Arc<dyn Kms>;
        let other = Arc::clone(&self.ground.other) as Arc<dyn Kms>;
        let table: KmsTable = BTreeMap::from([(OWN.to_owned(), own), (OTHER.to_owned(), other)]);
        let top = (self.ground.over)(Arc::clone(&self.disk.recorder) as Arc<dyn BlockDevice>);
        let layer = Box::new(move |_: Arc<dyn BlockDevice>| Arc::clone(&top));
        let records = Box::new(Handle(Arc::clone(&self.shelf)));
        let registry = Registry::open_with(settings, table, Arc::new(events), layer, records);
        self.registry = Some(registry.expect("opens"));
    }

    pub fn registry(&self) -> &Arc<Registry> {
        self.registry.as_ref().expect("it runs")
    }

    pub fn create(&self) -> Result<(), AttachError> {
        let request = CreateRequest {
            name: NAME.parse().expect("a name"),
            size: Some(ByteCount::new(SIZE)),
            key: None,
            kms: None,
            backing: None,
            sector_size: self.ground.shape.sectors,
            scope: ByteCount::new(1 << 40),
            thick: self.ground.shape.thick,
            force: false,
        };
        self.registry().create(&caller(), request, &mut |_, _| true).map(drop)
    }

    pub fn attach(&self, read_only: bool) -> Result<Client, AttachError> {
        self.registry().attach(&caller(), &NAME.parse().expect("a name"), options(read_only))?;
        match self.registry().look_up(NAME) {
            LookUp::Attached(attachment) => Ok(Client(attachment)),
            _ => panic!("it is attached"),
        }
    }

    pub fn rewrap(&self, key: &str) -> Result<(), AttachError> {
        self.rewrap_in(None, key)
    }

    /// Under a key of the KMS `kms`; of the one that seals it now where `None`.
    pub fn rewrap_in(&self, kms: Option<&str>, key: &str) -> Result<(), AttachError> {
        let to = NewSeal { kms: kms.map(str::to_owned), key: KeyName::new(key) };
        self.registry().rewrap(&caller(), &NAME.parse().expect("a name"), &to).map(drop)
    }

    pub fn back_up(&self) -> Vec<u8> {
        self.registry().back_up_header(&NAME.parse().expect("a name")).expect("there is a header").bytes
    }

    pub fn restore(&self, backup: &[u8], rollback: Rollback) -> Result<(), AttachError> {
        self.registry().restore_header(&caller(), &NAME.parse().expect("a name"), backup, rollback).map(drop)
    }

    pub fn detach(&self) -> Result<(), AttachError> {
        self.registry().detach(&NAME.parse().expect("a name"), Force::No).map(drop)
    }

    /// What is remembered of the volume, if it is known.
    pub fn record(&self) -> Option<Record> {
        self.registry().show(&NAME.parse().expect("a name")).ok().map(|view| view.record)
    }

    /// The daemon is gone, without a word to anybody.
    pub fn stop_daemon(&mut self) {
        let backing = self.registry.is_some().then(|| self.record()).flatten().map(|record| record.backing);
        let Some(registry) = self.registry.take() else { return };
        let gone = Arc::downgrade(&registry);
        drop(registry);
        // Its threads let go of it, and whoever was the last one of the backing.
        while gone.upgrade().is_some() || backing.as_ref().is_some_and(|path| is_in_use(path)) {
            std::thread::yield_now();
        }
    }

    /// Everything asked since the machine came up, once nobody asks any more.
    pub fn end(mut self) -> Past {
        self.stop_daemon();
        let files: Log = self.shelf.log();
        Past { start: self.start.clone(), steps: self.disk.steps(), files }
    }
}

fn is_in_use(backing: &Path) -> bool {
    matches!(FileDevice::open(backing, Access::ReadWrite), Err(OpenError::InUse { .. }))
}

/// `step` as it is where it has come to the kernel and no answer has been given.
fn cached(step: &Step, at: Moment) -> Step {
    let mut asked = step.asked.clone();
    if let Asked::Write { durability, .. } | Asked::Zero { durability, .. } = &mut asked {
        *durability = Durability::Cached;
    }
    Step { asked, issued: step.issued, completed: Some((at, Ok(()))) }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop_daemon();
    }
}
