//! What a client can do once it uses an export: each command, each way to get it wrong, each error.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use envol::block::memory::MemoryDevice;
use envol::block::{BlockDevice, BlockError, Durability, Effort, Op, Patience, Zeroing};
use envol::limits;
use envol::units::ByteCount;
use nix::errno::Errno;

use crate::support::*;

#[test]
fn a_bad_request_magic_disconnects() {
    let fixture = Fixture::new();
    let mut raw = fixture.simple();
    let mut message = request(READ, 0, 1, 0, 16);
    message[3] ^= 0xff;
    raw.send(&message);
    raw.assert_closed();
    fixture.assert_serves();
}

#[test]
fn requests_that_make_no_sense_are_refused_with_the_stream_in_step() {
    let fixture = Fixture::new();
    let mut raw = fixture.simple();
    let end = SIZE;
    let rows = [
        ("unknown command", 0xffff, 0, 0, 16, EINVAL),
        ("unknown command, the next free one", 9, 0, 0, 0, EINVAL),
        ("resize, which is not spoken", 8, 0, 0, 16, EINVAL),
        ("unknown flag on READ", READ, 1 << 15, 0, 16, EINVAL),
        ("NO_HOLE on READ", READ, NO_HOLE, 0, 16, EINVAL),
        ("DF without structured replies", READ, DF, 0, 16, EINVAL),
        ("NO_HOLE on TRIM", TRIM, NO_HOLE, 0, 16, EINVAL),
        ("REQ_ONE on WRITE_ZEROES", WRITE_ZEROES, REQ_ONE, 0, 16, EINVAL),
        ("PAYLOAD_LEN on WRITE_ZEROES", WRITE_ZEROES, 32, 0, 16, EINVAL),
        ("DF on FLUSH", FLUSH, DF, 0, 0, EINVAL),
        ("FAST_ZERO on CACHE", CACHE, FAST_ZERO, 0, 16, EINVAL),
        ("BLOCK_STATUS without a context", BLOCK_STATUS, 0, 0, 16, EINVAL),
        ("FLUSH with an offset", FLUSH, 0, 512, 0, EINVAL),
        ("FLUSH with a length", FLUSH, 0, 0, 512, EINVAL),
        ("READ past the end", READ, 0, end - 15, 16, EINVAL),
        ("READ from behind the end", READ, 0, end + 1, 0, EINVAL),
        ("READ whose end wraps", READ, 0, u64::MAX - 7, 16, EINVAL),
        ("READ of 4 GiB", READ, 0, 0, u32::MAX, EINVAL),
        ("TRIM past the end", TRIM, 0, end - 15, 16, EINVAL),
        ("TRIM whose end wraps", TRIM, 0, u64::MAX, u32::MAX, EINVAL),
        ("CACHE past the end", CACHE, 0, end, 1, EINVAL),
        ("WRITE_ZEROES past the end", WRITE_ZEROES, 0, end - 15, 16, ENOSPC),
        ("WRITE_ZEROES whose end wraps", WRITE_ZEROES, FAST_ZERO, u64::MAX, 2, ENOSPC),
    ];
    for (what, command, flags, offset, length, errno) in rows {
        assert_eq!(raw.error_of(command, flags, offset, length), errno, "{what}");
        raw.assert_in_step();
    }
}

#[test]
fn a_refused_write_has_its_payload_drained() {
    let fixture = Fixture::new();
    let mut raw = fixture.simple();
    let rows = [
        ("unknown flag", 1 << 9, 0, 16, EINVAL),
        ("NO_HOLE on WRITE", NO_HOLE, 0, 4096, EINVAL),
        ("past the end", 0, SIZE - 100, 4096, ENOSPC),
        ("longer than the export", 0, 0, 2 << 20, ENOSPC),
        ("the longest that there is", 0, 0, 32 << 20, ENOSPC),
        ("whose end wraps", 0, u64::MAX, 70_000, ENOSPC),
    ];
    for (what, flags, offset, length, errno) in rows {
        // The payload looks like requests, so that one taken for the other would be noticed.
        let payload: Vec<u8> = request(DISC, 0, 0, 0, 0).into_iter().cycle().take(length as usize).collect();
        raw.request(WRITE, flags, 3, offset, length, &payload);
        assert_eq!(raw.simple_reply(0).0, errno, "{what}");
        raw.assert_in_step();
    }
}

