//! The head of what is sealed: which key and nonce open it.

use std::fmt;

use super::error::SealingError;
use super::gcm::TAG;
use super::ring::KeyVersion;
use crate::entry::Payload;
use crate::types::NodeId;

/// The form of a payload.
pub(super) const PAYLOAD: u8 = 1;
/// The form of a snapshot.
pub(super) const SNAPSHOT: u8 = 2;

/// One start of a node: 16 bytes from the system's random source, drawn at each start and used by no other. The safety of everything that is sealed rests on that.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Boot(pub [u8; 16]);

impl fmt::Debug for Boot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Boot({:032x})", u128::from_be_bytes(self.0))
    }
}

/// Who sealed it, with which key and which nonce. It is readable without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealHeader {
    /// The version of the log key.
    pub version: KeyVersion,
    /// The node that sealed it.
    pub node: NodeId,
    /// That node's start.
    pub boot: Boot,
    /// Its number among all that the node sealed in that start, from 1.
    pub counter: u64,
}

impl SealHeader {
    /// The header's greatest length in bytes.
    pub const MAX_LENGTH: usize = 1 + 5 + 10 + 16 + 10;

    pub(super) fn write(&self, form: u8, sealed: &mut Vec<u8>) {
        sealed.push(form);
        write_varint(u64::from(self.version.0), sealed);
        write_varint(self.node.0, sealed);
        sealed.extend_from_slice(&self.boot.0);
        write_varint(self.counter, sealed);
    }

    /// The header that these bytes begin with, and its length.
    pub(super) fn read(form: u8, sealed: &[u8]) -> Result<(Self, usize), SealingError> {
        let mut reader = Reader { sealed, at: 0 };
        let expected = if form == PAYLOAD { "a sealed payload's first byte, 1" } else { "a sealed snapshot's first byte, 2" };
        match reader.byte() {
            Some(first) if first == form => {}
            other => return Err(reader.malformed(expected, 0, other)),
        }
        let at = reader.at;
        let version = reader.varint("a key version")?;
        let version = u32::try_from(version).map_err(|_| reader.malformed("a key version of 32 bits", at, Some(version)))?;
        let node = NodeId(reader.varint("a node's id")?);
        let boot = reader.boot()?;
        let counter = reader.varint("a counter")?;
        Ok((Self { version: KeyVersion(version), node, boot, counter }, reader.at))
    }

    /// 4 bytes of 0, and the counter.
    pub(super) fn nonce(&self) -> [u8; 12] {
        let mut nonce = [0; 12];
        nonce[4..].copy_from_slice(&self.counter.to_be_bytes());
        nonce
    }
}

/// A sealed payload, as it stands in the log: [`super`] has its bytes. What it is worth shows when it is opened.
#[derive(Clone, PartialEq, Eq)]
pub struct EncryptedPayload {
    header: SealHeader,
    bytes: Payload,
    /// Where the ciphertext begins.
    body: usize,
}

impl EncryptedPayload {
    /// By how much a sealed payload is at most longer than the plain one, in bytes.
    pub const MAX_OVERHEAD: usize = SealHeader::MAX_LENGTH + TAG;

    /// A payload that was sealed here or elsewhere.
    ///
    /// # Errors
    /// The bytes don't have the form of a sealed payload.
    pub fn parse(bytes: Payload) -> Result<Self, SealingError> {
        let (header, body) = SealHeader::read(PAYLOAD, &bytes)?;
        if bytes.len() - body < TAG {
            let got = format!("{} bytes", bytes.len() - body);
            return Err(SealingError::Malformed { expected: "a tag of 16 bytes", at: body, got });
        }
        Ok(Self { header, bytes, body })
    }

    /// Who sealed it, and how.
    #[must_use]
    pub fn header(&self) -> &SealHeader {
        &self.header
    }

    /// The bytes to store and to send.
    #[must_use]
    pub fn as_bytes(&self) -> &Payload {
        &self.bytes
    }

    /// The bytes to store and to send.
    #[must_use]
    pub fn into_bytes(self) -> Payload {
        self.bytes
    }

    /// The plain payload's length in bytes.
    #[must_use]
    pub fn plain_len(&self) -> usize {
        self.bytes.len() - self.body - TAG
    }

    pub(super) fn ciphertext_and_tag(&self) -> &[u8] {
        &self.bytes[self.body..]
    }

    pub(super) fn sealed(header: SealHeader, bytes: Vec<u8>, body: usize) -> Self {
        Self { header, bytes: bytes.into(), body }
    }
}

impl fmt::Debug for EncryptedPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EncryptedPayload").field("header", &self.header).field("bytes", &self.bytes.len()).finish()
    }
}

/// LEB128, in its shortest form.
fn write_varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        let [low, ..] = number.to_le_bytes();
        bytes.push(low | 0x80);
        number >>= 7;
    }
    let [last, ..] = number.to_le_bytes();
    bytes.push(last);
}

struct Reader<'a> {
    sealed: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.sealed.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self, expected: &'static str) -> Result<u64, SealingError> {
        let start = self.at;
        let mut number = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte().ok_or_else(|| self.malformed(expected, start, None::<u8>))?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte < 0x80 {
                let shortest = byte != 0 || shift == 0;
                return if shortest { Ok(number) } else { Err(self.malformed("a number in its shortest form", start, Some(number))) };
            }
        }
        Err(self.malformed("a number of 64 bits", start, Some("more")))
    }

    fn boot(&mut self) -> Result<Boot, SealingError> {
        let rest = &self.sealed[self.at..];
        let Some((boot, _)) = rest.split_first_chunk() else {
            return Err(self.malformed("16 random bytes", self.at, Some(format!("{} bytes", rest.len()))));
        };
        self.at += boot.len();
        Ok(Boot(*boot))
    }

    fn malformed(&self, expected: &'static str, at: usize, got: Option<impl fmt::Display>) -> SealingError {
        SealingError::Malformed { expected, at, got: got.map_or_else(|| "the end".to_owned(), |got| got.to_string()) }
    }
}
