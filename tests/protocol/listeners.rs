//! Where clients come from: unix sockets, TCP, sockets made by somebody else; and who is let in.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use envol::block::memory::MemoryDevice;
use envol::nbd::client::{Client, ClientError};
use envol::nbd::{Admission, Exports, ListenError, Listener, Refusal, Server};
use envol::units::ByteCount;

use crate::support::*;

/// Exports `vol`, and `refused` with a reason.
fn exports() -> Arc<TestExports> {
    let exports = Arc::new(TestExports::default());
    exports.set("vol", Ok(TestExport::new("vol", MemoryDevice::new(ByteCount::new(SIZE)))));
    exports.set("refused", Err(Refusal::Policy("KMS key k is Disabled".into())));
    exports
}

fn serve(listener: Listener) -> Server {
    Server::start(vec![listener], exports() as Arc<dyn Exports>).expect("starts")
}

#[test]
fn the_small_client_reads_writes_flushes_and_leaves() {
    let fixture = Fixture::over(MemoryDevice::new(ByteCount::new(80 << 20)));
    let mut client = Client::connect(&fixture.socket(), "vol").expect("connected");
    assert_eq!(client.size(), 80 << 20);
    let payload: Vec<u8> = (0..70 << 20).map(|at: u32| (at % 253) as u8).collect();
    client.write(12_345, &payload).expect("written");
    client.flush().expect("flushed");
    let mut back = vec![0; payload.len()];
    client.read(12_345, &mut back).expect("read");
    assert!(back == payload);
    assert!(matches!(client.read(80 << 20, &mut [0]), Err(ClientError::Errno(22))));
    client.disconnect().expect("closed");
    wait_for("the client to be gone", || fixture.connections() == 0);
}

#[test]
fn the_small_client_is_told_why_it_is_refused() {
    let fixture = Fixture::new();
    fixture.exports.set("refused", Err(Refusal::Policy("KMS key k is Disabled".into())));
    let refused = Client::connect(&fixture.socket(), "refused").expect_err("refused");
    assert!(matches!(&refused, ClientError::Refused { reply: ERR_POLICY, text } if text == "KMS key k is Disabled"));
    let unknown = Client::connect(&fixture.socket(), "other").expect_err("refused");
    assert!(matches!(unknown, ClientError::Refused { reply: ERR_UNKNOWN, .. }));
}

#[test]
fn a_unix_socket_has_mode_0660_and_goes_with_its_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("nbd.sock");
    let server = serve(Listener::unix(&path, own_user()).expect("listens"));
    let mode = std::fs::metadata(&path).expect("there").permissions().mode();
    // A stricter umask of whoever runs this may take bits away; none may be added.
    assert_eq!(mode & 0o7777 & !0o660, 0, "{mode:o}");
    assert_eq!(server.stop(Instant::now() + Duration::from_secs(60)), 0);
    assert!(!path.exists());
}

#[test]
fn a_stale_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("nbd.sock");
    drop(UnixListener::bind(&path).expect("bound"));
    let first = Listener::unix(&path, own_user()).expect("replaces the stale one");
    assert!(matches!(Listener::unix(&path, own_user()), Err(ListenError::InUse(_))));
    assert!(path.exists());
    drop(first);
    std::fs::write(&path, b"precious").expect("written");
    assert!(matches!(Listener::unix(&path, own_user()), Err(ListenError::NotASocket(_))));
    assert_eq!(std::fs::read(&path).expect("still there"), b"precious");
}

