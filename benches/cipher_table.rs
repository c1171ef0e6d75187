//! The cipher against its floors: one line for each row, with figures, the ratio, floor, goal, and whether they are reached.
//!
//! `cargo bench --bench cipher_table --features bench-peers [-- --json] [-- --rounds N]`
//!
//! A ratio is the median of the ratios of each round, in which both sides run one after the other in one process on one
//! core. OpenSSL is held to AES-NI by a variable that AWS-LC heeds too, and that both read as the process starts: so these
//! rows are measured by a second process, in the same way.
#![allow(unsafe_code, reason = "AWS-LC is C")]
#![allow(clippy::print_stdout, reason = "the table is for whoever ran the bench")]

#[path = "cipher_peers/mod.rs"]
#[allow(dead_code, reason = "the table compares with fewer")]
mod peers;

use std::hint::black_box;
use std::process::Command;
use std::time::{Duration, Instant};

use envol::crypto::xts::Engine;
use envol::units::SectorSize;
use peers::{Contender, PAGE, Request, Way};
use serde::{Deserialize, Serialize};

const KIB: usize = 1024;
/// How long one side runs in one round.
const TURN: Duration = Duration::from_millis(10);
const ROUNDS: usize = 15;
/// What small requests move over, so that they do not find their data in the first-level cache.
const MOVED_OVER: usize = 64 * KIB;

/// Its value names the processor's features that OpenSSL is not to use.
const CAPABILITIES: &str = "OPENSSL_ia32cap";

/// A row yet to be measured.
struct Row {
    engine: Engine,
    into: bool,
    sectors: SectorSize,
    request: usize,
    peer: Contender,
    floor: Option<f64>,
    goal: Option<f64>,
}

/// A row as measured.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    engine: String,
    form: String,
    way: String,
    sector_bytes: u64,
    request_bytes: usize,
    peer: String,
    /// GB/s, the median.
    figure: f64,
    peer_figure: f64,
    /// The median of each round's ratio, and the lowest and highest.
    ratio: f64,
    ratio_low: f64,
    ratio_high: f64,
    floor: Option<f64>,
    goal: Option<f64>,
}

impl Line {
    fn verdict(&self) -> &'static str {
        match (self.floor, self.goal) {
            (_, Some(goal)) if self.ratio >= goal => "goal reached",
            (Some(floor), _) if self.ratio < floor => "NOT REACHED",
            (Some(_), _) => "floor reached",
            (None, _) => "",
        }
    }
}

/// The rows of the requirements, and two that tell where the limits lie.
fn rows() -> Vec<Row> {
    let row =
        |engine, sectors, request, peer, floor, goal| Row { engine, into: false, sectors, request, peer, floor, goal };
    let (large, small) = (SectorSize::B4096, SectorSize::B512);
    let fastest = Engine::fastest();
    let mut rows = Vec::new();
    let wide = fastest.to_string() == "vaes-512";
    for request in [64 * KIB, 256 * KIB] {
        let (floor, goal) = if wide { (1.15, Some(1.2)) } else { (0.95, None) };
        rows.push(row(fastest, large, request, Contender::AwsLc, Some(floor), goal));
    }
    for request in [64 * KIB, 256 * KIB] {
        let (floor, goal) = if wide { (2.0, Some(2.2)) } else { (0.95, None) };
        rows.push(row(fastest, small, request, Contender::AwsLc, Some(floor), goal));
    }
    let goal = wide.then_some(1.1);
    rows.push(row(fastest, large, 4 * KIB, Contender::AwsLc, Some(if wide { 1.0 } else { 0.95 }), goal));
    for engine in Engine::available() {
        match engine.to_string().as_str() {
            "vaes-256" => rows.push(row(engine, large, 64 * KIB, Contender::AwsLc, Some(0.95), None)),
            "aes-ni" => rows.push(row(engine, large, 64 * KIB, Contender::OpenSsl, Some(1.0), None)),
            _ => (),
        }
    }
    rows.push(Row { into: true, ..row(fastest, large, 64 * KIB, Contender::AwsLc, None, None) });
    rows.push(row(fastest, large, 64 * KIB, Contender::RawBlocks, None, None));
    rows
}

