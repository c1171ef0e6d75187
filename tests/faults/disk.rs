//! A disk of QEMU's under the backing of a volume: qemu-storage-daemon exports one of its block devices as a file (FUSE), put
//! over the backing's own. What it does to requests is changed while it is in use.
//!
//! Every node says `discard=unmap`: the export makes a discard of a hole, which QEMU otherwise drops, and then what was
//! punched reads as before, whatever fallocate promises (QEMU 7.2).

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use envol::block::engine::{self, Choice};
use serde_json::{Value, json};

use crate::support::have;

const PATIENCE: Duration = Duration::from_secs(60);

/// What a disk does to requests.
#[derive(Debug, Clone, Copy)]
pub struct Rule {
    /// `read`, `write`, `flush`, `write-zeroes`.
    pub requests: &'static str,
    pub errno: i32,
    /// Whether the first request alone meets it.
    pub once: bool,
}

/// A disk in use; put away or pulled out at the end.
pub struct Disk {
    served: Served,
    monitor: BufReader<UnixStream>,
    rules: usize,
}

/// The process behind a disk, and where it is mounted: both are gone with this, however far the start came.
struct Served {
    process: Child,
    mount: PathBuf,
}

/// How the daemon reaches the disk: `ENVOL_IO`, and an option of attach.
pub type Way = (&'static str, &'static [&'static str]);

/// By plain system calls, through the page cache.
pub const THREADS: Way = ("threads", &[]);

/// Every way that there is here; none where there are no such disks.
pub fn ways() -> Vec<Way> {
    if !are_there() {
        return Vec::new();
    }
    let mut ways = vec![THREADS, ("threads", &["--direct"])];
    match engine::settle(Choice::IoUring) {
        Ok(_) => ways.extend([("io_uring", &[][..]), ("io_uring", &["--direct"])]),
        Err(error) => eprintln!("SKIPPED: io_uring: {error}"),
    }
    ways
}

/// Whether such disks can be made here.
fn are_there() -> bool {
    if !have(&["qemu-storage-daemon", "umount", "/dev/fuse"]) {
        return false;
    }
    let root = nix::unistd::geteuid().is_root();
    assert!(root || std::env::var_os("REQUIRE_ALL").is_none_or(|value| value != "1"), "needs root, to mount a disk");
    if !root {
        eprintln!("SKIPPED: needs root, to mount a disk");
    }
    root
}

impl Disk {
    /// One with what `backing` holds, in its place, that can be made slow or sick. Its own files go into `place`.
    pub fn over(backing: &Path, place: &Path) -> Self {
        let pace = "throttle,node-name=top,discard=unmap,throttle-group=pace,file=base".to_owned();
        Self::start(backing, place, &["--object", "throttle-group,id=pace", "--blockdev", &pace])
    }

    /// One that writes every request down in `log`.
    pub fn logging(backing: &Path, place: &Path, log: &Path) -> Self {
        std::fs::File::create(log).and_then(|file| file.set_len(64 << 20)).expect("a log");
        let file = format!("file,filename={},node-name=log", log.display());
        let writes = "blklogwrites,node-name=top,discard=unmap,file=base,log=log,log-sector-size=512,log-super-update-interval=1";
        Self::start(backing, place, &["--blockdev", &file, "--blockdev", writes])
    }

    fn start(backing: &Path, place: &Path, options: &[&str]) -> Self {
        let base = place.join("base.img");
        std::fs::copy(backing, &base).expect("copied");
        let socket = place.join("monitor.sock");
        std::fs::remove_file(&socket).ok();
        let mut command = Command::new("qemu-storage-daemon");
        command
            .args(["--blockdev", &format!("file,filename={},node-name=base,discard=unmap", base.display())])
            .args(options)
            .args(["--chardev", &format!("socket,id=c,path={},server=on,wait=off", socket.display())])
            .args(["--monitor", "chardev=c"])
            .args(["--export", &format!("fuse,id=f,node-name=top,mountpoint={},writable=on", backing.display())])
            .stdin(Stdio::null());
        // SAFETY: the hook only makes a system call that may be made between fork and exec.
        unsafe {
            // A test that is killed runs no destructors.
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let served =
            Served { process: command.spawn().expect("qemu-storage-daemon starts"), mount: backing.to_owned() };
        let monitor = BufReader::new(eventually(|| UnixStream::connect(&socket).ok()));
        let mut disk = Self { served, monitor, rules: 0 };
        disk.line();
        disk.ask("qmp_capabilities", &json!({}));
        // The export is made before the monitor answers; the mount shows a moment later.
        eventually(|| is_mounted(backing).then_some(()));
        disk
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.monitor.read_line(&mut line).expect("an answer");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    fn ask(&mut self, what: &str, arguments: &Value) {
        let order = json!({ "execute": what, "arguments": arguments });
        self.monitor.get_mut().write_all(format!("{order}\n").as_bytes()).expect("asked");
        loop {
            let answer = self.line();
            assert!(answer.get("error").is_none(), "{what}: {answer}");
            if answer.get("return").is_some() {
                return;
            }
        }
    }

    /// From now on the requests of `rule` fail.
    pub fn sicken(&mut self, rule: Rule) {
        self.rules += 1;
        let name = format!("sick{}", self.rules);
        let inject = json!([{
            "event": "none", "iotype": rule.requests, "errno": rule.errno, "once": rule.once, "immediately": true
        }]);
        self.ask(
            "blockdev-add",
            &json!({ "driver": "blkdebug", "node-name": name, "image": "base", "inject-error": inject }),
        );
        self.stand_on(&name);
    }

    /// From now on all is well again.
    pub fn heal(&mut self) {
        self.stand_on("base");
        self.slow_down(0);
    }

    fn stand_on(&mut self, node: &str) {
        let top = json!({ "driver": "throttle", "node-name": "top", "throttle-group": "pace", "discard": "unmap", "file": node });
        self.ask("blockdev-reopen", &json!({ "options": [top] }));
    }

    /// So many bytes each second, read and written; 0 for as many as it can.
    pub fn slow_down(&mut self, bytes_per_second: u64) {
        let limits = json!({ "bps-total": bytes_per_second });
        self.ask("qom-set", &json!({ "path": "/objects/pace", "property": "limits", "value": limits }));
    }

    /// The disk is pulled out: whoever has it open gets errors.
    pub fn pull(&mut self) {
        self.served.process.kill().expect("a child of ours");
        self.served.process.wait().expect("a child of ours");
    }

    /// The disk is put away, with all that was written to it in `base.img`.
    pub fn put_away(mut self) {
        self.unmount();
        self.ask("quit", &json!({}));
        self.served.process.wait().expect("a child of ours");
    }

    /// What lay there before is there again; whoever has the disk open keeps it.
    pub fn unmount(&self) {
        self.served.unmount();
    }
}

impl Served {
    fn unmount(&self) {
        Command::new("umount").arg("-l").arg(&self.mount).stderr(Stdio::null()).status().expect("umount starts");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.process.kill().ok();
            self.process.wait().ok();
        }
        if is_mounted(&self.mount) {
            self.unmount();
        }
    }
}

fn is_mounted(file: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("readable");
    mounts.lines().any(|line| line.split(' ').nth(1) == file.to_str())
}

/// Tries until it succeeds.
pub fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < deadline, "it did not come");
        std::thread::sleep(Duration::from_millis(5));
    }
}
