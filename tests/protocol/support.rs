//! A server of the product over devices in memory, and a raw client that says exactly what a test wants said.
//!
//! The numbers of the protocol are written down here once more, so that a wrong one in the product is noticed.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use envol::block::memory::MemoryDevice;
use envol::block::{BlockDevice, Geometry, Io, Patience};
use envol::nbd::{Admission, Bounds, Export, Exports, Listener, Listing, Refusal, Server, Session};
use envol::sync::Gate;
use envol::units::ByteCount;

pub(crate) const MAGIC: u64 = 0x4e42444d41474943;
pub(crate) const IHAVEOPT: u64 = 0x49484156454f5054;
pub(crate) const OPTION_REPLY: u64 = 0x3e889045565a9;
pub(crate) const REQUEST: u32 = 0x25609513;
pub(crate) const SIMPLE_REPLY: u32 = 0x67446698;
pub(crate) const CHUNK: u32 = 0x668e33ef;

pub(crate) const EXPORT_NAME: u32 = 1;
pub(crate) const ABORT: u32 = 2;
pub(crate) const LIST: u32 = 3;
pub(crate) const STARTTLS: u32 = 5;
pub(crate) const INFO: u32 = 6;
pub(crate) const GO: u32 = 7;
pub(crate) const STRUCTURED_REPLY: u32 = 8;
pub(crate) const LIST_META_CONTEXT: u32 = 9;
pub(crate) const SET_META_CONTEXT: u32 = 10;
pub(crate) const EXTENDED_HEADERS: u32 = 11;

pub(crate) const ACK: u32 = 1;
pub(crate) const SERVER: u32 = 2;
pub(crate) const REP_INFO: u32 = 3;
pub(crate) const META_CONTEXT: u32 = 4;
pub(crate) const ERR_UNSUP: u32 = 0x8000_0001;
pub(crate) const ERR_POLICY: u32 = 0x8000_0002;
pub(crate) const ERR_INVALID: u32 = 0x8000_0003;
pub(crate) const ERR_UNKNOWN: u32 = 0x8000_0006;
pub(crate) const ERR_SHUTDOWN: u32 = 0x8000_0007;
pub(crate) const ERR_TOO_BIG: u32 = 0x8000_0009;

pub(crate) const READ: u16 = 0;
pub(crate) const WRITE: u16 = 1;
pub(crate) const DISC: u16 = 2;
pub(crate) const FLUSH: u16 = 3;
pub(crate) const TRIM: u16 = 4;
pub(crate) const CACHE: u16 = 5;
pub(crate) const WRITE_ZEROES: u16 = 6;
pub(crate) const BLOCK_STATUS: u16 = 7;

pub(crate) const FUA: u16 = 1;
pub(crate) const NO_HOLE: u16 = 2;
pub(crate) const DF: u16 = 4;
pub(crate) const REQ_ONE: u16 = 8;
pub(crate) const FAST_ZERO: u16 = 16;

pub(crate) const EPERM: u32 = 1;
pub(crate) const EIO: u32 = 5;
pub(crate) const EINVAL: u32 = 22;
pub(crate) const ENOSPC: u32 = 28;
pub(crate) const EOVERFLOW: u32 = 75;
pub(crate) const ENOTSUP: u32 = 95;
pub(crate) const ESHUTDOWN: u32 = 108;

/// The size of the usual export.
pub(crate) const SIZE: u64 = 1 << 20;

/// How long a test waits for what must come before it calls that a hang.
pub(crate) const HANG: Duration = Duration::from_secs(60);

/// An export over any device, with a gate as an attachment has it.
pub(crate) struct TestExport {
    name: String,
    device: Box<dyn BlockDevice>,
    pub(crate) gate: Gate,
    /// Who is connected now.
    pub(crate) sessions: Arc<Mutex<Vec<Arc<dyn Session>>>>,
    /// What [`Export::connected`] answers instead of letting a client in.
    pub(crate) closed_door: Mutex<Option<Refusal>>,
}

