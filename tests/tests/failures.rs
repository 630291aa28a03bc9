//! Who counts as failed, and what is told at a change of leader: each change once.

use std::time::Duration;

use amaters_cluster::{
    FailoverConfig, FailoverCoordinator, FailoverEvent, FailureEvent, MemoryNetwork, NodeEvent, NodeState, RaftConfig, RaftNode,
};
use amaters_cluster_core::planted::Bug;
use amaters_cluster_core::{NodeId, Term};
use amaters_cluster_tests::cluster::{Cluster, Event};
use amaters_cluster_tests::planted::seen_to_fail;
use amaters_cluster_tests::process::{Processes, wait_until};

const SECOND: Duration = Duration::from_secs(1);
const NODE_1: NodeId = NodeId(1);
const NODE_2: NodeId = NodeId(2);
const NODE_3: NodeId = NodeId(3);

#[test]
fn h25_one_report_of_the_leaders_failure_is_all_that_a_failover_needs() {
    let mut cluster = led_by_1(3);
    let mut coordinator = FailoverCoordinator::new(FailoverConfig::default()).expect("defaults are valid");
    coordinator.leader_changed(Term(1), NODE_1);
    cluster.crash(NODE_1, 0);
    cluster.run(60 * SECOND);
    let told = judged(&mut cluster, NODE_2);
    assert_eq!(told, [FailureEvent::Failed { peer: NODE_1 }], "in a minute of silence it is reported once");
    let events: Vec<_> = told.into_iter().flat_map(|event| coordinator.peer_changed(event)).collect();
    assert_eq!(
        events.first(),
        Some(&FailoverEvent::LeaderLost { leader: NODE_1, term: Term(1) }),
        "the coordinator waits for no other report"
    );
    assert_eq!(coordinator.leader(), NodeId::NONE);
}

#[test]
fn h25_a_coordinator_that_waits_for_more_reports_is_found() {
    let test = h25_one_report_of_the_leaders_failure_is_all_that_a_failover_needs;
    seen_to_fail(Bug::WaitForMoreReports, "the coordinator waits for no other report", test);
}

#[test]
fn a_failure_and_a_recovery_are_reported_once_by_everybody() {
    let mut cluster = led_by_1(3);
    for _ in 0..3 {
        cluster.crash(NODE_3, 0);
        cluster.run(10 * SECOND);
        cluster.restart(NODE_3);
        cluster.run(10 * SECOND);
        let events = cluster.take_events();
        for observer in [NODE_1, NODE_2] {
            let told = of(&events, observer);
            assert_eq!(told, [FailureEvent::Failed { peer: NODE_3 }, FailureEvent::Recovered { peer: NODE_3 }], "by node {observer}");
        }
        assert_eq!(of(&events, NODE_3), [], "the others were there when it came back");
    }
}

/// Followers have nothing to say to each other: one hears of another's failure from the leader, and from the next leader too.
#[test]
fn a_verdict_outlives_the_leader_that_gave_it() {
    let mut cluster = led_by_1(5);
    cluster.crash(NODE_3, 0);
    cluster.run(5 * SECOND);
    assert_eq!(judged(&mut cluster, NODE_2), [FailureEvent::Failed { peer: NODE_3 }]);
    cluster.crash(NODE_1, 0);
    cluster.run(5 * SECOND);
    let events = cluster.take_events();
    for observer in [NODE_2, NodeId(4), NodeId(5)] {
        assert_eq!(of(&events, observer), [FailureEvent::Failed { peer: NODE_1 }], "by node {observer}: node 3 was reported before");
    }
    cluster.restart(NODE_3);
    cluster.restart(NODE_1);
    cluster.run(5 * SECOND);
    let events = cluster.take_events();
    for observer in [NODE_2, NodeId(4), NodeId(5)] {
        let mut told = of(&events, observer);
        told.sort_by_key(|event| format!("{event:?}"));
        assert_eq!(told, [FailureEvent::Recovered { peer: NODE_1 }, FailureEvent::Recovered { peer: NODE_3 }], "by node {observer}");
    }
}

/// A leader that has just started has yet to find out whom it can reach: nobody recovers by its ignorance.
#[test]
fn a_new_leader_without_memory_changes_no_verdict() {
    let mut cluster = led_by_1(5);
    cluster.crash(NODE_3, 0);
    cluster.run(5 * SECOND);
    cluster.crash(NODE_1, 0);
    cluster.crash(NODE_2, 0);
    cluster.restart(NODE_2);
    cluster.take_events();
    cluster.elect(NODE_2);
    cluster.run(5 * SECOND);
    let events = cluster.take_events();
    for observer in [NodeId(4), NodeId(5)] {
        assert_eq!(of(&events, observer), [FailureEvent::Failed { peer: NODE_1 }], "by node {observer}: node 3 was reported before");
    }
    let failed = |peer| FailureEvent::Failed { peer };
    assert_eq!(of(&events, NODE_2), [failed(NODE_1), failed(NODE_3)], "it finds out");
}

#[test]
fn a_leader_that_lost_its_majority_says_who_is_missing() {
    let mut cluster = led_by_1(3);
    cluster.crash(NODE_2, 0);
    cluster.crash(NODE_3, 0);
    cluster.run(5 * SECOND);
    assert_eq!(judged(&mut cluster, NODE_1), [FailureEvent::Failed { peer: NODE_2 }, FailureEvent::Failed { peer: NODE_3 }]);
    let status = cluster.node(NODE_1).map(|node| node.status(cluster.member(NODE_1).clock)).expect("it is up");
    assert!(status.leader.is_none() && status.peers.iter().all(|peer| peer.failed && peer.suspicion == 32_750), "{status:?}");
}

