//! The transmission phase over the real connection: every request gets its one answer, what is read is what was written, and
//! whatever is wrong leaves the stream in step or ends the connection.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use envol::nbd::{Admission, Export, Exports, Listener, Listing, Refusal, Server};

use super::Input;
use super::nbd_handshake::{Vol, named, option};

const SIZE: usize = 64 << 10;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISC: u16 = 2;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;
const CACHE: u16 = 5;
const ZEROES: u16 = 6;
const STATUS: u16 = 7;

/// One export, which each run has anew.
#[derive(Default)]
struct Anew(Mutex<Option<Arc<Vol>>>);

impl Exports for Anew {
    fn list(&self) -> Vec<Listing> {
        self.0.lock().expect("nobody panics").iter().map(|vol| vol.listing()).collect()
    }

    fn find(&self, _name: &str) -> Result<Arc<dyn Export>, Refusal> {
        let vol = self.0.lock().expect("nobody panics").clone();
        vol.map(|vol| vol as Arc<dyn Export>).ok_or(Refusal::Unknown)
    }
}

struct Served {
    exports: Arc<Anew>,
    socket: PathBuf,
    _server: Server,
    _directory: tempfile::TempDir,
}

static SERVED: LazyLock<Served> = LazyLock::new(|| {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("nbd.sock");
    let admission = Admission { uids: vec![nix::unistd::getuid().as_raw()], gids: Vec::new() };
    let listener = Listener::unix(&socket, admission).expect("listens");
    let exports = Arc::new(Anew::default());
    let server = Server::start(vec![listener], Arc::clone(&exports) as Arc<dyn Exports>).expect("starts");
    Served { exports, socket, _server: server, _directory: directory }
});

/// A client in step with its server, and what it knows of the volume.
struct Client {
    stream: UnixStream,
    structured: bool,
    known: Vec<u8>,
    cookie: u64,
}

