//! The closed set of errors that NBD knows, and the one function that maps a device's errors to it.

use nix::errno::Errno as System;

use crate::block::BlockError;

/// An error as it goes over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errno {
    /// Not permitted: a mutation of a read-only export.
    Perm = 1,
    /// The storage failed.
    Io = 5,
    /// No memory.
    NoMem = 12,
    /// The request makes no sense.
    Inval = 22,
    /// No space left, or a write past the end.
    NoSpace = 28,
    /// Too long to be answered in one piece.
    Overflow = 75,
    /// Zeros cannot be made fast.
    NotSup = 95,
    /// The export is being detached, or the server stops.
    Shutdown = 108,
}

impl Errno {
    /// The number on the wire.
    pub(super) const fn code(self) -> u32 {
        self as u32
    }
}

/// What a client is told about `error`.
pub(super) fn of(error: BlockError) -> Errno {
    match error {
        BlockError::ReadOnly | BlockError::System(System::EROFS | System::EPERM) => Errno::Perm,
        BlockError::NoSpace(_) | BlockError::System(System::ENOSPC | System::EDQUOT | System::EFBIG) => Errno::NoSpace,
        BlockError::NotFast => Errno::NotSup,
        BlockError::Detached => Errno::Shutdown,
        BlockError::System(System::ENOMEM) => Errno::NoMem,
        // The range was judged before, so one that does not fit means that the backing has shrunk.
        BlockError::OutOfRange | BlockError::Poisoned | BlockError::System(_) => Errno::Io,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_device_error_has_its_number() {
        let rows = [
            (BlockError::OutOfRange, 5),
            (BlockError::ReadOnly, 1),
            (BlockError::NoSpace(System::EDQUOT), 28),
            (BlockError::NotFast, 95),
            (BlockError::Poisoned, 5),
            (BlockError::Detached, 108),
            (BlockError::System(System::EIO), 5),
            (BlockError::System(System::ENODEV), 5),
            (BlockError::System(System::EFBIG), 28),
            (BlockError::System(System::ENOMEM), 12),
        ];
        for (error, number) in rows {
            assert_eq!(of(error).code(), number, "{error:?}");
        }
    }
}