#[test]
fn a_write_longer_than_32_mib_disconnects() {
    let fixture = Fixture::new();
    for length in [u32::MAX, (32 << 20) + 1] {
        let mut raw = fixture.simple();
        raw.request(WRITE, 0, 1, 0, length, b"the start of it");
        raw.assert_closed();
    }
    fixture.assert_serves();
}

#[test]
fn reads_and_writes_of_32_mib_are_served() {
    let fixture = Fixture::over(MemoryDevice::new(ByteCount::new(40 << 20)));
    for mut raw in [fixture.simple(), fixture.structured()] {
        let payload: Vec<u8> = (0_u32..8 << 20).flat_map(u32::to_be_bytes).collect();
        raw.request(WRITE, 0, 1, 12_345, 32 << 20, &payload);
        assert_eq!(raw.simple_reply(0).0, 0);
    }
    let mut raw = fixture.structured();
    raw.request(READ, DF, 2, 12_345, 32 << 20, &[]);
    let chunk = raw.chunk();
    assert!(chunk.done && chunk.kind == 1);
    assert_eq!(chunk.payload[..8], 12_345_u64.to_be_bytes());
    assert!(chunk.payload[8..].chunks(4).zip(0_u32..).all(|(bytes, number)| bytes == number.to_be_bytes()));
}

#[test]
fn a_read_too_long_to_be_unfragmented_overflows() {
    let fixture = Fixture::new();
    let mut raw = fixture.structured();
    for (flags, errno) in [(DF, EOVERFLOW), (0, EINVAL)] {
        raw.request(READ, flags, 4, 0, u32::MAX, &[]);
        let chunk = raw.chunk();
        let payload = [&errno.to_be_bytes()[..], &[0, 0]].concat();
        assert_eq!(chunk, Chunk { done: true, kind: 0x8001, cookie: 4, payload });
    }
}

#[test]
fn any_alignment_is_served() {
    let fixture = Fixture::new();
    let mut raw = fixture.simple();
    let mut model = vec![0_u8; SIZE as usize];
    for (number, (offset, length)) in
        [(0, 1), (1, 511), (511, 2), (4095, 4097), (SIZE - 1, 1), (777, 300_000), (65_536, 65_536)]
            .into_iter()
            .enumerate()
    {
        let bytes: Vec<u8> = (0..length).map(|at: u64| (at % 251) as u8 ^ number as u8).collect();
        raw.request(WRITE, 0, 1, offset, length as u32, &bytes);
        assert_eq!(raw.simple_reply(0).0, 0);
        model[offset as usize..(offset + length) as usize].copy_from_slice(&bytes);
    }
    for (offset, length) in [(0, 1 << 20), (3, 777), (4095, 2), (SIZE - 513, 513)] {
        raw.request(READ, 0, 2, offset, length, &[]);
        let (_, _, data) = raw.simple_reply(length as usize);
        assert!(data == model[offset as usize..][..length as usize], "{offset} {length}");
    }
}

#[test]
fn two_writers_within_one_sector_both_survive() {
    let fixture = Fixture::new();
    let mut writers = [fixture.simple(), fixture.structured()];
    for round in 0_u8..100 {
        for (raw, offset) in writers.iter_mut().zip([7, 2000]) {
            raw.request(WRITE, 0, 1, offset, 100, &[round; 100]);
        }
        for raw in &mut writers {
            assert_eq!(raw.simple_reply(0).0, 0);
        }
        for offset in [7, 2000] {
            writers[0].request(READ, 0, 2, offset, 100, &[]);
            assert_eq!(writers[0].simple_reply(100).2, [round; 100]);
        }
    }
}

#[test]
fn a_length_of_zero_succeeds_without_any_effect() {
    let fixture = Fixture::new();
    let mut raw = fixture.simple();
    for command in [READ, WRITE, FLUSH, TRIM, CACHE, WRITE_ZEROES] {
        assert_eq!(raw.error_of(command, 0, 0, 0), 0, "{command}");
        assert_eq!(raw.error_of(command, FUA, 0, 0), 0, "{command} with FUA");
    }
    assert_eq!(raw.error_of(READ, 0, SIZE, 0), 0);
    let mut raw = fixture.structured();
    raw.request(READ, 0, 8, 0, 0, &[]);
    assert_eq!(raw.chunk(), Chunk { done: true, kind: 0, cookie: 8, payload: Vec::new() });
    // An answer to this one would have to describe at least a byte.
    raw.request(BLOCK_STATUS, 0, 9, 0, 0, &[]);
    assert_eq!(raw.chunk().kind, 0x8001);
}

