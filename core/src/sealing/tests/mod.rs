//! Stories of the whole: published and golden answers, and what an attacker with the disk may try.

mod accelerated;
mod chain;
mod golden;
mod hazards;
#[path = "known_answers.rs"]
mod known_answers;
mod snapshot;
mod tampering;

use super::*;
use crate::types::{EntryId, GroupId, LogIndex, NodeId, Term};

const VERSION_1: KeyVersion = KeyVersion(1);
const VERSION_2: KeyVersion = KeyVersion(2);

#[test]
fn the_primitives_give_the_published_answers() {
    assert_eq!(known_answers::check(), 15);
}

fn id(term: u64, index: u64) -> EntryId {
    EntryId { term: Term(term), index: LogIndex(index) }
}

fn key(byte: u8) -> LogEncryptionKey {
    LogEncryptionKey::from_bytes(&[byte; 32]).expect("a key")
}

fn ring(keys: &[(KeyVersion, u8)]) -> KeyRing {
    let mut ring = KeyRing::default();
    keys.iter().for_each(|(version, byte)| ring.insert(*version, key(*byte)).expect("new"));
    ring
}

fn log(cluster: &str, group: u64) -> LogName {
    LogName::new(cluster, GroupId(group)).expect("a short name")
}

/// An encryptor of the log `orders`, group 0, with two keys. It seals with the first.
fn encryptor(node: u64, boot: u8) -> EntryEncryptor {
    encryptor_of(log("orders", 0), node, boot)
}

fn encryptor_of(log: LogName, node: u64, boot: u8) -> EntryEncryptor {
    let keys = ring(&[(VERSION_1, 0xa1), (VERSION_2, 0xa2)]);
    let mut encryptor = EntryEncryptor::new(log, NodeId(node), Boot([boot; 16]), keys).expect("sound");
    encryptor.use_version(VERSION_1).expect("its key is there");
    encryptor
}
