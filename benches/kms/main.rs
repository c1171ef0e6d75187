//! What the KMS on AWS's wire does in a second, on one core: GenerateDataKey, Decrypt and DescribeKey over a unix socket, each
//! request signed and each call's record durable before its answer; with few keys and with many; and how long it starts.
//!
//! `cargo bench --bench kms -- [--dir DIR] [--keys N] [--seconds S] [--clients C]`. The state lies below DIR (the current
//! directory): its disk decides what a durable record costs. Front, parent and HSM share the first core, the clients the
//! second. Nothing passes or fails.

#![allow(clippy::print_stdout, reason = "a benchmark prints what it measured")]

mod client;
mod server;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use hdrhistogram::Histogram;
use serde_json::json;

use client::{Client, Failure, Signer};
use server::Server;

/// Keys of the small store.
const FEW: usize = 100;

#[derive(Parser)]
struct Options {
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    #[arg(long, default_value_t = 100_000)]
    keys: usize,
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    #[arg(long, default_value_t = 32)]
    clients: usize,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), Failure> {
    let options = Options::parse();
    let state = tempfile::tempdir_in(&options.dir)?;
    let (server, signer, started) = Server::start(state.path(), None)?;
    println!("start-up, no keys: {:.0} ms", started.as_secs_f64() * 1e3);
    println!("{:>8}  {:<16} {:>9} {:>9} {:>9} {:>9}", "keys", "operation", "calls/s", "p50 us", "p99 us", "max us");
    let mut keys = Vec::new();
    for count in [FEW, options.keys] {
        make_keys(server.socket(), &signer, &mut keys, count, options.clients)?;
        for operation in ["GenerateDataKey", "Decrypt", "DescribeKey"] {
            measure(&options, server.socket(), &signer, &keys, operation)?;
        }
    }
    server.stop()?;
    let (server, _, started) = Server::start(state.path(), Some(signer))?;
    println!("start-up, {} keys: {:.0} ms", keys.len(), started.as_secs_f64() * 1e3);
    server.stop()
}

/// Makes keys until there are `count`.
fn make_keys(
    socket: &Path,
    signer: &Signer,
    keys: &mut Vec<String>,
    count: usize,
    clients: usize,
) -> Result<(), Failure> {
    let wanted = AtomicUsize::new(count.saturating_sub(keys.len()));
    let made = in_parallel(clients, |_| {
        let mut client = Client::connect(socket, signer)?;
        let mut made = Vec::new();
        while wanted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok() {
            let answer = client.call("CreateKey", "{}")?;
            made.push(answer["KeyMetadata"]["KeyId"].as_str().ok_or("a key without an id")?.to_owned());
        }
        Ok(made)
    })?;
    keys.extend(made.into_iter().flatten());
    Ok(())
}

/// Each client calls `operation` with one key after the other, strewn over all keys, and each waits for its answer.
fn measure(options: &Options, socket: &Path, signer: &Signer, keys: &[String], operation: &str) -> Result<(), Failure> {
    let length = Duration::from_secs_f64(options.seconds);
    let measured = in_parallel(options.clients, |number| {
        let mut client = Client::connect(socket, signer)?;
        let mut random = fastrand::Rng::with_seed(number as u64);
        let bodies = bodies(&mut client, &mut random, keys, operation)?;
        let mut times = Histogram::<u64>::new(3)?;
        let begin = Instant::now();
        while begin.elapsed() < length {
            let call = Instant::now();
            client.call(operation, &bodies[random.usize(..bodies.len())])?;
            times.record(u64::try_from(call.elapsed().as_micros())?)?;
        }
        Ok((times, begin.elapsed()))
    })?;
    let mut all = Histogram::<u64>::new(3)?;
    let mut rate = 0.0;
    for (times, took) in measured {
        rate += times.len() as f64 / took.as_secs_f64();
        all.add(times)?;
    }
    let (p50, p99) = (all.value_at_quantile(0.5), all.value_at_quantile(0.99));
    println!("{:>8}  {operation:<16} {rate:>9.0} {p50:>9} {p99:>9} {:>9}", keys.len(), all.max());
    Ok(())
}

/// A client's requests: 64 keys' of all.
fn bodies(
    client: &mut Client,
    random: &mut fastrand::Rng,
    keys: &[String],
    operation: &str,
) -> Result<Vec<String>, Failure> {
    let context = json!({"aws:ebs:id": "vol-0123456789abcdef0"});
    let body = |key: &String| {
        let request = json!({"KeyId": key, "NumberOfBytes": 64, "EncryptionContext": context});
        Ok::<_, Failure>(
            match operation {
                "Decrypt" => {
                    let sealed = client.call("GenerateDataKeyWithoutPlaintext", &request.to_string())?;
                    json!({"CiphertextBlob": sealed["CiphertextBlob"], "KeyId": key, "EncryptionContext": context})
                }
                "DescribeKey" => json!({"KeyId": key}),
                _ => request,
            }
            .to_string(),
        )
    };
    random.choose_multiple(keys, 64).into_iter().map(body).collect()
}

/// What each of `clients` threads gives.
fn in_parallel<T: Send>(clients: usize, work: impl Fn(usize) -> Result<T, Failure> + Sync) -> Result<Vec<T>, Failure> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..clients).map(|number| scope.spawn(move || work(number))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a client does not panic")).collect()
    })
}
