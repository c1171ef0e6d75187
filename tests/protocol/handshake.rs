//! What a client can do to a handshake.

use std::time::Duration;

use envol::block::memory::MemoryDevice;
use envol::nbd::{Bounds, Refusal};
use envol::units::ByteCount;

use crate::support::*;

/// A fixture whose handshake ends soon.
fn impatient() -> Fixture {
    let bounds = Bounds { handshake: Duration::from_millis(300), ..Bounds::default() };
    Fixture::with_bounds(MemoryDevice::new(ByteCount::new(SIZE)), bounds)
}

#[test]
fn a_client_that_says_nothing_is_closed_and_its_place_is_free_again() {
    let fixture = impatient();
    let mut raw = fixture.connect();
    raw.assert_closed();
    wait_for("the place to be freed", || fixture.connections() == 0);
    fixture.assert_serves();
}

#[test]
fn the_deadline_is_for_the_whole_handshake_and_not_for_each_byte() {
    let fixture = impatient();
    let mut raw = fixture.connect();
    let mut drop_by_drop = raw.stream.try_clone().expect("cloned");
    let message = [&3_u32.to_be_bytes()[..], &option(LIST, &[]).repeat(1000)].concat();
    let dripping = std::thread::spawn(move || {
        // Ends once the server has closed; were the deadline reset by a byte, that would be long after the test gives up.
        message
            .chunks(1)
            .take_while(|byte| {
                std::thread::sleep(Duration::from_millis(50));
                std::io::Write::write_all(&mut drop_by_drop, byte).is_ok()
            })
            .count()
    });
    raw.assert_closed();
    assert!(dripping.join().expect("joined") < 1000);
}

#[test]
fn a_client_that_takes_no_replies_is_closed_at_the_same_deadline() {
    let fixture = impatient();
    for number in 0..400 {
        fixture.exports.set(
            &format!("{number:0>60}"),
            Ok(TestExport::new(&format!("{number:0>60}"), MemoryDevice::new(ByteCount::new(512)))),
        );
    }
    let mut raw = fixture.haggle();
    raw.send(&option(LIST, &[]).repeat(1000));
    wait_for("the connection to be closed", || fixture.connections() == 0);
}

#[test]
fn half_open_clients_are_capped_and_live_ones_go_on() {
    let fixture = Fixture::new();
    let mut live = fixture.simple();
    let mut half_open: Vec<Raw> = (0..150).map(|_| fixture.connect()).collect();
    // One user may have 50; whoever comes after is closed, which says nothing about those within.
    let mut closed = 0;
    for raw in &mut half_open {
        let mut greeting = [0; 18];
        closed += usize::from(std::io::Read::read_exact(&mut raw.stream, &mut greeting).is_err());
    }
    assert_eq!(closed, 100);
    live.assert_in_step();
    drop(half_open);
    wait_for("the places to be freed", || fixture.connections() == 1);
    fixture.assert_serves();
}

#[test]
fn a_client_may_vanish_after_any_byte_of_any_message() {
    let fixture = Fixture::new();
    let whole = [
        &3_u32.to_be_bytes()[..],
        &option(STRUCTURED_REPLY, &[]),
        &option(SET_META_CONTEXT, &contexts("vol", &["base:allocation"])),
        &option(LIST, &[]),
        &option(INFO, &export_request("vol", &[1, 2, 3])),
        &option(GO, &export_request("vol", &[3])),
        &request(READ, 0, 1, 0, 4096),
    ]
    .concat();
    for length in 0..whole.len() {
        let mut raw = fixture.connect();
        raw.send(&whole[..length]);
        if length % 2 == 0 {
            raw.finish_sending();
            raw.assert_closed();
        }
    }
    wait_for("all of them to be gone", || fixture.connections() == 0);
    fixture.assert_serves();
}

#[test]
fn client_flags_that_are_unknown_or_lack_fixed_newstyle_close() {
    let fixture = Fixture::new();
    for flags in [0_u32, 2, 4, 7, 1 << 31 | 3, u32::MAX] {
        let mut raw = fixture.connect();
        raw.greet(flags);
        raw.assert_closed();
    }
    fixture.assert_serves();
}

