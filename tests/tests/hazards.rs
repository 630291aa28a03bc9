//! Bugs that real implementations had, by their rows in the project's list of hazards: each row that is covered so far, with the test that fails
//! when the bug is put in. Some of those tests are here, as stories of a cluster.

use std::fs;
use std::path::Path;
use std::time::Duration;

use amaters_cluster_core::message::{Envelope, HeartbeatRequest, Message};
use amaters_cluster_core::planted::Bug;
use amaters_cluster_core::{GroupId, Input, LogIndex, NodeId, NodeState, PersistentState, Term, Ticket, wire};
use amaters_cluster_tests::cluster::{Cluster, Outcome};
use amaters_cluster_tests::planted::seen_to_fail;

/// The rows that are covered, and one test for each.
const ROWS: &[&str] = &[
    "h01_an_acknowledgement_names_the_last_entry_of_its_request",
    "h02_without_a_conflict_nothing_is_removed",
    "h03_entries_of_earlier_terms_are_not_committed_by_counting",
    "h04_no_change_begins_before_the_leader_has_committed_an_entry_of_its_own_term",
    "h05_nobody_campaigns_by_an_older_configuration_than_its_log_has",
    "h06_each_node_can_win_an_election_in_a_joint_configuration",
    "h07_a_removed_leader_goes_on_until_its_removal_is_committed_without_counting_itself",
    "h08_a_partition_during_a_joint_configuration_commits_nothing_on_either_side_alone",
    "h09_two_configurations_agree_only_by_a_majority_of_each",
    "h10_an_ex_candidate_votes_once_in_its_term",
    "h11_a_later_term_on_the_shorter_log_keeps_nobody_from_being_elected",
    "h12_a_deposed_leader_serves_no_read_from_its_old_state",
    "h13_an_answer_of_an_earlier_life_counts_for_nothing",
    "h14_an_acknowledgement_leaves_once_its_entries_are_durable",
    "h15_nobody_is_told_to_stand_before_its_log_is_durable",
    "h16_a_leader_that_has_compacted_everything_sends_a_snapshot",
    "h17_the_members_come_with_the_snapshot",
    "h18_a_snapshot_is_sent_once",
    "h19_looking_at_the_clock_more_often_does_not_shorten_the_wait",
    "h20_a_node_that_was_cut_off_topples_no_leader",
    "h21_a_deposed_leader_appends_nothing_in_the_term_that_deposed_it",
    "h22_the_membership_is_in_the_log_and_elections_count_by_it",
    "h23_entries_that_arrive_together_and_again_are_applied_once",
    "h24_a_leader_whose_disk_stalls_makes_way",
    "h25_one_report_of_the_leaders_failure_is_all_that_a_failover_needs",
    "h30_a_failed_write_or_sync_is_reported_once_and_nothing_after_it_is_durable",
    "h31_a_failed_write_or_sync_is_never_tried_again",
    "h32_a_torn_tail_is_gone_before_anything_is_added",
    "h33_damage_in_one_segment_leaves_no_hole_in_the_log",
    "h34_a_damaged_length_is_no_end",
    "h35_replacing_entries_is_one_record_so_no_crash_comes_between",
    "h36_a_segments_name_is_durable_before_it_is_used",
    "h37_a_restart_begins_with_the_snapshot_and_a_log_that_starts_after_it",
    "h38_a_read_error_ends_neither_the_journal_nor_goes_unnoticed",
    "h39_a_node_that_lost_its_log_helps_nobody_to_lead_who_lacks_what_it_had",
    "h40_every_flipped_bit_and_every_cut_is_seen",
    "h41_a_second_process_is_refused_and_told_who_holds_the_directory",
    "h50_no_key_and_nonce_repeat_when_indexes_are_written_again_and_nodes_restart",
    "h51_a_ciphertext_opens_in_its_own_place_alone",
    "h52_rotating_twice_leaves_what_earlier_keys_sealed_readable",
    "h53_keys_are_drawn_anew_each_time_and_no_message_holds_one",
    "h54_an_entry_that_was_edited_moved_left_out_or_added_breaks_the_chain",
];

const SECOND: Duration = Duration::from_secs(1);
const NODE_1: NodeId = NodeId(1);
const NODE_2: NodeId = NodeId(2);
const NODE_3: NodeId = NodeId(3);

#[test]
fn every_row_has_its_test_and_every_test_its_row() {
    let tests = names_of_hazard_tests();
    for row in ROWS {
        assert!(tests.iter().any(|test| test == row), "there is no test {row}");
    }
    for test in &tests {
        assert!(ROWS.iter().any(|row| row[..4] == test[..4]), "{test} covers a row that is not in the list");
    }
}

