//! AES by the host, where it offers that.

use std::sync::Arc;

use super::bindings::amaters::cluster::accelerator;
use crate::sealing::{Accelerator, Gcm, SealingError};

/// The host's AES, if there is one.
pub(super) fn offered() -> Option<Arc<dyn Accelerator>> {
    accelerator::available().then(|| Arc::new(HostAes) as Arc<dyn Accelerator>)
}

#[derive(Debug)]
struct HostAes;

#[derive(Debug)]
struct HostGcm(accelerator::Cipher);

impl Accelerator for HostAes {
    fn gcm(&self, key: &[u8; 32]) -> Arc<dyn Gcm> {
        Arc::new(HostGcm(accelerator::Cipher::new(key)))
    }
}

impl Gcm for HostGcm {
    fn seal(&self, nonce: &[u8; 12], associated: &[u8], plain: &[u8], sealed: &mut Vec<u8>) -> Result<(), SealingError> {
        sealed.extend_from_slice(&self.0.seal(nonce, associated, plain));
        Ok(())
    }

    fn open(&self, nonce: &[u8; 12], associated: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        self.0.open(nonce, associated, sealed)
    }
}
