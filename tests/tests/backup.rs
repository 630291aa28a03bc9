//! A backup of a running cluster, and a new cluster from it: real processes.
#![cfg(unix)]

use std::fs;
use std::path::Path;

use amaters_cluster_tests::process::{Processes, restore, said, ukehi, wait_until};
use redis::TypedCommands as _;

fn backup(cluster: &Processes, node: u64, to: &Path) -> (bool, String) {
    said(ukehi().arg("backup").arg("--to").arg(to).args(["--admin", &cluster.node(node).admin.to_string()]))
}

fn set(cluster: &Processes, numbers: std::ops::Range<u32>) {
    let mut connection = cluster.node(cluster.leader()).connect();
    for n in numbers {
        connection.set(format!("key {n}"), format!("value {n}")).expect("a write");
    }
}

/// How many of the keys have their values at a node, which has to have no others.
fn count(cluster: &Processes, node: u64, numbers: std::ops::Range<u32>) -> usize {
    let mut connection = cluster.node(node).connect();
    let good = numbers.filter(|n| connection.get(format!("key {n}")).expect("a read") == Some(format!("value {n}"))).count();
    let all: usize = redis::cmd("DBSIZE").query(&mut connection).expect("a read");
    assert_eq!(all, good, "nothing else is there");
    good
}

#[test]
fn a_backup_of_a_running_cluster_becomes_a_new_cluster_which_others_join() {
    let old = Processes::start(3);
    set(&old, 0..300);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("backup");
    let (done, words) = backup(&old, old.leader(), &file);
    assert!(done && words.contains("the state up to entry"), "{words}");
    set(&old, 300..310);

    let mut new = Processes::restored(&file, &old.key_file());
    assert_eq!(count(&new, 1, 0..300), 300);
    let status = new.node(1).status().expect("it runs");
    assert_eq!((status.members.len(), status.peers.len()), (1, 0), "it knows nobody of the old cluster");
    set(&new, 1000..1010);
    new.join(2);
    wait_until("the new node has all", || (new.node(2).status()?.applied >= new.node(1).status()?.commit).then_some(()));
    let all = |node: u64| {
        let mut connection = new.node(node).connect();
        let good = (0..300).chain(1000..1010).filter(|n| connection.get(format!("key {n}")).expect("a read") == Some(format!("value {n}")));
        good.count()
    };
    assert_eq!((all(1), all(2)), (310, 310));
    // Of that the old cluster has heard nothing.
    assert_eq!(count(&old, old.leader(), 0..310), 310);
    // And it is a node as any other: it comes back from its own directory.
    new.kill(1);
    new.restart(1);
    new.leader();
    let mut connection = new.node(1).connect();
    assert_eq!(connection.get("key 1009").expect("a read").as_deref(), Some("value 1009"));
}

#[test]
fn a_backup_is_never_overwritten_and_what_is_damaged_or_in_the_way_is_refused() {
    let old = Processes::start(1);
    set(&old, 0..50);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("backup");
    assert!(backup(&old, 1, &file).0);
    let whole = fs::read(&file).expect("it is there");
    set(&old, 50..60);
    let (done, words) = backup(&old, 1, &file);
    assert!(!done && words.contains("exists"), "{words}");
    assert_eq!(fs::read(&file).expect("it is there"), whole);

    let target = directory.path().join("new");
    let damaged = directory.path().join("damaged");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    for bytes in [&flipped[..], &whole[..whole.len() - 1], &[]] {
        fs::write(&damaged, bytes).expect("a file");
        let (done, words) = restore(&damaged, &target, &old.key_file());
        assert!(!done && words.contains("no whole backup"), "{words}");
    }
    let (done, words) = restore(&file, &old.data_dir(1), &old.key_file());
    assert!(!done && words.contains("is not empty"), "{words}");
    let names: Vec<_> = fs::read_dir(directory.path()).expect("a directory").map(|it| it.expect("a name").file_name()).collect();
    assert_eq!(names.len(), 2, "nothing half done is left: {names:?}");
    assert!(restore(&file, &target, &old.key_file()).0);

    // Without its snapshot it does not start as if nothing had been.
    fs::remove_dir_all(target.join("snapshots")).expect("it has one");
    let (done, words) = said(
        ukehi()
            .args([
                "start",
                "--key-file",
                &old.key_file().display().to_string(),
                "--listen",
                "127.0.0.1:0",
                "--client",
                "127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
            ])
            .arg("--data-dir")
            .arg(&target),
    );
    assert!(!done && words.contains("no snapshot"), "{words}");
}

/// Whoever can write to where backups are kept needs no key to make one that is not sealed.
#[test]
fn a_backup_that_is_not_encrypted_never_slips_into_a_cluster_that_is() {
    let mut plain = Processes::prepare(1, &[]);
    plain.set_encryption(&["--no-encryption"]);
    plain.restart(1);
    plain.leader();
    set(&plain, 0..20);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (file, target) = (directory.path().join("backup"), directory.path().join("new"));
    assert!(backup(&plain, 1, &file).0);

    let key_file = plain.key_file().display().to_string();
    let restore = |target: &Path, arguments: &[&str]| {
        said(ukehi().arg("restore").arg("--from").arg(&file).arg("--data-dir").arg(target).args(arguments))
    };
    let (done, words) = restore(&target, &["--key-file", &key_file]);
    assert!(!done && words.contains("is not encrypted: nothing proves") && words.contains("--from-unencrypted"), "{words}");
    for keys in [&["--key-file", key_file.as_str()][..], &[]] {
        let named = [keys, &["--from-cluster", "ukehi"]].concat();
        let (done, words) = restore(&target, &named);
        assert!(!done && words.contains("does not show which cluster it is from"), "{words}");
        let (done, words) = restore(&target, &[&named[..], &["--from-unencrypted"]].concat());
        assert!(!done && words.contains("cannot be used with"), "{words}");
    }
    assert!(!target.exists(), "nothing was made");

    let (done, words) = restore(&target, &["--key-file", &key_file, "--from-unencrypted"]);
    assert!(done && words.contains("not encrypted, so that nothing proves what is in it"), "{words}");
    let (done, words) = said(ukehi().args(["wal", "verify"]).arg(&target).args(["--key-file", &key_file]));
    assert!(done && words.contains("the chain is whole from the snapshot up to entry"), "it encrypts: {words}");
    let (done, words) = restore(&directory.path().join("plain"), &[]);
    assert!(done && words.contains("not encrypted") && words.contains("--no-encryption"), "{words}");
}
