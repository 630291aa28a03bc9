//! Sealing and opening the payloads of a log.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::error::SealingError;
use super::gcm::{Accelerator, Aes};
use super::header::{Boot, EncryptedPayload, PAYLOAD, SealHeader};
use super::key::LogEncryptionKey;
use super::ring::{KeyRing, KeyVersion};
use super::snapshot::{SnapshotKeys, SnapshotOpener, SnapshotSealer};
use super::subkey::{Cipher, LogName};
use crate::entry::Payload;
use crate::types::{EntryId, NodeId};

/// How many blocks of 16 bytes a sub-key seals: 4 PiB. Up to there, telling what is sealed from random bytes succeeds with a probability below 2⁻³² (q² / 2¹²⁹ for q blocks).
pub const MAX_BLOCKS: u64 = 1 << 48;

/// How many sub-keys are kept ready for opening. A log has one for each start of each leader, most of them long ago; a kilobyte or two each.
const KEPT_CIPHERS: usize = 32;

/// Seals the payloads that a leader takes into its log, and opens those of any leader.
///
/// ```
/// use amaters_cluster_core::sealing::{Boot, EntryEncryptor, KeyRing, KeyVersion, LogEncryptionKey, LogName};
/// use amaters_cluster_core::{EntryId, GroupId, LogIndex, NodeId, Term};
///
/// let mut keys = KeyRing::default();
/// keys.insert(KeyVersion(1), LogEncryptionKey::from_bytes(&[7; 32])?)?;
/// let boot = Boot(*b"of a host's rng!");
/// let mut encryptor = EntryEncryptor::new(LogName::new("orders", GroupId(0))?, NodeId(1), boot, keys)?;
/// encryptor.use_version(KeyVersion(1))?;
///
/// let id = EntryId { term: Term(2), index: LogIndex(5) };
/// let sealed = encryptor.seal(id, b"x=1")?;
/// assert_eq!(encryptor.open(id, &sealed)?, "x=1");
/// let elsewhere = EntryId { index: LogIndex(6), ..id };
/// assert!(encryptor.open(elsewhere, &sealed).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[cfg_attr(feature = "model-checking", derive(Clone))]
pub struct EntryEncryptor {
    log: LogName,
    node: NodeId,
    boot: Boot,
    keys: KeyRing,
    aes: Aes,
    /// What seals, once a version was chosen.
    sealing: Option<(KeyVersion, Cipher)>,
    /// Given out so far. It goes on when the version changes, and never back.
    counter: u64,
    /// Sealed so far. At least one for each number that was given out, so that the counter can't wrap.
    blocks: u64,
    /// What opens, the latest used first.
    opening: Vec<(SealHeader, Cipher)>,
    /// The associated data of the last call: its memory is used again.
    associated: Vec<u8>,
}

impl EntryEncryptor {
    /// An encryptor for one start of a node. `boot` must come from the system's random source: used twice, it gives two payloads the same key and nonce.
    ///
    /// # Errors
    /// `boot` is all zero.
    pub fn new(log: LogName, node: NodeId, boot: Boot, keys: KeyRing) -> Result<Self, SealingError> {
        if boot.0 == [0; 16] {
            return Err(SealingError::NoRandomness);
        }
        let aes = Aes::default();
        Ok(Self { log, node, boot, keys, aes, sealing: None, counter: 0, blocks: 0, opening: Vec::new(), associated: Vec::new() })
    }

    /// Has somebody else do AES from here on. The bytes are the same.
    pub fn accelerate(&mut self, accelerator: Arc<dyn Accelerator>) {
        self.aes = Aes(Some(accelerator));
        self.opening.clear();
        if let Some((version, _)) = self.sealing.take() {
            // It was there before, and no key is lost for another way to use it.
            let _ = self.use_version(version);
        }
    }

    /// Whether somebody else does AES.
    #[must_use]
    pub fn is_accelerated(&self) -> bool {
        self.aes.0.is_some()
    }

    /// Seals with this version from here on. What earlier ones sealed opens as before.
    ///
    /// # Errors
    /// The version's key is not there. The version in use stays.
    pub fn use_version(&mut self, version: KeyVersion) -> Result<(), SealingError> {
        if self.version() != Some(version) {
            let header = SealHeader { version, node: self.node, boot: self.boot, counter: self.counter };
            self.sealing = Some((version, Cipher::of_payloads(&self.aes, self.keys.get(version)?, &self.log, &header)));
        }
        Ok(())
    }

    /// The version that seals; `None` until one was chosen.
    #[must_use]
    pub fn version(&self) -> Option<KeyVersion> {
        self.sealing.as_ref().map(|(version, _)| *version)
    }

    /// The keys that are there.
    #[must_use]
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Adds a key, for [`Self::use_version`] or to open what another node sealed with it.
    ///
    /// # Errors
    /// The version has other bytes already.
    pub fn add_key(&mut self, version: KeyVersion, key: LogEncryptionKey) -> Result<(), SealingError> {
        self.keys.insert(version, key)
    }