impl TestExport {
    pub(crate) fn new(name: &str, device: impl BlockDevice + 'static) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            device: Box::new(device),
            gate: Gate::new(),
            sessions: Arc::default(),
            closed_door: Mutex::default(),
        })
    }
}

struct Presence(Arc<Mutex<Vec<Arc<dyn Session>>>>, Arc<dyn Session>);

impl Drop for Presence {
    fn drop(&mut self) {
        self.0.lock().unwrap().retain(|session| !Arc::ptr_eq(session, &self.1));
    }
}

impl Export for TestExport {
    fn listing(&self) -> Listing {
        Listing { name: self.name.clone(), description: format!("the volume {}", self.name) }
    }

    fn enter(&self) -> bool {
        self.gate.try_count()
    }

    fn leave(&self) {
        self.gate.leave();
    }

    fn device(&self) -> &dyn BlockDevice {
        &*self.device
    }

    fn connected(&self, session: Arc<dyn Session>) -> Result<Box<dyn Send>, Refusal> {
        if let Some(refusal) = self.closed_door.lock().unwrap().clone() {
            return Err(refusal);
        }
        self.sessions.lock().unwrap().push(Arc::clone(&session));
        Ok(Box::new(Presence(Arc::clone(&self.sessions), session)))
    }
}

/// The exports of a test, which may change while the server runs.
#[derive(Default)]
pub(crate) struct TestExports {
    pub(crate) exports: Mutex<BTreeMap<String, Result<Arc<TestExport>, Refusal>>>,
}

impl TestExports {
    pub(crate) fn set(&self, name: &str, what: Result<Arc<TestExport>, Refusal>) {
        self.exports.lock().unwrap().insert(name.into(), what);
    }
}

impl Exports for TestExports {
    fn list(&self) -> Vec<Listing> {
        self.exports.lock().unwrap().values().flatten().map(|export| export.listing()).collect()
    }

    fn find(&self, name: &str) -> Result<Arc<dyn Export>, Refusal> {
        match self.exports.lock().unwrap().get(name) {
            Some(Ok(export)) => Ok(Arc::clone(export) as Arc<dyn Export>),
            Some(Err(refusal)) => Err(refusal.clone()),
            None => Err(Refusal::Unknown),
        }
    }
}

/// A server with one export `vol` of [`SIZE`] bytes, and what else a test adds.
pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) exports: Arc<TestExports>,
    pub(crate) vol: Arc<TestExport>,
    server: Option<Server>,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::over(MemoryDevice::new(ByteCount::new(SIZE)))
    }

    pub(crate) fn over(device: impl BlockDevice + 'static) -> Self {
        Self::with_bounds(device, Bounds::default())
    }

    pub(crate) fn with_bounds(device: impl BlockDevice + 'static, bounds: Bounds) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = Listener::unix(&directory.path().join("nbd.sock"), own_user()).expect("listens");
        let exports = Arc::new(TestExports::default());
        let vol = TestExport::new("vol", device);
        exports.set("vol", Ok(Arc::clone(&vol)));
        let server = Server::start_with(vec![listener], Arc::clone(&exports) as Arc<dyn Exports>, bounds);
        Self { directory, exports, vol, server: Some(server.expect("starts")) }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.path().join("nbd.sock")
    }

    /// The URI of an export, for other people's clients.
    pub(crate) fn uri(&self, export: &str) -> String {
        format!("nbd+unix:///{export}?socket={}", self.socket().display())
    }

    pub(crate) fn connect(&self) -> Raw {
        Raw::new(UnixStream::connect(self.socket()).expect("connects"))
    }

    /// Connected and greeted.
    pub(crate) fn haggle(&self) -> Raw {
        let mut raw = self.connect();
        raw.greet(3);
        raw
    }

    /// In the transmission phase of `vol`, with simple replies.
    pub(crate) fn simple(&self) -> Raw {
        let mut raw = self.haggle();
        raw.go("vol");
        raw
    }

    /// In the transmission phase of `vol`, with structured replies and `base:allocation`.
    pub(crate) fn structured(&self) -> Raw {
        let mut raw = self.haggle();
        assert_eq!(raw.ask(STRUCTURED_REPLY, &[]), ACK);
        assert_eq!(raw.ask(SET_META_CONTEXT, &contexts("vol", &["base:allocation"])), ACK);
        raw.go("vol");
        raw
    }

    pub(crate) fn connections(&self) -> usize {
        self.server.as_ref().expect("running").connections()
    }

    pub(crate) fn stop(&mut self, within: Duration) -> usize {
        self.server.take().expect("running").stop(Instant::now() + within)
    }

    /// Shows that the server is well: a new client reads and writes.
    pub(crate) fn assert_serves(&self) {
        let mut raw = self.simple();
        raw.request(WRITE, 0, 1, 512, 4, b"well");
        assert_eq!(raw.simple_reply(0).0, 0);
        raw.request(READ, 0, 2, 512, 4, &[]);
        assert_eq!(raw.simple_reply(4), (0, 2, b"well".to_vec()));
    }
}

