//! The harness can fail: with one defect put in, it finds what is lost.
//!
//! A defect is a device of the tests' own, put where the product's own part would be, or left out where the product has
//! one. Nothing in the product can be switched off.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;

use envol::block::flush::SharedSync;
use envol::block::poison::Poison;
use envol::block::{BlockDevice, BlockDeviceExt, BlockError, Durability, Geometry, Io, Op, Patience};
use envol::units::ByteOffset;
use envol::volume::{EncryptedDevice, Rollback, Unverified, Verified};
use nix::errno::Errno;
use openssl::md::Md;
use openssl::pkey::Id;
use openssl::pkey_ctx::{HkdfMode, PkeyCtx};
use openssl::symm::{Cipher, Crypter, Mode};

use crate::check::{DATA, Reading, Story, Tally, by_the_product, judge_by};
use crate::disk::read_all;
use crate::headers::sweep;
use crate::image::PIECE;
use crate::ledger::{Answer, Ledger};
use crate::power::{Past, Tear};
use crate::random::Random;
use crate::workload::{Clients, update};
use crate::world::{Client, Ground, OWN, SIZE, THIN, World, caller};

/// A stack of ours over the disk of `world`, in place of the one that an attachment has.
type Stack = fn(&World, &Verified, envol::volume::SectorKeys) -> EncryptedDevice;

fn as_shipped(world: &World, volume: &Verified, keys: envol::volume::SectorKeys) -> EncryptedDevice {
    EncryptedDevice::new(Arc::new(Poison::new(Arc::clone(&world.disk.recorder))), volume, keys)
}

fn without_poison(world: &World, volume: &Verified, keys: envol::volume::SectorKeys) -> EncryptedDevice {
    EncryptedDevice::new(Arc::clone(&world.disk.recorder) as Arc<dyn BlockDevice>, volume, keys)
}

fn open(world: &World, stack: Stack) -> Box<dyn BlockDevice> {
    let header = Unverified::read(&*world.disk.recorder).expect("a volume");
    let data_key = header.unwrap_key(world.ground.kms(OWN), &caller()).expect("opens");
    let (volume, keys) = header.verify(data_key, None, Rollback::Refuse).expect("genuine");
    Box::new(stack(world, &volume, keys))
}

/// A volume that is attached, and what was promised of it.
fn attached(ground: &Arc<Ground>) -> (World, Story) {
    let world = World::new(ground);
    let mut story = Story { ledger: Ledger::new(SIZE / PIECE as u64), updates: vec![], ruined: None };
    update(&world, &mut story, || world.create().expect("made"));
    update(&world, &mut story, || drop(world.attach(false).expect("attached")));
    (world, story)
}

/// Some workloads through `stack`, whole pieces by a second device where `aside`; the findings of their cuts.
fn findings(stack: Stack, aside: bool, failing: bool, reading: Reading) -> Vec<String> {
    let mut tally = Tally::default();
    for number in 0..12 {
        let ground = Ground::new(THIN);
        let (world, mut story) = attached(&ground);
        let second = aside.then(|| open(&world, stack));
        let clients = Clients::new(open(&world, stack), second, &world, Random::new(number), story.ledger);
        clients.work(30);
        if failing {
            world.disk.fail_syncs(1);
        }
        clients.work(30);
        let (mut random, ledger, broken) = clients.leave();
        story.ledger = ledger;
        tally.findings.extend(broken);
        cut_by_chance(&ground, (&world.end(), &story), &mut random, (&mut tally, reading));
    }
    assert!(tally.distinct() > 200, "{}", tally.distinct());
    tally.findings
}

fn cut_by_chance(
    ground: &Arc<Ground>,
    (past, story): (&Past, &Story),
    random: &mut Random,
    (tally, reading): (&mut Tally, Reading),
) {
    let moments = past.moments();
    for _ in 0..24 {
        let at = *random.of(&moments[moments.len() / 4..]);
        let cut = past.cut(at);
        for fates in cut.fates(Tear::Pieces, 6, random) {
            let state = cut.state(Tear::Pieces, &fates, random.of(&cut.files));
            if tally.is_new(&state) {
                judge_by(ground, (&state, at), story, (0, random), (tally, reading));
            }
        }
    }
}

#[test]
fn the_stack_of_these_tests_loses_nothing() {
    assert_eq!(findings(as_shipped, false, true, by_the_product), [""; 0]);
    assert_eq!(findings(as_shipped, false, true, by_pieces), [""; 0]);
}

