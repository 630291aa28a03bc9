//! A network inside one process: for tests, and for trying a cluster out.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use amaters_cluster_core::NodeId;

use crate::inbox::Inlet;
use crate::ports::Network;

/// Connects nodes of one process. Clones are the same network.
///
/// ```
/// use amaters_cluster::{Command, MemoryNetwork, RaftConfig, RaftNode};
///
/// let network = MemoryNetwork::default();
/// let nodes: Vec<RaftNode> = [1, 2, 3]
///     .map(|id| RaftNode::builder(RaftConfig::new(id, vec![1, 2, 3])).start_with(|inlet| Ok(network.join(id.into(), inlet))))
///     .into_iter()
///     .collect::<Result<_, _>>()?;
///
/// // Any node takes proposals: a follower passes them on to the leader.
/// let index = nodes[2].propose(Command::from_str("SET key value"))?;
/// assert!(index.0 > 0);
/// # Ok::<(), amaters_cluster::RaftError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct MemoryNetwork {
    members: Arc<RwLock<BTreeMap<NodeId, Inlet>>>,
}

impl MemoryNetwork {
    /// Adds a node, or replaces the one that had its id; gives its way to the others.
    #[must_use]
    pub fn join(&self, id: NodeId, inlet: Inlet) -> Arc<dyn Network> {
        self.members.write().unwrap_or_else(PoisonError::into_inner).insert(id, inlet);
        Arc::new(Member { id, network: self.clone() })
    }
}

/// One node's place in the network.
#[derive(Debug)]
struct Member {
    id: NodeId,
    network: MemoryNetwork,
}

impl Network for Member {
    fn send(&self, to: NodeId, envelope: Vec<u8>) {
        if let Some(inlet) = self.network.members.read().unwrap_or_else(PoisonError::into_inner).get(&to) {
            // A node that has ended hears nothing: like one that can't be reached.
            let _ = inlet.deliver_now(self.id, envelope);
        }
    }
}