/// A test that nobody has seen fail may be one that can't. So each row of consensus, and of encryption, has a second one, in which the bug is put in and found.
#[test]
fn every_row_of_consensus_and_encryption_was_seen_to_fail() {
    let tests = names_of_hazard_tests();
    for row in (1..=25).chain(50..=54).map(|row| format!("h{row:02}_")) {
        let (found, guards): (Vec<_>, Vec<_>) = tests.iter().filter(|test| test.starts_with(&row)).partition(|test| finds_a_bug(test));
        assert!(!guards.is_empty(), "no test shows that {row} can't happen");
        assert!(!found.is_empty(), "no test puts the bug of {row} in and finds it: {guards:?} may be unable to fail");
    }
}

/// Whether a test's name says that it puts a bug in.
fn finds_a_bug(test: &str) -> bool {
    ["_is_found", "_are_found", "_is_found_in_few_steps"].iter().any(|end| test.ends_with(end))
}

#[test]
fn h10_an_ex_candidate_votes_once_in_its_term() {
    let mut cluster = Cluster::new(3);
    for id in [NODE_1, NODE_2] {
        cluster.pass(id, SECOND);
        cluster.tick(id);
    }
    deliver_all(&mut cluster, |message| matches!(message, Message::PreVoteRequest(_) | Message::PreVoteResponse(_)));
    for id in [NODE_1, NODE_2] {
        assert_eq!(cluster.node(id).map(|node| (node.state(), term(&cluster, id))), Some((NodeState::Candidate, 1)));
        cluster.complete_all(id);
        cluster.tick(id);
    }
    let request = cluster.pool().iter().position(|message| (message.envelope.from, message.envelope.to) == (NODE_2, NODE_1));
    let request = cluster.drop_message(request.expect("node 2 asks node 1 for its vote"));
    let ask = || Input::Receive { sender: NODE_2, envelope: wire::encode_envelope(&request) };

    for _ in 0..2 {
        cluster.input(NODE_1, ask());
        cluster.tick(NODE_1);
    }
    cluster.crash(NODE_1, 0);
    cluster.restart(NODE_1);
    cluster.input(NODE_1, ask());
    cluster.tick(NODE_1);
    assert_eq!(votes(&cluster, NODE_1, NODE_2), [false; 3], "it has voted for itself, and knows that after a crash too");
}

#[test]
fn h10_a_candidate_that_votes_again_is_found() {
    seen_to_fail(Bug::CandidateVotesAgain, "it has voted for itself", h10_an_ex_candidate_votes_once_in_its_term);
}

#[test]
fn h11_a_later_term_on_the_shorter_log_keeps_nobody_from_being_elected() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    cluster.isolate(NODE_3);
    cluster.propose(NODE_1, "x");
    cluster.settle();
    // Node 3 has stood in vain in many terms: it refuses pre-votes for earlier ones, and can't win for want of x.
    let state = PersistentState { current_term: Term(9), voted_for: NODE_3 };
    cluster.member_mut(NODE_3).disk.submit(Ticket(100), vec![wire::hard_state_operation(&state)]);
    cluster.crash(NODE_3, 1);
    cluster.restart(NODE_3);
    cluster.crash(NODE_1, 0);
    cluster.heal();

    cluster.run(3 * SECOND);
    assert_eq!(cluster.leader(), Some(NODE_2), "only node 2 has x");
    assert!(term(&cluster, NODE_2) > 9, "it learned of the later term");
    assert_eq!(commands(&cluster, NODE_3), ["x"]);
}

#[test]
fn h11_a_term_that_is_never_learned_is_found() {
    seen_to_fail(Bug::TermNeverLearned, "only node 2 has x", h11_a_later_term_on_the_shorter_log_keeps_nobody_from_being_elected);
}

#[test]
fn h12_a_deposed_leader_serves_no_read_from_its_old_state() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    cluster.propose(NODE_1, "old");
    cluster.settle();
    cluster.isolate(NODE_1);
    cluster.elect(NODE_2);
    let write = cluster.propose(NODE_2, "new");
    cluster.settle();
    let Some(Outcome::Applied(written)) = cluster.outcome(write) else { panic!("the majority has it") };

    assert_eq!(cluster.node(NODE_1).map(|node| node.state()), Some(NodeState::Leader), "it has not noticed yet");
    let read = cluster.read(NODE_1);
    cluster.settle();
    assert_eq!(cluster.outcome(read), None, "nobody confirms that it leads");

    cluster.heal();
    cluster.run(SECOND);
    let Some(Outcome::Served(seen)) = cluster.outcome(read) else { panic!("the new leader confirms, got {:?}", cluster.outcome(read)) };
    assert!(seen >= written, "the read sees entry {seen}, the write before it was entry {written}");
}

#[test]
fn h20_a_node_that_was_cut_off_topples_no_leader() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    cluster.isolate(NODE_3);
    cluster.run(10 * SECOND);
    assert_eq!(term(&cluster, NODE_3), 1, "it asks for pre-votes, and nobody answers");
    cluster.heal();
    cluster.run(2 * SECOND);
    for id in cluster.ids() {
        assert_eq!(cluster.node(id).map(|node| (node.leader(), term(&cluster, id))), Some((NODE_1, 1)), "as node {id} sees it");
    }
}