#[test]
fn a_change_of_leader_is_told_once_by_each_node() {
    let mut cluster = led_by_1(3);
    cluster.crash(NODE_1, 0);
    cluster.run(5 * SECOND);
    let leader = cluster.leader().expect("two of three elect one");
    let events = cluster.take_events();
    for observer in [NODE_2, NODE_3] {
        let told: Vec<_> =
            events.iter().filter_map(|event| if let Event::Follows(id, _, leader) = event { Some((*id, *leader)) } else { None }).collect();
        let told: Vec<_> = told.into_iter().filter(|(id, _)| *id == observer).map(|(_, leader)| leader).collect();
        assert_eq!(told, [NodeId::NONE, leader], "by node {observer}");
    }
}

#[test]
fn those_who_embed_a_node_are_told_where_to_go() {
    let network = MemoryNetwork::default();
    let start = |id: u64| RaftNode::builder(RaftConfig::new(id, vec![1, 2, 3])).start_with(|inlet| Ok(network.join(id.into(), inlet)));
    let mut nodes: Vec<RaftNode> = (1..=3).map(start).collect::<Result<_, _>>().expect("nodes start");
    let leads = |node: &RaftNode| node.status().is_ok_and(|status| status.state == NodeState::Leader);
    let first = wait_until("one of them leads, and the others know", || {
        let leader = nodes.iter().position(leads)?;
        let id = nodes[leader].status().ok()?.id;
        nodes.iter().all(|node| node.status().is_ok_and(|status| status.leader == id)).then_some(leader)
    });
    let ended = nodes.remove(first);
    let old = ended.status().expect("it is there").id;
    let mut events = nodes[0].events();
    ended.shutdown().expect("a leader may end");

    let mut told = Vec::new();
    wait_until("it counts as failed", || {
        told.extend(std::iter::from_fn(|| events.try_recv().ok()));
        told.contains(&NodeEvent::Failure(FailureEvent::Failed { peer: old })).then_some(())
    });
    let failover: Vec<_> =
        told.iter().filter_map(|event| if let NodeEvent::Failover(event) = event { Some(*event) } else { None }).collect();
    // On a busy machine there may be further changes after it.
    let [
        FailoverEvent::LeaderLost { leader, term },
        FailoverEvent::RetryAfter { .. },
        FailoverEvent::LeaderKnown { leader: new, term: later },
        FailoverEvent::Redirect { from, to },
        ..,
    ] = failover[..]
    else {
        panic!("{told:?}")
    };
    assert_eq!((leader, from, to), (old, old, new), "{told:?}");
    assert!(later > term, "{told:?}");
}

#[test]
fn a_killed_follower_is_reported_once_as_failed_and_once_as_back() {
    let mut cluster = Processes::start(3);
    let leader = cluster.leader();
    let follower = leader % 3 + 1;
    let count = |cluster: &Processes, observer: u64, metric: &str| {
        cluster.node(observer).metric(&format!("amaters_cluster_peer_{metric}{{peer=\"{follower}\"}}")).unwrap_or_default()
    };
    let observers: Vec<u64> = (1..=3).filter(|id| *id != follower).collect();
    let all = |cluster: &Processes, holds: &dyn Fn(u64) -> bool| {
        let status_of_all = observers.iter().all(|observer| cluster.node(*observer).status().is_some());
        (status_of_all && observers.iter().all(|observer| holds(*observer))).then_some(())
    };
    // Whoever was up before the others may have missed them.
    wait_until("all are there", || all(&cluster, &|observer| count(&cluster, observer, "failed") == 0.0));
    let before: Vec<_> = observers.iter().map(|observer| count(&cluster, *observer, "failures_total")).collect();

    cluster.kill(follower);
    wait_until("the follower counts as failed", || all(&cluster, &|observer| count(&cluster, observer, "failed") == 1.0));
    wait_until("it has been silent for long", || (count(&cluster, cluster.leader(), "silence_seconds") > 4.0).then_some(()));
    let suspicion = count(&cluster, cluster.leader(), "suspicion");
    assert!(suspicion > 8.0, "{suspicion}");
    let reported = |cluster: &Processes, metric| observers.iter().map(|observer| count(cluster, *observer, metric)).collect::<Vec<_>>();
    let once: Vec<_> = before.iter().map(|count| count + 1.0).collect();
    assert_eq!(reported(&cluster, "failures_total"), once);
    assert_eq!(reported(&cluster, "recoveries_total"), before);

    cluster.restart(follower);
    wait_until("it is back", || all(&cluster, &|observer| count(&cluster, observer, "failed") == 0.0));
    assert_eq!((reported(&cluster, "failures_total"), reported(&cluster, "recoveries_total")), (once.clone(), once));
    assert!(cluster.log(leader).contains(&format!("node {follower} counts as failed")));
}

/// A cluster that node 1 has led for a while.
fn led_by_1(nodes: u64) -> Cluster {
    let mut cluster = Cluster::new(nodes);
    cluster.elect(NODE_1);
    cluster.run(5 * SECOND);
    let events = cluster.take_events();
    assert!(cluster.ids().into_iter().all(|id| of(&events, id).is_empty()), "nobody failed");
    cluster
}

fn judged(cluster: &mut Cluster, observer: NodeId) -> Vec<FailureEvent> {
    of(&cluster.take_events(), observer)
}

/// The verdicts of one node.
fn of(events: &[Event], observer: NodeId) -> Vec<FailureEvent> {
    events
        .iter()
        .filter_map(|event| if let Event::Judged(id, event) = event { (*id == observer).then_some(*event) } else { None })
        .collect()
}
