//! Connections to the control socket: admitted, counted, bounded in time and size, served until the daemon stops.
//!
//! A peer that is not admitted is told so in HTTP without a byte of its request being read. Descriptors that a client
//! passes along (SCM_RIGHTS) are never received: the kernel closes them. Requests on one connection are answered one
//! after another.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tower::ServiceExt;
use tracing::{debug, warn};

use super::admission::Credentials;
use super::problem::{Fault, Refused};
use super::{Admission, Operated, routes};
use crate::limits;
use crate::sync::{Arc, Mutex};
use crate::sys::punctual::Punctual;

/// Header lines of one request; a client of ours sends four.
const HEADERS_MAX: usize = 32;

/// How long a refused peer's bytes are thrown away for, so that it reads the refusal before the connection ends.
const LINGER: Duration = Duration::from_secs(1);

/// Who sent a request: an extension of each.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caller {
    /// Their user id.
    pub(super) uid: u32,
}

/// Turns true when the daemon stops.
pub(crate) type Stop = watch::Receiver<bool>;

/// Waits until `stop` turns true.
pub(super) async fn stopped(stop: &mut Stop) {
    // An error says that the daemon has let go of its end, which is a stop as well.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// Serves the control API at `listener` until `operated.stop` turns true and the requests in hand are answered.
pub(crate) async fn serve(listener: UnixListener, operated: Arc<Operated>, admission: Admission) {
    let mut stop = operated.stop.clone();
    let router = routes::router(operated);
    let places = Arc::new(Places::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = stopped(&mut stop) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let door = Door { router: router.clone(), places: places.clone(), admission, stop: stop.clone() };
                connections.spawn(door.receive(stream));
            }
            Err(error) => {
                warn!(%error, "no connection to the control socket could be accepted");
                sleep(Duration::from_millis(100)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// Connections, by user: no more than [`limits::CONTROL_CONNECTIONS_MAX`] in all, and
/// [`limits::CONTROL_CONNECTIONS_PER_USER`] of one user other than root.
#[derive(Default)]
struct Places(Mutex<HashMap<u32, usize>>);

/// A place taken; dropping it frees it.
struct Place {
    places: Arc<Places>,
    uid: u32,
}

impl Places {
    fn take(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut taken = self.0.lock();
        let all: usize = taken.values().sum();
        let own = taken.entry(uid).or_default();
        if all >= limits::CONTROL_CONNECTIONS_MAX || (uid != 0 && *own >= limits::CONTROL_CONNECTIONS_PER_USER) {
            return None;
        }
        *own += 1;
        Some(Place { places: self.clone(), uid })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        let own = taken.get_mut(&self.uid).expect("counted when it was taken");
        *own -= 1;
        if *own == 0 {
            taken.remove(&self.uid);
        }
    }
}

/// What a new connection passes through.
struct Door {
    router: Router,
    places: Arc<Places>,
    admission: Admission,
    stop: Stop,
}

impl Door {
    async fn receive(self, stream: UnixStream) {
        let (peer, refusal) = match Credentials::of(&stream) {
            Ok(peer) if self.admission.admits(&peer) => match self.places.take(peer.uid) {
                Some(place) => return self.converse(stream, &peer, place).await,
                None => (Some(peer), Refused::new(Fault::Busy, "control.busy", "too many control connections")),
            },
            Ok(peer) => (Some(peer), Refused::stranger()),
            Err(error) => {
                debug!(%error, "the peer's credentials could not be read");
                (None, Refused::stranger())
            }
        };
        warn!(?peer, reason = refusal.message(), "a control connection was refused");
        if let Err(error) = turn_away(stream, refusal).await {
            debug!(%error, "the refused peer has gone");
        }
    }

    async fn converse(self, stream: UnixStream, peer: &Credentials, place: Place) {
        let caller = Caller { uid: peer.uid };
        let service = service_fn(|request| answer(self.router.clone(), caller, request));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits::CONTROL_READ_DEADLINE)
            .max_headers(HEADERS_MAX)
            .serve_connection(TokioIo::new(Punctual::new(stream, limits::CONTROL_WRITE_DEADLINE)), service);
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
            debug!(%error, peer.uid, peer.pid, "a control connection broke off");
        }
        drop(place);
    }
}

/// Writes `refusal` as a whole HTTP answer, reading nothing for its sense.
async fn turn_away(mut stream: UnixStream, refusal: Refused) -> io::Result<()> {
    let (status, body) = refusal.into_parts();
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    let mut scrap = [0; 1024];
    // A client that is answered before it has asked takes the answer for noise. One that says nothing is told all the same.
    if let Ok(asked) = timeout(LINGER, stream.read(&mut scrap)).await {
        asked?;
    }
    stream.write_all(&[head.as_bytes(), &body].concat()).await?;
    stream.shutdown().await?;
    let drain = async {
        while stream.read(&mut scrap).await? != 0 {}
        Ok(())
    };
    timeout(LINGER, drain).await.unwrap_or(Ok(()))
}

/// Takes the body in, within its bounds, and lets the router answer.
async fn answer(router: Router, caller: Caller, request: Request<Incoming>) -> Result<Response, Infallible> {
    let (mut parts, body) = request.into_parts();
    let whole = timeout(limits::CONTROL_READ_DEADLINE, Limited::new(body, limits::CONTROL_BODY_MAX).collect());
    let refusal = match whole.await {
        Ok(Ok(body)) => {
            parts.extensions.insert(caller);
            let request = Request::from_parts(parts, Body::from(body.to_bytes()));
            return router.oneshot(request).await;
        }
        Err(_) => Refused::new(Fault::Slow, "request.too_slow", "the request did not arrive whole in time"),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Refused::new(Fault::TooLong, "request.too_long", "the request's body is too long")
        }
        Ok(Err(error)) => {
            debug!(%error, "a request's body could not be read");
            Refused::new(Fault::Usage, "request.broken", "the request's body could not be read")
        }
    };
    let mut response = refusal.into_response();
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    debug_assert_ne!(response.status(), StatusCode::OK, "a refusal is no success");
    Ok(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_never_takes_every_place() {
        let places = Arc::new(Places::default());
        let mut held: Vec<Place> = std::iter::from_fn(|| places.take(1000)).collect();
        assert_eq!(held.len(), limits::CONTROL_CONNECTIONS_PER_USER);
        let others: Vec<Place> = std::iter::from_fn(|| places.take(0)).collect();
        assert_eq!(held.len() + others.len(), limits::CONTROL_CONNECTIONS_MAX);
        drop(others);
        held.pop();
        assert!(places.take(1000).is_some(), "a place that was freed can be taken again");
    }
}
