//! A snapshot, from `docs/on-disk.md`; its damage; and what a node takes back from it at a start.

use amaters_cluster_core::{Config, Effect, Instant, Node, NodeId};
use crc32fast::Hasher;

use super::bytes::Bytes;

/// The kinds of frames.
const HEADER: u8 = 1;
const SESSIONS: u8 = 2;
const STATE: u8 = 3;
const END: u8 = 4;

/// A table without sessions: its version, the time, and two counts.
const NO_SESSIONS: [u8; 4] = [1, 0, 0, 0];

/// A snapshot as its node made it.
struct Snapshot {
    term: u64,
    index: u64,
    bytes: Vec<u8>,
    frames: u64,
    /// The state that is in it.
    pieces: Vec<Vec<u8>>,
    /// Whether there is a part in it that no node writes, under a checksum that fits.
    is_odd: bool,
}

/// Makes the snapshot that the bytes tell of, damages it, and has a node start from it.
///
/// # Panics
/// If the node panics, takes something for the state that was not written, or takes a damaged snapshot for a whole one.
pub fn restore(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let snapshot = Snapshot::from_bytes(&mut bytes);
    let mut image = snapshot.bytes.clone();
    for _ in 0..bytes.number(4) {
        spoil(&mut image, &mut bytes);
    }
    let step = usize::try_from(bytes.number(300) + 1).expect("it is small");
    let mut node = Node::new(Config::new(NodeId(1), vec![NodeId(1)])).expect("the settings are fine");
    let (mut effects, mut pieces, mut is_restored) = (Vec::new(), Vec::new(), false);
    let done = image.chunks(step).try_for_each(|chunk| {
        let done = node.restore(chunk, &mut effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::RestoreState { piece } => pieces.push(piece.to_vec()),
                Effect::StateRestored => is_restored = true,
                _ => {}
            }
        }
        done
    });
    let status = node.status(Instant(0));
    if snapshot.is_odd {
        return;
    }
    assert!(snapshot.pieces.starts_with(&pieces), "{pieces:?} are not the state's first pieces: {:?}", snapshot.pieces);
    let is_whole = image == snapshot.bytes;
    assert_eq!(done.is_ok() && status.snapshots.latest.is_some(), is_whole, "{done:?}");
    assert!(!is_whole || is_restored && pieces == snapshot.pieces);
    if is_whole {
        let id = status.snapshots.latest.expect("it was taken back");
        assert_eq!((id.term.0, id.index.0), (snapshot.term, snapshot.index));
    }
}

impl Snapshot {
    fn from_bytes(bytes: &mut Bytes<'_>) -> Self {
        let (term, index) = (bytes.number(200) + 1, bytes.number(1 << 16) + 1);
        let mut snapshot = Self { term, index, bytes: Vec::new(), frames: 0, pieces: Vec::new(), is_odd: false };
        snapshot.frame(HEADER, &[&[1][..], &varint(term), &varint(index), &[0, 0, 0, 0], &varint(NO_SESSIONS.len() as u64)].concat());
        let cut = usize::try_from(bytes.number(3)).expect("it is small") + 1;
        NO_SESSIONS.chunks(cut).for_each(|piece| snapshot.frame(SESSIONS, piece));
        for n in 0..bytes.number(8) {
            if bytes.number(16) == 15 {
                snapshot.is_odd = true;
                let (kind, length) = (bytes.byte(), bytes.number(60));
                let payload = bytes.take(length).to_vec();
                if bytes.number(2) == 1 {
                    // In the place of all that came before.
                    (snapshot.bytes, snapshot.frames) = (Vec::new(), 0);
                }
                snapshot.frame(kind, &payload);
            } else {
                let piece = format!("{n} ").repeat(usize::try_from(bytes.number(100)).expect("it is small")).into_bytes();
                snapshot.frame(STATE, &piece);
                snapshot.pieces.push(piece);
            }
        }
        let end = [snapshot.frames.to_le_bytes(), (snapshot.bytes.len() as u64).to_le_bytes()].concat();
        snapshot.frame(END, &end);
        snapshot
    }

    fn frame(&mut self, kind: u8, payload: &[u8]) {
        let mut frame = u32::try_from(payload.len()).expect("it is small").to_le_bytes().to_vec();
        frame.push(kind);
        frame.extend_from_slice(payload);
        let mut hasher = Hasher::new();
        for number in [self.index, self.term, self.frames] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&frame);
        frame.extend_from_slice(&hasher.finalize().to_le_bytes());
        self.bytes.extend(frame);
        self.frames += 1;
    }
}

/// Changes some bytes. What is put there comes from elsewhere in the snapshot, or is as good as drawn.
fn spoil(image: &mut Vec<u8>, bytes: &mut Bytes<'_>) {
    let Some(last) = (image.len() as u64).checked_sub(1) else { return };
    let at = usize::try_from(bytes.number(last + 1)).expect("it is in memory");
    let length = usize::try_from(bytes.number(200)).expect("it is small").min(image.len() - at);
    match bytes.number(6) {
        0 => image.truncate(at),
        1 => image[at..at + length].fill(0),
        2 => drop(image.drain(at..at + length)),
        3 => {
            let twice = image[at..at + length].to_vec();
            image.splice(at..at, twice);
        }
        4 => image.push(bytes.byte()),
        _ => image[at] ^= bytes.byte() | 1,
    }
}

/// A number in postcard's encoding.
fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let low = u8::try_from(number & 0x7f).expect("seven bits");
        number >>= 7;
        if number == 0 {
            bytes.push(low);
            return bytes;
        }
        bytes.push(low | 0x80);
    }
}
