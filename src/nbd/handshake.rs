//! The handshake as a state machine: bytes in, replies and at most one decision out. No I/O, no clock.
//!
//! Fixed newstyle only. An option is looked at once all of it has arrived, so the stream stays in step whatever is
//! refused; one too long to be kept ends the connection. Negotiated state is dropped where a later option replaces it:
//! metadata contexts count only for the export for which they were set.

use super::options::{self, ContextRequest, ErrorReply, ExportRequest, Wanted};
use super::request::Terms;
use super::wire::{self, OptionHeader, OptionReplyHeader, handshake_flag, info, option, option_reply};
use super::{Export, Exports, Refusal};
use crate::limits;
use crate::sync::Arc;

/// Bytes of the greeting.
pub(super) const GREETING: usize = 18;
/// What is sent as padding to clients that do not know better.
const ZEROES: [u8; 124] = [0; 124];
const CLIENT_FLAGS: usize = 4;

/// One handshake.
pub(super) struct Handshake {
    exports: Arc<dyn Exports>,
    /// Whether the peer may be anybody at all, so that reasons are not told.
    insecure: bool,
    greeted: bool,
    no_zeroes: bool,
    structured: bool,
    /// The export for which `base:allocation` was set.
    allocation_of: Option<String>,
    options: usize,
    /// How many options are allowed, once worked out.
    allowed: Option<usize>,
}

/// What is to happen next.
pub(super) enum Step {
    /// More bytes are needed.
    More,
    /// The connection is to be closed once the replies are out.
    Close,
    /// The client wants to use an export: [`Handshake::admit`] or [`Handshake::turn_away`] goes on.
    Enter(Entry),
}

/// A client at the door of an export.
pub(super) struct Entry {
    /// The export.
    pub(super) export: Arc<dyn Export>,
    /// What is agreed once it is admitted.
    pub(super) terms: Terms,
    /// `None` where the client came by EXPORT_NAME, to which no error can be answered.
    wanted: Option<Wanted>,
}

/// What handling one option came to.
enum Handled {
    Answer(Result<(), ErrorReply>),
    Step(Step),
}

impl Handshake {
    /// A handshake in which nothing was said.
    pub(super) fn new(exports: Arc<dyn Exports>, insecure: bool) -> Self {
        Self {
            exports,
            insecure,
            greeted: false,
            no_zeroes: false,
            structured: false,
            allocation_of: None,
            options: 0,
            allowed: None,
        }
    }

    /// What the server says first.
    pub(super) fn greeting() -> [u8; GREETING] {
        let mut greeting = [0; GREETING];
        greeting[..8].copy_from_slice(&wire::NBD_MAGIC.to_be_bytes());
        greeting[8..16].copy_from_slice(&wire::OPTION_MAGIC.to_be_bytes());
        greeting[16..].copy_from_slice(&(handshake_flag::FIXED_NEWSTYLE | handshake_flag::NO_ZEROES).to_be_bytes());
        greeting
    }

    /// Takes what it understands off `input` up to the first that is replied to, puts replies into `out`, which is empty;
    /// answers how many bytes it took. To be called again with the rest and, where nothing was put out, more.
    pub(super) fn advance(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Step) {
        let mut taken = 0;
        loop {
            let rest = &input[taken..];
            let (length, step) = if self.greeted { self.option(rest, out) } else { self.client_flags(rest) };
            taken += length;
            // Replies are sent before the next option is looked at, so that they never pile up.
            if length == 0 || !out.is_empty() || !matches!(step, Step::More) {
                return (taken, step);
            }
        }
    }

    /// The client is in: tells it so.
    pub(super) fn admit(&self, entry: &Entry, out: &mut Vec<u8>) {
        let flags = entry.terms.transmission_flags();
        match entry.wanted {
            Some(wanted) => {
                describe(option::GO, entry, wanted, out);
                reply(option::GO, option_reply::ACK, &[], out);
            }
            None => {
                out.extend(entry.terms.size.get().to_be_bytes());
                out.extend(flags.to_be_bytes());
                if !self.no_zeroes {
                    out.extend(ZEROES);
                }
            }
        }
    }

