//! A volume on a disk of the tests' own, and who may do what to it at once.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use envol::attach::{
    AttachError, AttachOptions, Attachment, CreateRequest, EventLog, Force, KmsTable, LookUp, Registry, Settings,
    State, VolumeRef,
};
use envol::block::{BlockDevice, BlockDeviceExt, BlockError, Caching, Durability, Geometry, Io, Op, Patience};
use envol::kms::Principal;
use envol::units::{ByteCount, ByteOffset, SectorSize};
use envol::volume::Rollback;
use shuttle::sync::{Arc, Condvar, Mutex};
use shuttle::thread;

use crate::kms::MemoryKms;

const WRITABLE: AttachOptions =
    AttachOptions { read_only: false, caching: Caching::PageCache, rollback: Rollback::Refuse };

/// What the disk is asked, and whether it answers.
#[derive(Default)]
pub struct Disk {
    hangs: Mutex<bool>,
    released: Condvar,
    /// Requests inside the disk.
    pub inside: AtomicU64,
    /// Whether a request of a client was ever held up.
    pub held: AtomicBool,
}

impl Disk {
    /// From now on writes stay in the disk until [`Disk::release`].
    pub fn hang(&self) {
        *self.hangs.lock().expect("no panic") = true;
    }

    pub fn release(&self) {
        *self.hangs.lock().expect("no panic") = false;
        self.released.notify_all();
    }

    fn wait(&self) {
        let hangs = self.hangs.lock().expect("no panic");
        if *hangs {
            self.held.store(true, Ordering::SeqCst);
        }
        drop(self.released.wait_while(hangs, |hangs| *hangs).expect("no panic"));
    }
}

struct Watched {
    backing: Arc<dyn BlockDevice>,
    disk: Arc<Disk>,
}

impl BlockDevice for Watched {
    fn geometry(&self) -> Geometry {
        self.backing.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        self.disk.inside.fetch_add(1, Ordering::SeqCst);
        if batch.iter().any(|io| matches!(io.op, Op::Write { .. })) {
            self.disk.wait();
        }
        thread::yield_now();
        self.backing.submit(batch, patience, done);
        self.disk.inside.fetch_sub(1, Ordering::SeqCst);
    }
}

/// A registry with one volume, which is idle at first.
pub struct World {
    pub registry: Arc<Registry>,
    pub disk: Arc<Disk>,
    /// Detaches that ended by their deadline with the disk still at work.
    pub stuck: AtomicU64,
    /// A request that was being carried out found the keys wiped.
    pub cut_off: AtomicBool,
    directory: tempfile::TempDir,
}

fn caller() -> Principal {
    Principal::new("arn:aws:iam::000000000000:user/somebody")
}

fn db() -> VolumeRef {
    "db".parse().expect("a name")
}

fn settings(state_dir: PathBuf) -> Settings {
    Settings {
        state_dir,
        volume_dirs: Vec::new(),
        account: "000000000000".into(),
        region: "us-east-1".into(),
        default_kms: "embedded".into(),
        attach_deadline: Duration::from_secs(20),
        drain_deadline: Duration::from_secs(20),
        detach_grace: Duration::from_millis(20),
        dead_connection_window: Duration::from_secs(3600),
    }
}

impl World {
    pub fn new() -> Arc<Self> {
        let directory = tempfile::TempDir::new_in("/dev/shm").expect("a directory in memory");
        let settings = settings(directory.path().join("state"));
        std::fs::create_dir_all(&settings.state_dir).expect("made");
        let events = settings.state_dir.join("events.ndjson");
        let events = EventLog::open(events, &settings.account, &settings.region).expect("opens");
        let table: KmsTable =
            BTreeMap::from([("embedded".to_owned(), Arc::new(MemoryKms::sealing("embedded", 100)) as _)]);
        let disk = Arc::new(Disk::default());
        let below = Arc::clone(&disk);
        let layer = Box::new(move |backing: Arc<dyn BlockDevice>| {
            Arc::new(Watched { backing, disk: Arc::clone(&below) }) as Arc<dyn BlockDevice>
        });
        let registry = Registry::open_over(settings, table, Arc::new(events), layer).expect("opens");
        let world =
            Arc::new(Self { registry, disk, stuck: AtomicU64::new(0), cut_off: AtomicBool::new(false), directory });
        world.until_done(|| world.create().is_ok());
        world
    }

    fn create(&self) -> Result<(), AttachError> {
        let request = CreateRequest {
            name: "db".parse().expect("a name"),
            size: Some(ByteCount::new(1 << 20)),
            key: None,
            kms: None,
            backing: None,
            sector_size: SectorSize::B4096,
            scope: ByteCount::new(1 << 40),
            thick: false,
            force: false,
        };
        self.registry.create(&caller(), request, &mut |_, _| true).map(drop)
    }

