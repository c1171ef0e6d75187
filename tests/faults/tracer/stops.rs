//! The stops of a traced process, and what is done at them.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::calls::{Kind, Transfer, storage_call};
use super::{Fault, Seen};

const SYSCALL_STOP: i32 = libc::SIGTRAP | 0x80;
const OPTIONS: i32 = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE;

/// What is to be put right when the call of a thread returns.
enum Owed {
    /// The call was replaced by none: this is its result.
    Result(i64),
    /// A length in the process's memory was halved: where, and what it was.
    Length {
        address: u64,
        length: u64,
    },
    Kill,
}

pub struct Trace {
    pid: i32,
    directory: PathBuf,
    fault: Fault,
    nth: u64,
    seen: Seen,
    owed: Option<(i32, Owed)>,
    /// Whoever started the tracer wants it to end.
    letting_go: bool,
}

impl Trace {
    /// Traces every thread of `pid`, and those that it will start.
    pub fn seize(pid: i32, directory: &Path, fault: Fault, nth: u64) -> Self {
        let threads = std::fs::read_dir(format!("/proc/{pid}/task")).expect("a running process");
        let threads: Vec<i32> = threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
        for tid in threads {
            // A thread may have ended since.
            if ptrace(libc::PTRACE_SEIZE, tid, 0, OPTIONS as u64) == 0 {
                ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0);
            }
        }
        let seen = Seen { calls: 0, hit: None };
        Self { pid, directory: directory.to_owned(), fault, nth, seen, owed: None, letting_go: false }
    }

    /// Until the process has ended or standard input has.
    pub fn run(&mut self) -> Seen {
        let ended = watch_input();
        loop {
            let mut status = 0;
            // SAFETY: waits for tracees of ours and writes to `status` alone.
            let tid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
            if tid > 0 && libc::WIFSTOPPED(status) {
                self.stopped(tid, status);
            } else if tid < 0 && ended.load(Ordering::SeqCst) && !self.letting_go {
                self.let_go();
            } else if tid < 0 && std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted {
                return self.seen.clone();
            }
        }
    }

    fn let_go(&mut self) {
        self.letting_go = true;
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten();
        for tid in threads.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()) {
            ptrace(libc::PTRACE_INTERRUPT, tid, 0, 0);
        }
    }

    fn stopped(&mut self, tid: i32, status: i32) {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let mut deliver = 0;
        if event == 0 && signal == SYSCALL_STOP {
            self.at_call(tid);
        } else if event == 0 {
            deliver = signal;
        }
        let between = event != 0 || signal != SYSCALL_STOP || !is_entry(tid);
        if self.letting_go && between && self.owed.as_ref().is_none_or(|(owed, _)| *owed != tid) {
            ptrace(libc::PTRACE_DETACH, tid, 0, deliver as u64);
        } else {
            ptrace(libc::PTRACE_SYSCALL, tid, 0, deliver as u64);
        }
    }

    fn at_call(&mut self, tid: i32) {
        if !is_entry(tid) {
            return self.at_return(tid);
        }
        let registers = registers(tid);
        let Some(registers) = registers else { return };
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        let Some(kind) = storage_call(registers.orig_rax, &arguments, tid, &self.directory) else { return };
        if self.fault == Fault::Short && half(kind, registers.rdx, tid, registers.rsi) == 0 {
            return;
        }
        self.seen.calls += 1;
        if self.seen.calls == self.nth && self.fault != Fault::None {
            self.seen.hit = Some(kind.name.to_owned());
            self.meet(tid, kind, registers);
        }
    }

    fn meet(&mut self, tid: i32, kind: &Kind, mut registers: libc::user_regs_struct) {
        match self.fault {
            Fault::None => {}
            // SAFETY: a signal to the process that is traced.
            Fault::KillBefore => drop(unsafe { libc::kill(self.pid, libc::SIGKILL) }),
            Fault::KillAfter => self.owed = Some((tid, Owed::Kill)),
            Fault::Error(errno) => {
                registers.orig_rax = u64::MAX;
                set_registers(tid, &registers);
                self.owed = Some((tid, Owed::Result(-i64::from(errno))));
            }
            Fault::Short if kind.transfer == Transfer::Bytes => {
                registers.rdx /= 2;
                set_registers(tid, &registers);
            }
            Fault::Short => {
                let (address, length) = (registers.rsi + 8, peek(tid, registers.rsi + 8));
                poke(tid, address, length / 2);
                registers.rdx = 1;
                set_registers(tid, &registers);
                self.owed = Some((tid, Owed::Length { address, length }));
            }
        }
    }

    fn at_return(&mut self, tid: i32) {
        if self.owed.as_ref().is_none_or(|(owed, _)| *owed != tid) {
            return;
        }
        let Some((_, owed)) = self.owed.take() else { return };
        match owed {
            // SAFETY: as above.
            Owed::Kill => drop(unsafe { libc::kill(self.pid, libc::SIGKILL) }),
            Owed::Length { address, length } => poke(tid, address, length),
            Owed::Result(result) => {
                if let Some(mut registers) = registers(tid) {
                    registers.rax = result as u64;
                    set_registers(tid, &registers);
                }
            }
        }
    }
}

