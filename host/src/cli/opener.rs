//! The keys for commands that read the files of an encrypted cluster.

use amaters_cluster_core::sealing::{Boot, LogName, SnapshotKeys};
use amaters_cluster_core::{Config, Encryption, EntryEncryptor, GroupId, KeyRing, NodeId};
use anyhow::{Context as _, Result};

use super::key::KeySource;
use crate::keys::{self, KeyProvider as _};

/// The group whose log it is: a process serves one so far.
const GROUP: GroupId = GroupId(0);

/// Opens what a cluster has sealed.
pub(super) struct Opener {
    cluster: String,
    keys: KeyRing,
}

impl Opener {
    /// With the keys of the source that was named; none if none was.
    pub(super) fn new(source: &KeySource, cluster: &str) -> Result<Option<Self>> {
        let Some(provider) = source.clone().provider() else { return Ok(None) };
        keys::forbid_core_dumps()?;
        Ok(Some(Self { cluster: cluster.to_owned(), keys: provider.load()? }))
    }

    /// The same keys in another cluster.
    pub(super) fn in_cluster(&self, cluster: &str) -> Self {
        Self { cluster: cluster.to_owned(), keys: self.keys.clone() }
    }

    /// The configuration of a node that reads its own files.
    pub(super) fn config(&self, id: NodeId) -> Result<Config> {
        let encryption = Encryption { cluster: self.cluster.clone(), boot: new_boot()?, keys: self.keys.clone() };
        Ok(Config { encryption: Some(encryption), ..Config::new(id, vec![id]) })
    }

    /// What opens snapshots.
    pub(super) fn snapshot_keys(&self) -> Result<SnapshotKeys> {
        Ok(SnapshotKeys::new(self.name()?, self.keys.clone()))
    }

    /// What seals and opens as a node of the cluster does.
    pub(super) fn encryptor(&self, id: NodeId) -> Result<EntryEncryptor> {
        Ok(EntryEncryptor::new(self.name()?, id, new_boot()?, self.keys.clone())?)
    }

    fn name(&self) -> Result<LogName> {
        Ok(LogName::new(self.cluster.clone(), GROUP)?)
    }
}

/// The configuration with which a node's files are read: with keys or, where they are not sealed, without.
pub(super) fn reading_config(opener: Option<&Opener>, id: NodeId) -> Result<Config> {
    opener.map_or_else(|| Ok(Config::new(id, vec![id])), |opener| opener.config(id))
}

fn new_boot() -> Result<Boot> {
    let mut boot = Boot::default();
    getrandom::fill(&mut boot.0).context("the system gives no random bytes")?;
    Ok(boot)
}
