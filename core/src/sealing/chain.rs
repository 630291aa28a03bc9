//! The chain through the log: each entry has a link that vouches for it and for all before it.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use super::error::{BrokenChain, MissingKey};
use super::ring::{KeyRing, KeyVersion};
use super::subkey::{LogName, chain_key};
use crate::types::EntryId;

/// A link of the chain. Two logs that have the same link at an index are the same up to there.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChainLink(pub [u8; 32]);

/// An entry, as the log stores it.
#[derive(Clone, Copy, Debug)]
pub struct ChainedEntry<'a> {
    /// Its term and index.
    pub id: EntryId,
    /// Its kind, as the log numbers it.
    pub kind: u8,
    /// What is stored beside id, kind and payload: an origin, a session's stamp. At most 4 GiB.
    pub beside: &'a [u8],
    /// Its payload as stored: sealed, if the log is.
    pub payload: &'a [u8],
}

/// Makes and checks the links of a log, with the key of one version. Where the version changes, the next verifier goes on from the last link.
///
/// ```
/// use amaters_cluster_core::sealing::{ChainedEntry, KeyRing, KeyVersion, LogEncryptionKey, LogIntegrityVerifier, LogName};
/// use amaters_cluster_core::{EntryId, GroupId, LogIndex, Term};
///
/// let mut keys = KeyRing::default();
/// keys.insert(KeyVersion(1), LogEncryptionKey::from_bytes(&[7; 32])?)?;
/// let verifier = LogIntegrityVerifier::new(&LogName::new("orders", GroupId(0))?, &keys, KeyVersion(1))?;
/// let entry = ChainedEntry { id: EntryId { term: Term(1), index: LogIndex(1) }, kind: 1, beside: b"", payload: b"x=1" };
/// let link = verifier.link(&verifier.genesis(), &entry);
///
/// let edited = ChainedEntry { payload: b"x=2", ..entry };
/// assert!(verifier.verify(&verifier.genesis(), &entry, &link).is_ok());
/// assert!(verifier.verify(&verifier.genesis(), &edited, &link).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct LogIntegrityVerifier {
    /// With the key taken in already: that saves two compressions for each link.
    keyed: Hmac<Sha256>,
    genesis: ChainLink,
    version: KeyVersion,
}

impl LogIntegrityVerifier {
    /// A verifier for this log, with the key of a version.
    ///
    /// # Errors
    /// The version's key is not there.
    pub fn new(log: &LogName, keys: &KeyRing, version: KeyVersion) -> Result<Self, MissingKey> {
        let key = chain_key(keys.get(version)?, log, version);
        let keyed = Hmac::new_from_slice(key.as_slice()).expect("HMAC takes keys of any length");
        Ok(Self { keyed, genesis: ChainLink(log.genesis()), version })
    }

    /// The link before the log's first entry: the same whatever the version.
    #[must_use]
    pub fn genesis(&self) -> ChainLink {
        self.genesis
    }

    /// The version of the key in use.
    #[must_use]
    pub fn version(&self) -> KeyVersion {
        self.version
    }

    /// The link of an entry, by that of the one before.
    #[must_use]
    pub fn link(&self, previous: &ChainLink, entry: &ChainedEntry<'_>) -> ChainLink {
        ChainLink(self.absorb(previous, entry).finalize().into_bytes().into())
    }

    /// Checks an entry's link, in a time that does not tell where it differs.
    ///
    /// # Errors
    /// The link is not that of this entry behind `previous`.
    pub fn verify(&self, previous: &ChainLink, entry: &ChainedEntry<'_>, link: &ChainLink) -> Result<(), BrokenChain> {
        self.absorb(previous, entry).verify(&link.0.into()).map_err(|_| BrokenChain { id: entry.id })
    }

    fn absorb(&self, previous: &ChainLink, entry: &ChainedEntry<'_>) -> Hmac<Sha256> {
        let mut mac = self.keyed.clone();
        let mut head = [0; 53];
        head[..32].copy_from_slice(&previous.0);
        head[32..40].copy_from_slice(&entry.id.term.0.to_be_bytes());
        head[40..48].copy_from_slice(&entry.id.index.0.to_be_bytes());
        head[48] = entry.kind;
        let length = u32::try_from(entry.beside.len()).expect("what is stored beside a payload fits in memory");
        head[49..].copy_from_slice(&length.to_be_bytes());
        mac.update(&head);
        mac.update(entry.beside);
        mac.update(entry.payload);
        mac
    }
}

/// In constant time.
impl PartialEq for ChainLink {
    fn eq(&self, other: &Self) -> bool {
        hmac::digest::CtOutput::<Hmac<Sha256>>::new(self.0.into()) == hmac::digest::CtOutput::new(other.0.into())
    }
}

impl Eq for ChainLink {}

/// 64 hexadecimal digits.
impl fmt::Display for ChainLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ChainLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChainLink({self})")
    }
}
