//! A journal, from `docs/on-disk.md`; its damage; and what reading, inspecting and cutting it gives.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crc32fast::Hasher;

use super::bytes::Bytes;
use super::wal::{self, Body, CorruptionPolicy, Record, Verdict, WalError, WalOptions, WalReader, WalWriter};

/// A record as it was written.
struct Written {
    segment: u64,
    start: usize,
    synced: u64,
    bytes: Vec<u8>,
}

/// The files of a journal, and what was written into them.
#[derive(Default)]
struct Journal {
    /// The number that all its checksums begin with.
    id: u64,
    segments: BTreeMap<u64, Vec<u8>>,
    /// Other files.
    others: BTreeMap<String, Vec<u8>>,
    written: Vec<Written>,
    /// Whether a record is among them that no node writes.
    is_odd: bool,
}

/// Makes the journal that the bytes tell of, in a directory of its own, whose files go. Then everything reads it.
///
/// # Panics
/// If something gives a record that was not written, says nothing of a durable one that is lost, or contradicts the others.
pub fn read(dir: &Path, bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let mut journal = Journal::from_bytes(&mut bytes);
    let whole = (journal.segments.clone(), journal.others.clone());
    for _ in 0..bytes.number(5) {
        journal.damage(&mut bytes);
    }
    let is_whole = whole == (journal.segments.clone(), journal.others.clone());
    journal.write_to(dir);
    journal.check(dir, is_whole);
}

impl Journal {
    fn from_bytes(bytes: &mut Bytes<'_>) -> Self {
        let mut journal = Self { id: bytes.any(), ..Self::default() };
        let (mut segment, mut synced) = (1, 0);
        journal.segments.insert(1, journal.header(1, 1));
        for sequence in 1..=bytes.number(30) {
            let kind = bytes.number(16);
            if kind == 0 && sequence > 1 {
                let zeros = bytes.number(80);
                journal.pad(segment, zeros);
                segment += 1;
                journal.segments.insert(segment, journal.header(segment, sequence));
                synced = sequence - 1;
            } else if kind.is_multiple_of(2) {
                synced = sequence - 1; // the first of its group
            }
            let (tag, payload) = payload(sequence, kind, bytes);
            if kind == 15 {
                // Whatever it is, its checksum fits.
                journal.is_odd = true;
                let odd = (bytes.byte(), sequence.wrapping_add(bytes.number(3)), bytes.number(40));
                let record = encode(journal.id, odd.0, 0, odd.1, odd.2, &payload);
                journal.add(segment, odd.2, record);
            } else {
                journal.add(segment, synced, encode(journal.id, tag, 0, sequence, synced, &payload));
            }
            if tag == 1 && bytes.number(2) == 1 {
                journal.others.insert("hard-state-0".to_owned(), copy(journal.id, &payload));
            }
        }
        let zeros = bytes.number(300);
        journal.pad(segment, zeros);
        journal
    }

    fn header(&self, number: u64, first_sequence: u64) -> Vec<u8> {
        let mut header = [&b"UKEHIWAL"[..], &1_u32.to_le_bytes()].concat();
        for part in [self.id, number, first_sequence] {
            header.extend_from_slice(&part.to_le_bytes());
        }
        sealed(self.id, header)
    }

    fn pad(&mut self, segment: u64, zeros: u64) {
        let image = self.segments.entry(segment).or_default();
        image.resize(image.len() + usize::try_from(zeros).expect("it is small"), 0);
    }

    fn add(&mut self, segment: u64, synced: u64, bytes: Vec<u8>) {
        let image = self.segments.entry(segment).or_default();
        self.written.push(Written { segment, start: image.len(), synced, bytes: bytes.clone() });
        image.extend(bytes);
    }

    /// What a bad disk, or somebody with the wrong command, does to the files.
    fn damage(&mut self, bytes: &mut Bytes<'_>) {
        let kind = bytes.number(9);
        let Some(number) = nth(&self.segments, bytes) else { return };
        let target = bytes.number(6) + 1;
        if kind == 0 {
            self.segments.remove(&number);
        } else if kind == 1 {
            let image = self.segments.remove(&number).unwrap_or_default();
            self.segments.insert(target, image);
        } else if kind == 2 {
            let image = self.segments.get(&number).cloned().unwrap_or_default();
            self.segments.insert(target, image);
        } else if kind == 3 {
            let names = ["0000000000000002.wal.tmp", "hard-state-0.tmp", "hard-state-x", "0.wal"];
            let name = names[usize::try_from(bytes.number(4)).expect("it is small")];
            self.others.insert(name.to_owned(), vec![7]);
        } else if kind == 4 {
            if let Some(copy) = self.others.get_mut("hard-state-0") {
                spoil(copy, bytes);
            }
        } else if let Some(image) = self.segments.get_mut(&number) {
            spoil(image, bytes);
        }
    }

