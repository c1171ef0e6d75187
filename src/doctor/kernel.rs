//! What the kernel and the processor offer: landlock, seccomp, io_uring, the NBD client, the cipher's instructions.

use std::fs;
use std::path::Path;

use super::{Check, Finding, Wanted};
use crate::block::engine;
use crate::crypto::xts::Engine;
use crate::sys::{confinement, ring};

pub(super) fn landlock(wanted: &Wanted) -> Finding {
    judge_landlock(wanted.hardening_required, confinement::landlock_abi())
}

fn judge_landlock(required: bool, abi: Option<i64>) -> Finding {
    let (check, full) = (Check::Landlock, confinement::LANDLOCK_FULL as i64);
    match abi {
        Some(abi) if abi >= full => check.fine(format!("version {abi}: the daemon can be kept to its files and ports")),
        Some(abi) => check
            .limited(format!("version {abi} of {full}: the daemon is kept to its files as far as that goes"))
            .remedy("boot Linux 6.10 or later"),
        None => check
            .short(required, "the kernel has none, it is switched off, or it is forbidden here")
            .remedy("boot Linux 6.10 or later with landlock among lsm=; in a sandbox, allow its system calls"),
    }
}

pub(super) fn seccomp(wanted: &Wanted) -> Finding {
    let check = Check::Seccomp;
    match confinement::seccomp_filters() {
        Ok(()) => check.fine("system calls can be taken from the daemon"),
        Err(error) => check
            .short(wanted.hardening_required, format!("the kernel filters no system calls here ({error})"))
            .remedy("boot a kernel with CONFIG_SECCOMP_FILTER; in a sandbox, allow the system call seccomp"),
    }
}

pub(super) fn io_uring(wanted: &Wanted) -> Finding {
    let check = Check::IoUring;
    match (engine::settle(wanted.io), ring::probe()) {
        (Ok(engine::Engine::IoUring), _) => check.fine("READs that wait for a disk are under way together"),
        (Ok(engine::Engine::Threads), Ok(())) => check.fine("not asked for: READs wait on threads"),
        (Ok(engine::Engine::Threads), Err(error)) => {
            check.limited(format!("refused here ({error}): READs wait on threads")).remedy(why_refused())
        }
        (Err(error), _) => check.missing(error.to_string()).remedy("say auto in ENVOL_IO and [data_path] io"),
    }
}

fn why_refused() -> &'static str {
    match fs::read_to_string("/proc/sys/kernel/io_uring_disabled").as_deref().map(str::trim) {
        Ok("1" | "2") => "allow it: sysctl kernel.io_uring_disabled=0",
        Ok(_) => "allow io_uring_setup, io_uring_enter and io_uring_register in the sandbox",
        Err(_) => "boot Linux 5.6 or later, or allow io_uring_setup in the sandbox",
    }
}

pub(super) fn cipher(wanted: &Wanted) -> Finding {
    let check = Check::Cipher;
    let engine = match Engine::choose(wanted.cipher) {
        Ok(engine) => engine,
        Err(refused) => return check.missing(refused.to_string()).remedy("unset ENVOL_CIPHER, or name one of those"),
    };
    if !engine.encrypts() {
        return check.missing(format!("{engine}: nothing would be encrypted")).remedy("build without bench-null");
    }
    let instructions = if has_aes() { "the processor has AES instructions" } else { "without AES instructions" };
    let found = format!("{engine}; {instructions}");
    match Engine::fastest() == engine {
        true if has_aes() => check.fine(found),
        true => check.limited(format!("{found}: slow")).remedy("run it on a processor that has them"),
        false => check
            .limited(format!("{found}; the fastest here is {}", Engine::fastest()))
            .remedy("say auto in [data_path] cipher, and unset ENVOL_CIPHER"),
    }
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}

pub(super) fn nbd_module() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    find_nbd(Path::new("/sys"), &Path::new("/lib/modules").join(release.trim_end()))
}

/// By the kernel's own account in `sys`, and by what is in its directory of modules.
fn find_nbd(sys: &Path, modules: &Path) -> Finding {
    let check = Check::NbdModule;
    let listed = |file| fs::read_to_string(modules.join(file)).is_ok_and(|text| text.contains("/nbd.ko"));
    if sys.join("module/nbd").exists() || sys.join("block/nbd0").exists() {
        check.fine("loaded: nbd-client can make a volume a block device")
    } else if listed("modules.builtin") || listed("modules.dep") {
        check
            .limited("there, and not loaded")
            .remedy("modprobe nbd, before nbd-client attaches a volume as a block device")
    } else {
        check
            .limited("absent: no volume can be a block device of this kernel; qemu, nbdcopy and the like do without")
            .remedy("install the kernel's package of modules, or boot a kernel with CONFIG_BLK_DEV_NBD")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    #[test]
    fn an_old_landlock_is_less_and_none_is_missed_only_where_it_is_required() {
        assert_eq!(judge_landlock(true, Some(7)).state, State::Fine);
        assert_eq!(judge_landlock(true, Some(4)).state, State::Limited);
        assert_eq!(judge_landlock(false, None).state, State::Limited);
        assert_eq!(judge_landlock(true, None).state, State::Missing);
    }

    #[test]
    fn the_nbd_module_is_loaded_loadable_or_absent() {
        let root = tempfile::tempdir().expect("a directory");
        let (sys, modules) = (root.path().join("sys"), root.path().join("modules"));
        fs::create_dir_all(&modules).expect("made");
        assert!(find_nbd(&sys, &modules).found.starts_with("absent"));
        fs::write(modules.join("modules.dep"), "kernel/drivers/block/nbd.ko.xz:\n").expect("written");
        assert!(find_nbd(&sys, &modules).remedy.is_some_and(|remedy| remedy.starts_with("modprobe nbd")));
        fs::create_dir_all(sys.join("module/nbd")).expect("made");
        assert_eq!(find_nbd(&sys, &modules).state, State::Fine);
    }
}
