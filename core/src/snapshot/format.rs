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
//! | metadata | 5 | only where the log is sealed: see below |
//!
//! Where the log is sealed, the header is version u8 = 2, then the snapshot's last entry and the header of its seal in postcard's encoding. The second frame is the metadata:
//! version u8 = 1, then [`SnapshotMetadata`] and [`ChainPoint`], which says where the chain stands behind the last entry. The payload of every frame but the first is sealed
//! ([`crate::sealing`]), with the frame's kind, and `last` for the end.
//!
//! Numbers are little endian. Sessions stand before the state. The checksum is CRC-32 (IEEE) of the index and term of the snapshot's last entry and of the
//! frame's number (u64 each, the header's is 0), then of all bytes of the frame before it: so a frame is worthless in any other place, and the node that made
//! the snapshot is the one that every reader checks against, however often it was stored and sent since.

use crc32fast::Hasher;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::chain::ChainPoint;
use crate::cluster_config::ConfigState;
use crate::sealing::{KeyVersion, MissingKey, SealingError, SnapshotKeys, SnapshotOpener, SnapshotSealer};
use crate::sessions::SessionImage;
use crate::types::{EntryId, LogIndex, Term};
use crate::wire::{self, LIMIT, WireError};

/// The version of a snapshot's format.
const VERSION: u8 = 1;
/// The same, of the header of a sealed one.
const SEALED_VERSION: u8 = 2;

const HEADER: u8 = 1;
const SESSIONS: u8 = 2;
const STATE: u8 = 3;
pub(super) const END: u8 = 4;
const METADATA: u8 = 5;

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
    /// Where the chain stands behind the last entry; none where the log is not sealed.
    #[serde(skip)]
    pub chain: Option<ChainPoint>,
}

