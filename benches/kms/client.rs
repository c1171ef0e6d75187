//! A client that costs little: one connection over a unix socket, requests signed by SigV4.

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use serde_json::Value;
use sha2::{Digest, Sha256};

const REGION: &str = "us-east-1";
const SIGNED: &str = "host;x-amz-date;x-amz-target";

/// What the client's threads give up with.
pub(crate) type Failure = Box<dyn Error + Send + Sync>;

/// An access key, and the day's signing key made of it.
#[derive(Clone)]
pub(crate) struct Signer {
    id: String,
    day: String,
    key: Vec<u8>,
}

impl Signer {
    /// Signs as the access key `id`; for a day.
    pub(crate) fn new(id: &str, secret: &str) -> Self {
        let day = Timestamp::now().strftime("%Y%m%d").to_string();
        let parts = [day.as_str(), REGION, "kms", "aws4_request"];
        let key = parts.iter().fold(format!("AWS4{secret}").into_bytes(), |key, part| hmac(&key, part.as_bytes()));
        Self { id: id.to_owned(), day, key }
    }

    /// The request, as it goes over the connection.
    fn request(&self, operation: &str, body: &str) -> Vec<u8> {
        let time = Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        let target = format!("TrentService.{operation}");
        let canonical = format!(
            "POST\n/\n\nhost:kms\nx-amz-date:{time}\nx-amz-target:{target}\n\n{SIGNED}\n{}",
            hex(&Sha256::digest(body))
        );
        let scope = format!("{}/{REGION}/kms/aws4_request", self.day);
        let to_sign = format!("AWS4-HMAC-SHA256\n{time}\n{scope}\n{}", hex(&Sha256::digest(canonical)));
        let signature = hex(&hmac(&self.key, to_sign.as_bytes()));
        let id = &self.id;
        format!(
            "POST / HTTP/1.1\r\nhost: kms\r\nx-amz-date: {time}\r\nx-amz-target: {target}\r\ncontent-type: \
             application/x-amz-json-1.1\r\nauthorization: AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={SIGNED}, \
             Signature={signature}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }
}

/// One connection.
pub(crate) struct Client {
    stream: UnixStream,
    signer: Signer,
    answer: Vec<u8>,
}

impl Client {
    /// Connects to the KMS's socket.
    pub(crate) fn connect(socket: &Path, signer: &Signer) -> Result<Self, Failure> {
        Ok(Self { stream: UnixStream::connect(socket)?, signer: signer.clone(), answer: Vec::new() })
    }

    /// Calls `operation` and waits for the answer, which must be no refusal.
    pub(crate) fn call(&mut self, operation: &str, body: &str) -> Result<Value, Failure> {
        self.stream.write_all(&self.signer.request(operation, body))?;
        let (head, length) = self.receive()?;
        let body: Value = serde_json::from_slice(&self.answer[head..head + length])?;
        if self.answer.starts_with(b"HTTP/1.1 200 ") { Ok(body) } else { Err(format!("{operation}: {body}").into()) }
    }

    /// Receives one answer: the length of its head, and of its body.
    fn receive(&mut self) -> Result<(usize, usize), Failure> {
        self.answer.clear();
        loop {
            let mut piece = [0; 8192];
            match self.stream.read(&mut piece)? {
                0 => return Err("the KMS closed the connection".into()),
                length => self.answer.extend_from_slice(&piece[..length]),
            }
            let Some(end) = self.answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            let length = content_length(std::str::from_utf8(&self.answer[..end])?)?;
            if self.answer.len() >= end + 4 + length {
                return Ok((end + 4, length));
            }
        }
    }
}

fn content_length(head: &str) -> Result<usize, Failure> {
    let named = head.lines().filter_map(|line| line.split_once(": "));
    let mut lengths = named.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Ok(lengths.next().ok_or("an answer without a length")?.1.parse()?)
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(text);
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
