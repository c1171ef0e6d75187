//! Calls to the embedded KMS that are answered when their record in the audit log is durable: how many a second, by one
//! caller and by several that share syncs. `ENVOL_BENCH_DIR` says on which disk.

use std::env;
use std::hint::black_box;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;
use std::time::SystemTime;

use divan::Bencher;
use divan::counter::ItemsCount;
use envol::kms::Principal;
use envol::kms::embedded::{Embedded, Identity};

const CALLS: usize = 64;

fn main() {
    divan::main();
}

/// Each sample is 64 calls of each caller.
#[divan::bench(args = [1, 8, 32], sample_count = 60, sample_size = 1)]
fn answered_calls(bencher: Bencher<'_, '_>, callers: usize) {
    let place = env::var_os("ENVOL_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let dir = tempfile::tempdir_in(place).expect("a directory");
    let identity = Identity { account: "000000000000".to_owned(), region: "us-east-1".to_owned() };
    let (store, key) = (dir.path().join("kms"), dir.path().join("domain.key"));
    let kms = Embedded::open(&store, &key, identity, Arc::new(SystemTime::now)).expect("opens");
    let root = Principal::root("000000000000");
    bencher.counter(ItemsCount::new(callers * CALLS)).bench_local(|| {
        thread::scope(|scope| {
            for _ in 0..callers {
                scope.spawn(|| (0..CALLS).for_each(|_| drop(black_box(kms.list_aliases(&root).expect("listed")))));
            }
        });
    });
}
