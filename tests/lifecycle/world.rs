//! A state directory, a registry over it, two scripted KMSs, and the small steps that the tests are made of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use envol::attach::{
    AttachError, AttachOptions, Attachment, CreateRequest, EventLog, Force, KmsTable, LookUp, Registry, Settings,
    VolumeRef, VolumeView,
};
use envol::block::fault::Fault;
use envol::block::{BlockDevice, BlockDeviceExt, Caching, Durability};
use envol::kms::{Kms, Principal};
use envol::units::{ByteCount, ByteOffset, SectorSize};
use envol::volume::Rollback;

use crate::script::Scripted;

pub(crate) const SIZE: u64 = 1 << 20;

pub(crate) const WRITABLE: AttachOptions =
    AttachOptions { read_only: false, caching: Caching::PageCache, rollback: Rollback::Refuse };

type FaultyDisk = Fault<Arc<dyn BlockDevice>>;

/// A disk that misbehaves on demand.
pub(crate) type Disk = Arc<FaultyDisk>;

pub(crate) struct World {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) kms: Arc<Scripted>,
    /// The KMS section `other`.
    pub(crate) other: Arc<Scripted>,
    pub(crate) settings: Settings,
    /// Those that were opened; held by whoever opened them alone.
    pub(crate) disks: Arc<Mutex<Vec<Weak<FaultyDisk>>>>,
    registry: Option<Arc<Registry>>,
}

pub(crate) fn caller() -> Principal {
    Principal::new("arn:aws:iam::000000000000:user/somebody")
}

pub(crate) fn volume(name: &str) -> VolumeRef {
    name.parse().expect("a name")
}

pub(crate) fn request(name: &str) -> CreateRequest {
    CreateRequest {
        name: name.parse().expect("a name"),
        size: Some(ByteCount::new(SIZE)),
        key: None,
        kms: None,
        backing: None,
        sector_size: SectorSize::B4096,
        scope: ByteCount::new(1 << 40),
        thick: false,
        force: false,
    }
}

/// Waits until `condition` holds.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !condition() {
        assert!(Instant::now() < patience, "never came: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|_| ())
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut settings = Settings {
            state_dir: dir.path().join("state"),
            volume_dirs: vec![dir.path().join("disks")],
            account: "000000000000".into(),
            region: "us-east-1".into(),
            default_kms: "embedded".into(),
            attach_deadline: Duration::from_secs(20),
            drain_deadline: Duration::from_secs(20),
            detach_grace: Duration::from_millis(20),
            dead_connection_window: Duration::from_secs(3600),
        };
        change(&mut settings);
        std::fs::create_dir_all(dir.path().join("disks")).expect("made");
        let (kms, other) = (Arc::default(), Arc::default());
        let mut world = Self { dir, kms, other, settings, disks: Arc::default(), registry: None };
        world.start();
        world
    }

    /// Starts (or, after [`World::crash`], starts again) on the same state directory.
    pub(crate) fn start(&mut self) {
        let events = self.settings.state_dir.join("events.ndjson");
        std::fs::create_dir_all(&self.settings.state_dir).expect("made");
        let events = EventLog::open(events, &self.settings.account, &self.settings.region).expect("opens");
        let table: KmsTable = BTreeMap::from([
            ("embedded".to_owned(), Arc::clone(&self.kms) as Arc<dyn Kms>),
            ("other".to_owned(), Arc::clone(&self.other) as Arc<dyn Kms>),
        ]);
        let disks = Arc::clone(&self.disks);
        let layer = Box::new(move |backing: Arc<dyn BlockDevice>| {
            let disk = Arc::new(Fault::new(backing));
            disks.lock().expect("no panic").push(Arc::downgrade(&disk));
            disk as Arc<dyn BlockDevice>
        });
        let registry = Registry::open_over(self.settings.clone(), table, Arc::new(events), layer);
        self.registry = Some(registry.expect("opens"));
    }

    /// The registry is gone, without a word to anybody.
    pub(crate) fn crash(&mut self) {
        let registry = self.registry.take().expect("running");
        let gone = Arc::downgrade(&registry);
        drop(registry);
        eventually("the registry's threads have left it", || gone.upgrade().is_none());
    }

    pub(crate) fn restart(&mut self) {
        self.crash();
        self.start();
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        self.registry.as_ref().expect("running")
    }

    /// The disk that was opened last.
    pub(crate) fn disk(&self) -> Disk {
        self.disks.lock().expect("no panic").last().and_then(Weak::upgrade).expect("one is open")
    }

    pub(crate) fn create(&self, name: &str) -> VolumeView {
        self.create_as(request(name)).expect("created")
    }

    pub(crate) fn create_as(&self, request: CreateRequest) -> Result<VolumeView, AttachError> {
        self.registry().create(&caller(), request, &mut |_, _| true)
    }

    pub(crate) fn attach(&self, name: &str) -> Result<VolumeView, AttachError> {
        self.registry().attach(&caller(), &volume(name), WRITABLE)
    }

    pub(crate) fn detach(&self, name: &str) -> Result<VolumeView, AttachError> {
        self.registry().detach(&volume(name), Force::No)
    }

    pub(crate) fn show(&self, name: &str) -> VolumeView {
        self.registry().show(&volume(name)).expect("known")
    }

    pub(crate) fn attachment(&self, name: &str) -> Arc<Attachment> {
        match self.registry().look_up(name) {
            LookUp::Attached(attachment) => attachment,
            _ => panic!("{name} is not attached"),
        }
    }

    pub(crate) fn is_attached(&self, name: &str) -> bool {
        matches!(self.registry().look_up(name), LookUp::Attached(_))
    }

    pub(crate) fn write(&self, name: &str, byte: u8) {
        let attachment = self.attachment(name);
        assert!(attachment.enter());
        let written = attachment.device().write_at(ByteOffset::ZERO, &mut [byte; 8192], Durability::Durable);
        attachment.leave();
        written.expect("written");
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        let attachment = self.attachment(name);
        assert!(attachment.enter());
        let mut bytes = vec![0; 8192];
        let read = attachment.device().read_at(ByteOffset::ZERO, &mut bytes);
        attachment.leave();
        read.expect("read");
        bytes
    }

    pub(crate) fn backing(&self, name: &str) -> PathBuf {
        self.show(name).record.backing
    }

    /// The events so far, oldest first.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.settings.state_dir.join("events.ndjson")).expect("a log");
        text.lines().map(|line| serde_json::from_str(line).expect("a document a line")).collect()
    }

    /// (event, result, cause) of the last event.
    pub(crate) fn last_event(&self) -> (String, String, String) {
        let events = self.events();
        let detail = &events.last().expect("an event")["detail"];
        let text = |field: &str| detail[field].as_str().expect("text").to_owned();
        (text("event"), text("result"), text("cause"))
    }
}
