//! What operators do to real processes, and what their clients see of it.

use std::collections::BTreeMap;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use amaters_cluster_tests::process::{PATIENCE, Process, Processes, ukehi, wait_until};
use redis::{Commands, ConnectionLike};
use rustix::process::Signal;

#[test]
fn any_node_serves_any_client() {
    let cluster = Processes::start(3);
    let _: () = cluster.node(1).connect().set("a", 1).unwrap();
    for node in cluster.nodes() {
        assert_eq!(node.connect().get::<_, u32>("a").unwrap(), 1, "read at node {}", node.id);
    }
}

#[test]
fn the_tools_that_people_have_work() {
    let cluster = Processes::start(3);
    if Command::new("redis-cli").arg("--version").output().is_err() {
        eprintln!("skipped: redis-cli is not installed");
        return;
    }
    let run = |id: u64, arguments: &[&str]| {
        let port = cluster.node(id).client.port().to_string();
        let output = Command::new("redis-cli").args(["-p", &port]).args(arguments).output().expect("redis-cli runs");
        String::from_utf8(output.stdout).expect("redis-cli prints text").trim_end().to_owned()
    };
    assert_eq!(run(1, &["SET", "a", "1"]), "OK");
    assert_eq!(run(3, &["GET", "a"]), "1");
    assert_eq!(run(2, &["-3", "INCRBY", "a", "41"]), "42");
    assert_eq!(run(2, &["GET"]), "ERR wrong number of arguments for 'get' command");
    assert_eq!(run(1, &["--scan"]), "a");
}

/// Each writer counts one key up through one node, and notes what was acknowledged; until told to stop.
fn count_up(node: &Process, key: &str, stop: &AtomicBool) -> Tally {
    let mut tally = Tally::default();
    let mut connection = node.connect();
    while !stop.load(Ordering::Relaxed) {
        match connection.incr::<_, _, u64>(key, 1) {
            Ok(value) => {
                assert!(value > tally.last_acknowledged, "the count went back");
                tally.last_acknowledged = value;
                tally.acknowledged += 1;
            }
            Err(error) if error.code() == Some("CLUSTERDOWN") => {}
            Err(_) => {
                tally.unknown += 1;
                if !connection.is_open() {
                    return tally;
                }
            }
        }
    }
    tally
}

#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    acknowledged: u64,
    last_acknowledged: u64,
    /// Requests whose outcome the client was not told.
    unknown: u64,
}

/// Runs writers at all nodes while `disturb` does its work; then checks that each key counts what was acknowledged: not less, and not more than
/// the requests without an answer can explain.
fn with_writers(cluster: &mut Processes, disturb: impl FnOnce(&mut Processes)) -> BTreeMap<u64, Tally> {
    let stop = AtomicBool::new(false);
    let tallies = std::thread::scope(|scope| {
        let writers: Vec<_> = (cluster.nodes().iter())
            .map(|node| (node.id, node.address()))
            .map(|(id, node)| {
                let stop = &stop;
                (id, scope.spawn(move || count_up(&node, &format!("count-{id}"), stop)))
            })
            .collect();
        disturb(cluster);
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|(id, writer)| (id, writer.join().expect("the writer ends"))).collect::<BTreeMap<_, _>>()
    });
    cluster.settled();
    for (id, tally) in &tallies {
        for node in cluster.nodes() {
            let value: u64 = node.connect().get(format!("count-{id}")).expect("the node answers");
            let allowed = tally.acknowledged..=tally.acknowledged + tally.unknown;
            assert!(allowed.contains(&value), "count-{id} is {value} at node {}, {tally:?}", node.id);
        }
    }
    tallies
}

/// Waits until the writers have got this much further.
fn let_them_write(cluster: &Processes, through: u64, more: u64) {
    let commit = || cluster.node(through).status().map_or(0, |status| status.commit);
    let began = commit();
    wait_until("the writers get on", || (commit() >= began + more).then_some(()));
}

