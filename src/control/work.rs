//! Synchronous operations, run for asynchronous callers on threads where they may wait.
//!
//! An operation that has begun goes on to its end even where its caller has gone, so nothing is left half done.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hyper::header::CONTENT_TYPE;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::api::Step;
use super::problem::{Fault, Refused};
use super::server::Stop;
use crate::units::ByteCount;
use crate::volume::Progress;

/// The content type of an answer made of JSON lines.
pub(super) const LINES: &str = "application/x-ndjson";

/// Steps on their way to the caller; where they read slowly, progress in between is left out.
const STEPS_WAITING: usize = 16;

/// Runs `operation` where it may wait.
pub(super) async fn carry_out<T: Send + 'static>(
    operation: impl FnOnce() -> Result<T, Refused> + Send + 'static,
) -> Result<T, Refused> {
    spawn_blocking(operation).await.unwrap_or_else(|panic| {
        Err(Refused::new(Fault::Internal, "internal", format!("the operation did not end: {panic}")))
    })
}

/// Runs long `operation`, answering a [`Step`] a line. A failure before the first progress is an answer of its own.
///
/// The operation is told to end early only by `stop`.
pub(super) async fn in_steps<T: Serialize + Send + 'static>(
    stop: Stop,
    operation: impl FnOnce(Progress<'_>) -> Result<T, Refused> + Send + 'static,
) -> Response {
    let (sender, mut steps) = mpsc::channel(STEPS_WAITING);
    spawn_blocking(move || {
        let mut progress = |done: ByteCount, total: ByteCount| {
            // Full: the caller reads slowly. Closed: they have gone. Neither is the operation's concern.
            let _ = sender.try_send(Ok(Step::Progress { done: done.get(), total: total.get() }));
            !*stop.borrow()
        };
        let end = operation(&mut progress).map(Step::Done);
        let _ = sender.blocking_send(end);
    });
    match steps.recv().await {
        Some(Ok(first)) => lines(stream::unfold((Some(first), steps), |(first, mut steps)| async {
            let step = match first {
                Some(step) => Ok(step),
                None => steps.recv().await?,
            };
            Some((line(step), (None, steps)))
        })),
        Some(Err(refused)) => refused.into_response(),
        None => Refused::new(Fault::Internal, "internal", "the operation did not end").into_response(),
    }
}

/// An answer of lines, sent as they come.
pub(super) fn lines(lines: impl stream::Stream<Item = Result<String, std::io::Error>> + Send + 'static) -> Response {
    ([(CONTENT_TYPE, LINES)], Body::from_stream(lines)).into_response()
}

fn line<T: Serialize>(step: Result<Step<T>, Refused>) -> Result<String, std::io::Error> {
    let step = step.unwrap_or_else(|refused| Step::Error(refused.into_problem()));
    Ok(serde_json::to_string(&step)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt;
    use tokio::sync::watch;

    async fn told(operation: impl FnOnce(Progress<'_>) -> Result<u8, Refused> + Send + 'static) -> (u16, String) {
        let (_stop, stopped) = watch::channel(false);
        let response = in_steps(stopped, operation).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("a body").to_bytes();
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    fn refusal() -> Refused {
        Refused::new(Fault::Conflict, "volume.exists", "there is one")
    }

    #[tokio::test]
    async fn work_is_told_in_steps() {
        let answer = told(|progress| {
            assert!(progress(ByteCount::new(1), ByteCount::new(2)));
            Ok(7)
        });
        assert_eq!(answer.await, (200, "{\"progress\":{\"done\":1,\"total\":2}}\n{\"done\":7}\n".to_owned()));
    }

    #[tokio::test]
    async fn a_failure_before_any_progress_is_a_plain_answer() {
        let (status, body) = told(|_| Err(refusal())).await;
        assert_eq!(status, 409);
        assert!(body.starts_with(r#"{"error":{"code":"volume.exists""#), "{body}");
    }

    #[tokio::test]
    async fn a_failure_after_progress_is_the_last_line() {
        let answer = told(|progress| {
            progress(ByteCount::new(1), ByteCount::new(2));
            Err(refusal())
        });
        let (status, body) = answer.await;
        assert_eq!(status, 200);
        assert!(
            body.lines().last().is_some_and(|line| line.starts_with(r#"{"error":{"code":"volume.exists""#)),
            "{body}"
        );
    }

    #[tokio::test]
    async fn an_operation_goes_on_when_its_caller_has_gone_and_ends_early_when_the_daemon_stops() {
        let (stop, stopped) = watch::channel(false);
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (ended, has_ended) = tokio::sync::oneshot::channel();
        let answer = in_steps(stopped, move |progress| {
            begun.send(()).expect("somebody waits");
            while progress(ByteCount::ZERO, ByteCount::ZERO) {
                std::thread::yield_now();
            }
            ended.send(()).expect("somebody waits");
            Ok(0_u8)
        });
        let caller = tokio::spawn(answer);
        has_begun.await.expect("begins");
        caller.abort();
        assert!(caller.await.is_err() || !*stop.borrow());
        stop.send(true).expect("the operation runs on");
        has_ended.await.expect("ends when told");
    }
}
