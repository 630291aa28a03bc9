//! Where a node's keys come from, as whoever starts it sees it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use amaters_cluster_tests::process::{Processes, said, ukehi, wait_until};
use redis::Commands;

#[path = "keys/aes.rs"]
mod aes;
#[path = "keys/offline.rs"]
mod offline;
#[path = "keys/rotation.rs"]
mod rotation;
#[path = "keys/secrecy.rs"]
mod secrecy;

#[test]
fn a_cluster_of_one_makes_its_key_says_so_once_and_does_not_start_without_it() {
    let mut one = Processes::prepare(1, &[]);
    one.set_encryption(&[]);
    let key = one.data_dir(1).with_extension("key");
    one.restart(1);
    one.leader();
    let first = fs::read_to_string(&key).expect("it was made");
    assert_eq!(fs::metadata(&key).expect("ours").mode() & 0o7777, 0o600);
    let told = || one_line(&one, "keep a copy elsewhere");
    assert!(told().is_some_and(|line| line.contains(&key.display().to_string())), "{}", one.log(1));
    let () = one.node(1).connect().set("a", 1).expect("acknowledged");

    one.kill(1);
    one.restart(1);
    one.leader();
    assert_eq!(fs::read_to_string(&key).expect("still there"), first);
    assert_eq!(one.log(1).matches("keep a copy elsewhere").count(), 1);
    assert_eq!(one.node(1).connect().get::<_, u8>("a"), Ok(1));

    one.kill(1);
    fs::rename(&key, key.with_extension("copy")).expect("ours");
    one.restart(1);
    assert_eq!(one.ended(1).code(), Some(1));
    let missing = format!("is encrypted with the keys of {}, and that file is not there", key.display());
    assert!(one.log(1).contains(&missing), "{}", one.log(1));
    assert!(!key.exists(), "no other key takes its place");

    one.set_encryption(&["--key-file", &key.with_extension("copy").display().to_string()]);
    one.restart(1);
    one.leader();
}

#[test]
fn a_log_stays_what_it_began_as() {
    for begins_encrypted in [true, false] {
        let mut one = Processes::prepare(1, &[]);
        let key_file = one.key_file().display().to_string();
        let (with, without) = (["--key-file", &key_file], ["--no-encryption"]);
        let (as_begun, otherwise): (&[&str], &[&str]) = if begins_encrypted { (&with, &without) } else { (&without, &with) };
        one.set_encryption(as_begun);
        one.restart(1);
        one.leader();
        one.stop(1);
        one.set_encryption(otherwise);
        one.restart(1);
        assert_eq!(one.ended(1).code(), Some(1));
        let help = if begins_encrypted { "--key-file FILE" } else { "go on with --no-encryption" };
        assert!(one.log(1).contains("a log stays what it began as") && one.log(1).contains(help), "{}", one.log(1));
        one.set_encryption(as_begun);
        one.restart(1);
        one.leader();
    }
}

#[test]
fn nodes_that_encrypt_and_nodes_that_do_not_are_no_cluster() {
    let mut mixed = Processes::prepare(3, &[]);
    for id in [1, 2] {
        mixed.restart(id);
    }
    mixed.set_encryption(&["--no-encryption"]);
    mixed.restart(3);
    wait_until("two that encrypt lead each other", || mixed.node(1).status()?.leader);
    let refused = "amaters_cluster_transport_closes_total{direction=\"in\",reason=\"encryption\"}";
    wait_until("the third is refused", || mixed.node(1).metric(refused).filter(|count| *count > 0.0));
    wait_until("both sides say why", || {
        let (here, there) = (mixed.log(1), mixed.log(3));
        let both = here.contains("it does not encrypt its log, and this node does")
            && there.contains("it encrypts its log, and this node does not");
        both.then_some(())
    });
    assert_eq!(mixed.node(3).status().and_then(|status| status.leader), None);
}

#[test]
fn a_key_file_that_others_may_read_is_refused_and_so_is_one_that_is_not_there() {
    use std::os::unix::fs::PermissionsExt as _;

    let mut cluster = Processes::prepare(3, &[]);
    fs::set_permissions(cluster.key_file(), fs::Permissions::from_mode(0o644)).expect("ours");
    cluster.restart(1);
    assert_eq!(cluster.ended(1).code(), Some(1));
    assert!(cluster.log(1).contains("chmod 600"), "{}", cluster.log(1));
    fs::remove_file(cluster.key_file()).expect("ours");
    cluster.restart(2);
    assert_eq!(cluster.ended(2).code(), Some(1));
    assert!(cluster.log(2).contains("ukehi key generate --out"), "{}", cluster.log(2));
}

#[test]
fn keys_are_made_added_to_and_listed() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("log.keys");
    let key = |arguments: &[&str]| said(ukehi().arg("key").args(arguments).arg(&file));
    let (done, words) = key(&["generate", "--out"]);
    assert!(done && words.contains("version 1  fingerprint "), "{words}");
    let (done, words) = key(&["generate", "--out"]);
    assert!(!done && words.contains("is not written over"), "{words}");
    let (done, words) = key(&["add-version", "--key-file"]);
    assert!(done && words.contains("version 2  fingerprint "), "{words}");
    let (done, words) = key(&["list", "--key-file"]);
    assert!(done && words.lines().count() == 2, "{words}");
}

fn one_line(cluster: &Processes, words: &str) -> Option<String> {
    cluster.log(1).lines().find(|line| line.contains(words)).map(str::to_owned)
}
