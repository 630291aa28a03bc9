//! A state comes out as it was, whatever happens meanwhile, and nothing else goes in.

use amaters_cluster_core::{EntryId, FencingToken, LogIndex, Term};
use proptest::collection::vec;
use proptest::prelude::*;

use super::super::{Condition, KeyValue, MAX_FENCES, MAX_KEY_BYTES, MAX_VALUE_BYTES, Write};
use super::{Part, Slice, VERSION, add};
use crate::state_machine::{RestoreError, StateMachine};

fn set<'a>(key: &'a [u8], value: &'a [u8]) -> Write<'a> {
    Write::Set { key: Slice::new(key), value: Slice::new(value), condition: Condition::Always, get: false }
}

fn write(map: &mut KeyValue, index: u64, command: &Write<'_>) {
    map.write(EntryId { term: Term(1), index: LogIndex(index) }, &command.encode());
}

fn restore(pieces: &[Vec<u8>]) -> Result<KeyValue, RestoreError> {
    let mut map = KeyValue::new();
    write(&mut map, 1, &set(b"what was there", b"before"));
    write(&mut map, 2, &Write::FenceNext { name: Slice::new(b"old") });
    map.clear();
    pieces.iter().try_for_each(|piece| map.restore(piece))?;
    map.restored()?;
    Ok(map)
}

fn piece(parts: &[Part<'_>]) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    for part in parts {
        add(&mut bytes, part);
    }
    bytes
}

/// A change of the state, by small numbers so that keys meet.
#[derive(Clone, Debug)]
enum Change {
    Set(u8, usize),
    Append(u8),
    Del(u8),
    FlushAll,
    FenceNext(u8),
    FenceDrop(u8),
}

