//! All volumes known here, and the right to do something to one of them.
//!
//! The table is locked for moments only: no I/O, no KMS call, no waiting under it. Whoever needs longer takes a [`Claim`],
//! which reserves the volume (and its name) and gives it back on drop. Lock order: a record's stripe, the table, an
//! attachment's clients.

use std::collections::BTreeMap;
use std::io;
use std::time::Instant;

use super::attachment::Attachment;
use super::backing::Seen;
use super::deadline::{Bounded, Door, Patience, Stop};
use super::detach::Ending;
use super::look::{Looking, Looks};
use super::placement::Placement;
use super::records::{Directory, RecordFiles, Records, make_private_dir};
use super::state::{Conflict, Phase, Step, Work};
use super::{AttachError, EventLog, KmsTable, LastRefusal, Settings, State, VolumeRef, VolumeView};
use crate::block::BlockDevice;
use crate::kms::Principal;
use crate::limits;
use crate::names::{VolumeId, VolumeName};
use crate::sync::{Arc, Mutex, Weak, thread};
use crate::volume::{Condition, Header, Record, Wanted};

/// Put between a backing and everything above it: the tests put faults there.
pub type Layer = Box<dyn Fn(Arc<dyn BlockDevice>) -> Arc<dyn BlockDevice> + Send + Sync>;

/// All volumes of this daemon.
pub struct Registry {
    pub(super) settings: Settings,
    pub(super) events: Arc<EventLog>,
    pub(super) placement: Placement,
    pub(super) table: Mutex<Table>,
    pub(super) stop: Arc<Stop>,
    pub(super) started: Instant,
    pub(super) layer: Layer,
    doors: BTreeMap<String, Arc<Door>>,
    records: Records,
    pub(super) looks: Looks,
    pub(super) me: Weak<Self>,
}

#[derive(Default)]
pub(super) struct Table {
    volumes: BTreeMap<VolumeId, Entry>,
    names: BTreeMap<VolumeName, VolumeId>,
}

/// What is known of one volume.
pub(super) struct Entry {
    pub(super) record: Record,
    /// As last read, or verified.
    pub(super) header: Option<Header>,
    pub(super) phase: Phase,
    /// Whether a restart owes it an attach that has not succeeded, and nobody has attached it by hand since.
    pub(super) awaited: bool,
}

/// One caller's right to a volume; given back on drop. A volume that was to be born is gone then.
pub(super) struct Claim {
    registry: Arc<Registry>,
    id: VolumeId,
    work: Work,
    /// Its phase has been set by whoever took the claim.
    settled: bool,
}

impl Registry {
    /// Reads the records under `settings.state_dir`; opens nothing else.
    ///
    /// # Errors
    /// Where the state directory cannot be read.
    pub fn open(settings: Settings, kms: KmsTable, events: Arc<EventLog>) -> Result<Arc<Self>, AttachError> {
        Self::open_over(settings, kms, events, Box::new(|backing| backing))
    }

