//! A daemon that answers what a test says, and notes what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::Value;

/// Method and path, status and body.
pub(crate) type Answer<'a> = (&'a str, u16, Value);

/// What the program asked: method and path, body.
pub(crate) type Asked = (String, Value);

pub(crate) struct Scripted {
    dir: tempfile::TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Scripted {
    /// Serves `answers`; an array under `/v1/events` is answered as lines, a map with `steps` too.
    pub(crate) fn serve(answers: &[Answer<'_>]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(dir.path().join("control.sock")).expect("a socket");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: Vec<(String, u16, Value)> =
            answers.iter().map(|(call, status, body)| ((*call).to_owned(), *status, body.clone())).collect();
        let notes = Arc::clone(&asked);
        // Ends with the test's process: the listener blocks until then.
        thread::spawn(move || {
            for stream in listener.incoming() {
                answer(stream.expect("a connection"), &answers, &notes);
            }
        });
        Self { dir, asked }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.path().join("control.sock")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What was asked since the last look.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().expect("not poisoned"))
    }
}

fn answer(stream: UnixStream, answers: &[(String, u16, Value)], notes: &Mutex<Vec<Asked>>) {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).expect("a line") == 0 {
            return;
        }
        match line.trim_end() {
            "" => break,
            line => head.push(line.to_owned()),
        }
    }
    let length = head.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).expect("a body");
    let call = head[0].trim_end_matches(" HTTP/1.1").to_owned();
    notes.lock().expect("not poisoned").push((call.clone(), serde_json::from_slice(&body).unwrap_or_default()));
    let (status, body) = match answers.iter().find(|(known, ..)| *known == call) {
        Some((_, status, body)) => (*status, text(&call, body)),
        None => (500, format!("no answer to {call} is scripted")),
    };
    let length = body.len();
    let reply = format!("HTTP/1.1 {status} Scripted\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.get_mut().write_all(reply.as_bytes()).expect("written");
}

/// Lines for what is answered by lines, nothing for nothing, else a document.
fn text(call: &str, body: &Value) -> String {
    let lines = |values: &[Value]| values.iter().map(|value| format!("{value}\n")).collect();
    match body {
        Value::Null => String::new(),
        Value::Array(events) if call.starts_with("GET /v1/events") => lines(events),
        Value::Object(map) if map.contains_key("steps") => lines(map["steps"].as_array().expect("an array")),
        other => other.to_string(),
    }
}
