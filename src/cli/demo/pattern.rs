//! What the demo writes, what the volume must therefore hold, and the search for it in the backing.
//!
//! Every block repeats a marker that names the run, so that a single sector left in clear is found wherever it lies. A
//! copy of the whole volume is kept in memory: "every byte" means that all of it is compared, holes too.

use crate::crypto::digest;

/// Bytes in the volume.
pub(super) const SIZE: u64 = 64 << 20;

/// What is written before the key is disabled.
pub(super) const FIRST: Part = Part { offset: 0, length: 8 << 20 };

/// What is written under the disabled key: not aligned to anything, since clients may do that.
pub(super) const SECOND: Part = Part { offset: (33 << 20) + 777, length: (4 << 20) + 1234 };

// The parts lie apart, and within the volume.
const _: () = assert!(FIRST.offset + FIRST.length < SECOND.offset && (SECOND.offset + SECOND.length) as u64 <= SIZE);

/// A stretch of the volume.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// Where it starts.
    pub(super) offset: usize,
    /// How long it is.
    pub(super) length: usize,
}

impl Part {
    /// Where it starts, as NBD counts.
    pub(super) fn start(self) -> u64 {
        self.offset as u64
    }
}

/// The volume as it must be.
pub(super) struct Pattern {
    marker: Vec<u8>,
    bytes: Vec<u8>,
}

impl Pattern {
    /// A volume of zeros, and a marker that no other run has.
    pub(super) fn new() -> Self {
        let marker = format!("PLAINTEXT of run {} ", uuid::Uuid::new_v4()).into_bytes();
        let size = usize::try_from(SIZE).expect("the demo's volume fits into memory");
        Self { marker, bytes: vec![0; size] }
    }

    /// Fills `part` with markers and gives the bytes to be written there.
    pub(super) fn fill(&mut self, part: Part) -> &[u8] {
        let bytes = &mut self.bytes[part.offset..part.offset + part.length];
        for (piece, number) in bytes.chunks_mut(self.marker.len()).zip(0_u64..) {
            piece.copy_from_slice(&self.marker[..piece.len()]);
            // The tail counts, so that pieces that changed places are noticed.
            if let Some(tail) = piece.last_chunk_mut() {
                *tail = number.to_le_bytes();
            }
        }
        bytes
    }

    /// What `part` must hold.
    pub(super) fn part(&self, part: Part) -> &[u8] {
        &self.bytes[part.offset..part.offset + part.length]
    }

    /// What the whole volume must hold.
    pub(super) fn whole(&self) -> &[u8] {
        &self.bytes
    }

    /// How often the marker stands in `bytes`.
    pub(super) fn count_markers(&self, bytes: &[u8]) -> usize {
        const STRIDE: usize = 64 << 10;
        let fixed = &self.marker[..self.marker.len() - size_of::<u64>()];
        let zeros = vec![0; STRIDE + fixed.len()];
        let in_stretch = |start: usize| {
            let stretch = &bytes[start..bytes.len().min(start + STRIDE + fixed.len() - 1)];
            // Holes are most of a thin backing, and comparing is much faster than searching.
            if *stretch == zeros[..stretch.len()] {
                return 0;
            }
            stretch.windows(fixed.len()).filter(|window| *window == fixed).count()
        };
        (0..bytes.len()).step_by(STRIDE).map(in_stretch).sum()
    }
}

/// SHA-256, in hex.
pub(super) fn checksum(bytes: &[u8]) -> String {
    hex(&digest::sha256(&[bytes]))
}

/// `bytes` in hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_wherever_they_lie() {
        let mut pattern = Pattern::new();
        let written = pattern.fill(FIRST).to_vec();
        let whole_markers = written.len() / pattern.marker.len();
        assert!(pattern.count_markers(&written) >= whole_markers, "what was written holds the marker");
        let mut backing = vec![0; 200_000];
        assert_eq!(pattern.count_markers(&backing), 0);
        // Across the boundary of two stretches of the search.
        let marker = pattern.marker.clone();
        backing[65_530..65_530 + marker.len()].copy_from_slice(&marker);
        assert_eq!(pattern.count_markers(&backing), 1);
        backing[131_072..131_072 + marker.len()].copy_from_slice(&marker);
        assert_eq!(pattern.count_markers(&backing), 2, "a marker at the start of a stretch counts once");
    }
}
