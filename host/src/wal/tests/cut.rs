//! A cut takes what it says, and leaves a journal that a node starts with.

use std::sync::Arc;

use amaters_cluster_core::GroupId;

use super::faulty::FaultyDisk;
use super::support::{Coin, damage, dir, file, open, operations, places, read, saved_state, write, written};
use crate::wal::cut::{carry_out, plan};
use crate::wal::disk::Disk;
use crate::wal::hard_state;

fn system(disk: &FaultyDisk) -> Arc<dyn Disk> {
    Arc::new(disk.clone())
}

#[test]
fn a_damaged_journal_is_cut_where_the_damage_begins_and_keeps_its_newest_hard_state() {
    let disk = written(40);
    assert_eq!(plan(&system(&disk), dir()).unwrap(), None, "a whole journal is not cut");
    for (at, (number, start, _)) in places(&disk).into_iter().enumerate().take(39) {
        let disk = disk.copy();
        disk.edit(&file(number), |image| image[start + 20] ^= 1);
        let cut = plan(&system(&disk), dir()).unwrap().expect("it is damaged");
        assert!(cut.leaves_something && cut.keeps_hard_state && cut.removed.iter().all(|later| *later > number));
        // Operation 39 is the last hard state: it is cut, and comes back from its copy.
        assert_eq!(carry_out(&system(&disk), dir(), &cut).unwrap(), [GroupId(0)]);
        disk.power_up(|| false);
        let (mut journal, found, _) = open(&disk).unwrap();
        let kept: Vec<_> = (1..=at as u64).chain([39]).collect();
        assert_eq!(found, operations(kept.clone()));
        assert!(cut.last_index <= at as u64 && cut.last_index + 2 > at as u64);
        write(&mut journal, &operations([50])).unwrap();
        drop(journal);
        assert_eq!(read(&disk).unwrap().0, operations(kept.into_iter().chain([50])));
    }
}

#[test]
fn a_missing_segment_costs_all_behind_it() {
    let disk = written(40);
    disk.delete(&file(2));
    let cut = plan(&system(&disk), dir()).unwrap().expect("it is damaged");
    assert!(cut.removed.contains(&3) && !cut.removed.contains(&1));
    carry_out(&system(&disk), dir(), &cut).unwrap();
    let found = open(&disk).unwrap().1;
    assert_eq!(found, operations((1..=15).chain([39])));
    // Without the first one there is nothing to begin with.
    let disk = written(40);
    disk.delete(&file(1));
    assert!(!plan(&system(&disk), dir()).unwrap().expect("it is damaged").leaves_something);
}

#[test]
fn a_vote_in_a_damaged_last_group_comes_back_with_a_cut() {
    let disk = written(6);
    let (number, start, _) = places(&disk)[5];
    disk.edit(&file(number), |image| image[start + 20] ^= 1);
    assert_eq!(damage(open(&disk)).sequence, 6);
    let cut = plan(&system(&disk), dir()).unwrap().expect("it is damaged");
    assert_eq!(carry_out(&system(&disk), dir(), &cut).unwrap(), [GroupId(0)]);
    assert_eq!(open(&disk).unwrap().1, operations(1..=6));
    // Nothing is added where the journal has it all.
    let disk = written(8);
    let (number, start, _) = places(&disk)[6];
    disk.edit(&file(number), |image| image[start + 20] ^= 1);
    let cut = plan(&system(&disk), dir()).unwrap().expect("record 8 proves that 7 was durable");
    assert_eq!(carry_out(&system(&disk), dir(), &cut).unwrap(), []);
    assert_eq!(open(&disk).unwrap().1, operations(1..=6));
}

