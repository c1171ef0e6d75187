//! A trial, to be measured beside a server: an NBD server as simple as one can be. It receives, moves the bytes and sends, one
//! thread a connection; no cipher, no judgement, no bounds, no errors. Its way `nothing` is what no server can leave out.
//!
//! usage: trial SOCKET FILE START SIZE WAY, where WAY is
//!   nothing   READs are answered with what lies in memory, WRITEs with success: the client and the socket alone
//!   file      `pread` and `pwrite`, as they come: what lies in the page cache, or on a tmpfs
//!   ring      READs through io_uring, through the page cache, hinted as random
//!   direct    READs through io_uring, around the page cache
//! START is where the volume begins in FILE, SIZE how long it is. `scripts/bench` measures it beside envol.
#![allow(
    unsafe_code,
    clippy::print_stderr,
    missing_docs,
    reason = "io_uring's entries name memory; a program of its own"
)]

use std::fs::{File, OpenOptions};
use std::io::{IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use io_uring::{IoUring, opcode, types};
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use nix::sys::socket::{MsgFlags, recv, sendmsg};
use nix::sys::uio::{pread, pwrite};

const HEADER: usize = 28;
const REPLY: usize = 16;
/// The longest request.
const LONGEST: usize = 256 << 10;
/// READs under way, and room in the ring for each of them and the socket.
const PLACES: usize = 128;
const ENTRIES: u32 = 256;
/// A page, and what lies before the data of a place in the ring's memory: the header of the reply, at its end.
const PAGE: usize = 4096;
/// Replies that leave in one system call.
const GATHERED: usize = 64;
/// What tells the socket from a place.
const SOCKET: u64 = u64::MAX;

#[derive(Clone, Copy, PartialEq)]
enum Way {
    Nothing,
    File,
    Ring,
    Direct,
}

struct Volume {
    file: File,
    start: u64,
    size: u64,
    way: Way,
}

struct Request {
    write: bool,
    cookie: [u8; 8],
    at: u64,
    length: usize,
}

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [socket, file, start, size, way] = &words[..] else {
        eprintln!("usage: trial SOCKET FILE START SIZE nothing|file|ring|direct");
        std::process::exit(2);
    };
    let number = |word: &str| word.parse::<u64>().expect("a number");
    let way = match way.as_str() {
        "nothing" => Way::Nothing,
        "file" => Way::File,
        "ring" => Way::Ring,
        "direct" => Way::Direct,
        other => panic!("no way {other}"),
    };
    let flags = if way == Way::Direct { nix::libc::O_DIRECT } else { 0 };
    let file = OpenOptions::new().read(true).write(way == Way::File).custom_flags(flags).open(file).expect("opens");
    if way == Way::Ring {
        posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM).expect("hinted");
    }
    let volume: &'static Volume = Box::leak(Box::new(Volume { file, start: number(start), size: number(size), way }));
    for client in UnixListener::bind(socket).expect("bound").incoming().flatten() {
        std::thread::spawn(move || serve(client, volume));
    }
}

/// Negotiates, then serves until the client goes, or something fails.
fn serve(mut client: UnixStream, volume: &Volume) -> Option<()> {
    greet(&mut client, volume.size)?;
    match volume.way {
        Way::Nothing | Way::File => at_once(&mut client, volume),
        Way::Ring | Way::Direct => on_a_ring(&client, volume),
    }
}

/// The fixed newstyle handshake: GO is granted whatever its name is, all else is unsupported.
fn greet(client: &mut UnixStream, size: u64) -> Option<()> {
    client.write_all(b"NBDMAGICIHAVEOPT\0\x03").ok()?;
    client.read_exact(&mut [0; 4]).ok()?;
    loop {
        let mut head = [0; 16];
        client.read_exact(&mut head).ok()?;
        let option = &head[8..12];
        let mut data = vec![0; big_endian(&head[12..16])];
        client.read_exact(&mut data).ok()?;
        let mut reply = |kind: u32, data: &[u8]| {
            let length = u32::try_from(data.len()).expect("short");
            let magic = 0x0003_e889_0455_65a9_u64.to_be_bytes();
            let parts = [&magic[..], option, &kind.to_be_bytes(), &length.to_be_bytes(), data];
            client.write_all(&parts.concat()).ok()
        };
        if option == 7_u32.to_be_bytes() {
            // The export: its size, and that several connections see the same.
            reply(3, &[&[0, 0][..], &size.to_be_bytes(), &0x0101_u16.to_be_bytes()].concat())?;
            return reply(1, &[]);
        }
        reply(0x8000_0001, &[])?;
    }
}

