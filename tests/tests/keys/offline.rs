//! What somebody can prove who has the files of a node, and its keys.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use amaters_cluster::wal::{Body, WalError, WalReader};
use amaters_cluster_tests::process::{Processes, said, ukehi};
use redis::Commands;

/// Where a segment's header names the journal.
const JOURNAL: Range<usize> = 12..20;

/// A place in a record that reaches from here to there, its checksum left out.
type Place = fn(&Range<usize>) -> usize;

/// What stands before an append's links, from the record's start: length, type, group, number, `synced`; first index, count; the encoding's version.
const LINKS_AT: usize = 4 + 1 + 8 + 8 + 8 + 8 + 4 + 1;

#[test]
fn a_changed_byte_under_a_right_checksum_is_found_and_its_entry_named() {
    let mut one = Processes::start(1);
    let mut client = one.node(1).connect();
    for n in 0..20 {
        let () = client.set(format!("key {n}"), n).expect("acknowledged");
    }
    one.stop(1);
    let (dir, keys) = (one.data_dir(1), one.key_file());
    let (done, words) = verify(&dir, Some(&keys), &[]);
    assert!(done && words.contains("the chain is whole from its first entry on"), "{words}");
    let (done, words) = verify(&dir, None, &[]);
    assert!(done && words.contains("the chain through the log was not checked"), "{words}");

    let (segment, record, index) = nth_append(&dir, 10);
    let whole = fs::read(&segment).expect("it is there");
    let places: [(Place, _); 3] = [
        (|record| record.end - 1, "does not match its tag"),
        (|record| record.end - 20, "does not match its tag"),
        (|record| record.start + LINKS_AT, "moved, left out, or linked"),
    ];
    for (place, what) in places {
        fs::write(&segment, flipped(&whole, record, place)).expect("ours");
        let (done, words) = verify(&dir, None, &[]);
        assert!(done && words.starts_with("clean"), "checksums tell nothing of it: {words}");
        let (done, words) = verify(&dir, Some(&keys), &[]);
        assert!(
            !done && words.contains(&format!("entry {index}")) && words.contains("is not what was written") && words.contains(what),
            "{words}"
        );
        one.restart(1);
        assert_eq!(one.ended(1).code(), Some(1));
        assert!(one.log(1).contains(&format!("entries {index} to {index} are not what")), "{}", one.log(1));
    }
    fs::write(&segment, whole).expect("ours");
    one.restart(1);
    one.leader();
}

#[test]
fn a_log_of_yesterday_is_told_from_one_of_today_by_a_head_that_was_noted() {
    let mut one = Processes::start(1);
    let () = one.node(1).connect().set("a", 1).expect("acknowledged");
    one.stop(1);
    let yesterday = one.data_dir(1).with_extension("yesterday");
    copy(&one.data_dir(1), &yesterday);
    one.restart(1);
    one.leader();
    let () = one.node(1).connect().set("a", 2).expect("acknowledged");
    let head = one.node(1).status().and_then(|status| status.encryption).expect("it seals").head;
    one.stop(1);
    let noted = format!("{}:{}", head.index, head.link);
    let (keys, expected) = (one.key_file(), ["--expect-head", noted.as_str()]);
    let (done, words) = verify(&one.data_dir(1), Some(&keys), &expected);
    assert!(done && words.contains("what was noted stands in it") && words.contains(&noted), "{words}");
    let (done, words) = verify(&yesterday, Some(&keys), &[]);
    assert!(done, "by itself it is a genuine log: {words}");
    let (done, words) = verify(&yesterday, Some(&keys), &expected);
    assert!(!done && words.contains("its end was cut off, or an older state was brought back"), "{words}");
    let other = format!("{}:{}", head.index, "00".repeat(32));
    let (done, words) = verify(&one.data_dir(1), Some(&keys), &["--expect-head", &other]);
    assert!(!done && words.contains("is not the one that was noted"), "{words}");
    let (done, words) = verify(&one.data_dir(1), None, &expected);
    assert!(!done && words.contains("--key-file FILE"), "{words}");
}

#[test]
fn other_keys_and_missing_ones_prove_nothing_and_say_so() {
    let mut one = Processes::start(1);
    let () = one.node(1).connect().set("a", 1).expect("acknowledged");
    one.rotate_key();
    let old = one.key_file().with_file_name("old.keys");
    let text = fs::read_to_string(one.key_file()).expect("ours");
    let first: Vec<_> = text.lines().filter(|line| !line.starts_with("2 ")).collect();
    fs::copy(one.key_file(), &old).expect("ours");
    fs::write(&old, first.join("\n") + "\n").expect("ours");
    one.stop(1);
    let (done, words) = verify(&one.data_dir(1), Some(&old), &[]);
    assert!(!done && words.contains("version 2 of the log key is needed, and only 1 is there"), "{words}");
    let others = one.key_file().with_file_name("other.keys");
    let (made, _) = said(ukehi().args(["key", "generate", "--out"]).arg(&others));
    assert!(made);
    let (done, words) = verify(&one.data_dir(1), Some(&others), &[]);
    assert!(!done && words.contains("is not what was written"), "{words}");
    let (done, words) = verify(&one.data_dir(1), Some(&one.key_file()), &[]);
    assert!(done && words.contains("with version 2 of the key"), "{words}");
}

