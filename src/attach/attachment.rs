//! A volume open here: its gate, its plaintext device, its clients and what it has carried.
//!
//! On the way of a READ or a WRITE stand the gate (one atomic addition each way) and the traffic counters (relaxed).
//! Lock order: the registry's table, then `clients`. The device is used between [`Attachment::enter`] and
//! [`Attachment::leave`] only (its geometry always), so that a closed and empty gate means that nobody uses it.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use super::{AttachmentView, Traffic};
use crate::block::{
    BlockDevice, BlockDeviceExt, BlockError, Caching, Company, Fetch, Geometry, Io, Op, Patience, Witness,
};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{Arc, Condvar, Gate, Mutex};
use crate::units::{ByteCount, ByteOffset, Extent};
use crate::volume::{EncryptedDevice, Header, Record};

/// A volume open here. `daemon` makes an `nbd::Export` of it.
pub struct Attachment {
    pub(super) parts: Parts,
    since: SystemTime,
    gate: Gate,
    device: Counted,
    clients: Mutex<Clients>,
    left: Condvar,
}

/// What an attachment is made of.
pub(super) struct Parts {
    pub(super) record: Record,
    pub(super) header: Header,
    pub(super) read_only: bool,
    pub(super) caching: Caching,
    /// Header and ciphertext; what is flushed at the end, keys or none.
    pub(super) backing: Arc<dyn BlockDevice>,
    /// Ends the claim on the backing, whoever still points at the device.
    pub(super) claim: Box<dyn Closable>,
    /// Whether a sync has failed; set below, where it fails.
    pub(super) failed: Arc<AtomicBool>,
    /// Held by whoever changes the header meanwhile.
    pub(super) header_lock: Mutex<()>,
}

/// A claim on a backing.
pub(super) trait Closable: Send + Sync {
    /// Ends it; later I/O fails.
    fn close(&self);
    /// Bytes that the backing takes now.
    fn allocated(&self) -> Option<ByteCount>;
}

/// A device that can lose its keys.
pub(super) trait Plaintext: BlockDevice {
    /// See [`EncryptedDevice::wipe_keys`].
    fn wipe_keys(&self);
}

impl Plaintext for EncryptedDevice {
    fn wipe_keys(&self) {
        Self::wipe_keys(self);
    }
}

#[derive(Default)]
struct Clients {
    sealed: bool,
    next: u64,
    connected: BTreeMap<u64, Client>,
}

struct Client {
    name: String,
    close: Box<dyn Fn() + Send + Sync>,
}

/// Whether [`Attachment::seal`] lets connected clients stop it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sealing {
    IfUnused,
    Anyway,
}

/// Keeps a client counted; dropping it says that the client has gone.
pub struct ClientGuard {
    attachment: Arc<Attachment>,
    number: u64,
}

/// The plaintext device, counting what is answered.
struct Counted {
    inner: Box<dyn Plaintext>,
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    flushes: AtomicU64,
}

impl Attachment {
    pub(super) fn new(parts: Parts, plaintext: Box<dyn Plaintext>) -> Arc<Self> {
        Arc::new(Self {
            parts,
            since: SystemTime::now(),
            gate: Gate::new(),
            device: Counted::new(plaintext),
            clients: Mutex::default(),
            left: Condvar::new(),
        })
    }

    /// What was remembered of the volume when it was attached.
    pub fn record(&self) -> Record {
        self.parts.record.clone()
    }

    /// Counts a request in, or `false` once draining; each `true` is owed one [`Attachment::leave`].
    pub fn enter(&self) -> bool {
        self.gate.try_count()
    }

    /// A request has been carried out.
    pub fn leave(&self) {
        self.gate.leave();
    }

    /// The plaintext device, counting traffic.
    pub fn device(&self) -> &dyn BlockDevice {
        &self.device
    }

    /// Notes a client: `name` is what people are told, `close` ends its connection at once (and returns at once).
    /// `None` once draining.
    pub fn client(self: &Arc<Self>, name: String, close: Box<dyn Fn() + Send + Sync>) -> Option<ClientGuard> {
        let mut clients = self.clients.lock();
        if clients.sealed {
            return None;
        }
        let number = clients.next;
        clients.next += 1;
        clients.connected.insert(number, Client { name, close });
        Some(ClientGuard { attachment: Arc::clone(self), number })
    }

    /// Whether a sync has failed.
    pub(super) fn has_failed(&self) -> bool {
        self.parts.failed.load(Ordering::Relaxed)
    }

    pub(super) fn view(&self) -> AttachmentView {
        let clients = self.client_names();
        let Parts { read_only, caching, .. } = self.parts;
        AttachmentView { read_only, caching, since: self.since, clients, traffic: self.device.traffic() }
    }

    fn client_names(&self) -> Vec<String> {
        self.clients.lock().connected.values().map(|client| client.name.clone()).collect()
    }

    /// Lets no client in any more, and no request; who is connected where that stops it.
    pub(super) fn seal(&self, sealing: Sealing) -> Result<(), Vec<String>> {
        let mut clients = self.clients.lock();
        if sealing == Sealing::IfUnused && !clients.connected.is_empty() {
            return Err(clients.connected.values().map(|client| client.name.clone()).collect());
        }
        clients.sealed = true;
        drop(clients);
        self.gate.close();
        Ok(())
    }

    /// Waits until no client is connected; answers whether that came true by `deadline`.
    pub(super) fn wait_unused(&self, deadline: Instant) -> bool {
        let in_use = |clients: &mut Clients| !clients.connected.is_empty();
        self.left.wait_while_until(self.clients.lock(), deadline, in_use).connected.is_empty()
    }

    /// Waits until no request is in flight, however long that takes. After [`Attachment::seal`].
    pub(super) fn wait_drained(&self) {
        self.gate.wait_empty(None);
    }