#[test]
fn a_wrong_option_magic_closes() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    let mut message = option(LIST, &[]);
    message[7] ^= 1;
    raw.send(&message);
    raw.assert_closed();
}

#[test]
fn an_option_longer_than_64_kib_closes_at_once_without_its_data() {
    let fixture = Fixture::new();
    for length in [u32::MAX, 0x8000_0000, (64 << 10) + 1] {
        for kind in [EXPORT_NAME, LIST, GO, SET_META_CONTEXT, 0xdead] {
            let mut raw = fixture.haggle();
            let mut message = option(kind, &[]);
            message[12..].copy_from_slice(&length.to_be_bytes());
            raw.send(&message);
            raw.assert_closed();
        }
    }
}

#[test]
fn an_unknown_option_of_64_kib_is_drained_and_refused() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    assert_eq!(raw.ask(0xdead, &vec![0x49; 64 << 10]), ERR_UNSUP);
    raw.go("vol");
    raw.assert_in_step();
}

/// Data of INFO, GO and the metadata options whose inner lengths lie.
fn lying_lengths() -> Vec<(u32, &'static str, Vec<u8>)> {
    let name = |length: u32, rest: &[u8]| [&length.to_be_bytes()[..], rest].concat();
    let mut rows = Vec::new();
    for kind in [INFO, GO] {
        rows.extend([
            (kind, "no data", Vec::new()),
            (kind, "half a length", vec![0, 0]),
            (kind, "a name of 4 GiB", name(u32::MAX, b"vol\0\0")),
            (kind, "a name one byte longer than the data", name(6, b"vol\0\0")),
            (kind, "a name that leaves no room for the count", name(4, b"vol\0\0")),
            (kind, "data behind the last request", [export_request("vol", &[3]), vec![0]].concat()),
            (kind, "65535 requests, two bytes of them there", [name(3, b"vol"), vec![0xff, 0xff, 0, 3]].concat()),
            (kind, "a name that is not text", name(3, &[0xff, 0xfe, 0xfd, 0, 0])),
        ]);
    }
    for kind in [LIST_META_CONTEXT, SET_META_CONTEXT] {
        rows.extend([
            (kind, "no data", Vec::new()),
            (kind, "a name of 4 GiB", name(u32::MAX, b"vol\0\0\0\0")),
            (kind, "no count", name(3, b"vol")),
            (kind, "4 billion queries", [name(3, b"vol"), vec![0xff; 4]].concat()),
            (kind, "a query of 4 GiB", [name(3, b"vol"), vec![0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff]].concat()),
            (kind, "one query too few", [name(3, b"vol"), vec![0, 0, 0, 2, 0, 0, 0, 0]].concat()),
            (kind, "data behind the last query", [contexts("vol", &["base:allocation"]), vec![0]].concat()),
        ]);
    }
    rows
}

#[test]
fn inner_lengths_that_lie_are_refused_with_the_stream_in_step() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    assert_eq!(raw.ask(STRUCTURED_REPLY, &[]), ACK);
    for (number, (kind, what, data)) in lying_lengths().into_iter().enumerate() {
        assert_eq!(raw.ask(kind, &data), ERR_INVALID, "option {kind}: {what}");
        if number % 16 == 15 {
            raw = fixture.haggle();
            assert_eq!(raw.ask(STRUCTURED_REPLY, &[]), ACK);
        }
    }
    raw.go("vol");
}

#[test]
fn an_unknown_name_of_4096_bytes_is_refused_with_80_bytes_of_it() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    let name = "n".repeat(4096);
    for kind in [INFO, GO] {
        let (reply, text) = raw.ask_all(kind, &export_request(&name, &[])).pop().expect("a reply");
        assert_eq!(reply, ERR_UNKNOWN);
        assert!(text.iter().filter(|byte| **byte == b'n').count() <= 80 + 2, "{}", text.len());
    }
}