#[test]
fn who_is_not_admitted_is_closed_before_a_byte_is_said() {
    let directory = tempfile::tempdir().expect("a directory");
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let rows = [
        (Admission::default(), false),
        (Admission { uids: vec![uid + 1], gids: vec![gid + 1] }, false),
        (Admission { uids: vec![uid * 10 + 1], gids: Vec::new() }, false),
        (Admission { uids: vec![uid], gids: Vec::new() }, true),
        (Admission { uids: Vec::new(), gids: vec![gid] }, true),
    ];
    for (number, (admission, admitted)) in rows.into_iter().enumerate() {
        let path = directory.path().join(number.to_string());
        let _server = serve(Listener::unix(&path, admission).expect("listens"));
        let mut said = [0; 1];
        let mut stream = UnixStream::connect(&path).expect("connects");
        assert_eq!(stream.read(&mut said).is_ok_and(|length| length == 1), admitted, "{number}");
    }
}

#[test]
fn tcp_is_served_on_loopback_and_elsewhere_only_where_that_is_meant() {
    assert!(matches!(Listener::tcp("0.0.0.0:0".parse().unwrap(), false), Err(ListenError::NotLoopback(_))));
    assert!(matches!(Listener::tcp("[::]:0".parse().unwrap(), false), Err(ListenError::NotLoopback(_))));
    for (address, insecure) in [("127.0.0.1:0", false), ("0.0.0.0:0", true)] {
        let listener = Listener::tcp(address.parse().unwrap(), insecure).expect("listens");
        let port = listener.tcp_address().expect("known").expect("TCP").port();
        let _server = serve(listener);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
        let mut greeting = [0; 18];
        stream.read_exact(&mut greeting).expect("greeted");
        assert_eq!(greeting[..8], MAGIC.to_be_bytes());
    }
}

/// A raw client that talks TCP through the unix stream that [`Raw`] has: the two differ in nothing that it uses.
fn raw_tcp(port: u16) -> Raw {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("connects");
    let mut raw = Raw::new(UnixStream::from(OwnedFd::from(stream)));
    raw.greet(3);
    raw
}

#[test]
fn an_insecure_listener_lists_nothing_and_gives_no_reasons() {
    for insecure in [false, true] {
        let listener = Listener::tcp("127.0.0.1:0".parse().unwrap(), insecure).expect("listens");
        let port = listener.tcp_address().expect("known").expect("TCP").port();
        let _server = serve(listener);
        let mut raw = raw_tcp(port);
        assert_eq!(raw.ask(LIST, &[]), if insecure { ERR_POLICY } else { ACK });
        let (reply, text) = raw.ask_all(GO, &export_request("refused", &[])).pop().expect("a reply");
        assert_eq!(reply, ERR_POLICY);
        assert_eq!(String::from_utf8(text).expect("text").contains("KMS"), !insecure);
        raw.go("vol");
        raw.assert_in_step();
    }
}

#[test]
fn inherited_sockets_are_served_and_survive_the_server() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("nbd.sock");
    let made = UnixListener::bind(&path).expect("bound");
    for _ in 0..2 {
        let inherited = OwnedFd::from(made.try_clone().expect("cloned"));
        let server = serve(Listener::inherited(inherited, own_user(), false).expect("listens"));
        let client = Client::connect(&path, "vol").expect("connected");
        client.disconnect().expect("closed");
        server.stop(Instant::now() + Duration::from_secs(60));
        assert!(path.exists());
    }
    let tcp = TcpListener::bind("127.0.0.1:0").expect("bound");
    let port = tcp.local_addr().expect("known").port();
    let _server = serve(Listener::inherited(tcp.into(), Admission::default(), false).expect("listens"));
    raw_tcp(port).go("vol");
}

#[test]
fn inherited_descriptors_that_nobody_can_connect_to_are_refused() {
    let (connected, _other) = UnixStream::pair().expect("a pair");
    let file = tempfile::tempfile().expect("a file");
    for fd in [OwnedFd::from(connected), OwnedFd::from(file)] {
        assert!(matches!(Listener::inherited(fd, own_user(), false), Err(ListenError::NotListening)));
    }
    let anywhere = TcpListener::bind("0.0.0.0:0").expect("bound");
    assert!(matches!(Listener::inherited(anywhere.into(), own_user(), false), Err(ListenError::NotLoopback(_))));
}
