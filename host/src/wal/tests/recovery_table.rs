//! One test for each row of the recovery table.

use std::io::ErrorKind;
use std::sync::Arc;

use amaters_cluster_core::GroupId;

use super::faulty::{Call, FaultyDisk};
use super::support::{
    SEGMENT, append, compaction, damage, dir, file, open, operation, operations, places, read, saved_state, segments, write, written,
};
use crate::wal::error::WalError;
use crate::wal::hard_state;
use crate::wal::inspect::{self, Verdict};
use crate::wal::reader::WalReader;
use crate::wal::record::{Body, Record, encode};
use crate::wal::scan;
use crate::wal::segment::{self, HEADER_BYTES, Header};

/// Appends what a group would have left, with `tear` applied to its bytes, as a write that was never synced.
fn torn_group(disk: &FaultyDisk, numbers: std::ops::RangeInclusive<u64>, tear: impl FnOnce(&mut Vec<u8>)) {
    let (segment, _, end) = *places(disk).last().unwrap();
    let image = disk.get(&file(segment)).unwrap();
    let header = Header::decode(&file(segment), &image).unwrap().unwrap();
    let synced = numbers.start() - 1;
    let mut group = Vec::new();
    for n in numbers {
        let operation = operation(n);
        let record = Record { group: 0.into(), sequence: n, synced, body: Body::of(&operation) };
        encode(header.journal, &record, &mut group).unwrap();
    }
    tear(&mut group);
    disk.edit(&file(segment), |image| image[end..end + group.len()].copy_from_slice(&group));
}

/// Recovery gives 1 to `last`, what is written then is there too, and nothing of what was cut comes back.
fn goes_on_after(disk: &FaultyDisk, last: u64) {
    let (mut journal, found, _) = open(disk).unwrap();
    assert_eq!(found, operations(1..=last));
    write(&mut journal, &[operation(100)]).unwrap();
    drop(journal);
    disk.power_up(|| false);
    let (found, diagnostics) = read(disk).unwrap();
    assert_eq!(found, operations((1..=last).chain([100])));
    assert_eq!(diagnostics.torn_bytes, 0);
}

#[test]
fn row_a_a_first_start_makes_a_durable_segment() {
    let disk = FaultyDisk::default();
    let (_, found, diagnostics) = open(&disk).unwrap();
    assert!(found.is_empty());
    assert_eq!(diagnostics.records, 0);
    let image = disk.durable(&file(1)).expect("the name is durable");
    assert_eq!(image.len() as u64, SEGMENT);
    assert!(Header::decode(&file(1), &image).unwrap().is_ok());
    goes_on_after(&disk, 0);
}

#[test]
fn row_b_a_clean_end_is_added_to() {
    let disk = written(5);
    let (found, diagnostics) = read(&disk).unwrap();
    assert_eq!((found, diagnostics.torn_bytes, diagnostics.last_sequence), (operations(1..=5), 0, 5));
    goes_on_after(&disk, 5);
    // The end of the file ends a segment as well as zeros do.
    let disk = written(5);
    let end = places(&disk)[4].2;
    disk.edit(&file(1), |image| image.truncate(end));
    goes_on_after(&disk, 5);
}

#[test]
fn row_c_a_torn_group_is_cut_with_the_intact_records_in_it() {
    let tears: [fn(&mut Vec<u8>); 4] = [
        |group| group[..20].fill(0),   // the first record's head is missing
        |group| group[30] ^= 1,        // a byte of its payload differs
        |group| group[..4].fill(0xff), // its length is nonsense
        |group| group.truncate(35),    // it stops early
    ];
    for tear in tears {
        let disk = written(5);
        torn_group(&disk, 6..=8, tear);
        let (found, diagnostics) = read(&disk).unwrap();
        assert_eq!(found, operations(1..=5));
        assert!(diagnostics.torn_bytes > 0);
        let before = disk.copy();
        goes_on_after(&disk, 5);
        assert_ne!(before.get(&file(1)), disk.get(&file(1)), "reading changes nothing, recovery does");
    }
}

