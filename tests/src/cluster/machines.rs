//! Machines that lose their power, their disks, or what is on them; and that start again.

use amaters_cluster_core::{JournalError, LogIndex, NodeId};

use super::{Cluster, Vault};
use crate::disk::{Disk, Remains};

impl Cluster {
    /// A node's machine loses its power. Memory is gone, and all but the first `keep` operations that were not durable.
    pub fn crash(&mut self, id: NodeId, keep: usize) -> Remains {
        let member = self.member_mut(id);
        member.node = None;
        member.machine.clear();
        member.results.clear();
        member.vault.crash(keep.is_multiple_of(2));
        member.config.seed += 1000; // a new run draws new numbers
        member.disk.crash(keep)
    }

    /// A node that is down loses its disk as well: from here on it is a blank one that waits to be added.
    pub fn wipe(&mut self, id: NodeId) {
        let member = self.member_mut(id);
        assert!(member.node.is_none(), "node {id} is up");
        (member.disk, member.vault) = (Disk::default(), Vault::default());
        member.config.voters.clear();
    }

    /// A node that is down finds its log damaged, and perhaps its snapshots: it starts to repair itself.
    pub fn damage(&mut self, id: NodeId, snapshots_too: bool) {
        let member = self.member_mut(id);
        assert!(member.node.is_none(), "node {id} is up");
        let held = member.vault.newest().map_or(LogIndex::NONE, |(id, _)| id.index);
        member.lost.get_or_insert_with(|| (held, member.disk.durable().clone()));
        member.disk.lose_log();
        if snapshots_too {
            member.vault.lose_all();
        }
        member.config.repair = true;
    }

    /// Starts a node that is down with what its disk has kept.
    ///
    /// # Panics
    /// If it can't start from that: a bug.
    pub fn restart(&mut self, id: NodeId) {
        self.try_restart(id).unwrap_or_else(|error| panic!("node {id} can't start from its own disk: {error}"));
    }

    /// Starts a node that is down with what its disk has kept, if it can.
    ///
    /// # Errors
    /// What is missing, or does not match. The node stays down.
    pub fn try_restart(&mut self, id: NodeId) -> Result<(), JournalError> {
        self.draw_boot(id);
        let member = self.member_mut(id);
        let (mut node, effects) = member.vault.restore(&member.config)?;
        member.disk.journal().iter().try_for_each(|operation| node.recover(operation.clone()))?;
        node.start(member.clock)?;
        member.node = Some(node);
        effects.into_iter().for_each(|effect| self.carry_out(id, effect));
        Ok(())
    }
}
