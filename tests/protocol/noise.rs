//! Random bytes, and almost valid ones: the server never panics, never hangs, and goes on serving.
//!
//! Every case ends with the client saying that it sends no more; whatever it had sent, the server must then close.

use std::io::Write;

use proptest::prelude::*;

use crate::support::*;

/// Something that may look like an option.
fn almost_option() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![0_u32..14, any::<u32>()];
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        Just(export_request("vol", &[1, 2, 3])),
        Just(contexts("vol", &["base:allocation"])),
        Just(b"vol".to_vec()),
    ];
    (kind, data, prop::option::weighted(0.1, (0_usize..216, any::<u8>()))).prop_map(|(kind, data, flip)| {
        let mut message = option(kind, &data);
        if let Some((at, to)) = flip
            && let Some(byte) = message.get_mut(at)
        {
            *byte = to;
        }
        message
    })
}

/// Something that may look like a request.
fn almost_request() -> impl Strategy<Value = Vec<u8>> {
    let command = prop_oneof![8 => 0_u16..9, 1 => any::<u16>()];
    let flags = prop_oneof![3 => Just(0_u16), 2 => 0_u16..64, 1 => any::<u16>()];
    let offset = prop_oneof![0..SIZE + 4096, any::<u64>()];
    let length = prop_oneof![4 => 0_u32..8192, 2 => 0_u32..2 << 20, 1 => any::<u32>()];
    let payload = prop::collection::vec(any::<u8>(), 0..300);
    (command, flags, offset, length, payload).prop_map(|(command, flags, offset, length, payload)| {
        let mut message = request(command, flags, 1, offset, length);
        if command == WRITE && length < 8192 {
            message.extend(payload.into_iter().cycle().chain(std::iter::repeat(0)).take(length as usize));
        }
        message
    })
}

/// Sends `bytes` while reading and throwing away whatever comes back; then waits for the end.
fn send_noise(mut raw: Raw, bytes: &[u8]) {
    let mut sender = raw.stream.try_clone().expect("cloned");
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The server may close at any byte, which is an answer too.
            let _sent = sender.write_all(bytes);
            let _ended = sender.shutdown(std::net::Shutdown::Write);
        });
        raw.assert_closed();
    });
}

#[test]
fn no_bytes_at_all_upset_the_server() {
    let fixture = Fixture::new();
    let mut config = ProptestConfig::with_cases(300);
    config.failure_persistence = None;
    let random = prop::collection::vec(any::<u8>(), 0..4000);
    let options = prop::collection::vec(almost_option(), 0..20).prop_map(|all| all.concat());
    let requests = prop::collection::vec(almost_request(), 0..60).prop_map(|all| all.concat());
    proptest!(config, |(random in random, options in options, requests in requests, structured: bool)| {
        send_noise(fixture.connect(), &random);
        send_noise(fixture.haggle(), &random);
        send_noise(fixture.haggle(), &options);
        let transmitting = || if structured { fixture.structured() } else { fixture.simple() };
        send_noise(transmitting(), &random);
        send_noise(transmitting(), &requests);
    });
    wait_for("all of them to be gone", || fixture.connections() == 0);
    assert_eq!(fixture.vol.gate.inside(), 0);
    fixture.assert_serves();
}
