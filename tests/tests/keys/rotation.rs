//! Changes of a cluster's key while it works.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use amaters_cluster::admin::EncryptionView;
use amaters_cluster_tests::process::{Processes, said, ukehi, wait_until};
use redis::Commands;

#[test]
fn a_key_that_is_changed_twice_under_load_loses_nothing_and_old_ones_can_be_retired() {
    let mut cluster = Processes::start_with(3, &["--snapshots-kept", "1", "--snapshot-every-entries", "0", "--snapshot-every-bytes", "0"]);
    let stop = AtomicBool::new(false);
    let written: Vec<u64> = thread::scope(|scope| {
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                scope.spawn({
                    let (cluster, stop) = (&cluster, &stop);
                    move || write(cluster, writer, stop)
                })
            })
            .collect();
        for _ in 0..2 {
            thread::sleep(Duration::from_millis(200));
            cluster.rotate_key();
        }
        thread::sleep(Duration::from_millis(200));
        stop.store(true, Ordering::Relaxed);
        writers.into_iter().map(|writer| writer.join().expect("it wrote")).collect()
    });
    assert!(written.iter().all(|count| *count > 20), "there was load: {written:?}");
    expect_all(&cluster, &written);
    assert_eq!(encryption(&cluster, 1), (3, vec![1, 2, 3], vec![]));

    for id in 1..=3 {
        cluster.kill(id);
    }
    (1..=3).for_each(|id| cluster.restart(id));
    cluster.leader();
    cluster.settled();
    expect_all(&cluster, &written);
    let (done, words) = cluster.key(&["rotate"]);
    assert!(!done && words.contains("sealed with this version of the key already"), "{words}");

    // Once snapshots stand for what the old keys have sealed, nothing needs those.
    for node in cluster.nodes() {
        let (done, words) = said(ukehi().args(["snapshot", "create", "--admin", &node.admin.to_string()]));
        assert!(done, "{words}");
    }
    for id in 1..=3 {
        wait_until("both old versions can be retired", || (encryption(&cluster, id).2 == [1, 2]).then_some(()));
    }
    let (done, words) = cluster.key(&["list"]);
    assert!(done && words.contains("None of these nodes needs version 1, 2 any more"), "{words}");
    let text = fs::read_to_string(cluster.key_file()).expect("ours");
    let kept: Vec<_> = text.lines().filter(|line| !line.starts_with("1 ") && !line.starts_with("2 ")).collect();
    fs::write(cluster.key_file(), kept.join("\n") + "\n").expect("ours");
    for id in 1..=3 {
        cluster.stop(id);
    }
    (1..=3).for_each(|id| cluster.restart(id));
    cluster.leader();
    expect_all(&cluster, &written);
    assert_eq!(encryption(&cluster, 1).1, [3]);
}

#[test]
fn a_node_without_the_key_in_use_says_which_it_lacks_and_goes_on_once_it_has_it() {
    let mut cluster = Processes::start(3);
    let old = cluster.key_file().with_file_name("old.keys");
    fs::copy(cluster.key_file(), &old).expect("ours");
    let () = cluster.node(cluster.leader()).connect().set("before", 1).expect("acknowledged");
    cluster.rotate_key();
    let () = cluster.node(cluster.leader()).connect().set("after", 2).expect("acknowledged");
    cluster.settled();
    let new = cluster.key_file().display().to_string();

    // One that has entries of the new key doesn't start without it.
    cluster.kill(3);
    cluster.set_encryption(&["--key-file", &old.display().to_string()]);
    cluster.restart(3);
    assert_eq!(cluster.ended(3).code(), Some(1));
    let words = cluster.log(3);
    assert!(words.contains("version 2 of the log key is needed, and only 1 is there"), "{words}");
    assert!(words.contains("Give this node the keys that the others have"), "{words}");

    // One that is yet to get them waits.
    cluster.begin_to_join(4);
    let lacks = || cluster.node(4).status()?.encryption?.missing;
    assert_eq!(wait_until("it says what it lacks", lacks), 2);
    let (done, words) = said(ukehi().args(["key", "list", "--admin", &cluster.node(4).admin.to_string()]));
    assert!(!done && words.contains("lacks"), "{words}");
    fs::copy(cluster.key_file(), &old).expect("ours");
    cluster.votes(4);
    let mut client = cluster.node(4).connect();
    assert_eq!((client.get::<_, u8>("before"), client.get::<_, u8>("after")), (Ok(1), Ok(2)));
    assert_eq!(encryption(&cluster, 4), (2, vec![1, 2], vec![]));

    cluster.set_encryption(&["--key-file", &new]);
    cluster.restart(3);
    cluster.settled();
}

#[test]
fn a_key_that_a_voter_does_not_hold_is_not_used() {
    let mut cluster = Processes::prepare(3, &[]);
    let old = cluster.key_file().with_file_name("old.keys");
    fs::copy(cluster.key_file(), &old).expect("ours");
    cluster.restart(1);
    cluster.restart(2);
    cluster.set_encryption(&["--key-file", &old.display().to_string()]);
    cluster.restart(3);
    cluster.leader();
    let (done, words) = cluster.key(&["rotate"]);
    assert!(!done && words.contains("is sealed with this version of the key already"), "{words}");
    let (done, words) = cluster.key(&["rotate", "--version", "7"]);
    assert!(!done && words.contains("version 7 of the log key is needed"), "{words}");
    // The leader has to be one with the new key, or it would not know of it.
    if cluster.leader() == 3 {
        let (done, words) = said(ukehi().args(["transfer", "--to", "1", "--admin", &cluster.admin_addresses()]));
        assert!(done, "{words}");
        wait_until("another one leads", || (cluster.leader() != 3).then_some(()));
    }
    let (done, _) = said(ukehi().args(["key", "add-version", "--key-file"]).arg(cluster.key_file()));
    assert!(done);
    let (done, words) = cluster.key(&["rotate"]);
    assert!(!done && words.contains("did not change the key"), "{words}");
    let leader = cluster.leader();
    assert!(cluster.log(leader).contains("3 did not say in time that it holds this key"), "{}", cluster.log(leader));
    assert_eq!(encryption(&cluster, leader).0, 1);
    let () = cluster.node(3).connect().set("still", "there").expect("acknowledged");
}

/// Writes numbers until it is told to stop: how many were acknowledged.
fn write(cluster: &Processes, writer: u64, stop: &AtomicBool) -> u64 {
    let mut client = cluster.node(writer + 1).connect();
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        let () = client.set(format!("{writer}-{count}"), count).expect("a change of the key refuses nobody");
        count += 1;
    }
    count
}

fn expect_all(cluster: &Processes, written: &[u64]) {
    for node in cluster.nodes() {
        let mut client = node.connect();
        for (writer, count) in written.iter().enumerate() {
            let keys: Vec<_> = (0..*count).map(|n| format!("{writer}-{n}")).collect();
            let values: Vec<u64> = client.mget(keys).expect("they are there");
            assert_eq!(values, (0..*count).collect::<Vec<_>>());
        }
    }
}

/// Version in use, versions held, versions that may be retired.
fn encryption(cluster: &Processes, id: u64) -> (u32, Vec<u32>, Vec<u32>) {
    let EncryptionView { version, held, retirable, .. } =
        wait_until("the node answers", || cluster.node(id).status()).encryption.expect("it seals");
    (version, held, retirable)
}
