//! Sealing and opening the frames of a snapshot, in their order.

use super::error::SealingError;
use super::gcm::{Aes, TAG};
use super::header::{SNAPSHOT, SealHeader};
use super::ring::KeyRing;
use super::subkey::{Cipher, LogName};
use crate::types::EntryId;

/// What stands before a frame's ciphertext: kind, last, number.
const FRAME_HEAD: usize = 6;

/// Seals the frames of one snapshot. They are numbered, and the last is marked: none can be moved, left out or added.
#[derive(Debug)]
#[cfg_attr(feature = "model-checking", derive(Clone))]
pub struct SnapshotSealer {
    stream: Stream,
    header: Vec<u8>,
}

/// Opens the frames of one snapshot, one after the other.
///
/// A snapshot is whole when [`Self::finish`] says so. A frame that opened is what was sealed at that place, even if those after it never come.
#[derive(Clone, Debug)]
pub struct SnapshotOpener(Stream);

/// A frame's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenedFrame {
    /// What it holds: its owner's number.
    pub kind: u8,
    /// Whether it is the last.
    pub last: bool,
    /// The plain bytes.
    pub content: Vec<u8>,
}

#[derive(Clone, Debug)]
struct Stream {
    log: LogName,
    id: EntryId,
    sealed_by: SealHeader,
    cipher: Cipher,
    next: u32,
    ended: bool,
    associated: Vec<u8>,
}

impl SnapshotSealer {
    pub(super) fn new(log: LogName, id: EntryId, sealed_by: SealHeader, cipher: Cipher) -> Self {
        let mut header = Vec::with_capacity(SealHeader::MAX_LENGTH);
        sealed_by.write(SNAPSHOT, &mut header);
        Self { stream: Stream::new(log, id, sealed_by, cipher), header }
    }

    /// What an opener needs first: it is stored and sent with the snapshot, and readable without a key.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Seals the next frame. It is 22 bytes longer than its content.
    ///
    /// # Errors
    /// The last frame was sealed already, or the content is too long.
    pub fn seal(&mut self, kind: u8, last: bool, content: &[u8]) -> Result<Vec<u8>, SealingError> {
        let stream = &mut self.stream;
        if stream.ended {
            return Err(SealingError::AfterLast { id: stream.id });
        }
        let number = stream.next;
        let mut frame = Vec::with_capacity(FRAME_HEAD + content.len() + TAG);
        frame.extend_from_slice(&[kind, u8::from(last)]);
        frame.extend_from_slice(&number.to_be_bytes());
        stream.bind(&frame);
        stream.cipher.seal(nonce(number), &stream.associated, content, &mut frame)?;
        stream.advance(last)?;
        Ok(frame)
    }
}

/// What opens the snapshots of a log.
#[derive(Clone, Debug)]
pub struct SnapshotKeys {
    log: LogName,
    keys: KeyRing,
    aes: Aes,
}

impl SnapshotKeys {
    /// With these keys.
    #[must_use]
    pub fn new(log: LogName, keys: KeyRing) -> Self {
        Self { log, keys, aes: Aes::default() }
    }

    pub(super) fn with_aes(mut self, aes: &Aes) -> Self {
        self.aes = aes.clone();
        self
    }

    /// An opener for the snapshot up to the entry with this id, from its header ([`SnapshotSealer::header`]).
    ///
    /// # Errors
    /// It is no such header, or its version's key is not there.
    pub fn opener(&self, id: EntryId, header: &[u8]) -> Result<SnapshotOpener, SealingError> {
        let (read, length) = SealHeader::read(SNAPSHOT, header)?;
        if header.len() != length {
            let got = format!("{} bytes more", header.len() - length);
            return Err(SealingError::Malformed { expected: "the end of a snapshot's header", at: length, got });
        }
        let cipher = Cipher::of_snapshot(&self.aes, self.keys.get(read.version)?, &self.log, &read, id);
        Ok(SnapshotOpener::new(self.log.clone(), id, read, cipher))
    }
}

impl SnapshotOpener {
    pub(super) fn new(log: LogName, id: EntryId, sealed_by: SealHeader, cipher: Cipher) -> Self {
        Self(Stream::new(log, id, sealed_by, cipher))
    }

    /// Who sealed the snapshot, and how.
    #[must_use]
    pub fn header(&self) -> &SealHeader {
        &self.0.sealed_by
    }

    /// Opens the next frame. After an error, the same frame may be tried again from another source.
    ///
    /// # Errors
    /// It is no frame, not the next one, not of this snapshot, or was changed; or the last one has been there.
    pub fn open(&mut self, frame: &[u8]) -> Result<OpenedFrame, SealingError> {
        let stream = &mut self.0;
        let id = stream.id;
        if stream.ended {
            return Err(SealingError::AfterLast { id });
        }
        let (kind, last, number) = read_head(frame)?;
        if number != stream.next {
            return Err(SealingError::FrameOrder { id, expected: stream.next, got: number });
        }
        let (head, sealed) = frame.split_at(FRAME_HEAD);
        stream.bind(head);
        let content = stream.cipher.open(nonce(number), &stream.associated, sealed).ok_or(SealingError::FrameTag { id, number })?;
        stream.advance(last)?;
        Ok(OpenedFrame { kind, last, content })
    }

    /// Ends the snapshot, and gives the number of its frames.
    ///
    /// # Errors
    /// Its last frame has not come.
    pub fn finish(&self) -> Result<u32, SealingError> {
        let Stream { id, next, ended, .. } = self.0;
        if ended { Ok(next) } else { Err(SealingError::CutOff { id, frames: next }) }
    }
}

impl Stream {
    fn new(log: LogName, id: EntryId, sealed_by: SealHeader, cipher: Cipher) -> Self {
        Self { log, id, sealed_by, cipher, next: 0, ended: false, associated: Vec::new() }
    }

    fn bind(&mut self, head: &[u8]) {
        self.log.bind(SNAPSHOT, self.sealed_by.version, self.id, head, &mut self.associated);
    }

    fn advance(&mut self, last: bool) -> Result<(), SealingError> {
        self.next = self.next.checked_add(1).ok_or(SealingError::Exhausted)?;
        self.ended = last;
        Ok(())
    }
}

fn read_head(frame: &[u8]) -> Result<(u8, bool, u32), SealingError> {
    let malformed = |expected, at, got| SealingError::Malformed { expected, at, got };
    let [kind, last, a, b, c, d, rest @ ..] = frame else {
        return Err(malformed("a frame's head of 6 bytes", 0, format!("{} bytes", frame.len())));
    };
    if rest.len() < TAG {
        return Err(malformed("a tag of 16 bytes", FRAME_HEAD, format!("{} bytes", rest.len())));
    }
    let last = match last {
        0 => false,
        1 => true,
        other => return Err(malformed("0, or 1 for the last frame", 1, other.to_string())),
    };
    Ok((*kind, last, u32::from_be_bytes([*a, *b, *c, *d])))
}

/// 8 bytes of 0, and the number.
fn nonce(number: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[8..].copy_from_slice(&number.to_be_bytes());
    nonce
}
