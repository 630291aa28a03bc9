//! The work whose speed is measured: the guest compiles this file, and so does the program that calls the guest, to do the same natively.

use std::hint::black_box;

use amaters_cluster_core::sealing::{
    Boot, ChainedEntry, EncryptedPayload, EntryEncryptor, KeyRing, KeyVersion, LogEncryptionKey, LogIntegrityVerifier, LogName,
};
use amaters_cluster_core::{EntryId, GroupId, LogIndex, NodeId, Term};

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Each payload is sealed for an entry.
    Seal,
    /// Each sealed payload is opened.
    Open,
    /// Each sealed payload gets a link.
    Chain,
}

/// All kinds, as they are numbered.
pub(crate) const KINDS: [Kind; 3] = [Kind::Seal, Kind::Open, Kind::Chain];

/// Does it so many times, on payloads of this length.
pub(crate) fn run(kind: Kind, bytes: usize, times: u32) {
    let (mut encryptor, verifier) = set_up();
    let payload = vec![0x5a; bytes];
    let sealed = encryptor.seal(id(1), &payload).expect("a key was chosen");
    let mut link = verifier.genesis();
    for index in 1..=u64::from(times) {
        match kind {
            Kind::Seal => drop(black_box(encryptor.seal(id(index), black_box(&payload)).expect("a key was chosen"))),
            Kind::Open => {
                // From the log's bytes, as they come from a disk or a peer.
                let stored = EncryptedPayload::parse(black_box(sealed.as_bytes()).clone()).expect("its form");
                drop(black_box(encryptor.open(id(1), &stored).expect("its tag")));
            }
            Kind::Chain => {
                let entry = ChainedEntry { id: id(index), kind: 1, beside: b"origin of 12", payload: black_box(sealed.as_bytes()) };
                link = verifier.link(&link, &entry);
            }
        }
    }
    black_box(link);
}

/// A digest of what is sealed and chained for payloads of all lengths up to some blocks: equal wherever it is computed.
pub(crate) fn digest() -> u64 {
    let (mut encryptor, verifier) = set_up();
    let mut link = verifier.genesis();
    for length in 0..300_u64 {
        let payload: Vec<u8> = (0..length).map(|at| (at * 31 + length).to_le_bytes()[0]).collect();
        let sealed = encryptor.seal(id(length), &payload).expect("a key was chosen");
        assert_eq!(encryptor.open(id(length), &sealed).expect("its tag"), payload);
        link = verifier.link(&link, &ChainedEntry { id: id(length), kind: 1, beside: b"", payload: sealed.as_bytes() });
    }
    let mut snapshot = encryptor.snapshot_sealer(id(300)).expect("a key was chosen");
    let frame = snapshot.seal(0, true, &[7; 1000]).expect("the first");
    link = verifier.link(&link, &ChainedEntry { id: id(300), kind: 2, beside: snapshot.header(), payload: &frame });
    let [a, b, c, d, e, f, g, h, ..] = link.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

fn id(index: u64) -> EntryId {
    EntryId { term: Term(3), index: LogIndex(index) }
}

fn set_up() -> (EntryEncryptor, LogIntegrityVerifier) {
    let version = KeyVersion(1);
    let log = LogName::new("0b5a3a3e-6f0c-4f5e-9d55-6f6f6a3f8c11", GroupId(0)).expect("a short name");
    let mut keys = KeyRing::default();
    keys.insert(version, LogEncryptionKey::from_bytes(&[7; 32]).expect("a key")).expect("the first");
    let verifier = LogIntegrityVerifier::new(&log, &keys, version).expect("its key is there");
    let mut encryptor = EntryEncryptor::new(log, NodeId(1), Boot([9; 16]), keys).expect("sound");
    encryptor.use_version(version).expect("its key is there");
    (encryptor, verifier)
}
