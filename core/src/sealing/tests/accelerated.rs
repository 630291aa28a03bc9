//! Somebody else does AES: the bytes are the same, and a broken one is found out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;

/// Does AES as the core does, and counts what it is asked for.
#[derive(Debug, Default)]
struct Counting(Arc<AtomicU64>);

#[derive(Debug)]
struct Counted(OwnGcm, Arc<AtomicU64>);

impl Accelerator for Counting {
    fn gcm(&self, key: &[u8; 32]) -> Arc<dyn Gcm> {
        Arc::new(Counted(OwnGcm::new(key), Arc::clone(&self.0)))
    }
}

impl Gcm for Counted {
    fn seal(&self, nonce: &[u8; 12], associated: &[u8], plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), SealingError> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.seal(nonce, associated, plain, sealed)
    }

    fn open(&self, nonce: &[u8; 12], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.1.fetch_add(1, Ordering::Relaxed);
        self.0.open(nonce, associated, sealed)
    }
}

/// Forgets the tag.
#[derive(Debug)]
struct Broken;

impl Accelerator for Broken {
    fn gcm(&self, _key: &[u8; 32]) -> Arc<dyn Gcm> {
        Arc::new(Self)
    }
}

impl Gcm for Broken {
    fn seal(&self, _nonce: &[u8; 12], _associated: &[u8], plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), SealingError> {
        sealed.extend_from_slice(plain);
        Ok(())
    }

    fn open(&self, _nonce: &[u8; 12], _associated: &[u8], _sealed: &[u8]) -> Option<Vec<u8>> {
        None
    }
}

fn encryptor_of(accelerator: Option<Arc<dyn Accelerator>>) -> EntryEncryptor {
    let log = LogName::new("orders", GroupId(0)).expect("a short name");
    let mut encryptor = EntryEncryptor::new(log, NodeId(1), Boot([3; 16]), ring(&[(VERSION_1, 7)])).expect("it is set up");
    encryptor.use_version(VERSION_1).expect("it is there");
    if let Some(accelerator) = accelerator {
        encryptor.accelerate(accelerator);
    }
    encryptor
}

#[test]
fn whoever_does_aes_the_bytes_are_the_same() {
    let asked = Arc::new(AtomicU64::new(0));
    let (mut own, mut other) = (encryptor_of(None), encryptor_of(Some(Arc::new(Counting(Arc::clone(&asked))))));
    assert!(!own.is_accelerated() && other.is_accelerated());
    for length in [0, 1, 16, 100, 5000] {
        let plain = vec![b'x'; length];
        let sealed = own.seal(id(2, 5), &plain).expect("sealed");
        assert_eq!(other.seal(id(2, 5), &plain).expect("sealed"), sealed);
        assert_eq!(other.open(id(2, 5), &sealed).expect("opened"), own.open(id(2, 5), &sealed).expect("opened"));
        other.open(id(2, 6), &sealed).expect_err("it belongs elsewhere");
    }
    let (mut own_sealer, mut other_sealer) = (own.snapshot_sealer(id(2, 9)).unwrap(), other.snapshot_sealer(id(2, 9)).unwrap());
    assert_eq!(own_sealer.header(), other_sealer.header());
    let frame = own_sealer.seal(1, true, b"state").unwrap();
    assert_eq!(other_sealer.seal(1, true, b"state").unwrap(), frame);
    let mut opener = other.snapshot_opener(id(2, 9), own_sealer.header()).unwrap();
    assert_eq!(opener.open(&frame).unwrap().content, b"state");
    assert_eq!(asked.load(Ordering::Relaxed), 5 * 3 + 2, "it did all of it");
}

#[test]
fn an_accelerator_that_gives_too_little_is_found_out() {
    let error = encryptor_of(Some(Arc::new(Broken))).seal(id(2, 5), b"x=1").expect_err("there is no tag").to_string();
    assert!(error.starts_with("the host's AES gave"), "{error}");
}
