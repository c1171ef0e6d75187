//! One volume's disk is sick: it fails, is full, takes minutes or is gone. Its own requests are answered as they must be,
//! another volume of the same daemon does not notice, and every detach is answered.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use envol::nbd::client::{Client, ClientError, NbdUri};
use tempfile::TempDir;

use crate::disk::{Disk, Rule, Way, eventually, ways};
use crate::support::Daemon;

/// NBD's numbers for errors.
const EPERM: u32 = 1;
const EIO: u32 = 5;
const ENOSPC: u32 = 28;

const KEPT: [u8; 4096] = [7; 4096];
const FAR: u64 = 512 << 10;

/// A daemon with two volumes, one of them on a disk that can be made sick.
struct World {
    daemon: Daemon,
    way: Way,
    disk: Disk,
    _config: TempDir,
}

impl Drop for World {
    fn drop(&mut self) {
        // The daemon's directory can be removed only when nothing is mounted in it.
        self.disk.unmount();
    }
}

impl World {
    /// Each volume holds [`KEPT`] at [`FAR`], which is not in memory.
    fn new(way: Way) -> Self {
        let config = TempDir::new().expect("a directory");
        let file = config.path().join("envol.toml");
        std::fs::write(&file, "[timings]\ndrain_deadline_s = 1\n").expect("written");
        let daemon = Daemon::start_under(&["--config", file.to_str().expect("plain")], &[("ENVOL_IO", way.0)]);
        for name in ["sick", "well"] {
            daemon.json(["volume", "create", name, "--size", "1M"]);
            daemon.attach(name);
            client(&daemon, name).write_durably(FAR, &KEPT).expect("written");
            daemon.detach(name);
        }
        let disk = Disk::over(&daemon.backing("sick"), config.path());
        let world = Self { daemon, way, disk, _config: config };
        world.attach("sick");
        world.attach("well");
        world
    }

    fn attach(&self, name: &str) {
        self.daemon.json(["attach", name].iter().chain(self.way.1));
    }

    fn sicken(&mut self, requests: &'static str, errno: i32, once: bool) {
        self.disk.sicken(Rule { requests, errno, once });
    }

    /// The other volume works: what is on its disk is read, what is written is there, and it can be detached.
    fn others_are_well(&self) {
        let mut client = client(&self.daemon, "well");
        client.write_durably(7, b"not noticed").expect("written");
        let (mut far, mut near) = ([0; 4096], [0; 11]);
        client.read(FAR, &mut far).expect("read");
        client.read(7, &mut near).expect("read");
        assert_eq!((far, &near), (KEPT, b"not noticed"));
        client.disconnect().expect("closed");
        self.daemon.detach("well");
        self.attach("well");
    }

    fn state(&self) -> String {
        self.daemon.json(["volume", "show", "sick"])["state"].as_str().expect("a word").to_owned()
    }

    /// Detaches the sick volume; the exit code.
    fn detach(&self) -> Option<i32> {
        self.daemon.envol(["detach", "sick", "--force"]).status.code()
    }
}

fn client(daemon: &Daemon, name: &str) -> Client {
    Client::enter(&NbdUri::unix(daemon.nbd_socket(), name), Some(Duration::from_secs(120))).expect("connects")
}

fn errno<T>(outcome: Result<T, ClientError>) -> u32 {
    match outcome {
        Ok(_) => 0,
        Err(ClientError::Errno(errno)) => errno,
        Err(error) => panic!("{error}"),
    }
}

fn each_way(test: impl Fn(World)) {
    for way in ways() {
        let world = World::new(way);
        let place = world.daemon.path().to_owned();
        test(world);
        assert!(!place.exists(), "{} is left behind", place.display());
    }
}

#[test]
fn reads_that_fail_cost_themselves_alone() {
    each_way(|mut world| {
        let mut sick = client(&world.daemon, "sick");
        world.sicken("read", libc::EIO, false);
        let mut bytes = [0; 4096];
        assert_eq!(errno(sick.read(FAR, &mut bytes)), EIO, "{:?}", world.way);
        world.others_are_well();
        world.disk.heal();
        sick.read(FAR, &mut bytes).expect("read");
        assert_eq!(bytes, KEPT);
        drop(sick);
        assert_eq!(world.detach(), Some(0));
    });
}