/// It is not the files that are wrong: nobody should throw them away.
#[test]
fn a_node_with_the_wrong_key_file_says_to_compare_it_first_and_starts_with_the_right_one() {
    let mut one = Processes::start(1);
    let () = one.node(1).connect().set("a", 1).expect("acknowledged");
    one.stop(1);
    let other = one.key_file().with_file_name("other.keys");
    assert!(said(ukehi().args(["key", "generate", "--out"]).arg(&other)).0);
    one.set_encryption(&["--key-file", &other.display().to_string()]);
    one.restart(1);
    assert_eq!(one.ended(1).code(), Some(1));
    let log = one.log(1);
    let (compare, remove) = (log.find("ukehi key list"), log.find("remove the node from its cluster"));
    assert!(compare.is_some() && compare < remove, "{log}");
    one.set_encryption(&["--key-file", &one.key_file().display().to_string()]);
    one.restart(1);
    one.leader();
    let value: i32 = one.node(1).connect().get("a").expect("a read");
    assert_eq!(value, 1);
}

#[test]
fn snapshots_and_backups_are_opened_with_the_keys_alone() {
    let old = Processes::start(1);
    old.rotate_key();
    let mut client = old.node(1).connect();
    for n in 0..50 {
        let () = client.set(format!("key {n}"), n).expect("acknowledged");
    }
    let admin = old.node(1).admin.to_string();
    let backup = old.key_file().with_file_name("backup");
    let (done, words) = said(ukehi().args(["backup", "--admin", &admin, "--to"]).arg(&backup));
    assert!(done, "no keys are needed to copy what is sealed: {words}");
    let snapshots = |keys: &[&str]| said(ukehi().args(["snapshot", "verify"]).arg(old.data_dir(1)).args(keys));
    let key_file = old.key_file().display().to_string();
    let (done, words) = snapshots(&[]);
    assert!(done && words.contains("encrypted, and not opened"), "{words}");
    let (done, words) = snapshots(&["--key-file", &key_file]);
    assert!(done && words.contains("whole") && !words.contains("not opened"), "{words}");

    let target = |name: &str| old.key_file().with_file_name(name);
    let restore = |target: &Path, arguments: &[&str]| {
        said(ukehi().arg("restore").arg("--from").arg(&backup).arg("--data-dir").arg(target).args(arguments))
    };
    let (done, words) = restore(&target("keyless"), &[]);
    assert!(!done && words.contains("it is encrypted") && words.contains("--key-file FILE"), "{words}");
    let (done, words) = restore(&target("named"), &["--key-file", &key_file, "--cluster", "new"]);
    assert!(!done && words.contains("does not match its tag") && words.contains("--from-cluster"), "{words}");
    let (done, words) = restore(&target("new"), &["--key-file", &key_file, "--cluster", "new", "--from-cluster", "ukehi"]);
    assert!(done && words.contains("encrypted with version 2 of the key"), "{words}");
    let (done, words) = verify(&target("new"), Some(Path::new(&key_file)), &[]);
    assert!(done && words.contains("the chain is whole from the snapshot up to entry"), "{words}");
}

fn verify(dir: &Path, keys: Option<&Path>, arguments: &[&str]) -> (bool, String) {
    let mut command = ukehi();
    command.args(["wal", "verify"]).arg(dir).args(arguments);
    if let Some(keys) = keys {
        command.arg("--key-file").arg(keys);
    }
    said(&mut command)
}

/// The segment, offset and index of an append of one entry.
fn nth_append(data_dir: &Path, n: usize) -> (PathBuf, u64, u64) {
    let wal = data_dir.join("wal");
    let mut appends = Vec::new();
    let read = WalReader::new(&wal).read(|located| {
        if let Body::Append { first, count: 1, .. } = located.record.body {
            appends.push((wal.join(format!("{:016x}.wal", located.segment)), located.offset, first.0));
        }
        Ok::<_, WalError>(())
    });
    read.expect("the journal is whole");
    appends.swap_remove(n)
}

/// The segment with one bit of a record changed, at a place between its start and its checksum; and that made right: it covers the journal's number and the record.
fn flipped(segment: &[u8], record: u64, place: Place) -> Vec<u8> {
    let mut bytes = segment.to_vec();
    let at = usize::try_from(record).expect("it is in memory");
    let length = u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
    let sum_at = at + length - 4;
    bytes[place(&(at..sum_at))] ^= 1;
    let sum = crc32fast::hash(&[&bytes[JOURNAL], &bytes[at..sum_at]].concat());
    bytes[sum_at..sum_at + 4].copy_from_slice(&sum.to_le_bytes());
    bytes
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("ours");
    for entry in fs::read_dir(from).expect("ours").map(|entry| entry.expect("ours")) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).expect("ours");
        }
    }
}
