//! The dissertation's §6.3: linearizable semantics by sessions.

use std::time::Duration;

use amaters_cluster_core::{LogIndex, NodeId, NodeState, Rejection, SessionChange, SessionId, SessionStamp, Token};
use amaters_cluster_tests::cluster::{Cluster, Event, Outcome};

const NODE_1: NodeId = NodeId(1);
const NODE_2: NodeId = NodeId(2);
const NODE_3: NodeId = NodeId(3);
const SECOND: Duration = Duration::from_secs(1);

/// "…if a server receives a command whose serial number has already been executed, it responds immediately without re-executing the request": here at
/// another node than the first attempt, and with what the state machine said then.
#[test]
fn a_repeated_command_gets_the_first_response_and_is_not_carried_out_again() {
    let (mut cluster, session) = cluster_with_session(60_000);
    let first = command(&mut cluster, NODE_2, session, 1);
    let Some(Outcome::Applied(index)) = cluster.outcome(first) else { panic!("it is carried out: {:?}", cluster.outcome(first)) };
    command(&mut cluster, NODE_1, session, 2);
    cluster.take_events();
    let again = command(&mut cluster, NODE_3, session, 1);
    assert_eq!(cluster.outcome(again), Some(Outcome::Replied(index)));
    assert_eq!(replies(&mut cluster), [(again, "1".to_owned())], "what it gave when it was the first command of all");
    for id in cluster.ids() {
        assert_eq!(cluster.member(id).machine.len(), 2, "node {id}");
    }
}

/// The first attempt is in the log of a leader that dies, the second goes to its successor, and both are committed: one is carried out.
#[test]
fn attempts_under_two_leaders_are_carried_out_once() {
    let (mut cluster, session) = cluster_with_session(60_000);
    let first = cluster.propose_in_session(NODE_3, stamp(session, 1), "x");
    cluster.tick(NODE_3);
    cluster.deliver(0); // to the leader, which has it replicated and dies before anybody knows
    cluster.tick(NODE_1);
    cluster.complete_all(NODE_1);
    let to_node_2 = cluster.pool().iter().position(|message| message.envelope.to == NODE_2).expect("entries for node 2");
    cluster.deliver(to_node_2);
    cluster.tick(NODE_2);
    cluster.complete_all(NODE_2);
    cluster.crash(NODE_1, 0);
    while !cluster.pool().is_empty() {
        cluster.drop_message(0);
    }
    cluster.elect(NODE_2);
    let second = command(&mut cluster, NODE_2, session, 1);
    let Some(Outcome::Applied(index)) = cluster.outcome(first) else { panic!("node 3 is told: {:?}", cluster.outcome(first)) };
    assert_eq!(cluster.outcome(second), Some(Outcome::Replied(index)));
    assert_eq!(cluster.member(NODE_2).machine.len(), 1);
}

/// Sessions are replicated state: they are there after a change of leaders…
#[test]
fn a_session_outlives_a_change_of_leaders() {
    let (mut cluster, session) = cluster_with_session(60_000);
    let first = command(&mut cluster, NODE_1, session, 1);
    cluster.crash(NODE_1, 0);
    cluster.elect(NODE_2);
    let again = command(&mut cluster, NODE_3, session, 1);
    let Some(Outcome::Applied(index)) = cluster.outcome(first) else { panic!("it was carried out") };
    assert_eq!(cluster.outcome(again), Some(Outcome::Replied(index)));
    assert!(matches!(outcome_of_command(&mut cluster, NODE_2, session, 2), Outcome::Applied(_)));
}

/// …and after a restart of all nodes from what their disks have.
#[test]
fn a_session_outlives_a_restart_from_the_journal() {
    let (mut cluster, session) = cluster_with_session(60_000);
    let first = command(&mut cluster, NODE_1, session, 1);
    let Some(Outcome::Applied(index)) = cluster.outcome(first) else { panic!("it is carried out") };
    for id in cluster.ids() {
        cluster.crash(id, 0);
    }
    for id in cluster.ids() {
        cluster.restart(id);
    }
    cluster.elect(NODE_3);
    cluster.take_events();
    let again = command(&mut cluster, NODE_1, session, 1);
    assert_eq!(cluster.outcome(again), Some(Outcome::Replied(index)));
    assert_eq!(replies(&mut cluster), [(again, "1".to_owned())]);
}

/// "…servers must agree on when to expire a client's session": by the time that entries carry, whatever their own clocks say.
#[test]
fn sessions_expire_by_the_logs_time_and_on_all_nodes_alike() {
    let (mut cluster, session) = cluster_with_session(5_000);
    let other = open(&mut cluster, 60_000);
    cluster.run(Duration::from_millis(4_700));
    assert!(matches!(outcome_of_command(&mut cluster, NODE_1, session, 1), Outcome::Applied(_)), "it is still there");
    cluster.pass(NODE_3, 24 * 3600 * SECOND); // its clock leaps a day, at a time when it hears from a leader
    cluster.settle();
    cluster.run(4 * SECOND);
    assert_eq!(sessions(&cluster), [2, 2, 2]);
    cluster.run(Duration::from_millis(1_100));
    assert_eq!(sessions(&cluster), [2, 2, 2], "nothing happens without an entry that says how late it is");
    assert!(matches!(outcome_of_command(&mut cluster, NODE_2, other, 1), Outcome::Applied(_)));
    assert_eq!(sessions(&cluster), [1, 1, 1]);
    assert_eq!(
        outcome_of_command(&mut cluster, NODE_1, session, 1),
        Outcome::Rejected(Rejection::SessionExpired),
        "not even as a repetition"
    );
    let images = cluster.ids().into_iter().map(|id| cluster.node(id).and_then(|node| node.sessions().image()));
    let images: Vec<_> = images.map(|image| image.expect("no result is outstanding")).collect();
    assert!(images.iter().all(|image| *image == images[0]), "{images:?}");
}