#[test]
fn a_killed_leader_loses_nothing() {
    let mut cluster = Processes::start(3);
    let tallies = with_writers(&mut cluster, |cluster| {
        let leader = cluster.leader();
        let other = leader % 3 + 1;
        let_them_write(cluster, other, 200);
        let mut client = cluster.node(other).connect();
        cluster.kill(leader);
        let killed = Instant::now();
        let _: () = client.set("after", "the leader").expect("another node takes writes");
        assert!(killed.elapsed() < Duration::from_secs(1), "it took {:?}", killed.elapsed());
        let_them_write(cluster, other, 200);
        cluster.restart(leader);
    });
    assert!(tallies.values().all(|tally| tally.acknowledged > 0), "{tallies:?}");
}

#[test]
fn a_killed_follower_is_not_missed_and_catches_up() {
    let mut cluster = Processes::start(3);
    with_writers(&mut cluster, |cluster| {
        let leader = cluster.leader();
        let follower = leader % 3 + 1;
        let_them_write(cluster, leader, 200);
        cluster.kill(follower);
        let_them_write(cluster, leader, 500);
        cluster.restart(follower);
        let_them_write(cluster, leader, 200);
    });
}

#[test]
fn a_leader_that_was_stopped_serves_nothing_stale() {
    let mut cluster = Processes::start(3);
    let leader = cluster.leader();
    let other = leader % 3 + 1;
    let _: () = cluster.node(other).connect().set("epoch", "old").unwrap();
    let mut to_stopped = cluster.node(leader).connect();
    cluster.signal(leader, Signal::STOP);
    wait_until("the others have a new leader", || {
        let status = cluster.node(other).status()?;
        (status.leader.is_some() && status.leader != Some(leader)).then_some(())
    });
    let _: () = cluster.node(other).connect().set("epoch", "new").unwrap();
    cluster.signal(leader, Signal::CONT);
    assert_eq!(to_stopped.get::<_, String>("epoch").unwrap(), "new");
    cluster.settled();
    with_writers(&mut cluster, |cluster| let_them_write(cluster, other, 100));
}

#[test]
fn a_cluster_that_lost_power_has_all_that_it_acknowledged() {
    let mut cluster = Processes::start(3);
    with_writers(&mut cluster, |cluster| {
        let_them_write(cluster, 1, 300);
        for id in 1..=3 {
            cluster.kill(id);
        }
        for id in 1..=3 {
            cluster.restart(id);
        }
        cluster.leader();
    });
}

#[test]
fn a_node_stops_cleanly_when_asked() {
    let mut cluster = Processes::start(3);
    with_writers(&mut cluster, |cluster| {
        let leader = cluster.leader();
        let_them_write(cluster, leader, 100);
        let (status, took) = cluster.stop(leader);
        assert!(status.success(), "{status}");
        assert!(took < Duration::from_secs(2), "it took {took:?}");
        cluster.restart(leader);
    });
}

#[test]
fn a_transfer_under_load_loses_nothing() {
    let mut cluster = Processes::start(3);
    let tallies = with_writers(&mut cluster, |cluster| {
        let admin = cluster.nodes().iter().map(|node| node.admin.to_string()).collect::<Vec<_>>().join(",");
        for to in [2, 3, 1, 2] {
            let_them_write(cluster, 1, 100);
            let before = cluster.leader();
            let output = ukehi().args(["transfer", "--admin", &admin, "--to", &to.to_string()]).output().expect("ukehi runs");
            let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
            assert!(output.status.success() && said == format!("node {to} leads instead of node {before}\n"), "{said}");
            assert_eq!(cluster.leader(), to);
        }
        let_them_write(cluster, 1, 100);
    });
    assert!(tallies.values().all(|tally| tally.acknowledged > 0 && tally.unknown == 0), "{tallies:?}");
}

#[test]
fn a_leader_that_is_asked_to_stop_hands_over_first() {
    let mut cluster = Processes::start(3);
    let leader = cluster.leader();
    let term = cluster.node(leader).status().expect("it answers").term;
    let other = leader % 3 + 1;
    let mut client = cluster.node(other).connect();
    let (status, took) = cluster.stop(leader);
    assert!(status.success() && took < Duration::from_secs(2), "{status} after {took:?}");
    assert!(cluster.log(leader).contains("another node leads"), "it saw its successor");
    let _: () = client.set("after", "the leader").expect("another node leads");
    assert!(cluster.node(other).status().expect("it answers").term > term);
}