    /// Forgets a version that nothing in the log is sealed with any more, and wipes all that came of it. Whether it was there; the version that seals stays.
    pub fn remove_key(&mut self, version: KeyVersion) -> bool {
        if self.version() == Some(version) {
            return false;
        }
        self.opening.retain(|(header, _)| header.version != version);
        self.keys.remove(version)
    }

    /// Seals the payload of the entry with this id.
    ///
    /// # Errors
    /// No version was chosen, or this start has sealed [`MAX_BLOCKS`].
    pub fn seal(&mut self, id: EntryId, payload: &[u8]) -> Result<EncryptedPayload, SealingError> {
        let header = self.next_header(payload.len())?;
        let Some((version, cipher)) = &self.sealing else { return Err(SealingError::NoVersion) };
        let mut sealed = Vec::with_capacity(EncryptedPayload::MAX_OVERHEAD + payload.len());
        header.write(PAYLOAD, &mut sealed);
        let body = sealed.len();
        self.log.bind(PAYLOAD, *version, id, &[], &mut self.associated);
        cipher.seal(header.nonce(), &self.associated, payload, &mut sealed)?;
        Ok(EncryptedPayload::sealed(header, sealed, body))
    }

    /// Opens the payload of the entry with this id, whichever node sealed it.
    ///
    /// # Errors
    /// The version's key is not there, or the tag does not match: nothing of the payload is used then.
    pub fn open(&mut self, id: EntryId, payload: &EncryptedPayload) -> Result<Payload, SealingError> {
        let header = payload.header();
        self.log.bind(PAYLOAD, header.version, id, &[], &mut self.associated);
        let open = |cipher: &Cipher, associated: &[u8]| {
            let plain = cipher.open(header.nonce(), associated, payload.ciphertext_and_tag());
            plain.map(Payload::from).ok_or(SealingError::EntryTag { id, version: header.version })
        };
        if let Some(found) = self.opening.iter().position(|(kept, _)| is_same_sub_key(kept, header)) {
            self.opening[..=found].rotate_right(1);
            return open(&self.opening[0].1, &self.associated);
        }
        // Kept only once it has opened something: what a peer makes up must not push out what is needed.
        let cipher = Cipher::of_payloads(&self.aes, self.keys.get(header.version)?, &self.log, header);
        let plain = open(&cipher, &self.associated)?;
        self.opening.truncate(KEPT_CIPHERS - 1);
        self.opening.insert(0, (*header, cipher));
        Ok(plain)
    }

    /// A sealer for the snapshot up to the entry with this id, with a key of its own.
    ///
    /// # Errors
    /// As [`Self::seal`].
    pub fn snapshot_sealer(&mut self, id: EntryId) -> Result<SnapshotSealer, SealingError> {
        let header = self.next_header(0)?;
        let cipher = Cipher::of_snapshot(&self.aes, self.keys.get(header.version)?, &self.log, &header, id);
        Ok(SnapshotSealer::new(self.log.clone(), id, header, cipher))
    }

    /// An opener for the snapshot up to the entry with this id, from its header ([`SnapshotSealer::header`]).
    ///
    /// # Errors
    /// It is no such header, or its version's key is not there.
    pub fn snapshot_opener(&self, id: EntryId, header: &[u8]) -> Result<SnapshotOpener, SealingError> {
        self.snapshot_keys().opener(id, header)
    }

    /// What opens the snapshots of this log, with the keys that are there now.
    #[must_use]
    pub fn snapshot_keys(&self) -> SnapshotKeys {
        SnapshotKeys::new(self.log.clone(), self.keys.clone()).with_aes(&self.aes)
    }

    /// Takes a number that nothing else gets.
    fn next_header(&mut self, length: usize) -> Result<SealHeader, SealingError> {
        let Some(version) = self.version() else { return Err(SealingError::NoVersion) };
        let blocks = u64::try_from(length.div_ceil(16)).unwrap_or(u64::MAX).saturating_add(1);
        if blocks > MAX_BLOCKS {
            return Err(SealingError::TooLong(length));
        }
        if blocks > MAX_BLOCKS - self.blocks {
            self.begin_anew(version)?;
        }
        self.blocks += blocks;
        self.counter += 1;
        Ok(SealHeader { version, node: self.node, boot: self.boot, counter: self.counter })
    }

    /// A sub-key has sealed as much as is safe: from here on another one does, as if the node had started again. Its boot follows from the earlier one and so is as unlikely
    /// to be another's.
    fn begin_anew(&mut self, version: KeyVersion) -> Result<(), SealingError> {
        let digest = Sha256::new_with_prefix(b"ukehi next boot v1\0").chain_update(self.boot.0).finalize();
        self.boot.0.copy_from_slice(&digest[..16]);
        (self.blocks, self.counter, self.sealing) = (0, 0, None);
        self.use_version(version)
    }

    #[cfg(test)]
    pub(super) fn set_blocks(&mut self, blocks: u64) {
        self.blocks = blocks;
    }

    #[cfg(test)]
    pub(super) fn kept_ciphers(&self) -> usize {
        self.opening.len()
    }
}

fn is_same_sub_key(a: &SealHeader, b: &SealHeader) -> bool {
    (a.version, a.node, a.boot) == (b.version, b.node, b.boot)
}
