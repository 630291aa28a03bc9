//! A snapshot as bytes. Whoever keeps or carries them sees bytes alone.
//!
//! ```text
//! snapshot: header | part … | end
//! frame:    length u32 | kind u8 | payload | crc u32                      9 bytes and the payload
//! ```
//!
//! | frame | kind | payload |
//! |---|---|---|
//! | header | 1 | version u8 = 1, then [`SnapshotMetadata`] in postcard's encoding |
//! | sessions | 2 | the table of sessions in postcard's encoding, cut into pieces |
//! | state | 3 | a piece of the state machine's state, in its encoding |
//! | end | 4 | how many frames came before, and how many bytes, both u64 |
//!
//! Numbers are little endian. Sessions stand before the state. The checksum is CRC-32 (IEEE) of the index and term of the snapshot's last entry and of the
//! frame's number (u64 each, the header's is 0), then of all bytes of the frame before it: so a frame is worthless in any other place, and the node that made
//! the snapshot is the one that every reader checks against, however often it was stored and sent since.

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::cluster_config::ConfigState;
use crate::sessions::SessionImage;
use crate::types::{EntryId, LogIndex, Term};
use crate::wire::{self, LIMIT, WireError};

/// The version of a snapshot's format.
const VERSION: u8 = 1;

const HEADER: u8 = 1;
const SESSIONS: u8 = 2;
const STATE: u8 = 3;
const END: u8 = 4;

/// Bytes before a frame's payload, and after it.
const BEFORE: usize = 5;
const AFTER: usize = 4;

/// The longest payload of a frame: 64 MiB. A piece of state is as long as its state machine made it.
pub(crate) const MAX_PAYLOAD: usize = 64 << 20;

/// The most bytes of a table of sessions: 256 MiB, several times what 10,000 sessions with all their responses take.
const MAX_SESSION_BYTES: u64 = 256 << 20;

/// What a snapshot says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotMetadata {
    /// The last entry that it holds.
    pub last: EntryId,
    /// The members as of that entry.
    pub membership: ConfigState,
    /// Bytes of the table of sessions.
    pub session_bytes: u64,
}

/// Bytes that are no snapshot, or not the expected one.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SnapshotError {
    /// A checksum is wrong.
    #[error(
        "the checksum of frame {frame} of the snapshot is {got:08x}, expected {expected:08x}: the bytes were damaged since the snapshot was taken"
    )]
    Damaged {
        /// The frame, from 0.
        frame: u64,
        /// What stands there.
        got: u32,
        /// What belongs there.
        expected: u32,
    },
    /// A frame that can't stand where it does.
    #[error("frame {frame} of the snapshot is {got}, expected {expected}")]
    Frame {
        /// The frame, from 0.
        frame: u64,
        /// What came.
        got: String,
        /// What was expected.
        expected: &'static str,
    },
    /// Another snapshot than the expected one.
    #[error("the snapshot holds the log up to entry {got}, expected {expected}")]
    Foreign {
        /// What came.
        got: EntryId,
        /// What was expected.
        expected: EntryId,
    },
    /// The bytes end before the snapshot does.
    #[error("the snapshot is cut short: {got} bytes are there, and its end is not among them")]
    CutShort {
        /// What came.
        got: u64,
    },
    /// A part of it can't be read.
    #[error("a part of the snapshot can't be read")]
    Malformed(#[from] WireError),
    /// It comes too late in a node's life.
    #[error("a snapshot is given back before the journal, once")]
    OutOfOrder,
}

/// Makes frames.
#[derive(Clone, Debug)]
pub(crate) struct FrameWriter {
    id: EntryId,
    frames: u64,
    offset: u64,
}

/// Takes frames apart, as their bytes come.
#[derive(Clone, Debug, Default)]
pub(crate) struct SnapshotReader {
    expected: Option<EntryId>,
    buffer: Vec<u8>,
    /// How much of the buffer has been taken apart.
    taken: usize,
    metadata: Option<SnapshotMetadata>,
    sessions: Vec<u8>,
    sessions_left: u64,
    frames: u64,
    /// Bytes of whole frames.
    offset: u64,
    complete: bool,
}

/// What a reader has come upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A piece of the state.
    State(Vec<u8>),
    /// The end: nothing may follow.
    End,
}

impl FrameWriter {
    pub(crate) fn new(id: EntryId) -> Self {
        Self { id, frames: 0, offset: 0 }
    }

