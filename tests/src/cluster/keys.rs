//! Sealed clusters: where machines have their keys, and what they answer when their nodes lack one.

use amaters_cluster_core::sealing::Boot;
use amaters_cluster_core::{Config, Encryption, Input, JournalError, KeyRing, KeyVersion, LogEncryptionKey, NodeId, SnapshotError, Token};

use super::Cluster;

/// The key of a version. Machines that have a version have the same key.
#[must_use]
pub fn key_of(version: KeyVersion) -> LogEncryptionKey {
    let mut bytes = [0x5a; 32];
    bytes[..4].copy_from_slice(&version.0.to_be_bytes());
    LogEncryptionKey::from_bytes(&bytes).expect("32 bytes, not all of them zero")
}

/// The keys of these versions.
#[must_use]
pub fn ring_of(versions: impl IntoIterator<Item = u32>) -> KeyRing {
    let mut keys = KeyRing::default();
    for version in versions.into_iter().map(KeyVersion) {
        keys.insert(version, key_of(version)).expect("a version has one key");
    }
    keys
}

/// What seals the log of a test's cluster. The bytes of a start are drawn at each one.
#[must_use]
pub fn encryption() -> Encryption {
    Encryption { cluster: "orders".to_owned(), boot: Boot([1; 16]), keys: ring_of([1]) }
}

impl Cluster {
    /// This many nodes that seal their log, with version 1 of the key, all up.
    #[must_use]
    pub fn sealed(nodes: u64, mut configure: impl FnMut(&mut Config)) -> Self {
        Self::with(nodes, |config| {
            config.encryption = Some(encryption());
            configure(config);
        })
    }

    /// A machine gets a version of the key. Its node knows once it has asked, or is told.
    pub fn give_key(&mut self, id: NodeId, version: KeyVersion) {
        self.member_mut(id).keys.insert(version, key_of(version)).expect("a version has one key");
    }

    /// Reads a machine's source of keys for its node, whether or not that has asked. Whether it had.
    pub fn load_keys(&mut self, id: NodeId) -> bool {
        let member = self.member_mut(id);
        let (asked, keys) = (member.wanted_key.take().is_some(), member.keys.clone());
        self.input(id, Input::KeysLoaded { keys });
        asked
    }

    /// Asks a node to have the log sealed with another version of the key.
    pub fn rotate_key(&mut self, id: NodeId, version: KeyVersion) -> Token {
        let token = self.next_token();
        self.input(id, Input::RotateKey { token, version });
        token
    }

    /// Each start has random bytes of its own, and the keys that the machine has then.
    pub(super) fn draw_boot(&mut self, id: NodeId) {
        let boot = Boot(self.boots.u128(1..).to_be_bytes());
        let member = self.member_mut(id);
        member.wanted_key = None;
        if let Some(encryption) = &mut member.config.encryption {
            (encryption.boot, encryption.keys) = (boot, member.keys.clone());
        }
    }
}

/// The version that a node lacks, if it can't start for want of it.
#[must_use]
pub fn lacking(error: &JournalError) -> Option<KeyVersion> {
    match error {
        JournalError::MissingKey(missing) | JournalError::Snapshot(SnapshotError::MissingKey(missing)) => Some(missing.wanted),
        _ => None,
    }
}
