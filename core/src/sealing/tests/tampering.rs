//! What becomes of a sealed payload that is not what was sealed.

use super::*;
use crate::entry::Payload;

/// An encryptor to which every version that one flipped bit can make of 1 is there, with the very same key: the version is bound, and not only the key.
fn opener() -> EntryEncryptor {
    let versions: Vec<_> = (0..=255).map(|version| (KeyVersion(version), 0xa1)).collect();
    EntryEncryptor::new(log("orders", 0), NodeId(2), Boot([2; 16]), ring(&versions)).expect("sound")
}

fn open(opener: &mut EntryEncryptor, place: EntryId, bytes: Vec<u8>) -> Result<Payload, SealingError> {
    opener.open(place, &EncryptedPayload::parse(bytes.into())?)
}

#[test]
fn each_flipped_bit_is_refused() {
    let place = id(4, 17);
    let sealed = encryptor(1, 1).seal(place, b"a payload of more than one block").expect("sealed").into_bytes();
    let mut opener = opener();
    assert_eq!(open(&mut opener, place, sealed.to_vec()).expect("unchanged"), "a payload of more than one block");
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let refused = open(&mut opener, place, flipped).expect_err("a bit was flipped");
        // The form is byte 0, version and node are a byte each, the counter is byte 19: their highest bit says that a number goes on.
        let is_form = matches!(refused, SealingError::Malformed { .. }) && bit / 8 <= 19;
        assert!(is_form || matches!(refused, SealingError::EntryTag { .. }), "bit {bit}: {refused}");
    }
}

#[test]
fn whatever_is_cut_off_or_added_is_refused() {
    let place = id(4, 17);
    let sealed = encryptor(1, 1).seal(place, b"a payload").expect("sealed").into_bytes();
    for length in 0..sealed.len() {
        assert!(open(&mut opener(), place, sealed[..length].to_vec()).is_err(), "the first {length} bytes");
    }
    for added in [0, 1, 0xff] {
        assert!(open(&mut opener(), place, [&sealed[..], &[added]].concat()).is_err());
        assert!(open(&mut opener(), place, [&[added], &sealed[..]].concat()).is_err());
    }
}

#[test]
fn a_number_has_one_form() {
    let sealed = encryptor(1, 1).seal(id(1, 1), b"x").expect("sealed").into_bytes();
    let longer = [&sealed[..1], &[0x81, 0x00], &sealed[2..]].concat();
    let error = EncryptedPayload::parse(longer.into()).expect_err("version 1 in two bytes");
    assert_eq!(error.to_string(), "expected a number in its shortest form at byte 1 of what is sealed, got 1");

    let too_large = [&[1][..], &[0xff; 9], &[0x02], &sealed[2..]].concat();
    let error = EncryptedPayload::parse(too_large.into()).expect_err("65 bits");
    assert_eq!(error.to_string(), "expected a number of 64 bits at byte 1 of what is sealed, got more");

    let too_large = [&[1][..], &[0x80, 0x80, 0x80, 0x80, 0x10], &sealed[2..]].concat();
    let error = EncryptedPayload::parse(too_large.into()).expect_err("33 bits");
    assert_eq!(error.to_string(), "expected a key version of 32 bits at byte 1 of what is sealed, got 4294967296");
}

#[test]
fn what_was_never_sealed_is_told_from_what_was_changed() {
    let error = EncryptedPayload::parse(Payload::from_static(b"SET x 1")).expect_err("plain");
    assert_eq!(error.to_string(), "expected a sealed payload's first byte, 1 at byte 0 of what is sealed, got 83");
    let error = EncryptedPayload::parse(Payload::new()).expect_err("empty");
    assert_eq!(error.to_string(), "expected a sealed payload's first byte, 1 at byte 0 of what is sealed, got the end");
}

/// A peer can make up as many starts as it likes: those that open nothing push out none that are in use.
#[test]
fn what_does_not_open_takes_no_memory() {
    let place = id(1, 1);
    let mut opener = opener();
    let sealed = encryptor(1, 1).seal(place, b"x").expect("sealed");
    opener.open(place, &sealed).expect("it opens");
    for boot in 3..100 {
        let mut forged = sealed.as_bytes().to_vec();
        forged[3..19].fill(boot);
        assert!(open(&mut opener, place, forged).is_err());
    }
    assert_eq!(opener.kept_ciphers(), 1);
    for boot in 3..100 {
        let sealed = encryptor(1, boot).seal(place, b"x").expect("sealed");
        opener.open(place, &sealed).expect("it opens");
    }
    assert_eq!(opener.kept_ciphers(), 32);
    assert_eq!(opener.open(place, &sealed).expect("it opens, if not at once"), "x");
}

#[test]
fn nothing_is_sealed_before_a_version_is_chosen() {
    let keys = ring(&[(VERSION_1, 1)]);
    let mut encryptor = EntryEncryptor::new(log("orders", 0), NodeId(1), Boot([1; 16]), keys).expect("sound");
    assert_eq!(encryptor.seal(id(1, 1), b"x").err(), Some(SealingError::NoVersion));
    assert!(encryptor.use_version(VERSION_2).is_err());
    assert_eq!(encryptor.version(), None);
    assert_eq!(LogName::new("x".repeat(256), GroupId(0)), Err(SealingError::ClusterName(256)));
}

/// The bytes themselves, and nothing of the plain text or of a key, come out of `Debug` and of errors.
#[test]
fn nothing_secret_is_printed() {
    let mut encryptor = encryptor(1, 1);
    let sealed = encryptor.seal(id(1, 1), b"a secret").expect("sealed");
    encryptor.open(id(1, 1), &sealed).expect("it opens");
    let said = format!("{encryptor:?} {sealed:?} {}", encryptor.open(id(1, 2), &sealed).expect_err("moved"));
    for secret in ["secret", "161, 161", "a1a1", "A1A1"] {
        assert!(!said.contains(secret), "{said}");
    }
}
