//! The machine stops after every single call to the disk, while a node's storage does all that it ever does: entries, hard states, snapshots, compaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use amaters_cluster_core::{LogIndex, Operation};

use super::super::SnapshotReport;
use super::super::files::Files;
use super::{dir, id};
use crate::wal::tests::faulty::FaultyDisk;
use crate::wal::tests::support::{self, Coin, append, open, write};

/// How many entries a run goes to.
const UNTIL: u64 = 45;

/// How many snapshots are kept.
const KEEP: usize = 2;

/// What was asked for, and what was reported durable of it. Entries and hard states are numbered alike.
#[derive(Debug, Default)]
struct Model {
    submitted: u64,
    durable: u64,
    submitted_state: u64,
    durable_state: u64,
    begun_snapshots: BTreeSet<u64>,
    /// The newest that was reported.
    durable_snapshot: u64,
}

/// What is there.
struct Found {
    last: u64,
    state: u64,
    /// Those that the log goes back to, as many as are kept: oldest first.
    snapshots: Vec<u64>,
}

fn state(n: u64) -> Operation {
    Operation::HardState(format!("{n}").into_bytes())
}

fn number(state: Option<&[u8]>) -> u64 {
    state.map_or(0, |state| std::str::from_utf8(state).unwrap().parse().unwrap())
}

fn content(n: u64) -> Vec<u8> {
    format!("state up to {n}, ").repeat(8).into_bytes()
}

impl Model {
    /// Compares what a start has found with what it may find.
    fn check(&self, files: &Files, operations: &[Operation], saved: u64) -> Found {
        let mut snapshots: Vec<u64> = files.list().unwrap().iter().map(|it| it.id.index.0).collect();
        for n in &snapshots {
            assert!(self.begun_snapshots.contains(n), "nobody has begun snapshot {n}");
            assert_eq!(files.read(id(*n), 0, 10_000).unwrap(), content(*n), "snapshot {n} has a name, and is not whole");
        }
        let newest = snapshots.first().copied();
        assert!(newest.unwrap_or_default() >= self.durable_snapshot, "snapshot {} is gone: {snapshots:?}", self.durable_snapshot);
        let (first, log, state) = replay(operations);
        let last = log.last_key_value().map_or(first - 1, |(last, _)| *last);
        assert!(log.keys().copied().eq(first..=last), "there is a hole");
        for (n, entries) in &log {
            assert_eq!(append(*n), Operation::Append { first: LogIndex(*n), count: 1, entries: entries.clone() });
        }
        assert!((self.durable..=self.submitted).contains(&last), "the log ends with {last}");
        assert!((self.durable_state..=self.submitted_state).contains(&state), "the hard state is {state}");
        assert!((self.durable_state..=self.submitted_state).contains(&saved), "the hard state's copy is {saved}");
        snapshots.truncate(KEEP);
        if first > 1 {
            assert!(
                snapshots.len() == KEEP && snapshots.iter().all(|n| *n >= first - 1),
                "the log from {first} on joins not all of {snapshots:?}"
            );
        }
        snapshots.retain(|n| *n >= first - 1);
        snapshots.reverse();
        Found { last, state, snapshots }
    }