    /// The client is not let in after all.
    pub(super) fn turn_away(&self, entry: &Entry, refusal: &Refusal, out: &mut Vec<u8>) -> Step {
        let name = entry.export.listing().name;
        match ErrorReply::refusal(refusal, &name, self.insecure) {
            Some(error) if entry.wanted.is_some() => {
                reply_error(option::GO, &error, out);
                Step::More
            }
            _ => Step::Close,
        }
    }

    fn client_flags(&mut self, input: &[u8]) -> (usize, Step) {
        let Some(flags) = input.first_chunk::<CLIENT_FLAGS>() else { return (0, Step::More) };
        let flags = u32::from_be_bytes(*flags);
        let (fixed, no_zeroes) = (u32::from(handshake_flag::FIXED_NEWSTYLE), u32::from(handshake_flag::NO_ZEROES));
        if flags & !(fixed | no_zeroes) != 0 || flags & fixed == 0 {
            return (CLIENT_FLAGS, Step::Close);
        }
        self.no_zeroes = flags & no_zeroes != 0;
        self.greeted = true;
        (CLIENT_FLAGS, Step::More)
    }

    /// The next option, if all of it is there.
    fn option(&mut self, input: &[u8], out: &mut Vec<u8>) -> (usize, Step) {
        let Some(header) = input.first_chunk::<{ wire::OPTION_HEADER }>() else { return (0, Step::More) };
        let header = OptionHeader::decode(header);
        if header.magic != wire::OPTION_MAGIC || header.length > limits::OPTION_DATA_MAX {
            return (input.len(), Step::Close);
        }
        let whole = wire::OPTION_HEADER + header.length as usize;
        let Some(data) = input.get(wire::OPTION_HEADER..whole) else { return (0, Step::More) };
        self.options += 1;
        if self.options > self.allowed() {
            return (whole, Step::Close);
        }
        match self.handle(header.option, data, out) {
            Handled::Step(step) => (whole, step),
            Handled::Answer(answer) => {
                match answer {
                    Ok(()) => reply(header.option, option_reply::ACK, &[], out),
                    Err(error) => reply_error(header.option, &error, out),
                }
                (whole, Step::More)
            }
        }
    }

    /// How many options this client may send. The exports are counted once, and only where it matters.
    fn allowed(&mut self) -> usize {
        if self.options <= limits::OPTIONS_BASE {
            return limits::OPTIONS_BASE;
        }
        *self.allowed.get_or_insert_with(|| limits::OPTIONS_BASE + 4 * self.exports.list().len())
    }

    fn handle(&mut self, kind: u32, data: &[u8], out: &mut Vec<u8>) -> Handled {
        match kind {
            option::EXPORT_NAME => Handled::Step(self.export_name(data)),
            option::ABORT => {
                reply(kind, option_reply::ACK, &[], out);
                Handled::Step(Step::Close)
            }
            option::LIST => Handled::Answer(self.list(data, out)),
            option::INFO | option::GO => self.info_or_go(kind, data, out),
            option::STRUCTURED_REPLY if data.is_empty() => {
                self.structured = true;
                Handled::Answer(Ok(()))
            }
            option::STRUCTURED_REPLY => Handled::Answer(Err(ErrorReply::data_not_expected())),
            option::LIST_META_CONTEXT | option::SET_META_CONTEXT => self.contexts(kind, data, out),
            _ => Handled::Answer(Err(ErrorReply::unsupported())),
        }
    }

    fn export_name(&self, data: &[u8]) -> Step {
        let found = options::name(data).ok().and_then(|name| self.exports.find(name).ok().map(|export| (name, export)));
        match found {
            Some((name, export)) => Step::Enter(self.entry(name, export, None)),
            None => Step::Close,
        }
    }

    fn list(&self, data: &[u8], out: &mut Vec<u8>) -> Result<(), ErrorReply> {
        if !data.is_empty() {
            return Err(ErrorReply::data_not_expected());
        }
        if self.insecure {
            return Err(ErrorReply::not_listed());
        }
        for listing in self.exports.list() {
            let name = wire_length(listing.name.len()).to_be_bytes();
            let data = [&name, listing.name.as_bytes(), listing.description.as_bytes()].concat();
            reply(option::LIST, option_reply::SERVER, &data, out);
        }
        Ok(())
    }