#[test]
fn a_read_only_export_says_so_and_refuses_every_mutation() {
    let fixture = Fixture::over(MemoryDevice::holding(&[7; 8192], true));
    let mut raw = fixture.haggle();
    let (size, flags) = raw.go("vol");
    assert_eq!((size, flags & 2), (8192, 2));
    raw.request(WRITE, 0, 1, 0, 4096, &[1; 4096]);
    assert_eq!(raw.simple_reply(0).0, EPERM);
    raw.request(WRITE, FUA, 1, 0, 0, &[]);
    assert_eq!(raw.simple_reply(0).0, EPERM);
    for command in [TRIM, WRITE_ZEROES] {
        assert_eq!(raw.error_of(command, 0, 0, 512), EPERM);
    }
    for command in [FLUSH, CACHE] {
        assert_eq!(raw.error_of(command, 0, 0, 0), 0);
    }
    raw.request(READ, 0, 2, 0, 8192, &[]);
    assert_eq!(raw.simple_reply(8192).2, [7; 8192]);
}

#[test]
fn fua_is_accepted_on_every_command() {
    let fixture = Fixture::new();
    let mut raw = fixture.structured();
    raw.request(WRITE, FUA, 1, 5, 3, b"fua");
    assert_eq!(raw.simple_reply(0).0, 0);
    for command in [FLUSH, TRIM, WRITE_ZEROES, CACHE] {
        raw.request(command, FUA, 1, 0, 0, &[]);
        assert_eq!(raw.simple_reply(0).0, 0);
    }
    raw.request(READ, FUA, 2, 5, 3, &[]);
    assert_eq!(raw.chunk().payload[8..], *b"fua");
    raw.request(BLOCK_STATUS, FUA, 3, 0, 512, &[]);
    assert_eq!(raw.chunk().kind, 5);
}

/// What a device was asked for, in short.
fn asked(op: &Op<'_>) -> String {
    let durable = |durability: &Durability| if *durability == Durability::Durable { " durable" } else { "" };
    match op {
        Op::Read { at, into } => format!("read {at}+{}", into.len()),
        Op::Write { at, from, durability } => format!("write {at}+{}{}", from.len(), durable(durability)),
        Op::Flush => "flush".into(),
        Op::Discard { extent, durability } => {
            format!("discard {}+{}{}", extent.start(), extent.length().get(), durable(durability))
        }
        Op::Zero { extent, zeroing, effort, durability } => format!(
            "zero {}+{}{}{}{}",
            extent.start(),
            extent.length().get(),
            if *zeroing == Zeroing::KeepAllocated { " kept" } else { "" },
            if *effort == Effort::FastOnly { " fast" } else { "" },
            durable(durability)
        ),
        Op::Extents { most, .. } => format!("extents, {most} at most"),
    }
}

#[test]
fn each_command_asks_the_device_for_what_it_means() {
    let log = Arc::new(std::sync::Mutex::new(Vec::new()));
    let noted = Arc::clone(&log);
    let fixture = Fixture::over(Wrapped::new(SIZE, move |io, _| {
        noted.lock().unwrap().push(asked(&io.op));
        true
    }));
    let mut raw = fixture.simple();
    let rows = [
        (FLUSH, 0, 0, "flush"),
        (TRIM, 0, 512, "discard 4096+512"),
        (TRIM, FUA, 512, "discard 4096+512 durable"),
        (WRITE_ZEROES, 0, 512, "zero 4096+512"),
        (WRITE_ZEROES, NO_HOLE, 512, "zero 4096+512 kept"),
        (WRITE_ZEROES, FAST_ZERO | FUA, 512, "zero 4096+512 fast durable"),
        (READ, FUA, 512, "read 4096+512"),
        (CACHE, 0, 512, "read 4096+512"),
    ];
    for (command, flags, length, expected) in rows {
        let offset = if length == 0 { 0 } else { 4096 };
        assert_eq!(raw.error_of(command, flags, offset, length), 0);
        assert_eq!(std::mem::take(&mut *log.lock().unwrap()), [expected]);
    }
    raw.request(WRITE, FUA, 1, 10, 4, b"here");
    assert_eq!(raw.simple_reply(0).0, 0);
    raw.request(WRITE, 0, 1, 10, 4, b"here");
    assert_eq!(raw.simple_reply(0).0, 0);
    assert_eq!(*log.lock().unwrap(), ["write 10+4 durable", "write 10+4"]);
}

