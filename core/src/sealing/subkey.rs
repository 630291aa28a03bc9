//! Which sub-key belongs to what, and what is bound to a ciphertext.

use std::sync::Arc;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::SealingError;
use super::gcm::{Aes, Gcm, TAG};
use super::header::SealHeader;
use super::key::LogEncryptionKey;
use super::ring::KeyVersion;
use crate::types::{EntryId, GroupId};

/// Whose log it is: what was sealed for one log opens in no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogName {
    group: GroupId,
    cluster: String,
}

impl LogName {
    /// The log of this group of a cluster. The cluster's id has at most 255 bytes.
    ///
    /// # Errors
    /// The id is longer.
    pub fn new(cluster: impl Into<String>, group: GroupId) -> Result<Self, SealingError> {
        let cluster = cluster.into();
        if cluster.len() > 255 { Err(SealingError::ClusterName(cluster.len())) } else { Ok(Self { group, cluster }) }
    }

    /// The link before the log's first entry. It needs no key: those that follow do.
    pub(super) fn genesis(&self) -> [u8; 32] {
        let mut hash = Sha256::new_with_prefix(b"ukehi chain genesis v1\0");
        hash.update(self.group.0.to_be_bytes());
        hash.update(self.cluster.as_bytes());
        hash.finalize().into()
    }

    /// The associated data of what is sealed for one place in this log. The cluster's id comes last: what is before it has a fixed length, so that no two places
    /// make the same bytes.
    pub(super) fn bind(&self, form: u8, version: KeyVersion, id: EntryId, frame: &[u8], associated: &mut Vec<u8>) {
        associated.clear();
        associated.push(form);
        associated.extend_from_slice(&version.0.to_be_bytes());
        for number in [self.group.0, id.term.0, id.index.0] {
            associated.extend_from_slice(&number.to_be_bytes());
        }
        associated.extend_from_slice(frame);
        associated.extend_from_slice(self.cluster.as_bytes());
    }
}

/// AES-256-GCM with a sub-key. Wiped on drop.
#[derive(Clone, Debug)]
pub(super) struct Cipher(Arc<dyn Gcm>);

impl Cipher {
    /// For the payloads that a node seals in one start.
    pub(super) fn of_payloads(aes: &Aes, key: &LogEncryptionKey, log: &LogName, header: &SealHeader) -> Self {
        Self::derive(aes, key, log, header, "ukehi payload v1", &[])
    }

    /// For one snapshot.
    pub(super) fn of_snapshot(aes: &Aes, key: &LogEncryptionKey, log: &LogName, header: &SealHeader, id: EntryId) -> Self {
        Self::derive(aes, key, log, header, "ukehi snapshot v1", &[header.counter, id.term.0, id.index.0])
    }

    fn derive(aes: &Aes, key: &LogEncryptionKey, log: &LogName, header: &SealHeader, label: &str, numbers: &[u64]) -> Self {
        let mut info = header.node.0.to_be_bytes().to_vec();
        numbers.iter().for_each(|number| info.extend_from_slice(&number.to_be_bytes()));
        Self(aes.with_key(&derive(key, &header.boot.0, label, header.version, &info, log)))
    }

    /// Adds the ciphertext of `plain` and its tag to `sealed`.
    pub(super) fn seal(&self, nonce: [u8; 12], associated: &[u8], plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), SealingError> {
        let length = sealed.len() + plain.len() + TAG;
        self.0.seal(&nonce, associated, plain, sealed)?;
        if sealed.len() == length { Ok(()) } else { Err(SealingError::Accelerator { got: sealed.len(), expected: length }) }
    }

    /// The plain bytes of a ciphertext and its tag; `None` if the tag does not match.
    pub(super) fn open(&self, nonce: [u8; 12], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.open(&nonce, associated, sealed)
    }
}

/// The key of the chain.
pub(super) fn chain_key(key: &LogEncryptionKey, log: &LogName, version: KeyVersion) -> Zeroizing<[u8; 32]> {
    derive(key, &[], "ukehi chain v1", version, &[], log)
}

/// HKDF-SHA256. No two uses share an info: each begins with a label that ends at a 0, and all that follows has a fixed length, but for the cluster's id at the end.
fn derive(key: &LogEncryptionKey, salt: &[u8], label: &str, version: KeyVersion, numbers: &[u8], log: &LogName) -> Zeroizing<[u8; 32]> {
    let mut sub_key = Zeroizing::new([0; 32]);
    let info = [label.as_bytes(), &[0], &version.0.to_be_bytes(), numbers, &log.group.0.to_be_bytes(), log.cluster.as_bytes()];
    Hkdf::<Sha256>::new(Some(salt), key.as_bytes())
        .expand_multi_info(&info, sub_key.as_mut_slice())
        .expect("32 bytes are one block of HKDF");
    sub_key
}
