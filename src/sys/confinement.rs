//! Confinement of this process to what it is for: the files that it may touch (landlock), the system calls that it may make
//! (seccomp).
//!
//! Both hold for the thread that asks and for all that it starts later, so they are asked for while there is one thread.
//! Neither can be taken back.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    RulesetStatus, path_beneath_rules,
};
use nix::libc;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::hardening::Hardening;

/// The last version of landlock's interface whose rights are understood here: with it, all is confined that is asked for.
pub(crate) const LANDLOCK_FULL: ABI = ABI::V5;

/// What a confined process may reach. Paths that do not exist are left out: what comes into being there later, and is
/// below no other of these, stays out of reach.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Reachable {
    /// Directories, with all below them, and single files and devices: to be read, changed and made.
    pub(crate) changed: Vec<PathBuf>,
    /// Directories in which unix sockets are made and removed.
    pub(crate) sockets: Vec<PathBuf>,
    /// Files, and directories with all below them: to be read.
    pub(crate) read: Vec<PathBuf>,
    /// TCP ports that may be listened on.
    pub(crate) ports: Vec<u16>,
    /// TCP ports that may be connected to, wherever they are.
    pub(crate) connected: Vec<u16>,
}

/// How far landlock went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Landlocked {
    /// All that is asked of it.
    Fully,
    /// What this kernel knows of it.
    Partly,
    /// The kernel has none, or it is switched off.
    Not,
}

/// The landlock of the kernel: the version of its interface; `None` where it has none.
pub(crate) fn landlock_abi() -> Option<i64> {
    const VERSION: libc::c_int = 1;
    // SAFETY: with this flag and no attributes, the call reads nothing and answers a number.
    let abi = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0_usize, VERSION) };
    (abi > 0).then_some(abi)
}

/// Keeps this process to `reachable` for ever.
///
/// # Errors
/// What the kernel refused; its lack of landlock is none.
pub(crate) fn landlock(reachable: &Reachable) -> Result<Landlocked, RulesetError> {
    let known = LANDLOCK_FULL;
    let all = AccessFs::from_all(known);
    let changed = all & !(AccessFs::Execute | AccessFs::MakeChar | AccessFs::MakeBlock);
    let sockets: BitFlags<AccessFs> = AccessFs::MakeSock | AccessFs::RemoveFile | AccessFs::ReadDir;
    let read: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::ReadDir | AccessFs::IoctlDev;
    let mut rules = Ruleset::default()
        .handle_access(all)?
        .handle_access(AccessNet::from_all(known))?
        .create()?
        .add_rules(path_beneath_rules(&reachable.changed, changed))?
        .add_rules(path_beneath_rules(&reachable.sockets, sockets))?
        .add_rules(path_beneath_rules(&reachable.read, read))?;
    for port in &reachable.ports {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::BindTcp))?;
    }
    for port in &reachable.connected {
        rules = rules.add_rule(NetPort::new(*port, AccessNet::ConnectTcp))?;
    }
    Ok(match rules.restrict_self()?.ruleset {
        RulesetStatus::FullyEnforced => Landlocked::Fully,
        RulesetStatus::PartiallyEnforced => Landlocked::Partly,
        RulesetStatus::NotEnforced => Landlocked::Not,
    })
}

/// Confines this process to `reachable`, and takes its system calls, as `asked`. What the kernel lacks the daemon, confined by
/// the same kernel, tells.
///
/// # Errors
/// `asked` is [`Hardening::Require`], and this is missing.
pub(crate) fn confine(asked: Hardening, reachable: &Reachable) -> Result<(), String> {
    if asked == Hardening::Off {
        return Ok(());
    }
    let landlocked = match landlock(reachable) {
        Ok(Landlocked::Not) => Err("the kernel has no landlock".to_owned()),
        outcome => outcome.map_err(|error| error.to_string()),
    };
    let filtered = seccomp().map_err(|error| error.to_string());
    match landlocked.and(filtered) {
        Err(why) if asked == Hardening::Require => Err(why),
        _ => Ok(()),
    }
}

/// What no daemon of ours does, and whoever takes one over would: to run programs, look into other processes, change the
/// kernel, the mounts or the clock, or step out of the namespaces. Each fails with EPERM.
const DENIED: &[libc::c_long] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_open_by_handle_at,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_reboot,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_personality,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Those that only x86 has.
#[cfg(target_arch = "x86_64")]
const DENIED_TOO: &[libc::c_long] =
    &[libc::SYS_fork, libc::SYS_vfork, libc::SYS_iopl, libc::SYS_ioperm, libc::SYS_modify_ldt, libc::SYS_uselib];
