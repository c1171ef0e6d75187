//! One operation at a time: the volume is a vector of bytes.

use std::cell::Cell;

use envol::block::Zeroing;
use envol::nbd::client::Client;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::Daemon;

/// Bytes in the volume: three key scopes and a half, so that requests cross scope boundaries.
const SIZE: usize = (3 << 20) + (512 << 10);
const CONNECTIONS: usize = 3;

#[derive(Debug, Clone)]
enum Step {
    Write { from: usize, at: usize, length: usize, byte: u8, durable: bool },
    Read { from: usize, at: usize, length: usize },
    Trim { from: usize, at: usize, length: usize },
    Zero { from: usize, at: usize, length: usize, keep_allocated: bool },
    Flush { from: usize },
    Reattach,
}

/// A place and a length within the volume: mostly short and crooked, sometimes long, sometimes aligned.
fn extent() -> impl Strategy<Value = (usize, usize)> {
    let near_a_scope = (1..4usize, 0..8192usize).prop_map(|(scope, back)| ((scope << 20) - back).min(SIZE));
    let anywhere = prop_oneof![3 => 0..SIZE, 2 => (0..SIZE / 512).prop_map(|n| n * 512), 2 => near_a_scope];
    let length = prop_oneof![4 => 0..3000usize, 2 => (0..64usize).prop_map(|n| n * 512), 1 => 0..400_000usize];
    (anywhere, length).prop_map(|(at, length)| (at, length.min(SIZE - at)))
}

fn step() -> impl Strategy<Value = Step> {
    let place = || (0..CONNECTIONS, extent());
    prop_oneof![
        8 => (place(), any::<u8>(), any::<bool>())
            .prop_map(|((from, (at, length)), byte, durable)| Step::Write { from, at, length, byte, durable }),
        8 => place().prop_map(|(from, (at, length))| Step::Read { from, at, length }),
        2 => place().prop_map(|(from, (at, length))| Step::Trim { from, at, length }),
        2 => (place(), any::<bool>())
            .prop_map(|((from, (at, length)), keep_allocated)| Step::Zero { from, at, length, keep_allocated }),
        1 => (0..CONNECTIONS).prop_map(|from| Step::Flush { from }),
        1 => Just(Step::Reattach),
    ]
}

/// A volume, its connections, and what it must hold.
struct Model<'d> {
    daemon: &'d Daemon,
    name: String,
    thin: bool,
    connections: Vec<Client>,
    expected: Vec<u8>,
}

impl Model<'_> {
    fn connect(&mut self) {
        let socket = self.daemon.nbd_socket();
        self.connections = (0..CONNECTIONS).map(|_| Client::connect(&socket, &self.name).expect("connects")).collect();
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Write { from, at, length, byte, durable } => {
                let bytes: Vec<u8> = (0..length).map(|n| byte.wrapping_add((n % 251).to_le_bytes()[0])).collect();
                let client = &mut self.connections[from];
                if durable { client.write_durably(at as u64, &bytes) } else { client.write(at as u64, &bytes) }
                    .expect("written");
                self.expected[at..at + length].copy_from_slice(&bytes);
            }
            Step::Read { from, at, length } => self.compare(from, at, length),
            Step::Trim { from, at, length } => {
                self.connections[from].trim(at as u64, span(length)).expect("trimmed");
                self.trimmed(from, at, length);
            }
            Step::Zero { from, at, length, keep_allocated } => {
                let zeroing = if keep_allocated { Zeroing::KeepAllocated } else { Zeroing::MayPunch };
                self.connections[from].zero(at as u64, span(length), zeroing).expect("zeroed");
                self.expected[at..at + length].fill(0);
            }
            Step::Flush { from } => self.connections[from].flush().expect("flushed"),
            Step::Reattach => {
                self.connections.drain(..).for_each(|client| client.disconnect().expect("closed"));
                self.daemon.detach(&self.name);
                self.daemon.attach(&self.name);
                self.connect();
            }
        }
    }

    /// A trimmed piece reads as zeros in a thin volume and is unchanged in a thick one; partly covered ones are unchanged.
    fn trimmed(&mut self, from: usize, at: usize, length: usize) {
        let (first, last) = (at.next_multiple_of(512), (at + length) / 512 * 512);
        if self.thin && first < last {
            self.expected[first..last].fill(0);
        }
        self.compare(from, at, length);
    }

    fn compare(&mut self, from: usize, at: usize, length: usize) {
        let mut seen = vec![0xaa; length];
        self.connections[from].read(at as u64, &mut seen).expect("read");
        let differs = seen.iter().zip(&self.expected[at..]).position(|(one, other)| one != other);
        assert!(differs.is_none(), "byte {} differs", at + differs.unwrap_or(0));
    }
}

fn span(length: usize) -> u32 {
    u32::try_from(length).expect("a volume of a few MiB")
}

fn behaves_like_a_vector(name: &str, options: &[&str], cases: u32) {
    let daemon = Daemon::start();
    let mut runner = TestRunner::new(Config { cases, max_shrink_iters: 200, ..Config::default() });
    let number = Cell::new(0);
    runner
        .run(&proptest::collection::vec(step(), 1..60), |steps| {
            number.set(number.get() + 1);
            let name = format!("{name}-{}", number.get());
            daemon.attached(&name, &SIZE.to_string(), options);
            let thin = !options.contains(&"--thick");
            let mut model = Model { daemon: &daemon, name, thin, connections: Vec::new(), expected: vec![0; SIZE] };
            model.connect();
            steps.iter().for_each(|step| model.take(step));
            model.compare(0, 0, SIZE);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_thin_volume_of_large_sectors_behaves_like_a_vector() {
    behaves_like_a_vector("large", &["--scope", "1M"], 24);
}

#[test]
fn a_thin_volume_of_small_sectors_behaves_like_a_vector() {
    behaves_like_a_vector("small", &["--scope", "1M", "--sector-size", "512"], 24);
}

#[test]
fn a_thick_volume_behaves_like_a_vector() {
    behaves_like_a_vector("thick", &["--scope", "1M", "--thick"], 12);
}