#[test]
fn a_disk_that_is_full_or_over_its_quota_is_told_as_that_and_recovers() {
    each_way(|mut world| {
        let mut sick = client(&world.daemon, "sick");
        let answers = [
            (libc::ENOSPC, ENOSPC),
            (libc::EDQUOT, ENOSPC),
            (libc::EFBIG, ENOSPC),
            (libc::EROFS, EPERM),
            (libc::EIO, EIO),
        ];
        for (at_the_disk, told) in answers {
            world.sicken("write", at_the_disk, false);
            let written = sick.write(FAR, &[8; 4096]);
            assert_eq!(errno(written), told, "errno {at_the_disk} by {:?}", world.way);
            world.others_are_well();
            world.disk.heal();
            sick.write(FAR, &KEPT).expect("written");
        }
        sick.flush().expect("flushed");
        drop(sick);
        assert_eq!(world.detach(), Some(0));
    });
}

#[test]
fn a_sync_that_fails_once_is_not_forgotten_and_what_was_read_stays_readable() {
    each_way(|mut world| {
        let mut sick = client(&world.daemon, "sick");
        // In this order: QEMU syncs when it is given the rule, and a second sync with no write in between is none.
        world.sicken("flush", libc::EIO, true);
        sick.write(0, &[9; 4096]).expect("written");
        assert_eq!(errno(sick.flush()), EIO, "{:?}", world.way);
        // The disk would sync now; whether the write before is on it nobody knows.
        assert_ne!(errno(sick.flush()), 0, "{:?}", world.way);
        assert_ne!(errno(sick.write(0, &[9; 4096])), 0);
        assert_ne!(errno(sick.write_durably(0, &[9; 4096])), 0);
        let mut bytes = [0; 4096];
        sick.read(FAR, &mut bytes).expect("read");
        assert_eq!((bytes, world.state().as_str()), (KEPT, "error"));
        world.others_are_well();
        drop(sick);
        // What could not be synced is said, and the volume is detached all the same.
        assert_eq!(world.detach(), Some(8));
        world.disk.heal();
        world.attach("sick");
        let mut sick = client(&world.daemon, "sick");
        sick.write_durably(0, &[9; 4096]).expect("written");
        drop(sick);
        assert_eq!(world.detach(), Some(0));
    });
}

/// A page in 8 s; `scripts/faults` asks for one in a minute.
fn bytes_a_second() -> u64 {
    std::env::var("ENVOL_FAULTS_SLOW").map_or(512, |text| text.parse().expect("a number"))
}

#[test]
fn a_disk_that_is_slow_holds_up_nobody_else_and_a_forced_detach_ends() {
    each_way(|mut world| {
        // A client that has waited for each of its answers is taken for one that does so, and is served in another way.
        let mut sick = client(&world.daemon, "sick");
        for page in 0..12 {
            sick.read(page * 4096, &mut [0; 4096]).expect("read");
        }
        // The first request is let through, and goes on the account of the next ones.
        world.disk.slow_down(bytes_a_second());
        let (told, ended) = mpsc::channel();
        let reader = thread::spawn(move || {
            let outcomes: Vec<_> = (0..4).map(|page| sick.read(FAR + page * 65_536, &mut [0; 4096])).collect();
            told.send(()).expect("somebody waits");
            outcomes.into_iter().find_map(Result::err)
        });
        assert!(ended.recv_timeout(Duration::from_millis(500)).is_err(), "the disk takes its time ({:?})", world.way);
        world.others_are_well();
        assert_eq!(world.detach(), Some(4), "keys and sessions are gone, the disk has not answered");
        assert_eq!(world.state(), "detaching");
        let ended = reader.join().expect("no panic");
        assert!(matches!(ended, Some(ClientError::Connection(_))), "its session was closed: {ended:?}");
        assert_eq!(world.state(), "detaching", "a call is still in the disk");
        assert_eq!(world.daemon.envol(["attach", "sick"]).status.code(), Some(4));
        world.others_are_well();
        world.disk.heal();
        eventually(|| (world.state() == "available").then_some(()));
        world.attach("sick");
        let mut bytes = [0; 4096];
        client(&world.daemon, "sick").read(FAR, &mut bytes).expect("read");
        assert_eq!(bytes, KEPT);
    });
}

#[test]
fn a_disk_that_is_gone_is_an_error_and_can_be_detached() {
    each_way(|mut world| {
        let mut sick = client(&world.daemon, "sick");
        world.disk.pull();
        assert_eq!(errno(sick.read(FAR, &mut [0; 4096])), EIO, "{:?}", world.way);
        assert_eq!(errno(sick.write(FAR, &[1; 4096])), EIO, "{:?}", world.way);
        assert_eq!(errno(sick.flush()), EIO, "{:?}", world.way);
        world.others_are_well();
        drop(sick);
        let code = world.detach();
        assert!(matches!(code, Some(0 | 8)), "{code:?} {:?}", world.way);
        assert!(["available", "error"].contains(&world.state().as_str()));
        world.others_are_well();
    });
}
