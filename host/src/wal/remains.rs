//! What stands before the first damage of a journal, and where that is.

use super::error::{Damage, WalError};
use super::reader::{Located, WalReader, Walker, behind_the_last_gap};
use super::record::Body;
use super::{WalDiagnostics, segment};

impl WalReader {
    /// Gives every record before the first damage, which is in segment `last` or behind it, and says what it has seen. Segments begin with 1.
    ///
    /// # Errors
    /// As [`WalReader::read`], damage excepted.
    pub(super) fn read_before_damage<E: From<WalError>>(
        &self,
        last: u64,
        mut visit: impl FnMut(Located<'_>) -> Result<(), E>,
    ) -> Result<WalDiagnostics, E> {
        let mut segments = self.segments()?;
        segments.retain(|number| *number <= last);
        let segments = &segments[behind_the_last_gap(&segments)..];
        let mut walker = Walker::new(&self.dir, segments, |located: Located<'_>| visit(located).map_err(Stopped::Visit));
        for &number in segments {
            match walker.segment(number, self.image(number)?) {
                Ok(()) => {}
                Err(Stopped::Journal(WalError::Damaged(_))) => break,
                Err(Stopped::Journal(error)) => return Err(error.into()),
                Err(Stopped::Visit(error)) => return Err(error),
            }
        }
        // Where a write is lost, a later segment tells: until then it looks torn.
        Ok(WalDiagnostics { torn_bytes: 0, ..walker.diagnostics })
    }

    /// The damage of a journal in which segments are missing between `last` and what is damaged itself.
    pub(super) fn gap_behind(&self, last: u64, damage: &Damage) -> Result<Damage, WalError> {
        let before = self.read_before_damage(last, |_| Ok::<_, WalError>(()))?;
        Ok(Damage {
            path: segment::path(&self.dir, last + 1),
            offset: 0,
            sequence: before.last_sequence + 1,
            expected: "a segment of this name".to_owned(),
            got: "no such file".to_owned(),
            proof: damage.proof.clone(),
        })
    }

    /// The first damage of the journal that would be left with these segments alone.
    pub(super) fn damage_of(&self, segments: &[u64]) -> Result<Option<Damage>, WalError> {
        let Some(last) = segments.last() else { return Ok(None) };
        let mut released = 1;
        self.read_before_damage(*last, |located| {
            if let Body::Release { first_segment } = located.record.body {
                released = released.max(first_segment);
            }
            Ok::<_, WalError>(())
        })?;
        let unbroken = &segments[behind_the_last_gap(segments)..];
        let found = match unbroken.first() {
            Some(first) if *first > released => self.first_gap(segments, released).unwrap_or_else(|earlier| earlier),
            _ => match self.walk_from(unbroken, |_| Ok::<_, WalError>(())) {
                Ok(_) => return Ok(None),
                Err(error) => error,
            },
        };
        match found {
            WalError::Damaged(damage) => Ok(Some(*damage)),
            error => Err(error),
        }
    }
}

/// Why a walk stopped, where it is for the walker's caller to tell.
enum Stopped<E> {
    Journal(WalError),
    Visit(E),
}

impl<E> From<WalError> for Stopped<E> {
    fn from(error: WalError) -> Self {
        Self::Journal(error)
    }
}
