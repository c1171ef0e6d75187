//! Sockets and connections of the wire: bound, counted, limited in time and size, served until [`Server::stop`].
//!
//! The server has a runtime of its own, so that a busy KMS holds nobody else up. Requests of one connection are answered
//! one after another; each is carried out on a thread that may wait for the disk.

use std::convert::Infallible;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout, timeout_at};
use tracing::{debug, warn};

use super::front::{self, Whole};
use super::rehearsal::{Counted, Rehearsal};
use super::tls::Tls;
use crate::kms::embedded::Embedded;
use crate::limits;
use crate::sync::Arc;
use crate::sys::punctual::Punctual;
use crate::sys::unix_socket;

/// Threads that carry connections.
const THREADS: usize = 2;
/// Requests carried out at once; more wait their turn.
const AT_ONCE: usize = 32;
/// Header lines of one request; the SDKs send about a dozen.
const HEADERS_MAX: usize = 64;

/// Where the KMS is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A TCP address behind TLS.
    Tls(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

/// Neither `IP:PORT` nor the absolute path of a unix socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is neither IP:PORT nor the absolute path of a unix socket")]
pub struct BadAddress;

impl FromStr for Address {
    type Err = BadAddress;

    fn from_str(text: &str) -> Result<Self, BadAddress> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        text.parse().map(Self::Tcp).map_err(|_| BadAddress)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "http://{address}"),
            Self::Tls(address) => write!(f, "https://{address}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// Why the KMS cannot be served at an address.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Not a loopback address, and nobody said that this is meant.
    #[error(
        "it is not a loopback address, and what is sent there is not encrypted: the option for insecure addresses allows it"
    )]
    NotLoopback,
    /// There is no certificate to serve with.
    #[error("there is no certificate for it")]
    NoTls,
    /// Somebody listens there.
    #[error("it is in use")]
    InUse,
    /// The system said no.
    #[error(transparent)]
    System(#[from] io::Error),
}

/// A socket that listens.
pub struct Listener {
    socket: Socket,
    address: Address,
}

enum Socket {
    Tcp(std::net::TcpListener, Option<Tls>),
    Unix(std::os::unix::net::UnixListener, Made),
}

/// A unix socket's file, removed when this is dropped.
struct Made(PathBuf);

impl Drop for Made {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            warn!(path = %self.0.display(), %error, "the socket of the KMS could not be removed");
        }
    }
}

impl Listener {
    /// Listens at `address`; beyond loopback only where `insecure` says that this is meant.
    ///
    /// # Errors
    /// [`ListenError`]
    pub fn bind(address: &Address, insecure: bool) -> Result<Self, ListenError> {
        let in_use = |error: io::Error| match error.kind() {
            ErrorKind::AddrInUse => ListenError::InUse,
            _ => error.into(),
        };
        match address {
            Address::Tcp(at) if !insecure && !at.ip().is_loopback() => Err(ListenError::NotLoopback),
            Address::Tcp(at) => {
                let socket = std::net::TcpListener::bind(at).map_err(in_use)?;
                socket.set_nonblocking(true)?;
                let address = Address::Tcp(socket.local_addr()?);
                Ok(Self { socket: Socket::Tcp(socket, None), address })
            }
            // Nobody but `bind_tls` has what it takes.
            Address::Tls(_) => Err(ListenError::NoTls),
            Address::Unix(path) => {
                let socket = unix_socket::listen(path).map_err(in_use)?;
                socket.set_nonblocking(true)?;
                let socket = Socket::Unix(socket, Made(path.clone()));
                Ok(Self { socket, address: address.clone() })
            }
        }
    }

    /// Listens at `at`, anywhere, behind `tls`.
    ///
    /// # Errors
    /// [`ListenError`]
    pub fn bind_tls(at: SocketAddr, tls: Tls) -> Result<Self, ListenError> {
        let listener = Self::bind(&Address::Tcp(at), true)?;
        Ok(match listener {
            Self { socket: Socket::Tcp(socket, _), address: Address::Tcp(at) } => {
                Self { socket: Socket::Tcp(socket, Some(tls)), address: Address::Tls(at) }
            }
            listener => listener,
        })
    }

    /// Where it listens: the port that the system chose, where it was asked to.
    pub fn address(&self) -> &Address {
        &self.address
    }
}