#[test]
fn row_d_a_torn_first_group_of_a_segment_is_cut_with_its_header() {
    let disk = written(16);
    let (segment, start, _) = *places(&disk).last().unwrap();
    assert!(segment == 2 && start < 100, "operation 16 is the first of segment 2, but for the hard state that it repeats");
    for torn in [10, 30, HEADER_BYTES - 1] {
        let disk = disk.copy();
        disk.edit(&file(2), |image| image[..torn].fill(0));
        let (found, diagnostics) = read(&disk).unwrap();
        assert_eq!(found, operations(1..=15));
        assert!(diagnostics.torn_bytes > 0);
        goes_on_after(&disk, 15);
    }
}

#[test]
fn row_e_blank_segments_are_removed() {
    let disk = written(5);
    disk.delete(&file(2));
    disk.put(&file(2), vec![0; 1024]);
    disk.put(&file(3), vec![0; 512]);
    let (journal, _, diagnostics) = open(&disk).unwrap();
    assert_eq!(diagnostics.blank_segments, 2);
    drop(journal);
    assert_eq!((disk.durable(&file(2)), disk.durable(&file(3))), (None, None));
    goes_on_after(&disk, 5);
}

#[test]
fn row_f_temporary_files_are_removed() {
    let disk = written(3);
    let temporary = dir().join("0000000000000002.wal.tmp");
    let foreign = dir().join("notes.tmp");
    disk.put(&temporary, vec![1; 100]);
    disk.put(&foreign, vec![1; 100]);
    drop(open(&disk).unwrap());
    assert_eq!(disk.durable(&temporary), None);
    assert!(disk.durable(&foreign).is_some(), "what is not ours is left alone");
}

#[test]
fn row_g_an_unproven_group_is_written_again_before_it_counts() {
    let disk = written(4);
    let (mut journal, ..) = open(&disk).unwrap();
    disk.fail_next(Call::Sync, ErrorKind::Other);
    assert!(write(&mut journal, &operations(5..=6)).is_err());
    drop(journal);
    // The process is started again, and the system shows it pages that are on no disk.
    let (journal, found, _) = open(&disk).unwrap();
    assert_eq!(found, operations(1..=6));
    drop(journal);
    disk.power_up(|| false);
    assert_eq!(read(&disk).unwrap().0, operations(1..=6), "what recovery gave is durable");
}

#[test]
fn row_h_damage_before_a_later_group_is_refused() {
    let disk = written(6);
    let (_, start, end) = places(&disk)[2];
    for at in start..end {
        let disk = disk.copy();
        disk.edit(&file(1), |image| image[at] ^= 0x10);
        let before = disk.get(&file(1));
        let found = damage(open(&disk));
        assert_eq!((found.path, found.offset, found.sequence), (file(1), start as u64, 3));
        assert_eq!(disk.get(&file(1)), before, "nothing is changed");
    }
}

#[test]
fn row_i_a_lost_write_before_a_later_group_is_refused() {
    let disk = written(6);
    let (_, start, end) = places(&disk)[2];
    disk.edit(&file(1), |image| image[start..end].fill(0));
    let found = damage(open(&disk));
    assert_eq!((found.offset, found.sequence, found.got.as_str()), (start as u64, 3, "zeros, as at the end of the journal"));
}

