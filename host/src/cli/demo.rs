//! `ukehi demo`: a cluster on this machine, its leader killed in the middle of the work, and a look at whether anything was lost.
#![allow(clippy::print_stdout, reason = "the story is what the command is for")]

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::Advice;

mod cluster;
mod membership;
mod readback;
mod writes;

use cluster::Cluster;
use readback::Loss;
use writes::Writes;

/// How the demo runs.
#[derive(Args, Clone, Debug)]
pub(super) struct DemoOptions {
    /// How many nodes
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=7))]
    nodes: u8,
    /// Shows members come and go instead: from one node to five, and back to three
    #[arg(long, conflicts_with = "nodes")]
    membership: bool,
    /// Keeps everything below this directory, which must be empty or new [default: one that is removed at the end]
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Stays up at the end, for your own experiments
    #[arg(long)]
    hold: bool,
    /// Keys to write
    #[arg(long, hide = true, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    keys: u32,
    /// Clients that write
    #[arg(long, hide = true, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1000))]
    clients: u32,
}

/// The exit code of a program that Ctrl-C ended, as shells know it.
const INTERRUPTED: u8 = 130;

/// How long a step may make no headway.
const PATIENCE: Duration = Duration::from_secs(60);

/// Between two looks at something.
const GLANCE: Duration = Duration::from_millis(20);

/// The command: tells the story, and ends the nodes however it ends.
///
/// # Errors
/// A node can't be started or ended by itself, or a step made no headway. The directory is kept then, and where something was lost.
pub(super) fn command(options: &DemoOptions) -> anyhow::Result<ExitCode> {
    let mut home = Home::new(options.dir.as_deref())?;
    // One thread: the nodes need the processors more.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // What an interruption ends with; from the verdict on, the verdict.
    let code = Cell::new(ExitCode::from(INTERRUPTED));
    let ended = runtime.block_on(async {
        let (nodes, founders) = if options.membership { (membership::NODES, 1) } else { (options.nodes, options.nodes) };
        let cluster = Cluster::new(&home.path, nodes, founders)?;
        let story = async {
            if options.membership { membership::tell(&cluster, options, &code).await } else { tell(&cluster, options, &code).await }
        };
        tokio::select! {
            told = story => told,
            failure = cluster.watch() => Err(failure),
            interrupted = interrupted() => interrupted,
        }
    });
    let ended = ended.map(|()| code.get());
    if !matches!(ended, Ok(code) if code == ExitCode::SUCCESS || code == ExitCode::from(INTERRUPTED)) {
        println!("data and logs are kept in {}", home.keep().display());
    }
    ended
}

async fn tell(cluster: &Cluster, options: &DemoOptions, code: &Cell<ExitCode>) -> anyhow::Result<()> {
    elect(cluster, cluster.len()).await?;
    let writes = Writes::new(cluster.client_addresses(), options.keys)?;
    let fail_over = write(cluster, &writes, options.clients).await?;
    agree(cluster).await?;
    let losses = read_back(cluster, &writes).await?;

    let (rate, latencies) = writes.figures();
    let ms = |quantile| Duration::from_micros(latencies.value_at_quantile(quantile)).as_secs_f64() * 1e3;
    println!();
    println!("throughput    {rate:.0} durable writes/s from {} clients, the fail-over included", options.clients);
    println!("latency       p50 {:.1} ms, p99 {:.1} ms", ms(0.5), ms(0.99));
    println!("fail-over     {:.0} ms from kill -9 to the next acknowledged write", fail_over.as_secs_f64() * 1e3);
    conclude(cluster, options, &writes, &losses, code).await
}