/// Wakes this thread out of its waiting, again and again, once standard input has ended; the flag says that it has.
fn watch_input() -> &'static AtomicBool {
    static ENDED: AtomicBool = AtomicBool::new(false);
    extern "C" fn nothing(_: i32) {}
    // SAFETY: a handler that does nothing, without SA_RESTART, so that a wait is interrupted by it.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &raw const action, ptr::null_mut());
    }
    // SAFETY: names this thread.
    let waiting = unsafe { libc::pthread_self() };
    std::thread::spawn(move || {
        std::io::stdin().read_to_end(&mut Vec::new()).ok();
        ENDED.store(true, Ordering::SeqCst);
        loop {
            // SAFETY: the thread that waits lives until the process ends.
            unsafe { libc::pthread_kill(waiting, libc::SIGUSR1) };
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    &ENDED
}

/// Half of what a call would transfer; 0 where there is no half.
fn half(kind: &Kind, length: u64, tid: i32, vector: u64) -> u64 {
    match kind.transfer {
        Transfer::None => 0,
        Transfer::Bytes => length / 2,
        Transfer::Vector => peek(tid, vector + 8) / 2,
    }
}

fn is_entry(tid: i32) -> bool {
    // SAFETY: a structure of integers, for which zeros are a value.
    let mut info: libc::ptrace_syscall_info = unsafe { std::mem::zeroed() };
    let size = size_of::<libc::ptrace_syscall_info>() as u64;
    // SAFETY: the kernel writes no more than the size that is given.
    unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, tid, size, &raw mut info) };
    info.op == libc::PTRACE_SYSCALL_INFO_ENTRY
}

fn registers(tid: i32) -> Option<libc::user_regs_struct> {
    // SAFETY: a structure of integers, for which zeros are a value.
    let mut registers: libc::user_regs_struct = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes the registers, which are as large as the structure.
    let got = unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, ptr::null_mut::<u8>(), &raw mut registers) };
    (got == 0).then_some(registers)
}

fn set_registers(tid: i32, registers: &libc::user_regs_struct) {
    // SAFETY: the kernel reads the structure alone.
    unsafe { libc::ptrace(libc::PTRACE_SETREGS, tid, ptr::null_mut::<u8>(), registers) };
}

/// The word at `address` of a stopped thread; 0 where there is none.
pub fn peek(tid: i32, address: u64) -> u64 {
    // SAFETY: reads the tracee's memory, not ours; glibc's wrapper returns the word.
    let word = unsafe { libc::ptrace(libc::PTRACE_PEEKDATA, tid, address, 0) };
    if word == -1 { 0 } else { word as u64 }
}

fn poke(tid: i32, address: u64, word: u64) {
    ptrace(libc::PTRACE_POKEDATA, tid, address, word);
}

fn ptrace(request: libc::c_uint, tid: i32, address: u64, data: u64) -> i64 {
    // SAFETY: requests whose address and data are numbers, or places in the tracee.
    unsafe { libc::ptrace(request, tid, address, data) }
}