#[test]
fn every_device_error_is_answered_with_its_errno_and_nothing_else() {
    let rows = [
        (BlockError::OutOfRange, EIO),
        (BlockError::ReadOnly, EPERM),
        (BlockError::NoSpace(Errno::ENOSPC), ENOSPC),
        (BlockError::NotFast, ENOTSUP),
        (BlockError::Poisoned, EIO),
        (BlockError::Detached, ESHUTDOWN),
        (BlockError::System(Errno::EIO), EIO),
        (BlockError::System(Errno::ENODEV), EIO),
    ];
    for (error, errno) in rows {
        let failing = move |io: &mut envol::block::Io<'_>, _| {
            io.complete(Err(error));
            false
        };
        let fixture = Fixture::over(Wrapped::new(SIZE, failing));
        let mut raw = fixture.simple();
        for (command, length) in [(READ, 4096), (READ, 1 << 20), (FLUSH, 0), (TRIM, 1), (WRITE_ZEROES, 1), (CACHE, 1)] {
            assert_eq!(raw.error_of(command, 0, 0, length), errno, "{error:?}: {command}");
        }
        for (flags, length) in [(0, 512), (FUA, 512), (0, 300_000)] {
            raw.request(WRITE, flags, 1, 0, length, &vec![1; length as usize]);
            assert_eq!(raw.simple_reply(0).0, errno, "{error:?}: WRITE");
        }
        let mut raw = fixture.structured();
        for (command, length) in [(READ, 4096), (READ, 1 << 20), (BLOCK_STATUS, 512)] {
            raw.request(command, 0, 6, 0, length, &[]);
            let payload = [&errno.to_be_bytes()[..], &[0, 0]].concat();
            assert_eq!(raw.chunk(), Chunk { done: true, kind: 0x8001, cookie: 6, payload });
        }
    }
}

#[test]
fn one_failing_request_of_a_batch_leaves_the_others_whole() {
    let at_8192 = |io: &mut envol::block::Io<'_>, _| match &io.op {
        Op::Read { at, .. } if at.get() == 8192 => {
            io.complete(Err(BlockError::System(Errno::EIO)));
            false
        }
        _ => true,
    };
    let fixture = Fixture::over(Wrapped::new(SIZE, at_8192));
    let mut raw = fixture.simple();
    raw.request(WRITE, 0, 1, 0, 16_384, &[9; 16_384]);
    assert_eq!(raw.simple_reply(0).0, 0);
    let batch: Vec<u8> = (0..4).flat_map(|number| request(READ, 0, number, number * 4096, 4096)).collect();
    raw.send(&batch);
    for number in 0..4 {
        let expected = if number == 2 { (EIO, 2, Vec::new()) } else { (0, number, vec![9; 4096]) };
        assert_eq!(raw.simple_reply(4096), expected);
    }
}

#[test]
fn what_would_have_to_wait_is_overtaken_and_answered_when_done() {
    let misses = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&misses);
    // Reads of the first half are not in memory: they may not be carried out at once.
    let fixture = Fixture::over(Wrapped::new(SIZE, move |io, patience| match &io.op {
        Op::Read { at, .. } if at.get() < SIZE / 2 && patience == Patience::TryNow => {
            counted.fetch_add(1, Ordering::Relaxed);
            false
        }
        Op::Read { at, .. } if at.get() == 0 => {
            std::thread::sleep(std::time::Duration::from_millis(50));
            true
        }
        _ => true,
    }));
    for mut raw in [fixture.simple(), fixture.structured()] {
        let structured = misses.swap(0, Ordering::Relaxed) > 0;
        let offsets = [0, SIZE - 4096, 4096, SIZE - 8192, 8192];
        for (number, offset) in offsets.into_iter().enumerate() {
            raw.request(WRITE, 0, 99, offset, 4096, &[number as u8 + 1; 4096]);
            assert_eq!(raw.simple_reply(0).0, 0);
        }
        raw.send(
            &(0..5).flat_map(|number| request(READ, 0, number, offsets[number as usize], 4096)).collect::<Vec<_>>(),
        );
        let mut order = Vec::new();
        for _ in 0..5 {
            let (cookie, data) = if structured {
                let chunk = raw.chunk();
                (chunk.cookie, chunk.payload[8..].to_vec())
            } else {
                let (error, cookie, data) = raw.simple_reply(4096);
                assert_eq!(error, 0);
                (cookie, data)
            };
            assert_eq!(data, [cookie as u8 + 1; 4096]);
            order.push(cookie);
        }
        assert_eq!(order[..2], [1, 3], "what needs no waiting does not wait");
        assert_eq!(misses.load(Ordering::Relaxed), 3);
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2, 3, 4]);
    }
}

