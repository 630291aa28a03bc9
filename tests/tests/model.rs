//! All states of small clusters: Raft's properties hold in each of them, and a bug that is put in is found.

use amaters_cluster_core::planted::Bug;
use amaters_cluster_tests::model::{Bounds, Report, explore};

const BOUNDS: Bounds = Bounds { nodes: 2, terms: 1, entries: 1, crashes: 1, heartbeats: 0, bug: None };

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
