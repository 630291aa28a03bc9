//! A repair begins with what the node must not forget, wherever a crash comes.

use amaters_cluster_core::NodeId;

use super::*;
use crate::data_dir::Identity;

fn identity(voters: u64) -> Identity {
    Identity { cluster: "c".to_owned(), node: NodeId(1), voters: (1..=voters).map(NodeId).collect(), sealed: false }
}

fn open(path: &Path) -> DataDir {
    DataDir::open(path, &identity(3)).unwrap()
}

const OPTIONS: WalOptions = WalOptions::with_segment_size(64 << 10);

/// A directory with a journal whose hard state is this, and which is damaged.
fn damaged(voters: u64) -> (tempfile::TempDir, DataDir) {
    let parent = tempfile::tempdir().unwrap();
    let dir = DataDir::open(parent.path(), &identity(voters)).unwrap();
    write_journal(&dir.wal(), &OPTIONS, vec![Operation::HardState(b"state".to_vec())]).unwrap();
    dir.journal_begun().unwrap();
    let segment = dir.wal().join("0000000000000001.wal");
    let mut image = fs::read(&segment).unwrap();
    image[60] ^= 1; // a mark behind it proves that it was durable
    fs::write(&segment, image).unwrap();
    let error = journal(&dir).expect_err("it is damaged");
    assert!(is_damage(&error.into(), &dir).unwrap());
    (parent, dir)
}

fn journal(dir: &DataDir) -> Result<Vec<Operation>, WalError> {
    let mut found = Vec::new();
    WalReader::new(&dir.wal()).read(|located| {
        found.extend(located.record.body.to_operation());
        Ok::<_, WalError>(())
    })?;
    Ok(found)
}

#[test]
fn a_repair_begins_with_the_saved_hard_state_and_is_remembered() {
    let (parent, dir) = damaged(3);
    fs::create_dir(dir.path().join("wal.damaged")).unwrap();
    begin(&dir, &OPTIONS).unwrap();
    assert_eq!(journal(&dir).unwrap(), [Operation::HardState(b"state".to_vec())]);
    assert!(dir.path().join("wal.damaged/0000000000000001.wal").exists() && !dir.path().join("wal.new").exists());
    drop(dir);
    let dir = open(parent.path());
    assert!(dir.is_repairing());
    dir.repair_ended().unwrap();
    drop(dir);
    assert!(!open(parent.path()).is_repairing());
}

#[test]
fn a_crash_between_the_renames_is_made_up_for() {
    let (parent, dir) = damaged(3);
    begin(&dir, &OPTIONS).unwrap();
    fs::rename(dir.wal(), dir.path().join("wal.new")).unwrap();
    drop(dir);
    let dir = open(parent.path());
    assert_eq!(journal(&dir).unwrap(), [Operation::HardState(b"state".to_vec())]);
}

#[test]
fn a_crash_before_the_renames_leaves_a_journal_that_is_found_damaged_again() {
    let (parent, dir) = damaged(3);
    dir.repair_begun().unwrap();
    write_journal(&dir.path().join("wal.new"), &OPTIONS, vec![Operation::HardState(b"half".to_vec())]).unwrap();
    drop(dir);
    let dir = open(parent.path());
    assert!(dir.is_repairing() && journal(&dir).is_err());
    begin(&dir, &OPTIONS).unwrap();
    assert_eq!(journal(&dir).unwrap(), [Operation::HardState(b"state".to_vec())]);
}

#[test]
fn without_term_and_vote_or_without_others_there_is_no_repair_and_nothing_is_touched() {
    let (_parent, dir) = damaged(1);
    assert!(matches!(begin(&dir, &OPTIONS), Err(RepairError::Alone)));
    for spoil in [|path: &Path| fs::remove_file(path).unwrap(), |path: &Path| fs::write(path, b"nonsense").unwrap()] {
        let (_parent, dir) = damaged(3);
        spoil(&dir.wal().join("hard-state-0"));
        let error = begin(&dir, &OPTIONS).expect_err("its votes are lost");
        assert!(matches!(error, RepairError::NoHardState { .. }) && error.to_string().contains("add it anew"), "{error}");
        assert!(!dir.is_repairing() && dir.wal().exists());
    }
}

#[test]
fn only_damage_is_repaired() {
    let (_parent, dir) = damaged(3);
    let failing = || WalError::io("read", Path::new("f"))(io::Error::other("the disk is gone"));
    let newer = WalError::UnsupportedFormat { path: PathBuf::new(), got: 2 };
    for error in [failing().into(), newer.into(), RaftError::ShuttingDown, EngineError::Trap("bug".to_owned()).into()] {
        assert!(!is_damage(&error, &dir).unwrap(), "{error:?}");
    }
}
