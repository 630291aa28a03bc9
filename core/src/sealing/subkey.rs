//! Which sub-key belongs to what, and what is bound to a ciphertext.

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};
use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::SealingError;
use super::header::SealHeader;
use super::key::LogEncryptionKey;
use super::ring::KeyVersion;
use crate::types::{EntryId, GroupId};

/// A tag's length in bytes.
pub(super) const TAG: usize = 16;

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
pub(super) struct Cipher(Box<Aes256Gcm>);

impl Cipher {
    /// For the payloads that a node seals in one start.
    pub(super) fn of_payloads(key: &LogEncryptionKey, log: &LogName, header: &SealHeader) -> Self {
        Self::derive(key, log, header, "ukehi payload v1", &[])
    }

    /// For one snapshot.
    pub(super) fn of_snapshot(key: &LogEncryptionKey, log: &LogName, header: &SealHeader, id: EntryId) -> Self {
        Self::derive(key, log, header, "ukehi snapshot v1", &[header.counter, id.term.0, id.index.0])
    }

    fn derive(key: &LogEncryptionKey, log: &LogName, header: &SealHeader, label: &str, numbers: &[u64]) -> Self {
        let mut info = header.node.0.to_be_bytes().to_vec();
        numbers.iter().for_each(|number| info.extend_from_slice(&number.to_be_bytes()));
        let sub_key = derive(key, &header.boot.0, label, header.version, &info, log);
        Self(Box::new(Aes256Gcm::new((&*sub_key).into())))
    }

    /// Adds the ciphertext of `plain` and its tag to `sealed`.
    pub(super) fn seal(&self, nonce: [u8; 12], associated: &[u8], plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), SealingError> {
        let start = sealed.len();
        sealed.resize(start + plain.len(), 0);
        let buffer = InOutBuf::new(plain, &mut sealed[start..]).expect("both are of one length");
        let tag = self.0.encrypt_inout_detached(&Nonce::from(nonce), associated, buffer);
        sealed.extend_from_slice(&tag.map_err(|_| SealingError::TooLong(plain.len()))?);
        Ok(())
    }

    /// The plain bytes of a ciphertext and its tag; `None` if the tag does not match, which is known before anything is decrypted.
    pub(super) fn open(&self, nonce: [u8; 12], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG>()?;
        let mut plain = vec![0; ciphertext.len()];
        let buffer = InOutBuf::new(ciphertext, &mut plain).expect("both are of one length");
        self.0.decrypt_inout_detached(&Nonce::from(nonce), associated, buffer, tag.into()).ok()?;
        Some(plain)
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
