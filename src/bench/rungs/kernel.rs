//! The kernel's block device on top of the NBD server, attached with nbd-client: what a file system would see.
//!
//! Read and written past the page cache (O_DIRECT), by as many threads as requests are to be under way. Where there is
//! no driver, no client or no right to them, the rung is absent and says why.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc::O_DIRECT;
use nix::unistd::geteuid;

use super::{Done, Rung};
use crate::bench::job::{DEPTH_MAX, Direction, LENGTH_MAX};
use crate::bench::{BenchError, Job, Latencies, Places};
use crate::nbd::client::{Address, NbdUri};
use crate::sync::Mutex;
use crate::sys::pages::Pages;
use crate::units::ByteCount;

/// How long the kernel may take to show the size of a device that was attached.
const APPEAR_DEADLINE: Duration = Duration::from_secs(5);

/// An attached device; detached when it is dropped.
pub struct KernelRung {
    device: Attached,
    file: File,
    size: ByteCount,
    /// One buffer for each thread.
    memory: Vec<Pages>,
}

/// The device while nbd-client has it.
struct Attached(PathBuf);

impl KernelRung {
    /// Attaches a free device to the export of `uri`.
    ///
    /// # Errors
    /// Why there is none, in words for people.
    pub fn attach(uri: &NbdUri) -> Result<Self, String> {
        let Address::Unix(socket) = uri.address() else { return Err("the server has no unix socket".to_owned()) };
        let device = Path::new("/dev").join(free_device(Path::new("/sys/block"))?);
        if !geteuid().is_root() {
            return Err(format!("{} is root's to attach", device.display()));
        }
        let device = Attached::new(device, socket, uri.export())?;
        let options = OpenOptions::new().read(true).write(true).custom_flags(O_DIRECT).open(&device.0);
        let file = options.map_err(|error| format!("{} cannot be opened: {error}", device.0.display()))?;
        let size = ByteCount::new(device.size()?);
        let memory = || {
            let mut pages = Pages::allocate(LENGTH_MAX as usize);
            fastrand::Rng::new().fill(pages.bytes_mut());
            pages
        };
        Ok(Self { device, file, size, memory: std::iter::repeat_with(memory).take(DEPTH_MAX).collect() })
    }

    /// The device's path.
    pub fn device(&self) -> &Path {
        &self.device.0
    }
}

/// The first device of the kernel's NBD driver that nobody uses.
fn free_device(block: &Path) -> Result<String, String> {
    let entries = fs::read_dir(block).map_err(|error| format!("{} cannot be read: {error}", block.display()))?;
    let mut devices: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.strip_prefix("nbd").is_some_and(|number| number.parse::<u32>().is_ok()))
        .collect();
    if devices.is_empty() {
        return Err("the kernel's nbd module is not loaded".to_owned());
    }
    devices.sort_by_key(|name| (name.len(), name.clone()));
    let free = |name: &&String| {
        let at = block.join(name);
        !at.join("pid").exists() && fs::read_to_string(at.join("size")).is_ok_and(|size| size.trim() == "0")
    };
    devices.iter().find(free).cloned().ok_or_else(|| "every /dev/nbdN is in use".to_owned())
}

impl Attached {
    fn new(device: PathBuf, socket: &Path, export: &str) -> Result<Self, String> {
        let mut command = Command::new("nbd-client");
        command.arg("-unix").arg(socket).args(["-N", export, "-b", "4096"]).arg(&device);
        let said = command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => "nbd-client is not installed".to_owned(),
            _ => format!("nbd-client cannot be run: {error}"),
        })?;
        let attached = Self(device);
        if said.status.success() {
            Ok(attached)
        } else {
            let text = String::from_utf8_lossy(&said.stderr);
            let line = text.lines().next_back().unwrap_or("no reason").trim().to_owned();
            Err(format!("nbd-client failed: {line}"))
        }
    }

    /// Bytes in the device, once the kernel knows.
    fn size(&self) -> Result<u64, String> {
        let name = self.0.file_name().unwrap_or_default();
        let path = Path::new("/sys/block").join(name).join("size");
        let deadline = Instant::now() + APPEAR_DEADLINE;
        while Instant::now() < deadline {
            match fs::read_to_string(&path).ok().and_then(|sectors| sectors.trim().parse::<u64>().ok()) {
                None | Some(0) => thread::sleep(Duration::from_millis(10)),
                Some(sectors) => return Ok(sectors * 512),
            }
        }
        Err(format!("{} stayed empty", self.0.display()))
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        // Where it fails the device goes with the server, which is about to end.
        let _ = Command::new("nbd-client").arg("-d").arg(&self.0).stdin(Stdio::null()).output();
    }
}

impl Rung for KernelRung {
    fn size(&self) -> ByteCount {
        self.size
    }

    fn run(
        &mut self,
        job: &Job,
        places: &mut Places,
        length: Duration,
        latencies: &mut Latencies,
    ) -> Result<Done, BenchError> {
        let shared = Mutex::new(places);
        let next = || shared.lock().next_place().get();
        let (file, start) = (&self.file, Instant::now());
        let parts: Vec<io::Result<(u64, Latencies)>> = thread::scope(|scope| {
            let work = |memory: &mut Pages| {
                let data = &mut memory.bytes_mut()[..job.length as usize];
                one_thread(file, job.direction, data, start + length, &next)
            };
            let started: Vec<_> =
                self.memory[..job.depth].iter_mut().map(|memory| scope.spawn(move || work(memory))).collect();
            started.into_iter().map(|thread| thread.join().expect("a thread that transfers does not panic")).collect()
        });
        let took = start.elapsed();
        let mut requests = 0;
        for part in parts {
            let doing = "use the kernel's device";
            let (done, its) = part.map_err(|source| BenchError::System { doing, source })?;
            requests += done;
            latencies.take_in(&its);
        }
        Ok(Done { requests, took })
    }
}

/// One request after the other until `until`.
fn one_thread(
    file: &File,
    direction: Direction,
    data: &mut [u8],
    until: Instant,
    next: &(dyn Fn() -> u64 + Sync),
) -> io::Result<(u64, Latencies)> {
    let mut latencies = Latencies::new();
    let (mut requests, mut now) = (0, Instant::now());
    while now < until {
        match direction {
            Direction::Read => file.read_exact_at(data, next())?,
            Direction::Write => file.write_all_at(data, next())?,
        }
        let before = std::mem::replace(&mut now, Instant::now());
        latencies.note(now - before);
        requests += 1;
    }
    Ok((requests, latencies))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_device_that_is_free_is_taken_and_a_reason_given_where_none_is() {
        let block = tempfile::tempdir().expect("a directory");
        let path = block.path();
        fs::create_dir(path.join("vda")).expect("made");
        assert_eq!(free_device(path), Err("the kernel's nbd module is not loaded".to_owned()));
        for (name, size, pid) in [("nbd0", "0\n", true), ("nbd2", "8\n", false), ("nbd10", "0\n", false)] {
            fs::create_dir(path.join(name)).expect("made");
            fs::write(path.join(name).join("size"), size).expect("written");
            if pid {
                fs::write(path.join(name).join("pid"), "1\n").expect("written");
            }
        }
        assert_eq!(free_device(path), Ok("nbd10".to_owned()));
        fs::write(path.join("nbd10/size"), "2048\n").expect("written");
        assert_eq!(free_device(path), Err("every /dev/nbdN is in use".to_owned()));
    }
}
