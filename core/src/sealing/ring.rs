//! The keys of a log, by version.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::error::{MissingKey, SealingError};
use super::key::LogEncryptionKey;

/// Numbers the keys of a log, from 1: rotation counts on, and a number is never given to another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyVersion(pub u32);

impl KeyVersion {
    /// None at all: versions begin with 1.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for KeyVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The log keys that a node has. Old versions stay until the last entry that they sealed is gone.
///
/// ```
/// use amaters_cluster_core::sealing::{KeyRing, KeyVersion, LogEncryptionKey};
///
/// let mut keys = KeyRing::default();
/// keys.insert(KeyVersion(1), LogEncryptionKey::from_bytes(&[7; 32])?)?;
/// let missing = keys.get(KeyVersion(2)).unwrap_err();
/// assert_eq!(missing.to_string(), "version 2 of the log key is needed, and only 1 is there");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct KeyRing(BTreeMap<KeyVersion, LogEncryptionKey>);

/// In constant time for each key.
impl PartialEq for KeyRing {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(|((a, key), (b, other))| a == b && key.is_same(other))
    }
}

impl Eq for KeyRing {}

impl KeyRing {
    /// Adds a key. The same key again is fine.
    ///
    /// # Errors
    /// The version has other bytes already. What is there stays.
    pub fn insert(&mut self, version: KeyVersion, key: LogEncryptionKey) -> Result<(), SealingError> {
        if self.0.get(&version).is_some_and(|held| !held.is_same(&key)) {
            return Err(SealingError::VersionTaken(version));
        }
        self.0.entry(version).or_insert(key);
        Ok(())
    }

    /// The key of a version.
    ///
    /// # Errors
    /// Says which version is missing, and which are there.
    pub fn get(&self, version: KeyVersion) -> Result<&LogEncryptionKey, MissingKey> {
        self.0.get(&version).ok_or_else(|| MissingKey { wanted: version, held: self.versions().collect() })
    }

    /// Forgets a version, and wipes its key. Whether it was there.
    pub fn remove(&mut self, version: KeyVersion) -> bool {
        self.0.remove(&version).is_some()
    }

    /// The versions that are there, in order.
    pub fn versions(&self) -> impl Iterator<Item = KeyVersion> + '_ {
        self.0.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> LogEncryptionKey {
        LogEncryptionKey::from_bytes(&[byte; 32]).expect("a key")
    }

    #[test]
    fn a_version_never_changes_its_key() {
        let mut keys = KeyRing::default();
        keys.insert(KeyVersion(1), key(1)).expect("the first");
        keys.insert(KeyVersion(1), key(1)).expect("the same again");
        assert_eq!(keys.insert(KeyVersion(1), key(2)), Err(SealingError::VersionTaken(KeyVersion(1))));
        assert!(keys.get(KeyVersion(1)).expect("it is there").is_same(&key(1)));
    }

    #[test]
    fn a_missing_version_is_named() {
        let mut keys = KeyRing::default();
        let missing = keys.get(KeyVersion(3)).expect_err("none is there");
        assert_eq!(missing.to_string(), "version 3 of the log key is needed, and there is no key at all");
        for version in [2, 1] {
            keys.insert(KeyVersion(version), key(9)).expect("new");
        }
        let missing = keys.get(KeyVersion(3)).expect_err("not this one");
        assert_eq!(missing, MissingKey { wanted: KeyVersion(3), held: vec![KeyVersion(1), KeyVersion(2)] });
        assert!(keys.remove(KeyVersion(2)) && !keys.remove(KeyVersion(2)));
        assert!(!format!("{keys:?}").contains('9'), "{keys:?}");
    }
}
