//! Rows of the list of hazards that sealing has an answer to.

use std::collections::HashSet;

use super::*;
use crate::rng::Rng;

const ZEROS: [u8; 32] = [0; 32];

/// Sealed zeros are the key stream itself: were a key and nonce used twice, the same 32 bytes would come twice, whatever place they are bound to.
#[derive(Default)]
struct KeyStreams(HashSet<Vec<u8>>);

impl KeyStreams {
    fn note(&mut self, sealed_zeros: &[u8], what: &str) {
        let tag = sealed_zeros.len() - 16;
        assert!(self.0.insert(sealed_zeros[tag - ZEROS.len()..tag].to_vec()), "{what}: a key and nonce were used twice");
    }
}

#[test]
fn h50_no_key_and_nonce_repeat_when_indexes_are_written_again_and_nodes_restart() {
    for seed in 0..20 {
        let mut rng = Rng::new(seed);
        let mut streams = KeyStreams::default();
        let mut boot = || {
            let (a, b) = (rng.next(), rng.next());
            Boot([a.to_be_bytes(), b.to_be_bytes()].concat().try_into().expect("16 bytes"))
        };
        let boots: Vec<Boot> = (0..8).map(|_| boot()).collect();
        let mut term = 0;
        for boot in boots {
            // Groups of one process may share a boot, and nodes might by mistake: each still has keys of its own.
            for (node, group) in [(1, 0), (1, 1), (2, 0)] {
                let keys = ring(&[(VERSION_1, 0xa1), (VERSION_2, 0xa2)]);
                let mut encryptor = EntryEncryptor::new(log("orders", group), NodeId(node), boot, keys).expect("sound");
                encryptor.use_version(VERSION_1).expect("its key is there");
                let mut index = 1;
                for _ in 0..60 {
                    let place = id(term, index);
                    match rng.between(0, 9) {
                        // A later leader's log is shorter: the same indexes are written again.
                        0 => (term, index) = (term + 1, rng.between(1, index)),
                        1 => encryptor.use_version(KeyVersion(u32::try_from(rng.between(1, 2)).expect("small"))).expect("its key is there"),
                        2 => {
                            let mut sealer = encryptor.snapshot_sealer(place).expect("sealed");
                            for last in [false, false, true] {
                                streams.note(&sealer.seal(0, last, &ZEROS).expect("sealed"), "a frame");
                            }
                        }
                        _ => {
                            streams.note(encryptor.seal(place, &ZEROS).expect("sealed").as_bytes(), "a payload");
                            index += rng.between(0, 1);
                        }
                    }
                }
            }
        }
        assert!(streams.0.len() > 1000, "seed {seed} sealed {}", streams.0.len());
    }
}

/// The same disk is used again, with its old log: nothing on it decides the next nonce.
#[test]
fn h50_a_restart_from_an_older_disk_repeats_no_key_and_nonce() {
    let mut streams = KeyStreams::default();
    for boot in 1..=5 {
        let mut encryptor = encryptor(1, boot);
        for index in 1..=10 {
            streams.note(encryptor.seal(id(3, index), &ZEROS).expect("sealed").as_bytes(), "a payload");
        }
    }
}

#[test]
fn h50_a_start_without_random_bytes_is_refused_and_a_sub_key_ends_before_it_has_sealed_too_much() {
    let refused = EntryEncryptor::new(log("orders", 0), NodeId(1), Boot([0; 16]), KeyRing::default());
    assert_eq!(refused.err(), Some(SealingError::NoRandomness));

    let mut encryptor = encryptor(1, 1);
    encryptor.set_blocks(MAX_BLOCKS - 4);
    let last = encryptor.seal(id(1, 1), &[7; 33]).expect("3 blocks, and one for the tag");
    let next = encryptor.seal(id(1, 2), b"x").expect("with the next sub-key");
    assert_ne!(last.header().boot, next.header().boot);
    assert_eq!(next.header().counter, 1);
    let mut other = super::encryptor(2, 2);
    assert_eq!(other.open(id(1, 1), &last).expect("of the first sub-key"), vec![7; 33]);
    assert_eq!(other.open(id(1, 2), &next).expect("of the next one"), "x");
}

#[test]
fn h51_a_ciphertext_opens_in_its_own_place_alone() {
    let place = id(4, 17);
    let sealed = encryptor(1, 1).seal(place, b"move me").expect("sealed");
    for elsewhere in [id(4, 18), id(4, 16), id(5, 17), id(17, 4)] {
        let error = encryptor(2, 2).open(elsewhere, &sealed).expect_err("not its place");
        assert_eq!(error, SealingError::EntryTag { id: elsewhere, version: VERSION_1 });
    }
    for other in [log("orders", 1), log("order", 0), log("orders2", 0), log("", 0)] {
        let error = encryptor_of(other.clone(), 2, 2).open(place, &sealed).expect_err("not its log");
        assert_eq!(error, SealingError::EntryTag { id: place, version: VERSION_1 }, "{other:?}");
    }
    assert_eq!(encryptor(2, 2).open(place, &sealed).expect("at home"), "move me");
}

