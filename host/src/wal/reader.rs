//! Reads a journal, and changes nothing.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::WalDiagnostics;
use super::disk::{Disk, SystemDisk};
use super::error::{Damage, Flaw, WalError};
use super::hard_state;
use super::record::{self, Body, Decoded, Record};
use super::scan;
use super::segment::{self, HEADER_BYTES, Header};

/// Reads the journal in a directory. It never changes a file, so it may run beside a node; what that node writes meanwhile may look torn.
pub struct WalReader {
    disk: Arc<dyn Disk>,
    pub(super) dir: PathBuf,
}

/// A record, and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Located<'a> {
    /// The number of the segment.
    pub segment: u64,
    /// Where in it: in bytes from its start.
    pub offset: u64,
    /// The record.
    pub record: Record<'a>,
}

impl WalReader {
    /// A reader of the journal in `dir`, a node's `wal` directory.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self::on(Arc::new(SystemDisk), dir)
    }

    pub(crate) fn on(disk: Arc<dyn Disk>, dir: &Path) -> Self {
        Self { disk, dir: dir.to_owned() }
    }

    /// Gives every record of the journal, oldest first, and then says what it has seen. A directory without segments is an empty journal.
    ///
    /// # Errors
    /// The system fails, the format is unknown, something durable is damaged, or `visit` fails. The records before the damage have been given by
    /// then.
    pub fn read<E: From<WalError>>(&self, visit: impl FnMut(Located<'_>) -> Result<(), E>) -> Result<WalDiagnostics, E> {
        let walk = self.walk(visit)?;
        walk.lacks_nothing(&self.dir)?;
        Ok(walk.diagnostics)
    }

    /// As [`WalReader::read`], and says where the journal ends, and which hard states it lacks: that is for the caller to judge.
    pub(crate) fn walk<E: From<WalError>>(&self, mut visit: impl FnMut(Located<'_>) -> Result<(), E>) -> Result<Walk, E> {
        // Before the segments: a node that writes meanwhile adds to those first.
        let mut lacking = hard_state::all(self.disk.as_ref(), &self.dir)?;
        let segments = self.segments()?;
        // What is before a gap was released, or the journal is damaged: a release behind the gap tells.
        let begin = behind_the_last_gap(&segments);
        let mut released = 1;
        let walk = self.walk_from(&segments[begin..], |located| {
            if let Body::Release { first_segment } = located.record.body {
                released = released.max(first_segment);
            }
            if let Body::HardState(state) = located.record.body {
                lacking.retain(|copy| copy.group != located.record.group || copy.state != state);
            }
            visit(located)
        })?;
        if segments.get(begin).is_some_and(|first| *first > released) {
            return Err(self.first_gap(&segments, released)?.into());
        }
        let left_over_segments = segments.iter().filter(|segment| **segment < released).count() as u64;
        // Another journal's copy came here by accident, and says nothing about this one.
        lacking.retain(|copy| walk.end.as_ref().is_none_or(|end| end.journal == copy.journal));
        Ok(Walk { diagnostics: WalDiagnostics { left_over_segments, ..walk.diagnostics }, released, lacking, ..walk })
    }

    /// Walks through segments whose numbers have no gap.
    pub(super) fn walk_from<E: From<WalError>>(
        &self,
        segments: &[u64],
        visit: impl FnMut(Located<'_>) -> Result<(), E>,
    ) -> Result<Walk, E> {
        let mut walker = Walker::new(&self.dir, segments, visit);
        for &number in segments {
            walker.segment(number, self.image(number)?)?;
        }
        Ok(Walk { diagnostics: walker.diagnostics, end: walker.end, released: 1, lacking: Vec::new() })
    }

    /// The damage of a journal in which a segment is missing that nothing has released.
    pub(super) fn first_gap(&self, segments: &[u64], released: u64) -> Result<WalError, WalError> {
        let segments = &segments[segments.partition_point(|number| *number < released)..];
        let whole = segments.iter().zip(released..).take_while(|(number, expected)| **number == *expected).count();
        let before = self.walk_from(&segments[..whole], |_| Ok::<_, WalError>(()))?;
        let (expected, found) = (released + whole as u64, segments.get(whole).copied().unwrap_or_default());
        let damage = Damage {
            path: segment::path(&self.dir, expected),
            offset: 0,
            sequence: before.diagnostics.last_sequence + 1,
            expected: "a segment of this name".to_owned(),
            got: "no such file".to_owned(),
            proof: format!("{} comes after it, and no record says that it was released", segment::path(&self.dir, found).display()),
        };
        Ok(Box::new(damage).into())
    }

    pub(super) fn image(&self, number: u64) -> Result<Vec<u8>, WalError> {
        let path = segment::path(&self.dir, number);
        self.disk.read(&path).map_err(WalError::io("read", &path))
    }

    /// The numbers of the segments, ascending.
    pub(crate) fn segments(&self) -> Result<Vec<u64>, WalError> {
        let names = self.disk.list(&self.dir).map_err(WalError::io("list", &self.dir))?;
        let mut numbers: Vec<_> = names.iter().filter_map(|name| segment::number_of(name)).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }
}

impl fmt::Debug for WalReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalReader").field("dir", &self.dir).finish_non_exhaustive()
    }
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Walk {
    pub(crate) diagnostics: WalDiagnostics,
    /// None where there is no journal yet.
    pub(crate) end: Option<End>,
    /// Segments before this one say nothing that counts.
    pub(crate) released: u64,
    /// Copies of hard states that are in no record.
    pub(crate) lacking: Vec<hard_state::SavedCopy>,
}

impl Walk {
    /// Makes sure that no hard state is lost.
    ///
    /// # Errors
    /// A copy has one that stands in no record: it was durable before the copy was written.
    pub(crate) fn lacks_nothing(&self, dir: &Path) -> Result<(), WalError> {
        let Some(copy) = self.lacking.first() else { return Ok(()) };
        let (number, offset, sequence) = self.end.as_ref().map_or((1, 0, 1), |end| (end.number, end.offset as u64, end.next_sequence));
        let damage = Damage {
            path: segment::path(dir, number),
            offset,
            sequence,
            expected: format!("record {sequence}, and the newest hard state of group {}", copy.group),
            got: if self.end.is_some() { "the end of the journal" } else { "no such file" }.to_owned(),
            proof: format!("{} was written after it", hard_state::path(dir, copy.group).display()),
        };
        Err(Box::new(damage).into())
    }
}

/// The last segment that is in use, and where the next record goes.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) journal: u64,
    pub(crate) number: u64,
    /// The segment's bytes.
    pub(crate) image: Vec<u8>,
    /// Where the next record goes; 0 if not even the header is whole.
    pub(crate) offset: usize,
    /// From here to `offset` no later record proves that the bytes were ever durable.
    pub(crate) unproven_from: usize,
    pub(crate) next_sequence: u64,
}

