//! Nodes that lack a key: they say which, ask for it, and guess nothing.

use amaters_cluster_core::{Config, Member, MembershipChange, Node};
use amaters_cluster_tests::cluster::{Outcome, lacking, ring_of};

use super::*;

/// A cluster that has changed to version 2 with commands before and after.
fn changed() -> Cluster {
    let mut cluster = sealed(3);
    write(&mut cluster, &["one"]);
    give_to_all(&mut cluster, VERSION_2);
    let changed = cluster.rotate_key(NODE_1, VERSION_2);
    cluster.run(SECOND);
    assert_eq!(cluster.outcome(changed), Some(Outcome::Done));
    write(&mut cluster, &["two"]);
    cluster
}

#[test]
fn a_node_without_the_key_in_use_does_not_start_and_names_it() {
    let mut cluster = changed();
    cluster.crash(NODE_3, 0);
    cluster.member_mut(NODE_3).keys = ring_of([1]);
    let error = cluster.try_restart(NODE_3).expect_err("it lacks the key in use");
    assert_eq!(lacking(&error), Some(VERSION_2));
    assert_eq!(error.to_string(), "the journal can't be read without its keys: version 2 of the log key is needed, and only 1 is there");
    // Nor without the one that is not in use any more, while its journal begins with what that has sealed.
    cluster.member_mut(NODE_3).keys = ring_of([2]);
    assert_eq!(lacking(&cluster.try_restart(NODE_3).expect_err("it lacks the first")), Some(VERSION_1));

    cluster.member_mut(NODE_3).keys = ring_of([1, 2]);
    cluster.restart(NODE_3);
    cluster.run(SECOND);
    assert_eq!(commands(&cluster, NODE_3), ["one", "two"]);
}

#[test]
fn a_new_node_without_the_key_in_use_asks_for_it_and_applies_nothing_behind_the_change() {
    let mut cluster = changed();
    cluster.put_up_spare(NODE_4, NODE_1);
    cluster.member_mut(NODE_4).keys = ring_of([1]);
    cluster.crash(NODE_4, 0);
    cluster.restart(NODE_4);
    let added = cluster.change(NODE_1, MembershipChange::AddLearner(Member { id: NODE_4, address: String::new() }));
    cluster.take_events();
    cluster.run(2 * SECOND);
    assert_eq!(cluster.outcome(added), Some(Outcome::Done));
    let events = cluster.take_events();
    let asked = events.iter().filter(|event| matches!(event, Event::WantsKey(NODE_4, VERSION_2))).count();
    assert!((1..=3).contains(&asked), "once a second, not at each request: {asked}");
    let named =
        |event: &Event| matches!(event, Event::Noted(NODE_4, LogLevel::Error, line) if line.contains("version 2 of the log key is needed"));
    assert!(events.iter().any(named), "an operator hears which it is");
    assert_eq!(status(&cluster, NODE_4).missing, Some(VERSION_2));
    assert!(entries(&cluster, NODE_4).iter().all(|entry| entry.switch().is_none()), "it took nothing that it could not go on from");
    assert!(!commands(&cluster, NODE_4).contains(&"two".to_owned()));

    cluster.give_key(NODE_4, VERSION_2);
    cluster.run(2 * SECOND);
    assert_eq!(commands(&cluster, NODE_4), ["one", "two"], "it asked again, and goes on by itself");
    assert_eq!(status(&cluster, NODE_4).missing, None);
}

#[test]
fn another_key_that_is_called_the_same_opens_nothing() {
    let cluster = changed();
    let mut config = cluster.member(NODE_2).config.clone();
    let mut other = ring_of([2]);
    let bytes = [0x77; 32];
    other.insert(VERSION_1, amaters_cluster_core::LogEncryptionKey::from_bytes(&bytes).expect("a key")).expect("new");
    if let Some(encryption) = &mut config.encryption {
        encryption.keys = other;
    }
    let mut node = Node::new(config).expect("the configuration is valid");
    let refused = cluster.member(NODE_2).disk.journal().iter().try_for_each(|operation| node.recover(operation.clone()));
    let error = refused.expect_err("that key has written nothing here").to_string();
    assert!(error.contains("or linked with another key that is called version 1"), "{error}");
}