/// The served KMS.
pub struct Server {
    runtime: Runtime,
    stop: watch::Sender<bool>,
    accepting: JoinSet<()>,
}

/// Who is at the other end of a connection.
#[derive(Clone)]
struct Peer {
    /// An address, or the user of a unix socket.
    source: String,
    /// Whether TLS is between.
    secure: bool,
}

/// What every connection needs.
#[derive(Clone)]
struct Door {
    kms: Arc<Embedded>,
    places: Arc<Semaphore>,
    stop: watch::Receiver<bool>,
    rehearsal: Rehearsal,
    counted: Arc<Counted>,
}

impl Server {
    /// Serves `kms` at `listeners`, so slowly and so unwillingly as `rehearsal` says.
    ///
    /// # Errors
    /// Where threads or sockets fail.
    pub fn start(kms: Arc<Embedded>, listeners: Vec<Listener>, rehearsal: Rehearsal) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(THREADS).max_blocking_threads(AT_ONCE).thread_name("kms").enable_all();
        let runtime = builder.build()?;
        let (stop, stopped) = watch::channel(false);
        let places = Arc::new(Semaphore::new(limits::KMS_CONNECTIONS_MAX));
        let door = Door { kms, places, stop: stopped, rehearsal, counted: Arc::default() };
        let mut accepting = JoinSet::new();
        let inside = runtime.enter();
        for listener in listeners {
            let door = door.clone();
            match listener.socket {
                Socket::Tcp(socket, tls) => {
                    let socket = TcpListener::from_std(socket)?;
                    accepting.spawn_on(accept_tcp(socket, tls, door), &Handle::current());
                }
                Socket::Unix(socket, made) => {
                    let socket = UnixListener::from_std(socket)?;
                    accepting.spawn_on(accept_unix(socket, made, door), &Handle::current());
                }
            }
        }
        drop(inside);
        Ok(Self { runtime, stop, accepting })
    }

    /// Answers the requests in hand and closes everything, by `deadline`; whether all were answered.
    pub fn stop(mut self, deadline: Instant) -> bool {
        self.stop.send_replace(true);
        let ended = async {
            let all = async { while self.accepting.join_next().await.is_some() {} };
            timeout_at(deadline.into(), all).await.is_ok()
        };
        let answered = self.runtime.block_on(ended);
        self.runtime.shutdown_timeout(Duration::ZERO);
        answered
    }
}

async fn accept_tcp(socket: TcpListener, tls: Option<Tls>, door: Door) {
    let mut connections = JoinSet::new();
    while let Some(accepted) = door.next(socket.accept()).await {
        if let Some((permit, (stream, peer))) = door.admit(accepted).await {
            // Small answers must not wait for the client to acknowledge the ones before.
            if let Err(error) = stream.set_nodelay(true) {
                debug!(%error, "a connection to the KMS cannot be hurried");
            }
            let (door, peer) = (door.clone(), peer.ip().to_canonical().to_string());
            match tls.clone() {
                Some(tls) => connections.spawn(door.converse_behind(tls, stream, peer, permit)),
                None => connections.spawn(door.converse(stream, Peer { source: peer, secure: false }, permit)),
            };
        }
        while connections.try_join_next().is_some() {}
    }
    drop(socket);
    while connections.join_next().await.is_some() {}
}

async fn accept_unix(socket: UnixListener, made: Made, door: Door) {
    let mut connections = JoinSet::new();
    while let Some(accepted) = door.next(socket.accept()).await {
        if let Some((permit, (stream, _))) = door.admit(accepted).await {
            let peer = Peer { source: user_of(&stream), secure: false };
            connections.spawn(door.clone().converse(stream, peer, permit));
        }
        while connections.try_join_next().is_some() {}
    }
    drop((socket, made));
    while connections.join_next().await.is_some() {}
}

fn user_of(stream: &UnixStream) -> String {
    stream.peer_cred().map_or_else(|_| "unix".to_owned(), |peer| format!("uid {}", peer.uid()))
}

/// Waits until it is time to stop.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error says that the server has let go of its end, which is a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

impl Door {
    /// The next connection; `None` once it is time to stop.
    async fn next<T>(&self, accept: impl Future<Output = io::Result<T>>) -> Option<io::Result<T>> {
        let mut stop = self.stop.clone();
        tokio::select! {
            accepted = accept => Some(accepted),
            () = stopped(&mut stop) => None,
        }
    }

