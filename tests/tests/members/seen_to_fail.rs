//! The hazards of membership with their bugs put in: each test finds what it is there for.

use amaters_cluster_core::planted::Bug;
use amaters_cluster_tests::planted::seen_to_fail;

use super::*;

#[test]
fn h04_a_change_before_the_leaders_first_commit_is_found() {
    seen_to_fail(Bug::ChangeBeforeOwnCommit, "NotReady", h04_no_change_begins_before_the_leader_has_committed_an_entry_of_its_own_term);
}

#[test]
fn h05_votes_counted_by_an_older_configuration_are_found() {
    seen_to_fail(Bug::ElectByCommittedConfiguration, "Leader", h05_nobody_campaigns_by_an_older_configuration_than_its_log_has);
}

#[test]
fn h06_a_joint_configuration_in_which_nobody_may_stand_is_found() {
    seen_to_fail(Bug::StandInBothAlone, "node 1 wins", h06_each_node_can_win_an_election_in_a_joint_configuration);
}

#[test]
fn h07_a_removed_leader_that_stays_is_found() {
    let test = h07_a_removed_leader_goes_on_until_its_removal_is_committed_without_counting_itself;
    seen_to_fail(Bug::RemovedLeaderStays, "it steps down", test);
}

#[test]
fn h07_a_removed_node_that_never_stands_is_found() {
    let test = h07_a_removed_node_that_alone_has_the_newest_log_may_lead_until_that_is_committed;
    seen_to_fail(Bug::RemovedNeverStands, "None", test);
}

#[test]
fn h08_a_new_majority_that_is_enough_alone_is_found() {
    let test = h08_a_partition_during_a_joint_configuration_commits_nothing_on_either_side_alone;
    seen_to_fail(Bug::NewMajorityAlone, "neither side elects a leader", test);
}

#[test]
fn h13_an_answer_of_an_earlier_life_that_counts_is_found() {
    seen_to_fail(Bug::AnswersOfEarlierLives, "in its new life is not known", h13_an_answer_of_an_earlier_life_counts_for_nothing);
}

#[test]
fn h22_a_membership_that_the_leader_alone_knows_is_found() {
    seen_to_fail(Bug::MembershipOnLeaderAlone, "has it from its log", h22_the_membership_is_in_the_log_and_elections_count_by_it);
}