/// Whoever runs the tests.
pub(crate) fn own_user() -> Admission {
    Admission { uids: vec![nix::unistd::getuid().as_raw()], gids: Vec::new() }
}

/// Waits until `condition` holds.
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < HANG, "still waiting for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// The data of INFO and GO.
pub(crate) fn export_request(name: &str, infos: &[u16]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend((infos.len() as u16).to_be_bytes());
    infos.iter().for_each(|info| data.extend(info.to_be_bytes()));
    data
}

/// The data of LIST_META_CONTEXT and SET_META_CONTEXT.
pub(crate) fn contexts(name: &str, queries: &[&str]) -> Vec<u8> {
    let mut data = (name.len() as u32).to_be_bytes().to_vec();
    data.extend(name.as_bytes());
    data.extend((queries.len() as u32).to_be_bytes());
    for query in queries {
        data.extend((query.len() as u32).to_be_bytes());
        data.extend(query.as_bytes());
    }
    data
}

/// An option's message.
pub(crate) fn option(kind: u32, data: &[u8]) -> Vec<u8> {
    [&IHAVEOPT.to_be_bytes()[..], &kind.to_be_bytes(), &(data.len() as u32).to_be_bytes(), data].concat()
}

/// A request's header.
pub(crate) fn request(command: u16, flags: u16, cookie: u64, offset: u64, length: u32) -> Vec<u8> {
    let mut bytes = REQUEST.to_be_bytes().to_vec();
    bytes.extend(flags.to_be_bytes());
    bytes.extend(command.to_be_bytes());
    bytes.extend(cookie.to_be_bytes());
    bytes.extend(offset.to_be_bytes());
    bytes.extend(length.to_be_bytes());
    bytes
}

/// A chunk of a structured reply.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) done: bool,
    pub(crate) kind: u16,
    pub(crate) cookie: u64,
    pub(crate) payload: Vec<u8>,
}

/// A client that says what it is told to.
pub(crate) struct Raw {
    pub(crate) stream: UnixStream,
}