    fn write_to(&self, dir: &Path) {
        for entry in fs::read_dir(dir).expect("the directory can be listed").flatten() {
            fs::remove_file(entry.path()).expect("it holds files alone");
        }
        let segments = self.segments.iter().map(|(number, image)| (format!("{number:016x}.wal"), image));
        for (name, image) in segments.chain(self.others.iter().map(|(name, image)| (name.clone(), image))) {
            fs::write(dir.join(name), image).expect("a file can be written");
        }
    }

    fn check(&self, dir: &Path, is_whole: bool) {
        let (given, read) = self.given(|visit| WalReader::new(dir).read(visit).map(drop));
        if is_whole && !self.is_odd {
            assert!(
                read.is_ok() && given.len() == self.written.len(),
                "whole: {} of {} are given, {read:?}",
                given.len(),
                self.written.len()
            );
        }
        if read.is_ok() && !self.is_odd {
            let proven = self.proven();
            assert!(
                given.first().is_none_or(|first| *first == 1) && given.last().copied().unwrap_or_default() >= proven,
                "{proven} was durable: {given:?}"
            );
        }
        match (&read, wal::inspect(dir)) {
            (Ok(()), Ok(seen)) => assert!(!matches!(seen.verdict, Verdict::Damaged(_)), "{:?}", seen.verdict),
            (Err(WalError::Damaged(damage)), Ok(seen)) => assert_eq!(seen.verdict, Verdict::Damaged((**damage).clone())),
            (Err(_), Err(_)) => {}
            (read, seen) => panic!("read as {read:?}, inspected as {seen:?}"),
        }
        if matches!(read, Err(WalError::Damaged(_))) {
            self.read_and_cut(dir);
        }
    }

    /// What can be done with a damaged journal.
    fn read_and_cut(&self, dir: &Path) {
        let planned = wal::plan_cut(dir);
        let Ok(Some(cut)) = planned else {
            // A damaged number of the format can't be told from a newer one.
            let is_newer = matches!(planned, Err(WalError::UnsupportedFormat { .. }));
            assert!(self.is_odd || is_newer, "damage can be cut: {planned:?}");
            return;
        };
        let options = WalOptions { on_corruption: CorruptionPolicy::ReadOnly, ..WalOptions::with_segment_size(4096) };
        let (before, opened) = self.given(|visit| WalWriter::open(dir, &options, Box::new(drop), visit).map(drop));
        if !self.is_odd {
            assert!(opened.is_ok(), "{opened:?}");
            assert!(
                before.iter().copied().eq(1..=before.len() as u64) && before.len() as u64 + 1 == cut.damage.sequence.max(1),
                "{before:?}, {cut:?}"
            );
        }
        // With a copy of the hard state a segment may have to be made, and those are large.
        if cut.leaves_something && !self.others.contains_key("hard-state-0") {
            let done = wal::carry_out_cut(dir, &cut);
            let (after, read) = self.given(|visit| WalReader::new(dir).read(visit).map(drop));
            assert!(self.is_odd || done.is_ok() && read.is_ok() && after == before, "{done:?}, {read:?}, {before:?}, {after:?}");
        }
    }

