//! The cipher's alternatives side by side: one 64 KiB request in place, under both sector sizes, and a single 4 KiB one.
//!
//! `cargo bench --bench cipher --features bench-peers`. For ratios against requirements see `cipher_table`.
#![allow(unsafe_code, reason = "AWS-LC is C")]

#[path = "cipher_peers/mod.rs"]
mod peers;

use divan::Bencher;
use divan::counter::BytesCount;
use envol::crypto::xts::Engine;
use envol::units::SectorSize;
use peers::{Contender, PAGE, Way};

const LARGE: usize = 64 << 10;
const SMALL: usize = 4 << 10;

fn main() {
    divan::main();
}

/// Every way to do it, on this processor.
fn contenders() -> Vec<Contender> {
    let engines = Engine::available().into_iter();
    let own = engines.flat_map(|engine| [Contender::Envol(engine), Contender::EnvolInto(engine)]);
    own.chain(Contender::OTHERS).collect()
}

fn measure(bencher: Bencher<'_, '_>, contender: Contender, way: Way, sectors: SectorSize, bytes: usize) {
    let mut request = contender.request(way, sectors, bytes);
    let mut memory = vec![0x5a; bytes + PAGE];
    let start = memory.as_ptr().align_offset(PAGE);
    let data = &mut memory[start..][..bytes];
    bencher.counter(BytesCount::of_slice(data)).bench_local(|| request(7, data));
}

#[divan::bench(args = contenders())]
fn encrypt_64k_of_4096(bencher: Bencher<'_, '_>, contender: Contender) {
    measure(bencher, contender, Way::Encrypt, SectorSize::B4096, LARGE);
}

#[divan::bench(args = contenders())]
fn decrypt_64k_of_4096(bencher: Bencher<'_, '_>, contender: Contender) {
    measure(bencher, contender, Way::Decrypt, SectorSize::B4096, LARGE);
}

#[divan::bench(args = contenders())]
fn encrypt_64k_of_512(bencher: Bencher<'_, '_>, contender: Contender) {
    measure(bencher, contender, Way::Encrypt, SectorSize::B512, LARGE);
}

#[divan::bench(args = contenders())]
fn decrypt_64k_of_512(bencher: Bencher<'_, '_>, contender: Contender) {
    measure(bencher, contender, Way::Decrypt, SectorSize::B512, LARGE);
}

#[divan::bench(args = contenders())]
fn encrypt_4k_of_4096(bencher: Bencher<'_, '_>, contender: Contender) {
    measure(bencher, contender, Way::Encrypt, SectorSize::B4096, SMALL);
}

#[divan::bench(args = contenders())]
fn decrypt_4k_of_4096(bencher: Bencher<'_, '_>, contender: Contender) {
    measure(bencher, contender, Way::Decrypt, SectorSize::B4096, SMALL);
}