impl Raw {
    pub(crate) fn new(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(HANG)).expect("set");
        stream.set_write_timeout(Some(HANG)).expect("set");
        Self { stream }
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("sent");
    }

    pub(crate) fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("received");
        bytes
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes(self.receive(2).try_into().unwrap())
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.receive(4).try_into().unwrap())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.receive(8).try_into().unwrap())
    }

    /// Reads the greeting and answers with `flags`.
    pub(crate) fn greet(&mut self, flags: u32) {
        assert_eq!((self.u64(), self.u64(), self.u16()), (MAGIC, IHAVEOPT, 3));
        self.send(&flags.to_be_bytes());
    }

    /// One reply to an option: its type and data.
    pub(crate) fn option_reply(&mut self, kind: u32) -> (u32, Vec<u8>) {
        assert_eq!((self.u64(), self.u32()), (OPTION_REPLY, kind));
        let (reply, length) = (self.u32(), self.u32());
        (reply, self.receive(length as usize))
    }

    /// Sends an option; answers all replies to it, the final one last.
    pub(crate) fn ask_all(&mut self, kind: u32, data: &[u8]) -> Vec<(u32, Vec<u8>)> {
        self.send(&option(kind, data));
        let mut replies = Vec::new();
        loop {
            let (reply, data) = self.option_reply(kind);
            replies.push((reply, data));
            if reply == ACK || reply & 0x8000_0000 != 0 {
                return replies;
            }
        }
    }

    /// Sends an option; answers the type of the final reply.
    pub(crate) fn ask(&mut self, kind: u32, data: &[u8]) -> u32 {
        self.ask_all(kind, data).pop().expect("a final reply").0
    }

    /// GO, which succeeds; answers size and transmission flags.
    pub(crate) fn go(&mut self, export: &str) -> (u64, u16) {
        let replies = self.ask_all(GO, &export_request(export, &[]));
        assert_eq!(replies.last().expect("a reply").0, ACK, "{replies:?}");
        let (_, data) = replies.iter().find(|(kind, data)| *kind == REP_INFO && data[..2] == [0, 0]).expect("the size");
        (u64::from_be_bytes(data[2..10].try_into().unwrap()), u16::from_be_bytes(data[10..12].try_into().unwrap()))
    }

    pub(crate) fn request(&mut self, command: u16, flags: u16, cookie: u64, offset: u64, length: u32, payload: &[u8]) {
        self.send(&[&request(command, flags, cookie, offset, length), payload].concat());
    }

    /// A simple reply: error, cookie, and `length` bytes of data where there is no error.
    pub(crate) fn simple_reply(&mut self, length: usize) -> (u32, u64, Vec<u8>) {
        assert_eq!(self.u32(), SIMPLE_REPLY);
        let (error, cookie) = (self.u32(), self.u64());
        let data = if error == 0 { self.receive(length) } else { Vec::new() };
        (error, cookie, data)
    }

    pub(crate) fn chunk(&mut self) -> Chunk {
        assert_eq!(self.u32(), CHUNK);
        let (flags, kind, cookie, length) = (self.u16(), self.u16(), self.u64(), self.u32());
        Chunk { done: flags & 1 != 0, kind, cookie, payload: self.receive(length as usize) }
    }

    /// Sends a request without payload; answers the error of its simple reply.
    pub(crate) fn error_of(&mut self, command: u16, flags: u16, offset: u64, length: u32) -> u32 {
        self.request(command, flags, 0xc0ffee, offset, length, &[]);
        let (error, cookie, _) = self.simple_reply(if command == READ { length as usize } else { 0 });
        assert_eq!(cookie, 0xc0ffee);
        error
    }

    /// Shows that the stream is in step: a READ is answered.
    pub(crate) fn assert_in_step(&mut self) {
        self.request(READ, 0, 0x57e9, 0, 16, &[]);
        let (error, cookie, _) = self.simple_reply(16);
        assert_eq!((error, cookie), (0, 0x57e9));
    }

    /// Waits for the server to close, whatever it still says before.
    pub(crate) fn assert_closed(&mut self) {
        let mut rest = Vec::new();
        match self.stream.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the server keeps the connection: {error}"),
        }
    }

    pub(crate) fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).expect("shut down");
    }
}

/// A device that does to each operation what a test wants before, or instead of, handing it on.
pub(crate) struct Wrapped<F> {
    pub(crate) inner: MemoryDevice,
    pub(crate) geometry: Geometry,
    /// `true` hands the operation on; `false` leaves it without an outcome, or with the one that it was given.
    pub(crate) hook: F,
}

impl<F> Wrapped<F>
where
    F: Fn(&mut Io<'_>, Patience) -> bool + Send + Sync,
{
    pub(crate) fn new(size: u64, hook: F) -> Self {
        let inner = MemoryDevice::new(ByteCount::new(size));
        Self { geometry: inner.geometry(), inner, hook }
    }
}

impl<F> BlockDevice for Wrapped<F>
where
    F: Fn(&mut Io<'_>, Patience) -> bool + Send + Sync,
{
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        for io in batch {
            if (self.hook)(io, patience) {
                self.inner.submit(std::slice::from_mut(io), patience, done);
            } else if io.outcome().is_some() {
                done(io);
            }
        }
    }
}
