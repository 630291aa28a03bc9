//! What the front end asks of a node.

use amaters_cluster_core::{SessionChange, SessionId, SessionStamp, Status};
use bytes::Bytes;

use crate::error::RaftResult;
use crate::handle::Handle;

/// A node, as far as clients are concerned. [`Handle`] is the real one; tests bring a map in memory.
pub trait Backend: Clone + Send + Sync + 'static {
    /// Proposes commands in this order, and waits for all outcomes: one for each command, in the same order. In a session, the first is placed there
    /// and the others follow it.
    fn write(&self, commands: Vec<Bytes>, session: Option<SessionStamp>) -> impl Future<Output = Vec<RaftResult<Bytes>>> + Send;

    /// Opens, keeps or closes a client's session.
    fn change_session(&self, change: SessionChange) -> impl Future<Output = RaftResult<SessionId>> + Send;

    /// Answers queries from a state that holds all writes whose outcome was known when this was called: one answer for each, in the same order.
    fn read(&self, queries: Vec<Bytes>) -> impl Future<Output = RaftResult<Vec<Bytes>>> + Send;

    /// Answers queries from the node's own state as it is, which may be stale.
    fn read_local(&self, queries: Vec<Bytes>) -> impl Future<Output = RaftResult<Vec<Bytes>>> + Send;

    /// The node's state.
    fn status(&self) -> impl Future<Output = RaftResult<Status>> + Send;
}

impl Backend for Handle {
    async fn write(&self, commands: Vec<Bytes>, session: Option<SessionStamp>) -> Vec<RaftResult<Bytes>> {
        let outcomes = match session {
            Some(first) => self.propose_in_session(first, commands).await,
            None => self.propose(commands).await,
        };
        outcomes.into_iter().map(|outcome| outcome.map(|outcome| outcome.result)).collect()
    }

    async fn change_session(&self, change: SessionChange) -> RaftResult<SessionId> {
        Self::change_session(self, change).await
    }

    async fn read(&self, queries: Vec<Bytes>) -> RaftResult<Vec<Bytes>> {
        self.query(queries).await
    }

    async fn read_local(&self, queries: Vec<Bytes>) -> RaftResult<Vec<Bytes>> {
        self.query_local(queries).await
    }

    async fn status(&self) -> RaftResult<Status> {
        Self::status(self).await
    }
}
