//! Real processes, whose files grow, are compacted and are damaged, under load.

use std::fs;

use amaters_cluster_tests::damage::{flip_in_newest_snapshot, flip_in_wal, snapshots};
use amaters_cluster_tests::load::{Load, Size};
use amaters_cluster_tests::process::{Processes, said, ukehi, wait_until};
use redis::TypedCommands as _;

/// Snapshots and segments so small that a test sees many of them.
const SMALL: [&str; 4] = ["--segment-size", "4MiB", "--snapshot-every-bytes", "256KiB"];
/// As [`SMALL`], for nodes that come back by themselves.
const REPAIRING: [&str; 6] = ["--segment-size", "4MiB", "--snapshot-every-bytes", "256KiB", "--on-corruption", "repair"];

const SIZE: Size = Size { writers: 8, keys: 32, value: 4096 };

const TAKEN: &str = "amaters_cluster_snapshots_taken_total";
const INSTALLED: &str = "amaters_cluster_snapshots_installed_total";
const REPAIRS: &str = "amaters_cluster_repairs_total";

/// Waits until so many more writes are acknowledged.
fn let_them_write(load: &Load, more: u64) {
    let began = load.acknowledged();
    wait_until("the writers get on", || (load.acknowledged() >= began + more).then_some(()));
}

/// Ends the writers, and reads all they know back from each node.
fn nothing_is_lost(cluster: &Processes, load: Load) {
    let book = load.stop();
    cluster.settled();
    for node in cluster.nodes() {
        let lost = book.lost_at(node);
        assert!(lost.is_empty(), "{} of {} keys, the first of them: {:?}", lost.len(), book.keys(), &lost[..lost.len().min(5)]);
    }
}

fn metric(cluster: &Processes, id: u64, name: &str) -> f64 {
    cluster.node(id).metric(name).unwrap_or_default()
}

fn a_follower(cluster: &Processes) -> u64 {
    cluster.leader() % 3 + 1
}

#[test]
fn a_follower_whose_journal_was_damaged_comes_back_by_itself_and_metrics_tell() {
    let mut cluster = Processes::start_with(3, &REPAIRING);
    let load = Load::start(cluster.nodes(), SIZE);
    let_them_write(&load, 300);
    let damaged = a_follower(&cluster);
    cluster.kill(damaged);
    flip_in_wal(&cluster.data_dir(damaged), 0.5).expect("there is a journal to damage");
    let_them_write(&load, 300);

    cluster.restart(damaged);
    wait_until("it has repaired itself", || {
        let repaired = cluster.node(damaged).status().is_some_and(|status| !status.repairing && status.leader.is_some());
        (repaired && metric(&cluster, damaged, REPAIRS) == 1.0).then_some(())
    });
    assert!(cluster.log(damaged).contains("is damaged at byte"), "it said what it repairs");
    let_them_write(&load, 100);

    // What it acknowledges counts again: the cluster lives on it and one other.
    cluster.kill(cluster.leader());
    let_them_write(&load, 100);
    let down = (1..=3).find(|id| !cluster.is_running(*id)).expect("one was killed");
    cluster.restart(down);
    nothing_is_lost(&cluster, load);
}

#[test]
fn without_the_flag_a_node_with_a_damaged_journal_refuses_and_names_the_file() {
    let mut cluster = Processes::start_with(3, &SMALL);
    let load = Load::start(cluster.nodes(), SIZE);
    let_them_write(&load, 300);
    let damaged = a_follower(&cluster);
    cluster.kill(damaged);
    let file = flip_in_wal(&cluster.data_dir(damaged), 0.5).expect("there is a journal to damage");
    let before = fs::read(&file).expect("it is there");
    cluster.restart(damaged);
    assert!(!cluster.ended(damaged).success(), "it does not start");
    let said = cluster.log(damaged);
    assert!(said.contains(&format!("{} is damaged at byte", file.display())), "{said}");
    assert!(fs::read(&file).expect("it is there") == before, "what is refused is not changed");

    let_them_write(&load, 100);
    cluster.set_flags(&REPAIRING);
    cluster.restart(damaged);
    nothing_is_lost(&cluster, load);
}