#[test]
fn a_name_of_4097_bytes_is_too_big() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    let name = "n".repeat(4097);
    assert_eq!(raw.ask(STRUCTURED_REPLY, &[]), ACK);
    assert_eq!(raw.ask(INFO, &export_request(&name, &[])), ERR_TOO_BIG);
    assert_eq!(raw.ask(GO, &export_request(&name, &[])), ERR_TOO_BIG);
    assert_eq!(raw.ask(SET_META_CONTEXT, &contexts(&name, &[])), ERR_TOO_BIG);
    assert_eq!(raw.ask(LIST_META_CONTEXT, &contexts("vol", &[&name])), ERR_TOO_BIG);
    raw.send(&option(EXPORT_NAME, name.as_bytes()));
    raw.assert_closed();
}

#[test]
fn options_are_capped_at_32_and_four_for_each_export() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    for _ in 0..36 {
        assert_eq!(raw.ask(LIST, &[]), ACK);
    }
    raw.send(&option(LIST, &[]));
    raw.assert_closed();
}

#[test]
fn twenty_exports_can_be_listed_with_three_options_each() {
    let fixture = Fixture::new();
    for number in 0..20 {
        let name = format!("v{number}");
        fixture.exports.set(&name, Ok(TestExport::new(&name, MemoryDevice::new(ByteCount::new(512)))));
    }
    let mut raw = fixture.haggle();
    assert_eq!(raw.ask(STRUCTURED_REPLY, &[]), ACK);
    for number in 0..20 {
        let name = format!("v{number}");
        assert_eq!(raw.ask(INFO, &export_request(&name, &[1, 2, 3])), ACK);
        assert_eq!(raw.ask(LIST_META_CONTEXT, &contexts(&name, &[])), ACK);
        assert_eq!(raw.ask(SET_META_CONTEXT, &contexts(&name, &["base:"])), ACK);
    }
}

#[test]
fn options_that_are_not_spoken_are_unsupported_and_the_stream_stays_in_step() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    for kind in [0, 4, STARTTLS, EXTENDED_HEADERS, 12, 0xdead, u32::MAX] {
        for data in [&[][..], b"data that would look like an option: IHAVEOPT"] {
            assert_eq!(raw.ask(kind, data), ERR_UNSUP, "option {kind}");
        }
    }
    raw.go("vol");
    raw.assert_in_step();
}

#[test]
fn list_names_each_export_with_its_description() {
    let fixture = Fixture::new();
    fixture.exports.set("hidden", Err(Refusal::Policy("no".into())));
    let mut raw = fixture.haggle();
    let replies = raw.ask_all(LIST, &[]);
    assert_eq!(replies.len(), 2);
    assert_eq!(replies[0], (SERVER, [&3_u32.to_be_bytes()[..], b"volthe volume vol"].concat()));
}

#[test]
fn options_without_data_refuse_data() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    assert_eq!(raw.ask(LIST, b"x"), ERR_INVALID);
    assert_eq!(raw.ask(STRUCTURED_REPLY, b"x"), ERR_INVALID);
    // The second was not taken for a yes.
    assert_eq!(raw.ask(SET_META_CONTEXT, &contexts("vol", &[])), ERR_INVALID);
}

#[test]
fn an_abort_is_acknowledged_and_may_go_unread() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    assert_eq!(raw.ask(ABORT, &[]), ACK);
    raw.assert_closed();
    for _ in 0..50 {
        let mut raw = fixture.haggle();
        raw.send(&option(ABORT, &[]));
    }
    wait_for("all of them to be gone", || fixture.connections() == 0);
    fixture.assert_serves();
}

#[test]
fn info_may_come_before_go_and_a_refused_go_before_another() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    assert_eq!(raw.ask(INFO, &export_request("vol", &[])), ACK);
    assert_eq!(raw.ask(GO, &export_request("other", &[])), ERR_UNKNOWN);
    raw.go("vol");
    raw.assert_in_step();
}

#[test]
fn information_is_given_as_it_was_asked_for() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    let of = |replies: Vec<(u32, Vec<u8>)>| -> Vec<u16> {
        let infos = replies.iter().filter(|(kind, _)| *kind == REP_INFO);
        infos.map(|(_, data)| u16::from_be_bytes([data[0], data[1]])).collect()
    };
    assert_eq!(of(raw.ask_all(INFO, &export_request("vol", &[]))), [0]);
    assert_eq!(of(raw.ask_all(INFO, &export_request("vol", &[3, 3, 77, 0]))), [0, 3]);
    let replies = raw.ask_all(GO, &export_request("vol", &[1, 2, 3]));
    assert_eq!(replies[1], (REP_INFO, b"\0\x01vol".to_vec()));
    assert_eq!(replies[2], (REP_INFO, b"\0\x02the volume vol".to_vec()));
    assert_eq!(replies[3], (REP_INFO, vec![0, 3, 0, 0, 0, 1, 0, 0, 0x10, 0, 2, 0, 0, 0]));
    raw.assert_in_step();
}