/// Says what was lost, and keeps the cluster up if that is wanted.
async fn conclude(
    cluster: &Cluster,
    options: &DemoOptions,
    writes: &Writes,
    losses: &[readback::Loss],
    code: &Cell<ExitCode>,
) -> anyhow::Result<()> {
    println!("acknowledged {}, lost {}", writes.acknowledged(), readback::count(losses));
    for loss in losses.iter().take(10) {
        println!("  {loss}");
    }
    code.set(if losses.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    if options.hold {
        hold(cluster).await?;
    }
    Ok(())
}

/// Starts the first nodes, and waits until they have a leader.
async fn elect(cluster: &Cluster, count: u8) -> anyhow::Result<()> {
    let bar = spinner("starting");
    let begun = Instant::now();
    for id in 1..=count {
        cluster.start(id)?;
    }
    println_above(
        &bar,
        &format!("✓ started {count} node{}, each its own process, below {}", if count == 1 { "" } else { "s" }, cluster.dir().display()),
    );
    println_above(&bar, &format!("✓ their logs are encrypted with a new key, in {}", cluster.keys().display()));
    bar.set_message("waiting for a leader");
    while !cluster.is_ready().await {
        patient(begun, "no leader was elected")?;
        sleep(GLANCE).await;
    }
    let (leader, term) = leader(cluster).await?;
    bar.finish_and_clear();
    println!("✓ node {leader} leads in term {term}, {:.1} s after the start", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Writes all keys, kills the leader in the middle and starts it again. Gives the time from the kill to the next acknowledged write.
async fn write(cluster: &Cluster, writes: &Writes, clients: u32) -> anyhow::Result<Duration> {
    let bar = bar(writes.keys(), "keys written");
    let work = async { tokio::try_join!(writes.run(clients), kill_leader(cluster, writes, &bar)) };
    let ((), (victim, killed)) = tokio::select! {
        done = work => done?,
        failed = show(writes, &bar) => failed?,
    };
    bar.finish_and_clear();
    println!("✓ wrote {} keys; {} writes had to be tried again", writes.keys(), writes.retries());
    if !cluster.is_running(victim) {
        cluster.start(victim)?;
        println!("✓ started node {victim} again");
    }
    writes.first_success_after_kill().map(|at| at - killed).context("nothing was written after the leader's death")
}

/// Shows how far the writers are, until they are stuck.
async fn show<T>(writes: &Writes, bar: &ProgressBar) -> anyhow::Result<T> {
    loop {
        bar.set_position(writes.acknowledged().into());
        if writes.since_last_success() > PATIENCE {
            bail!("no write was acknowledged for {} s; the last error: {}", PATIENCE.as_secs(), writes.last_error());
        }
        sleep(GLANCE).await;
    }
}

/// Kills the leader when half of the keys are written. A cluster that can't do without it gets it back at once.
async fn kill_leader(cluster: &Cluster, writes: &Writes, bar: &ProgressBar) -> anyhow::Result<(u8, Instant)> {
    while writes.acknowledged() < writes.keys() / 2 {
        sleep(Duration::from_millis(1)).await;
    }
    let (leader, _) = leader(cluster).await?;
    let killed = Instant::now();
    cluster.kill(leader).await?;
    // What is sent from here on can only be answered by a survivor.
    writes.note_kill();
    println_above(bar, &format!("✓ killed node {leader}, the leader, with kill -9 after {} keys", writes.acknowledged()));
    if cluster.len() < 3 {
        cluster.start(leader)?;
        println_above(bar, &format!("✓ started node {leader} again: {} nodes need all of them for a majority", cluster.len()));
    }
    Ok((leader, killed))
}

async fn leader(cluster: &Cluster) -> anyhow::Result<(u8, u64)> {
    let begun = Instant::now();
    loop {
        if let Some(leader) = cluster.leader().await {
            return Ok(leader);
        }
        patient(begun, "no node says that it leads")?;
        sleep(GLANCE).await;
    }
}

async fn agree(cluster: &Cluster) -> anyhow::Result<()> {
    let bar = spinner("waiting for all nodes to catch up");
    let begun = Instant::now();
    loop {
        if let Some(commit) = cluster.common_commit().await {
            bar.finish_and_clear();
            println!("✓ all nodes agree on the commit index {commit}, {:.1} s later", begun.elapsed().as_secs_f64());
            return Ok(());
        }
        patient(begun, "the nodes don't agree on a commit index")?;
        sleep(GLANCE).await;
    }
}

async fn read_back(cluster: &Cluster, writes: &Writes) -> anyhow::Result<Vec<Loss>> {
    let nodes = cluster.running_client_addresses();
    let bar = bar(writes.keys() * u32::try_from(nodes.len()).unwrap_or(u32::MAX), "keys read back");
    let losses = readback::run(&nodes, writes, &bar).await?;
    bar.finish_and_clear();
    println!("✓ read every key back from every node");
    Ok(losses)
}

/// Stays until the demo is interrupted. Nodes may be killed here: that is what it is for.
async fn hold(cluster: &Cluster) -> anyhow::Result<()> {
    let clients = cluster.client_addresses();
    let (Some(first), Some(last)) = (clients.first(), clients.last()) else { return Ok(()) };
    let program = std::env::current_exe().context("this program's own path is unknown")?;
    println!("\nThe cluster stays up until Ctrl-C. In another terminal:");
    println!("  redis-cli -p {} SET greeting hello", first.port());
    println!("  redis-cli -p {} GET greeting", last.port());
    println!("  {} status --admin {}", program.display(), cluster.admin_addresses());
    for node in cluster.descriptions() {
        println!("{node}");
    }
    cluster.tolerate_deaths();
    loop {
        if let Some((id, how)) = cluster.reap() {
            println!("node {id} ended ({how})");
        }
        sleep(GLANCE).await;
    }
}

fn patient(begun: Instant, what: &str) -> anyhow::Result<()> {
    if begun.elapsed() < PATIENCE {
        return Ok(());
    }
    Err(anyhow::anyhow!("{what} within {} s", PATIENCE.as_secs()).context(Advice("see the nodes' logs")))
}

async fn interrupted() -> anyhow::Result<()> {
    let [mut interrupt, mut terminate, mut hang_up] =
        [signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?, signal(SignalKind::hangup())?];
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
    Ok(())
}

/// Where the nodes live: a directory that goes with the demo, unless it was asked for or is worth a look.
struct Home {
    path: PathBuf,
    temporary: Option<TempDir>,
}

impl Home {
    fn new(asked_for: Option<&Path>) -> anyhow::Result<Self> {
        let Some(path) = asked_for else {
            let temporary = tempfile::Builder::new().prefix("ukehi-demo-").tempdir().context("no temporary directory can be made")?;
            return Ok(Self { path: temporary.path().to_owned(), temporary: Some(temporary) });
        };
        std::fs::create_dir_all(path).with_context(|| format!("{} can't be made", path.display()))?;
        let mut entries = std::fs::read_dir(path).with_context(|| format!("{} can't be read", path.display()))?;
        if entries.next().is_some() {
            let error = anyhow::anyhow!("{} is not empty", path.display());
            return Err(error.context(Advice("name a directory that is empty or new: the demo tells its own data from nobody else's")));
        }
        Ok(Self { path: path.to_owned(), temporary: None })
    }

    fn keep(&mut self) -> &Path {
        if let Some(temporary) = self.temporary.take() {
            let _ = temporary.keep();
        }
        &self.path
    }
}

/// Progress is shown on terminals only; lines are for everyone.
fn progress(bar: ProgressBar, style: &str) -> ProgressBar {
    bar.set_draw_target(ProgressDrawTarget::stdout());
    bar.set_style(ProgressStyle::with_template(style).expect("the templates here are valid"));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn spinner(message: &'static str) -> ProgressBar {
    progress(ProgressBar::new_spinner().with_message(message), "{spinner} {msg}")
}

fn bar(length: u32, message: &'static str) -> ProgressBar {
    progress(ProgressBar::new(length.into()).with_message(message), "{spinner} {bar:40} {pos}/{len} {msg}")
}

fn println_above(bar: &ProgressBar, line: &str) {
    bar.suspend(|| println!("{line}"));
}