#[test]
fn a_sealed_node_needs_a_key_and_random_bytes_to_be_made() {
    let make = |change: &dyn Fn(&mut amaters_cluster_core::Encryption)| {
        let mut encryption = amaters_cluster_tests::cluster::encryption();
        change(&mut encryption);
        Node::new(Config { encryption: Some(encryption), ..Config::new(1, vec![1]) }).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(make(&|_| {}), Ok(()));
    let error = make(&|encryption| encryption.keys = ring_of([])).expect_err("no key");
    assert_eq!(error, "encryption.keys is empty: expected every version that the log is sealed with: version 1 for a new log");
    let error = make(&|encryption| encryption.boot.0 = [0; 16]).expect_err("nothing was drawn");
    assert_eq!(error, "encryption.boot is all zeros: expected 16 bytes from the system's random source");
    let error = make(&|encryption| encryption.cluster = "x".repeat(256)).expect_err("too long");
    assert_eq!(error, "encryption.cluster is 256 bytes long: expected at most 255 bytes");
}

/// Version 1 is gone from a cluster that has let go of all that it sealed: a node that joins needs no such key.
#[test]
fn a_node_that_waits_to_be_added_starts_without_the_first_key_and_a_founder_does_not() {
    let mut cluster = sealed(1);
    cluster.put_up_spare(NODE_4, NODE_1);
    cluster.crash(NODE_4, 0);
    cluster.member_mut(NODE_4).keys = ring_of([2]);
    cluster.restart(NODE_4);

    let mut encryption = amaters_cluster_tests::cluster::encryption();
    encryption.keys = ring_of([2]);
    let mut founder = Node::new(Config { encryption: Some(encryption), ..Config::new(1, vec![1]) }).expect("the configuration is valid");
    let error = founder.start(amaters_cluster_core::Instant(1)).expect_err("it would have to write the first entry");
    assert_eq!(lacking(&error), Some(VERSION_1));
}

#[test]
fn a_key_that_has_the_name_of_another_one_is_not_taken_and_that_is_said() {
    let mut cluster = sealed(3);
    let mut keys = ring_of([2]);
    let other = amaters_cluster_core::LogEncryptionKey::from_bytes(&[0x77; 32]).expect("a key");
    keys.insert(VERSION_1, other).expect("new here");
    cluster.take_events();
    cluster.input(NODE_2, amaters_cluster_core::Input::KeysLoaded { keys });
    cluster.tick(NODE_2);
    let alarms = alarms(&mut cluster, NODE_2);
    assert!(alarms[0].contains("a key of the host is not taken: version 1 of the log key is there already with other bytes"), "{alarms:?}");
    assert_eq!(status(&cluster, NODE_2).held, [VERSION_1, VERSION_2], "the other one is");
    write(&mut cluster, &["x"]);
    assert_eq!(commands(&cluster, NODE_2), ["x"], "what it had is as good as before");
}

#[test]
fn a_version_that_nothing_needs_any_more_is_not_asked_for_for_ever() {
    let mut cluster = sealed(3);
    cluster.give_key(NODE_1, VERSION_2);
    cluster.load_keys(NODE_1);
    cluster.rotate_key(NODE_1, VERSION_2);
    cluster.run(3 * SECOND); // in vain
    assert_eq!(status(&cluster, NODE_2).missing, Some(VERSION_2));
    cluster.run(10 * SECOND);
    assert_eq!(status(&cluster, NODE_2).missing, None);
    cluster.take_events();
    cluster.run(5 * SECOND);
    assert!(cluster.take_events().iter().all(|event| !matches!(event, Event::WantsKey(..))));
}
