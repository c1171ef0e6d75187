//! What every fuzz target does with its bytes: run by cargo-fuzz (`fuzz/`), and by this package's tests over the kept corpora.
//!
//! Each target checks a property that can fail, beside that nothing panics and no memory is asked for that the input does
//! not justify. Its seeds are real encodings.

pub(crate) mod audit_verify;
pub(crate) mod blob_decode;
pub(crate) mod config;
pub(crate) mod control_json;
pub(crate) mod header_decode;
pub(crate) mod header_pair;
pub(crate) mod hsm_request;
pub(crate) mod kms_store;
pub(crate) mod kms_wire;
pub(crate) mod nbd_handshake;
pub(crate) mod nbd_transmission;
pub(crate) mod policy;
pub(crate) mod sigv4;
pub(crate) mod volumes;
pub(crate) mod wrapped_blob;

/// A target: what it does with bytes, and bytes to begin with.
pub(crate) struct Target {
    /// Its name, that of its corpus too.
    pub(crate) name: &'static str,
    /// Panics where the property does not hold.
    pub(crate) run: fn(&[u8]),
    /// Real encodings.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

macro_rules! targets {
    ($($name:ident),* $(,)?) => {
        /// All of them.
        pub(crate) const TARGETS: &[Target] = &[
            $(Target { name: stringify!($name), run: $name::run, seeds: $name::seeds }),*
        ];
    };
}
targets! {
    audit_verify, blob_decode, config, control_json, header_decode, header_pair, hsm_request, kms_store, kms_wire, nbd_handshake,
    nbd_transmission, policy, sigv4, wrapped_blob,
}

/// Bytes that are taken off one by one; zeros behind their end.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    pub(crate) fn u32(&mut self) -> u32 {
        u32::from(self.u16()) << 16 | u32::from(self.u16())
    }

    /// As many as there are, `most` at the most.
    pub(crate) fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(most.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// A place within something of this length, which is not 0.
    pub(crate) fn within(&mut self, length: usize) -> usize {
        usize::try_from(self.u32()).expect("64 bits") % length
    }
}

/// Changes `bytes` as `input` says: up to eight edits.
pub(crate) fn edit(bytes: &mut Vec<u8>, input: &mut Input<'_>) {
    for _ in 0..8 {
        if input.is_empty() || bytes.is_empty() {
            return;
        }
        let (what, at) = (input.byte() % 8, input.within(bytes.len()));
        match what {
            0 | 1 => bytes[at] = input.byte(),
            2 => bytes[at] ^= 1 << (input.byte() % 8),
            3 => drop(bytes.remove(at)),
            4 => bytes.insert(at, input.byte()),
            5 => bytes.truncate(at),
            6 => {
                let from = input.within(bytes.len());
                let length = usize::from(input.byte()).min(bytes.len() - from).min(bytes.len() - at);
                bytes.copy_within(from..from + length, at);
            }
            _ => {
                let length = usize::from(input.byte() % 16);
                let put_in = input.take(length).to_vec();
                bytes.splice(at..at, put_in);
            }
        }
    }
}
