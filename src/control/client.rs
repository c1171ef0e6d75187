//! The control API's client: blocking, over the unix socket. The CLI's only way to the daemon.
//!
//! One connection for each call, on a runtime of one thread that lives as long as the call. No deadline of its own: the
//! daemon bounds every operation, and long work reports progress for as long as it lasts.

use std::io::{Error as IoError, ErrorKind};
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use zeroize::Zeroizing;

use super::api::{Failure, Problem, Step};

/// Why a call brought no answer to use.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon answered with a failure.
    #[error("{}", .0.message)]
    Failed(Problem),
    /// Nobody listens at the socket (exit code 10).
    #[error("no daemon answers at {}", .0.display())]
    NoDaemon(PathBuf),
    /// We may not connect (exit code 9).
    #[error("not permitted to use {}", .0.display())]
    NotPermitted(PathBuf),
    /// The connection broke, or what came back is not the API.
    #[error("the daemon's answer could not be understood: {0}")]
    Garbled(String),
}

impl ClientError {
    /// The failure as people and scripts are told it: the daemon's own words where it has spoken.
    pub fn problem(&self) -> Problem {
        let (code, exit_code, remedy) = match self {
            Self::Failed(problem) => return problem.clone(),
            Self::NoDaemon(_) => {
                ("no_daemon", 10, "start one with `envol daemon`, or name its control socket with --socket")
            }
            Self::NotPermitted(_) => ("not_permitted", 9, "run this as root, or as the user that runs the daemon"),
            Self::Garbled(_) => ("daemon.garbled", 1, "see that the program and the daemon are of one version"),
        };
        let (code, remedy) = (code.to_owned(), remedy.to_owned());
        Problem { code, message: self.to_string(), remedy, kms_exception: None, exit_code }
    }
}

/// The daemon at one socket.
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The daemon that listens at `socket`. Connects at each call.
    pub fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// `GET path`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let request = request(Method::GET, path, Bytes::new())?;
        runtime()?.block_on(async { whole(exchange(&self.socket, request).await?).await })
    }

    /// As [`Client::get`], with the user whose socket answered: the daemon's, or who made the socket for it, as a service
    /// manager does.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get_with_peer<T: DeserializeOwned>(&self, path: &str) -> Result<(T, u32), ClientError> {
        let request = request(Method::GET, path, Bytes::new())?;
        runtime()?.block_on(async {
            let stream = connect(&self.socket).await?;
            let peer = stream.peer_cred().map_err(garbled)?.uid();
            Ok((whole(exchange_over(stream, request).await?).await?, peer))
        })
    }

    /// As [`Client::get`], with what the answer's header `name` says.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get_with_header<T: DeserializeOwned>(
        &self,
        path: &str,
        name: &str,
    ) -> Result<(T, Option<String>), ClientError> {
        let request = request(Method::GET, path, Bytes::new())?;
        runtime()?.block_on(async {
            let response = exchange(&self.socket, request).await?;
            let header = response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            Ok((whole(response).await?, header))
        })
    }

    /// `METHOD path` with `body` as JSON, where METHOD is POST, PUT or DELETE. An answer without a body is JSON's null.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn send<B: Serialize, T: DeserializeOwned>(
        &self,
        method: &str,
        path: &str,
        body: &B,
    ) -> Result<T, ClientError> {
        let method = method.parse().map_err(garbled)?;
        let request = request(method, path, json(body)?)?;
        runtime()?.block_on(async { whole(exchange(&self.socket, request).await?).await })
    }

    /// As [`Client::send`] (a POST) for long work answered by [`Step`] lines: `progress` is told (done, total).
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn send_long<B: Serialize, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<T, ClientError> {
        let request = request(Method::POST, path, json(body)?)?;
        let mut end = None;
        let mut line = |line: &str| {
            match serde_json::from_str(line) {
                Ok(Step::Progress { done, total }) => progress(done, total),
                Ok(Step::Done(result)) => end = Some(Ok(result)),
                Ok(Step::Error(problem)) => end = Some(Err(ClientError::Failed(problem))),
                Err(error) => end = Some(Err(garbled(error))),
            }
            end.is_none()
        };
        self.lines(request, &mut line)?;
        end.unwrap_or_else(|| Err(ClientError::Garbled("it ended before the work was done".to_owned())))
    }

    /// `GET path` answered by lines without end; `line` is called for each and answers whether to go on.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn follow(&self, path: &str, line: &mut dyn FnMut(&str) -> bool) -> Result<(), ClientError> {
        let request = request(Method::GET, path, Bytes::new())?;
        self.lines(request, line)
    }

    /// Hands over each line of the answer as it comes, until `line` has had enough or the answer ends. `line` runs outside
    /// of the runtime, so that it may use a client itself.
    fn lines(&self, request: Request<Full<Bytes>>, line: &mut dyn FnMut(&str) -> bool) -> Result<(), ClientError> {
        let runtime = runtime()?;
        let mut response = runtime.block_on(exchange(&self.socket, request))?;
        let mut pending = Vec::new();
        while let Some(frame) = runtime.block_on(response.frame()) {
            let Ok(data) = frame.map_err(garbled)?.into_data() else { continue };
            pending.extend_from_slice(&data);
            while let Some(end) = pending.iter().position(|byte| *byte == b'\n') {
                let whole: Vec<u8> = pending.drain(..=end).collect();
                if !line(std::str::from_utf8(&whole[..end]).map_err(garbled)?) {
                    return Ok(());
                }
            }
        }
        if pending.is_empty() { Ok(()) } else { Err(ClientError::Garbled("the last line is torn".to_owned())) }
    }
}

