//! The bytes on disk. A change here is a change of the format: journals that exist must stay readable.

use amaters_cluster_core::{GroupId, LogIndex};

use super::faulty::FaultyDisk;
use super::support::dir;
use crate::wal::hard_state;
use crate::wal::record::{Body, Record, encode};
use crate::wal::segment::Header;

const JOURNAL: u64 = 0x0102_0304_0506_0708;

fn record(body: Body<'_>) -> String {
    let mut bytes = Vec::new();
    encode(JOURNAL, &Record { group: GroupId(5), sequence: 7, synced: 6, body }, &mut bytes).unwrap();
    hex(&bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_header() {
    let header = Header { journal: JOURNAL, number: 2, first_sequence: 7 };
    let fields = ["554b45484957414c", "01000000", "0807060504030201", "0200000000000000", "0700000000000000", "86471f30"];
    assert_eq!(hex(&header.encode()), fields.concat());
}

#[test]
fn a_hard_state() {
    let fields = ["25000000", "01", "0500000000000000", "0700000000000000", "0600000000000000", "deadbeef", "2bf8d0cb"];
    assert_eq!(record(Body::HardState(&[0xde, 0xad, 0xbe, 0xef])), fields.concat());
}

#[test]
fn an_append() {
    let fields =
        ["2f000000", "02", "0500000000000000", "0700000000000000", "0600000000000000", "0900000000000000", "03000000", "cafe", "61cfb5e8"];
    assert_eq!(record(Body::Append { first: LogIndex(9), count: 3, entries: &[0xca, 0xfe] }), fields.concat());
}

#[test]
fn a_mark() {
    let fields = ["21000000", "03", "0500000000000000", "0700000000000000", "0600000000000000", "819e5ebe"];
    assert_eq!(record(Body::Mark), fields.concat());
}

#[test]
fn a_compaction() {
    let fields = ["2b000000", "04", "0500000000000000", "0700000000000000", "0600000000000000", "0900000000000000", "cafe", "9ba079c8"];
    assert_eq!(record(Body::Compact { first: LogIndex(9), base: &[0xca, 0xfe] }), fields.concat());
}

#[test]
fn a_release() {
    let fields = ["29000000", "05", "0500000000000000", "0700000000000000", "0600000000000000", "0900000000000000", "c15cf1a9"];
    assert_eq!(record(Body::Release { first_segment: 9 }), fields.concat());
}

#[test]
fn the_copy_of_a_hard_state() {
    let disk = FaultyDisk::default();
    hard_state::write(&disk, dir(), JOURNAL, GroupId(5), &[0xde, 0xad]).unwrap();
    let fields = ["554b454849485354", "01000000", "0807060504030201", "0500000000000000", "dead", "42649bc4"];
    assert_eq!(hex(&disk.durable(&dir().join("hard-state-5")).unwrap()), fields.concat());
}
