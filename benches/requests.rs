//! How long a request takes from its bytes to its reply's, the storage left out: decoded, judged, answered, each step with
//! the ones before it, for as many requests as one receive may bring.
//!
//! `cargo bench --bench requests`; a line is one batch, and the rate counts requests.

use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use envol::nbd::micro::{self, Agreed, Asked, HEADER};
use envol::units::ByteCount;

/// Requests that one receive brought.
const BATCHES: [usize; 4] = [1, 8, 32, 128];

fn main() {
    divan::main();
}

fn headers(asked: Asked, count: usize) -> Vec<[u8; HEADER]> {
    let cookies = 0_u64..;
    cookies.take(count).map(|cookie| micro::header(asked, cookie, cookie << 12, 4096)).collect()
}

fn agreed(structured: bool) -> Agreed {
    Agreed::new(ByteCount::new(1 << 30), structured)
}

fn measured(bencher: Bencher<'_, '_>, count: usize, mut work: impl FnMut() -> usize) {
    bencher.counter(ItemsCount::new(count)).bench_local(|| black_box(work()));
}

#[divan::bench(args = BATCHES)]
fn decode(bencher: Bencher<'_, '_>, count: usize) {
    let headers = headers(Asked::Read, count);
    bencher.counter(ItemsCount::new(count)).bench_local(|| micro::decode(black_box(&headers)));
}

#[divan::bench(args = BATCHES)]
fn decode_judge(bencher: Bencher<'_, '_>, count: usize) {
    let (headers, agreed) = (headers(Asked::Read, count), agreed(false));
    measured(bencher, count, || micro::judge(black_box(&headers), &agreed));
}

/// All of it, for what requests there are.
mod decode_judge_answer {
    use super::*;

    fn with(bencher: Bencher<'_, '_>, count: usize, asked: Asked, structured: bool) {
        let (headers, agreed) = (headers(asked, count), agreed(structured));
        let mut output = vec![0; 64 * count];
        measured(bencher, count, || micro::answer(black_box(&headers), &agreed, black_box(&mut output)));
    }

    #[divan::bench(args = BATCHES)]
    fn read(bencher: Bencher<'_, '_>, count: usize) {
        with(bencher, count, Asked::Read, false);
    }

    #[divan::bench(args = BATCHES)]
    fn read_in_chunks(bencher: Bencher<'_, '_>, count: usize) {
        with(bencher, count, Asked::Read, true);
    }

    #[divan::bench(args = BATCHES)]
    fn write(bencher: Bencher<'_, '_>, count: usize) {
        with(bencher, count, Asked::Write, false);
    }

    #[divan::bench(args = BATCHES)]
    fn durable_write(bencher: Bencher<'_, '_>, count: usize) {
        with(bencher, count, Asked::DurableWrite, false);
    }

    #[divan::bench(args = BATCHES)]
    fn refused(bencher: Bencher<'_, '_>, count: usize) {
        with(bencher, count, Asked::Nonsense, true);
    }
}
