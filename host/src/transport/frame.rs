//! Frames: envelopes in a stream of bytes. The [grammar](super) is in the module above.

use bytes::{Buf, BufMut, BytesMut};
use thiserror::Error;

/// Length and checksum.
pub(super) const HEADER_BYTES: usize = 8;

/// The least room that is offered to one read.
const READ_BYTES: usize = 64 << 10;

/// The largest buffer that is kept when it is empty, so that one large frame does not cost its size for ever.
const KEPT_BYTES: usize = 1 << 20;

/// Why bytes are not a frame. There is no way on after it: where the next frame begins is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The declared length is above the bound.
    #[error("a frame of {declared} bytes was announced: at most {max} are allowed")]
    TooLarge {
        /// What the length field says.
        declared: u32,
        /// The bound.
        max: u32,
    },
    /// The checksum does not fit.
    #[error("a frame of {length} bytes has the checksum {computed:#010x}: expected {declared:#010x}")]
    BadChecksum {
        /// The length of its payload.
        length: u32,
        /// What the frame says.
        declared: u32,
        /// What its bytes give.
        computed: u32,
    },
}

/// Appends the frame of `payload`, which is empty for a keep-alive.
///
/// The caller has checked the length against the bound, which is far below 4 GiB; a longer payload leaves `out` as it was.
pub(super) fn encode(payload: &[u8], out: &mut BytesMut) {
    let Ok(length) = u32::try_from(payload.len()) else { return };
    out.reserve(HEADER_BYTES + payload.len());
    out.put_u32_le(length);
    out.put_u32_le(checksum(length, payload));
    out.put_slice(payload);
}

/// Takes bytes as they come and gives frames. Its memory grows with what has come, whatever was declared.
#[derive(Debug)]
pub(super) struct FrameDecoder {
    buffer: BytesMut,
    /// The size of the allocation behind `buffer`, which does not tell of the part that was read already.
    held: usize,
    max_payload: u32,
}

impl FrameDecoder {
    pub(super) fn new(max_payload: u32) -> Self {
        Self { buffer: BytesMut::new(), held: 0, max_payload }
    }

    /// Where the next read goes.
    pub(super) fn room(&mut self) -> &mut BytesMut {
        if self.buffer.is_empty() && self.held > KEPT_BYTES {
            self.buffer = BytesMut::new();
            self.held = 0;
        }
        // At most a doubling: a peer has to send a byte for each one that is set aside for it.
        self.buffer.reserve(READ_BYTES.max(self.missing().min(self.buffer.len())));
        self.held = self.held.max(self.buffer.capacity());
        &mut self.buffer
    }

    /// Whether no frame has begun.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// The payload of the next frame that is complete; empty for a keep-alive.
    pub(super) fn next(&mut self) -> Result<Option<Vec<u8>>, FrameError> {
        let Some(length) = field(&self.buffer, 0) else { return Ok(None) };
        if length > self.max_payload {
            return Err(FrameError::TooLarge { declared: length, max: self.max_payload });
        }
        let Some(declared) = field(&self.buffer, 4) else { return Ok(None) };
        let Some(payload) = self.buffer[HEADER_BYTES..].get(..length as usize) else { return Ok(None) };
        let computed = checksum(length, payload);
        if computed != declared {
            return Err(FrameError::BadChecksum { length, declared, computed });
        }
        let payload = payload.to_vec();
        self.buffer.advance(HEADER_BYTES + payload.len());
        Ok(Some(payload))
    }

    /// How many bytes of the frame that has begun are still to come, as far as its length is known and allowed.
    fn missing(&self) -> usize {
        field(&self.buffer, 0)
            .filter(|&length| length <= self.max_payload)
            .map_or(0, |length| (HEADER_BYTES + length as usize).saturating_sub(self.buffer.len()))
    }
}

fn field(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|field| u32::from_le_bytes(*field))
}

/// Covers the length too: a damaged length must not pass as a frame of another size.
fn checksum(length: u32, payload: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(payload);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MAX: u32 = 1 << 20;

    fn encoded(payloads: &[Vec<u8>]) -> BytesMut {
        let mut out = BytesMut::new();
        payloads.iter().for_each(|payload| encode(payload, &mut out));
        out
    }

    /// Feeds `bytes` in the given pieces; the rest comes as the last one.
    fn decode(bytes: &[u8], pieces: &[usize]) -> (Vec<Vec<u8>>, Option<FrameError>) {
        let (mut decoder, mut frames, mut rest) = (FrameDecoder::new(MAX), Vec::new(), bytes);
        for piece in pieces.iter().copied().chain([usize::MAX]) {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            decoder.room().extend_from_slice(now);
            rest = later;
            loop {
                match decoder.next() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
        }
        (frames, None)
    }

    #[test]
    fn the_encoding_is_as_documented() {
        let golden = [3, 0, 0, 0, 0x33, 0x5d, 0xe1, 0x66, b'a', b'b', b'c'];
        assert_eq!(encoded(&[b"abc".to_vec()])[..], golden);
    }

    #[test]
    fn a_length_above_the_bound_is_refused_before_anything_is_set_aside() {
        let mut decoder = FrameDecoder::new(MAX);
        decoder.room().extend_from_slice(&[0xff; 4]);
        assert_eq!(decoder.next(), Err(FrameError::TooLarge { declared: u32::MAX, max: MAX }));
        assert!(decoder.room().capacity() <= 2 * READ_BYTES);
    }

    #[test]
    fn memory_grows_with_what_came_not_with_what_was_declared() {
        let mut decoder = FrameDecoder::new(32 << 20);
        decoder.room().extend_from_slice(&(32_u32 << 20).to_le_bytes());
        assert_eq!(decoder.next(), Ok(None));
        assert!(decoder.room().capacity() <= 2 * READ_BYTES, "{}", decoder.buffer.capacity());
        decoder.room().extend_from_slice(&vec![0; 1 << 20]);
        assert!(decoder.room().capacity() <= 4 << 20, "{}", decoder.buffer.capacity());
    }

    #[test]
    fn a_large_buffer_is_given_back_once_it_is_empty() {
        let mut decoder = FrameDecoder::new(8 << 20);
        for read in encoded(&[vec![7; 8 << 20]]).chunks(READ_BYTES) {
            decoder.room().extend_from_slice(read);
        }
        assert_eq!(decoder.next().map(|frame| frame.map(|frame| frame.len())), Ok(Some(8 << 20)));
        assert!(decoder.room().capacity() <= KEPT_BYTES);
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_split(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..20),
            pieces in prop::collection::vec(0_usize..60, 0..100),
        ) {
            prop_assert_eq!(decode(&encoded(&payloads), &pieces), (payloads, None));
        }

        #[test]
        fn one_damaged_bit_never_gives_another_frame(
            payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..8),
            at in any::<prop::sample::Index>(),
            bit in 0_u8..8,
            pieces in prop::collection::vec(0_usize..60, 0..40),
        ) {
            let mut bytes = encoded(&payloads);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let (frames, _) = decode(&bytes, &pieces);
            prop_assert!(frames.len() < payloads.len());
            prop_assert_eq!(&payloads[..frames.len()], &frames[..]);
        }

        #[test]
        fn garbage_is_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), pieces in prop::collection::vec(0_usize..60, 0..20)) {
            decode(&bytes, &pieces);
        }
    }
}