#[test]
fn a_cut_that_a_crash_has_stopped_forgets_no_vote_and_is_carried_out_anew() {
    let damaged = written(40);
    let (number, start, _) = places(&damaged)[20];
    damaged.edit(&file(number), |image| image[start + 20] ^= 1);
    let calls = {
        let disk = damaged.copy();
        let cut = plan(&system(&disk), dir()).unwrap().expect("it is damaged");
        let before = disk.calls().len();
        carry_out(&system(&disk), dir(), &cut).unwrap();
        disk.calls().len() - before
    };
    assert!(calls > 10, "{calls}");
    let mut stopped = 0;
    for at in 0..calls {
        for seed in 0..6 {
            let mut coin = Coin(seed * 1000 + at as u64);
            let disk = damaged.copy();
            let cut = plan(&system(&disk), dir()).unwrap().expect("it is damaged");
            disk.lose_power_after(at);
            // A segment that is prepared ahead may be what the power fails: that stops no cut.
            let carried_out = carry_out(&system(&disk), dir(), &cut).is_ok();
            stopped += u32::from(!carried_out);
            disk.power_up(|| coin.flip());
            assert_eq!(saved_state(&disk).unwrap().as_deref(), Some(&b"state 39"[..]));
            if let Some(cut) = plan(&system(&disk), dir()).unwrap() {
                assert!(!carried_out, "call {at}, seed {seed}: a cut that is said to be done is durable");
                carry_out(&system(&disk), dir(), &cut).unwrap();
            }
            assert_eq!(open(&disk).unwrap().1, operations((1..=20).chain([39])), "call {at}, seed {seed}");
        }
    }
    assert!(stopped >= 6 * 10, "{stopped} of {calls} calls, six times each");
}

#[test]
fn the_first_of_two_damages_is_where_to_cut() {
    let disk = written(40);
    let (number, start, _) = places(&disk)[4];
    disk.edit(&file(number), |image| image[start + 20] ^= 1);
    disk.delete(&file(2));
    disk.edit(&file(3), |image| image.fill(0));
    let cut = plan(&system(&disk), dir()).unwrap().expect("it is damaged");
    assert_eq!((cut.damage.path.clone(), cut.damage.sequence), (file(number), 5));
    carry_out(&system(&disk), dir(), &cut).unwrap();
    assert_eq!(open(&disk).unwrap().1, operations((1..=4).chain([39])));
}

#[test]
fn of_a_damage_and_a_gap_before_it_the_gap_is_where_to_cut() {
    let whole = written(60);
    let (number, start, _) = *places(&whole).iter().find(|(number, ..)| *number == 4).expect("there are some segments");
    // Damage within a segment; its header lost; and a blank one in the place of all that came before.
    let damages: [fn(&mut Vec<u8>, usize); 3] = [|image, start| image[start + 20] ^= 1, |image, _| image[3] ^= 1, |image, _| image.fill(0)];
    for damage in damages {
        for missing in [2, 3] {
            let disk = whole.copy();
            disk.edit(&file(number), |image| damage(image, start));
            disk.delete(&file(missing));
            let cut = plan(&system(&disk), dir()).unwrap().expect("it is damaged");
            assert_eq!(cut.damage.path, file(missing));
            carry_out(&system(&disk), dir(), &cut).unwrap();
            let kept = places(&whole).iter().filter(|(number, ..)| *number < missing).count() as u64;
            assert_eq!(open(&disk).unwrap().1, operations((1..=kept).chain([60])));
        }
    }
}

#[test]
fn a_cut_says_whether_there_is_a_copy_of_the_hard_state_to_go_on_with() {
    let copy = hard_state::path(dir(), GroupId(0));
    let damaged = written(40);
    let (number, start, _) = places(&damaged)[20];
    damaged.edit(&file(number), |image| image[start + 20] ^= 1);
    let keeps = |disk: &FaultyDisk| plan(&system(disk), dir()).unwrap().expect("it is damaged").keeps_hard_state;
    assert!(keeps(&damaged));
    let of_another_journal = damaged.copy();
    of_another_journal.put(&copy, written(40).get(&copy).unwrap());
    assert!(!keeps(&of_another_journal), "it says nothing of this one");
    damaged.delete(&copy);
    assert!(!keeps(&damaged));
}