#[test]
fn without_poison_a_flush_after_a_failed_one_is_found_to_lose() {
    let found = findings(without_poison, false, true, by_the_product);
    assert!(found.iter().any(|finding| finding.contains("Lost")), "{found:?}");
}

#[test]
fn a_write_of_whole_pieces_that_skips_the_lock_is_found_to_be_lost() {
    let found = findings(as_shipped, true, false, by_the_product);
    assert!(found.iter().any(|finding| finding.contains("Outside") || finding.contains("Lost")), "{found:?}");
}

/// What is on the disk, deciphered by OpenSSL, zeros being zeros by units of `unit` bytes.
fn deciphered(ground: &Ground, world: &World, unit: usize) -> Vec<u8> {
    let header = Unverified::read(&*world.disk.recorder).expect("a volume");
    let data_key = header.unwrap_key(ground.kms(OWN), &caller()).expect("opens");
    let mut context = PkeyCtx::new_id(Id::HKDF).expect("a context");
    context.derive_init().expect("starts");
    context.set_hkdf_mode(HkdfMode::EXPAND_ONLY).expect("a mode");
    context.set_hkdf_md(Md::sha512()).expect("a digest");
    context.set_hkdf_key(data_key.expose()).expect("a key");
    context.add_hkdf_info(&[&b"envol 1 sector keys "[..], &[0; 8]].concat()).expect("a label");
    let mut key = [0; 64];
    context.derive(Some(&mut key)).expect("derives");
    let disk = read_all(&*world.disk.recorder).expect("reads");
    let sectors = disk[DATA as usize * PIECE..].chunks(4096).enumerate();
    let plain = sectors.flat_map(|(number, sector)| {
        let tweak = (number as u128).to_le_bytes();
        let mut cipher = Crypter::new(Cipher::aes_256_xts(), Mode::Decrypt, &key, Some(&tweak)).expect("a cipher");
        let mut plain = vec![0; sector.len() + 16];
        let length = cipher.update(sector, &mut plain).expect("decrypts");
        plain.truncate(length);
        let units = plain.chunks_mut(unit).zip(sector.chunks(unit));
        units.filter(|(_, cipher)| cipher.iter().all(|byte| *byte == 0)).for_each(|(plain, _)| plain.fill(0));
        plain
    });
    plain.collect()
}

fn by_pieces(ground: &Ground, world: &World, _: &Client) -> Vec<u8> {
    deciphered(ground, world, 512)
}

fn by_sectors(ground: &Ground, world: &World, _: &Client) -> Vec<u8> {
    deciphered(ground, world, 4096)
}

#[test]
fn the_zero_rule_by_sectors_is_found_to_read_noise() {
    let found = findings(as_shipped, false, false, by_sectors);
    assert!(found.iter().any(|finding| finding.contains("Outside")), "{found:?}");
}

/// Leaves out the sync between the two copies of a header.
struct OneSync {
    disk: Arc<dyn BlockDevice>,
    since_sync: Mutex<Vec<u64>>,
}

impl OneSync {
    fn over(disk: Arc<dyn BlockDevice>) -> Arc<dyn BlockDevice> {
        Arc::new(Self { disk, since_sync: Mutex::default() })
    }

    /// Whether this sync is the one between the copies.
    fn is_between(&self, op: &Op<'_>) -> bool {
        let mut written = self.since_sync.lock().expect("no panic");
        match op {
            Op::Write { at, .. } => written.push(at.get()),
            Op::Flush if matches!(written[..], [0 | 0x8_0000]) => return true,
            Op::Flush => written.clear(),
            _ => (),
        }
        false
    }
}

impl BlockDevice for OneSync {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        for io in batch.iter_mut() {
            if self.is_between(&io.op) {
                io.complete(Ok(()));
                done(io);
            } else {
                self.disk.submit(std::slice::from_mut(io), patience, done);
            }
        }
    }
}

#[test]
fn without_the_sync_between_the_copies_a_header_is_found_to_be_refused() {
    let mut tally = Tally::default();
    sweep(&Ground::with(THIN, OneSync::over), 1, false, &mut tally);
    assert!(tally.findings.iter().any(|finding| finding.contains("refused")), "{:?}", tally.findings);
}

/// Leaves out the sync before a header is written over.
struct Hasty {
    disk: Arc<dyn BlockDevice>,
    written: Mutex<bool>,
}

impl Hasty {
    fn over(disk: Arc<dyn BlockDevice>) -> Arc<dyn BlockDevice> {
        Arc::new(Self { disk, written: Mutex::new(false) })
    }
}

