//! Real processes on a disk that fills up: writes are refused, reads go on, and so do writes once there is space.

use amaters_cluster_tests::load::{Load, Size};
use amaters_cluster_tests::process::{Process, Processes, wait_until};
use amaters_cluster_tests::ram_disk::RamDisk;
use redis::{Connection, RedisResult};

const FLAGS: [&str; 4] = ["--segment-size", "4MiB", "--snapshot-every-bytes", "1MiB"];
/// Room for two segments, the snapshots and one segment more.
const MIB: u32 = 24;
const SIZE: Size = Size { writers: 4, keys: 16, value: 4096 };

/// A cluster with small disks for some of its nodes; none where the user may not mount any.
fn with_small_disks(nodes: u64, small: &[u64]) -> Option<(Processes, Vec<RamDisk>)> {
    let mut cluster = Processes::prepare(nodes, &FLAGS);
    let disks = small.iter().map(|id| RamDisk::mount(&cluster.data_dir(*id), MIB)).collect::<Option<Vec<_>>>();
    if disks.is_none() {
        eprintln!("skipped: a file system in memory can't be mounted by this user");
    }
    (1..=nodes).for_each(|id| cluster.restart(id));
    cluster.leader();
    Some((cluster, disks?))
}

fn set(client: &mut Connection, key: &str) -> RedisResult<()> {
    redis::cmd("SET").arg(key).arg(vec![b'x'; 65_536]).query(client)
}

fn get(client: &mut Connection, key: &str) -> usize {
    redis::cmd("STRLEN").arg(key).query(client).expect("reads go on")
}

/// Overwrites until there is no space.
fn refused(client: &mut Connection) -> String {
    wait_until("a write to be refused", || set(client, "k").err()).to_string()
}

fn disk_is_full(node: &Process) -> bool {
    node.status().is_some_and(|status| status.disk_full)
}

#[test]
fn a_node_alone_whose_disk_is_full_refuses_writes_serves_reads_and_goes_on_by_itself() {
    let Some((mut cluster, disks)) = with_small_disks(1, &[1]) else { return };
    let mut client = cluster.node(1).connect();
    set(&mut client, "before").expect("there is space");
    disks[0].fill();
    let told = refused(&mut client);
    assert!(told.contains("MISCONF") && told.contains("make space"), "{told}");
    assert!(disk_is_full(cluster.node(1)));
    assert_eq!(cluster.node(1).metric("amaters_cluster_disk_full"), Some(1.0));
    assert_eq!(get(&mut client, "before"), 65_536);
    assert!(cluster.log(1).contains("no space for"), "the operator is told what is missing, and where");

    disks[0].free();
    wait_until("writes go on", || set(&mut client, "after").ok());
    assert!(!disk_is_full(cluster.node(1)));

    // Stopped on a full disk, it ends in order, and has everything when it is back.
    disks[0].fill();
    refused(&mut client);
    let (exit, _) = cluster.stop(1);
    assert!(exit.success(), "{}", cluster.log(1));
    disks[0].free();
    cluster.restart(1);
    cluster.leader();
    let mut client = cluster.node(1).connect();
    assert_eq!(["before", "k", "after"].map(|key| get(&mut client, key)), [65_536; 3]);
}

#[test]
fn a_leader_whose_disk_is_full_leaves_the_lead_and_nothing_is_lost() {
    let Some((cluster, disks)) = with_small_disks(3, &[1, 2, 3]) else { return };
    let load = Load::start(cluster.nodes(), SIZE);
    let first = cluster.leader();
    let disk = &disks[usize::try_from(first).expect("it is small") - 1];
    disk.fill();
    wait_until("another node leads", || (disk_is_full(cluster.node(first)) && cluster.leader() != first).then_some(()));
    let so_far = load.acknowledged();
    wait_until("the writers get on", || (load.acknowledged() >= so_far + 2000).then_some(()));
    disk.free();
    wait_until("it has space", || (!disk_is_full(cluster.node(first))).then_some(()));
    let book = load.stop();
    cluster.settled();
    for node in cluster.nodes() {
        assert_eq!(book.lost_at(node), Vec::<String>::new());
    }
}