#[test]
fn a_node_that_is_cut_off_still_answers_those_who_are_content_with_that() {
    let mut cluster = Processes::start(3);
    let _: () = cluster.node(1).connect().set("a", 1).unwrap();
    cluster.settled();
    cluster.kill(2);
    cluster.kill(3);
    let mut client = cluster.node(1).connect();
    assert_eq!(client.get::<_, u32>("a").expect_err("without a majority").code(), Some("CLUSTERDOWN"));
    let _: () = redis::cmd("READONLY").query(&mut client).unwrap();
    assert_eq!(client.get::<_, u32>("a").unwrap(), 1);
    let _: () = redis::cmd("READWRITE").query(&mut client).unwrap();
    assert_eq!(client.get::<_, u32>("a").expect_err("without a majority").code(), Some("CLUSTERDOWN"));
}

#[test]
fn without_a_majority_clients_are_told_so() {
    let mut cluster = Processes::start(3);
    let survivor = cluster.leader();
    for id in (1..=3).filter(|id| *id != survivor) {
        cluster.kill(id);
    }
    let mut client = cluster.node(survivor).connect();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    wait_until("a write is refused for want of a leader", || {
        let error = client.set::<_, _, ()>("a", 1).expect_err("one of three is no majority");
        (error.code() == Some("CLUSTERDOWN")).then_some(())
    });
    let error = client.get::<_, Option<String>>("a").expect_err("a read without a majority might be stale");
    assert_eq!(error.code(), Some("CLUSTERDOWN"));
}

#[test]
fn a_fourth_node_joins_and_the_first_is_removed_under_load_and_nothing_is_lost() {
    let mut cluster = Processes::start(3);
    let tallies = with_writers(&mut cluster, |cluster| {
        let_them_write(cluster, 2, 200);
        cluster.join(4);
        let_them_write(cluster, 4, 200);
        let (done, said) = cluster.member(&["remove", "1"]);
        assert!(done, "{said}");
        let removed = || cluster.node(1).status().is_some_and(|status| status.removed).then_some(());
        wait_until("the removed node knows that it is", removed);
        assert!(cluster.log(1).contains("this node was removed from the cluster"), "and says so");
        let_them_write(cluster, 2, 200);
        cluster.retire(1);
        // The three that are left bear the loss of one, the new one among those that count.
        cluster.kill(3);
        let_them_write(cluster, 2, 200);
        cluster.restart(3);
    });
    assert!(tallies.values().all(|tally| tally.acknowledged > 0), "{tallies:?}");
    let (done, said) = cluster.member(&["list"]);
    assert!(done && said.contains("voter") && !said.contains("learner"), "{said}");
}

#[test]
fn a_node_that_joined_starts_again_and_the_founders_flags_no_longer_count() {
    let mut cluster = Processes::start(1);
    cluster.join(2);
    cluster.join(3);
    let _: () = cluster.node(3).connect().set("a", 1).unwrap();
    for id in [1, 2, 3] {
        cluster.kill(id);
    }
    for id in [1, 2, 3] {
        cluster.restart(id);
    }
    cluster.settled();
    assert_eq!(cluster.node(2).connect().get::<_, u32>("a").unwrap(), 1);
    assert_eq!(cluster.node(1).status().map(|status| status.members.len()), Some(3));
}

#[test]
fn a_change_that_makes_no_sense_is_refused_with_what_to_do() {
    let cluster = Processes::start(3);
    for (arguments, said) in [
        (&["remove", "9"][..], "the node is no member"),
        (&["add", "2=127.0.0.1:9"], "a member already"),
        (&["promote", "1"], "a member already"),
        (&["add", "9=127.0.0.1:9"], "did not catch up"),
    ] {
        let (done, output) = cluster.member(arguments);
        assert!(!done && output.contains(said), "{arguments:?}: {output}");
    }
    let (done, output) = cluster.member(&["remove", "9"]);
    assert!(done, "the learner that never came goes again: {output}");
}