/// A dozen kills; `KILLS=50 cargo test --release -p amaters-cluster-tests --test storage` for more.
#[test]
fn kills_in_a_loop_lose_nothing_and_the_disk_does_not_fill() {
    /// Three snapshots of a MiB, one of them under way, and the segments with the log back to the oldest: of 4 MiB each, one of them prepared ahead.
    const MOST: u64 = 32 << 20;
    const WRITES: u64 = 1000;
    let kills = std::env::var("KILLS").map_or(12, |kills| kills.parse().expect("KILLS is a number"));
    let mut cluster = Processes::start_with(3, &SMALL);
    let load = Load::start(cluster.nodes(), SIZE);
    let mut most = 0;
    for _ in 0..kills {
        let_them_write(&load, WRITES);
        most = (1..=3).map(|id| cluster.disk_bytes(id)).fold(most, u64::max);
        let id = fastrand::u64(1..=3);
        cluster.kill(id);
        let_them_write(&load, 50);
        cluster.restart(id);
        wait_until("it is back", || cluster.node(id).status().filter(|status| status.leader.is_some()));
    }
    let written = load.acknowledged() * SIZE.value as u64;
    eprintln!("{kills} kills, {} acknowledged, {} MiB written, at most {most} bytes on a disk", load.acknowledged(), written >> 20);
    assert!(written > MOST && most < MOST, "{written} bytes were written, and a node took {most} of its disk");
    nothing_is_lost(&cluster, load);
}

#[test]
fn a_node_that_was_away_while_the_others_compacted_gets_a_snapshot() {
    let mut cluster = Processes::start_with(3, &SMALL);
    let load = Load::start(cluster.nodes(), SIZE);
    let_them_write(&load, 100);
    let away = a_follower(&cluster);
    let had = cluster.node(away).status().expect("it answers").last;
    cluster.kill(away);
    let others: Vec<u64> = (1..=3).filter(|id| *id != away).collect();
    wait_until("the others have let go of what it lacks", || {
        let gone = |id: &u64| cluster.node(*id).status().is_some_and(|status| status.first > had + 1);
        others.iter().all(gone).then_some(())
    });

    cluster.restart(away);
    let installed = wait_until("it has got a snapshot", || {
        let status = cluster.node(away).status()?;
        let snapshot = status.snapshot?;
        (metric(&cluster, away, INSTALLED) >= 1.0 && status.first > had + 1).then_some(snapshot.index)
    });
    assert!(installed > had, "the snapshot goes to {installed}, and the node had {had}");
    nothing_is_lost(&cluster, load);
}

#[test]
fn a_node_whose_newest_snapshot_was_damaged_starts_from_the_one_before() {
    let mut cluster = Processes::start_with(3, &SMALL);
    let load = Load::start(cluster.nodes(), SIZE);
    let damaged = a_follower(&cluster);
    wait_until("it has taken more snapshots than are kept", || (metric(&cluster, damaged, TAKEN) > 3.0).then_some(()));
    cluster.kill(damaged);
    let kept = snapshots(&cluster.data_dir(damaged));
    assert!(kept.len() >= 2, "{kept:?}");
    let newest = flip_in_newest_snapshot(&cluster.data_dir(damaged), 0.5).expect("there is one to damage");

    cluster.restart(damaged);
    wait_until("it is up", || cluster.node(damaged).status().filter(|status| status.leader.is_some()));
    assert!(newest.with_extension("snap.bad").exists(), "the damaged one was put aside");
    assert_eq!(metric(&cluster, damaged, REPAIRS), 0.0, "nobody else's help was needed");
    nothing_is_lost(&cluster, load);
}

/// Writes keys, one after the other.
fn set(cluster: &Processes, numbers: std::ops::Range<u32>) {
    let mut connection = cluster.node(cluster.leader()).connect();
    for n in numbers {
        connection.set(format!("key {n}"), format!("value {n}")).expect("a write");
    }
}

/// Which of the keys have their values.
fn present(cluster: &Processes, node: u64, numbers: std::ops::Range<u32>) -> Vec<u32> {
    let mut connection = cluster.node(node).connect();
    numbers.filter(|n| connection.get(format!("key {n}")).expect("a read") == Some(format!("value {n}"))).collect()
}

