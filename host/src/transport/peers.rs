//! The nodes to which there is a way: the members, and for a while others that have dialled this node.
//!
//! Who is a member changes while the node runs, and no two nodes learn of it at the same moment: one that this node does not know may know more than it.
//! So any node of the cluster is heard, and answered at the address that it gives; what its envelopes are worth, the core knows.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use amaters_cluster_core::NodeId;
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use super::handshake::{Guest, Lane};
use super::queue::PeerQueue;
use super::{Shared, TransportLimits, dial};

/// The most nodes that are heard without being members.
const MAX_STRANGERS: usize = 16;

/// All of them, by their ids.
#[derive(Debug)]
pub(super) struct Peers {
    own: NodeId,
    limits: TransportLimits,
    known: RwLock<Known>,
    /// Told when there is somebody else to dial.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Known {
    members: BTreeMap<NodeId, Arc<Peer>>,
    strangers: BTreeMap<NodeId, Arc<Peer>>,
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: NodeId,
    pub(super) address: String,
    main: PeerQueue,
    bulk: PeerQueue,
    /// Told when the peer was let in: then it can be dialled, too.
    pub(super) seen: Notify,
    /// Accepted connections that are up.
    accepted: AtomicUsize,
    /// Hold the newest accepted connection of each lane open.
    newest: Mutex<[Option<oneshot::Sender<()>>; 2]>,
}

impl Peers {
    pub(super) fn new(own: NodeId, members: &BTreeMap<NodeId, String>, limits: &TransportLimits) -> Self {
        let peers = Self { own, limits: limits.clone(), known: RwLock::default(), changed: Notify::new() };
        peers.set_members(members);
        peers
    }

    pub(super) fn get(&self, id: NodeId) -> Option<Arc<Peer>> {
        let known = self.read();
        known.members.get(&id).or(known.strangers.get(&id)).cloned()
    }

    /// These are the members from now on. One whose address nobody knows can't be dialled until it dials this node.
    pub(super) fn set_members(&self, members: &BTreeMap<NodeId, String>) {
        let mut known = self.write();
        let before = std::mem::take(&mut *known);
        for (&id, address) in members.iter().filter(|(id, _)| **id != self.own) {
            let same = before.members.get(&id).or(before.strangers.get(&id)).filter(|peer| peer.address == *address || address.is_empty());
            match same {
                Some(peer) => drop(known.members.insert(id, Arc::clone(peer))),
                None if address.is_empty() => {}
                None => drop(known.members.insert(id, Arc::new(Peer::new(id, address.clone(), &self.limits)))),
            }
        }
        // Whoever is connected and no member any more may be owed an answer.
        for (id, peer) in before.members.into_iter().chain(before.strangers) {
            if !known.members.contains_key(&id) && peer.accepted.load(Ordering::Relaxed) > 0 {
                known.strangers.insert(id, peer);
            }
        }
        drop(known);
        self.changed.notify_one();
    }

    /// Whether a node that dials is let in.
    pub(super) fn admits(&self, id: NodeId) -> bool {
        let known = self.read();
        let fits = known.strangers.len() < MAX_STRANGERS || known.members.contains_key(&id) || known.strangers.contains_key(&id);
        fits && id != self.own && !id.is_none()
    }

    /// A node that was let in. The receiver resolves when a newer connection of the same node comes in the same lane.
    pub(super) fn enter(&self, guest: Guest) -> (Arc<Peer>, oneshot::Receiver<()>) {
        let Guest { id, address, lane } = guest;
        let mut known = self.write();
        let peer = match known.members.get(&id) {
            Some(member) => Arc::clone(member),
            None => {
                let same = known.strangers.get(&id).filter(|peer| peer.address == address).cloned();
                let peer = same.unwrap_or_else(|| Arc::new(Peer::new(id, address, &self.limits)));
                known.strangers.insert(id, Arc::clone(&peer));
                self.changed.notify_one();
                peer
            }
        };
        peer.accepted.fetch_add(1, Ordering::Relaxed);
        drop(known);
        let (stay, replaced) = oneshot::channel();
        peer.newest.lock().unwrap_or_else(PoisonError::into_inner)[usize::from(lane == Lane::Bulk)] = Some(stay);
        (peer, replaced)
    }

    /// A connection of a node that was let in has ended. One that is no member is forgotten with its last one.
    pub(super) fn leave(&self, peer: &Arc<Peer>) {
        let mut known = self.write();
        if peer.accepted.fetch_sub(1, Ordering::Relaxed) == 1
            && known.strangers.get(&peer.id).is_some_and(|stranger| Arc::ptr_eq(stranger, peer))
        {
            known.strangers.remove(&peer.id);
            self.changed.notify_one();
        }
    }