    fn info_or_go(&self, kind: u32, data: &[u8], out: &mut Vec<u8>) -> Handled {
        let request = match ExportRequest::parse(data) {
            Ok(request) => request,
            Err(fault) => return Handled::Answer(Err(fault.into())),
        };
        match self.exports.find(request.name) {
            Err(refusal) => self.refused(&refusal, request.name),
            Ok(export) => {
                let entry = self.entry(request.name, export, Some(request.wanted));
                if kind == option::GO {
                    return Handled::Step(Step::Enter(entry));
                }
                describe(kind, &entry, request.wanted, out);
                Handled::Answer(Ok(()))
            }
        }
    }

    fn contexts(&mut self, kind: u32, data: &[u8], out: &mut Vec<u8>) -> Handled {
        let setting = kind == option::SET_META_CONTEXT;
        if setting {
            self.allocation_of = None;
        }
        if !self.structured {
            return Handled::Answer(Err(ErrorReply::structured_replies_first()));
        }
        let request = match ContextRequest::parse(data) {
            Ok(request) => request,
            Err(fault) => return Handled::Answer(Err(fault.into())),
        };
        if let Err(refusal) = self.exports.find(request.name) {
            return self.refused(&refusal, request.name);
        }
        let listed = !setting && (request.no_query || request.names_base);
        if request.names_allocation || listed {
            let id = if setting { wire::BASE_ALLOCATION_ID } else { 0 };
            let data = [&id.to_be_bytes()[..], wire::BASE_ALLOCATION.as_bytes()].concat();
            reply(kind, option_reply::META_CONTEXT, &data, out);
        }
        if setting && request.names_allocation {
            self.allocation_of = Some(request.name.to_owned());
        }
        Handled::Answer(Ok(()))
    }

    fn refused(&self, refusal: &Refusal, name: &str) -> Handled {
        match ErrorReply::refusal(refusal, name, self.insecure) {
            Some(error) => Handled::Answer(Err(error)),
            None => Handled::Step(Step::Close),
        }
    }

    fn entry(&self, name: &str, export: Arc<dyn Export>, wanted: Option<Wanted>) -> Entry {
        let geometry = export.device().geometry();
        let base_allocation = self.structured && self.allocation_of.as_deref() == Some(name);
        let (size, read_only) = (geometry.size, geometry.read_only);
        Entry { export, terms: Terms { size, read_only, structured: self.structured, base_allocation }, wanted }
    }
}

/// The information replies to INFO and GO.
fn describe(kind: u32, entry: &Entry, wanted: Wanted, out: &mut Vec<u8>) {
    let mut say = |about: u16, data: &[u8]| {
        reply(kind, option_reply::INFO, &[&about.to_be_bytes(), data].concat(), out);
    };
    let (size, flags) = (entry.terms.size.get(), entry.terms.transmission_flags());
    say(info::EXPORT, &[&size.to_be_bytes()[..], &flags.to_be_bytes()].concat());
    if wanted.name || wanted.description {
        let listing = entry.export.listing();
        if wanted.name {
            say(info::NAME, listing.name.as_bytes());
        }
        if wanted.description {
            say(info::DESCRIPTION, listing.description.as_bytes());
        }
    }
    if wanted.block_size {
        // Any alignment is served, so the smallest block is one byte, whether the client asks or not.
        let preferred = u32::try_from(entry.export.device().geometry().preferred.get()).unwrap_or(limits::REQUEST_MAX);
        let sizes = [1, preferred.min(limits::REQUEST_MAX), limits::REQUEST_MAX];
        say(info::BLOCK_SIZE, sizes.map(u32::to_be_bytes).as_flattened());
    }
}

fn reply_error(kind: u32, error: &ErrorReply, out: &mut Vec<u8>) {
    reply(kind, error.reply, error.text.as_bytes(), out);
}

fn reply(kind: u32, reply: u32, data: &[u8], out: &mut Vec<u8>) {
    let header =
        OptionReplyHeader { magic: wire::OPTION_REPLY_MAGIC, option: kind, reply, length: wire_length(data.len()) };
    out.extend(header.encode());
    out.extend(data);
}

fn wire_length(length: usize) -> u32 {
    u32::try_from(length).expect("names, descriptions and error texts are short")
}
