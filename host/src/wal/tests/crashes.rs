//! The power goes after every single call to the disk, with many choices of what survives of the rest.

use super::faulty::FaultyDisk;
use super::support::{Coin, open, operation, operations, write};

/// Groups of a test run: their sizes repeat, and some groups cross into the next segment.
const GROUPS: [u64; 5] = [1, 3, 2, 6, 1];

/// Writes groups until the power goes. Gives how many operations were durable, and how many were submitted.
fn run(disk: &FaultyDisk, already: u64, until: u64) -> (u64, u64) {
    let Ok((mut journal, found, _)) = open(disk) else { return (already, already) };
    let (mut durable, mut submitted) = (found.len() as u64, found.len() as u64);
    assert_eq!(found, operations(1..=durable), "a prefix, and nothing else");
    assert!(durable >= already, "{already} operations were durable, {durable} came back");
    for size in GROUPS.into_iter().cycle() {
        if submitted >= until {
            break;
        }
        let group: Vec<_> = (submitted + 1..=submitted + size).map(operation).collect();
        submitted += size;
        match write(&mut journal, &group) {
            Ok(()) => durable = submitted,
            Err(_) => break,
        }
    }
    (durable, submitted)
}

#[test]
fn nothing_durable_is_lost_and_nothing_else_appears_wherever_the_power_goes() {
    let calls = {
        let disk = FaultyDisk::default();
        run(&disk, 0, 60);
        disk.calls().len()
    };
    assert!(calls > 80, "the run is long enough to matter: {calls} calls");
    for at in 0..calls {
        for seed in 0..12 {
            let mut coin = Coin(seed * 10_000 + at as u64);
            let disk = FaultyDisk::default();
            disk.lose_power_after(at);
            let (mut durable, _) = run(&disk, 0, 60);
            // And again while recovery and the next groups are under way.
            for _ in 0..3 {
                disk.power_up(|| coin.flip());
                let before = durable;
                let more = usize::try_from(coin.next() % 25).unwrap();
                disk.lose_power_after(more);
                (durable, _) = run(&disk, before, 90);
            }
            disk.power_up(|| coin.flip());
            let (_, found, _) = open(&disk).unwrap_or_else(|error| panic!("call {at}, seed {seed}: {error}"));
            assert!(found.len() as u64 >= durable, "call {at}, seed {seed}: {durable} were durable, {} came back", found.len());
            assert_eq!(found, operations(1..=found.len() as u64), "call {at}, seed {seed}");
        }
    }
}

#[test]
fn nothing_durable_is_lost_when_one_sync_fails_and_the_power_goes_later() {
    for failing in 0..40 {
        for seed in 0..10 {
            let mut coin = Coin(seed * 1000 + failing);
            let disk = FaultyDisk::default();
            let (durable, _) = run(&disk, 0, failing);
            disk.fail_next(super::faulty::Call::Sync, std::io::ErrorKind::Other);
            let (durable, _) = run(&disk, durable, 60);
            // The process starts again on the same machine, which loses its power soon after.
            disk.lose_power_after(usize::try_from(coin.next() % 12).unwrap());
            let (durable, _) = run(&disk, durable, 80);
            disk.power_up(|| coin.flip());
            let (_, found, _) = open(&disk).unwrap_or_else(|error| panic!("sync {failing}, seed {seed}: {error}"));
            assert!(found.len() as u64 >= durable, "sync {failing}, seed {seed}");
            assert_eq!(found, operations(1..=found.len() as u64), "sync {failing}, seed {seed}");
        }
    }
}
