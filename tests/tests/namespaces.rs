//! Real processes on machines of their own, as far as the network goes, and a cable that is pulled.

use std::fs::File;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use amaters_cluster::admin::{RoleView, StatusView};
use amaters_cluster::keys::create_key_file;
use amaters_cluster_tests::process::{ukehi, wait_until};
use redis::{Commands, RedisResult};

#[path = "namespaces/network.rs"]
mod network;
use network::{Network, address};

/// Longer than a node keeps a request that comes to nothing (2 s).
const PARTITION: Duration = Duration::from_secs(4);

#[test]
fn a_leader_that_is_cut_off_serves_nothing_and_the_majority_loses_nothing() {
    let network = match Network::new(3) {
        Ok(network) => network,
        Err(reason) => return eprintln!("skipped: network namespaces need root and iproute2: {reason}"),
    };
    let cluster = Machines::start(&network);
    let leader = cluster.leader_among(&[1, 2, 3]);
    let others: Vec<u64> = (1..=3).filter(|id| *id != leader).collect();
    for id in 1..=3 {
        let mut client = cluster.connect(id);
        (0..50).for_each(|n| client.set(format!("before:{id}:{n}"), n).expect("nothing is cut yet"));
    }
    let (mut writer, mut reader, mut local) = (cluster.connect(leader), cluster.connect(leader), cluster.connect(leader));
    let _: () = redis::cmd("READONLY").query(&mut local).expect("reads that may be stale can be had");

    network.cut(leader);
    let cut_at = Instant::now();
    let lost = writer.set::<_, _, ()>("lost", "by the old leader");
    assert!(lost.is_err(), "a write without a majority was acknowledged");
    assert!(reader.get::<_, Option<String>>("lost").is_err(), "nobody tells it that it still leads");
    let successor = cluster.leader_among(&others);
    assert_ne!(successor, leader);
    for &id in &others {
        let mut client = cluster.connect(id);
        (0..50).for_each(|n| client.set(format!("during:{id}:{n}"), n).expect("two of three are a majority"));
    }
    std::thread::sleep(PARTITION.saturating_sub(cut_at.elapsed()));
    assert_eq!(local.get::<_, Option<String>>("lost").expect("a local read needs nobody"), None, "what is not committed is not seen");

    network.heal(leader);
    wait_until("the old leader follows", || (cluster.status(leader)?.leader == cluster.status(successor)?.leader).then_some(()));
    for id in 1..=3 {
        let mut client = cluster.connect(id);
        for (stage, writers) in [("before", &[1, 2, 3][..]), ("during", &others)] {
            for key in writers.iter().flat_map(|writer| (0..50).map(move |n| (n, format!("{stage}:{writer}:{n}")))) {
                assert_eq!(client.get::<_, Option<u32>>(&key.1).expect("all is mended"), Some(key.0), "{} at node {id}", key.1);
            }
        }
        let lost: RedisResult<Option<String>> = client.get("lost");
        assert_eq!(lost.expect("all is mended"), None, "at node {id}: nobody was told that it was written");
    }
}

/// Three nodes, each in a namespace. Their clients are there too.
struct Machines<'a> {
    network: &'a Network,
    directory: tempfile::TempDir,
    nodes: Vec<Child>,
}

impl<'a> Machines<'a> {
    fn start(network: &'a Network) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let keys = directory.path().join("log.keys");
        create_key_file(&keys).expect("the directory is new");
        let mut machines = Self { network, directory, nodes: Vec::new() };
        for id in 1..=3 {
            let mut program = ukehi();
            program.args(["start", "--insecure", "--id", &id.to_string(), "--listen", &format!("{}:7101", address(id)), "--data-dir"]);
            program.arg(machines.directory.path().join(id.to_string())).arg("--key-file").arg(&keys);
            program.args((1..=3).flat_map(|peer| ["--peer".to_owned(), format!("{peer}={}:7101", address(peer))]));
            let log = File::create(machines.log_path(id)).expect("the log can be opened");
            let errors = log.try_clone().expect("a file can be shared");
            let child = network.command(id, &program).stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
            machines.nodes.push(child.expect("`ip netns exec` can be run"));
        }
        machines
    }

    fn status(&self, id: u64) -> Option<StatusView> {
        let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2))).build().new_agent();
        self.network.on(id, || agent.get("http://127.0.0.1:8091/status").call().ok()?.body_mut().read_json().ok())
    }

    /// The leader on which these agree, once they do.
    fn leader_among(&self, nodes: &[u64]) -> u64 {
        wait_until("they agree on a leader among them", || {
            let statuses: Vec<_> = nodes.iter().filter_map(|id| self.status(*id)).collect();
            let leader = statuses.iter().find(|status| status.role == RoleView::Leader)?.id;
            (statuses.len() == nodes.len() && statuses.iter().all(|status| status.leader == Some(leader))).then_some(leader)
        })
    }

    /// A client on a node's machine.
    fn connect(&self, id: u64) -> redis::Connection {
        let client = redis::Client::open("redis://127.0.0.1:6391").expect("the address is valid");
        let connect = || client.get_connection_with_timeout(Duration::from_secs(1)).ok();
        let connection = wait_until("the node takes clients", || self.network.on(id, connect));
        connection.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out can be set");
        connection
    }

    fn log_path(&self, id: u64) -> std::path::PathBuf {
        self.directory.path().join(format!("{id}.log"))
    }
}

impl Drop for Machines<'_> {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // It may have ended by itself.
            let _ = node.kill();
            let _ = node.wait();
        }
        for id in (1..=3).filter(|_| std::thread::panicking()) {
            eprintln!("--- log of node {id}\n{}", std::fs::read_to_string(self.log_path(id)).unwrap_or_default());
        }
    }
}