#[test]
fn row_j_damage_in_a_segment_that_is_not_the_last_is_refused() {
    let disk = written(20);
    let places = places(&disk);
    let last = places.iter().rposition(|(segment, ..)| *segment == 1).unwrap();
    let (_, start, end) = places[last];
    let whole = disk.get(&file(1)).unwrap();
    let (mut flipped, mut lost) = (whole.clone(), whole.clone());
    flipped[start + 35] ^= 1;
    lost[start..end].fill(0);
    for image in [flipped, lost, whole[..start + 10].to_vec()] {
        let disk = disk.copy();
        disk.put(&file(1), image);
        let found = damage(open(&disk));
        assert_eq!((found.path, found.offset, found.sequence), (file(1), start as u64, last as u64 + 1));
        assert!(found.proof.contains("0000000000000002.wal"), "{}", found.proof);
    }
    // A used segment behind one that looks prepared.
    disk.put(&file(2), vec![0; 1024]);
    let image = disk.get(&file(1)).unwrap();
    disk.put(&file(3), image);
    assert_eq!(damage(open(&disk)).path, file(2));
}

#[test]
fn row_k_a_missing_segment_is_refused() {
    let disk = written(40);
    assert!(disk.get(&file(3)).is_some());
    for (missing, sequence) in [(1, 1), (2, 16)] {
        let disk = disk.copy();
        disk.delete(&file(missing));
        let found = damage(open(&disk));
        assert_eq!((found.path, found.sequence), (file(missing), sequence));
    }
}

#[test]
fn row_l_a_journal_without_its_first_header_is_refused() {
    let disk = written(3);
    for at in (0..8).chain(12..HEADER_BYTES) {
        let disk = disk.copy();
        disk.edit(&file(1), |image| image[at] ^= 1);
        assert_eq!(damage(open(&disk)).offset, 0);
    }
    disk.put(&file(1), Vec::new());
    assert_eq!(damage(open(&disk)).path, file(1));
}

#[test]
fn row_m_a_segment_from_elsewhere_is_refused() {
    let disk = written(20);
    let other = written(20);
    let headers = |disk: &FaultyDisk| Header::decode(&file(2), &disk.get(&file(2)).unwrap()).unwrap().unwrap();
    let own = headers(&disk);
    let foreign = [headers(&other), Header { number: 3, ..own }, Header { first_sequence: own.first_sequence - 1, ..own }];
    for header in foreign {
        let disk = disk.copy();
        disk.edit(&file(2), |image| image[..HEADER_BYTES].copy_from_slice(&header.encode()));
        let found = damage(open(&disk));
        assert_eq!((found.path, found.offset), (file(2), 0), "{header:?}");
    }
}

#[test]
fn row_n_what_a_newer_version_wrote_is_refused_and_not_cut() {
    let disk = written(3);
    disk.edit(&file(1), |image| image[8] = 2);
    assert!(matches!(open(&disk), Err(WalError::UnsupportedFormat { got: 2, .. })));

    // The last record, of type 9, with a good checksum.
    let disk = written(3);
    let (_, start, end) = places(&disk)[2];
    let journal = Header::decode(&file(1), &disk.get(&file(1)).unwrap()).unwrap().unwrap().journal;
    disk.edit(&file(1), |image| {
        image[start + 4] = 9;
        let sum = crate::wal::record::checksum(journal, &image[start..end - 4]);
        image[end - 4..end].copy_from_slice(&sum.to_le_bytes());
    });
    let before = disk.get(&file(1));
    assert!(matches!(open(&disk), Err(WalError::UnsupportedRecord { got: 9, .. })));
    assert_eq!(disk.get(&file(1)), before);
}

#[test]
fn row_o_a_read_error_is_no_end() {
    let disk = written(20);
    for call in [Call::List, Call::Read] {
        disk.fail_next(call, ErrorKind::TimedOut);
        let error = open(&disk).err().expect("the error is passed on");
        assert!(matches!(&error, WalError::Io { source, .. } if source.kind() == ErrorKind::TimedOut), "{error}");
    }
    assert_eq!(read(&disk).unwrap().0, operations(1..=20), "and nothing was changed");
}

