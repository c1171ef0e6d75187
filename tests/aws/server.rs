//! A KMS of a hundred lines whose answers can be made wrong: it seals a data key as itself, and opens what it is given.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

/// The key that it has.
pub(crate) const KEY: &str = "arn:aws:kms:us-east-1:111122223333:key/11111111-2222-3333-4444-555555555555";

/// How a request is answered.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// The truth.
    Honest,
    /// Not at all; the connection stays.
    Silent,
    /// The connection is closed.
    Hang,
    /// The truth, so much later.
    Late(Duration),
    /// An exception, with this status.
    Refuse(u16, &'static str, &'static str),
    /// These bytes in the place of the answer, with this status and content type.
    Raw(u16, &'static str, Vec<u8>),
    /// A redirect to itself.
    Redirect,
    /// A body without end, which is said to be 1 GiB, so many bytes at a time and so long between.
    Endless(usize, Duration),
    /// A body that ends before it should.
    Short,
    /// A clear data key that is this.
    Plaintext(Vec<u8>),
    /// Another key's ARN, or none.
    KeyId(Option<&'static str>),
}

/// See the module.
#[derive(Clone)]
pub(crate) struct Server(Arc<Shared>);

struct Shared {
    endpoint: String,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    act: Act,
    /// Those that come before `act`.
    next: Vec<Act>,
    requests: Vec<String>,
    /// Answers that were sent, or given up.
    done: usize,
    inside: usize,
    most_inside: usize,
}

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("listens");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let state = State { act: Act::Honest, next: vec![], requests: vec![], done: 0, inside: 0, most_inside: 0 };
        let server = Self(Arc::new(Shared { endpoint, state: Mutex::new(state), changed: Condvar::new() }));
        let own = server.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let own = own.clone();
                std::thread::spawn(move || own.serve(stream));
            }
        });
        server
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.0.endpoint
    }

    /// From here on requests are answered so; those before are forgotten.
    pub(crate) fn act(&self, act: Act) {
        let mut state = self.0.state.lock().expect("no panic");
        (state.act, state.next) = (act, vec![]);
        state.requests.clear();
    }

    /// The next requests are answered so, and those after them in truth.
    pub(crate) fn next(&self, acts: impl IntoIterator<Item = Act>) {
        self.act(Act::Honest);
        self.0.state.lock().expect("no panic").next = acts.into_iter().collect();
    }

    /// The operations that were asked for since.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.0.state.lock().expect("no panic").requests.clone()
    }

    /// The most requests that were ever being answered at once.
    pub(crate) fn most_inside(&self) -> usize {
        self.0.state.lock().expect("no panic").most_inside
    }

    /// Waits until every request that has come was answered or given up.
    pub(crate) fn wait_idle(&self) {
        let state = self.0.state.lock().expect("no panic");
        drop(self.0.changed.wait_while(state, |state| state.inside > 0));
    }

    fn serve(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        while let Some((operation, body)) = request(&mut reader) {
            let act = self.enter(operation.clone());
            let goes_on = answer(reader.get_mut(), &act, (&operation, &body), self.endpoint());
            self.leave();
            if !goes_on {
                return;
            }
        }
    }

    fn enter(&self, operation: String) -> Act {
        let mut state = self.0.state.lock().expect("no panic");
        state.requests.push(operation);
        state.inside += 1;
        state.most_inside = state.most_inside.max(state.inside);
        if state.next.is_empty() { state.act.clone() } else { state.next.remove(0) }
    }

    fn leave(&self) {
        let mut state = self.0.state.lock().expect("no panic");
        state.inside -= 1;
        state.done += 1;
        self.0.changed.notify_all();
    }
}

/// The operation that a request names, and its members.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, Value)> {
    let (mut length, mut operation) = (0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let Some((name, value)) = line.trim_end().split_once(':') else {
            if line.trim_end().is_empty() { break } else { continue }
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok()?,
            "x-amz-target" => operation = value.trim().trim_start_matches("TrentService.").to_owned(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((operation, serde_json::from_slice(&body).ok()?))
}

/// What an honest KMS answers.
fn truth((operation, body): (&str, &Value)) -> Value {
    match operation {
        "Decrypt" => {
            json!({"KeyId": KEY, "Plaintext": body["CiphertextBlob"], "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
        }
        "Encrypt" => json!({"KeyId": KEY, "CiphertextBlob": body["Plaintext"]}),
        "ReEncrypt" => json!({"KeyId": KEY, "SourceKeyId": KEY, "CiphertextBlob": body["CiphertextBlob"]}),
        _ => {
            let mut data_key = [0; 64];
            openssl::rand::rand_bytes(&mut data_key).expect("random bytes");
            json!({"KeyId": KEY, "CiphertextBlob": BASE64_STANDARD.encode(data_key)})
        }
    }
}

/// Whether the connection is to be used again.
fn answer(stream: &mut TcpStream, act: &Act, asked: (&str, &Value), endpoint: &str) -> bool {
    let mut members = truth(asked);
    match act {
        Act::Honest => {}
        Act::Hang => return false,
        Act::Silent => {
            // Until the other side has had enough.
            let _ = stream.read(&mut [0]);
            return false;
        }
        Act::Late(time) => std::thread::sleep(*time),
        Act::Refuse(status, exception, message) => {
            let body = json!({"__type": exception, "message": message}).to_string();
            return send(stream, *status, "application/x-amz-json-1.1", body.as_bytes());
        }
        Act::Raw(status, kind, body) => return send(stream, *status, kind, body),
        Act::Redirect => {
            let head = format!("HTTP/1.1 307 Temporary Redirect\r\nlocation: {endpoint}/\r\ncontent-length: 0\r\n\r\n");
            return stream.write_all(head.as_bytes()).is_ok();
        }
        Act::Endless(bytes, pause) => return endless(stream, *bytes, *pause),
        Act::Short => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: 100\r\n\r\n{";
            let _ = stream.write_all(head.as_bytes());
            return false;
        }
        Act::Plaintext(bytes) => members["Plaintext"] = BASE64_STANDARD.encode(bytes).into(),
        Act::KeyId(key) => members["KeyId"] = (*key).into(),
    }
    send(stream, 200, "application/x-amz-json-1.1", members.to_string().as_bytes())
}

fn send(stream: &mut TcpStream, status: u16, kind: &str, body: &[u8]) -> bool {
    let head = format!("HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(&[head.as_bytes(), body].concat()).is_ok()
}

fn endless(stream: &mut TcpStream, bytes: usize, pause: Duration) -> bool {
    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.1\r\ncontent-length: 1073741824\r\n\r\n";
    let mut going_on = stream.write_all(head.as_bytes()).is_ok();
    let chunk = vec![b' '; bytes];
    while going_on {
        std::thread::sleep(pause);
        going_on = stream.write_all(&chunk).is_ok();
    }
    false
}
