//! AES-256-GCM with one key: by this code, or by whoever has an instruction for it.

use std::fmt;
use std::sync::Arc;

use aes_gcm::aead::AeadInOut;
use aes_gcm::aead::inout::InOutBuf;
use aes_gcm::{Aes256Gcm, KeyInit, Nonce};

use super::error::SealingError;

/// A tag's length in bytes.
pub(super) const TAG: usize = 16;

/// AES-256-GCM (NIST SP 800-38D) with one key. Whoever does it, the bytes are the same.
pub trait Gcm: fmt::Debug + Send + Sync {
    /// Adds the ciphertext of `plain`, which is as long, and its tag to `sealed`.
    ///
    /// # Errors
    /// `plain` is longer than 64 GiB, or what does it is broken.
    fn seal(&self, nonce: &[u8; 12], associated: &[u8], plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), SealingError>;

    /// The plain bytes of a ciphertext and its tag; `None` if the tag does not match.
    fn open(&self, nonce: &[u8; 12], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>>;
}

/// Does AES-256-GCM in the core's place: a host whose processor has an instruction for it. It gets sub-keys, which open what one node has sealed in one start, or one snapshot; never the
/// log's keys.
pub trait Accelerator: fmt::Debug + Send + Sync {
    /// For this key, which it wipes when this is dropped.
    fn gcm(&self, key: &[u8; 32]) -> Arc<dyn Gcm>;
}

/// AES-256-GCM by this code, natively with the processor's instructions where it has them. The key is wiped on drop.
#[derive(Debug)]
pub struct OwnGcm(Box<Aes256Gcm>);

impl OwnGcm {
    /// With this key.
    #[must_use]
    pub fn new(key: &[u8; 32]) -> Self {
        Self(Box::new(Aes256Gcm::new(key.into())))
    }
}

impl Gcm for OwnGcm {
    fn seal(&self, nonce: &[u8; 12], associated: &[u8], plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), SealingError> {
        let start = sealed.len();
        sealed.resize(start + plain.len(), 0);
        let buffer = InOutBuf::new(plain, &mut sealed[start..]).expect("both are of one length");
        let tag = self.0.encrypt_inout_detached(&Nonce::from(*nonce), associated, buffer);
        sealed.extend_from_slice(&tag.map_err(|_| SealingError::TooLong(plain.len()))?);
        Ok(())
    }

    fn open(&self, nonce: &[u8; 12], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG>()?;
        let mut plain = vec![0; ciphertext.len()];
        let buffer = InOutBuf::new(ciphertext, &mut plain).expect("both are of one length");
        // The tag is checked before anything is decrypted.
        self.0.decrypt_inout_detached(&Nonce::from(*nonce), associated, buffer, tag.into()).ok()?;
        Some(plain)
    }
}

/// Who does AES: this code, unless there is somebody else.
#[derive(Clone, Debug, Default)]
pub(super) struct Aes(pub(super) Option<Arc<dyn Accelerator>>);

impl Aes {
    pub(super) fn with_key(&self, key: &[u8; 32]) -> Arc<dyn Gcm> {
        match &self.0 {
            Some(accelerator) => accelerator.gcm(key),
            None => Arc::new(OwnGcm::new(key)),
        }
    }
}