fn garbled(error: impl std::fmt::Display) -> ClientError {
    ClientError::Garbled(error.to_string())
}

fn runtime() -> Result<Runtime, ClientError> {
    Builder::new_current_thread().enable_io().build().map_err(garbled)
}

fn json(body: &impl Serialize) -> Result<Bytes, ClientError> {
    serde_json::to_vec(body).map(Bytes::from).map_err(garbled)
}

fn request(method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
    let mut builder = Request::builder().method(method).uri(path).header(HOST, "envol");
    if !body.is_empty() {
        builder = builder.header(CONTENT_TYPE, "application/json");
    }
    builder.body(Full::new(body)).map_err(garbled)
}

fn unreachable(socket: &Path, error: &IoError) -> ClientError {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::NoDaemon(socket.to_owned()),
        ErrorKind::PermissionDenied => ClientError::NotPermitted(socket.to_owned()),
        _ => garbled(error),
    }
}

/// One request, up to the head of a successful answer; a failed answer is read whole and becomes the error.
async fn exchange(socket: &Path, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
    exchange_over(connect(socket).await?, request).await
}

async fn connect(socket: &Path) -> Result<UnixStream, ClientError> {
    UnixStream::connect(socket).await.map_err(|error| unreachable(socket, &error))
}

async fn exchange_over(stream: UnixStream, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, ClientError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(garbled)?;
    // It carries the body too, and ends with the connection; what goes wrong there is seen where the body is read.
    tokio::spawn(connection);
    let response = sender.send_request(request).await.map_err(garbled)?;
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let body = response.collect().await.map_err(garbled)?.to_bytes();
    match serde_json::from_slice::<Failure>(&body) {
        Ok(failure) => Err(ClientError::Failed(failure.error)),
        Err(_) => Err(ClientError::Garbled(format!("HTTP status {status} without a reason"))),
    }
}

/// The answer's body, which may be a secret (`export-key`) and is wiped when it has been read.
async fn whole<T: DeserializeOwned>(mut response: Response<Incoming>) -> Result<T, ClientError> {
    let mut body = Zeroizing::new(Vec::new());
    while let Some(frame) = response.frame().await {
        if let Ok(data) = frame.map_err(garbled)?.into_data() {
            body.extend_from_slice(&data);
        }
    }
    let text: &[u8] = if body.is_empty() { b"null" } else { &body };
    serde_json::from_slice(text).map_err(garbled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixListener;

    /// A daemon that gives one answer, whatever it is asked.
    fn answering(answer: &'static str) -> (tempfile::TempDir, Client) {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("control.sock");
        let listener = UnixListener::bind(&socket).expect("binds");
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut head = [0; 4096];
            assert!(stream.read(&mut head).expect("a request") > 0);
            stream.write_all(answer.as_bytes()).expect("answers");
        });
        (dir, Client::new(socket))
    }

    #[test]
    fn nobody_at_the_socket_is_no_daemon() {
        let dir = tempfile::tempdir().expect("a directory");
        let socket = dir.path().join("control.sock");
        let client = Client::new(socket.clone());
        assert!(matches!(client.get::<()>("/v1/status"), Err(ClientError::NoDaemon(at)) if at == socket));
        drop(UnixListener::bind(&socket).expect("binds"));
        assert!(matches!(client.get::<()>("/v1/status"), Err(ClientError::NoDaemon(_))));
    }

    #[test]
    fn a_failed_answer_is_the_problem_in_it() {
        let (_dir, client) = answering(concat!(
            "HTTP/1.1 404 Not Found\r\nconnection: close\r\n\r\n",
            r#"{"error":{"code":"volume.not_found","message":"m","remedy":"r","kms_exception":null,"exit_code":3}}"#
        ));
        let answer = client.get::<()>("/v1/volumes/x");
        assert!(matches!(answer, Err(ClientError::Failed(problem)) if problem.exit_code == 3));
    }

    #[test]
    fn an_answer_that_is_not_the_api_is_garbled() {
        for answer in ["SSH-2.0-nope\r\n\r\n", "HTTP/1.1 500 Oops\r\n\r\nno json", "HTTP/1.1 200 OK\r\n\r\n{{", ""] {
            let (_dir, client) = answering(answer);
            assert!(matches!(client.get::<u8>("/"), Err(ClientError::Garbled(_))), "{answer:?}");
        }
    }

    #[test]
    fn steps_report_progress_and_end_with_the_result() {
        let (_dir, client) = answering(concat!(
            "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n",
            "{\"progress\":{\"done\":1,\"total\":2}}\n{\"done\":7}\n"
        ));
        let mut seen = Vec::new();
        let answer: u8 = client.send_long("/", &(), &mut |done, total| seen.push((done, total))).expect("a result");
        assert_eq!((answer, seen), (7, vec![(1, 2)]));
    }

    #[test]
    fn work_that_ends_without_a_result_is_garbled() {
        let (_dir, client) =
            answering("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{\"progress\":{\"done\":1,\"total\":2}}\n");
        assert!(matches!(client.send_long::<_, u8>("/", &(), &mut |_, _| ()), Err(ClientError::Garbled(_))));
    }

    #[test]
    fn a_follower_stops_when_it_has_had_enough() {
        let (_dir, client) = answering("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\none\ntwo\nthree\n");
        let mut seen = Vec::new();
        let mut line = |line: &str| {
            seen.push(line.to_owned());
            seen.len() < 2
        };
        client.follow("/", &mut line).expect("follows");
        assert_eq!(seen, ["one", "two"]);
    }
}
