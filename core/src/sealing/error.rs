//! What can go wrong, in terms of what was expected and what came. No error holds a key, a plain byte or a correct tag.

use thiserror::Error;

use super::ring::KeyVersion;
use crate::types::EntryId;

/// Bytes or a text that make no log key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not 32 bytes.
    #[error("expected a key of 32 bytes, got {0}")]
    Length(usize),
    /// A text that is neither hexadecimal nor base64. The text itself is not shown.
    #[error("expected a key of 32 bytes as 64 hexadecimal digits or 44 characters of base64, got {0} characters that are neither")]
    Text(usize),
    /// All bytes are zero: such a key was never drawn.
    #[error("expected a random key, got nothing but zeros")]
    Zeros,
}

/// A version of the log key is not there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("version {wanted} of the log key is needed, and {}", list(.held))]
pub struct MissingKey {
    /// The version that is needed.
    pub wanted: KeyVersion,
    /// The versions that are there.
    pub held: Vec<KeyVersion>,
}

fn list(held: &[KeyVersion]) -> String {
    let held: Vec<_> = held.iter().map(ToString::to_string).collect();
    if held.is_empty() { "there is no key at all".to_owned() } else { format!("only {} is there", held.join(", ")) }
}

/// Why something was not sealed or not opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SealingError {
    /// The version of the key that it is sealed with is not there. It opens once the key is.
    #[error(transparent)]
    UnknownVersion(#[from] MissingKey),
    /// A key that is none.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// No version was chosen to seal with.
    #[error("no version of the log key was chosen to seal with")]
    NoVersion,
    /// This version has another key already.
    #[error("version {0} of the log key is there already with other bytes: a version never changes, a new key is a new version")]
    VersionTaken(KeyVersion),
    /// The random bytes of this start are all zero: they were never drawn.
    #[error("expected 16 random bytes for this start of the node, got nothing but zeros")]
    NoRandomness,
    /// The cluster's id is too long.
    #[error("expected a cluster id of at most 255 bytes, got {0}")]
    ClusterName(usize),
    /// These bytes were never sealed, or have been cut or overwritten.
    #[error("expected {expected} at byte {at} of what is sealed, got {got}")]
    Malformed {
        /// What should stand there.
        expected: &'static str,
        /// Where, in bytes from 0.
        at: usize,
        /// What stands there.
        got: String,
    },
    /// The tag of an entry's payload does not match: its bytes were changed, or it was sealed for another place, term, group or cluster, or with another key.
    #[error(
        "the payload of entry {id} does not match its tag: it was changed, moved, or sealed with another key that is called version {version}"
    )]
    EntryTag {
        /// The entry in whose place it was found.
        id: EntryId,
        /// The version that it names.
        version: KeyVersion,
    },
    /// The same for a frame of a snapshot.
    #[error(
        "frame {number} of the snapshot up to entry {id} does not match its tag: it was changed, moved, or is of another snapshot or key"
    )]
    FrameTag {
        /// The last entry that the snapshot covers.
        id: EntryId,
        /// The frame's number, from 0.
        number: u32,
    },
    /// A frame came out of order.
    #[error("expected frame {expected} of the snapshot up to entry {id}, got frame {got}")]
    FrameOrder {
        /// The last entry that the snapshot covers.
        id: EntryId,
        /// The number of the frame whose turn it is.
        expected: u32,
        /// The number of the frame that came.
        got: u32,
    },
    /// The snapshot was cut: its last frame has not come.
    #[error("the snapshot up to entry {id} ends after {frames} frames, and none of them is its last")]
    CutOff {
        /// The last entry that the snapshot covers.
        id: EntryId,
        /// How many frames came.
        frames: u32,
    },
    /// Something comes after the last frame.
    #[error("the last frame of the snapshot up to entry {id} has been there already")]
    AfterLast {
        /// The last entry that the snapshot covers.
        id: EntryId,
    },
    /// The payload is longer than AES-GCM or the format allows.
    #[error("a payload of {0} bytes is too long to be sealed")]
    TooLong(usize),
    /// Somebody else does AES, and does it wrongly.
    #[error("the host's AES gave {got} bytes where {expected} were expected: start the node without it")]
    Accelerator {
        /// How much there is.
        got: usize,
        /// How much there should be.
        expected: usize,
    },
    /// A snapshot of more than 2³² frames.
    #[error("a snapshot of more than 2³² frames can't be sealed")]
    Exhausted,
}

/// An entry does not belong behind the one before it: it, or one before it, was changed, moved, left out or added.
///
/// Says nothing of the link that was expected: that would be a tag for what an attacker wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the chain is broken at entry {id}: it, or its link, is not what was written behind the entry before it")]
pub struct BrokenChain {
    /// The first entry that does not fit.
    pub id: EntryId,
}