#[test]
fn metadata_contexts_need_structured_replies_first() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    for kind in [LIST_META_CONTEXT, SET_META_CONTEXT] {
        assert_eq!(raw.ask(kind, &contexts("vol", &["base:allocation"])), ERR_INVALID);
    }
}

#[test]
fn metadata_contexts_are_listed_and_set_by_name() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    assert_eq!(raw.ask(STRUCTURED_REPLY, &[]), ACK);
    let listed = (META_CONTEXT, [&[0; 4][..], b"base:allocation"].concat());
    let set = (META_CONTEXT, [&[0, 0, 0, 1][..], b"base:allocation"].concat());
    let ack = (ACK, Vec::new());
    type Reply = (u32, Vec<u8>);
    let rows: [(u32, &[&str], Option<&Reply>); 7] = [
        (LIST_META_CONTEXT, &[], Some(&listed)),
        (LIST_META_CONTEXT, &["base:"], Some(&listed)),
        (LIST_META_CONTEXT, &["qemu:", "x:"], None),
        (SET_META_CONTEXT, &["base:allocation", "base:allocation"], Some(&set)),
        (SET_META_CONTEXT, &["base:"], None),
        (SET_META_CONTEXT, &["base:allocations", ""], None),
        (SET_META_CONTEXT, &[], None),
    ];
    for (kind, queries, expected) in rows {
        let expected: Vec<_> = expected.into_iter().chain([&ack]).cloned().collect();
        assert_eq!(raw.ask_all(kind, &contexts("vol", queries)), expected, "{kind} {queries:?}");
    }
    assert_eq!(raw.ask(SET_META_CONTEXT, &contexts("other", &["base:allocation"])), ERR_UNKNOWN);
}

#[test]
fn contexts_set_for_one_export_do_not_count_for_another() {
    let fixture = Fixture::new();
    fixture.exports.set("other", Ok(TestExport::new("other", MemoryDevice::new(ByteCount::new(SIZE)))));
    let mut raw = fixture.haggle();
    assert_eq!(raw.ask(STRUCTURED_REPLY, &[]), ACK);
    assert_eq!(raw.ask(INFO, &export_request("other", &[])), ACK);
    assert_eq!(raw.ask(SET_META_CONTEXT, &contexts("other", &["base:allocation"])), ACK);
    raw.go("vol");
    raw.request(BLOCK_STATUS, 0, 5, 0, 4096, &[]);
    let chunk = raw.chunk();
    assert_eq!((chunk.kind, chunk.payload), (0x8001, [&EINVAL.to_be_bytes()[..], &[0, 0]].concat()));
}

#[test]
fn contexts_set_twice_count_as_they_were_set_last() {
    let fixture = Fixture::new();
    let mut raw = fixture.haggle();
    assert_eq!(raw.ask(STRUCTURED_REPLY, &[]), ACK);
    assert_eq!(raw.ask(SET_META_CONTEXT, &contexts("vol", &["base:allocation"])), ACK);
    assert_eq!(raw.ask(SET_META_CONTEXT, &contexts("vol", &["none:such"])), ACK);
    raw.go("vol");
    raw.request(BLOCK_STATUS, 0, 5, 0, 4096, &[]);
    assert_eq!(raw.chunk().kind, 0x8001);
}

#[test]
fn export_name_enters_with_zeroes_unless_agreed_otherwise() {
    let fixture = Fixture::new();
    for (flags, zeroes) in [(3, 0), (1, 124)] {
        let mut raw = fixture.connect();
        raw.greet(flags);
        raw.send(&option(EXPORT_NAME, b"vol"));
        assert_eq!(raw.u64(), SIZE);
        assert_eq!(raw.u16(), 0b1101_0110_1101);
        assert!(raw.receive(zeroes).iter().all(|byte| *byte == 0));
        raw.assert_in_step();
    }
}