#[test]
fn a_write_that_would_have_to_wait_keeps_its_payload() {
    let fixture = Fixture::over(Wrapped::new(SIZE, |_, patience| patience == Patience::MayBlock));
    let mut raw = fixture.simple();
    let batch: Vec<u8> = (0..64_u64)
        .flat_map(|number| [request(WRITE, 0, number, number * 1000, 1000), vec![number as u8; 1000]].concat())
        .collect();
    raw.send(&batch);
    let mut cookies: Vec<u64> = (0..64)
        .map(|_| raw.simple_reply(0))
        .map(|(error, cookie, _)| {
            assert_eq!(error, 0);
            cookie
        })
        .collect();
    cookies.sort_unstable();
    assert!(cookies.into_iter().eq(0..64));
    raw.request(READ, 0, 1, 0, 64_000, &[]);
    let (_, _, data) = raw.simple_reply(64_000);
    assert!(data.chunks(1000).zip(0_u8..).all(|(bytes, number)| bytes == [number; 1000]));
}

#[test]
fn block_status_describes_the_request_and_no_more() {
    let fixture = Fixture::over(MemoryDevice::new(ByteCount::new(8 << 30)));
    let mut raw = fixture.structured();
    raw.request(WRITE, 0, 1, 4096, 4096, &[1; 4096]);
    assert_eq!(raw.simple_reply(0).0, 0);
    let status = |raw: &mut Raw, flags, offset, length: u32| -> Vec<(u32, u32)> {
        raw.request(BLOCK_STATUS, flags, 5, offset, length, &[]);
        let chunk = raw.chunk();
        assert!(chunk.done && chunk.kind == 5 && chunk.payload[..4] == [0, 0, 0, 1], "{chunk:?}");
        let word = |bytes: &[u8]| u32::from_be_bytes(bytes.try_into().unwrap());
        chunk.payload[4..].chunks(8).map(|pair| (word(&pair[..4]), word(&pair[4..]))).collect()
    };
    assert_eq!(status(&mut raw, 0, 0, 16_384), [(4096, 3), (4096, 0), (8192, 3)]);
    assert_eq!(status(&mut raw, REQ_ONE, 0, 16_384), [(4096, 3)]);
    assert_eq!(status(&mut raw, 0, 100, 100), [(100, 3)]);
    assert_eq!(status(&mut raw, REQ_ONE, 5000, 10), [(10, 0)]);
    assert_eq!(status(&mut raw, 0, 8192, u32::MAX), [(u32::MAX, 3)]);
    raw.request(BLOCK_STATUS, 0, 6, (8 << 30) - 1, 2, &[]);
    assert_eq!(raw.chunk().kind, 0x8001);
}

#[test]
fn zeroes_and_trims_of_4_gib_go_in_steps_and_read_back_as_zeros() {
    let longest = Arc::new(AtomicU64::new(0));
    let flushes = Arc::new(AtomicU64::new(0));
    let (noted, flushed) = (Arc::clone(&longest), Arc::clone(&flushes));
    let fixture = Fixture::over(Wrapped::new(8 << 30, move |io, _| {
        match &io.op {
            Op::Zero { extent, durability, .. } | Op::Discard { extent, durability } => {
                assert_eq!(*durability, Durability::Cached);
                noted.fetch_max(extent.length().get(), Ordering::Relaxed);
            }
            Op::Flush => _ = flushed.fetch_add(1, Ordering::Relaxed),
            _ => {}
        }
        true
    }));
    let mut raw = fixture.simple();
    for (command, flags) in [(WRITE_ZEROES, NO_HOLE), (WRITE_ZEROES, FUA), (TRIM, FUA)] {
        if flags & NO_HOLE != 0 {
            // In memory, keeping the space would take it; one step shows as much as all of them.
            assert_eq!(raw.error_of(command, flags, 0, 1 << 20), 0);
            continue;
        }
        for offset in [1000, 3 << 30] {
            raw.request(WRITE, 0, 1, offset, 4, b"data");
            assert_eq!(raw.simple_reply(0).0, 0);
        }
        assert_eq!(raw.error_of(command, flags, 3, u32::MAX), 0);
        for offset in [1000, 3 << 30] {
            raw.request(READ, 0, 2, offset, 4, &[]);
            assert_eq!(raw.simple_reply(4).2, [0; 4]);
        }
    }
    assert_eq!(longest.load(Ordering::Relaxed), limits::ZERO_STEP);
    assert_eq!(flushes.load(Ordering::Relaxed), 2, "one flush makes all the steps durable");
}

