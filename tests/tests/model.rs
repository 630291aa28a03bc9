//! All states of small clusters: Raft's properties hold in each of them, and a bug that is put in is found.

use amaters_cluster_core::planted::Bug;
use amaters_cluster_tests::model::{Bounds, Report, explore};

const BOUNDS: Bounds = Bounds {
    nodes: 2,
    terms: 1,
    entries: 1,
    crashes: 1,
    heartbeats: 0,
    timeouts: None,
    writes_at_once: false,
    spares: 0,
    changes: 0,
    bug: None,
};

fn explored(bounds: Bounds) -> Report {
    let report = explore(bounds, 2);
    eprintln!("{report}");
    report
}

#[test]
fn raft_holds_in_all_states_of_two_nodes() {
    for bounds in [BOUNDS, Bounds { crashes: 0, entries: 2, heartbeats: 1, ..BOUNDS }] {
        let report = explored(bounds);
        assert_eq!(report.violation, None);
        assert!(report.states > 10_000, "the bounds leave room for something");
    }
}

#[test]
fn h14_an_acknowledgement_before_the_disk_is_found_in_few_steps() {
    for nodes in [2, 3] {
        let report = explored(Bounds { nodes, crashes: 0, bug: Some(Bug::AckBeforeDurable), ..BOUNDS });
        let Some((property, steps)) = report.violation else { panic!("all holds") };
        assert_eq!(property, "nothing acknowledged is lost");
        assert!(steps.len() < 12, "a short way there is told: {steps:#?}");
    }
}

/// Of three nodes, the last is removed: by way of the joint configuration, in all orders of all messages.
const CHANGE: Bounds = Bounds { nodes: 3, entries: 0, crashes: 0, timeouts: Some(1), writes_at_once: true, changes: 1, ..BOUNDS };

#[test]
fn raft_holds_in_all_states_of_three_nodes_that_change_their_members() {
    let report = explored(CHANGE);
    assert_eq!(report.violation, None);
    assert!(report.states > 100_000, "the bounds leave room for something");
}

#[test]
fn h09_a_majority_of_two_configurations_taken_together_is_found_in_few_steps() {
    let report = explored(Bounds { bug: Some(Bug::MajorityOfUnion), ..CHANGE });
    let Some((property, steps)) = report.violation else { panic!("all holds") };
    assert_eq!(property, "nothing acknowledged is lost");
    assert!(steps.len() < 30, "a short way there is told: {steps:#?}");
}

#[test]
fn h08_a_new_majority_that_is_enough_alone_is_found_in_few_steps() {
    let report = explored(Bounds { nodes: 2, writes_at_once: false, bug: Some(Bug::NewMajorityAlone), ..CHANGE });
    let Some((property, steps)) = report.violation else { panic!("all holds") };
    assert_eq!(property, "nothing acknowledged is lost");
    assert!(steps.len() < 30, "a short way there is told: {steps:#?}");
}
