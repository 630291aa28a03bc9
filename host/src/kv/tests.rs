use std::collections::BTreeSet;

use amaters_cluster_core::{Committed, EntryId, FencingToken, LogIndex, Term};
use bytes::Bytes;
use serde_bytes::Bytes as Slice;

use super::{
    Condition, Failure, KeyValue, MAX_ANSWER_BYTES, MAX_FENCE_NAME_BYTES, MAX_FENCES, MAX_KEY_BYTES, MAX_PATTERN_BYTES, MAX_VALUE_BYTES,
    Query, Reply, Write,
};
use crate::state_machine::StateMachine;

fn slice(text: &str) -> &Slice {
    Slice::new(text.as_bytes())
}

fn set<'a>(key: &'a str, value: &'a str) -> Write<'a> {
    Write::Set { key: slice(key), value: slice(value), condition: Condition::Always, get: false }
}

fn entry(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: LogIndex(index) }
}

#[track_caller]
fn expect_write(map: &mut KeyValue, command: &Write<'_>, expected: &Reply<'_>) {
    expect_write_at(map, entry(1, 1), command, expected);
}

#[track_caller]
fn expect_write_at(map: &mut KeyValue, entry: EntryId, command: &Write<'_>, expected: &Reply<'_>) {
    let reply = map.write(entry, &command.encode());
    assert_eq!(&Reply::decode(&reply).unwrap(), expected, "{command:?}");
}

#[track_caller]
fn expect_query(map: &KeyValue, query: &Query<'_>, expected: &Reply<'_>) {
    let reply = map.query(&query.encode());
    assert_eq!(&Reply::decode(&reply).unwrap(), expected, "{query:?}");
}

fn value(text: &str) -> Reply<'_> {
    Reply::Value(Some(slice(text)))
}

const NOTHING: Reply<'static> = Reply::Value(None);

#[test]
fn set_obeys_its_condition_and_gives_the_old_value_when_asked() {
    let mut map = KeyValue::new();
    let set = |value, condition, get| Write::Set { key: slice("k"), value: slice(value), condition, get };
    expect_write(&mut map, &set("1", Condition::IfPresent, false), &NOTHING);
    expect_write(&mut map, &set("1", Condition::IfPresent, true), &NOTHING);
    expect_query(&map, &Query::Get { key: slice("k") }, &NOTHING);
    expect_write(&mut map, &set("1", Condition::IfAbsent, false), &Reply::Done);
    expect_write(&mut map, &set("2", Condition::IfAbsent, false), &NOTHING);
    expect_write(&mut map, &set("2", Condition::IfAbsent, true), &value("1"));
    expect_query(&map, &Query::Get { key: slice("k") }, &value("1"));
    expect_write(&mut map, &set("3", Condition::IfPresent, true), &value("1"));
    expect_write(&mut map, &set("4", Condition::Always, true), &value("3"));
    expect_write(&mut map, &Write::GetDel { key: slice("k") }, &value("4"));
    expect_write(&mut map, &Write::GetDel { key: slice("k") }, &NOTHING);
}

#[test]
fn keys_are_set_counted_and_removed_together() {
    let mut map = KeyValue::new();
    let pairs = vec![(slice("a"), slice("1")), (slice("b"), slice("")), (slice("a"), slice("3"))];
    expect_write(&mut map, &Write::MSet(pairs), &Reply::Done);
    expect_query(
        &map,
        &Query::MGet(vec![slice("a"), slice("x"), slice("b")]),
        &Reply::Values(vec![Some(slice("3")), None, Some(slice(""))]),
    );
    expect_query(&map, &Query::Exists(vec![slice("a"), slice("a"), slice("x")]), &Reply::Integer(2));
    expect_query(&map, &Query::DbSize, &Reply::Integer(2));
    expect_query(&map, &Query::Type { key: slice("b") }, &Reply::Type { exists: true });
    expect_query(&map, &Query::Type { key: slice("x") }, &Reply::Type { exists: false });
    expect_query(&map, &Query::StrLen { key: slice("a") }, &Reply::Integer(1));
    expect_query(&map, &Query::StrLen { key: slice("x") }, &Reply::Integer(0));
    expect_write(&mut map, &Write::Del(vec![slice("a"), slice("a"), slice("x")]), &Reply::Integer(1));
    expect_write(&mut map, &Write::FlushAll, &Reply::Done);
    expect_query(&map, &Query::DbSize, &Reply::Integer(0));
}