#[cfg(not(target_arch = "x86_64"))]
const DENIED_TOO: &[libc::c_long] = &[];

/// Whether the kernel has the filters that [`seccomp`] is made of; nothing is filtered.
///
/// # Errors
/// What the kernel said: ENOSYS where it has no seccomp, EOPNOTSUPP where its filters cannot refuse with an error.
pub(crate) fn seccomp_filters() -> io::Result<()> {
    let refuse = libc::SECCOMP_RET_ERRNO;
    let (flags, action) = (0_usize, std::ptr::from_ref(&refuse));
    // SAFETY: the call reads the number behind the pointer, and answers whether there is such an action.
    let answer = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, flags, action) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Takes those system calls from this process for ever.
///
/// # Errors
/// The kernel has no seccomp filters, or refuses this one.
pub(crate) fn seccomp() -> io::Result<()> {
    let rules: BTreeMap<_, _> = DENIED.iter().chain(DENIED_TOO).map(|call| (*call, Vec::new())).collect();
    let denied = SeccompAction::Errno(libc::EPERM.cast_unsigned());
    let arch = std::env::consts::ARCH.try_into().map_err(io::Error::other)?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, denied, arch).map_err(io::Error::other)?;
    let program: BpfProgram = filter.try_into().map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::{TcpListener, TcpStream};
    use std::process::Command;

    use super::*;

    /// Runs `work` on a thread that nothing else needs: what confines it dies with it.
    fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(work).join().expect("no panic")
    }

    #[test]
    fn only_what_is_reachable_is_reached() {
        if landlock_abi().is_none() {
            return;
        }
        let root = tempfile::tempdir().expect("a directory");
        let [inside, outside, sockets] = ["in", "out", "run"].map(|name| root.path().join(name));
        [&inside, &outside, &sockets].into_iter().for_each(|dir| fs::create_dir(dir).expect("made"));
        [&inside, &outside].into_iter().for_each(|dir| fs::write(dir.join("file"), b"x").expect("written"));
        let elsewhere = TcpListener::bind("127.0.0.1:0").expect("binds").local_addr().expect("an address");
        on_a_thread(move || {
            let (changed, sockets_in) = (vec![inside.clone(), inside.join("absent")], vec![sockets.clone()]);
            let reachable = Reachable {
                changed,
                sockets: sockets_in,
                read: vec!["/proc".into()],
                ports: vec![0],
                connected: Vec::new(),
            };
            let reached = landlock(&reachable).expect("is asked for");
            assert_ne!(reached, Landlocked::Not);
            fs::write(inside.join("made"), b"x").expect("may");
            fs::rename(inside.join("made"), inside.join("moved")).expect("may");
            fs::remove_file(inside.join("moved")).expect("may");
            fs::read("/proc/self/mountinfo").expect("may");
            drop(std::os::unix::net::UnixListener::bind(sockets.join("s")).expect("may"));
            fs::remove_file(sockets.join("s")).expect("may");
            for refused in [fs::read(outside.join("file")), fs::read("/etc/passwd")] {
                assert_eq!(refused.expect_err("may not").kind(), io::ErrorKind::PermissionDenied);
            }
            assert!(fs::write(outside.join("made"), b"x").is_err() && fs::write(sockets.join("file"), b"x").is_err());
            if reached == Landlocked::Fully {
                TcpListener::bind("127.0.0.1:0").expect("may");
                let refused = TcpStream::connect(elsewhere).expect_err("may not");
                assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            }
        });
    }

    #[test]
    fn to_ask_for_filters_filters_nothing() {
        on_a_thread(|| {
            seccomp_filters().expect("this kernel has them");
            let own = fs::read_to_string("/proc/thread-self/status").expect("procfs");
            assert!(own.lines().any(|line| line == "Seccomp:\t0" || line == "Seccomp:\t2"), "{own}");
            assert!(Command::new("/bin/true").status().expect("runs").success());
        });
    }

    #[test]
    fn a_filtered_process_runs_nothing_and_goes_on() {
        on_a_thread(|| {
            super::super::hardening::seal_process().expect("granted");
            seccomp().expect("is asked for");
            let refused = Command::new("/bin/true").status().expect_err("runs nothing");
            assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
            assert_eq!(nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS), Err(nix::errno::Errno::EPERM));
            std::thread::spawn(|| fs::read("/proc/self/stat").expect("may")).join().expect("threads start");
        });
    }
}
