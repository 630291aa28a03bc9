//! The hazards of encryption with their bugs put in: each test finds what it is there for.

use amaters_cluster_core::planted::Bug;
use amaters_cluster_tests::planted::seen_to_fail;

use super::*;

#[test]
fn h50_starts_that_share_their_random_bytes_are_found() {
    let test = secrets::h50_no_start_term_or_truncation_brings_a_key_and_nonce_back;
    seen_to_fail(Bug::BootShared, "one key and nonce has sealed two payloads", test);
}

#[test]
fn h51_seals_that_name_no_place_are_found() {
    let test = secrets::h51_a_ciphertext_that_was_moved_with_the_right_links_is_not_applied;
    seen_to_fail(Bug::SealedForNoPlace, "it is not paid twice", test);
}

#[test]
fn h52_earlier_keys_that_are_forgotten_are_found() {
    let test = rotation::h52_what_earlier_keys_have_sealed_is_applied_after_a_restart;
    seen_to_fail(Bug::EarlierKeysForgotten, "read all of it again", test);
}

#[test]
fn h53_a_key_in_a_line_is_found() {
    seen_to_fail(Bug::KeyInLine, "a key is shown", secrets::h53_no_line_of_a_node_and_nothing_that_prints_it_shows_a_key);
}

#[test]
fn h54_links_that_nobody_checks_on_disk_are_found() {
    let test = on_disk::h54_an_edited_moved_or_swapped_entry_on_disk_is_refused;
    seen_to_fail(Bug::LinksUnchecked, "a changed log is refused by its chain", test);
}

#[test]
fn h54_links_that_nobody_checks_on_the_way_are_found() {
    let test = on_its_way::h54_entries_that_were_edited_moved_or_left_out_on_the_way_are_refused;
    seen_to_fail(Bug::LinksUnchecked, "nothing is taken", test);
}

#[test]
fn a_divergence_that_is_overwritten_is_found() {
    let test = divergence::a_follower_whose_chain_disagrees_at_the_same_place_stops_and_truncates_nothing;
    seen_to_fail(Bug::DivergenceOverwritten, "", test);
}

#[test]
fn a_change_of_the_key_that_asks_nobody_is_found() {
    seen_to_fail(Bug::KeyChangedUnasked, "node 3 lacks it", rotation::a_change_waits_for_every_voter_to_hold_the_key);
}

#[test]
fn a_voter_for_which_a_version_is_enough_is_found() {
    let test = rotation::a_voter_that_has_another_key_of_that_version_keeps_the_old_one_in_use;
    seen_to_fail(Bug::KeyVersionIsEnough, "what one seals the others could not read", test);
}

#[test]
fn a_version_that_is_retired_before_the_disk_knows_is_found() {
    let test = rotation::a_version_is_retirable_once_the_disk_has_let_go_of_all_that_it_sealed_and_not_before;
    seen_to_fail(Bug::KeyRetiredEarly, "a crash would bring it back", test);
}