#[test]
fn a_node_alone_that_may_cut_keeps_all_before_the_damage_says_what_is_lost_and_goes_on() {
    let flags = |policy| ["--segment-size", "4MiB", "--snapshot-every-bytes", "0", "--on-corruption", policy];
    let mut cluster = Processes::start_with(1, &flags("repair"));
    set(&cluster, 0..200);
    cluster.kill(1);
    flip_in_wal(&cluster.data_dir(1), 0.5).expect("there is a journal to damage");
    cluster.restart(1);
    assert!(!cluster.ended(1).success() && cluster.log(1).contains("there is no other node to repair it from"), "{}", cluster.log(1));

    cluster.set_flags(&flags("cut"));
    cluster.restart(1);
    cluster.leader();
    let kept = present(&cluster, 1, 0..200);
    assert!(!kept.is_empty() && kept.len() < 200, "half of the journal is lost: {} keys are there", kept.len());
    assert_eq!(kept, (0..kept.len()).map(|n| u32::try_from(n).expect("there are 200")).collect::<Vec<_>>(), "the first ones");
    let log = cluster.log(1);
    assert!(
        log.contains("the journal was cut, as was asked for") && log.contains("is damaged at byte") && log.contains("Lost are"),
        "{log}"
    );

    set(&cluster, 1000..1010);
    cluster.kill(1);
    cluster.set_flags(&flags("refuse"));
    cluster.restart(1);
    cluster.leader();
    assert_eq!(present(&cluster, 1, 0..200), kept);
    assert_eq!(present(&cluster, 1, 1000..1010).len(), 10, "it is a whole journal again");
}

#[test]
fn a_restored_cluster_of_one_refuses_to_repair_itself_until_others_have_joined() {
    let old = Processes::start(1);
    set(&old, 0..50);
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("backup");
    let (done, words) = said(ukehi().arg("backup").arg("--to").arg(&file).args(["--admin", &old.node(1).admin.to_string()]));
    assert!(done, "{words}");

    let restored = || {
        let mut new = Processes::restored(&file, &old.key_file());
        new.set_flags(&["--on-corruption", "repair"]);
        new
    };
    let damage = |cluster: &mut Processes| {
        set(cluster, 100..200);
        cluster.kill(1);
        flip_in_wal(&cluster.data_dir(1), 0.5).expect("there is a journal to damage");
        cluster.restart(1);
    };
    let mut alone = restored();
    damage(&mut alone);
    assert!(!alone.ended(1).success(), "nobody has what it lacks");
    assert!(alone.log(1).contains("there is no other node to repair it from"), "{}", alone.log(1));

    let mut three = restored();
    three.join(2);
    three.join(3);
    damage(&mut three);
    wait_until("it has repaired itself", || {
        let repaired = three.node(1).status().is_some_and(|status| !status.repairing && status.leader.is_some());
        (repaired && metric(&three, 1, REPAIRS) == 1.0).then_some(())
    });
    assert_eq!(present(&three, 1, 100..200).len(), 100);
}

#[test]
fn inspection_tells_what_a_snapshot_holds_and_which_is_damaged() {
    let mut cluster = Processes::start_with(1, &SMALL);
    let load = Load::start(cluster.nodes(), SIZE);
    wait_until("it has taken more snapshots than are kept", || (metric(&cluster, 1, TAKEN) > 3.0).then_some(()));
    drop(load.stop());
    cluster.stop(1);
    let dir = cluster.data_dir(1);
    let (whole, words) = said(ukehi().args(["snapshot", "inspect"]).arg(&dir));
    assert!(whole && words.contains("encrypted, and not opened: name its keys"), "{words}");
    let inspect = |path: &std::path::Path| said(ukehi().args(["snapshot", "inspect"]).arg(path).arg("--key-file").arg(cluster.key_file()));
    let (whole, words) = inspect(&dir);
    let files = snapshots(&dir);
    assert!(whole && files.iter().all(|file| words.contains(&file.display().to_string())), "{words}");
    assert_eq!(words.matches("every checksum fits").count(), files.len(), "{words}");
    let newest = files.last().expect("some are kept");
    let (_, words) = inspect(newest);
    // The name begins with the index, in hexadecimal.
    let name = newest.file_stem().and_then(|name| name.to_str()).expect("a name");
    let index = u64::from_str_radix(name.split('-').next().expect("an index"), 16).expect("hexadecimal");
    let bytes = fs::metadata(newest).expect("it is there").len();
    for expected in [format!("up to entry {index} of term "), "members   1".to_owned(), " votes; ".to_owned(), format!("{bytes} bytes, ")] {
        assert!(words.contains(&expected), "{expected} is missing: {words}");
    }
    flip_in_newest_snapshot(&dir, 0.5);
    let (whole, words) = inspect(&dir);
    assert!(!whole && words.matches("  damaged ").count() == 1, "{words}");
}
