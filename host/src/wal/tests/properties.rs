//! What holds for any journal, any cut and any flipped byte.

use amaters_cluster_core::{GroupId, LogIndex, Operation};
use proptest::collection::vec;
use proptest::prelude::*;

use super::faulty::FaultyDisk;
use super::support::{SEGMENT, dir, file, open, places, read, write};
use crate::wal::record::{self, Body, Decoded, Record};
use crate::wal::segment::HEADER_BYTES;
use crate::wal::{WalError, hard_state};

fn any_operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        vec(any::<u8>(), 0..40).prop_map(Operation::HardState),
        (any::<u64>(), any::<u32>(), vec(any::<u8>(), 0..200)).prop_map(|(first, count, entries)| Operation::Append {
            first: LogIndex(first),
            count,
            entries,
        }),
        (any::<u64>(), vec(any::<u8>(), 0..40)).prop_map(|(first, base)| Operation::Compact { first: LogIndex(first), base }),
        // Records that look like the bytes of a journal.
        vec(0_u8..40, 0..120).prop_map(Operation::HardState),
    ]
}

/// A journal of groups, and all its operations.
fn journal_of(groups: &[Vec<Operation>]) -> (FaultyDisk, Vec<Operation>) {
    let disk = FaultyDisk::default();
    let (mut journal, ..) = open(&disk).unwrap();
    for group in groups {
        write(&mut journal, group).unwrap();
    }
    drop(journal);
    (disk, groups.concat())
}

fn groups() -> impl Strategy<Value = Vec<Vec<Operation>>> {
    vec(vec(any_operation(), 1..5), 1..10)
}

proptest! {
    // A failure prints the smallest input that shows it, which then becomes a test with a name: no file of seeds is kept.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_operation_reads_as_it_was_written(operation in any_operation(), group: u64, sequence in 1_u64.., journal: u64, rest in vec(any::<u8>(), 0..50)) {
        let written = Record { group: GroupId(group), sequence, synced: sequence - 1, body: Body::of(&operation) };
        let mut bytes = Vec::new();
        record::encode(journal, &written, &mut bytes).unwrap();
        let length = bytes.len();
        bytes.extend(rest);
        prop_assert_eq!(record::decode(journal, &bytes), Decoded::Record(written, length));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..300), sequence: u64) {
        let _ = record::decode(0, &bytes);
        let _ = crate::wal::scan::proof_of(0, &bytes, sequence);
        let disk = FaultyDisk::default();
        disk.put(&file(1), bytes);
        prop_assert!(read(&disk).is_err(), "no journal begins like that");
    }

    #[test]
    fn any_prefix_of_the_last_segment_recovers_a_prefix_of_the_records(groups in groups(), cut: prop::sample::Index, zeros: bool) {
        let (disk, all) = journal_of(&groups);
        let places = places(&disk);
        let &(number, _, end) = places.last().unwrap();
        // The first segment's header is durable before the segment has a name.
        let least = if number == 1 { HEADER_BYTES } else { 0 };
        let cut = least + cut.index(end - least + 1);
        disk.edit(&file(number), |image| if zeros { image[cut..].fill(0) } else { image.truncate(cut) });
        // Of what was durable a crash takes nothing: no copy of a hard state was written for what it takes.
        disk.delete(&hard_state::path(dir(), GroupId(0)));
        let kept = places.iter().filter(|(segment, _, end)| *segment < number || *end <= cut).count();
        let (mut journal, found, _) = open(&disk).unwrap();
        prop_assert_eq!(&found, &all[..kept]);
        // And what is added next is not lost behind the rest of what was cut.
        write(&mut journal, &groups[0]).unwrap();
        drop(journal);
        disk.power_up(|| false);
        prop_assert_eq!(read(&disk).unwrap().0, [&all[..kept], &groups[0]].concat());
    }

    #[test]
    fn any_flipped_byte_that_was_proven_durable_is_found(groups in groups(), at: prop::sample::Index, bits in 1_u8..) {
        let (disk, all) = journal_of(&groups);
        let (mut journal, ..) = open(&disk).unwrap();
        journal.close().unwrap();
        drop(journal);
        // Everything up to the mark at the end, headers included.
        let places = places(&disk);
        let &(last, mark, _) = places.last().unwrap();
        let bytes: Vec<_> = (1..=last).flat_map(|number| {
            let end = if number == last { mark } else { places.iter().rfind(|(segment, ..)| *segment == number).unwrap().2 };
            (0..end).map(move |at| (number, at))
        }).collect();
        let (number, at) = bytes[at.index(bytes.len())];
        disk.edit(&file(number), |image| image[at] ^= bits);
        let found = read(&disk);
        prop_assert!(
            matches!(found, Err(WalError::Damaged(_) | WalError::UnsupportedFormat { .. })),
            "byte {} of segment {}: {:?} of {} records", at, number, found.map(|(found, _)| found.len()), all.len()
        );
    }

    #[test]
    fn any_flipped_byte_anywhere_never_yields_another_record(groups in groups(), at: prop::sample::Index, bits in 1_u8..) {
        let (disk, all) = journal_of(&groups);
        let &(last, ..) = places(&disk).last().unwrap();
        let at = at.index(usize::try_from(last * SEGMENT).unwrap());
        let (number, at) = ((at as u64) / SEGMENT + 1, at % 1024);
        disk.edit(&file(number), |image| if let Some(byte) = image.get_mut(at) { *byte ^= bits });
        if let Ok((found, _)) = read(&disk) {
            prop_assert_eq!(&found, &all[..found.len()]);
        }
    }
}