impl BlockDevice for Hasty {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        for io in batch.iter_mut() {
            let mut written = self.written.lock().expect("no panic");
            *written |= io.op.is_mutation();
            if matches!(io.op, Op::Flush) && !*written {
                io.complete(Ok(()));
                done(io);
            } else {
                drop(written);
                self.disk.submit(std::slice::from_mut(io), patience, done);
            }
        }
    }
}

#[test]
fn without_the_sync_before_an_update_a_kill_and_then_a_power_cut_is_found_to_be_refused() {
    let mut tally = Tally::default();
    sweep(&Ground::with(THIN, Hasty::over), 1, false, &mut tally);
    assert!(tally.findings.iter().any(|finding| finding.contains("refused")), "{:?}", tally.findings);
}

/// How a flush shares the syncs of the disk below.
trait Sharing: Send + Sync {
    fn flush(&self, sync: &dyn Fn() -> Result<(), Errno>) -> Result<(), BlockError>;
}

/// The product's own.
impl Sharing for SharedSync {
    fn flush(&self, sync: &dyn Fn() -> Result<(), Errno>) -> Result<(), BlockError> {
        SharedSync::flush(self, sync)
    }
}

/// Joins a sync that runs already.
#[derive(Default)]
struct Joining {
    running: Mutex<bool>,
    ended: std::sync::Condvar,
    joined: Mutex<Option<mpsc::Sender<()>>>,
}

impl Sharing for Joining {
    fn flush(&self, sync: &dyn Fn() -> Result<(), Errno>) -> Result<(), BlockError> {
        let mut running = self.running.lock().expect("no panic");
        if *running {
            if let Some(joined) = self.joined.lock().expect("no panic").take() {
                joined.send(()).expect("somebody listens");
            }
            drop(self.ended.wait_while(running, |running| *running).expect("no panic"));
            return Ok(());
        }
        *running = true;
        drop(running);
        let outcome = sync();
        *self.running.lock().expect("no panic") = false;
        self.ended.notify_all();
        outcome.map_err(BlockError::System)
    }
}

struct Shares {
    disk: Arc<dyn BlockDevice>,
    sharing: Arc<dyn Sharing>,
}

impl BlockDevice for Shares {
    fn geometry(&self) -> Geometry {
        self.disk.geometry()
    }

    fn submit<'b>(&self, batch: &mut [Io<'b>], patience: Patience, done: &mut dyn FnMut(&mut Io<'b>)) {
        for io in batch.iter_mut() {
            if matches!(io.op, Op::Flush) {
                let sync = || self.disk.flush().map_err(|_| Errno::EIO);
                io.complete(self.sharing.flush(&sync));
                done(io);
            } else {
                self.disk.submit(std::slice::from_mut(io), patience, done);
            }
        }
    }
}

/// Shares nothing: every flush is a sync of its own, beside those that run.
struct Apart;

impl Sharing for Apart {
    fn flush(&self, sync: &dyn Fn() -> Result<(), Errno>) -> Result<(), BlockError> {
        sync().map_err(BlockError::System)
    }
}

/// An attached volume whose flushes share syncs as they are told to.
struct Shared {
    ground: Arc<Ground>,
    world: World,
    story: Story,
    device: EncryptedDevice,
}

impl Shared {
    fn by(sharing: Arc<dyn Sharing>) -> Self {
        let ground = Ground::new(THIN);
        let (world, story) = attached(&ground);
        let header = Unverified::read(&*world.disk.recorder).expect("a volume");
        let data_key = header.unwrap_key(world.ground.kms(OWN), &caller()).expect("opens");
        let (volume, keys) = header.verify(data_key, None, Rollback::Refuse).expect("genuine");
        let disk = Arc::clone(&world.disk.recorder) as Arc<dyn BlockDevice>;
        let device = EncryptedDevice::new(Arc::new(Poison::new(Shares { disk, sharing })), &volume, keys);
        Self { ground, world, story, device }
    }

    /// What the disk is asked next waits in it: told when it has come, and when it is let go.
    fn hold(&self) -> (mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((come, has_come), (let_go, released)) = (mpsc::channel(), mpsc::channel());
        let (come, released) = (Mutex::new(Some(come)), Mutex::new(released));
        self.world.disk.interrupt(Some(Arc::new(move || {
            let first = come.lock().expect("no panic").take();
            if let Some(come) = first {
                come.send(()).expect("somebody listens");
                released.lock().expect("no panic").recv().expect("somebody lets go");
            }
        })));
        (has_come, let_go)
    }