    /// Where the next frame goes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn header(&mut self, metadata: &SnapshotMetadata) -> Vec<u8> {
        self.frame(HEADER, &wire::encode(VERSION, metadata))
    }

    pub(crate) fn sessions(&mut self, piece: &[u8]) -> Vec<u8> {
        self.frame(SESSIONS, piece)
    }

    pub(crate) fn state(&mut self, piece: &[u8]) -> Vec<u8> {
        self.frame(STATE, piece)
    }

    pub(crate) fn end(&mut self) -> Vec<u8> {
        let payload = [self.frames.to_le_bytes(), self.offset.to_le_bytes()].concat();
        self.frame(END, &payload)
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("callers bound a payload");
        let mut frame = Vec::with_capacity(BEFORE + payload.len() + AFTER);
        frame.extend_from_slice(&length.to_le_bytes());
        frame.push(kind);
        frame.extend_from_slice(payload);
        let sum = checksum(self.id, self.frames, &frame);
        frame.extend_from_slice(&sum.to_le_bytes());
        self.frames += 1;
        self.offset += frame.len() as u64;
        frame
    }
}

impl SnapshotReader {
    /// A reader of this very snapshot.
    pub(crate) fn of(id: EntryId) -> Self {
        Self { expected: Some(id), ..Self::default() }
    }

    /// Takes the next bytes.
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..std::mem::take(&mut self.taken));
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether the end was read, and nothing came after it.
    pub(crate) fn is_complete(&self) -> bool {
        self.complete && self.rest().is_empty()
    }

    /// How many bytes it has taken.
    pub(crate) fn bytes(&self) -> u64 {
        self.offset + self.rest().len() as u64
    }

    /// What the header says, once it was read.
    pub(crate) fn metadata(&self) -> Option<&SnapshotMetadata> {
        self.metadata.as_ref()
    }

    /// The table of sessions as far as it was read, encoded: all of it once a piece of the state has come, or the end.
    pub(super) fn session_bytes(&self) -> &[u8] {
        &self.sessions
    }

    /// The sessions, once the end was read.
    ///
    /// # Errors
    /// They can't be read.
    pub(crate) fn take_sessions(&mut self) -> Result<SessionImage, SnapshotError> {
        Ok(wire::decode("session table", VERSION, &std::mem::take(&mut self.sessions))?)
    }

    /// The next part, if enough bytes have come for it.
    ///
    /// # Errors
    /// What has come is no snapshot, or damaged: the reader is of no further use.
    pub(crate) fn next(&mut self) -> Result<Option<Part>, SnapshotError> {
        while let Some((kind, payload)) = self.next_frame()? {
            let number = self.frames - 1;
            let unexpected = |got: String, expected| Err(SnapshotError::Frame { frame: number, got, expected });
            match (kind, &self.metadata) {
                _ if self.complete => return unexpected(format!("of kind {kind}"), "nothing behind the end"),
                (HEADER, _) if number == 0 => {}
                (SESSIONS, Some(_)) if payload.len() as u64 <= self.sessions_left && !payload.is_empty() => {
                    self.sessions_left -= payload.len() as u64;
                    self.sessions.extend_from_slice(&payload);
                }
                (STATE, Some(_)) if self.sessions_left == 0 => return Ok(Some(Part::State(payload))),
                (END, Some(_)) if self.sessions_left == 0 => {
                    let before = self.offset - (BEFORE + payload.len() + AFTER) as u64;
                    if payload != [number.to_le_bytes(), before.to_le_bytes()].concat() {
                        return unexpected("an end of another snapshot".to_owned(), "the end of this one");
                    }
                    self.complete = true;
                    return Ok(Some(Part::End));
                }
                (_, None) => return unexpected(format!("of kind {kind}"), "a header"),
                _ => return unexpected(format!("of kind {kind} with {} bytes", payload.len()), "sessions, then state, then the end"),
            }
        }
        Ok(None)
    }

    fn next_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, SnapshotError> {
        let Some(length) = self.rest().first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize) else { return Ok(None) };
        if length > MAX_PAYLOAD {
            let got = format!("{length} bytes long");
            return Err(SnapshotError::Frame { frame: self.frames, got, expected: "64 MiB at most" });
        }
        let whole = BEFORE + length + AFTER;
        let Some((covered, sum)) = self.rest().get(..whole).and_then(<[u8]>::split_last_chunk::<AFTER>) else { return Ok(None) };
        let (kind, payload, got) = (covered[4], covered[BEFORE..].to_vec(), u32::from_le_bytes(*sum));
        let id = match (&self.metadata, kind) {
            (Some(metadata), _) => metadata.last,
            (None, HEADER) => self.read_header(&payload)?,
            (None, _) => return Err(SnapshotError::Frame { frame: 0, got: format!("of kind {kind}"), expected: "a header" }),
        };
        let expected = checksum(id, self.frames, &self.rest()[..whole - AFTER]);
        if got != expected {
            return Err(SnapshotError::Damaged { frame: self.frames, got, expected });
        }
        self.frames += 1;
        self.offset += whole as u64;
        self.taken += whole;
        Ok(Some((kind, payload)))
    }

    /// Its checksum is yet to be looked at: it covers what the header itself says.
    fn read_header(&mut self, payload: &[u8]) -> Result<EntryId, SnapshotError> {
        let metadata: SnapshotMetadata = wire::decode("snapshot's header", VERSION, payload)?;
        let last = metadata.last;
        let sane = (1..LIMIT).contains(&last.index.0) && (Term(1)..Term(LIMIT)).contains(&last.term);
        if !sane
            || metadata.session_bytes > MAX_SESSION_BYTES
            || metadata.membership.version() > last.index
            || !membership_is_sane(&metadata.membership)
        {
            let got = "a header that no node writes".to_owned();
            return Err(SnapshotError::Frame { frame: 0, got, expected: "a header" });
        }
        if let Some(expected) = self.expected.filter(|expected| *expected != last) {
            return Err(SnapshotError::Foreign { got: last, expected });
        }
        self.sessions_left = metadata.session_bytes;
        self.metadata = Some(metadata);
        Ok(last)
    }

    /// What has come and was not taken apart.
    fn rest(&self) -> &[u8] {
        &self.buffer[self.taken..]
    }
}