/// GB/s of one turn.
fn turn(cipher: &mut Request, request: usize, sector: usize, data: &mut [u8]) -> f64 {
    let (mut done, mut first) = (0_usize, 0);
    let start = Instant::now();
    while start.elapsed() < TURN {
        for _ in 0..4 {
            for part in data.chunks_exact_mut(request) {
                cipher(first, black_box(part));
                first += (request / sector) as u64;
                done += request;
            }
        }
    }
    done as f64 / start.elapsed().as_secs_f64() / 1e9
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

fn measured(row: &Row, way: Way, rounds: usize) -> Line {
    let Row { engine, sectors, request, .. } = *row;
    let own = if row.into { Contender::EnvolInto(engine) } else { Contender::Envol(engine) };
    let mut own = own.request(way, sectors, request);
    let mut other = row.peer.request(way, sectors, request);
    let sector = usize::try_from(sectors.bytes()).expect("small");
    // Aligned as the buffers of a data path are.
    let mut memory = vec![0x5a; MOVED_OVER.max(request) + PAGE];
    let start = memory.as_ptr().align_offset(PAGE);
    let data = &mut memory[start..][..MOVED_OVER.max(request)];
    let (mut figures, mut peer_figures, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..=rounds {
        let figure = turn(&mut own, request, sector, data);
        let peer_figure = turn(&mut other, request, sector, data);
        figures.push(figure);
        peer_figures.push(peer_figure);
        ratios.push(figure / peer_figure);
    }
    // The first round warmed up.
    let counted = |all: &[f64]| all[1..].to_vec();
    let ratios = counted(&ratios);
    Line {
        engine: engine.to_string(),
        form: if row.into { "into" } else { "in place" }.to_owned(),
        way: format!("{way:?}").to_lowercase(),
        sector_bytes: sectors.bytes(),
        request_bytes: request,
        peer: row.peer.to_string() + if row.peer == Contender::OpenSsl { ", held to AES-NI" } else { "" },
        figure: median(counted(&figures)),
        peer_figure: median(counted(&peer_figures)),
        ratio_low: ratios.iter().copied().fold(f64::INFINITY, f64::min),
        ratio_high: ratios.iter().copied().fold(0.0, f64::max),
        ratio: median(ratios),
        floor: row.floor,
        goal: row.goal,
    }
}

/// Measures the rows of this process, or of the second one.
fn lines(second: bool, rounds: usize) -> Vec<Line> {
    let rows = rows().into_iter().filter(|row| (row.peer == Contender::OpenSsl) == second);
    rows.flat_map(|row| [Way::Encrypt, Way::Decrypt].map(|way| measured(&row, way, rounds))).collect()
}

/// The same program again, with OpenSSL told to do without what came after AES-NI and AVX: AVX-512 (F, DQ, IFMA, BW, VL),
/// VAES, VPCLMULQDQ.
fn lines_of_second_process(rounds: usize) -> Vec<Line> {
    const LEAF_7_EBX: u64 = 1 << 16 | 1 << 17 | 1 << 21 | 1 << 30 | 1 << 31;
    const LEAF_7_ECX: u64 = 1 << 9 | 1 << 10;
    let program = std::env::current_exe().expect("a program");
    let output = Command::new(program)
        .args(["--second", "--rounds", &rounds.to_string()])
        .env(CAPABILITIES, format!(":~{:#x}", LEAF_7_EBX | LEAF_7_ECX << 32))
        .output()
        .expect("starts again");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("the lines as JSON")
}

fn print(lines: &[Line]) {
    println!(
        "{:<9} {:<9} {:<8} {:>6} {:>8}  {:>6}  {:<23} {:>6}  {:>5}  {:<13} {:>5} {:>5}",
        "engine", "form", "way", "sector", "request", "GB/s", "peer", "GB/s", "ratio", "(of rounds)", "floor", "goal"
    );
    for line in lines {
        let number = |number: Option<f64>| number.map_or(String::new(), |number| format!("{number:.2}"));
        println!(
            "{:<9} {:<9} {:<8} {:>6} {:>8}  {:>6.2}  {:<23} {:>6.2}  {:>5.3}  {:<13} {:>5} {:>5}  {}",
            line.engine,
            line.form,
            line.way,
            line.sector_bytes,
            line.request_bytes,
            line.figure,
            line.peer,
            line.peer_figure,
            line.ratio,
            format!("{:.2} to {:.2}", line.ratio_low, line.ratio_high),
            number(line.floor),
            number(line.goal),
            line.verdict()
        );
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    let given = arguments.iter().skip_while(|argument| *argument != "--rounds").nth(1);
    let rounds = given.map_or(ROUNDS, |rounds| rounds.parse().expect("--rounds takes a number")).max(5);
    if has("--second") {
        println!("{}", serde_json::to_string(&lines(true, rounds)).expect("JSON"));
        return;
    }
    let mut lines = lines(false, rounds);
    lines.extend(lines_of_second_process(rounds));
    if has("--json") {
        println!("{}", serde_json::to_string_pretty(&lines).expect("JSON"));
    } else {
        print(&lines);
    }
}
