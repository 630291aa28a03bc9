//! A cut takes what it says, and leaves a journal that a node starts with.

use std::sync::Arc;

use super::faulty::FaultyDisk;
use super::support::{dir, file, open, operations, places, read, write, written};
use crate::wal::cut::{carry_out, plan};
use crate::wal::reader::WalReader;

fn reader(disk: &FaultyDisk) -> WalReader {
    WalReader::on(Arc::new(disk.clone()), dir())
}

#[test]
fn a_damaged_journal_is_cut_where_the_damage_begins_and_goes_on_from_there() {
    let disk = written(40);
    assert_eq!(plan(&reader(&disk)).unwrap(), None, "a whole journal is not cut");
    for (at, (number, start, _)) in places(&disk).into_iter().enumerate().take(39) {
        let disk = disk.copy();
        disk.edit(&file(number), |image| image[start + 20] ^= 1);
        let cut = plan(&reader(&disk)).unwrap().expect("it is damaged");
        assert!(cut.leaves_something && cut.removed.iter().all(|later| *later > number));
        carry_out(&disk, dir(), &cut).unwrap();
        disk.power_up(|| false);
        let (mut journal, found, _) = open(&disk).unwrap();
        assert_eq!(found, operations(1..=at as u64));
        let last = found.len() as u64;
        assert!(cut.last_index <= last && cut.last_index + 2 > last);
        write(&mut journal, &operations([50])).unwrap();
        drop(journal);
        assert_eq!(read(&disk).unwrap().0, operations((1..=last).chain([50])));
    }
}

#[test]
fn a_missing_segment_costs_all_behind_it() {
    let disk = written(40);
    disk.delete(&file(2));
    let cut = plan(&reader(&disk)).unwrap().expect("it is damaged");
    assert!(cut.removed.contains(&3) && !cut.removed.contains(&1));
    carry_out(&disk, dir(), &cut).unwrap();
    let found = open(&disk).unwrap().1;
    assert_eq!(found, operations(1..=15));
    // Without the first one there is nothing to begin with.
    let disk = written(40);
    disk.delete(&file(1));
    assert!(!plan(&reader(&disk)).unwrap().expect("it is damaged").leaves_something);
}
