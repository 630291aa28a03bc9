//! Bugs that real implementations had, put in: the default simulation finds each. A simulation that finds nothing may just not look.

use amaters_cluster_core::planted::Bug;
use amaters_cluster_tests::sim::{DEFAULT_SEEDS, Failure, Settings, replay, run, search};

#[test]
fn h01_an_acknowledgement_that_names_the_followers_own_last_entry_is_found() {
    found(Bug::AckNamesOwnLast);
}

#[test]
fn h02_truncation_without_a_conflict_is_found() {
    found(Bug::TruncateAlways);
}

#[test]
fn h03_committing_entries_of_earlier_terms_by_counting_is_found() {
    let failure = found(Bug::CommitEarlierTerms);
    assert!(
        failure.reason.contains("leader completeness") || failure.reason.contains("lost"),
        "figure 8 loses a committed entry: {failure}"
    );
}

#[test]
fn h08_committing_by_the_new_configurations_majority_alone_is_found() {
    found(Bug::NewMajorityAlone);
}

#[test]
fn h09_a_majority_of_two_configurations_taken_together_is_found() {
    found(Bug::MajorityOfUnion);
}

#[test]
fn h12_reads_without_asking_a_majority_are_found() {
    found(Bug::ReadWithoutRound);
    seen_by_clients(Bug::ReadWithoutRound);
}

#[test]
fn h12_reads_before_the_first_commit_are_found() {
    found(Bug::ReadBeforeFirstCommit);
    seen_by_clients(Bug::ReadBeforeFirstCommit);
}

#[test]
fn h12_a_lease_that_outlives_a_transfer_is_found() {
    let failure = found(Bug::KeepLeaseInTransfer);
    assert!(failure.reason.contains("stale read") || failure.reason.starts_with("linearizability: "), "{failure}");
}

#[test]
fn h14_an_acknowledgement_before_the_disk_is_found() {
    found(Bug::AckBeforeDurable);
}

#[test]
fn h50_starts_that_share_their_random_bytes_are_found_in_few_steps() {
    let failure = found(Bug::BootShared);
    assert!(failure.reason.contains("a key and nonce seal two"), "{failure}");
}

#[test]
fn h52_earlier_keys_that_are_forgotten_are_found_in_few_steps() {
    let failure = found(Bug::EarlierKeysForgotten);
    assert!(failure.reason.contains("can't be opened"), "{failure}");
}

#[test]
fn a_version_that_is_retired_before_the_disk_knows_is_found() {
    let failure = found_with(Settings { sealed: Some(true), ..Settings::new(0) }, Bug::KeyRetiredEarly);
    assert!(failure.reason.contains("MissingKey"), "{failure}");
}

/// The clients' history alone gives the bug away.
fn seen_by_clients(bug: Bug) {
    let findings = search(Settings { bug: Some(bug), clients_only: true, ..Settings::new(0) }, DEFAULT_SEEDS, |_| {});
    let Some(failure) = findings.failure else { panic!("{} runs found nothing wrong", findings.runs) };
    assert!(failure.reason.starts_with("linearizability: "), "{failure}");
}

#[test]
fn a_repeated_command_that_is_carried_out_again_is_found() {
    found(Bug::RepeatCarriedOut);
}

#[test]
fn sessions_that_expire_by_a_nodes_own_clock_are_found() {
    found(Bug::ExpireByOwnClock);
}

/// The default runs, or as many others, find the bug; the run that does holds without it, and fails the same way again.
fn found(bug: Bug) -> Failure {
    found_with(Settings::new(0), bug)
}

fn found_with(settings: Settings, bug: Bug) -> Failure {
    let findings = search(Settings { bug: Some(bug), ..settings }, DEFAULT_SEEDS, |_| {});
    let Some(failure) = findings.failure else { panic!("{} runs found nothing wrong", findings.runs) };
    assert!(failure.trace.len() > 1, "the last steps are told");
    let again = replay(failure.settings, 60).expect_err("the same settings give the same run");
    assert_eq!((&again.reason, &again.trace), (&failure.reason, &failure.trace));
    if let Err(failure) = run(Settings { bug: None, ..failure.settings }) {
        panic!("this run fails without the bug: {failure}");
    }
    *failure
}
