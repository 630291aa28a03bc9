//! Opens a journal that may be damaged, as its [`CorruptionPolicy`] says.

use std::path::Path;
use std::sync::Arc;

use super::cut::{self, Cut};
use super::disk::Disk;
use super::error::{Damage, WalError};
use super::reader::{Located, WalReader};
use super::recovery::{self, Position};
use super::{CorruptionPolicy, WalDiagnostics, WalOptions};

/// A journal that has been gone through.
pub(crate) enum Opened {
    /// It goes on here.
    ToWrite(Position),
    /// It stays as it is.
    ToRead(Box<Damage>),
}

/// Gives every record, and puts the end in order. Where something durable is damaged, that is done which the options say.
///
/// # Errors
/// As [`recovery::recover`]; or a cut would leave nothing, or fails.
pub(crate) fn open<E: From<WalError>>(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    options: &WalOptions,
    visit: impl FnMut(Located<'_>) -> Result<(), E>,
) -> Result<(Opened, WalDiagnostics), E> {
    // Before any record is given: what is given can't be taken back.
    let cut = match options.on_corruption {
        CorruptionPolicy::Refuse | CorruptionPolicy::Repair => None,
        CorruptionPolicy::Cut | CorruptionPolicy::ReadOnly => cut::plan(disk, dir)?,
    };
    match cut {
        Some(cut) if options.on_corruption == CorruptionPolicy::ReadOnly => Ok(read_only(disk, dir, cut, visit)?),
        Some(cut) => {
            carry_out(disk, dir, &cut)?;
            let (position, diagnostics) = recovery::recover(disk, dir, options.segment_size, visit)?;
            Ok((Opened::ToWrite(position), with_loss(diagnostics, &cut)))
        }
        None => {
            let (position, diagnostics) = recovery::recover(disk, dir, options.segment_size, visit)?;
            Ok((Opened::ToWrite(position), diagnostics))
        }
    }
}

fn read_only<E: From<WalError>>(
    disk: &Arc<dyn Disk>,
    dir: &Path,
    cut: Cut,
    visit: impl FnMut(Located<'_>) -> Result<(), E>,
) -> Result<(Opened, WalDiagnostics), E> {
    let seen = WalReader::on(Arc::clone(disk), dir).read_before_damage(cut.last_kept, visit)?;
    let diagnostics = WalDiagnostics { read_only: true, ..with_loss(seen, &cut) };
    tracing::error!(
        "the journal is read-only from here on: {}. It gives {} records, and nothing of {} bytes from record {} on; no file is changed",
        cut.damage.place(),
        diagnostics.records,
        cut.lost_bytes,
        cut.damage.sequence
    );
    Ok((Opened::ToRead(Box::new(cut.damage)), diagnostics))
}

fn carry_out(disk: &Arc<dyn Disk>, dir: &Path, cut: &Cut) -> Result<(), WalError> {
    if !cut.leaves_something {
        return Err(Box::new(cut.damage.clone()).into());
    }
    let added = cut::carry_out(disk, dir, cut)?;
    let hard_state = match (added.is_empty(), cut.keeps_hard_state) {
        (false, _) => "The newest term and vote were added from their copy",
        (true, true) => "It has the newest term and vote",
        (true, false) => {
            "No copy of term and vote can be used: what the cut has taken of them is forgotten, and a node may vote twice in a term"
        }
    };
    tracing::error!(
        "the journal was cut, as was asked for: {}. Lost are {} bytes: every record from number {} on, with {} whole segments. What stays has entries up to {}; what \
         was acknowledged behind it is forgotten here. {hard_state}",
        cut.damage.place(),
        cut.lost_bytes,
        cut.damage.sequence,
        cut.removed.len(),
        cut.last_index
    );
    Ok(())
}

fn with_loss(diagnostics: WalDiagnostics, cut: &Cut) -> WalDiagnostics {
    let damaged = u64::from(!cut.removed.contains(&cut.number));
    WalDiagnostics { corrupt_bytes: cut.lost_bytes, corrupt_segments: cut.removed.len() as u64 + damaged, ..diagnostics }
}
