//! What lies on a disk, by pieces of 512 bytes that many images share.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use envol::block::memory::MemoryDevice;
use envol::block::{BlockDeviceExt, Durability};
use envol::units::{ByteCount, ByteOffset};

pub const PIECE: usize = 512;

/// 512 bytes that are not all zero.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    pub bytes: [u8; PIECE],
    hash: u64,
}

/// What a piece holds; `None` is zeros.
pub type Content = Option<Arc<Piece>>;

pub fn content(bytes: &[u8]) -> Content {
    let bytes: [u8; PIECE] = bytes.try_into().expect("one piece");
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    (bytes != [0; PIECE]).then(|| Arc::new(Piece { bytes, hash: hasher.finish() }))
}

pub fn bytes_of(content: &Content) -> [u8; PIECE] {
    content.as_ref().map_or([0; PIECE], |piece| piece.bytes)
}

/// A disk by its pieces; those that are not here are zeros.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Image(BTreeMap<u64, Arc<Piece>>);

impl Image {
    pub fn piece(&self, number: u64) -> Content {
        self.0.get(&number).cloned()
    }

    pub fn set(&mut self, number: u64, content: Content) {
        match content {
            Some(piece) => self.0.insert(number, piece),
            None => self.0.remove(&number),
        };
    }

    /// What the pieces under `bytes` at `at` hold once those are written.
    pub fn written(&self, at: u64, bytes: &[u8]) -> Vec<(u64, Content)> {
        let size = PIECE as u64;
        let end = at + bytes.len() as u64;
        let touched = (at / size..end.div_ceil(size)).map(|number| {
            let mut piece = bytes_of(&self.piece(number));
            let (from, to) = ((number * size).max(at), ((number + 1) * size).min(end));
            let source = &bytes[(from - at) as usize..(to - at) as usize];
            piece[(from - number * size) as usize..(to - number * size) as usize].copy_from_slice(source);
            (number, content(&piece))
        });
        touched.collect()
    }

    pub fn device(&self, size: ByteCount) -> MemoryDevice {
        let device = MemoryDevice::new(size);
        for (number, piece) in &self.0 {
            let at = ByteOffset::new(number * PIECE as u64);
            let length = PIECE.min((size.get() - at.get()) as usize);
            device.write_at(at, &mut { piece.bytes }[..length], Durability::Cached).expect("fits");
        }
        device
    }

    pub fn hash_into(&self, hasher: &mut impl Hasher) {
        for (number, piece) in &self.0 {
            (number, piece.hash).hash(hasher);
        }
    }
}
