//! Real nodes under load for minutes, while their processes are killed and stopped, their files damaged and a disk fills up; then everything that was acknowledged is
//! read back from each node.
//!
//! What happens, and when, comes from the seed; how far the nodes are by then does not, so a seed repeats the weather and not the run.
#![allow(clippy::print_stdout, reason = "the report is what the program is for")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use amaters_cluster_tests::load::{Load, Size};
use amaters_cluster_tests::process::Processes;
use clap::Parser;

mod faults;

use faults::Faults;

/// Soaks three real nodes: kills, stops, damage and a full disk under load; exit code 1 if anything acknowledged is lost, or damage not noticed
#[derive(Debug, Parser)]
#[command(name = "soak")]
struct Options {
    /// For how many minutes
    #[arg(long, default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
    /// Which weather; a random one where nothing is said
    #[arg(long)]
    seed: Option<u64>,
    /// Clients at a time
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=256))]
    clients: u16,
}

/// So small that a run of minutes sees hundreds of snapshots and segments.
const FLAGS: [&str; 8] = ["--segment-size", "4MiB", "--snapshot-every-bytes", "1MiB", "--on-corruption", "repair", "--log-level", "info"];

/// Between two looks at the disk.
const REPORT_EVERY: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    let options = Options::parse();
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    println!("seed {seed}: {} minutes, {} clients, three nodes with {}", options.minutes, options.clients, FLAGS.join(" "));
    let mut cluster = Processes::prepare(3, &FLAGS);
    let mut faults = Faults::new(seed, &mut cluster);
    for id in 1..=3 {
        cluster.restart(id);
    }
    cluster.leader();

    let size = Size { writers: options.clients.into(), keys: 64, value: 2048 };
    let load = Load::start(cluster.nodes(), size);
    let (began, mut reported, mut most) = (Instant::now(), Instant::now(), [0; 3]);
    while began.elapsed() < Duration::from_secs(options.minutes * 60) {
        faults.next(&mut cluster, &load);
        if reported.elapsed() >= REPORT_EVERY {
            reported = Instant::now();
            let now = [1, 2, 3].map(|id| cluster.disk_bytes(id) >> 10);
            most = [0, 1, 2].map(|node| now[node].max(most[node]));
            println!("{:>5} s  {:>9} acknowledged   KiB on disk {now:?}", began.elapsed().as_secs(), load.acknowledged());
        }
    }

    faults.end(&mut cluster);
    let (acknowledged, reads) = (load.acknowledged(), load.reads());
    let book = load.stop();
    cluster.settled();
    let mut lost = 0;
    for node in cluster.nodes() {
        let lines = book.lost_at(node);
        lines.iter().for_each(|line| println!("LOST: {line}"));
        lost += lines.len();
    }
    println!("\n{faults}");
    println!("{} MiB written; at most {most:?} KiB on the nodes' disks", (acknowledged * size.value as u64) >> 20);
    println!("{reads} reads, {} keys read back at each of three nodes", book.keys());
    let noticed = faults.all_noticed(&cluster);
    println!("acknowledged {acknowledged}, lost {lost}");
    if lost == 0 && noticed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
