//! The NBD handshake: the same answers however the bytes arrive, each a reply that a client can follow, and no more of them
//! than the options justify.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use envol::block::BlockDevice;
use envol::block::memory::MemoryDevice;
use envol::nbd::micro::{self, Ended};
use envol::nbd::{Export, Exports, Listing, Refusal, Session};
use envol::units::ByteCount;

use super::Input;

const IHAVEOPT: u64 = 0x4948_4156_454f_5054;
const REPLY: u64 = 0x0003_e889_0455_65a9;

pub(crate) struct Vol {
    name: String,
    device: MemoryDevice,
}

impl Vol {
    pub(crate) fn new(name: &str, size: u64) -> Arc<Self> {
        Arc::new(Self { name: name.to_owned(), device: MemoryDevice::new(ByteCount::new(size)) })
    }
}

impl Export for Vol {
    fn listing(&self) -> Listing {
        Listing { name: self.name.clone(), description: format!("the volume {}", self.name) }
    }

    fn enter(&self) -> bool {
        true
    }

    fn leave(&self) {}

    fn device(&self) -> &dyn BlockDevice {
        &self.device
    }

    fn connected(&self, _session: Arc<dyn Session>) -> Result<Box<dyn Send>, Refusal> {
        Ok(Box::new(()))
    }
}

/// Exports that do not change.
pub(crate) struct Fixed(pub(crate) BTreeMap<String, Result<Arc<Vol>, Refusal>>);

impl Exports for Fixed {
    fn list(&self) -> Vec<Listing> {
        self.0.values().flatten().map(|vol| vol.listing()).collect()
    }

    fn find(&self, name: &str) -> Result<Arc<dyn Export>, Refusal> {
        match self.0.get(name) {
            Some(Ok(vol)) => Ok(Arc::clone(vol) as Arc<dyn Export>),
            Some(Err(refusal)) => Err(refusal.clone()),
            None => Err(Refusal::Unknown),
        }
    }
}

static EXPORTS: LazyLock<Arc<Fixed>> = LazyLock::new(|| {
    let refused = Refusal::Policy("the key is disabled".to_owned());
    let all = [
        ("vol", Ok(Vol::new("vol", 1 << 20))),
        ("", Ok(Vol::new("", 4096))),
        ("refused", Err(refused)),
        ("stopping", Err(Refusal::ShuttingDown)),
        ("silent", Err(Refusal::CloseSilently)),
    ];
    Arc::new(Fixed(all.into_iter().map(|(name, vol)| (name.to_owned(), vol)).collect()))
});

/// What a client that reads the answers finds: for each reply its option and type.
fn replies(mut answered: &[u8], ended: Ended) -> Vec<(u32, u32)> {
    let mut replies = Vec::new();
    while let Some((head, rest)) = answered.split_first_chunk::<20>() {
        let number = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().expect("four bytes"));
        if head[..8] != REPLY.to_be_bytes() {
            break;
        }
        let length = usize::try_from(number(16)).expect("64 bits");
        assert!(length <= 5000, "a reply of {length} bytes");
        replies.push((number(8), number(12)));
        answered = rest.get(length..).expect("a reply is whole");
    }
    // The answer to EXPORT_NAME has no head.
    let nameless = ended == Ended::Entered && [10, 134].contains(&answered.len());
    assert!(answered.is_empty() || nameless, "{} bytes that are no reply", answered.len());
    replies
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let step = 1 + usize::from(input.byte());
    let bytes = input.0;
    let exports = || Arc::clone(&*EXPORTS) as Arc<dyn Exports>;
    let at_once = micro::handshake(exports(), &[bytes]);
    let pieces: Vec<&[u8]> = bytes.chunks(step).collect();
    let slowly = micro::handshake(exports(), &pieces);
    assert_eq!(at_once, slowly, "the answers do not depend on how the bytes arrive");
    let (answered, taken, ended) = at_once;
    assert!(taken <= bytes.len());
    let replies = replies(&answered, ended);
    assert!(replies.len() <= 8 + bytes.len(), "{} replies to {} bytes", replies.len(), bytes.len());
    for (option, _) in replies {
        assert!(
            bytes.windows(4).any(|window| window == option.to_be_bytes()),
            "a reply to {option}, which nobody sent"
        );
    }
}

pub(crate) fn option(kind: u32, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("short");
    [&IHAVEOPT.to_be_bytes()[..], &kind.to_be_bytes(), &length.to_be_bytes(), data].concat()
}

pub(crate) fn named(name: &str, rest: &[u8]) -> Vec<u8> {
    [&u32::try_from(name.len()).expect("short").to_be_bytes()[..], name.as_bytes(), rest].concat()
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let context = [&[0, 0, 0, 1, 0, 0, 0, 15][..], b"base:allocation"].concat();
    let options = [
        option(1, b"vol"),
        option(1, b"nobody"),
        option(2, b""),
        option(3, b""),
        option(3, b"x"),
        option(5, b""),
        option(6, &named("vol", &[0, 0])),
        option(7, &named("vol", &[0, 3, 0, 1, 0, 2, 0, 3])),
        option(7, &named("", &[0, 0])),
        option(7, &named("refused", &[0, 0])),
        option(7, &named("stopping", &[0, 0])),
        option(7, &named("silent", &[0, 0])),
        option(8, b""),
        option(9, &named("vol", &context)),
        option(10, &named("vol", &context)),
        option(11, b""),
        option(0xdead, &[7; 100]),
        [&IHAVEOPT.to_be_bytes()[..], &[0, 0, 0, 7, 255, 255, 255, 255]].concat(),
    ];
    let flags = [0_u8, 0, 0, 3];
    let alone = options
        .iter()
        .enumerate()
        .map(|(number, option)| [&[u8::try_from(number).expect("few")][..], &flags, option].concat());
    let session = [&[0][..], &flags, &options[12], &options[14], &options[3], &options[6], &options[7]].concat();
    alone.chain([session, vec![0, 0, 0, 0, 1, 9], vec![0, 0, 0, 0, 0xff]]).collect()
}
