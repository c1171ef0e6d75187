//! A client that measures: many requests under way on one connection, many of them in one system call either way.
//!
//! It must never be what is measured, so: one thread, no allocation and no copy for a request, payloads sent from one
//! buffer and received into another that nobody reads. Latency is taken from just before the `send` that a request left
//! with to just after the `recv` that its last byte came with. Only one kind of request is under way at a time: READs
//! have small requests and WRITEs small replies, so that client and server can never both wait in `send`.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::time::{Duration, Instant};

use super::stream::{Offer, Stream};
use super::{ClientError, NbdUri};
use crate::limits;
use crate::nbd::wire::{self, RequestHeader, SimpleReply, command};
use crate::sys::pages::Pages;

/// What one `recv` can bring: enough for a queue of large replies, little enough to stay in a cache.
const INBOX: usize = 1 << 20;

/// WRITEs that one `send` takes: two slices each.
const WRITES_AT_ONCE: usize = 32;

/// Most requests under way. With it all of a queue's READ requests fit into a socket's buffer.
pub const DEPTH_MAX: usize = 256;

/// READ or WRITE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// READ.
    Read,
    /// WRITE, not durable.
    Write,
}

/// A stream of requests of one kind.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// READ or WRITE.
    pub direction: Direction,
    /// Bytes of each request; at most [`limits::REQUEST_MAX`].
    pub length: u32,
    /// How many are under way at once; at most [`DEPTH_MAX`].
    pub depth: usize,
    /// When no more are sent; those under way are waited for.
    pub until: Instant,
}

/// A connection in the transmission phase.
pub struct Pipeline {
    stream: Stream,
    offer: Offer,
    /// When the request of each slot was sent.
    sent: [Instant; DEPTH_MAX],
    /// The slots of requests that are under way.
    busy: [bool; DEPTH_MAX],
    /// Slots without one, as a stack.
    free: Vec<u8>,
    /// Headers of the requests of one `send`.
    headers: [u8; DEPTH_MAX * wire::REQUEST_HEADER],
    inbox: Pages,
    /// What every WRITE carries.
    payload: Pages,
    incoming: Incoming,
}

/// How far the replies have been understood.
#[derive(Debug, Default)]
struct Incoming {
    /// Bytes of a reply's header at the front of the inbox that are not a whole one yet.
    kept: usize,
    /// The slot whose data is arriving, and how many bytes of it are still to come.
    data: Option<(u8, usize)>,
}

const _: () = assert!(DEPTH_MAX - 1 <= u8::MAX as usize, "a slot is a byte");

impl Pipeline {
    /// Connects to the export of `uri`. A server that does not move for `patience` has failed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn connect(uri: &NbdUri, patience: Duration) -> Result<Self, ClientError> {
        let (stream, offer) = Stream::enter(uri, Some(patience))?;
        Ok(Self::over(stream, offer))
    }

    fn over(stream: Stream, offer: Offer) -> Self {
        let mut payload = Pages::allocate(limits::REQUEST_MAX as usize);
        // Noise, so that no server gains by a look at what it is sent. Untouched pages behind it cost nothing.
        fastrand::Rng::new().fill(&mut payload.bytes_mut()[..INBOX]);
        Self {
            stream,
            offer,
            sent: [Instant::now(); DEPTH_MAX],
            busy: [false; DEPTH_MAX],
            free: (0..=u8::MAX).collect(),
            headers: [0; DEPTH_MAX * wire::REQUEST_HEADER],
            inbox: Pages::allocate(INBOX),
            payload,
            incoming: Incoming::default(),
        }
    }

    /// Bytes in the export.
    pub fn size(&self) -> u64 {
        self.offer.size
    }

    /// Whether the export refuses writes.
    pub fn is_read_only(&self) -> bool {
        self.offer.read_only
    }

    /// Keeps `load` going: `next` says where each request begins, `done` is told how long each took. Answers how many
    /// were answered; all that were sent have been then.
    ///
    /// # Errors
    /// [`ClientError`]; the connection cannot be used any more.
    ///
    /// # Panics
    /// Where `load` is larger than it may be.
    pub fn run(
        &mut self,
        load: Load,
        next: &mut dyn FnMut() -> u64,
        done: &mut dyn FnMut(Duration),
    ) -> Result<u64, ClientError> {
        assert!((1..=DEPTH_MAX).contains(&load.depth) && load.length <= limits::REQUEST_MAX, "within the bounds");
        let idle = self.free.len();
        let (mut sent, mut answered) = (0, 0);
        loop {
            let now = Instant::now();
            if now < load.until {
                sent += self.send(load, now, load.depth - (idle - self.free.len()), next)?;
            }
            if sent == answered {
                return Ok(answered);
            }
            answered += self.receive(load, done)?;
        }
    }

    /// Sends `count` requests.
    fn send(
        &mut self,
        load: Load,
        now: Instant,
        count: usize,
        next: &mut dyn FnMut() -> u64,
    ) -> Result<u64, ClientError> {
        let (headers, _) = self.headers.as_chunks_mut::<{ wire::REQUEST_HEADER }>();
        let command = if load.direction == Direction::Read { command::READ } else { command::WRITE };
        for header in &mut headers[..count] {
            let slot = self.free.pop().expect("as many slots as requests");
            self.busy[usize::from(slot)] = true;
            self.sent[usize::from(slot)] = now;
            let (magic, cookie, offset) = (wire::REQUEST_MAGIC, u64::from(slot), next());
            *header = RequestHeader { magic, flags: 0, command, cookie, offset, length: load.length }.encode();
        }
        match load.direction {
            Direction::Read => self.stream.write_all(headers[..count].as_flattened())?,
            Direction::Write => {
                let payload = &self.payload.bytes()[..load.length as usize];
                for batch in headers[..count].chunks(WRITES_AT_ONCE) {
                    send_writes(&mut self.stream, batch, payload)?;
                }
            }
        }
        Ok(count as u64)
    }

    /// Receives what is there, at least a byte; answers how many replies are complete by it.
    fn receive(&mut self, load: Load, done: &mut dyn FnMut(Duration)) -> Result<u64, ClientError> {
        let kept = self.incoming.kept;
        let length = match self.stream.read(&mut self.inbox.bytes_mut()[kept..]) {
            Ok(0) => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(length) => kept + length,
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(0),
            Err(error) => return Err(error.into()),
        };
        let (mut at, mut answered) = (0, 0);
        let now = Instant::now();
        loop {
            let completed = match self.incoming.data.take() {
                Some((slot, left)) if left > length - at => {
                    self.incoming.data = Some((slot, left - (length - at)));
                    at = length;
                    break;
                }
                Some((slot, left)) => {
                    at += left;
                    slot
                }
                None => match self.reply_at(at, length)? {
                    Some(slot) => {
                        at += wire::SIMPLE_REPLY;
                        if load.direction == Direction::Read {
                            self.incoming.data = Some((slot, load.length as usize));
                            continue;
                        }
                        slot
                    }
                    None => break,
                },
            };
            self.busy[usize::from(completed)] = false;
            self.free.push(completed);
            done(now - self.sent[usize::from(completed)]);
            answered += 1;
        }
        self.inbox.bytes_mut().copy_within(at..length, 0);
        self.incoming.kept = length - at;
        Ok(answered)
    }

    /// The slot of the reply at `at` of the inbox; `None` where it has not arrived whole before `end`.
    fn reply_at(&self, at: usize, end: usize) -> Result<Option<u8>, ClientError> {
        let Some(header) = self.inbox.bytes()[at..end].first_chunk() else { return Ok(None) };
        let reply = SimpleReply::decode(header);
        if reply.magic != wire::SIMPLE_REPLY_MAGIC {
            return Err(ClientError::Protocol("a reply without its magic"));
        }
        let slot = u8::try_from(reply.cookie).ok().filter(|slot| self.busy[usize::from(*slot)]);
        let slot = slot.ok_or(ClientError::Protocol("a reply to a request that was not made"))?;
        if reply.error == 0 { Ok(Some(slot)) } else { Err(ClientError::Errno(reply.error)) }
    }
}

