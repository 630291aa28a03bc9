//! What is written is read back, and what was damaged is seen.

mod sealed;

use super::*;
use crate::cluster_config::ClusterConfig;

const ID: EntryId = EntryId { term: Term(3), index: LogIndex(40) };

fn snapshot() -> Vec<u8> {
    let sessions = encode_sessions(&SessionImage::default());
    let membership = ConfigState::Stable(ClusterConfig::default());
    let mut writer = FrameWriter::new(ID, None);
    let metadata = SnapshotMetadata { last: ID, membership, session_bytes: sessions.len() as u64, chain: None };
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
    let mut reader = SnapshotReader::of(ID, None);
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
    let mut writer = FrameWriter::new(ID, None);
    let metadata = SnapshotMetadata { last: ID, membership: ConfigState::Stable(ClusterConfig::default()), session_bytes: 0, chain: None };
    let header = writer.header(&metadata);
    let (one, two) = (writer.state(b"1"), writer.state(b"2"));
    assert!(matches!(read(&[&header[..], &two, &one].concat(), 4096), Err(SnapshotError::Damaged { frame: 1, .. })));
    let other = EntryId { index: LogIndex(41), ..ID };
    let mut foreign = FrameWriter::new(other, None);
    let header = foreign.header(&SnapshotMetadata { last: other, ..metadata });
    assert_eq!(read(&header, 4096), Err(SnapshotError::Foreign { got: other, expected: ID }));
}

/// The format is a promise to other versions of this code: bytes that change here need a new version number.
#[test]
fn golden_bytes() {
    let mut writer = FrameWriter::new(ID, None);
    let metadata = SnapshotMetadata { last: ID, membership: ConfigState::Stable(ClusterConfig::default()), session_bytes: 0, chain: None };
    assert_eq!(writer.header(&metadata), [8, 0, 0, 0, 1, 1, 3, 40, 0, 0, 0, 0, 0, 122, 90, 194, 194]);
    assert_eq!(writer.state(b"x"), [1, 0, 0, 0, 3, b'x', 238, 109, 114, 195]);
}