#[test]
fn export_name_of_what_cannot_be_used_closes_and_the_listener_lives() {
    let fixture = Fixture::new();
    fixture.exports.set("refused", Err(Refusal::Policy("key disabled".into())));
    for name in [&b"other"[..], b"refused", b"", b"\xff\xfe"] {
        let mut raw = fixture.haggle();
        raw.send(&option(EXPORT_NAME, name));
        raw.assert_closed();
    }
    fixture.assert_serves();
}

#[test]
fn a_refusal_is_told_as_what_it_is_and_padded_for_nbd_client() {
    let fixture = Fixture::new();
    let long = "long ".repeat(1000);
    let rows = [
        (Refusal::Unknown, ERR_UNKNOWN, "no export called \"it\" is attached "),
        (Refusal::ShuttingDown, ERR_SHUTDOWN, "the export is being shut down "),
        (Refusal::Policy("KMS key k is Disabled (12:00)".into()), ERR_POLICY, "KMS key k is Disabled (12:00) "),
        (Refusal::Policy(long), ERR_POLICY, "long "),
    ];
    for (refusal, reply, text) in rows {
        fixture.exports.set("it", Err(refusal));
        for kind in [INFO, GO] {
            let mut raw = fixture.haggle();
            let (told, said) = raw.ask_all(kind, &export_request("it", &[])).pop().expect("a reply");
            assert_eq!(told, reply);
            let said = String::from_utf8(said).expect("text");
            assert!(said.starts_with(text) && said.len() < 1000, "{said}");
            raw.go("vol");
        }
    }
}

#[test]
fn within_the_dead_connection_window_the_connection_closes_without_a_word() {
    let fixture = Fixture::new();
    fixture.exports.set("it", Err(Refusal::CloseSilently));
    for kind in [INFO, GO] {
        let mut raw = fixture.haggle();
        raw.send(&option(kind, &export_request("it", &[])));
        let mut said = Vec::new();
        std::io::Read::read_to_end(&mut raw.stream, &mut said).expect("closed");
        assert_eq!(said, b"");
    }
}

#[test]
fn a_detach_that_begins_during_the_handshake_refuses_go() {
    let fixture = Fixture::new();
    *fixture.vol.closed_door.lock().expect("locked") = Some(Refusal::ShuttingDown);
    let mut raw = fixture.haggle();
    assert_eq!(raw.ask(INFO, &export_request("vol", &[])), ACK);
    assert_eq!(raw.ask(GO, &export_request("vol", &[])), ERR_SHUTDOWN);
    *fixture.vol.closed_door.lock().expect("locked") = None;
    raw.go("vol");
    raw.assert_in_step();
}

#[test]
fn options_and_requests_sent_in_one_piece_are_all_served() {
    let fixture = Fixture::new();
    let mut raw = fixture.connect();
    raw.send(
        &[
            &3_u32.to_be_bytes()[..],
            &option(0xdead, b"x"),
            &option(GO, &export_request("vol", &[])),
            &request(WRITE, 0, 8, 100, 5),
            b"early",
            &request(READ, 0, 9, 100, 5),
        ]
        .concat(),
    );
    raw.receive(18);
    assert_eq!(raw.option_reply(0xdead).0, ERR_UNSUP);
    assert_eq!((raw.option_reply(GO).0, raw.option_reply(GO).0), (REP_INFO, ACK));
    assert_eq!(raw.simple_reply(0), (0, 8, Vec::new()));
    assert_eq!(raw.simple_reply(5).2.len(), 5);
}

#[test]
fn exports_come_and_go_while_the_server_runs() {
    let fixture = Fixture::new();
    let mut early = fixture.haggle();
    assert_eq!(early.ask(INFO, &export_request("late", &[])), ERR_UNKNOWN);
    fixture.exports.set("late", Ok(TestExport::new("late", MemoryDevice::new(ByteCount::new(512)))));
    assert_eq!(early.go("late").0, 512);
    fixture.exports.set("late", Err(Refusal::Unknown));
    early.assert_in_step();
    assert_eq!(fixture.haggle().ask(GO, &export_request("late", &[])), ERR_UNKNOWN);
}