    /// Ends every client's connection and wipes the keys. Waits for no disk; does no harm twice.
    pub(super) fn cut(&self) {
        self.close_sessions();
        self.device.inner.wipe_keys();
    }

    pub(super) fn close_sessions(&self) {
        self.clients.lock().connected.values().for_each(|client| (client.close)());
    }

    /// Makes durable what was written. Needs no keys.
    pub(super) fn flush(&self) -> Result<(), BlockError> {
        self.parts.backing.flush()
    }
}

impl Drop for ClientGuard {
    fn drop(&mut self) {
        self.attachment.clients.lock().connected.remove(&self.number);
        self.attachment.left.notify_all();
    }
}

impl Counted {
    fn new(inner: Box<dyn Plaintext>) -> Self {
        let zero = || AtomicU64::new(0);
        let (reads, read_bytes, writes, written_bytes, flushes) = (zero(), zero(), zero(), zero(), zero());
        Self { inner, reads, read_bytes, writes, written_bytes, flushes }
    }

    fn count(&self, io: &Io<'_>) {
        if io.outcome() != Some(Ok(())) {
            return;
        }
        match &io.op {
            Op::Read { into, .. } => self.count_read(ByteCount::of(into)),
            Op::Write { from, .. } => {
                add(&self.writes, 1);
                add(&self.written_bytes, ByteCount::of(from).get());
            }
            Op::Flush => add(&self.flushes, 1),
            Op::Zero { .. } | Op::Discard { .. } | Op::Extents { .. } => (),
        }
    }

    fn count_read(&self, length: ByteCount) {
        add(&self.reads, 1);
        add(&self.read_bytes, length.get());
    }

    fn traffic(&self) -> Traffic {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Traffic {
            reads: read(&self.reads),
            read_bytes: ByteCount::new(read(&self.read_bytes)),
            writes: read(&self.writes),
            written_bytes: ByteCount::new(read(&self.written_bytes)),
            flushes: read(&self.flushes),
        }
    }
}

fn add(count: &AtomicU64, by: u64) {
    count.fetch_add(by, Ordering::Relaxed);
}

impl BlockDevice for Counted {
    fn geometry(&self) -> Geometry {
        self.inner.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        self.inner.submit(batch, patience, &mut |io| {
            self.count(io);
            done(io);
        });
    }

    fn fetch(&self, extent: Extent, company: Company) -> Option<Fetch> {
        self.inner.fetch(extent, company)
    }

    fn fetched(
        &self,
        at: ByteOffset,
        bytes: &mut [u8],
        witness: Witness,
        read: Result<(), BlockError>,
    ) -> Option<Result<(), BlockError>> {
        let answer = self.inner.fetched(at, bytes, witness, read);
        if answer == Some(Ok(())) {
            self.count_read(ByteCount::of(bytes));
        }
        answer
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::a_record;
    use super::*;
    use crate::block::memory::MemoryDevice;
    use crate::kms::KeyArn;
    use crate::units::SectorSize;
    use std::time::Duration;

    struct NoClaim;

    impl Closable for NoClaim {
        fn close(&self) {}

        fn allocated(&self) -> Option<ByteCount> {
            None
        }
    }

    impl Plaintext for MemoryDevice {
        fn wipe_keys(&self) {}
    }

    pub(in super::super) fn an_attachment() -> Arc<Attachment> {
        let record = a_record("db", 1);
        let size = ByteCount::new(1 << 20);
        let header = Header {
            id: record.id.clone(),
            name: record.name.clone(),
            size,
            sector_size: SectorSize::B4096,
            data_offset: ByteOffset::new(1 << 20),
            scope: ByteCount::new(1 << 40),
            thick: false,
            kms: "embedded".into(),
            key: KeyArn::new("key"),
        };
        let parts = Parts {
            record,
            header,
            read_only: false,
            caching: Caching::PageCache,
            backing: Arc::new(MemoryDevice::new(size)),
            claim: Box::new(NoClaim),
            failed: Arc::default(),
            header_lock: Mutex::default(),
        };
        Attachment::new(parts, Box::new(MemoryDevice::new(size)))
    }

    #[test]
    fn what_is_answered_is_counted() {
        let attachment = an_attachment();
        let device = attachment.device();
        device.write_at(ByteOffset::ZERO, &mut [1; 512], crate::block::Durability::Cached).expect("writes");
        device.read_at(ByteOffset::ZERO, &mut [0; 4096]).expect("reads");
        device.read_at(ByteOffset::new(1 << 20), &mut [0; 1]).expect_err("past the end");
        device.flush().expect("flushes");
        let traffic = attachment.view().traffic;
        assert_eq!((traffic.reads, traffic.read_bytes.get()), (1, 4096));
        assert_eq!((traffic.writes, traffic.written_bytes.get(), traffic.flushes), (1, 512, 1));
    }

    #[test]
    fn a_connected_client_stops_a_seal_unless_it_is_forced() {
        let attachment = an_attachment();
        let closed = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&closed);
        let guard = attachment.client("uid 7".into(), Box::new(move || told.store(true, Ordering::Relaxed)));
        assert_eq!(attachment.seal(Sealing::IfUnused), Err(vec!["uid 7".to_owned()]));
        assert!(attachment.enter(), "a refused seal changes nothing");
        attachment.leave();
        assert!(!attachment.wait_unused(Instant::now() + Duration::from_millis(2)));
        attachment.seal(Sealing::Anyway).expect("forced");
        assert!(!attachment.enter());
        assert!(attachment.client("late".into(), Box::new(|| ())).is_none());
        attachment.cut();
        assert!(closed.load(Ordering::Relaxed));
        drop(guard);
        assert!(attachment.wait_unused(Instant::now()));
    }
}
