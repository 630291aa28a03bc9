//! Clients with sessions, and the results that nodes want for them.

use amaters_cluster_core::{Input, NodeId, Payload, SessionChange, SessionStamp, Token};

use super::Cluster;

impl Cluster {
    /// Proposes a command of a session at a node.
    pub fn propose_in_session(&mut self, id: NodeId, stamp: SessionStamp, command: impl Into<Payload>) -> Token {
        let token = self.next_token();
        self.input(id, Input::Propose { token, command: command.into(), session: Some(stamp) });
        token
    }

    /// Opens, keeps or closes a session at a node.
    pub fn change_session(&mut self, id: NodeId, change: SessionChange) -> Token {
        let token = self.next_token();
        self.input(id, Input::Session { token, change });
        token
    }

    /// Gives a node the results that it waits for. Whether there were any.
    pub fn give_results(&mut self, id: NodeId) -> bool {
        let results = std::mem::take(&mut self.member_mut(id).results);
        !results.is_empty() && self.input(id, Input::Applied { results })
    }
}
