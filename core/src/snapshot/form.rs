//! What can be told of a snapshot from outside: that its bytes are those that were written, whether it is sealed or not.

use super::format::{END, SnapshotError, SnapshotReader};
use crate::types::EntryId;

/// Checks the frames of a snapshot, and opens none: for those who carry a sealed one and have no keys. It shows what a disk or a line has done to it, and not what
/// somebody has who can count checksums.
///
/// ```
/// use amaters_cluster_core::snapshot::SnapshotForm;
///
/// let mut form = SnapshotForm::default();
/// form.push(&[8, 0, 0, 0, 1, 1, 3, 40, 0, 0, 0, 0, 0, 122, 90, 194, 194])?;
/// assert_eq!(form.is_sealed(), Some(false));
/// assert!(form.finish().is_err(), "that was the header alone");
/// # Ok::<(), amaters_cluster_core::SnapshotError>(())
/// ```
#[derive(Debug)]
pub struct SnapshotForm {
    reader: SnapshotReader,
    ended: bool,
}

impl Default for SnapshotForm {
    fn default() -> Self {
        Self { reader: SnapshotReader::closed(), ended: false }
    }
}

impl SnapshotForm {
    /// Takes the next bytes, in any pieces.
    ///
    /// # Errors
    /// They are those of no snapshot, or damaged.
    pub fn push(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.reader.push(bytes);
        while let Some((kind, _)) = self.reader.next_frame()? {
            if self.ended {
                return Err(SnapshotError::Frame {
                    frame: 0,
                    got: format!("followed by one of kind {kind}"),
                    expected: "nothing behind the end",
                });
            }
            self.ended = kind == END;
        }
        Ok(())
    }

    /// Whether it is sealed, once its header has come.
    #[must_use]
    pub fn is_sealed(&self) -> Option<bool> {
        self.reader.header().map(|(_, sealed)| sealed)
    }

    /// Says that this was all, and gives the last entry that the snapshot holds.
    ///
    /// # Errors
    /// It is cut short.
    pub fn finish(&self) -> Result<EntryId, SnapshotError> {
        let got = self.reader.bytes();
        self.reader.header().filter(|_| self.ended).map(|(last, _)| last).ok_or(SnapshotError::CutShort { got })
    }
}