    /// What is found when the power fails now.
    fn findings(self) -> Vec<String> {
        let Self { ground, world, story, device } = self;
        world.disk.interrupt(None);
        drop(device);
        let at = world.disk.journal.tick();
        let past = world.end();
        let mut tally = Tally::default();
        let (cut, mut random) = (past.cut(at), Random::new(0));
        for fates in cut.fates(Tear::Pieces, 64, &mut random) {
            let state = cut.state(Tear::Pieces, &fates, &cut.files[0]);
            judge_by(&ground, (&state, at), &story, (0, &mut random), (&mut tally, by_the_product));
        }
        tally.findings
    }
}

/// Writes the first piece.
fn write_one(device: &EncryptedDevice, world: &World, story: &mut Story) {
    let issued = world.disk.journal.tick();
    device.write_at(ByteOffset::ZERO, &mut [7; PIECE], Durability::Cached).expect("written");
    let answer = Answer::Cached(world.disk.journal.tick());
    story.ledger.wrote(0, crate::image::content(&[7; PIECE]), issued, answer);
}

/// One client flushes; while the disk syncs, another writes and flushes; then the power fails. The second client has
/// come as far as it can when `arrived` says so.
fn a_flush_during_a_sync(
    sharing: Arc<dyn Sharing>,
    arrived: &mpsc::Receiver<()>,
    arrives: Option<mpsc::Sender<()>>,
) -> Vec<String> {
    let mut shared = Shared::by(sharing);
    let (in_sync, let_go) = shared.hold();
    let Shared { world, story, device, .. } = &mut shared;
    thread::scope(|scope| {
        scope.spawn(|| device.flush().expect("synced"));
        in_sync.recv().expect("the sync runs");
        write_one(device, world, story);
        let issued = world.disk.journal.tick();
        let second = scope.spawn(|| {
            arrives.map(|arrives| arrives.send(()));
            device.flush().expect("synced");
            world.disk.journal.tick()
        });
        arrived.recv().expect("the second client has come");
        let_go.send(()).expect("the disk waits");
        story.ledger.synced(issued, second.join().expect("no panic"));
    });
    shared.findings()
}

#[test]
fn a_flush_that_joins_a_sync_already_running_is_found_to_lose() {
    let (arrives, arrived) = mpsc::channel();
    assert_eq!(a_flush_during_a_sync(Arc::new(SharedSync::new()), &arrived, Some(arrives)), [""; 0]);
    let (joins, joined) = mpsc::channel();
    let joining = Joining { joined: Mutex::new(Some(joins)), ..Joining::default() };
    let found = a_flush_during_a_sync(Arc::new(joining), &joined, None);
    assert!(found.iter().any(|finding| finding.contains("Lost")), "{found:?}");
}

/// One client writes and flushes; while that sync is on its way to failing, another client flushes, which waits for the
/// first or does not; then the power fails. What the second was answered, and what is found.
fn a_flush_while_a_sync_fails(sharing: Arc<dyn Sharing>, waits: bool) -> (Result<(), BlockError>, Vec<String>) {
    let mut shared = Shared::by(sharing);
    let Shared { world, story, device, .. } = &mut shared;
    write_one(device, world, story);
    let (in_sync, let_go) = shared.hold();
    let Shared { world, story, device, .. } = &mut shared;
    let answer = thread::scope(|scope| {
        let first = scope.spawn(|| device.flush());
        in_sync.recv().expect("the sync runs");
        let issued = world.disk.journal.tick();
        let second = scope.spawn(|| (device.flush(), world.disk.journal.tick()));
        while !waits && !second.is_finished() {
            thread::yield_now();
        }
        world.disk.fail_syncs(1);
        let_go.send(()).expect("the disk waits");
        assert_eq!(first.join().expect("no panic"), Err(BlockError::System(Errno::EIO)));
        let (answer, answered) = second.join().expect("no panic");
        if answer.is_ok() {
            story.ledger.synced(issued, answered);
        }
        answer
    });
    (answer, shared.findings())
}

/// Why syncs of one file take turns: the kernel tells one of two what was lost, and the other that all is well.
#[test]
fn a_sync_beside_one_that_fails_is_found_to_lose_and_the_products_waits_and_fails_too() {
    let (answer, found) = a_flush_while_a_sync_fails(Arc::new(SharedSync::new()), true);
    assert_eq!((answer, found), (Err(BlockError::Poisoned), vec![]));
    let (answer, found) = a_flush_while_a_sync_fails(Arc::new(Apart), false);
    assert_eq!(answer, Ok(()));
    assert!(found.iter().any(|finding| finding.contains("Lost")), "{found:?}");
}