/// Sends one WRITE for each header, all with the same payload.
fn send_writes(stream: &mut Stream, headers: &[[u8; wire::REQUEST_HEADER]], payload: &[u8]) -> Result<(), ClientError> {
    let mut slices = [IoSlice::new(&[]); 2 * WRITES_AT_ONCE];
    for (pair, header) in slices.chunks_mut(2).zip(headers) {
        pair[0] = IoSlice::new(header);
        pair[1] = IoSlice::new(payload);
    }
    let mut left = &mut slices[..2 * headers.len()];
    while !left.is_empty() {
        match stream.write_vectored(left) {
            Ok(0) => return Err(std::io::Error::from(ErrorKind::WriteZero).into()),
            Ok(length) => IoSlice::advance_slices(&mut left, length),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;
    use std::thread;

    use super::*;

    /// A pipeline to a server that answers the first request with `answer` and ends, and how one READ then goes.
    fn after(answer: &[u8]) -> Result<u64, ClientError> {
        let (ours, mut theirs) = UnixStream::pair().expect("a pair");
        let offer = Offer { size: 1 << 20, read_only: false };
        let mut pipeline = Pipeline::over(Stream::Unix(ours), offer);
        let answer = answer.to_vec();
        let server = thread::spawn(move || {
            let mut request = [0; wire::REQUEST_HEADER];
            theirs.read_exact(&mut request).expect("a request");
            theirs.write_all(&answer).expect("sent");
        });
        let load = Load {
            direction: Direction::Read,
            length: 512,
            depth: 1,
            // A single request: the time is over once it has been answered.
            until: Instant::now() + Duration::from_millis(1),
        };
        let mut first = true;
        let mut slowly = |_| {
            assert!(std::mem::take(&mut first), "one request was made");
            thread::sleep(Duration::from_millis(2));
        };
        let done = pipeline.run(load, &mut || 0, &mut slowly);
        server.join().expect("it served");
        done
    }

    fn reply(error: u32, cookie: u64, data: usize) -> Vec<u8> {
        let header = SimpleReply { magic: wire::SIMPLE_REPLY_MAGIC, error, cookie }.encode();
        [&header[..], &vec![7; data]].concat()
    }

    #[test]
    fn a_whole_reply_counts_and_half_of_one_does_not() {
        let slot = u64::from(u8::MAX);
        assert!(matches!(after(&reply(0, slot, 512)), Ok(1)));
        assert!(matches!(after(&reply(0, slot, 511)), Err(ClientError::Connection(_))));
        assert!(matches!(after(&reply(0, slot, 0)[..7]), Err(ClientError::Connection(_))));
    }

    #[test]
    fn a_reply_that_is_none_is_no_success() {
        let slot = u64::from(u8::MAX);
        assert!(matches!(after(&reply(5, slot, 0)), Err(ClientError::Errno(5))));
        assert!(matches!(after(&[0; 16]), Err(ClientError::Protocol(_))));
        for stranger in [0, slot - 1, slot + 1, u64::MAX] {
            assert!(matches!(after(&reply(0, stranger, 512)), Err(ClientError::Protocol(_))), "{stranger}");
        }
    }
}