    /// The sequence numbers of all records that are given, each of which was written, and each of which follows on the one before.
    fn given(
        &self,
        read: impl FnOnce(&mut dyn FnMut(wal::Located<'_>) -> Result<(), WalError>) -> Result<(), WalError>,
    ) -> (Vec<u64>, Result<(), WalError>) {
        let written: BTreeSet<&[u8]> = self.written.iter().map(|record| &record.bytes[..]).collect();
        let mut given: Vec<u64> = Vec::new();
        let done = read(&mut |located| {
            let record = located.record;
            assert!(written.contains(&encoded(self.id, &record)[..]), "record {} was never written", record.sequence);
            assert!(given.last().is_none_or(|last| last + 1 == record.sequence), "{} comes after {given:?}", record.sequence);
            given.push(record.sequence);
            Ok(())
        });
        (given, done)
    }

    /// The last record of which a record that is whole, and where it belongs, says that it was durable.
    fn proven(&self) -> u64 {
        let is_whole = |record: &&Written| {
            let first = self.written.iter().position(|it| it.segment == record.segment).unwrap_or_default() as u64 + 1;
            let Some(image) = self.segments.get(&record.segment) else { return false };
            let there = image.get(record.start..record.start + record.bytes.len());
            image.starts_with(&self.header(record.segment, first)) && there == Some(&record.bytes)
        };
        self.written.iter().filter(is_whole).map(|record| record.synced).max().unwrap_or_default()
    }
}

fn payload(sequence: u64, kind: u64, bytes: &mut Bytes<'_>) -> (u8, Vec<u8>) {
    let length = usize::try_from(bytes.number(40)).expect("it is small");
    let text = format!("{sequence} ").repeat(length).into_bytes();
    match kind {
        1 | 2 => (1, text),
        3 => (4, [&sequence.to_le_bytes()[..], &text].concat()),
        4 => (3, Vec::new()),
        15 => (15, bytes.take(24).to_vec()),
        _ => (2, [&sequence.to_le_bytes()[..], &1_u32.to_le_bytes(), &text].concat()),
    }
}

/// Changes some bytes, where there are any. What is put there comes from elsewhere in the file, or is as good as drawn.
fn spoil(image: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let Some(last) = (image.len() as u64).checked_sub(1) else { return };
    let at = usize::try_from(bytes.number(last + 1)).expect("it is in memory");
    let length = usize::try_from(bytes.number(200)).expect("it is small").min(image.len() - at);
    match bytes.number(6) {
        0 => image.truncate(at),
        1 => image[at..at + length].fill(0),
        2 => {
            let mut noise = u64::from(bytes.byte());
            image.extend(
                std::iter::repeat_with(|| {
                    noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    noise.to_be_bytes()[0]
                })
                .take(length),
            );
        }
        3 => {
            let from = usize::try_from(bytes.number(last + 1)).expect("it is in memory").min(image.len() - length);
            image.copy_within(from..from + length, at);
        }
        _ => image[at] ^= bytes.byte() | 1,
    }
}

fn nth(segments: &BTreeMap<u64, Vec<u8>>, bytes: &mut Bytes<'_>) -> Option<u64> {
    let numbers: Vec<_> = segments.keys().copied().collect();
    let at = bytes.number((numbers.len() as u64).max(1));
    numbers.get(usize::try_from(at).ok()?).copied()
}

/// A record's bytes, as the format has them.
fn encode(id: u64, tag: u8, group: u64, sequence: u64, synced: u64, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(33 + payload.len()).expect("it is small");
    let mut record = length.to_le_bytes().to_vec();
    record.push(tag);
    for part in [group, sequence, synced] {
        record.extend_from_slice(&part.to_le_bytes());
    }
    record.extend_from_slice(payload);
    sealed(id, record)
}

/// What a record that was read must have been written as.
fn encoded(id: u64, record: &Record<'_>) -> Vec<u8> {
    let (tag, payload) = match record.body {
        Body::HardState(state) => (1, state.to_vec()),
        Body::Append { first, count, entries } => (2, [&first.0.to_le_bytes()[..], &count.to_le_bytes(), entries].concat()),
        Body::Mark => (3, Vec::new()),
        Body::Compact { first, base } => (4, [&first.0.to_le_bytes()[..], base].concat()),
        Body::Release { first_segment } => (5, first_segment.to_le_bytes().to_vec()),
    };
    encode(id, tag, record.group.0, record.sequence, record.synced, &payload)
}

fn copy(id: u64, state: &[u8]) -> Vec<u8> {
    sealed(id, [&b"UKEHIHST"[..], &1_u32.to_le_bytes(), &id.to_le_bytes(), &0_u64.to_le_bytes(), state].concat())
}

/// The bytes with their checksum.
fn sealed(id: u64, mut bytes: Vec<u8>) -> Vec<u8> {
    let mut hasher = Hasher::new();
    hasher.update(&id.to_le_bytes());
    hasher.update(&bytes);
    bytes.extend_from_slice(&hasher.finalize().to_le_bytes());
    bytes
}