#[test]
fn h20_elections_without_a_pre_vote_are_found() {
    seen_to_fail(Bug::NoPreVote, "it asks for pre-votes, and nobody answers", h20_a_node_that_was_cut_off_topples_no_leader);
}

#[test]
fn h21_a_deposed_leader_appends_nothing_in_the_term_that_deposed_it() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    cluster.settle();
    let before = cluster.node(NODE_1).map(|node| node.log().last());
    // The command and the news of the next term come in one burst, in either order.
    let heartbeat = HeartbeatRequest {
        term: Term(2),
        session: 1,
        commit_index: LogIndex(0),
        round: 0,
        sent_at: None,
        failed: Vec::new(),
        doubtful: Vec::new(),
        key: None,
    };
    let (early, message) = (cluster.propose(NODE_1, "before the news"), Message::HeartbeatRequest(heartbeat));
    let envelope = wire::encode_envelope(&Envelope { group: GroupId(0), from: NODE_2, to: NODE_1, message });
    cluster.input(NODE_1, Input::Receive { sender: NODE_2, envelope });
    let late = cluster.propose(NODE_1, "after the news");
    cluster.tick(NODE_1);
    assert_eq!(cluster.node(NODE_1).map(|node| node.log().last()), before, "who does not lead appends nothing");
    assert_eq!((term(&cluster, NODE_1), cluster.outcome(early), cluster.outcome(late)), (2, None, None), "they wait for a leader");
}

#[test]
fn h21_leading_by_what_was_so_before_is_found() {
    seen_to_fail(
        Bug::LeadByEarlierLook,
        "who does not lead appends nothing",
        h21_a_deposed_leader_appends_nothing_in_the_term_that_deposed_it,
    );
}

#[test]
fn h23_entries_that_arrive_together_and_again_are_applied_once() {
    let mut cluster = Cluster::new(3);
    cluster.elect(NODE_1);
    // Entries, acknowledgements and news of the commit index pile up, each of them twice, and come in one burst without a tick.
    for pair in [["a", "b"], ["c", "d"]] {
        for command in pair {
            cluster.propose(NODE_1, command);
        }
        for _ in 0..4 {
            cluster.tick_all();
            for id in cluster.ids() {
                cluster.complete_all(id);
            }
            for position in 0..cluster.pool().len() {
                cluster.duplicate(position);
            }
            for _ in 0..cluster.pool().len() {
                cluster.deliver(0);
            }
        }
    }
    cluster.run(SECOND);
    for id in cluster.ids() {
        assert_eq!(commands(&cluster, id), ["a", "b", "c", "d"], "node {id} applied each once");
    }
}

#[test]
fn h23_commands_that_are_applied_twice_when_they_come_together_are_found() {
    seen_to_fail(Bug::ApplyTogetherTwice, "applied each once", h23_entries_that_arrive_together_and_again_are_applied_once);
}

fn deliver_all(cluster: &mut Cluster, wanted: impl Fn(&Message) -> bool) {
    while let Some(position) = cluster.pool().iter().position(|message| wanted(&message.envelope.message)) {
        cluster.deliver(position);
        cluster.tick_all();
    }
}

/// The answers under way to a candidate's requests for a vote.
fn votes(cluster: &Cluster, voter: NodeId, candidate: NodeId) -> Vec<bool> {
    let between = cluster.pool().iter().filter(|message| (message.envelope.from, message.envelope.to) == (voter, candidate));
    between
        .filter_map(|message| match &message.envelope.message {
            Message::RequestVoteResponse(response) => Some(response.vote_granted),
            _ => None,
        })
        .collect()
}

fn term(cluster: &Cluster, id: NodeId) -> u64 {
    cluster.node(id).map_or(0, |node| node.persistent_state().current_term.0)
}

/// What a node has applied since it started.
fn commands(cluster: &Cluster, id: NodeId) -> Vec<String> {
    cluster.member(id).machine.iter().map(|committed| String::from_utf8_lossy(&committed.command).into_owned()).collect()
}

/// The tests of the workspace whose names begin with a row.
fn names_of_hazard_tests() -> Vec<String> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut names = Vec::new();
    for folder in ["core", "host/src", "host/tests", "tests/src", "tests/tests"] {
        collect(&workspace.join(folder), &mut names);
    }
    names
}

fn collect(folder: &Path, names: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for path in entries.map(|entry| entry.expect("the workspace can be read").path()) {
        if path.is_dir() {
            collect(&path, names);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("sources are text");
            names.extend(source.lines().filter_map(hazard_test).map(str::to_owned));
        }
    }
}

/// The name of the function that a line begins, if it is a row's test.
fn hazard_test(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let (name, _) = line.strip_prefix("pub(super) ").unwrap_or(line).strip_prefix("fn ")?.split_once('(')?;
    let row = name.strip_prefix('h')?.as_bytes();
    (row.len() > 3 && row[..2].iter().all(u8::is_ascii_digit) && row[2] == b'_').then_some(name)
}
