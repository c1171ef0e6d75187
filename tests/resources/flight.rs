//! Memory of requests in flight: bounded over all connections, and no client that takes or sends nothing keeps it from others.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use envol::block::Patience;
use envol::block::memory::MemoryDevice;
use envol::limits;
use envol::nbd::Bounds;
use envol::units::ByteCount;

use crate::alone;
use crate::idle::resident;
use crate::support::*;

const MIB: u32 = 1 << 20;

/// The least memory that can be configured, over a device of `mib`.
fn fixture(mib: u64, bounds: Bounds) -> Fixture {
    let in_flight = ByteCount::new(limits::IN_FLIGHT_BYTES_LEAST);
    Fixture::with_bounds(MemoryDevice::new(ByteCount::new(mib << 20)), Bounds { in_flight, ..bounds })
}

#[test]
fn eight_clients_with_a_thousand_large_reads_each_stay_within_the_bound() {
    const READS: usize = 1024;
    let _alone = alone();
    let fixture = fixture(4, Bounds::default());
    let before = resident();
    let mut clients: Vec<Raw> = (0..8).map(|_| fixture.simple()).collect();
    for raw in &mut clients {
        raw.send(&request(READ, 0, 1, 0, MIB).repeat(READS));
    }
    let mut most = 0;
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(3) {
        most = most.max(resident().saturating_sub(before));
        std::thread::sleep(Duration::from_millis(10));
    }
    let bound = limits::IN_FLIGHT_BYTES_LEAST + (64 << 20);
    assert!(most <= bound, "{} KiB in memory", most >> 10);
    assert!(most >= 8 << 20, "{} KiB: the answers were under way", most >> 10);
    // One that comes late is served, as large as the others ask and small; then one of them, to the end.
    let mut late = fixture.simple();
    late.request(READ, 0, 2, 0, MIB, &[]);
    assert_eq!(late.simple_reply(MIB as usize).0, 0);
    late.assert_in_step();
    let mut taken = clients.pop().expect("eight");
    for _ in 0..READS {
        assert_eq!(taken.simple_reply(MIB as usize).0, 0);
    }
    taken.assert_in_step();
}

#[test]
fn large_writes_that_a_disk_holds_up_stay_within_the_bound_of_all_connections_together() {
    const WRITES: usize = 64;
    let _alone = alone();
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let device = Wrapped::new(u64::from(4 * MIB), move |_, patience| {
        while patience == Patience::MayBlock && !released.load(Ordering::Acquire) {
            std::thread::sleep(Duration::from_millis(1));
        }
        patience == Patience::MayBlock
    });
    let in_flight = ByteCount::new(limits::IN_FLIGHT_BYTES_LEAST);
    let fixture = Fixture::with_bounds(device, Bounds { in_flight, ..Bounds::default() });
    let payload = vec![7; MIB as usize];
    let before = resident();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let mut raw = fixture.simple();
                let payload = &payload;
                scope.spawn(move || {
                    (0..WRITES).for_each(|_| raw.request(WRITE, 0, 1, 0, MIB, payload));
                    (0..WRITES).all(|_| raw.simple_reply(0).0 == 0)
                })
            })
            .collect();
        let mut most = 0;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(3) {
            most = most.max(resident().saturating_sub(before));
            std::thread::sleep(Duration::from_millis(10));
        }
        release.store(true, Ordering::Release);
        // Each connection alone may have 64 MiB: 512 MiB, were it not for the bound over all of them.
        assert!(most <= limits::IN_FLIGHT_BYTES_LEAST + (64 << 20), "{} KiB in memory", most >> 10);
        assert!(most >= 48 << 20, "{} KiB: they took what there is", most >> 10);
        assert!(clients.into_iter().all(|client| client.join().expect("no panic")), "all of it was written");
    });
}

#[test]
fn while_all_memory_is_taken_small_requests_are_served_and_large_ones_wait_their_turn() {
    const ALL: u32 = 32 * MIB;
    let _alone = alone();
    let fixture = fixture(32, Bounds::default());
    let (mut hog, mut waiting, mut gone, mut small) =
        (fixture.simple(), fixture.simple(), fixture.simple(), fixture.simple());
    hog.request(READ, 0, 1, 0, ALL, &[]);
    // The first bytes of its answer: its memory is taken.
    hog.receive(16);
    waiting.request(READ, 0, 2, 0, ALL, &[]);
    gone.request(READ, 0, 3, 0, ALL, &[]);
    for number in 0..100 {
        // At once, by the workers, and durable.
        small.request(READ, 0, number, 0, 4096, &[]);
        assert_eq!(small.simple_reply(4096).0, 0);
        small.request(WRITE, FUA, number, 4096, 4096, &[7; 4096]);
        assert_eq!(small.simple_reply(0).0, 0);
    }
    waiting.stream.set_read_timeout(Some(Duration::from_millis(100))).expect("set");
    let mut nothing = [0];
    assert!(std::io::Read::read(&mut waiting.stream, &mut nothing).is_err(), "its turn has not come");
    waiting.stream.set_read_timeout(None).expect("set");
    // Whoever leaves while it waits is noticed, and a detach waits for none of them.
    drop(gone);
    wait_for("the one that left to be gone", || fixture.connections() == 3);
    fixture.vol.gate.close();
    wait_for("the export to be empty", || fixture.vol.gate.inside() == 0);
    hog.receive(ALL as usize);
    assert_eq!(waiting.simple_reply(ALL as usize).0, ESHUTDOWN);
}

#[test]
fn a_client_that_stops_in_the_middle_of_a_large_write_does_not_keep_its_memory_for_ever() {
    let _alone = alone();
    let fixture = fixture(4, Bounds { payload: Duration::from_millis(300), ..Bounds::default() });
    let (mut stuck, mut slow) = (fixture.simple(), fixture.simple());
    for raw in [&mut stuck, &mut slow] {
        raw.send(&request(WRITE, 0, 1, 0, MIB));
        raw.stream.write_all(&[1; 500_000]).expect("sent");
    }
    // A pause that is short enough does no harm.
    std::thread::sleep(Duration::from_millis(1100));
    slow.stream.write_all(&vec![1; MIB as usize - 500_000]).expect("sent");
    assert_eq!(slow.simple_reply(0).0, 0);
    wait_for("the one that stopped to be closed", || fixture.connections() == 1);
    stuck.assert_closed();
    slow.assert_in_step();
}
