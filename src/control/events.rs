//! `GET /v1/events`: the event log from its start, and what is added to it for as long as the caller follows.

use std::io;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::response::Response;
use futures_util::stream;
use serde::Deserialize;
use tokio::sync::Notify;
use tokio::task::spawn_blocking;

use super::Operated;
use super::problem::{Fault, Refused};
use super::server::{Stop, stopped};
use super::work::lines;
use crate::attach::{EventLog, Watch};
use crate::sync::Arc;

/// What the caller asks for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    /// Whether to go on when the end is reached.
    #[serde(default)]
    follow: bool,
}

/// A caller reading the log.
struct Reader {
    log: Arc<EventLog>,
    position: u64,
    /// Woken at each event; absent where the caller does not follow.
    news: Option<(Arc<Notify>, Watch)>,
    stop: Stop,
}

pub(super) async fn events(
    State(operated): State<Arc<Operated>>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(asked) = asked.map_err(|error| Refused::new(Fault::Usage, "request.bad_query", error.body_text()))?;
    let log = operated.events.clone();
    let news = asked.follow.then(|| {
        let notify = Arc::new(Notify::new());
        let waker = notify.clone();
        let watch = log.watch(Box::new(move || waker.notify_one()));
        (notify, watch)
    });
    let reader = Reader { log, position: 0, news, stop: operated.stop.clone() };
    Ok(lines(stream::try_unfold(reader, |mut reader| async { Ok(reader.more().await?.map(|text| (text, reader))) })))
}

impl Reader {
    /// The next whole lines, waiting for them where the caller follows; `None` at the end.
    async fn more(&mut self) -> io::Result<Option<String>> {
        loop {
            let (log, position) = (self.log.clone(), self.position);
            let read = spawn_blocking(move || log.read_from(position)).await;
            let (text, position) = read.map_err(io::Error::other)??;
            self.position = position;
            if !text.is_empty() {
                return Ok(Some(text));
            }
            let Some((notify, _)) = &self.news else { return Ok(None) };
            tokio::select! {
                () = notify.notified() => {}
                () = stopped(&mut self.stop) => return Ok(None),
            }
        }
    }
}