    /// As [`Registry::open`], with `layer` over every backing.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub fn open_over(
        settings: Settings,
        kms: KmsTable,
        events: Arc<EventLog>,
        layer: Layer,
    ) -> Result<Arc<Self>, AttachError> {
        let about = |source| AttachError::State { path: settings.state_dir.clone(), source };
        let records = Directory::open(settings.state_dir.join("records")).map_err(about)?;
        Self::open_with(settings, kms, events, layer, Box::new(records))
    }

    /// As [`Registry::open_over`], with the records in `records`.
    ///
    /// # Errors
    /// As [`Registry::open`].
    pub fn open_with(
        settings: Settings,
        kms: KmsTable,
        events: Arc<EventLog>,
        layer: Layer,
        records: Box<dyn RecordFiles>,
    ) -> Result<Arc<Self>, AttachError> {
        let about = |source| AttachError::State { path: settings.state_dir.clone(), source };
        let volumes = settings.state_dir.join("volumes");
        make_private_dir(&volumes).map_err(about)?;
        let records = Records::new(records);
        let table = Table::of(records.load().map_err(about)?);
        let placement = Placement::new(volumes, &settings.volume_dirs);
        Ok(Arc::new_cyclic(|me| Self {
            events,
            placement,
            table: Mutex::new(table),
            stop: Arc::default(),
            started: Instant::now(),
            layer,
            doors: kms.into_iter().map(|(name, kms)| (name, Door::new(kms))).collect(),
            records,
            looks: Looks::default(),
            me: me.clone(),
            settings,
        }))
    }

    /// All volumes, by name.
    pub fn list(&self) -> Vec<VolumeView> {
        let ids: Vec<VolumeId> = self.table.lock().names.values().cloned().collect();
        let mut looking = Looking::Waits;
        ids.iter().filter_map(|id| self.view_while(id, &mut looking).ok()).collect()
    }

    /// One volume.
    ///
    /// # Errors
    /// Where there is none.
    pub fn show(&self, volume: &VolumeRef) -> Result<VolumeView, AttachError> {
        self.view_of(&self.resolve(volume)?)
    }

    /// The attached volumes.
    pub fn attached(&self) -> Vec<Arc<Attachment>> {
        let table = self.table.lock();
        let attached = |entry: &Entry| match &entry.phase {
            Phase::Attached(attachment) => Some(Arc::clone(attachment)),
            _ => None,
        };
        table.volumes.values().filter_map(attached).collect()
    }

    /// Those that are being detached.
    pub(super) fn endings(&self) -> Vec<Arc<Ending>> {
        let table = self.table.lock();
        let detaching = |entry: &Entry| match &entry.phase {
            Phase::Detaching { ending, .. } => Some(Arc::clone(ending)),
            _ => None,
        };
        table.volumes.values().filter_map(detaching).collect()
    }

    pub(super) fn myself(&self) -> Arc<Self> {
        self.me.upgrade().expect("a registry lives in the Arc that `open` made, and it is borrowed here")
    }

    pub(super) fn resolve(&self, volume: &VolumeRef) -> Result<VolumeId, AttachError> {
        self.table.lock().resolve(volume).ok_or_else(|| AttachError::NotFound(volume.clone()))
    }

    /// The KMS of a section, its calls ending as `patience` says.
    pub(super) fn kms(&self, section: &str, patience: Patience) -> Result<Bounded, AttachError> {
        let door = self.doors.get(section).ok_or_else(|| AttachError::NoSuchKms(section.to_owned()))?;
        let kms = Bounded::new(Arc::clone(door), patience, Arc::clone(&self.stop));
        Ok(kms.placed(section != self.settings.default_kms))
    }

    /// Who attaches where nobody asked: the daemon after a restart.
    pub(super) fn infrastructure(&self) -> Principal {
        Principal::new(format!("arn:aws:sts::{}:assumed-role/envol/infrastructure", self.settings.account))
    }

    pub(super) fn state_error(&self, source: io::Error) -> AttachError {
        AttachError::State { path: self.records.dir().to_owned(), source }
    }

    /// Takes a volume for `work`.
    pub(super) fn claim(&self, id: &VolumeId, work: Work) -> Result<Claim, AttachError> {
        self.claim_in(&mut self.table.lock(), id, work)
    }

    /// The same, in a table that the caller has locked.
    pub(super) fn claim_in(&self, table: &mut Table, id: &VolumeId, work: Work) -> Result<Claim, AttachError> {
        if self.stop.is_set() {
            return Err(AttachError::Stopping);
        }
        let entry = table.entry_mut(id)?;
        entry.phase.step(Step::Begin(work)).map_err(|conflict| entry.conflict(conflict))?;
        Ok(Claim { registry: self.myself(), id: id.clone(), work, settled: false })
    }

    /// Takes an id and a name for a volume that is to be born; `record` stands in until it is.
    pub(super) fn claim_birth(&self, record: Record, work: Work) -> Result<Claim, AttachError> {
        if self.stop.is_set() {
            return Err(AttachError::Stopping);
        }
        let id = record.id.clone();
        let mut table = self.table.lock();
        if table.volumes.contains_key(&id) {
            return Err(AttachError::IdTaken(id));
        }
        if table.names.contains_key(&record.name) {
            return Err(AttachError::NameTaken(record.name));
        }
        if table.volumes.len() >= limits::VOLUMES_MAX {
            return Err(AttachError::TooManyVolumes);
        }
        table.names.insert(record.name.clone(), id.clone());
        let phase = Phase::Busy { work, refusal: None };
        table.volumes.insert(id.clone(), Entry { record, header: None, phase, awaited: false });
        Ok(Claim { registry: self.myself(), id, work, settled: false })
    }

    /// Changes what is remembered of a volume; durable on return.
    pub(super) fn update_record(&self, id: &VolumeId, change: impl FnOnce(&mut Record)) -> io::Result<()> {
        let exclusive = self.records.exclusively(id);
        let gone = || io::Error::new(io::ErrorKind::NotFound, "the volume is no longer known");
        let mut record = self.table.lock().volumes.get(id).ok_or_else(gone)?.record.clone();
        change(&mut record);
        exclusive.write(&record)?;
        if let Some(entry) = self.table.lock().volumes.get_mut(id) {
            entry.record = record;
        }
        Ok(())
    }

    /// A sync has failed: said in the record at once, and not by the thread that met it.
    pub(super) fn note_failed(&self, id: &VolumeId) {
        tracing::error!(volume = %id, "a sync failed: writes are refused until the volume is attached again");
        let (registry, id) = (self.myself(), id.clone());
        let noting = thread::Builder::new().name("envol-note-failed".into()).spawn(move || {
            if let Err(error) = registry.update_record(&id, |record| record.condition = Condition::Failed) {
                tracing::error!(volume = %id, %error, "the failed sync could not be recorded");
            }
        });
        if let Err(error) = noting {
            tracing::error!(%error, "no thread to record a failed sync");
        }
    }

    /// Why the last attach failed, for whoever asks from now on.
    pub(super) fn refuse(&self, id: &VolumeId, refusal: LastRefusal) {
        if let Ok(entry) = self.table.lock().entry_mut(id) {
            // A conflict: somebody has attached it since this attach was given up, and that result stands.
            let _ = entry.phase.step(Step::Refuse(refusal));
        }
    }

    pub(super) fn view_of(&self, id: &VolumeId) -> Result<VolumeView, AttachError> {
        self.view_while(id, &mut Looking::Waits)
    }

    fn view_while(&self, id: &VolumeId, looking: &mut Looking) -> Result<VolumeView, AttachError> {
        let (record, unread, attachment, mut view) = {
            let mut table = self.table.lock();
            let entry = table.entry_mut(id)?;
            let attachment = entry.phase.attachment().map(Arc::clone);
            (entry.record.clone(), entry.header.is_none(), attachment, entry.view())
        };
        if let Some(attachment) = attachment {
            let seen = self.look(id, looking, move || Seen::attached(attachment.parts.claim.allocated()));
            view.allocated = seen.and_then(|seen| seen.allocated);
            return Ok(view);
        }
        let backing = record.backing;
        let seen = self.look(id, looking, move || Seen::at(&backing, unread));
        let gone = seen.as_ref().is_some_and(|seen| !seen.there);
        if view.state == State::Available && (gone || record.condition == Condition::Failed) {
            view.state = State::Error;
        }
        let Some(seen) = seen else { return Ok(view) };
        view.allocated = seen.allocated;
        if let Some(header) = seen.header {
            view.header = Some(header.clone());
            if let Ok(entry) = self.table.lock().entry_mut(id) {
                // Somebody may have verified it meanwhile: that is worth more than a glance.
                entry.header.get_or_insert(header);
            }
        }
        Ok(view)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.stop.set();
    }
}

