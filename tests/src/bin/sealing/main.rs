//! How fast payloads are sealed, opened and chained: in the sandbox, whose code the component shares, and natively. `cargo xtask bench --sealing` builds the guest and runs this.
//!
//! Before anything is measured, the guest must give the published answers of the primitives, and byte for byte what the native build gives.
#![allow(clippy::print_stdout, reason = "the report is what the program is for")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, ensure};
use clap::Parser;
use wasmtime::{Engine, Instance, Module, Store, TypedFunc};

#[path = "../../../../core/examples/sealing_speed/workload.rs"]
mod workload;

use workload::{KINDS, Kind};

const SIZES: [u32; 3] = [128, 1024, 4096];

/// Measures sealing, opening and chaining, in the sandbox and natively
#[derive(Debug, Parser)]
#[command(name = "sealing")]
struct Options {
    /// The guest: core's example `sealing_speed`, compiled for the sandbox
    #[arg(long)]
    guest: PathBuf,
    /// Rounds of each measurement, of which the fastest counts
    #[arg(long, default_value_t = 400, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
}

fn main() -> ExitCode {
    let options = Options::parse();
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> anyhow::Result<()> {
    let mut guest = Guest::load(&options.guest)?;
    let answers = in_words(guest.known_answers.call(&mut guest.store, ()))
        .context("the guest's primitives give other answers than the published ones")?;
    let (inside, outside) = (in_words(guest.digest.call(&mut guest.store, ()))?, workload::digest());
    ensure!(inside == outside, "the guest seals otherwise than the native build: its digest is {inside:016x}, expected {outside:016x}");
    println!("{answers} published answers hold in the sandbox; sandbox and native agree (digest {outside:016x})");
    println!("the fastest of {} rounds each; chained payloads are sealed ones", options.rounds);
    println!("{:>6} {:>10} {:>24} {:>24}", "what", "bytes", "sandbox", "native");
    for (number, kind) in (0..).zip(KINDS) {
        for bytes in SIZES {
            let sandbox = fastest(options.rounds, bytes, |times| guest.run(number, bytes, times))?;
            let native = fastest(options.rounds, bytes, |times| {
                workload::run(kind, bytes as usize, times);
                Ok(())
            })?;
            println!("{:>6} {bytes:>10} {:>24} {:>24}", name(kind), rate(sandbox, bytes), rate(native, bytes));
        }
    }
    Ok(())
}

struct Guest {
    store: Store<()>,
    known_answers: TypedFunc<(), u32>,
    digest: TypedFunc<(), u64>,
    work: TypedFunc<(u32, u32, u32), u32>,
}

impl Guest {
    fn load(file: &Path) -> anyhow::Result<Self> {
        let engine = Engine::default();
        let module = in_words(Module::from_file(&engine, file)).with_context(|| format!("{} can't be read", file.display()))?;
        let mut store = Store::new(&engine, ());
        let instance = in_words(Instance::new(&mut store, &module, &[])).context("the guest needs no import")?;
        Ok(Self {
            known_answers: in_words(instance.get_typed_func(&mut store, "known_answers"))?,
            digest: in_words(instance.get_typed_func(&mut store, "digest"))?,
            work: in_words(instance.get_typed_func(&mut store, "work"))?,
            store,
        })
    }

    fn run(&mut self, kind: u32, bytes: u32, times: u32) -> anyhow::Result<()> {
        ensure!(in_words(self.work.call(&mut self.store, (kind, bytes, times)))? == 1, "the guest knows no work of number {kind}");
        Ok(())
    }
}

/// The sandbox has an error type of its own.
fn in_words<T>(result: wasmtime::Result<T>) -> anyhow::Result<T> {
    result.map_err(|error| anyhow!("{error:#}"))
}

/// The time of one piece of work in the fastest of some rounds of 256 KiB each: what the code costs by itself. A round takes some milliseconds, so that on a busy machine too one goes by undisturbed.
fn fastest(rounds: u32, bytes: u32, mut work: impl FnMut(u32) -> anyhow::Result<()>) -> anyhow::Result<Duration> {
    let times = (256 << 10) / bytes;
    let mut fastest = Duration::MAX;
    for _ in 0..rounds {
        let start = Instant::now();
        work(times)?;
        fastest = fastest.min(start.elapsed() / times);
    }
    Ok(fastest)
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Seal => "seal",
        Kind::Open => "open",
        Kind::Chain => "chain",
    }
}

fn rate(each: Duration, bytes: u32) -> String {
    let per_second = f64::from(bytes) / each.as_secs_f64() / 1e6;
    format!("{:.2} µs, {per_second:.0} MB/s", each.as_secs_f64() * 1e6)
}
