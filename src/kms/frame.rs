//! Messages on a stream between two processes of ours: a length and that many bytes, which may hold secrets and therefore
//! lie in locked memory.

use std::io::{self, IoSlice, Read, Write};

use crate::limits::HSM_MESSAGE_MAX;
use crate::sys::locked::LockedMemory;

/// A length that no message has.
#[derive(Debug, thiserror::Error)]
#[error("a message of {0} bytes")]
struct BadLength(usize);

/// Puts `message` on a stream.
pub(in crate::kms) fn write(stream: &mut impl Write, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).expect("every message is far below the limit");
    let length = length.to_be_bytes();
    let written = match stream.write_vectored(&[IoSlice::new(&length), IoSlice::new(message)]) {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
        outcome => outcome?,
    };
    // As a rule that was all of it.
    stream.write_all(length.get(written..).unwrap_or_default())?;
    stream.write_all(&message[written.saturating_sub(length.len())..])
}

/// Takes a message from a stream; `None` where the stream ended before one.
pub(in crate::kms) fn read(stream: &mut impl Read) -> io::Result<Option<LockedMemory>> {
    let mut length = [0; 4];
    let begun = loop {
        match stream.read(&mut length) {
            // A wait with a deadline is cut short where the process was stopped and goes on.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => break outcome?,
        }
    };
    if begun == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut length[begun..])?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if !(1..=HSM_MESSAGE_MAX).contains(&length) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, BadLength(length)));
    }
    let mut message = LockedMemory::zeroed(length).map_err(io::Error::other)?;
    stream.read_exact(message.bytes_mut())?;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one byte at a time, and is interrupted before each.
    struct Interrupted<'a>(&'a [u8], bool);

    impl Read for Interrupted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.1 = !self.1;
            if self.1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let length = self.0.len().min(buffer.len()).min(1);
            let (now, later) = self.0.split_at(length);
            buffer[..length].copy_from_slice(now);
            self.0 = later;
            Ok(length)
        }
    }

    #[test]
    fn a_frame_is_read_whole_whatever_interrupts_the_reading() {
        let mut bytes = Vec::new();
        write(&mut bytes, b"message").expect("a vector takes all");
        let mut stream = Interrupted(&bytes, false);
        let message = read(&mut stream).expect("read").expect("there");
        assert_eq!(message.bytes(), b"message");
        assert!(read(&mut stream).expect("read").is_none());
    }

    #[test]
    fn a_frame_of_no_length_or_too_much_is_refused() {
        for length in [0, u32::try_from(HSM_MESSAGE_MAX).expect("small") + 1, u32::MAX] {
            let error = read(&mut length.to_be_bytes().as_slice()).map(|_| ()).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
    }
}
