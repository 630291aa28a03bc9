//! What a start does to a journal before it is written to.

use std::io;
use std::path::Path;
use std::sync::Arc;

use amaters_cluster_core::GroupId;

use super::disk::{Disk, DiskFile};
use super::error::WalError;
use super::hard_state;
use super::journal::Journal;
use super::ledger::Ledger;
use super::reader::{End, Located, WalReader, Walk};
use super::record::Body;
use super::segment::{self, HEADER_BYTES, Header};
use super::space::Space;
use super::{WalDiagnostics, scan};

/// Where the next record goes.
pub(crate) struct Position {
    pub(crate) journal: u64,
    pub(crate) file: Box<dyn DiskFile>,
    pub(crate) number: u64,
    pub(crate) offset: u64,
    pub(crate) capacity: u64,
    pub(crate) next_sequence: u64,
    /// What stands in which segment.
    pub(crate) ledger: Ledger,
}

/// Gives every record, and leaves a journal to which records can be added: what was given is durable, and nothing stands behind it.
///
/// # Errors
/// As [`WalReader::read`]; or the system failed while the end was put in order, in which case another start does that anew.
pub(crate) fn recover<E: From<WalError>>(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    segment_size: u64,
    visit: impl FnMut(Located<'_>) -> Result<(), E>,
) -> Result<(Position, WalDiagnostics), E> {
    let (walk, ledger) = survey(disk, dir, visit)?;
    // What a copy alone has is lost once the copy is renewed.
    walk.lacks_nothing(dir)?;
    let diagnostics = walk.diagnostics;
    let mut position = put_in_order(disk, dir, segment_size, walk, ledger)?;
    hard_state::renew(disk.as_ref(), dir, position.journal, position.ledger.take_new_hard_states())?;
    Ok((position, diagnostics))
}

/// Puts a journal in order that was cut, and adds the hard states to it that only their copies have: gives their groups. None of this forgets a vote, wherever it stops.
///
/// # Errors
/// As [`recover`]; the journal may then be cut again.
pub(crate) fn recover_cut(disk: &Arc<dyn Disk>, dir: &Path, segment_size: u64) -> Result<Vec<GroupId>, WalError> {
    let (mut walk, ledger) = survey(disk, dir, |_| Ok::<_, WalError>(()))?;
    let lacking = std::mem::take(&mut walk.lacking);
    let end = put_in_order(disk, dir, segment_size, walk, ledger)?;
    let mut journal = Journal::new(Arc::clone(disk), dir.to_owned(), segment_size, Space::now_or_never(), end);
    for copy in &lacking {
        journal.push(copy.group, Body::HardState(&copy.state))?;
    }
    journal.flush()?;
    Ok(lacking.into_iter().map(|copy| copy.group).collect())
}

/// Gives every record, and says what stands where.
fn survey<E: From<WalError>>(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    mut visit: impl FnMut(Located<'_>) -> Result<(), E>,
) -> Result<(Walk, Ledger), E> {
    let mut ledger = Ledger::default();
    let walk = WalReader::on(Arc::clone(disk), dir).walk(|located| {
        ledger.note(located.segment, located.record.group, located.record.body);
        visit(located)
    })?;
    Ok((walk, ledger))
}

/// Has the journal end where the walk says, durably.
fn put_in_order(disk: &Arc<dyn Disk>, dir: &Path, segment_size: u64, walk: Walk, ledger: Ledger) -> Result<Position, WalError> {
    let segments = WalReader::on(Arc::clone(disk), dir).segments()?;
    let disk = disk.as_ref();
    let position = match walk.end {
        None => begin(disk, dir, segment_size)?,
        Some(end) => settle(disk, dir, end, &segments, ledger)?,
    };
    // Only now is the release that says so known to be durable.
    remove_released(disk, dir, walk.released)?;
    Ok(position)
}

/// Removes the segments before `released`.
pub(crate) fn remove_released(disk: &dyn Disk, dir: &Path, released: u64) -> Result<(), WalError> {
    let names = disk.list(dir).map_err(WalError::io("list", dir))?;
    let mut numbers: Vec<_> = names.iter().filter_map(|name| segment::number_of(name)).filter(|number| *number < released).collect();
    numbers.sort_unstable();
    for &number in &numbers {
        let path = segment::path(dir, number);
        disk.remove(&path).map_err(WalError::io("remove", &path))?;
    }
    if numbers.is_empty() { Ok(()) } else { disk.sync_dir(dir).map_err(WalError::io("sync", dir)) }
}

/// The first segment of a new journal.
fn begin(disk: &dyn Disk, dir: &Path, segment_size: u64) -> Result<Position, WalError> {
    let random = getrandom::u64().map_err(|error| WalError::io("draw a random number for", dir)(io::Error::other(error)))?;
    remove_temporary(disk, dir)?;
    let header = Header { journal: random, number: 1, first_sequence: 1 };
    let capacity = segment_size.max(HEADER_BYTES as u64);
    let file = segment::prepare(disk, dir, 1, capacity, Some(&header))?;
    Ok(Position {
        journal: header.journal,
        file,
        number: 1,
        offset: HEADER_BYTES as u64,
        capacity,
        next_sequence: 1,
        ledger: Ledger::default(),
    })
}

/// Puts the end of the journal in order: the last group is written again, a torn tail is overwritten with zeros, and later segments go.
///
/// Why again: the process before this one may have died of a failed sync. Then the group can be read, since the system keeps the pages, but it is
/// not on disk, and the system takes the pages for clean: syncing them would succeed and do nothing.
fn settle(disk: &dyn Disk, dir: &Path, end: End, segments: &[u64], ledger: Ledger) -> Result<Position, WalError> {
    let End { journal, number, mut image, offset, unproven_from, next_sequence } = end;
    for later in segments.iter().copied().filter(|segment| *segment > number) {
        let path = segment::path(dir, later);
        disk.remove(&path).map_err(WalError::io("remove", &path))?;
    }
    remove_temporary(disk, dir)?;
    let path = segment::path(dir, number);
    let torn_end = offset + scan::used(&image[offset..]);
    image[offset..torn_end].fill(0);
    let rewrite = || {
        let mut file = disk.open(&path)?;
        file.write_at(&image[unproven_from..torn_end], unproven_from as u64)?;
        file.sync()?;
        disk.sync_dir(dir)?;
        Ok(file)
    };
    let file = rewrite().map_err(WalError::space("put the end in order of", dir, &path, (torn_end - unproven_from) as u64))?;
    Ok(Position { journal, file, number, offset: offset as u64, capacity: image.len() as u64, next_sequence, ledger })
}

/// What a crash has left of segments that were being prepared.
fn remove_temporary(disk: &dyn Disk, dir: &Path) -> Result<(), WalError> {
    for name in disk
        .list(dir)
        .map_err(WalError::io("list", dir))?
        .iter()
        .filter(|name| segment::is_temporary(name) || hard_state::is_temporary(name))
    {
        let path = dir.join(name);
        disk.remove(&path).map_err(WalError::io("remove", &path))?;
    }
    Ok(())
}