/// The configuration that a node was started with has version 0, and may have no voters.
fn membership_is_sane(state: &ConfigState) -> bool {
    state.version() == LogIndex::NONE || state.fits(state.version())
}

/// A table of sessions, as it goes into a snapshot.
pub(crate) fn encode_sessions(image: &SessionImage) -> Vec<u8> {
    wire::encode(VERSION, image)
}

fn checksum(id: EntryId, frame: u64, bytes: &[u8]) -> u32 {
    let mut hasher = Hasher::new();
    for number in [id.index.0, id.term.0, frame] {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(bytes);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster_config::ClusterConfig;

    const ID: EntryId = EntryId { term: Term(3), index: LogIndex(40) };

    fn snapshot() -> Vec<u8> {
        let sessions = encode_sessions(&SessionImage::default());
        let membership = ConfigState::Stable(ClusterConfig::default());
        let mut writer = FrameWriter::new(ID);
        let metadata = SnapshotMetadata { last: ID, membership, session_bytes: sessions.len() as u64 };
        let mut bytes = writer.header(&metadata);
        bytes.extend(sessions.chunks(2).flat_map(|piece| writer.sessions(piece)));
        bytes.extend(writer.state(b"one"));
        bytes.extend(writer.state(b""));
        bytes.extend(writer.state(b"two"));
        bytes.extend(writer.end());
        bytes
    }

    /// The state, if all is well.
    fn read(bytes: &[u8], step: usize) -> Result<Vec<u8>, SnapshotError> {
        let mut reader = SnapshotReader::of(ID);
        let mut state = Vec::new();
        for piece in bytes.chunks(step) {
            reader.push(piece);
            while let Some(part) = reader.next()? {
                if let Part::State(piece) = part {
                    state.extend(piece);
                }
            }
        }
        if !reader.is_complete() {
            return Err(SnapshotError::CutShort { got: reader.bytes() });
        }
        reader.take_sessions()?;
        Ok(state)
    }

    #[test]
    fn a_snapshot_is_read_back_however_its_bytes_come() {
        for step in [1, 7, 64, 4096] {
            assert_eq!(read(&snapshot(), step).unwrap(), b"onetwo", "{step} bytes at once");
        }
    }

    #[test]
    fn h40_every_flipped_bit_and_every_cut_is_seen() {
        let whole = snapshot();
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            read(&damaged, 4096).expect_err("a bit was flipped");
        }
        for length in 0..whole.len() {
            read(&whole[..length], 4096).expect_err("it is cut short");
        }
        read(&[&whole[..], b"x"].concat(), 4096).expect_err("something follows");
    }

    #[test]
    fn frames_of_another_snapshot_or_place_are_refused() {
        let mut writer = FrameWriter::new(ID);
        let metadata = SnapshotMetadata { last: ID, membership: ConfigState::Stable(ClusterConfig::default()), session_bytes: 0 };
        let header = writer.header(&metadata);
        let (one, two) = (writer.state(b"1"), writer.state(b"2"));
        assert!(matches!(read(&[&header[..], &two, &one].concat(), 4096), Err(SnapshotError::Damaged { frame: 1, .. })));
        let other = EntryId { index: LogIndex(41), ..ID };
        let mut foreign = FrameWriter::new(other);
        let header = foreign.header(&SnapshotMetadata { last: other, ..metadata });
        assert_eq!(read(&header, 4096), Err(SnapshotError::Foreign { got: other, expected: ID }));
    }

    /// The format is a promise to other versions of this code: bytes that change here need a new version number.
    #[test]
    fn golden_bytes() {
        let mut writer = FrameWriter::new(ID);
        let metadata = SnapshotMetadata { last: ID, membership: ConfigState::Stable(ClusterConfig::default()), session_bytes: 0 };
        assert_eq!(writer.header(&metadata), [8, 0, 0, 0, 1, 1, 3, 40, 0, 0, 0, 0, 0, 122, 90, 194, 194]);
        assert_eq!(writer.state(b"x"), [1, 0, 0, 0, 3, b'x', 238, 109, 114, 195]);
    }
}