/// The state of a walk through the segments.
pub(super) struct Walker<'r, V> {
    dir: &'r Path,
    visit: V,
    next_sequence: u64,
    pub(super) diagnostics: WalDiagnostics,
    end: Option<End>,
    /// Set once the journal has ended: the segment, the place in it, and what stands there. Nothing may follow.
    over: Option<(u64, usize, Flaw)>,
}

/// Where the numbers of segments go on without a gap.
pub(super) fn behind_the_last_gap(segments: &[u64]) -> usize {
    segments.iter().zip(segments.iter().skip(1)).rposition(|(one, next)| one + 1 != *next).map_or(0, |gap| gap + 1)
}

impl<'r, V> Walker<'r, V> {
    pub(super) fn new(dir: &'r Path, segments: &[u64], visit: V) -> Self {
        let diagnostics = WalDiagnostics { first_segment: segments.first().copied().unwrap_or_default(), ..WalDiagnostics::default() };
        Self { dir, visit, next_sequence: 1, diagnostics, end: None, over: None }
    }
}

impl<E: From<WalError>, V: FnMut(Located<'_>) -> Result<(), E>> Walker<'_, V> {
    pub(super) fn segment(&mut self, number: u64, image: Vec<u8>) -> Result<(), E> {
        if self.over.is_some() || (scan::used(&image) == 0 && self.end.is_some()) {
            return Ok(self.beyond_the_end(number, &image)?);
        }
        self.diagnostics.segments += 1;
        let header = Header::decode(&segment::path(self.dir, number), &image)?;
        let (journal, stop) = match (header, &self.end) {
            (Ok(header), _) => {
                let journal = self.enter(number, header)?;
                (journal, self.records(journal, number, &image)?)
            }
            // A crash may have torn a header that was written with the first group of its segment.
            (Err(flaw), Some(end)) => (end.journal, Stop { offset: 0, unproven_from: 0, flaw: Some(flaw) }),
            (Err(_), None) if number > 1 && scan::used(&image) == 0 => return Err(self.all_before(number).into()),
            (Err(flaw), None) => {
                return Err(self.damage(number, 0, flaw, "a journal begins with a durable header".to_owned()).into());
            }
        };
        Ok(self.leave(journal, number, image, &stop)?)
    }

    /// Gives the records of a segment, up to where there is none.
    fn records(&mut self, journal: u64, number: u64, image: &[u8]) -> Result<Stop, E> {
        let (mut offset, mut unproven_from) = (HEADER_BYTES, 0);
        let flaw = loop {
            match record::decode(journal, &image[offset..]) {
                Decoded::Record(record, length) if record.sequence == self.next_sequence => {
                    // The first of its group: all before it was durable when it was written.
                    if record.synced + 1 == record.sequence && offset > HEADER_BYTES {
                        unproven_from = offset;
                    }
                    (self.visit)(Located { segment: number, offset: offset as u64, record })?;
                    self.next_sequence += 1;
                    self.diagnostics.records += 1;
                    self.diagnostics.bytes += length as u64;
                    self.diagnostics.last_sequence = record.sequence;
                    offset += length;
                }
                Decoded::Record(record, _) => break Some(Flaw::Sequence { got: record.sequence }),
                Decoded::UnknownType(got) => {
                    let path = segment::path(self.dir, number);
                    return Err(WalError::UnsupportedRecord { path, offset: offset as u64, got }.into());
                }
                Decoded::Bad(flaw) => break Some(flaw),
                Decoded::End => break None,
            }
        };
        Ok(Stop { offset, unproven_from, flaw })
    }
}

/// Where the records of a segment stop.
struct Stop {
    offset: usize,
    unproven_from: usize,
    /// What is wrong there, unless zeros stand there or the file ends.
    flaw: Option<Flaw>,
}

impl<V> Walker<'_, V> {
    /// Checks a good header against what came before it.
    fn enter(&mut self, number: u64, header: Header) -> Result<u64, WalError> {
        let journal = self.end.as_ref().map_or(header.journal, |end| end.journal);
        let whole = || "its header is whole".to_owned();
        if (header.journal, header.number) != (journal, number) {
            return Err(self.damage(number, 0, Flaw::Foreign, whole()));
        }
        // Where earlier segments were released, the first one tells how many records went with them.
        if self.end.is_none() && number > 1 {
            self.next_sequence = header.first_sequence;
        }
        // A segment is begun when all that came before is durable.
        match &self.end {
            Some(end) if header.first_sequence > self.next_sequence => {
                let begun = segment::path(self.dir, number);
                let proof = format!("{} begins with record {}", begun.display(), header.first_sequence);
                Err(self.damage(end.number, end.offset, Flaw::Nothing, proof))
            }
            _ if header.first_sequence != self.next_sequence => {
                Err(self.damage(number, 0, Flaw::Sequence { got: header.first_sequence }, whole()))
            }
            _ => Ok(journal),
        }
    }

    /// Judges what stands behind the last good record of a segment.
    fn leave(&mut self, journal: u64, number: u64, image: Vec<u8>, stop: &Stop) -> Result<(), WalError> {
        let &Stop { offset, unproven_from, flaw } = stop;
        let torn = scan::used(&image[offset..]);
        if torn > 0 {
            let flaw = flaw.unwrap_or(Flaw::Nothing);
            if let Some(witness) = scan::proof_of(journal, &image[offset..], self.next_sequence) {
                return Err(self.damage(number, offset, flaw, format!("record {witness} behind it says so")));
            }
            self.diagnostics.torn_bytes += torn as u64;
            self.over = Some((number, offset, flaw));
        }
        self.end = Some(End { journal, number, image, offset, unproven_from, next_sequence: self.next_sequence });
        Ok(())
    }

    /// A segment behind the end of the journal was prepared ahead and is blank, or the end is no end.
    fn beyond_the_end(&mut self, number: u64, image: &[u8]) -> Result<(), WalError> {
        let &mut (end, offset, flaw) = self.over.get_or_insert((number, 0, Flaw::Nothing));
        if scan::used(image) > 0 {
            let begun = segment::path(self.dir, number);
            return Err(self.damage(end, offset, flaw, format!("{} was begun after it", begun.display())));
        }
        self.diagnostics.blank_segments += 1;
        Ok(())
    }

    /// A segment that was prepared ahead is all that there is.
    fn all_before(&self, number: u64) -> WalError {
        let damage = Damage {
            path: segment::path(self.dir, number - 1),
            offset: 0,
            sequence: self.next_sequence,
            expected: "a segment of this name".to_owned(),
            got: "no such file".to_owned(),
            proof: format!("{} was prepared behind it, and no record says that it was released", segment::path(self.dir, number).display()),
        };
        Box::new(damage).into()
    }

    fn damage(&self, number: u64, offset: usize, flaw: Flaw, proof: String) -> WalError {
        let expected = match offset {
            0 => format!("the header of segment {number}, which begins with record {}", self.next_sequence),
            _ => format!("record {}", self.next_sequence),
        };
        let path = segment::path(self.dir, number);
        Box::new(Damage { path, offset: offset as u64, sequence: self.next_sequence, expected, got: flaw.to_string(), proof }).into()
    }
}