#[test]
fn a_number_grows_within_its_64_bits_and_anything_else_is_left_as_it_is() {
    let mut map = KeyValue::new();
    let by = |by| Write::IncrBy { key: slice("n"), by };
    expect_write(&mut map, &by(i64::MAX), &Reply::Integer(i64::MAX));
    expect_write(&mut map, &by(1), &Reply::Failed(Failure::Overflow));
    expect_write(&mut map, &by(i64::MIN), &Reply::Integer(-1));
    expect_write(&mut map, &by(i64::MIN), &Reply::Failed(Failure::Overflow));
    expect_query(&map, &Query::Get { key: slice("n") }, &value("-1"));
    for text in ["", "a", "01", " 1", "1.5", "9223372036854775808"] {
        expect_write(&mut map, &set("n", text), &Reply::Done);
        expect_write(&mut map, &by(1), &Reply::Failed(Failure::NotAnInteger));
        expect_query(&map, &Query::Get { key: slice("n") }, &value(text));
    }
}

#[test]
fn nothing_grows_past_its_limit() {
    let mut map = KeyValue::new();
    let longest = "v".repeat(MAX_VALUE_BYTES);
    let too_long = "v".repeat(MAX_VALUE_BYTES + 1);
    let long_key = "k".repeat(MAX_KEY_BYTES + 1);
    let long_value = Reply::Failed(Failure::ValueTooLong { bytes: MAX_VALUE_BYTES as u64 + 1 });
    expect_write(&mut map, &set("k", &too_long), &long_value);
    expect_write(&mut map, &Write::MSet(vec![(slice("a"), slice("1")), (slice("k"), slice(&too_long))]), &long_value);
    expect_query(&map, &Query::DbSize, &Reply::Integer(0));
    expect_write(&mut map, &set(&long_key, "1"), &Reply::Failed(Failure::KeyTooLong { bytes: MAX_KEY_BYTES as u64 + 1 }));
    expect_write(&mut map, &set(&long_key[1..], &longest), &Reply::Done);
    expect_write(&mut map, &Write::Append { key: slice(&long_key[1..]), value: slice("x") }, &long_value);
    expect_query(&map, &Query::StrLen { key: slice(&long_key[1..]) }, &Reply::Integer(MAX_VALUE_BYTES as i64));
    expect_write(&mut map, &Write::Append { key: slice("a"), value: slice(&longest[1..]) }, &Reply::Integer(MAX_VALUE_BYTES as i64 - 1));
    expect_write(&mut map, &Write::Append { key: slice("a"), value: slice("x") }, &Reply::Integer(MAX_VALUE_BYTES as i64));

    let key = slice(&long_key[1..]);
    let fits = MAX_ANSWER_BYTES / MAX_VALUE_BYTES;
    let answer = map.query(&Query::MGet(vec![key; fits]).encode());
    assert!(matches!(Reply::decode(&answer), Some(Reply::Values(values)) if values.len() == fits));
    expect_query(&map, &Query::MGet(vec![key; fits + 1]), &Reply::Failed(Failure::AnswerTooLong));
}

fn scan_all(map: &mut KeyValue, count: u32, pattern: Option<&str>, mut between: impl FnMut(&mut KeyValue, usize)) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut after: Option<Vec<u8>> = None;
    for round in 0.. {
        let query = Query::Scan { after: after.as_deref().map(Slice::new), count, pattern: pattern.map(slice), kind: None };
        let answer = map.query(&query.encode());
        let Some(Reply::Scanned { keys, resume_after }) = Reply::decode(&answer) else { panic!("{answer:?}") };
        found.extend(keys.iter().map(|key| key.to_vec()));
        after = resume_after.map(|key| key.to_vec());
        if after.is_none() {
            break;
        }
        between(map, round);
    }
    found
}