impl Client {
    fn new(structured: bool) -> Self {
        *SERVED.exports.0.lock().expect("nobody panics") = Some(Vol::new("vol", u64::try_from(SIZE).expect("small")));
        let mut stream = UnixStream::connect(&SERVED.socket).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).expect("greeted");
        stream.write_all(&[0, 0, 0, 3]).expect("sent");
        let mut client = Self { stream, structured, known: vec![0; SIZE], cookie: 0 };
        if structured {
            client.negotiate(8, &[]);
            let context = [&[0, 0, 0, 1, 0, 0, 0, 15][..], b"base:allocation"].concat();
            client.negotiate(10, &named("vol", &context));
        }
        client.negotiate(7, &named("vol", &[0, 0]));
        client
    }

    /// An option, and its replies up to the last.
    fn negotiate(&mut self, kind: u32, data: &[u8]) {
        self.stream.write_all(&option(kind, data)).expect("sent");
        loop {
            let head: [u8; 20] = self.receive(20).try_into().expect("20 bytes");
            let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
            self.receive(usize::try_from(number(16)).expect("64 bits"));
            match number(12) {
                1 => return,
                reply => assert!(reply < 1 << 31, "option {kind} is refused: {reply:x}"),
            }
        }
    }

    fn receive(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.stream.read_exact(&mut bytes).expect("an answer comes");
        bytes
    }

    /// Sends a request; its error and data.
    fn ask(&mut self, command: u16, flags: u16, offset: u64, length: u32, payload: &[u8]) -> (u32, Vec<u8>) {
        self.cookie += 1;
        let head = [&0x2560_9513_u32.to_be_bytes()[..], &flags.to_be_bytes(), &command.to_be_bytes()].concat();
        let rest = [&self.cookie.to_be_bytes()[..], &offset.to_be_bytes(), &length.to_be_bytes()].concat();
        self.stream.write_all(&[&head, &rest, payload].concat()).expect("sent");
        // No more than there is can be answered.
        let most = usize::try_from(length).expect("64 bits").min(SIZE);
        let (mut error, mut data) = (0, vec![0; if command == READ { most } else { 0 }]);
        loop {
            let magic = self.receive(4);
            if magic == 0x6744_6698_u32.to_be_bytes() {
                let rest = self.receive(12);
                assert_eq!(rest[4..], self.cookie.to_be_bytes(), "the answer is to what was asked");
                let error = u32::from_be_bytes(rest[..4].try_into().expect("four bytes"));
                if error == 0 && command == READ {
                    data = self.receive(data.len());
                }
                return (error, data);
            }
            assert_eq!(magic, 0x668e_33ef_u32.to_be_bytes(), "a reply begins with its magic");
            assert!(self.structured);
            let head = self.receive(16);
            assert_eq!(head[4..12], self.cookie.to_be_bytes(), "the answer is to what was asked");
            let kind = u16::from_be_bytes([head[2], head[3]]);
            let length =
                usize::try_from(u32::from_be_bytes(head[12..].try_into().expect("four bytes"))).expect("64 bits");
            assert!(length <= SIZE + 4096, "a chunk is bounded");
            let body = self.receive(length);
            match kind {
                0 | 5 => {}
                1 => {
                    let at = usize::try_from(u64::from_be_bytes(body[..8].try_into().expect("eight bytes")) - offset)
                        .expect("64 bits");
                    data[at..at + length - 8].copy_from_slice(&body[8..]);
                }
                kind if kind & 1 << 15 != 0 => error = u32::from_be_bytes(body[..4].try_into().expect("four bytes")),
                kind => panic!("a chunk of kind {kind}"),
            }
            if head[1] & 1 != 0 {
                return (error, data);
            }
        }
    }

    /// One request that may be wrong in every way but in its form.
    fn step(&mut self, input: &mut Input<'_>) {
        let command = match input.byte() % 10 {
            9 => input.u16(),
            8 => WRITE,
            command => u16::from(command),
        };
        if command == DISC {
            return;
        }
        let flags = if input.byte().is_multiple_of(4) { input.u16() } else { 0 };
        let offset = match input.byte() % 4 {
            0 => u64::from(input.u32()) << 32 | u64::from(input.u32()),
            _ => u64::from(input.u32()) % (SIZE as u64 + 600),
        };
        let length = match input.byte() % 4 {
            0 => input.u32() >> (input.byte() % 32),
            _ => u32::from(input.u16()) % 9000,
        };
        // A longer payload ends the connection, which is looked at elsewhere.
        let length = if command == WRITE { length % (1 << 20) } else { length };
        let fill = input.byte();
        let payload = vec![fill; if command == WRITE { usize::try_from(length).expect("64 bits") } else { 0 }];
        let (error, data) = self.ask(command, flags, offset, length, &payload);
        self.judge(command, flags, offset, length, fill, error, &data);
    }

    #[expect(clippy::too_many_arguments, reason = "a request and its answer")]
    fn judge(&mut self, command: u16, flags: u16, offset: u64, length: u32, fill: u8, error: u32, data: &[u8]) {
        let end = offset.checked_add(u64::from(length));
        let inside = end.is_some_and(|end| end <= SIZE as u64);
        let known = [READ, WRITE, FLUSH, TRIM, CACHE, ZEROES, STATUS].contains(&command);
        if error != 0 {
            let plain = known && flags == 0 && inside && (command != FLUSH || (offset, length) == (0, 0));
            assert!(!plain || command == STATUS, "command {command} at {offset}+{length} is refused: {error}");
            assert!([1, 5, 12, 22, 28, 75, 95, 108].contains(&error), "an errno that NBD does not know: {error}");
            return;
        }
        assert!(
            known && (inside || length == 0 || command == FLUSH),
            "command {command} at {offset}+{length} is carried out"
        );
        if command == FLUSH || !inside {
            return;
        }
        let (start, end) =
            (usize::try_from(offset).expect("inside"), usize::try_from(end.expect("inside")).expect("inside"));
        match command {
            READ => assert!(self.known[start..end] == *data, "what is read was not written"),
            WRITE => self.known[start..end].fill(fill),
            TRIM | ZEROES => {
                if command == ZEROES {
                    self.known[start..end].fill(0);
                } else {
                    // What is trimmed reads as it was or as zeros, for good.
                    let (_, now) = self.ask(READ, 0, offset, length, &[]);
                    for (known, now) in self.known[start..end].iter_mut().zip(now) {
                        assert!(now == *known || now == 0, "what was trimmed is something else");
                        *known = now;
                    }
                }
            }
            _ => {}
        }
    }
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let mode = input.byte();
    let mut client = Client::new(mode & 1 != 0);
    for _ in 0..32 {
        if input.is_empty() {
            break;
        }
        client.step(&mut input);
    }
    let all = u32::try_from(SIZE).expect("small");
    let (error, data) = client.ask(READ, 0, 0, all, &[]);
    assert!(error == 0 && data == client.known, "the volume is not what was written");
    if mode & 2 != 0 {
        // Bytes that are no request: the connection ends.
        let mut noise = input.take(28).to_vec();
        noise.resize(28, 0xff);
        noise[0] = 0xff;
        client.stream.write_all(&noise).expect("sent");
        let mut rest = Vec::new();
        let read = client.stream.read_to_end(&mut rest);
        assert!(read.is_ok_and(|length| length == 0) || rest.is_empty(), "nonsense is answered by the end");
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let commands = (0..10_u8).flat_map(|command| {
        [0_u8, 1, 2, 3].map(move |mode| {
            let request = |at: u8, length: u8| [command, 1, 1, 0, 0, at, 7, 1, length, 9, 0x5a];
            [&[mode][..], &request(0, 16), &[0, 1, 1, 0, 0, 0, 0, 1, 16, 0, 0], &request(2, 1)].concat()
        })
    });
    let far = [[0_u8, 1], [1, 1], [4, 0], [6, 0], [7, 0]].map(|[command, flags]| {
        [&[1_u8, command, flags][..], &[0, 255, 255, 255, 255, 255, 255, 255, 255, 0, 255, 255, 255, 255, 0, 7]]
            .concat()
    });
    commands.chain(far).collect()
}