    /// A start, and then a node's work until the machine stops. Says whether all of it was done.
    fn run(&mut self, disk: &FaultyDisk) -> Option<()> {
        let saved = if self.durable_state > 0 { number(support::saved_state(disk).ok()?.as_deref()) } else { 0 };
        let mut files = Files::open(Arc::new(disk.clone()), dir()).ok()?;
        let Ok((mut journal, operations, _)) = open(disk) else {
            assert!(disk.is_off(), "what a crash leaves is never taken for damage");
            return None;
        };
        // What is compared is read by a machine that is on.
        let found = disk.while_on(|| self.check(&files, &operations, saved));
        assert_eq!(disk.while_on(|| number(support::saved_state(disk).unwrap().as_deref())), found.state, "a start renews the copy");
        // A start makes durable what it gives back, and what it does not give back never comes again.
        (self.durable, self.durable_state) = (found.last, found.state);
        (self.submitted, self.submitted_state) = (found.last, found.state);
        let mut kept = found.snapshots;
        self.durable_snapshot = kept.last().copied().unwrap_or_default();
        for n in found.last + 1..=UNTIL {
            self.submitted = n;
            let mut group = vec![append(n)];
            if n % 4 == 0 {
                self.submitted_state = n;
                group.insert(0, state(n));
            }
            write(&mut journal, &group).ok()?;
            (self.durable, self.durable_state) = (n, self.submitted_state);
            if n % 10 == 0 {
                self.take_snapshot(&mut files, n)?;
                kept.push(n);
                kept.drain(..kept.len().saturating_sub(KEEP));
                if kept.len() == KEEP {
                    let first = LogIndex(kept[0] + 1);
                    write(&mut journal, &[state(self.submitted_state), Operation::Compact { first, base: b"base".to_vec() }]).ok()?;
                    journal.release().ok()?;
                }
                files.retain(&kept.iter().map(|n| id(*n)).collect::<Vec<_>>()).ok()?;
            }
        }
        journal.close().ok()
    }

    fn take_snapshot(&mut self, files: &mut Files, n: u64) -> Option<()> {
        self.begun_snapshots.insert(n);
        let (bytes, mut offset) = (content(n), 0);
        for part in bytes.chunks(50) {
            let written = files.write(id(n), offset, part).ok()??;
            offset += part.len() as u64;
            if written != (SnapshotReport::Written { id: id(n), end: offset }) {
                return None;
            }
        }
        let stored = files.finish(id(n)).ok()?? == SnapshotReport::Stored { id: id(n) };
        if stored {
            self.durable_snapshot = n;
        }
        stored.then_some(())
    }
}

/// As the core takes operations back: the first index, the entries, the hard state.
fn replay(operations: &[Operation]) -> (u64, BTreeMap<u64, Vec<u8>>, u64) {
    let (mut first_needed, mut log, mut state) = (1, BTreeMap::new(), 0);
    for operation in operations {
        match operation {
            Operation::HardState(bytes) => state = number(Some(bytes)),
            Operation::Append { first, entries, .. } => {
                log.split_off(&first.0);
                log.insert(first.0, entries.clone());
            }
            Operation::Compact { first, .. } => first_needed = first.0.max(first_needed),
        }
    }
    (first_needed, log.split_off(&first_needed), state)
}

#[test]
fn h35_what_was_reported_is_there_and_nothing_else_wherever_the_machine_stops() {
    let calls = {
        let (disk, mut model) = (FaultyDisk::default(), Model::default());
        model.run(&disk).expect("the disk is well");
        assert_eq!((model.durable, model.durable_snapshot), (UNTIL, 40));
        disk.calls().len()
    };
    assert!(calls > 200, "the run is long enough to matter: {calls} calls");
    for at in 0..calls {
        // Of what is not synced, nothing is kept; all of it; and anything between.
        for seed in 0..6 {
            let mut coin = Coin(seed * 10_000 + at as u64);
            let (disk, mut model) = (FaultyDisk::default(), Model::default());
            let keeps = |coin: &mut Coin| if seed < 2 { seed == 1 } else { coin.flip() };
            disk.lose_power_after(at);
            let _ = model.run(&disk);
            // Once more, while the start or what follows it is under way.
            disk.power_up(|| keeps(&mut coin));
            disk.lose_power_after(usize::try_from(coin.next() % 60).unwrap());
            let _ = model.run(&disk);
            disk.power_up(|| keeps(&mut coin));
            model.run(&disk).unwrap_or_else(|| panic!("call {at}, seed {seed}: a start after a crash succeeds"));
        }
    }
}