#[test]
fn row_p_released_segments_that_a_crash_left_are_removed() {
    let disk = FaultyDisk::default();
    let (mut journal, ..) = open(&disk).unwrap();
    for n in 1..=60 {
        write(&mut journal, &[append(n)]).unwrap();
    }
    write(&mut journal, &compaction(61)).unwrap();
    let all = disk.copy();
    journal.release().unwrap();
    drop(journal);
    let first = segments(&disk)[0];
    assert!(first > 4);
    let kept = read(&disk).unwrap().0;
    // Any of them may be there, whatever the directory had kept when the power went.
    for left in [vec![1], vec![2], vec![first - 1], vec![1, first - 1], vec![1, 3], (1..first).collect()] {
        let disk = disk.copy();
        left.iter().for_each(|number| disk.put(&file(*number), all.get(&file(*number)).unwrap()));
        let (found, diagnostics) = read(&disk).unwrap();
        assert_eq!(diagnostics.left_over_segments, left.len() as u64);
        assert!(found.ends_with(&kept), "{left:?}");
        drop(open(&disk).unwrap());
        assert_eq!(segments(&disk)[0], first);
        disk.power_up(|| false);
        assert_eq!(segments(&disk)[0], first, "durably");
        assert_eq!(read(&disk).unwrap().0, kept);
    }
}

#[test]
fn row_q_a_copy_of_the_hard_state_that_is_not_the_journals_is_written_anew() {
    let copy = dir().join("hard-state-0");
    let good = written(7).durable(&copy).expect("it is durable");
    let flipped = [&good[..30], &[good[30] ^ 1], &good[31..]].concat();
    for found in [None, Some(Vec::new()), Some(flipped), Some(good[..20].to_vec())] {
        let disk = written(7);
        match found {
            Some(bytes) => disk.put(&copy, bytes),
            None => disk.delete(&copy),
        }
        drop(open(&disk).unwrap());
        let state = hard_state::read(&disk, dir(), GroupId(0)).unwrap();
        assert_eq!(state.as_deref(), Some(&b"state 6"[..]));
        assert_eq!(disk.durable(&copy), disk.get(&copy));
    }
}

#[test]
fn row_q_a_copy_that_a_crash_left_one_state_behind_is_no_damage() {
    let copy = dir().join("hard-state-0");
    let disk = written(5);
    let older = disk.get(&copy).unwrap();
    let (mut journal, ..) = open(&disk).unwrap();
    write(&mut journal, &[operation(6)]).unwrap();
    drop(journal);
    disk.put(&copy, older);
    goes_on_after(&disk, 6);
    assert_eq!(saved_state(&disk).unwrap().as_deref(), Some(&b"state 6"[..]));
    // Nor is that of another journal, whatever brought it here.
    let disk = written(5);
    disk.put(&copy, written(9).get(&copy).unwrap());
    goes_on_after(&disk, 5);
    assert_eq!(saved_state(&disk).unwrap().as_deref(), Some(&b"state 3"[..]));
}

#[test]
fn row_r_a_hard_state_that_its_copy_alone_still_has_is_damage() {
    let copy = dir().join("hard-state-0");
    // Operations 6 and 9 are hard states: one is a group of its own, the other the last of three. Nothing behind them proves that they were durable.
    let (alone, last_of_three) = (written(6), written(6));
    write(&mut open(&last_of_three).unwrap().0, &operations(7..=9)).unwrap();
    for (disk, first) in [(alone, 6), (last_of_three, 7)] {
        let places = places(&disk);
        let (start, end) = (places[first - 1].1, places.last().unwrap().2);
        let (whole, good) = (disk.get(&file(1)).unwrap(), disk.get(&copy));
        let flipped = (start..end).map(|at| {
            let mut image = whole.clone();
            image[at] ^= 1 << (at % 8);
            image
        });
        let lost = [&whole[..start], &vec![0; whole.len() - start]].concat();
        for image in flipped.chain([lost, whole[..start].to_vec(), whole[..end - 1].to_vec()]) {
            let disk = disk.copy();
            disk.put(&file(1), image.clone());
            let found = damage(open(&disk));
            assert!(found.path == file(1) && found.offset >= start as u64 && found.sequence >= first as u64, "{found}");
            assert_eq!(damage(read(&disk)), found, "whoever only looks is told as well");
            assert!(found.proof.contains("hard-state-0"), "{}", found.proof);
            assert_eq!((disk.get(&file(1)), disk.get(&copy)), (Some(image), good.clone()), "nothing is changed");
        }
    }
    // The whole journal is gone, and its copy tells that there was one.
    let disk = written(6);
    disk.delete(&file(1));
    assert_eq!(damage(open(&disk)).path, file(1));
}

