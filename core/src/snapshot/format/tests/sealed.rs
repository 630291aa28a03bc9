//! The same of a sealed snapshot, and that a damaged one is told from one that was changed, and from one whose key is not there.

use super::*;
use crate::sealing::{Boot, ChainLink, EntryEncryptor, KeyRing, KeyVersion, LogEncryptionKey, LogName};
use crate::types::{GroupId, NodeId};

const VERSION: KeyVersion = KeyVersion(1);

fn log() -> LogName {
    LogName::new("orders", GroupId(0)).unwrap()
}

fn ring(version: u32) -> KeyRing {
    let mut keys = KeyRing::default();
    keys.insert(KeyVersion(version), LogEncryptionKey::from_bytes(&[0xa1; 32]).unwrap()).unwrap();
    keys
}

fn keys() -> SnapshotKeys {
    SnapshotKeys::new(log(), ring(1))
}

fn point() -> ChainPoint {
    ChainPoint { link: ChainLink([7; 32]), version: VERSION }
}

/// The frames of a snapshot, the first two as one.
fn frames(boot: u8) -> Vec<Vec<u8>> {
    let mut encryptor = EntryEncryptor::new(log(), NodeId(1), Boot([boot; 16]), ring(1)).unwrap();
    encryptor.use_version(VERSION).unwrap();
    let sessions = encode_sessions(&SessionImage::default());
    let membership = ConfigState::Stable(ClusterConfig::default());
    let mut writer = FrameWriter::new(ID, Some(encryptor.snapshot_sealer(ID).unwrap()));
    let metadata = SnapshotMetadata { last: ID, membership, session_bytes: sessions.len() as u64, chain: Some(point()) };
    vec![writer.header(&metadata), writer.sessions(&sessions), writer.state(b"one"), writer.state(b"two"), writer.end()]
}

fn snapshot() -> Vec<u8> {
    frames(1).concat()
}

/// The state and where the chain stands, if all is well.
fn read(bytes: &[u8], keys: Option<SnapshotKeys>) -> Result<(Vec<u8>, Option<ChainPoint>), SnapshotError> {
    let (mut reader, mut state) = (SnapshotReader::of(ID, keys), Vec::new());
    reader.push(bytes);
    while let Some(part) = reader.next()? {
        if let Part::State(piece) = part {
            state.extend(piece);
        }
    }
    if !reader.is_complete() {
        return Err(SnapshotError::CutShort { got: reader.bytes() });
    }
    let point = reader.metadata().and_then(|metadata| metadata.chain);
    reader.take_sessions()?;
    Ok((state, point))
}

/// The same bytes with checksums that are right: whoever changes a snapshot on purpose can count.
fn with_right_checksums(mut bytes: Vec<u8>) -> Vec<u8> {
    let (mut at, mut number) = (0, 0);
    while let Some(length) = bytes[at..].first_chunk().map(|bytes| u32::from_le_bytes(*bytes) as usize) {
        let end = at + BEFORE + length;
        if end + AFTER > bytes.len() {
            break;
        }
        let sum = checksum(ID, number, &bytes[at..end]).to_le_bytes();
        bytes[end..end + AFTER].copy_from_slice(&sum);
        (at, number) = (end + AFTER, number + 1);
    }
    bytes
}

#[test]
fn a_sealed_snapshot_is_read_back_with_its_place_in_the_chain() {
    assert_eq!(read(&snapshot(), Some(keys())), Ok((b"onetwo".to_vec(), Some(point()))));
    assert_eq!(with_right_checksums(snapshot()), snapshot());
}

#[test]
fn h40_every_flipped_bit_and_every_cut_of_a_sealed_snapshot_is_damage_and_no_missing_key() {
    let whole = snapshot();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = read(&damaged, Some(keys())).expect_err("a bit was flipped");
        assert!(!matches!(error, SnapshotError::MissingKey(_)), "bit {bit}: {error:?}");
    }
    for length in 0..whole.len() {
        read(&whole[..length], Some(keys())).expect_err("it is cut short");
    }
}

#[test]
fn h54_every_bit_that_somebody_changes_is_refused_though_the_checksums_are_right() {
    let whole = snapshot();
    let mut tampered = 0;
    for bit in 0..whole.len() * 8 {
        let mut changed = whole.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let changed = with_right_checksums(changed);
        if changed != whole {
            let error = read(&changed, Some(keys())).expect_err("a bit was changed");
            tampered += u32::from(matches!(error, SnapshotError::Tampered(_)));
        }
    }
    assert!(tampered > 1000, "most bits are sealed, or choose what opens them: {tampered}");
}

#[test]
fn frames_that_were_left_out_swapped_or_taken_from_another_sealed_snapshot_are_refused() {
    let (whole, other) = (frames(1), frames(2));
    let refused = |order: &[&Vec<u8>]| {
        let bytes: Vec<u8> = order.iter().flat_map(|frame| frame.iter().copied()).collect();
        assert!(matches!(read(&with_right_checksums(bytes), Some(keys())), Err(SnapshotError::Tampered(_))));
    };
    refused(&[&whole[0], &whole[1], &whole[3], &whole[2], &whole[4]]);
    refused(&[&whole[0], &whole[1], &whole[2], &whole[4]]);
    refused(&[&whole[0], &whole[1], &whole[2], &other[3], &whole[4]]);
}

#[test]
fn what_is_sealed_and_what_is_not_are_never_taken_for_each_other() {
    let sealed = read(&snapshot(), None).expect_err("there are no keys");
    assert_eq!(sealed, SnapshotError::Mixed { got: "sealed", expected: "not sealed" });
    let plain = read(&super::snapshot(), Some(keys())).expect_err("it is not sealed");
    assert_eq!(plain, SnapshotError::Mixed { got: "not sealed", expected: "sealed" });
}

#[test]
fn a_missing_key_is_named() {
    let error = read(&snapshot(), Some(SnapshotKeys::new(log(), ring(2)))).expect_err("version 1 is not there");
    assert_eq!(error, SnapshotError::MissingKey(MissingKey { wanted: VERSION, held: vec![KeyVersion(2)] }));
}

#[test]
fn golden_bytes_of_a_sealed_header() {
    let before = [24, 0, 0, 0, 1, 2, 3, 40, 20]; // length, kind, version, term and index, the length of the seal's header
    let seal = [&[2, 1, 1][..], &[1; 16], &[1]].concat(); // form, version, node, boot, counter
    assert_eq!(frames(1)[0][..29], [&before[..], &seal].concat());
}