impl Table {
    fn of(records: Vec<Record>) -> Self {
        let mut table = Self::default();
        for record in records {
            if let Some(other) = table.names.insert(record.name.clone(), record.id.clone()) {
                tracing::error!(name = %record.name, %other, volume = %record.id, "two records have one name: the first is reached by its id only");
            }
            let awaited = record.wanted != Wanted::Detached;
            let entry = Entry { record, header: None, phase: Phase::idle(), awaited };
            table.volumes.insert(entry.record.id.clone(), entry);
        }
        table
    }

    pub(super) fn resolve(&self, volume: &VolumeRef) -> Option<VolumeId> {
        match volume {
            VolumeRef::Id(id) => self.volumes.contains_key(id).then(|| id.clone()),
            VolumeRef::Name(name) => self.names.get(name).cloned(),
        }
    }

    pub(super) fn entry_mut(&mut self, id: &VolumeId) -> Result<&mut Entry, AttachError> {
        self.volumes.get_mut(id).ok_or_else(|| AttachError::NotFound(VolumeRef::Id(id.clone())))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.volumes.values()
    }

    fn remove(&mut self, id: &VolumeId) {
        if let Some(entry) = self.volumes.remove(id)
            && self.names.get(&entry.record.name) == Some(id)
        {
            self.names.remove(&entry.record.name);
        }
    }
}

