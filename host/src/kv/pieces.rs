//! The state in pieces.
//!
//! ```text
//! piece = version u8 = 1 | *part
//! part  = 0 key value            ; an entry: in the order of the keys, before all fences
//!       | 1 name term sequence   ; a fence and its last token: in the order of the names
//!       | 2 entries fences       ; the end, with how many there were: the last part of the last piece
//! ```
//!
//! Parts are in postcard's encoding: numbers as varints, byte strings with their lengths before them. A part is never divided, so that a piece is as long as one
//! value at least, where that is longer than what was asked for. Snapshots outlive versions of the program: a version once written stays readable.

use amaters_cluster_core::FencingToken;
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes as Slice;

use super::fences::Fences;
use super::table::Table;
use super::{MAX_FENCE_NAME_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};
use crate::state_machine::{Piece, RestoreError};

#[cfg(test)]
mod tests;

/// The version of the encoding.
const VERSION: u8 = 1;

/// The most bytes of a part that are neither key, value nor name: kind, and two lengths or numbers.
const PART_OVERHEAD: usize = 1 + 10 + 10;

/// What a piece is made of.
#[derive(Debug, Serialize, Deserialize)]
enum Part<'a> {
    Entry {
        #[serde(borrow)]
        key: &'a Slice,
        value: &'a Slice,
    },
    Fence {
        name: &'a Slice,
        last: FencingToken,
    },
    End {
        entries: u64,
        fences: u64,
    },
}

/// How far a captured state has been given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Giving {
    entries: u64,
    fences: u64,
}

impl Giving {
    pub(super) fn next(&mut self, entries: &mut Table, fences: &mut Fences, max_bytes: usize) -> Piece {
        let mut bytes = Vec::with_capacity(max_bytes.min(1 << 20) + PART_OVERHEAD);
        bytes.push(VERSION);
        // Every piece gets further, whatever was asked for.
        let room = max_bytes.max(1);
        let mut last = entries.walk_captured(room, |key, value| {
            self.entries += 1;
            add(&mut bytes, &Part::Entry { key: Slice::new(key), value: Slice::new(value) })
        });
        if last {
            last = fences.walk_captured(room.saturating_sub(bytes.len() - 1), |name, last| {
                self.fences += 1;
                add(&mut bytes, &Part::Fence { name: Slice::new(name), last })
            });
        }
        if last {
            add(&mut bytes, &Part::End { entries: self.entries, fences: self.fences });
        }
        Piece { bytes, last }
    }
}

/// Adds a part, and says how many bytes that took.
fn add(bytes: &mut Vec<u8>, part: &Part<'_>) -> usize {
    let before = bytes.len();
    *bytes = postcard::to_extend(part, std::mem::take(bytes)).expect("a vector takes any length, and all lengths are known");
    bytes.len() - before
}

/// How far another state has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taking {
    entries: u64,
    fences: u64,
    ended: bool,
}

impl Taking {
    pub(super) fn next(&mut self, piece: &[u8], entries: &mut Table, fences: &mut Fences) -> Result<(), RestoreError> {
        let mut rest = match piece.split_first() {
            Some((&VERSION, rest)) => rest,
            Some((version, _)) => {
                return Err(RestoreError::new(format!("its pieces are of version {version}, and this program knows version {VERSION}")));
            }
            None => return Err(RestoreError::new("a piece is empty")),
        };
        while !rest.is_empty() {
            let (part, after) = postcard::take_from_bytes(rest).map_err(|error| self.flaw(&format!("it can't be read ({error})")))?;
            self.part(&part, entries, fences).map_err(|flaw| self.flaw(flaw))?;
            rest = after;
        }
        Ok(())
    }

    fn part(&mut self, part: &Part<'_>, entries: &mut Table, fences: &mut Fences) -> Result<(), &'static str> {
        if self.ended {
            return Err("it comes after the end");
        }
        match *part {
            Part::Entry { key, value } => {
                if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
                    return Err("its key or value is too long");
                }
                if self.fences > 0 || !entries.push(key, value) {
                    return Err("it is an entry out of its order");
                }
                self.entries += 1;
            }
            Part::Fence { name, last } => {
                if name.len() > MAX_FENCE_NAME_BYTES {
                    return Err("its name is too long");
                }
                if !fences.push(name, last) {
                    return Err("it is a fence out of its order, or one too many");
                }
                self.fences += 1;
            }
            Part::End { entries, fences } if (entries, fences) == (self.entries, self.fences) => self.ended = true,
            Part::End { .. } => return Err("it is the end of a state with other numbers of entries and fences"),
        }
        Ok(())
    }

    fn flaw(&self, flaw: &str) -> RestoreError {
        RestoreError::new(format!("after {} entries and {} fences comes a part that is none: {flaw}", self.entries, self.fences))
    }

    pub(super) fn finish(self) -> Result<(), RestoreError> {
        if self.ended {
            return Ok(());
        }
        Err(RestoreError::new(format!("it stops after {} entries and {} fences, without an end", self.entries, self.fences)))
    }
}