/// Even where two places share a sub-key and a nonce is forced upon both, the associated data tells them apart: neither guard stands on the other.
#[test]
fn h51_the_associated_data_names_cluster_group_term_index_and_version() {
    let bound = |log: &LogName, version, place| {
        let mut associated = Vec::new();
        log.bind(1, version, place, &[], &mut associated);
        associated
    };
    let places = [
        bound(&log("a", 0), VERSION_1, id(1, 1)),
        bound(&log("b", 0), VERSION_1, id(1, 1)),
        bound(&log("a", 1), VERSION_1, id(1, 1)),
        bound(&log("a", 0), VERSION_2, id(1, 1)),
        bound(&log("a", 0), VERSION_1, id(2, 1)),
        bound(&log("a", 0), VERSION_1, id(1, 2)),
        bound(&log("a\0", 0), VERSION_1, id(1, 1)),
    ];
    assert_eq!(places.iter().collect::<HashSet<_>>().len(), places.len());
}

#[test]
fn h52_rotating_twice_leaves_what_earlier_keys_sealed_readable() {
    let mut leader = encryptor(1, 1);
    leader.add_key(KeyVersion(3), key(0xa3)).expect("new");
    let mut sealed = Vec::new();
    for version in 1..=3 {
        leader.use_version(KeyVersion(version)).expect("its key is there");
        for index in 1..=3 {
            let place = id(u64::from(version), index);
            sealed.push((place, leader.seal(place, format!("{place}").as_bytes()).expect("sealed")));
        }
    }
    assert_eq!(sealed.iter().map(|(_, sealed)| sealed.header().version.0).collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2, 3, 3, 3]);

    // The follower has just started, and has seen none of it.
    let mut follower = encryptor(2, 2);
    for (place, sealed) in &sealed[..6] {
        assert_eq!(follower.open(*place, sealed).expect("an older version"), format!("{place}"));
    }
    let (place, last) = &sealed[8];
    let error = follower.open(*place, last).expect_err("it lacks the key");
    assert_eq!(error.to_string(), "version 3 of the log key is needed, and only 1, 2 is there");
    follower.add_key(KeyVersion(3), key(0xa3)).expect("new");
    assert_eq!(follower.open(*place, last).expect("it has the key now"), format!("{place}"));

    assert!(follower.remove_key(KeyVersion(2)) && !follower.remove_key(VERSION_1), "the version that seals stays");
    assert!(matches!(follower.open(sealed[3].0, &sealed[3].1), Err(SealingError::UnknownVersion(_))), "no sub-key of it is left");
}

#[test]
fn h54_an_entry_that_was_edited_moved_left_out_or_added_breaks_the_chain() {
    let chain = super::chain::Written::entries(1..=6);
    assert_eq!(chain.first_broken(), None);
    let broken = |change: &dyn Fn(&mut super::chain::Written)| {
        let mut changed = chain.clone();
        change(&mut changed);
        changed.first_broken()
    };
    assert_eq!(broken(&|log| log.entries[2].payload[0] ^= 1), Some(id(1, 3)), "edited");
    assert_eq!(broken(&|log| log.entries[2].beside[0] ^= 1), Some(id(1, 3)), "a session's stamp is edited");
    assert_eq!(broken(&|log| log.entries[2].kind += 1), Some(id(1, 3)), "another kind");
    assert_eq!(broken(&|log| log.entries[2].id.term = Term(2)), Some(id(2, 3)), "another term");
    assert_eq!(broken(&|log| log.entries.swap(2, 3)), Some(id(1, 4)), "swapped with their links");
    assert_eq!(broken(&|log| drop(log.entries.remove(2))), Some(id(1, 4)), "left out of the middle");
    assert_eq!(broken(&|log| drop(log.entries.remove(0))), Some(id(1, 2)), "left out at the front");
    assert_eq!(broken(&|log| log.entries.insert(3, log.entries[2].clone())), Some(id(1, 3)), "there twice");
    assert_eq!(broken(&|log| log.entries[5].link.0[31] ^= 1), Some(id(1, 6)), "a link is edited");
}

/// What the chain alone can't show, its head does: kept in a snapshot, or by a peer.
#[test]
fn h54_a_log_that_was_cut_or_rolled_back_does_not_end_at_the_head_that_others_know() {
    let chain = super::chain::Written::entries(1..=6);
    let head = chain.entries[5].link;
    let mut cut = chain.clone();
    cut.entries.truncate(4);
    assert_eq!(cut.first_broken(), None, "each entry is in its place");
    assert_ne!(cut.entries[3].link, head);

    // An older copy of the log goes on with other entries: its links tell it apart from where it left.
    let other = cut.go_on(&[b"another fifth", b"another sixth"]);
    assert_eq!(other.first_broken(), None);
    assert_ne!(other.entries[5].link, head);
}