/// The first frame of a sealed snapshot.
#[derive(Debug, Serialize, Deserialize)]
struct SealedHeader {
    last: EntryId,
    seal: Vec<u8>,
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
    /// A version of the key is needed that is not there.
    #[error("the snapshot can't be opened")]
    MissingKey(#[from] MissingKey),
    /// What is sealed does not match its tag, or has another form.
    #[error("the snapshot is not what the holders of the key have written")]
    Tampered(#[source] SealingError),
    /// Another version of the key than what it says, or than what may come.
    #[error("the snapshot is of version {got} of the key, expected {expected}: nobody who holds the key in use writes that")]
    KeyVersion {
        /// What came.
        got: KeyVersion,
        /// What was expected, at least.
        expected: KeyVersion,
    },
    /// A sealed snapshot where the log is not, or the other way round.
    #[error("the snapshot is {got}, expected one that is {expected}: a cluster's log and snapshots are all sealed, or none is")]
    Mixed {
        /// What came.
        got: &'static str,
        /// What was expected.
        expected: &'static str,
    },
    /// It comes too late in a node's life.
    #[error("a snapshot is given back before the journal, once")]
    OutOfOrder,
}

impl From<SealingError> for SnapshotError {
    fn from(error: SealingError) -> Self {
        match error {
            SealingError::UnknownVersion(missing) => Self::MissingKey(missing),
            other => Self::Tampered(other),
        }
    }
}

/// Makes frames.
#[derive(Debug)]
#[cfg_attr(feature = "model-checking", derive(Clone))]
pub(crate) struct FrameWriter {
    id: EntryId,
    sealer: Option<SnapshotSealer>,
    frames: u64,
    offset: u64,
}

/// Takes frames apart, as their bytes come.
#[derive(Clone, Debug, Default)]
pub(crate) struct SnapshotReader {
    expected: Option<EntryId>,
    /// Set if the snapshot is to be a sealed one.
    keys: Option<SnapshotKeys>,
    /// Whether a sealed snapshot is looked at from outside alone.
    closed: bool,
    opener: Option<SnapshotOpener>,
    /// What the header says.
    last: Option<EntryId>,
    buffer: Vec<u8>,
    /// How much of the buffer has been taken apart.
    taken: usize,
    metadata: Option<SnapshotMetadata>,
    sessions: Vec<u8>,
    sessions_left: u64,
    frames: u64,
    /// Bytes of whole frames, and without the last one.
    offset: u64,
    before_last: u64,
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
    pub(crate) fn new(id: EntryId, sealer: Option<SnapshotSealer>) -> Self {
        Self { id, sealer, frames: 0, offset: 0 }
    }

    /// Where the next frame goes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// The frames before the sessions.
    pub(crate) fn header(&mut self, metadata: &SnapshotMetadata) -> Vec<u8> {
        let (Some(sealer), Some(chain)) = (&self.sealer, metadata.chain) else {
            return self.put(HEADER, &wire::encode(VERSION, metadata));
        };
        let header = SealedHeader { last: self.id, seal: sealer.header().to_vec() };
        let mut frames = self.put(HEADER, &wire::encode(SEALED_VERSION, &header));
        frames.extend(self.frame(METADATA, &wire::encode(VERSION, &(metadata, chain))));
        frames
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
        match &mut self.sealer {
            None => self.put(kind, payload),
            Some(sealer) => {
                // It refuses more than 2³² frames, and any behind the last one.
                let sealed = sealer.seal(kind, kind == END, payload).expect("a snapshot ends before its numbers do");
                self.put(kind, &sealed)
            }
        }
    }

    fn put(&mut self, kind: u8, payload: &[u8]) -> Vec<u8> {
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
    /// A reader of any snapshot: of a sealed one, if there are keys.
    pub(crate) fn any(keys: Option<SnapshotKeys>) -> Self {
        Self { keys, ..Self::default() }
    }

    /// A reader of this very snapshot.
    pub(crate) fn of(id: EntryId, keys: Option<SnapshotKeys>) -> Self {
        Self { expected: Some(id), ..Self::any(keys) }
    }

    /// A reader of any snapshot that leaves a sealed one closed: of that, only [`Self::next_frame`] is of use.
    pub(super) fn closed() -> Self {
        Self { closed: true, ..Self::default() }
    }

    /// The last entry that the snapshot holds, once the header was read, and whether it is sealed.
    pub(super) fn header(&self) -> Option<(EntryId, bool)> {
        self.last.map(|last| (last, self.metadata.is_none()))
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
                (METADATA, None) if number == 1 && self.opener.is_some() => self.read_metadata(&payload)?,
                (SESSIONS, Some(_)) if payload.len() as u64 <= self.sessions_left && !payload.is_empty() => {
                    self.sessions_left -= payload.len() as u64;
                    self.sessions.extend_from_slice(&payload);
                }
                (STATE, Some(_)) if self.sessions_left == 0 => return Ok(Some(Part::State(payload))),
                (END, Some(_)) if self.sessions_left == 0 => {
                    let before = self.before_last;
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

    pub(super) fn next_frame(&mut self) -> Result<Option<(u8, Vec<u8>)>, SnapshotError> {
        let Some(length) = self.rest().first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize) else { return Ok(None) };
        if length > MAX_PAYLOAD {
            let got = format!("{length} bytes long");
            return Err(SnapshotError::Frame { frame: self.frames, got, expected: "64 MiB at most" });
        }
        let whole = BEFORE + length + AFTER;
        let Some((covered, sum)) = self.rest().get(..whole).and_then(<[u8]>::split_last_chunk::<AFTER>) else { return Ok(None) };
        let (kind, mut payload, got) = (covered[4], covered[BEFORE..].to_vec(), u32::from_le_bytes(*sum));
        let (id, seal) = match (self.last, kind) {
            (Some(last), _) => (last, None),
            (None, HEADER) => self.read_header(&payload)?,
            (None, _) => return Err(SnapshotError::Frame { frame: 0, got: format!("of kind {kind}"), expected: "a header" }),
        };
        let expected = checksum(id, self.frames, &self.rest()[..whole - AFTER]);
        if got != expected {
            return Err(SnapshotError::Damaged { frame: self.frames, got, expected });
        }
        if let (Some(seal), Some(keys)) = (seal, &self.keys) {
            // Not before the checksum is right: a damaged version is not a missing key.
            self.opener = Some(keys.opener(id, &seal)?);
            self.last = Some(id);
        }
        if let Some(opener) = self.opener.as_mut().filter(|_| self.frames > 0) {
            let opened = opener.open(&payload)?;
            if opened.kind != kind || opened.last != (kind == END) {
                let got = format!("of kind {kind}, sealed as one of kind {}", opened.kind);
                return Err(SnapshotError::Frame { frame: self.frames, got, expected: "a frame that is what it was sealed as" });
            }
            payload = opened.content;
        }
        self.frames += 1;
        self.before_last = self.offset;
        self.offset += whole as u64;
        self.taken += whole;
        Ok(Some((kind, payload)))
    }

    /// The last entry, and the header of the seal where there is one. Its checksum is yet to be looked at: it covers what the header itself says.
    fn read_header(&mut self, payload: &[u8]) -> Result<(EntryId, Option<Vec<u8>>), SnapshotError> {
        let mixed = |got, expected| Err(SnapshotError::Mixed { got, expected });
        match (&self.keys, payload.first() == Some(&SEALED_VERSION)) {
            (None, true) if self.closed => {
                let SealedHeader { last, .. } = wire::decode("snapshot's header", SEALED_VERSION, payload)?;
                self.last = Some(last);
                Ok((last, None))
            }
            (None, false) => Ok((self.take_metadata(wire::decode("snapshot's header", VERSION, payload)?)?, None)),
            (None, true) => mixed("sealed", "not sealed"),
            (Some(_), false) if payload.first() == Some(&VERSION) => mixed("not sealed", "sealed"),
            (Some(_), _) => {
                let SealedHeader { last, seal } = wire::decode("snapshot's header", SEALED_VERSION, payload)?;
                if let Some(expected) = self.expected.filter(|expected| *expected != last) {
                    return Err(SnapshotError::Foreign { got: last, expected });
                }
                Ok((last, Some(seal)))
            }
        }
    }

    /// The second frame of a sealed snapshot.
    fn read_metadata(&mut self, payload: &[u8]) -> Result<(), SnapshotError> {
        let (metadata, chain): (SnapshotMetadata, ChainPoint) = wire::decode("snapshot's metadata", VERSION, payload)?;
        let (got, expected) = (metadata.last, self.last.unwrap_or_default());
        if got != expected {
            return Err(SnapshotError::Foreign { got, expected });
        }
        if let Some(opener) = self.opener.as_ref().filter(|opener| opener.header().version != chain.version) {
            return Err(SnapshotError::KeyVersion { got: chain.version, expected: opener.header().version });
        }
        self.take_metadata(SnapshotMetadata { chain: Some(chain), ..metadata }).map(drop)
    }

    fn take_metadata(&mut self, metadata: SnapshotMetadata) -> Result<EntryId, SnapshotError> {
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
        self.last = Some(last);
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
mod tests;