    /// Again and again: a deadline may be over before anything was done.
    fn until_done(&self, attempt: impl Fn() -> bool) {
        while !attempt() {
            thread::yield_now();
        }
    }

    pub fn attach(&self) -> Result<(), AttachError> {
        self.registry.attach(&caller(), &db(), WRITABLE).map(drop)
    }

    /// Attaches, however often that takes.
    pub fn attach_in_the_end(&self) {
        self.until_done(|| self.attach().is_ok());
    }

    pub fn detach(&self, force: Force) -> Result<(), AttachError> {
        let outcome = self.registry.detach(&db(), force).map(drop);
        if matches!(outcome, Err(AttachError::StillDetaching(_))) {
            self.stuck.fetch_add(1, Ordering::SeqCst);
        }
        outcome
    }

    /// Detaches, and waits until that is through.
    pub fn detach_in_the_end(&self) {
        self.until_done(|| {
            self.detach(Force::Yes).ok();
            self.state() == State::Available
        });
    }

    pub fn shut_down(&self) {
        self.registry.shut_down(Instant::now() + Duration::from_secs(20));
    }

    /// What a READ finds that goes around the gate.
    pub fn read_by(attachment: &Attachment) -> Result<(), BlockError> {
        attachment.device().read_at(ByteOffset::ZERO, &mut [0; 512])
    }

    /// An event says that a detach was out of time.
    pub fn has_been_stuck(&self) -> bool {
        let events = std::fs::read_to_string(self.directory.path().join("state/events.ndjson")).expect("a log");
        events.contains("its backing has not answered") || self.stuck.load(Ordering::SeqCst) > 0
    }

    pub fn state(&self) -> State {
        self.registry.show(&db()).expect("known").state
    }

    pub fn attachment(&self) -> Option<Arc<Attachment>> {
        match self.registry.look_up("db") {
            LookUp::Attached(attachment) => Some(attachment),
            _ => None,
        }
    }

    /// Nobody is cut off in the middle of a request unless a detach was out of time.
    pub fn check_cuts(&self) {
        let (cut_off, stuck) = (self.cut_off.load(Ordering::SeqCst), self.stuck.load(Ordering::SeqCst));
        assert!(!cut_off || stuck > 0, "a request found the keys wiped, and no detach was in a hurry");
    }
}

/// How a client takes its way to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// Through the gate.
    Counted,
    /// Around it, which is the defect.
    Uncounted,
}

/// A client of the volume with a piece to itself.
pub struct Client {
    pub world: Arc<World>,
    pub piece: u64,
    pub manners: Manners,
    /// What was acknowledged last.
    pub acknowledged: Arc<AtomicU64>,
    /// Its connection was closed by the server.
    pub closed: Arc<AtomicBool>,
}

impl Client {
    pub fn new(world: &Arc<World>, piece: u64, manners: Manners) -> Self {
        let (acknowledged, closed) = (Arc::default(), Arc::default());
        Self { world: Arc::clone(world), piece, manners, acknowledged, closed }
    }

    /// Connects, writes twice and goes, if the volume is attached.
    pub fn visit(&self) {
        let Some(attachment) = self.world.attachment() else { return };
        let closed = Arc::clone(&self.closed);
        let close = Box::new(move || closed.store(true, Ordering::SeqCst));
        let Some(_connected) = attachment.client("somebody".into(), close) else { return };
        for _ in 0..2 {
            self.write(&attachment);
        }
    }

    fn write(&self, attachment: &Attachment) {
        let counted = self.manners == Manners::Counted;
        if counted && !attachment.enter() {
            return;
        }
        let value = self.acknowledged.load(Ordering::SeqCst) + 1;
        let mut bytes = [0; 512];
        bytes[..8].copy_from_slice(&value.to_le_bytes());
        let at = ByteOffset::new(self.piece * 512);
        let written = attachment.device().write_at(at, &mut bytes, Durability::Cached);
        match written {
            Ok(()) => self.acknowledged.store(value, Ordering::SeqCst),
            Err(error) => {
                assert_eq!(error, BlockError::Detached, "nothing else is wrong");
                self.world.cut_off.store(true, Ordering::SeqCst);
            }
        }
        if counted {
            attachment.leave();
        }
    }

    /// What it wrote last is there.
    pub fn check(&self) {
        let attachment = self.world.attachment().expect("attached");
        assert!(attachment.enter());
        let mut bytes = [0; 512];
        attachment.device().read_at(ByteOffset::new(self.piece * 512), &mut bytes).expect("read");
        attachment.leave();
        let found = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let acknowledged = self.acknowledged.load(Ordering::SeqCst);
        // A write that was answered with an error may be there as well.
        assert!(found == acknowledged || found == acknowledged + 1, "{found} and not {acknowledged}");
    }
}