/// A leader goes on from the time of the last entry in its log, so that the log's time never goes back; while nobody leads, no time passes for sessions.
#[test]
fn the_logs_time_goes_on_under_a_later_leader() {
    let (mut cluster, session) = cluster_with_session(5_000);
    cluster.run(3 * SECOND);
    assert!(matches!(outcome_of_command(&mut cluster, NODE_1, session, 1), Outcome::Applied(_)));
    cluster.crash(NODE_1, 0);
    cluster.pass(NODE_2, 3600 * SECOND);
    cluster.pass(NODE_3, 3600 * SECOND);
    cluster.run(SECOND);
    cluster.leader().expect("one of the two is elected");
    cluster.run(3 * SECOND);
    assert!(matches!(outcome_of_command(&mut cluster, NODE_2, session, 2), Outcome::Applied(_)), "some seconds later, not an hour");
    let log = cluster.node(NODE_2).expect("it is up").log();
    let times: Vec<_> = log.iter_from(LogIndex(1)).filter_map(|entry| entry.time()).map(|time| time.0).collect();
    assert!(times.is_sorted(), "{times:?}");
    assert!((6_000..8_000).contains(times.last().expect("three entries of sessions")), "{times:?}");
}

/// A result that the machine has not given yet holds back the answer to a repetition, and nothing else.
#[test]
fn a_repetition_waits_for_the_first_response() {
    let mut cluster = Cluster::new(1);
    cluster.run(SECOND);
    assert_eq!(cluster.node(NODE_1).map(|node| node.state()), Some(NodeState::Leader));
    let session = open(&mut cluster, 60_000);
    let tick = |cluster: &mut Cluster| {
        cluster.input(NODE_1, amaters_cluster_core::Input::Tick);
        cluster.complete_all(NODE_1);
    };
    let first = cluster.propose_in_session(NODE_1, stamp(session, 1), "x");
    let again = cluster.propose_in_session(NODE_1, stamp(session, 1), "x");
    let other = cluster.propose(NODE_1, "y");
    for _ in 0..4 {
        tick(&mut cluster);
    }
    assert!(matches!((cluster.outcome(first), cluster.outcome(other)), (Some(Outcome::Applied(_)), Some(Outcome::Applied(_)))));
    assert_eq!(cluster.outcome(again), None);
    assert!(cluster.give_results(NODE_1));
    tick(&mut cluster);
    let Some(Outcome::Applied(index)) = cluster.outcome(first) else { panic!("it was carried out") };
    assert_eq!(cluster.outcome(again), Some(Outcome::Replied(index)));
}

/// Node 1 leads, and there is a session that ends after this silence.
fn cluster_with_session(timeout_ms: u64) -> (Cluster, SessionId) {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    let session = open(&mut cluster, timeout_ms);
    (cluster, session)
}

fn open(cluster: &mut Cluster, timeout_ms: u64) -> SessionId {
    let opening = cluster.change_session(NODE_1, SessionChange::Open { timeout_ms });
    cluster.run(Duration::from_millis(100));
    let Some(Outcome::Replied(index)) = cluster.outcome(opening) else { panic!("it is opened: {:?}", cluster.outcome(opening)) };
    SessionId(index.0)
}

fn stamp(session: SessionId, sequence: u64) -> SessionStamp {
    SessionStamp { session, sequence, acknowledged: 1 }
}

fn command(cluster: &mut Cluster, id: NodeId, session: SessionId, sequence: u64) -> Token {
    let token = cluster.propose_in_session(id, stamp(session, sequence), "x");
    cluster.run(Duration::from_millis(100));
    token
}

fn outcome_of_command(cluster: &mut Cluster, id: NodeId, session: SessionId, sequence: u64) -> Outcome {
    let token = command(cluster, id, session, sequence);
    cluster.outcome(token).expect("it has an outcome by now")
}

/// What sessions answered since events were taken last.
fn replies(cluster: &mut Cluster) -> Vec<(Token, String)> {
    let events = cluster.take_events().into_iter();
    let replies = events.filter_map(|event| if let Event::Replied(_, replies) = event { Some(replies) } else { None }).flatten();
    replies.map(|reply| (reply.token, String::from_utf8_lossy(&reply.result).into_owned())).collect()
}

/// How many sessions each node has.
fn sessions(cluster: &Cluster) -> Vec<usize> {
    cluster.ids().into_iter().filter_map(|id| cluster.node(id)).map(|node| node.sessions().len()).collect()
}
