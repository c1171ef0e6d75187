//! Which system calls are storage calls, and what of them can be cut short.

use std::path::{Path, PathBuf};

/// How a call names its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// By the descriptor in the first argument.
    Descriptor,
    /// By a path in this argument, from the directory in the argument before it on.
    PathAt(usize),
    /// By a path in the first argument.
    Path,
}

/// What a call transfers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    None,
    /// As many bytes as the third argument says.
    Bytes,
    /// What the vector in the second argument says; the third is its length.
    Vector,
}

pub struct Kind {
    number: i64,
    pub name: &'static str,
    names: Names,
    pub transfer: Transfer,
}

const fn kind(number: i64, name: &'static str, names: Names, transfer: Transfer) -> Kind {
    Kind { number, name, names, transfer }
}

const KINDS: [Kind; 27] = [
    kind(libc::SYS_read, "read", Names::Descriptor, Transfer::Bytes),
    kind(libc::SYS_write, "write", Names::Descriptor, Transfer::Bytes),
    kind(libc::SYS_readv, "readv", Names::Descriptor, Transfer::Vector),
    kind(libc::SYS_writev, "writev", Names::Descriptor, Transfer::Vector),
    kind(libc::SYS_pread64, "pread64", Names::Descriptor, Transfer::Bytes),
    kind(libc::SYS_pwrite64, "pwrite64", Names::Descriptor, Transfer::Bytes),
    kind(libc::SYS_preadv, "preadv", Names::Descriptor, Transfer::Vector),
    kind(libc::SYS_pwritev, "pwritev", Names::Descriptor, Transfer::Vector),
    kind(libc::SYS_preadv2, "preadv2", Names::Descriptor, Transfer::Vector),
    kind(libc::SYS_pwritev2, "pwritev2", Names::Descriptor, Transfer::Vector),
    kind(libc::SYS_fsync, "fsync", Names::Descriptor, Transfer::None),
    kind(libc::SYS_fdatasync, "fdatasync", Names::Descriptor, Transfer::None),
    kind(libc::SYS_sync_file_range, "sync_file_range", Names::Descriptor, Transfer::None),
    kind(libc::SYS_fallocate, "fallocate", Names::Descriptor, Transfer::None),
    kind(libc::SYS_ftruncate, "ftruncate", Names::Descriptor, Transfer::None),
    kind(libc::SYS_lseek, "lseek", Names::Descriptor, Transfer::None),
    kind(libc::SYS_fstat, "fstat", Names::Descriptor, Transfer::None),
    kind(libc::SYS_fcntl, "fcntl", Names::Descriptor, Transfer::None),
    kind(libc::SYS_fadvise64, "fadvise64", Names::Descriptor, Transfer::None),
    kind(libc::SYS_getdents64, "getdents64", Names::Descriptor, Transfer::None),
    kind(libc::SYS_statx, "statx", Names::PathAt(1), Transfer::None),
    kind(libc::SYS_openat, "openat", Names::PathAt(1), Transfer::None),
    kind(libc::SYS_renameat2, "renameat2", Names::PathAt(1), Transfer::None),
    kind(libc::SYS_unlinkat, "unlinkat", Names::PathAt(1), Transfer::None),
    kind(libc::SYS_rename, "rename", Names::Path, Transfer::None),
    kind(libc::SYS_unlink, "unlink", Names::Path, Transfer::None),
    kind(libc::SYS_link, "link", Names::Path, Transfer::None),
];

/// The kind of call `number` of thread `tid`, if it is on a file below `directory`.
pub fn storage_call(number: u64, arguments: &[u64; 6], tid: i32, directory: &Path) -> Option<&'static Kind> {
    let kind = KINDS.iter().find(|kind| u64::try_from(kind.number) == Ok(number))?;
    let file = match kind.names {
        Names::Descriptor => behind(tid, arguments[0])?,
        Names::Path => text(tid, arguments[0])?,
        Names::PathAt(place) => {
            behind(tid, arguments[place - 1]).unwrap_or_default().join(text(tid, arguments[place])?)
        }
    };
    // What is there besides files, such as the sockets, is nobody's storage.
    let is_file = file.metadata().map_or(true, |metadata| metadata.is_file() || metadata.is_dir());
    (file.starts_with(directory) && is_file).then_some(kind)
}

fn behind(tid: i32, descriptor: u64) -> Option<PathBuf> {
    let descriptor = i32::try_from(descriptor).ok()?;
    std::fs::read_link(format!("/proc/{tid}/fd/{descriptor}")).ok()
}

/// The C string at `address` of thread `tid`.
fn text(tid: i32, address: u64) -> Option<PathBuf> {
    let bytes: Vec<u8> = (0..512)
        .flat_map(|word| super::stops::peek(tid, address + word * 8).to_le_bytes())
        .take_while(|byte| *byte != 0)
        .collect();
    String::from_utf8(bytes).ok().map(PathBuf::from)
}