    /// A place for a connection, if there is one; else it is closed.
    async fn admit<T>(&self, accepted: io::Result<T>) -> Option<(OwnedSemaphorePermit, T)> {
        match accepted {
            Ok(connection) => match Arc::clone(&self.places).try_acquire_owned() {
                Ok(permit) => Some((permit, connection)),
                Err(_) => {
                    warn!("a connection to the KMS was refused: there are too many");
                    None
                }
            },
            Err(error) => {
                warn!(%error, "no connection to the KMS could be accepted");
                sleep(Duration::from_millis(100)).await;
                None
            }
        }
    }

    /// Once the client agrees to TLS.
    async fn converse_behind(self, tls: Tls, stream: TcpStream, source: String, permit: OwnedSemaphorePermit) {
        let mut stop = self.stop.clone();
        let agreed = tokio::select! {
            agreed = tls.accept(stream) => agreed,
            () = stopped(&mut stop) => return,
        };
        match agreed {
            Ok(stream) => self.converse(stream, Peer { source, secure: true }, permit).await,
            Err(error) => debug!(%error, source, "a client of the KMS does not agree to TLS"),
        }
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(self, stream: S, peer: Peer, permit: OwnedSemaphorePermit) {
        let service = service_fn(|request| {
            let answered = answer(&self, peer.clone(), request);
            async { Ok::<_, Infallible>(answered.await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::KMS_READ_DEADLINE)
            .max_headers(HEADERS_MAX)
            .max_buf_size(limits::KMS_HEAD_MAX)
            .serve_connection(TokioIo::new(Punctual::new(stream, limits::KMS_WRITE_DEADLINE)), service);
        let mut connection = std::pin::pin!(connection);
        let mut stop = self.stop.clone();
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = stopped(&mut stop) => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            debug!(%error, source = peer.source, "a connection to the KMS broke off");
        }
        drop(permit);
    }
}

async fn answer(door: &Door, peer: Peer, request: Request<Incoming>) -> Response<Full<Bytes>> {
    sleep(door.rehearsal.delay).await;
    let kms = Arc::clone(&door.kms);
    let (head, body) = request.into_parts();
    let whole = timeout(limits::KMS_READ_DEADLINE, Limited::new(body, limits::KMS_BODY_MAX).collect()).await;
    let refused = match whole {
        Ok(Ok(body)) if head.method == Method::POST && head.uri.path() == "/" && head.uri.query().is_none() => {
            let throttled = door.counted.is_throttled(&door.rehearsal);
            let Peer { source, secure } = peer;
            let whole = Whole { headers: head.headers, body: body.to_bytes(), source, secure, throttled };
            let answered = tokio::task::spawn_blocking(move || front::answer(&kms, &whole)).await;
            match answered {
                Ok(response) => return response.map(Full::new),
                Err(_) => front::refuse(StatusCode::INTERNAL_SERVER_ERROR, "KMSInternalException"),
            }
        }
        Ok(Ok(_)) => front::refuse(StatusCode::NOT_FOUND, "UnknownOperationException"),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            front::refuse(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLargeException")
        }
        Ok(Err(_)) => front::refuse(StatusCode::BAD_REQUEST, "SerializationException"),
        Err(_) => front::refuse(StatusCode::REQUEST_TIMEOUT, "RequestTimeoutException"),
    };
    let mut refused = refused.map(Full::new);
    refused.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    refused
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_tcp_address_or_a_path() {
        assert_eq!("127.0.0.1:1".parse(), Ok(Address::Tcp(([127, 0, 0, 1], 1).into())));
        assert_eq!("/run/kms.sock".parse(), Ok(Address::Unix("/run/kms.sock".into())));
        for text in ["", "localhost:1", "127.0.0.1", "kms.sock"] {
            assert_eq!(text.parse::<Address>(), Err(BadAddress), "{text}");
        }
    }

    #[test]
    fn beyond_loopback_only_where_that_is_meant() {
        let anywhere = Address::Tcp(([0, 0, 0, 0], 0).into());
        assert!(matches!(Listener::bind(&anywhere, false), Err(ListenError::NotLoopback)));
        let listener = Listener::bind(&anywhere, true).expect("meant");
        assert_ne!(listener.address(), &anywhere, "the port is known");
        assert!(matches!(Listener::bind(listener.address(), true), Err(ListenError::InUse)));
    }
}