#[test]
fn a_scan_finds_every_key_that_is_there_all_the_time() {
    let mut map = KeyValue::new();
    let staying: BTreeSet<Vec<u8>> = (0..200).map(|n| format!("stay:{n:03}").into_bytes()).collect();
    for key in &staying {
        map.entries.put(key, b"");
        map.entries.put(&[key, &b":passing"[..]].concat(), b"");
    }
    let found = scan_all(&mut map, 7, Some("stay:*"), |map, round| {
        // The key at which the scan stands goes away too, now and then.
        let passing = map.entries.keys_after(None).filter(|key| key.ends_with(b"passing")).skip(round % 5).step_by(3);
        let passing: Vec<Vec<u8>> = passing.map(<[u8]>::to_vec).collect();
        for key in passing {
            map.entries.remove(&key);
        }
        map.entries.put(format!("stay:{round:03}:new").as_bytes(), b"");
    });
    let found_once: BTreeSet<Vec<u8>> = found.iter().cloned().collect();
    assert_eq!(found_once.len(), found.len(), "a key came twice");
    assert!(staying.is_subset(&found_once));
}

#[test]
fn a_scan_is_bounded_and_filters() {
    let mut map = KeyValue::new();
    for n in 0..5000 {
        map.entries.put(format!("{n:04}").as_bytes(), b"");
    }
    assert_eq!(scan_all(&mut map, u32::MAX, None, |_, _| ()).len(), 5000);
    assert_eq!(scan_all(&mut map, 0, Some("*[0-4]9"), |_, _| ()).len(), 250);
    let count = |map: &KeyValue, count, kind| {
        let answer = map.query(&Query::Scan { after: None, count, pattern: None, kind }.encode());
        match Reply::decode(&answer) {
            Some(Reply::Scanned { keys, resume_after }) => (keys.len(), resume_after.is_some()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(count(&map, u32::MAX, None), (1024, true));
    assert_eq!(count(&map, 0, Some(slice("STRING"))), (1, true));
    assert_eq!(count(&map, 10, Some(slice("hash"))), (0, false));
    let pattern = "*".repeat(MAX_PATTERN_BYTES + 1);
    let query = Query::Scan { after: None, count: 1, pattern: Some(slice(&pattern)), kind: None };
    expect_query(&map, &query, &Reply::Failed(Failure::PatternTooLong));

    map.entries.clear();
    for n in 0..100_u8 {
        map.entries.put(&[&[n][..], &[b'k'; MAX_KEY_BYTES - 1]].concat(), b"");
    }
    assert_eq!(count(&map, 100, None), (5, true), "long keys end a step early");
    assert_eq!(scan_all(&mut map, 100, None, |_, _| ()).len(), 100);
}

#[test]
fn the_end_of_a_scan_is_told_with_its_last_keys() {
    let mut map = KeyValue::new();
    map.entries.put(b"a", b"");
    map.entries.put(b"b", b"");
    let scan = |after| Query::Scan { after, count: 2, pattern: None, kind: None };
    expect_query(&map, &scan(None), &Reply::Scanned { keys: vec![slice("a"), slice("b")], resume_after: None });
    expect_query(&map, &scan(Some(slice("b"))), &Reply::Scanned { keys: vec![], resume_after: None });
    map.entries.put(b"c", b"");
    expect_query(&map, &scan(None), &Reply::Scanned { keys: vec![slice("a"), slice("b")], resume_after: Some(slice("b")) });
}

#[test]
fn what_is_not_understood_is_refused_and_changes_nothing() {
    let mut map = KeyValue::new();
    map.entries.put(b"k", b"v");
    let before = map.clone();
    let good = Write::FlushAll.encode();
    let mut bad: Vec<Vec<u8>> = vec![vec![], vec![1], vec![2, 6], vec![1, 200], vec![1, 3, 0xff, 0xff, 0xff, 0xff, 0x0f]];
    bad.push([&good[..], &[0]].concat());
    bad.push(set("a", "b").encode()[..5].to_vec());
    for bytes in bad {
        let reply = map.write(entry(1, 1), &bytes);
        assert_eq!(Reply::decode(&reply), Some(Reply::Failed(Failure::NotUnderstood)), "{bytes:?}");
        let reply = map.query(&bytes);
        assert_eq!(Reply::decode(&reply), Some(Reply::Failed(Failure::NotUnderstood)), "{bytes:?}");
        assert_eq!(map, before);
    }
}

#[test]
fn the_encoding_is_the_one_that_logs_already_hold() {
    let token = FencingToken { term: Term(3), sequence: 300 };
    let fenced = Write::FencedSet { name: slice("f"), token, key: slice("k"), value: slice("v"), condition: Condition::Always, get: true };
    let golden: [(Bytes, &[u8]); 15] = [
        (set("k", "v").encode(), b"\x01\x00\x01k\x01v\x00\x00"),
        (Write::GetDel { key: slice("k") }.encode(), b"\x01\x01\x01k"),
        (Write::MSet(vec![(slice("k"), slice("v"))]).encode(), b"\x01\x02\x01\x01k\x01v"),
        (Write::Del(vec![slice("k")]).encode(), b"\x01\x03\x01\x01k"),
        (Write::IncrBy { key: slice("k"), by: -1 }.encode(), b"\x01\x04\x01k\x01"),
        (Write::Append { key: slice("k"), value: slice("v") }.encode(), b"\x01\x05\x01k\x01v"),
        (Write::FlushAll.encode(), b"\x01\x06"),
        (Reply::Done.encode(), b"\x01\x00"),
        (value("v").encode(), b"\x01\x02\x01\x01v"),
        (Query::DbSize.encode(), b"\x01\x05"),
        (Write::FenceNext { name: slice("f") }.encode(), b"\x01\x07\x01f"),
        (Write::FenceDrop { name: slice("f") }.encode(), b"\x01\x08\x01f"),
        (fenced.encode(), b"\x01\x09\x01f\x03\xac\x02\x01k\x01v\x00\x01"),
        (Query::FenceCheck { name: slice("f"), token }.encode(), b"\x01\x07\x01f\x03\xac\x02"),
        (Reply::Token(token).encode(), b"\x01\x07\x03\xac\x02"),
    ];
    for (encoded, expected) in golden {
        assert_eq!(encoded, expected);
    }
}

#[test]
fn results_come_in_the_order_of_commands() {
    let mut map = KeyValue::new();
    let commands: Vec<Committed> = (1..=3)
        .map(|index| Committed {
            index: LogIndex(index),
            term: Term(1),
            token: None,
            command: Write::IncrBy { key: slice("n"), by: 2 }.encode(),
            result_wanted: false,
        })
        .collect();
    let results = map.apply(&commands);
    let numbers: Vec<_> = results.iter().map(|result| Reply::decode(result).unwrap()).collect();
    assert_eq!(numbers, [Reply::Integer(2), Reply::Integer(4), Reply::Integer(6)]);
}

#[test]
fn a_fence_lets_only_its_last_token_through() {
    let mut map = KeyValue::new();
    let token = |term, sequence| FencingToken { term: Term(term), sequence };
    let next = Write::FenceNext { name: slice("lock") };
    let set = |token| Write::FencedSet {
        name: slice("lock"),
        token,
        key: slice("k"),
        value: slice("v"),
        condition: Condition::Always,
        get: false,
    };
    let check = |token| Query::FenceCheck { name: slice("lock"), token };
    let stale = |last| Reply::Failed(Failure::Stale { last });

    expect_query(&map, &check(token(9, 9)), &Reply::Integer(0));
    expect_write_at(&mut map, entry(1, 4), &set(token(9, 9)), &stale(None));
    expect_write_at(&mut map, entry(1, 5), &next, &Reply::Token(token(1, 5)));
    expect_query(&map, &check(token(1, 5)), &Reply::Integer(1));
    expect_write_at(&mut map, entry(1, 6), &set(token(1, 5)), &Reply::Done);

    // Somebody else gets it, from a later leader.
    expect_write_at(&mut map, entry(2, 8), &next, &Reply::Token(token(2, 8)));
    expect_query(&map, &check(token(1, 5)), &Reply::Integer(0));
    expect_write_at(&mut map, entry(2, 9), &Write::Del(vec![slice("k")]), &Reply::Integer(1));
    expect_write_at(&mut map, entry(2, 10), &set(token(1, 5)), &stale(Some(token(2, 8))));
    expect_query(&map, &Query::DbSize, &Reply::Integer(0));
    expect_write_at(&mut map, entry(2, 11), &set(token(2, 8)), &Reply::Done);

    // Another fence's tokens come from the same numbers, and are checked on their own.
    expect_write_at(&mut map, entry(2, 12), &Write::FenceNext { name: slice("other") }, &Reply::Token(token(2, 12)));
    expect_query(&map, &check(token(2, 8)), &Reply::Integer(1));
}

#[test]
fn no_fence_comes_back_for_those_who_held_it_before() {
    let mut map = KeyValue::new();
    let (first, second) = (FencingToken { term: Term(1), sequence: 1 }, FencingToken { term: Term(1), sequence: 4 });
    let next = Write::FenceNext { name: slice("lock") };
    let check = |token| Query::FenceCheck { name: slice("lock"), token };
    expect_write_at(&mut map, entry(1, 1), &next, &Reply::Token(first));
    expect_write_at(&mut map, entry(1, 2), &Write::FlushAll, &Reply::Done);
    expect_query(&map, &check(first), &Reply::Integer(1));
    expect_write_at(&mut map, entry(1, 3), &Write::FenceDrop { name: slice("lock") }, &Reply::Integer(1));
    expect_query(&map, &check(first), &Reply::Integer(0));
    expect_write_at(&mut map, entry(1, 4), &next, &Reply::Token(second));
    expect_query(&map, &check(first), &Reply::Integer(0));
    expect_query(&map, &check(second), &Reply::Integer(1));
    expect_write_at(&mut map, entry(1, 5), &Write::FenceDrop { name: slice("none") }, &Reply::Integer(0));
}

#[test]
fn fences_are_bounded_in_number_and_by_their_names() {
    let mut map = KeyValue::new();
    let next = |map: &mut KeyValue, index, name: &str| {
        let reply = map.write(entry(1, index), &Write::FenceNext { name: slice(name) }.encode());
        match Reply::decode(&reply) {
            Some(Reply::Token(_)) => Ok(()),
            Some(Reply::Failed(failure)) => Err(failure),
            other => panic!("{other:?}"),
        }
    };
    for n in 1..=MAX_FENCES as u64 {
        assert_eq!(next(&mut map, n, &n.to_string()), Ok(()));
    }
    let index = MAX_FENCES as u64 + 1;
    assert_eq!(next(&mut map, index, "one more"), Err(Failure::TooManyFences));
    assert_eq!(next(&mut map, index, "1"), Ok(()), "those that are there go on");
    expect_write(&mut map, &Write::FenceDrop { name: slice("2") }, &Reply::Integer(1));
    assert_eq!(next(&mut map, index, &"n".repeat(MAX_FENCE_NAME_BYTES)), Ok(()));
    let bytes = MAX_FENCE_NAME_BYTES as u64 + 1;
    assert_eq!(next(&mut map, index, &"n".repeat(MAX_FENCE_NAME_BYTES + 1)), Err(Failure::FenceNameTooLong { bytes }));
}