impl Change {
    fn make(&self, map: &mut KeyValue, index: u64) {
        let key = |n: &u8| vec![b'k', *n];
        match self {
            Self::Set(n, length) => write(map, index, &set(&key(n), &vec![*n; *length])),
            Self::Append(n) => write(map, index, &Write::Append { key: Slice::new(&key(n)), value: Slice::new(b"more") }),
            Self::Del(n) => write(map, index, &Write::Del(vec![Slice::new(&key(n))])),
            Self::FlushAll => write(map, index, &Write::FlushAll),
            Self::FenceNext(n) => write(map, index, &Write::FenceNext { name: Slice::new(&key(n)) }),
            Self::FenceDrop(n) => write(map, index, &Write::FenceDrop { name: Slice::new(&key(n)) }),
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let n = || 0_u8..40;
    prop_oneof![
        8 => (n(), 0_usize..60).prop_map(|(n, length)| Change::Set(n, length)),
        3 => n().prop_map(Change::Append),
        4 => n().prop_map(Change::Del),
        1 => Just(Change::FlushAll),
        3 => n().prop_map(Change::FenceNext),
        2 => n().prop_map(Change::FenceDrop),
    ]
}

proptest! {
    // A failure prints the smallest input that shows it, which then becomes a test with a name: no file of seeds is kept.
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn what_is_restored_is_what_was_captured_whatever_is_written_between_pieces(
        before in vec(change(), 0..80),
        between in vec(vec(change(), 0..12), 0..30),
        max_bytes in 0_usize..400,
    ) {
        let (mut map, mut index) = (KeyValue::new(), 0);
        let mut make = |map: &mut KeyValue, twin: Option<&mut KeyValue>, changes: &[Change]| {
            for map in std::iter::once(map).chain(twin) {
                changes.iter().zip(index + 1..).for_each(|(change, index)| change.make(map, index));
            }
            index += changes.len() as u64;
        };
        make(&mut map, None, &before);
        let (captured, mut unwatched) = (map.clone(), map.clone());
        map.capture();
        let (mut pieces, mut between) = (Vec::new(), between.iter());
        loop {
            make(&mut map, Some(&mut unwatched), between.next().map_or(&[], Vec::as_slice));
            let piece = map.next_piece(max_bytes);
            prop_assert!(piece.bytes.len() <= max_bytes + 150, "{} bytes where {max_bytes} were asked for", piece.bytes.len());
            pieces.push(piece.bytes);
            if piece.last {
                break;
            }
            prop_assert!(pieces.len() < 2000, "it never ends");
        }
        map.release();
        prop_assert_eq!(&restore(&pieces), &Ok(captured));
        prop_assert_eq!(map, unwatched, "the capture changed what was captured");
    }

    #[test]
    fn any_bytes_are_an_error_or_a_state_and_never_a_panic(mut bytes in vec(any::<u8>(), 0..200), versioned: bool) {
        if versioned && let Some(first) = bytes.first_mut() {
            *first = VERSION;
        }
        let _ = restore(&[bytes]);
    }
}

#[test]
fn a_value_above_the_size_of_a_piece_comes_alone() {
    let mut map = KeyValue::new();
    let largest = vec![7; MAX_VALUE_BYTES];
    for key in [b"a", b"b", b"c"] {
        write(&mut map, 1, &set(key, &largest));
    }
    map.capture();
    let pieces: Vec<_> = (0..4).map(|_| map.next_piece(64 << 10)).collect();
    assert!(pieces[..3].iter().all(|piece| !piece.last && piece.bytes.len() > MAX_VALUE_BYTES && piece.bytes.len() < MAX_VALUE_BYTES + 32));
    assert!(pieces[3].last && pieces[3].bytes.len() < 16);
}

#[test]
fn keys_that_came_later_make_no_piece_long_to_find() {
    let mut map = KeyValue::new();
    map.capture();
    for n in 0..10_000_u32 {
        write(&mut map, 1, &set(&n.to_be_bytes(), b""));
    }
    let pieces = (0..).map(|_| map.next_piece(32_000)).take_while(|piece| !piece.last).count();
    assert_eq!(pieces, 10, "1000 of them are passed in each");
}

#[test]
fn a_second_capture_begins_anew() {
    let mut map = KeyValue::new();
    write(&mut map, 1, &set(b"a", b"1"));
    map.capture();
    write(&mut map, 2, &set(b"a", b"2"));
    map.capture();
    let expected = {
        let mut map = map.clone();
        map.release();
        map
    };
    write(&mut map, 3, &Write::FlushAll);
    let piece = map.next_piece(1000);
    assert!(piece.last);
    assert_eq!(restore(&[piece.bytes]), Ok(expected));
}

#[test]
fn without_a_capture_there_is_nothing_that_passes_for_a_state() {
    let mut map = KeyValue::new();
    let piece = map.next_piece(1000);
    assert!(piece.last && restore(&[piece.bytes]).is_err());
    assert!(map.restore(&self::piece(&[Part::End { entries: 0, fences: 0 }])).is_err(), "nothing was cleared");
}

#[test]
fn what_is_no_state_is_refused_and_the_reason_told() {
    let token = |sequence| FencingToken { term: Term(1), sequence };
    let entry = |key: &'static str| Part::Entry { key: Slice::new(key.as_bytes()), value: Slice::new(b"v") };
    let fence = |name: &'static str| Part::Fence { name: Slice::new(name.as_bytes()), last: token(1) };
    let end = |entries, fences| Part::End { entries, fences };
    let (long_key, long_value, long_name) = (vec![0; MAX_KEY_BYTES + 1], vec![0; MAX_VALUE_BYTES + 1], vec![0; 257]);
    let key_too_long = Part::Entry { key: Slice::new(&long_key), value: Slice::new(b"") };
    let value_too_long = Part::Entry { key: Slice::new(b""), value: Slice::new(&long_value) };
    let name_too_long = Part::Fence { name: Slice::new(&long_name), last: token(1) };
    for (parts, reason) in [
        (
            vec![entry("b"), entry("a"), end(2, 0)],
            "after 1 entries and 0 fences comes a part that is none: it is an entry out of its order",
        ),
        (vec![entry("a"), entry("a"), end(2, 0)], "an entry out of its order"),
        (vec![fence("a"), entry("a"), end(1, 1)], "an entry out of its order"),
        (vec![fence("b"), fence("a"), end(0, 2)], "a fence out of its order"),
        (vec![key_too_long, end(1, 0)], "key or value is too long"),
        (vec![value_too_long, end(1, 0)], "key or value is too long"),
        (vec![name_too_long, end(0, 1)], "its name is too long"),
        (vec![entry("a")], "it stops after 1 entries and 0 fences, without an end"),
        (vec![entry("a"), end(2, 0)], "the end of a state with other numbers"),
        (vec![end(0, 0), entry("a")], "it comes after the end"),
        (vec![end(0, 0), end(0, 0)], "it comes after the end"),
    ] {
        let error = restore(&[piece(&parts)]).expect_err(reason);
        assert!(error.reason.contains(reason), "{error}");
    }
    for (bytes, reason) in [(vec![], "a piece is empty"), (vec![2, 2, 0, 0], "of version 2, and this program knows version 1")] {
        let error = restore(&[bytes]).expect_err(reason);
        assert!(error.reason.contains(reason), "{error}");
    }
    let whole = piece(&[entry("a"), fence("f"), end(1, 1)]);
    assert!(restore(std::slice::from_ref(&whole)).is_ok());
    for length in 0..whole.len() {
        assert!(restore(&[whole[..length].to_vec()]).is_err(), "the first {length} bytes");
    }
}

#[test]
fn no_more_fences_come_than_there_may_be() {
    let names: Vec<_> = (0..=u32::try_from(MAX_FENCES).unwrap()).map(u32::to_be_bytes).collect();
    let fences = names.iter().map(|name| Part::Fence { name: Slice::new(name), last: FencingToken { term: Term(1), sequence: 1 } });
    let mut parts: Vec<_> = fences.collect();
    let error = restore(&[piece(&parts)]).expect_err("one too many");
    assert!(error.reason.contains("one too many"), "{error}");
    parts.pop();
    parts.push(Part::End { entries: 0, fences: MAX_FENCES as u64 });
    assert!(restore(&[piece(&parts)]).is_ok());
}

#[test]
fn the_encoding_is_the_one_that_snapshots_already_hold() {
    let mut map = KeyValue::new();
    write(&mut map, 1, &set(b"key", b"value"));
    write(&mut map, 300, &Write::FenceNext { name: Slice::new(b"f") });
    map.capture();
    assert_eq!(map.next_piece(1000).bytes, b"\x01\x00\x03key\x05value\x01\x01f\x01\xac\x02\x02\x01\x01");
}