#[test]
fn disc_ends_the_connection_once_what_is_in_flight_is_answered() {
    let fixture = Fixture::over(Wrapped::new(SIZE, |io, _| {
        if matches!(io.op, Op::Flush) {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        true
    }));
    let mut raw = fixture.simple();
    let behind = [request(WRITE, 0, 9, 0, 4), b"late".to_vec()].concat();
    raw.send(&[request(FLUSH, 0, 7, 0, 0), request(READ, 0, 8, 0, 4), request(DISC, 0, 0, 0, 0), behind].concat());
    assert_eq!(raw.simple_reply(4), (0, 8, vec![0; 4]));
    assert_eq!(raw.simple_reply(0), (0, 7, Vec::new()));
    raw.assert_closed();
    // What came behind the DISC was not looked at.
    let mut raw = fixture.simple();
    raw.request(READ, 0, 1, 0, 4, &[]);
    assert_eq!(raw.simple_reply(4).2, [0; 4]);
}

#[test]
fn a_write_is_applied_wholly_or_not_at_all_when_the_client_vanishes() {
    let fixture = Fixture::new();
    for length in [4096_u32, 100_000, 600_000] {
        for cut in [0, 1, 500, length / 2, length - 1, length] {
            let mut raw = fixture.simple();
            raw.error_of(WRITE_ZEROES, 0, 0, 700_000);
            raw.request(WRITE, 0, 1, 0, length, &vec![5; cut as usize]);
            raw.finish_sending();
            raw.assert_closed();
            let mut raw = fixture.simple();
            raw.request(READ, 0, 1, 0, length, &[]);
            let expected = if cut == length { 5 } else { 0 };
            assert!(raw.simple_reply(length as usize).2.iter().all(|byte| *byte == expected), "{cut} of {length}");
        }
    }
}

#[test]
fn while_draining_requests_are_answered_eshutdown_with_the_stream_in_step() {
    let fixture = Fixture::new();
    let mut raw = fixture.simple();
    raw.assert_in_step();
    fixture.vol.gate.close();
    for (command, length) in [(READ, 4096), (READ, 1 << 20), (FLUSH, 0), (TRIM, 512), (WRITE_ZEROES, 512), (CACHE, 512)]
    {
        assert_eq!(raw.error_of(command, 0, 0, length), ESHUTDOWN, "{command}");
    }
    for length in [512, 600_000] {
        raw.request(WRITE, 0, 1, 0, length, &vec![1; length as usize]);
        assert_eq!(raw.simple_reply(0).0, ESHUTDOWN);
    }
    // What is wrong is still told as what it is.
    assert_eq!(raw.error_of(READ, 0, SIZE, 1), EINVAL);
    assert_eq!(fixture.vol.gate.inside(), 0);
}

#[test]
fn every_request_that_enters_the_export_leaves_it() {
    let fixture = Fixture::new();
    let mut raw = fixture.structured();
    for command in [READ, TRIM, WRITE_ZEROES, CACHE, BLOCK_STATUS] {
        for _ in 0..10 {
            raw.request(command, 0, 1, 0, 4096, &[]);
        }
    }
    raw.send(&request(DISC, 0, 0, 0, 0));
    raw.assert_closed();
    wait_for("the client to be gone", || fixture.connections() == 0);
    assert_eq!(fixture.vol.gate.inside(), 0);
    assert!(fixture.vol.sessions.lock().unwrap().is_empty());
}

#[test]
fn the_flags_say_what_is_served() {
    let fixture = Fixture::new();
    let (_, simple) = fixture.haggle().go("vol");
    assert_eq!(simple, 0b1101_0110_1101);
    let mut raw = fixture.haggle();
    raw.ask(STRUCTURED_REPLY, &[]);
    assert_eq!(raw.go("vol").1, simple | 1 << 7);
}

#[test]
fn the_geometry_of_a_device_of_any_size_is_told_to_the_byte() {
    for size in [0, 1, 511, 4097, (1 << 40) + 3] {
        let device = MemoryDevice::new(ByteCount::new(size));
        assert_eq!(device.geometry().size.get(), size);
        let fixture = Fixture::over(device);
        assert_eq!(fixture.haggle().go("vol").0, size);
    }
}
