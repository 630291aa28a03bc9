//! How long writes stop when the leader changes, for want of one or because it is told to hand over; and when the members change.
//!
//! Clients write in closed loops, spread over three nodes, each going on at another node when its own is gone. An outage is the longest time in which
//! no write of any client was acknowledged, from the event to a second after it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use amaters_cluster_tests::process::{Process, Processes};
use clap::ValueEnum;

use crate::Spread;

/// What happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Event {
    /// The leader's process is killed
    Kill,
    /// The leader is asked to hand over
    Transfer,
    /// A fourth node starts, catches up and becomes a voter; then it is removed again
    Member,
}

impl Event {
    /// What a run of it is made of: each has an outage of its own.
    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Kill => &["the leader is killed"],
            Self::Transfer => &["the leader hands over"],
            Self::Member => &["a voter is added", "a voter is removed"],
        }
    }
}

/// Between two events: what one has upset is calm again before the next.
const CALM: Duration = Duration::from_secs(1);
/// The time after an event in which its outage is still looked for.
const WATCH: Duration = Duration::from_secs(1);
/// The longest wait for a connection or a reply, before a client turns to another node.
const PATIENCE: Duration = Duration::from_millis(1000);

/// Runs the events under load, and prints each outage and their median.
pub(crate) fn measure(event: Event, times: u32, clients: u32) -> anyhow::Result<()> {
    let mut cluster = Processes::start(3);
    let pulse = Pulse::new();
    let stop = AtomicBool::new(false);
    let nodes: Vec<Process> = cluster.nodes().iter().map(Process::address).collect();
    let outages = thread::scope(|scope| {
        for number in 0..clients as usize {
            let (nodes, pulse, stop) = (&nodes, &pulse, &stop);
            scope.spawn(move || write_on(nodes, number, pulse, stop));
        }
        let _ends = Ends(&stop);
        (1..=times).map(|run| happen(event, run, &mut cluster, &pulse)).collect::<anyhow::Result<Vec<_>>>()
    })?;
    println!();
    for (at, part) in event.parts().iter().enumerate() {
        let mut of_part: Vec<f64> = outages.iter().map(|outages| outages[at].as_secs_f64() * 1e3).collect();
        let Spread { median, most, .. } = Spread::of(&mut of_part);
        println!("{part}, {clients} clients: writes stopped for {median:.0} ms at the median of {times}, and for {most:.0} ms at most");
    }
    Ok(())
}

/// Tells the clients to stop, whatever becomes of the measurement: it waits for them.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Lets it happen once, and gives the outage of each part.
fn happen(event: Event, run: u32, cluster: &mut Processes, pulse: &Pulse) -> anyhow::Result<Vec<Duration>> {
    thread::sleep(CALM);
    let leader = cluster.leader();
    let outages = match event {
        Event::Kill => {
            let outage = pulse.during(|| {
                cluster.kill(leader);
                Ok(())
            })?;
            cluster.restart(leader);
            vec![outage]
        }
        Event::Transfer => vec![pulse.during(|| transfer(cluster.node(leader)))?],
        Event::Member => {
            let newcomer = 3 + u64::from(run); // an id that no node has had
            let added = pulse.during(|| {
                cluster.join(newcomer);
                Ok(())
            })?;
            thread::sleep(CALM);
            let removed = pulse.during(|| remove(cluster, newcomer))?;
            cluster.retire(newcomer);
            vec![added, removed]
        }
    };
    let milliseconds: Vec<_> = outages.iter().map(|outage| format!("{:>7.0} ms", outage.as_secs_f64() * 1e3)).collect();
    println!("{run:>3}  {}", milliseconds.join("  "));
    Ok(outages)
}

fn remove(cluster: &Processes, node: u64) -> anyhow::Result<()> {
    let (done, said) = cluster.member(&["remove", &node.to_string()]);
    anyhow::ensure!(done, "node {node} was not removed: {said}");
    Ok(())
}

fn transfer(leader: &Process) -> anyhow::Result<()> {
    let agent = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).build().new_agent();
    agent.post(format!("http://{}/transfer", leader.admin)).send_empty()?;
    Ok(())
}

/// One client's life.
fn write_on(nodes: &[Process], number: usize, pulse: &Pulse, stop: &AtomicBool) {
    for at in (0..nodes.len()).cycle().skip(number) {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        // Whatever goes wrong here, there are other nodes.
        let _ = write_at(&nodes[at], number, pulse, stop);
        thread::sleep(Duration::from_millis(1)); // a node that is gone refuses at once
    }
}

fn write_at(node: &Process, number: usize, pulse: &Pulse, stop: &AtomicBool) -> redis::RedisResult<()> {
    let client = redis::Client::open(format!("redis://{}", node.client))?;
    let mut connection = client.get_connection_with_timeout(PATIENCE)?;
    connection.set_read_timeout(Some(PATIENCE))?;
    let value = [b'x'; 128];
    while !stop.load(Ordering::Relaxed) {
        redis::cmd("SET").arg(format!("key:{number}")).arg(&value[..]).exec(&mut connection)?;
        pulse.beat();
    }
    Ok(())
}

/// Sees the pauses between the acknowledgements of all clients.
struct Pulse {
    start: Instant,
    /// When the last one came, in nanoseconds since the start.
    last: AtomicU64,
    longest: AtomicU64,
}

impl Pulse {
    fn new() -> Self {
        Self { start: Instant::now(), last: AtomicU64::new(0), longest: AtomicU64::new(0) }
    }

    fn beat(&self) {
        let now = self.now();
        let last = self.last.fetch_max(now, Ordering::Relaxed);
        self.longest.fetch_max(now.saturating_sub(last), Ordering::Relaxed);
    }

    /// The longest pause while something happens, and for a while after it.
    fn during(&self, happen: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<Duration> {
        self.begin();
        happen()?;
        thread::sleep(WATCH);
        Ok(self.longest_pause())
    }

    /// Forgets the pauses so far.
    fn begin(&self) {
        self.longest.store(0, Ordering::Relaxed);
    }

    /// The longest pause since then, one that still lasts included.
    fn longest_pause(&self) -> Duration {
        let lasting = self.now().saturating_sub(self.last.load(Ordering::Relaxed));
        Duration::from_nanos(lasting.max(self.longest.load(Ordering::Relaxed)))
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_pause_is_seen_even_while_it_lasts() {
        let pulse = Pulse::new();
        thread::sleep(Duration::from_millis(20));
        pulse.beat();
        pulse.begin();
        pulse.beat();
        assert!(pulse.longest_pause() < Duration::from_millis(20), "pauses before the beginning don't count");
        thread::sleep(Duration::from_millis(20));
        assert!(pulse.longest_pause() >= Duration::from_millis(20));
    }
}
