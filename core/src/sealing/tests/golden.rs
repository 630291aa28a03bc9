//! Our own formats, byte by byte. The expected bytes were computed by another implementation (Python's `cryptography` 48 and `hmac`) from the text of [`super::super`] alone.

use super::known_answers::bytes;
use super::*;

const PAYLOAD: &str = "0102ac02b0b1b2b3b4b5b6b7b8b9babbbcbdbebf0111127bdc81c972c3f5e5c4e7d67c34fe7165f88e24825c66f8584ce7ca645f5f";
const SNAPSHOT_HEADER: &str = "0202ac02b0b1b2b3b4b5b6b7b8b9babbbcbdbebf02";
const FRAMES: [&str; 2] = ["0100000000000846d9b7d41b2ff3ad42cc9f359328a0578fbc78c0e9b153", "0201000000015ddf823bd863cd61fd3e0ab700ab57a6"];
const GENESIS: &str = "2ef5792bfaf48ba764b2ef5d417d9b455ccc23e3b9ca035c2eece33b735f23b0";
const LINK: &str = "81d4de9b4da5eb02c7c87215d4c1cc819b9cb9eb205d452a190bedf318df4d6d";
const FINGERPRINT: &str = "feca3303907b53c8";

const PLACE: EntryId = EntryId { term: Term(5), index: LogIndex(1000) };

fn golden_key() -> LogEncryptionKey {
    LogEncryptionKey::from_bytes(&(0x60..0x80).collect::<Vec<_>>()).expect("a key")
}

fn golden_keys() -> KeyRing {
    let mut keys = KeyRing::default();
    keys.insert(VERSION_2, golden_key()).expect("the first");
    keys
}

fn golden_encryptor() -> EntryEncryptor {
    let boot = Boot(std::array::from_fn(|at| 0xb0 + u8::try_from(at).expect("16 bytes")));
    let mut encryptor = EntryEncryptor::new(log("orders", 7), NodeId(300), boot, golden_keys()).expect("sound");
    encryptor.use_version(VERSION_2).expect("its key is there");
    encryptor
}

#[test]
fn a_sealed_payload_has_these_bytes() {
    let mut encryptor = golden_encryptor();
    let sealed = encryptor.seal(PLACE, b"a sealed command").expect("sealed");
    assert_eq!(sealed.as_bytes()[..], bytes(PAYLOAD));
    assert_eq!(sealed.plain_len(), 16);

    let read = EncryptedPayload::parse(bytes(PAYLOAD).into()).expect("its form");
    assert_eq!((read.header().version, read.header().node, read.header().counter), (VERSION_2, NodeId(300), 1));
    assert_eq!(golden_encryptor().open(PLACE, &read).expect("its tag"), "a sealed command");
}

#[test]
fn a_sealed_snapshot_has_these_bytes() {
    let mut encryptor = golden_encryptor();
    encryptor.seal(PLACE, b"counter 1").expect("sealed");
    let mut sealer = encryptor.snapshot_sealer(PLACE).expect("counter 2");
    assert_eq!(sealer.header(), bytes(SNAPSHOT_HEADER));
    assert_eq!(sealer.seal(1, false, b"sessions").expect("the first"), bytes(FRAMES[0]));
    assert_eq!(sealer.seal(2, true, b"").expect("the last"), bytes(FRAMES[1]));

    let mut opener = golden_encryptor().snapshot_opener(PLACE, &bytes(SNAPSHOT_HEADER)).expect("its form");
    assert_eq!(opener.open(&bytes(FRAMES[0])).map(|frame| (frame.kind, frame.last, frame.content)), Ok((1, false, b"sessions".to_vec())));
    assert_eq!(opener.open(&bytes(FRAMES[1])).map(|frame| (frame.kind, frame.last, frame.content)), Ok((2, true, Vec::new())));
    assert_eq!(opener.finish(), Ok(2));
}

#[test]
fn a_link_has_these_bytes() {
    let verifier = LogIntegrityVerifier::new(&log("orders", 7), &golden_keys(), VERSION_2).expect("its key is there");
    assert_eq!(verifier.genesis().0[..], bytes(GENESIS));
    let entry = ChainedEntry { id: PLACE, kind: 1, beside: b"beside", payload: b"a sealed command" };
    let link = verifier.link(&verifier.genesis(), &entry);
    assert_eq!(link.to_string(), LINK);
    assert_eq!(verifier.verify(&verifier.genesis(), &entry, &link), Ok(()));
}

#[test]
fn a_fingerprint_has_these_digits() {
    assert_eq!(golden_key().fingerprint().to_string(), FINGERPRINT);
}

/// The longest header, and numbers at the edges of a varint.
#[test]
fn numbers_of_any_size_come_back() {
    for (version, node) in [(0, 0), (127, 127), (128, 128), (16_383, 16_384), (u32::MAX, u64::MAX)] {
        let keys = ring(&[(KeyVersion(version), 7)]);
        let mut encryptor = EntryEncryptor::new(log("", 0), NodeId(node), Boot([1; 16]), keys).expect("sound");
        encryptor.use_version(KeyVersion(version)).expect("its key is there");
        let sealed = encryptor.seal(PLACE, b"x").expect("sealed");
        assert!(sealed.as_bytes().len() <= EncryptedPayload::MAX_OVERHEAD + 1);
        let read = EncryptedPayload::parse(sealed.as_bytes().clone()).expect("its form");
        assert_eq!((read.header().version, read.header().node), (KeyVersion(version), NodeId(node)));
        assert_eq!(encryptor.open(PLACE, &read).expect("its tag"), "x");
    }
}