#[test]
fn a_record_that_fits_no_segment_gets_one_that_grows() {
    let disk = written(2);
    let (mut journal, ..) = open(&disk).unwrap();
    let large = amaters_cluster_core::Operation::HardState(vec![7; 5000]);
    write(&mut journal, std::slice::from_ref(&large)).unwrap();
    write(&mut journal, &[operation(4)]).unwrap();
    drop(journal);
    disk.power_up(|| false);
    let all = places(&disk);
    assert_eq!(all.iter().map(|(segment, ..)| *segment).collect::<Vec<_>>(), [1, 1, 2, 3]);
    let (found, _) = read(&disk).unwrap();
    assert_eq!(found, [operation(1), operation(2), large, operation(4)]);
}

#[test]
fn a_value_that_holds_a_record_is_not_taken_for_proof() {
    let disk = written(5);
    let journal = Header::decode(&file(1), &disk.get(&file(1)).unwrap()).unwrap().unwrap().journal;
    let forged = |journal| {
        let mut bytes = Vec::new();
        encode(journal, &Record { group: 0.into(), sequence: 7, synced: 6, body: Body::Mark }, &mut bytes).unwrap();
        bytes
    };
    // Whoever does not know the journal's number can't make a proof.
    assert_eq!(scan::proof_of(journal, &forged(journal ^ 1), 6), None);
    assert_eq!(scan::proof_of(journal, &forged(journal), 6), Some(7));
}

#[test]
fn a_proof_whose_checksum_ends_with_zeros_is_seen() {
    let mark = |sequence| {
        let mut bytes = Vec::new();
        encode(1, &Record { group: 0.into(), sequence, synced: sequence - 1, body: Body::Mark }, &mut bytes).unwrap();
        bytes
    };
    let sequence = (2..100_000).find(|sequence| mark(*sequence).ends_with(&[0, 0])).expect("one in 65536 does");
    let mut bytes = mark(sequence);
    bytes.resize(10_000, 0);
    assert_eq!(scan::proof_of(1, &bytes, sequence - 1), Some(sequence));
    // Nor is one overlooked that begins in the last of many zeros.
    let shifted = [vec![0; 10_000], mark(sequence)].concat();
    assert_eq!(scan::proof_of(1, &shifted, sequence - 1), Some(sequence));
}

#[test]
fn what_looks_damaged_while_a_node_writes_is_looked_at_again() {
    let disk = written(6);
    let (_, start, end) = places(&disk)[2];
    let mut early = disk.get(&file(1)).unwrap();
    early[start..end].fill(0);
    disk.read_stale(early);
    let seen = inspect::of(&WalReader::on(Arc::new(disk.clone()), dir())).unwrap();
    assert!(matches!(seen.verdict, Verdict::Clean(diagnostics) if diagnostics.records == 6), "{seen:?}");
}

#[test]
fn names_are_read_as_they_are_written() {
    for number in [1, 0xabc, u64::MAX] {
        let path = segment::path(dir(), number);
        assert_eq!(segment::number_of(path.file_name().unwrap().to_str().unwrap()), Some(number));
    }
    for name in ["1.wal", "000000000000000A.wal", "+00000000000000a.wal", "0000000000000001.wal.tmp", "0000000000000001"] {
        assert_eq!(segment::number_of(name), None, "{name}");
    }
}
