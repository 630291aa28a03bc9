//! The `accelerator` interface of `wit/`: AES-256-GCM outside of the sandbox, by the core's own code, which natively has the processor's instructions.

use amaters_cluster_core::sealing::{Gcm as _, OwnGcm};
use wasmtime::component::Resource;
use zeroize::Zeroizing;

use super::Driver;
use super::wasm::Host;
use super::wasm::bindings::amaters::cluster::accelerator;

/// More are never alive in an instance that works.
const MOST_CIPHERS: usize = 1024;

/// `accelerator.cipher`: the key is wiped when it is dropped.
#[derive(Debug)]
#[allow(unreachable_pub, reason = "the generated code exports it under the contract's name")]
pub struct Cipher(OwnGcm);

/// Whether ciphers are offered, and how many an instance has.
#[derive(Debug, Default)]
pub(super) struct Offer {
    pub(super) open: bool,
    alive: usize,
}

impl<D: Driver> accelerator::Host for Host<D> {
    fn available(&mut self) -> bool {
        self.ciphers.open
    }
}

impl<D: Driver> accelerator::HostCipher for Host<D> {
    fn new(&mut self, key: Vec<u8>) -> wasmtime::Result<Resource<Cipher>> {
        let key = Zeroizing::new(key);
        let expected = wasmtime::Error::msg("a guest asked for AES with a key that has not 32 bytes");
        let key: &[u8; 32] = key.first_chunk().filter(|_| key.len() == 32).ok_or(expected)?;
        if !self.ciphers.open || self.ciphers.alive == MOST_CIPHERS {
            return Err(wasmtime::Error::msg(format!(
                "a guest asked for AES that is not offered, or for more than {MOST_CIPHERS} ciphers"
            )));
        }
        self.ciphers.alive += 1;
        Ok(self.table.push(Cipher(OwnGcm::new(key)))?)
    }

    fn seal(&mut self, this: Resource<Cipher>, nonce: Vec<u8>, associated: Vec<u8>, plain: Vec<u8>) -> wasmtime::Result<Vec<u8>> {
        let mut sealed = Vec::with_capacity(plain.len() + 16);
        self.table.get(&this)?.0.seal(&expect_nonce(&nonce)?, &associated, &plain, &mut sealed).map_err(wasmtime::Error::new)?;
        Ok(sealed)
    }

    fn open(&mut self, this: Resource<Cipher>, nonce: Vec<u8>, associated: Vec<u8>, sealed: Vec<u8>) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.table.get(&this)?.0.open(&expect_nonce(&nonce)?, &associated, &sealed))
    }

    fn drop(&mut self, this: Resource<Cipher>) -> wasmtime::Result<()> {
        self.table.delete(this)?;
        self.ciphers.alive -= 1;
        Ok(())
    }
}

fn expect_nonce(nonce: &[u8]) -> wasmtime::Result<[u8; 12]> {
    nonce.try_into().map_err(|_| wasmtime::Error::msg(format!("a guest gave a nonce of {} bytes: 12 were expected", nonce.len())))
}