    /// All that can be dialled.
    fn all(&self) -> BTreeMap<NodeId, Arc<Peer>> {
        let known = self.read();
        let dialled = known.strangers.iter().chain(&known.members).filter(|(_, peer)| !peer.address.is_empty());
        dialled.map(|(id, peer)| (*id, Arc::clone(peer))).collect()
    }

    fn read(&self) -> RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Known> {
        self.known.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    fn new(id: NodeId, address: String, limits: &TransportLimits) -> Self {
        let (seen, accepted, newest) = (Notify::new(), AtomicUsize::new(0), Mutex::default());
        let (main, bulk) = (PeerQueue::new(limits), PeerQueue::bulk(limits));
        Self { id, address, main, bulk, seen, accepted, newest }
    }

    pub(super) fn queue(&self, lane: Lane) -> &PeerQueue {
        match lane {
            Lane::Main => &self.main,
            Lane::Bulk => &self.bulk,
        }
    }
}

/// Dials every peer that there is, for ever; one that is gone no more.
pub(super) async fn dial_all(shared: Arc<Shared>) {
    let (mut tasks, mut dialled) = (JoinSet::new(), BTreeMap::<NodeId, (Arc<Peer>, tokio::task::AbortHandle)>::new());
    loop {
        let wanted = shared.peers.all();
        dialled.retain(|id, (peer, task)| {
            let stays = wanted.get(id).is_some_and(|wanted| Arc::ptr_eq(wanted, peer));
            if !stays {
                task.abort();
            }
            stays
        });
        for (id, peer) in wanted {
            dialled.entry(id).or_insert_with(|| {
                let task = tasks.spawn(dial::run_both(Arc::clone(&shared), Arc::clone(&peer)));
                (peer, task)
            });
        }
        tokio::select! {
            () = shared.peers.changed.notified() => {}
            Some(ended) = tasks.join_next() => if let Err(error) = ended
                && !error.is_cancelled()
            {
                tracing::error!(%error, "the task that dials a peer failed");
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE_2: NodeId = NodeId(2);
    const NODE_3: NodeId = NodeId(3);

    fn members(ids: &[u64]) -> BTreeMap<NodeId, String> {
        ids.iter().map(|id| (NodeId(*id), format!("host{id}:1"))).collect()
    }

    fn peers(ids: &[u64]) -> Peers {
        Peers::new(NodeId(1), &members(ids), &TransportLimits::default())
    }

    fn guest(id: u64) -> Guest {
        Guest { id: NodeId(id), address: format!("host{id}:1"), lane: Lane::Main }
    }

    fn dialled(peers: &Peers) -> Vec<(u64, String)> {
        peers.all().into_iter().map(|(id, peer)| (id.0, peer.address.clone())).collect()
    }

    #[test]
    fn members_come_and_go_and_those_that_stay_keep_their_connection() {
        let peers = peers(&[1, 2]);
        let before = peers.get(NODE_2).unwrap();
        peers.set_members(&members(&[1, 2, 3]));
        assert!(Arc::ptr_eq(&before, &peers.get(NODE_2).unwrap()));
        assert_eq!(dialled(&peers), [(2, "host2:1".to_owned()), (3, "host3:1".to_owned())]);
        peers.set_members(&BTreeMap::from([(NODE_3, "elsewhere:1".to_owned())]));
        assert_eq!(dialled(&peers), [(3, "elsewhere:1".to_owned())]);
    }

    #[test]
    fn a_stranger_is_answered_while_it_is_connected() {
        let peers = peers(&[1, 2]);
        assert!(peers.admits(NODE_3) && !peers.admits(NodeId(1)) && !peers.admits(NodeId(0)));
        let (stranger, _) = peers.enter(guest(3));
        assert_eq!(dialled(&peers).len(), 2);
        peers.leave(&stranger);
        assert_eq!(dialled(&peers), [(2, "host2:1".to_owned())]);
    }

    #[test]
    fn a_stranger_that_becomes_a_member_and_a_removed_member_keep_their_connections() {
        let peers = peers(&[1, 2]);
        let (stranger, _) = peers.enter(guest(3));
        let (member, _) = peers.enter(guest(2));
        peers.set_members(&members(&[1, 3]));
        assert!(Arc::ptr_eq(&stranger, &peers.get(NODE_3).unwrap()) && Arc::ptr_eq(&member, &peers.get(NODE_2).unwrap()));
        peers.leave(&stranger);
        peers.leave(&member);
        assert_eq!(dialled(&peers), [(3, "host3:1".to_owned())]);
    }

    #[test]
    fn strangers_are_few() {
        let peers = peers(&[1, 2]);
        for id in 10..26 {
            assert!(peers.admits(NodeId(id)));
            peers.enter(guest(id));
        }
        assert!(!peers.admits(NodeId(26)));
        assert!(peers.admits(NODE_2) && peers.admits(NodeId(10)), "members and those that are here already are let in");
    }
}