fn big_endian(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

impl Request {
    /// The request at the front of `input`; `None` where the client leaves.
    fn parse(input: &[u8]) -> Option<Self> {
        let kind = big_endian(&input[6..8]);
        let cookie = input[8..16].try_into().expect("eight bytes");
        (kind < 2).then(|| Self {
            write: kind == 1,
            cookie,
            at: big_endian(&input[16..24]) as u64,
            length: big_endian(&input[24..28]),
        })
    }

    fn reply_into(&self, header: &mut [u8]) {
        header[..8].copy_from_slice(&[0x67, 0x44, 0x66, 0x98, 0, 0, 0, 0]);
        header[8..16].copy_from_slice(&self.cookie);
    }
}

/// Requests as one receive brought them, carried out one after the other, and answered together.
fn at_once(client: &mut UnixStream, volume: &Volume) -> Option<()> {
    let mut input = vec![0; 2 * LONGEST];
    let mut output = vec![0; 2 * LONGEST];
    let (mut start, mut end) = (0, 0);
    loop {
        let mut filled = 0;
        let mut wanted = HEADER;
        while end - start >= HEADER {
            let request = Request::parse(&input[start..])?;
            wanted = HEADER + if request.write { request.length } else { 0 };
            let room = REPLY + if request.write { 0 } else { request.length };
            if end - start < wanted || output.len() - filled < room {
                break;
            }
            request.reply_into(&mut output[filled..]);
            let place = i64::try_from(volume.start + request.at).ok()?;
            let data = &mut output[filled + REPLY..filled + room];
            match (volume.way, request.write) {
                (Way::File, true) => drop(pwrite(&volume.file, &input[start + HEADER..start + wanted], place).ok()?),
                (Way::File, false) => drop(pread(&volume.file, data, place).ok()?),
                _ => {}
            }
            filled += room;
            start += wanted;
            wanted = HEADER;
        }
        client.write_all(&output[..filled]).ok()?;
        if end - start >= wanted {
            continue;
        }
        if start == end || start + wanted > input.len() {
            input.copy_within(start..end, 0);
            (start, end) = (0, end - start);
        }
        let received = client.read(&mut input[end..]).ok()?;
        end += received;
        (received > 0).then_some(())?;
    }
}

/// The memory of a ring's places: for each a page, at whose end the header of the reply lies, and the data.
struct Places {
    /// Leaked: the kernel may still write to it when a client is gone.
    memory: &'static mut [u8],
    first: usize,
    free: Vec<usize>,
    lengths: [usize; PLACES],
}

impl Places {
    const STRIDE: usize = PAGE + LONGEST;

    fn new() -> Self {
        let memory = vec![0; PLACES * Self::STRIDE + PAGE].leak();
        let first = memory.as_ptr().align_offset(PAGE);
        Self { memory, first, free: (0..PLACES).collect(), lengths: [0; PLACES] }
    }

    fn data(&self, place: usize) -> usize {
        self.first + place * Self::STRIDE + PAGE
    }

    fn reply(&self, place: usize) -> IoSlice<'_> {
        let data = self.data(place);
        IoSlice::new(&self.memory[data - REPLY..data + self.lengths[place]])
    }
}

/// READs through a ring, waited for together with the socket; replies that are ready together leave together.
fn on_a_ring(client: &UnixStream, volume: &Volume) -> Option<()> {
    let mut builder: io_uring::Builder<io_uring::squeue::Entry, io_uring::cqueue::Entry> = IoUring::builder();
    let mut ring = builder.setup_single_issuer().setup_defer_taskrun().build(ENTRIES).ok()?;
    let mut places = Places::new();
    let (mut input, mut end) = (vec![0; PLACES * HEADER], 0);
    let mut watching = false;
    let mut ready = Vec::with_capacity(PLACES);
    loop {
        let under_way = PLACES - places.free.len();
        if under_way > 0 {
            if !watching {
                let poll = opcode::PollAdd::new(types::Fd(client.as_raw_fd()), nix::libc::POLLIN as u32);
                // SAFETY: the operation has no memory.
                unsafe { ring.submission().push(&poll.build().user_data(SOCKET)) }.ok()?;
                watching = true;
            }
            ring.submit_and_wait(1).ok()?;
            for entry in ring.completion() {
                if entry.user_data() == SOCKET {
                    watching = false;
                } else {
                    let place = usize::try_from(entry.user_data()).ok()?;
                    (usize::try_from(entry.result()) == Ok(places.lengths[place])).then(|| ready.push(place))?;
                }
            }
            send(client, &places, &ready)?;
            places.free.append(&mut ready);
        }
        if under_way == 0 || !watching {
            let flags = if under_way == 0 { MsgFlags::empty() } else { MsgFlags::MSG_DONTWAIT };
            match recv(client.as_raw_fd(), &mut input[end..], flags) {
                Ok(0) => return None,
                Ok(received) => end += received,
                Err(_) => continue,
            }
            let mut start = 0;
            while end - start >= HEADER && !places.free.is_empty() {
                begin(&mut ring, &mut places, volume, &Request::parse(&input[start..])?)?;
                start += HEADER;
            }
            input.copy_within(start..end, 0);
            end -= start;
        }
    }
}

fn begin(ring: &mut IoUring, places: &mut Places, volume: &Volume, request: &Request) -> Option<()> {
    let place = places.free.pop()?;
    let data = places.data(place);
    request.reply_into(&mut places.memory[data - REPLY..data]);
    places.lengths[place] = request.length;
    let length = u32::try_from(request.length).ok().filter(|length| *length as usize <= LONGEST)?;
    let read = opcode::Read::new(types::Fd(volume.file.as_raw_fd()), places.memory[data..].as_mut_ptr(), length);
    let entry = read.offset(volume.start + request.at).build().user_data(place as u64);
    // SAFETY: the place is used by nothing else until the kernel has answered, and is never given back.
    unsafe { ring.submission().push(&entry) }.ok()?;
    ring.submit().ok()?;
    Some(())
}

fn send(client: &UnixStream, places: &Places, ready: &[usize]) -> Option<()> {
    for some in ready.chunks(GATHERED) {
        let mut parts = [IoSlice::new(&[]); GATHERED];
        parts.iter_mut().zip(some).for_each(|(part, place)| *part = places.reply(*place));
        let mut parts = &mut parts[..some.len()];
        while !parts.is_empty() {
            let sent = sendmsg::<()>(client.as_raw_fd(), parts, &[], MsgFlags::MSG_NOSIGNAL, None).ok()?;
            IoSlice::advance_slices(&mut parts, sent);
        }
    }
    Some(())
}
