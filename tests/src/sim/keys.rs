//! What operators do with the keys of a sealed cluster: they make new ones, bring them to machines, have the cluster change to them, retire old ones, and lose some.

use amaters_cluster_core::{JournalError, KeyVersion, LogIndex, NodeId, NodeState};

use super::Check;
use super::coverage::Rare;
use super::world::World;
use crate::cluster::lacking;

/// The most versions of the key that a run has.
pub(super) const MOST_VERSIONS: u32 = 12;

/// The operators' safe.
pub(super) struct Safe {
    /// The lowest version that is not retired.
    oldest: u32,
    /// The highest version that was ever made.
    newest: u32,
}

impl Safe {
    pub(super) fn new() -> Self {
        Self { oldest: 1, newest: 1 }
    }

    fn versions(&self) -> impl Iterator<Item = KeyVersion> {
        (self.oldest..=self.newest).map(KeyVersion)
    }
}

impl World<'_> {
    /// Asks a node, the leader as a rule, to have the log sealed with another version: most of the time one that is new.
    pub(super) fn rotate_key(&mut self) -> Check {
        let leader = self.cluster.leader().filter(|_| self.rng.u8(..10) > 0);
        let id = leader.unwrap_or_else(|| self.any());
        let Some(node) = self.cluster.node(id) else { return Ok(()) };
        let in_use = node.log().chain_end().map_or(KeyVersion::NONE, |end| end.version);
        let (term, is_leader) = (node.persistent_state().current_term, node.state() == NodeState::Leader);
        let version = self.draw_version(in_use);
        self.trace.detail(|| format!("request {}: node {id} changes to version {version} of the key", self.cluster.upcoming_token()));
        self.coverage.hit_if(is_leader && self.safe.is_some(), Rare::Rotations);
        self.ledger.asked_for_another_key(id, term);
        self.cluster.rotate_key(id, version);
        self.moved(id, self.weather.bursts)
    }

    fn draw_version(&mut self, in_use: KeyVersion) -> KeyVersion {
        let Some(Safe { oldest, newest }) = self.safe else { return KeyVersion(self.rng.u32(1..4)) };
        if self.rng.u8(..10) == 0 {
            return KeyVersion(self.rng.u32(oldest..=newest));
        }
        if newest <= in_use.0 && newest < MOST_VERSIONS {
            self.safe = Some(Safe { oldest, newest: newest + 1 });
            for id in self.ids.clone() {
                if self.rng.u8(..4) > 0 {
                    self.cluster.give_key(id, KeyVersion(newest + 1));
                }
            }
        }
        KeyVersion(self.safe.as_ref().map_or(newest, |safe| safe.newest))
    }

    /// A machine gets its keys, its node hears of them, or something is done about old ones.
    pub(super) fn manage_keys(&mut self) -> Check {
        let id = self.any();
        match self.rng.u8(..12) {
            0..=3 => {
                self.give_all_keys(id);
                if self.rng.bool() { self.load_keys(id) } else { Ok(()) }
            }
            4..=8 => {
                let asked: Vec<NodeId> = self.ids.iter().copied().filter(|id| self.cluster.member(*id).wanted_key.is_some()).collect();
                if asked.is_empty() {
                    return Ok(());
                }
                let id = asked[self.rng.usize(..asked.len())];
                self.load_keys(id)
            }
            9 | 10 => {
                self.retire_oldest();
                Ok(())
            }
            _ => {
                self.lose_newest(id);
                Ok(())
            }
        }
    }

    /// All keys that are not retired come to a machine.
    pub(super) fn give_all_keys(&mut self, id: NodeId) {
        let Some(safe) = &self.safe else { return };
        self.trace.detail(|| format!("node {id} gets all keys"));
        safe.versions().for_each(|version| self.cluster.give_key(id, version));
    }

    pub(super) fn load_keys(&mut self, id: NodeId) -> Check {
        self.trace.detail(|| format!("node {id} reads its keys"));
        self.cluster.load_keys(id);
        self.moved(id, self.weather.bursts)
    }

    /// Every node is up and says that it needs the oldest version no more: it goes from all machines. Whoever starts after that starts without it.
    fn retire_oldest(&mut self) {
        let Some(Safe { oldest, newest }) = self.safe else { return };
        let mut is_past = false;
        for id in &self.ids {
            let Some(node) = self.cluster.node(*id) else { return };
            if node.log().last().index == LogIndex::NONE {
                continue; // nothing is sealed where there is nothing
            }
            let needed = node.status(self.cluster.member(*id).clock).encryption.map(|status| status.oldest_needed);
            is_past = needed > Some(KeyVersion(oldest));
            if !is_past {
                return;
            }
        }
        if !is_past {
            return;
        }
        self.safe = Some(Safe { oldest: oldest + 1, newest });
        self.coverage.hit(Rare::KeysRetired);
        self.trace.detail(|| format!("version {oldest} of the key is retired"));
        for id in self.ids.clone() {
            let keys = &mut self.cluster.member_mut(id).keys;
            // A source without any key is refused before there is a node.
            if keys.versions().count() > 1 {
                keys.remove(KeyVersion(oldest));
            }
        }
    }

    /// A machine's keys are those of an older backup.
    fn lose_newest(&mut self, id: NodeId) {
        let keys = &mut self.cluster.member_mut(id).keys;
        let held: Vec<_> = keys.versions().collect();
        if let [.., _, newest] = held[..] {
            keys.remove(newest);
            self.trace.detail(|| format!("node {id} loses version {newest} of the key"));
        }
    }

    /// Whether a version that was in use once is gone from all machines.
    pub(super) fn has_retired_keys(&self) -> bool {
        self.safe.as_ref().is_some_and(|safe| safe.oldest > 1)
    }

    /// A node could not start: right if its machine lacks a key that is in use, and that the node names.
    pub(super) fn take_failed_start(&mut self, id: NodeId, error: &JournalError) -> Check {
        let held: Vec<_> = self.cluster.member(id).keys.versions().collect();
        let in_use: Vec<_> = self.safe.as_ref().map(|safe| safe.versions().collect()).unwrap_or_default();
        match lacking(error) {
            Some(wanted) if !held.contains(&wanted) && in_use.contains(&wanted) => {
                self.coverage.hit(Rare::StartsWithoutKey);
                self.trace.detail(|| format!("node {id} can't start: {error}"));
                Ok(())
            }
            _ => Err(format!("node {id} can't start from its own disk, with versions {held:?} of the key: {error:?}")),
        }
    }

    /// The end of a run: all machines have all keys, and their nodes know.
    pub(super) fn mend_keys(&mut self) -> Check {
        if self.safe.is_none() {
            return Ok(());
        }
        for id in self.ids.clone() {
            self.give_all_keys(id);
            self.load_keys(id)?;
        }
        Ok(())
    }
}
