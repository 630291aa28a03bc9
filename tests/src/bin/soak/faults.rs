//! What goes wrong, one thing after the other, and never on more than one node at a time: a minority of three.

use std::collections::BTreeMap;
use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use amaters_cluster_tests::damage::{flip_in_newest_snapshot, flip_in_wal};
use amaters_cluster_tests::load::Load;
use amaters_cluster_tests::process::{Processes, wait_until};
use amaters_cluster_tests::ram_disk::RamDisk;
use fastrand::Rng;
use rustix::process::Signal;

/// The node whose disk can be filled, and the size of that disk.
const SMALL_DISK: (u64, u32) = (3, 96);

const DISK_FULL: &str = "amaters_cluster_disk_full";

const DAMAGED_JOURNAL: &str = "damaged journals";

pub(crate) struct Faults {
    random: Rng,
    disk: Option<RamDisk>,
    counts: BTreeMap<&'static str, u64>,
    /// Between a fault's end and the time when the node was part of the cluster again.
    slowest_return: Duration,
}

impl Faults {
    pub(crate) fn new(seed: u64, cluster: &mut Processes) -> Self {
        let (id, mib) = SMALL_DISK;
        let disk = RamDisk::mount(&cluster.data_dir(id), mib);
        if disk.is_none() {
            println!("no disk is filled in this run: a file system in memory can't be mounted by this user");
        }
        Self { random: Rng::with_seed(seed), disk, counts: BTreeMap::new(), slowest_return: Duration::ZERO }
    }

    /// Lets the cluster work for a moment, and then has something happen to a node. Returns when the node is back.
    pub(crate) fn next(&mut self, cluster: &mut Processes, load: &Load) {
        thread::sleep(Duration::from_millis(self.random.u64(300..2000)));
        let id = self.random.u64(1..=3);
        match self.random.u32(..20) {
            0..8 => self.kill(cluster, id),
            8..12 => self.stop_and_go(cluster, id),
            12..14 => self.restart(cluster, id),
            14..17 => self.damage_wal(cluster, id),
            17..18 => self.damage_snapshot(cluster, id),
            _ => self.fill_disk(cluster),
        }
        let before = load.acknowledged();
        wait_until("writes go on", || (load.acknowledged() > before).then_some(()));
    }

    /// Whether each damaged journal was noticed and repaired, by what the nodes have logged; prints both counts.
    pub(crate) fn all_noticed(&self, cluster: &Processes) -> bool {
        let damaged = self.counts.get(DAMAGED_JOURNAL).copied().unwrap_or_default();
        let repaired: usize = (1..=3).map(|id| cluster.log(id).matches("it repairs itself from the others").count()).sum();
        println!("{damaged} journals damaged, {repaired} repaired");
        repaired as u64 == damaged
    }

    /// Leaves the cluster whole.
    pub(crate) fn end(&mut self, cluster: &mut Processes) {
        for id in 1..=3 {
            if !cluster.is_running(id) {
                cluster.restart(id);
            }
        }
    }

    fn kill(&mut self, cluster: &mut Processes, id: u64) {
        cluster.kill(id);
        self.moment();
        self.come_back(cluster, id, "kill -9");
    }

    fn restart(&mut self, cluster: &mut Processes, id: u64) {
        cluster.stop(id);
        self.come_back(cluster, id, "restarts in order");
    }

    fn stop_and_go(&mut self, cluster: &mut Processes, id: u64) {
        cluster.signal(id, Signal::STOP);
        thread::sleep(Duration::from_millis(self.random.u64(50..4000)));
        cluster.signal(id, Signal::CONT);
        self.took_part(cluster, id, "SIGSTOP and SIGCONT");
    }

    fn damage_wal(&mut self, cluster: &mut Processes, id: u64) {
        cluster.kill(id);
        let place = self.random.f64();
        let damaged = flip_in_wal(&cluster.data_dir(id), place).is_some();
        self.moment();
        self.come_back(cluster, id, if damaged { DAMAGED_JOURNAL } else { "kill -9" });
    }

    fn damage_snapshot(&mut self, cluster: &mut Processes, id: u64) {
        cluster.kill(id);
        let place = self.random.f64();
        let damaged = flip_in_newest_snapshot(&cluster.data_dir(id), place).is_some();
        self.come_back(cluster, id, if damaged { "damaged snapshots" } else { "kill -9" });
    }

    /// The node waits, and goes on by itself once there is space.
    fn fill_disk(&mut self, cluster: &mut Processes) {
        let (id, _) = SMALL_DISK;
        let Some(disk) = &self.disk else { return };
        disk.fill();
        thread::sleep(self.random.u32(1..=8) * Duration::from_secs(1));
        let noticed = cluster.node(id).metric(DISK_FULL) == Some(1.0);
        disk.free();
        self.took_part(cluster, id, if noticed { "full disks" } else { "full disks that nobody needed" });
    }

    fn moment(&mut self) {
        thread::sleep(Duration::from_millis(self.random.u64(..1500)));
    }

    fn come_back(&mut self, cluster: &mut Processes, id: u64, what: &'static str) {
        cluster.restart(id);
        self.took_part(cluster, id, what);
    }

    fn took_part(&mut self, cluster: &mut Processes, id: u64, what: &'static str) {
        let began = Instant::now();
        wait_until(&format!("node {id} takes part again after {what}"), || {
            let status = cluster.node(id).status()?;
            let last = cluster.nodes().iter().filter_map(|node| Some(node.status()?.commit)).max()?;
            // Close behind is enough: the others write on meanwhile.
            (!status.repairing && status.leader.is_some() && status.applied + 1000 > last).then_some(())
        });
        self.slowest_return = self.slowest_return.max(began.elapsed());
        *self.counts.entry(what).or_default() += 1;
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.counts.iter().map(|(what, count)| format!("{count} {what}")).collect::<Vec<_>>().join(", ");
        write!(f, "{all}; a node took part again after {:.1} s at most", self.slowest_return.as_secs_f64())
    }
}
