//! Where AES is done changes no byte: what one side has sealed the other opens.

use amaters_cluster_tests::process::{Processes, wait_until};
use redis::Commands as _;

fn sealed_by(cluster: &Processes, id: u64) -> String {
    wait_until("its status", || cluster.node(id).status()?.encryption).sealed_by
}

#[test]
fn what_the_host_has_sealed_the_sandbox_opens_and_the_other_way_round() {
    const SNAPSHOTS: [&str; 2] = ["--snapshot-every-entries", "20"];
    let mut cluster = Processes::start_with(3, &SNAPSHOTS);
    for (round, (aes, by)) in [("host", "host"), ("sandbox", "component"), ("host", "host")].into_iter().enumerate() {
        cluster.set_flags(&[&SNAPSHOTS[..], &["--aes", aes]].concat());
        // One after the other: in between nodes of both kinds are one cluster.
        for id in 1..=3 {
            cluster.kill(id);
            cluster.restart(id);
            cluster.leader();
        }
        assert_eq!([1, 2, 3].map(|id| sealed_by(&cluster, id)), [by; 3]);
        let mut client = cluster.node(1).connect();
        for n in 0..30 {
            wait_until("a write", || client.set::<_, _, ()>(format!("{round}-{n}"), format!("value {n}")).ok());
        }
        cluster.settled();
        for id in 1..=3 {
            let mut client = cluster.node(id).connect();
            for (earlier, n) in (0..=round).flat_map(|earlier| (0..30).map(move |n| (earlier, n))) {
                assert_eq!(client.get::<_, String>(format!("{earlier}-{n}")).expect("it is read"), format!("value {n}"), "at node {id}");
            }
        }
    }
}