impl Entry {
    pub(super) fn conflict(&self, conflict: Conflict) -> AttachError {
        AttachError::conflict(&self.record.name, conflict)
    }

    fn view(&self) -> VolumeView {
        VolumeView {
            record: self.record.clone(),
            header: self.header.clone(),
            allocated: None,
            state: self.phase.word(),
            attachment: self.phase.attachment().map(|attachment| attachment.view()),
            last_refusal: self.phase.refusal().cloned(),
        }
    }
}

impl Claim {
    pub(super) const fn id(&self) -> &VolumeId {
        &self.id
    }

    /// What it was taken for.
    pub(super) const fn work(&self) -> Work {
        self.work
    }

    /// What is remembered of the volume now.
    pub(super) fn record(&self) -> Record {
        let mut table = self.registry.table.lock();
        table.entry_mut(&self.id).expect("a claimed volume stays in the table").record.clone()
    }

    /// The volume is attached: visible from here on. Where the daemon has begun to stop, or a re-attach was let go
    /// meanwhile, it is undone instead.
    pub(super) fn open(mut self, attachment: Arc<Attachment>) -> Result<(), AttachError> {
        let registry = Arc::clone(&self.registry);
        let mut table = registry.table.lock();
        // Asked under the lock: a stop that is set later finds the attachment in the table.
        if registry.stop.is_set() {
            drop(table);
            return Err(AttachError::Stopping);
        }
        let entry = table.entry_mut(&self.id)?;
        entry.header = Some(attachment.parts.header.clone());
        entry.phase.step(Step::Open(attachment)).map_err(|conflict| entry.conflict(conflict))?;
        entry.awaited = false;
        self.settled = true;
        Ok(())
    }

    /// The volume is born: remembered, then free.
    pub(super) fn bear(mut self, record: Record, header: Header) -> Result<(), AttachError> {
        let registry = Arc::clone(&self.registry);
        registry
            .update_record(&self.id, |provisional| *provisional = record)
            .map_err(|source| registry.state_error(source))?;
        let mut table = registry.table.lock();
        let entry = table.entry_mut(&self.id)?;
        entry.header = Some(header);
        entry.phase.step(Step::Release).map_err(|conflict| entry.conflict(conflict))?;
        self.settled = true;
        Ok(())
    }

    /// The volume is no longer known here.
    pub(super) fn bury(mut self) -> Result<(), AttachError> {
        let registry = Arc::clone(&self.registry);
        let exclusive = registry.records.exclusively(&self.id);
        exclusive.remove(&self.id).map_err(|source| registry.state_error(source))?;
        registry.table.lock().remove(&self.id);
        self.settled = true;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let mut table = self.registry.table.lock();
        if self.work.is_birth() {
            table.remove(&self.id);
        } else if let Ok(entry) = table.entry_mut(&self.id) {
            let released = entry.phase.step(Step::Release);
            debug_assert!(released.is_ok(), "a claimed volume is busy");
        }
    }
}
