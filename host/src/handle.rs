//! How requests reach a node.

use std::sync::Arc;
use std::time::Duration;

use amaters_cluster_core::{KeyVersion, LogIndex, MembershipChange, NodeId, SessionChange, SessionId, SessionStamp, Status};
use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit, oneshot};

use crate::engine::Control;
use crate::error::{RaftError, RaftResult};
use crate::inbox::{Contents, ControlRequest, Inbox, ReadRequest, SessionRequest, WriteRequest};
use crate::keys::KeyReader;
use crate::state_machine::ApplyResult;

/// What came of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Its place in the log.
    pub index: LogIndex,
    /// What the state machine said.
    pub result: ApplyResult,
}

/// A way to a node for many callers. Cheap to clone; the node lives on without it.
#[derive(Clone, Debug)]
pub struct Handle {
    inbox: Arc<Inbox>,
    /// Room for requests, in units of [`UNIT`] bytes: beyond it, callers wait in line.
    room: Arc<Semaphore>,
    total_room: u32,
    request_timeout: Duration,
    /// None for a log that is not sealed.
    key_reader: Option<KeyReader>,
}

/// Requests are counted in units of this many bytes, and at least one each.
const UNIT: usize = 1024;

impl Handle {
    pub(crate) fn new(inbox: Arc<Inbox>, max_pending_bytes: usize, request_timeout: Duration, key_reader: Option<KeyReader>) -> Self {
        // Half of what the core takes: its bound then refuses nobody who waits in line here.
        let total_room = u32::try_from(max_pending_bytes / 2 / UNIT).unwrap_or(u32::MAX >> 3).clamp(1, u32::MAX >> 3);
        Self { inbox, room: Arc::new(Semaphore::new(total_room as usize)), total_room, request_timeout, key_reader }
    }

    /// Proposes commands in this order, and waits for their outcomes.
    ///
    /// Any node takes them, and passes them on to the leader. A command that was proposed takes effect once or not at all, whatever happens to
    /// leaders and messages; where a caller can't be told which, the error is [`RaftError::UnknownOutcome`].
    pub async fn propose(&self, commands: Vec<Bytes>) -> Vec<RaftResult<Outcome>> {
        self.write(commands, None).await
    }

    /// Proposes commands of a client's session: `first` places the first one there, and the others follow it. A command that was carried out before,
    /// wherever it was proposed, gives its first outcome (dissertation, §6.3).
    ///
    /// After [`RaftError::UnknownOutcome`], or without an answer, the same command may be proposed again in the same place, at any node.
    /// [`RaftError::SessionExpired`], [`RaftError::ResponseDropped`] and [`RaftError::SessionFull`] say what sessions are bounded by.
    pub async fn propose_in_session(&self, first: SessionStamp, commands: Vec<Bytes>) -> Vec<RaftResult<Outcome>> {
        self.write(commands, Some(first)).await
    }

    async fn write(&self, commands: Vec<Bytes>, session: Option<SessionStamp>) -> Vec<RaftResult<Outcome>> {
        let count = commands.len();
        if count == 0 {
            return Vec::new();
        }
        let refused = || (0..count).map(|_| Err(RaftError::ShuttingDown)).collect();
        let Ok(_room) = self.make_room(&commands).await else { return refused() };
        let (reply, outcomes) = oneshot::channel();
        if !self.inbox.put(|contents| contents.writes.push(WriteRequest { commands, session, reply })) {
            return refused();
        }
        // Where the node ended or was rebuilt meanwhile, nobody can say what became of them.
        outcomes.await.unwrap_or_else(|_| (0..count).map(|_| Err(self.unknown_outcome())).collect())
    }

    /// Opens, keeps or closes a client's session. Gives its id.
    ///
    /// # Errors
    /// [`RaftError::SessionExpired`] where it is not there; otherwise as [`Handle::propose`]. One that was opened without an answer expires by itself.
    pub async fn change_session(&self, change: SessionChange) -> RaftResult<SessionId> {
        let _room = self.make_room(&[]).await?;
        let (reply, outcomes) = oneshot::channel();
        if !self.inbox.put(|contents| contents.sessions.push(SessionRequest { change, reply })) {
            return Err(RaftError::ShuttingDown);
        }
        let outcome = outcomes.await.ok().and_then(|mut outcomes| outcomes.pop());
        outcome.unwrap_or_else(|| Err(self.unknown_outcome())).map(|outcome| SessionId(outcome.index.0))
    }

    /// Linearizable queries (dissertation, §6.4): the state they see holds every command whose outcome anybody knew when this was called.
    ///
    /// # Errors
    /// No majority confirmed a leader in time, or the node has ended.
    pub async fn query(&self, queries: Vec<Bytes>) -> RaftResult<Vec<ApplyResult>> {
        self.ask(queries, |contents| &mut contents.reads).await
    }

    /// Queries of this node's own state as it is, without a word to others. It may be any age: that of a node which is cut off, catches up or has
    /// just started; two such queries, at two nodes or around a restart, may even see time run backwards.
    ///
    /// # Errors
    /// The node has ended.
    pub async fn query_local(&self, queries: Vec<Bytes>) -> RaftResult<Vec<ApplyResult>> {
        self.ask(queries, |contents| &mut contents.local_reads).await
    }

    async fn ask(&self, queries: Vec<Bytes>, place: fn(&mut Contents) -> &mut Vec<ReadRequest>) -> RaftResult<Vec<ApplyResult>> {
        let _room = self.make_room(&queries).await?;
        let (reply, answers) = oneshot::channel();
        if !self.inbox.put(|contents| place(contents).push(ReadRequest { queries, reply })) {
            return Err(RaftError::ShuttingDown);
        }
        answers.await.unwrap_or_else(|_| Err(if self.inbox.is_closed() { RaftError::ShuttingDown } else { self.unknown_outcome() }))
    }

    /// Moves leadership from this node, which must be the leader, to another voter or to the one that has most of the log (dissertation, §3.10).
    /// Returns when that one leads. Writes wait meanwhile; none is lost.
    ///
    /// # Errors
    /// This node isn't the leader, the other is not a member or was not heard of, a transfer is under way, or the other node did not lead
    /// within an election timeout: then this one serves on.
    pub async fn transfer(&self, to: Option<NodeId>) -> RaftResult<()> {
        self.control(Control::Transfer { to }).await
    }

    /// Changes who is a member, by joint consensus (Raft paper, §6). This node must be the leader. Returns when the change is committed, all the way;
    /// a new voter has caught up by then.
    ///
    /// # Errors
    /// This node isn't the leader, another change is under way, the change makes no sense, or a new voter did not catch up. Where the node stops
    /// leading meanwhile, the outcome is unknown: the status tells who is a member.
    pub async fn change_membership(&self, change: MembershipChange) -> RaftResult<()> {
        self.control(Control::ChangeMembership(change)).await
    }

    /// Has a snapshot taken now, whatever the policy says. Returns once one is durable that holds everything that was applied when this was called.
    ///
    /// # Errors
    /// [`RaftError::SnapshotUnderWay`], [`RaftError::SnapshotFailed`], or the node has ended.
    pub async fn take_snapshot(&self) -> RaftResult<()> {
        self.control(Control::TakeSnapshot).await
    }

    /// Has the log sealed with another version of its key from an entry on that says so, on all nodes: the newest that the source of keys has, unless one is named. This node must be the
    /// leader. Returns when that entry is committed.
    ///
    /// # Errors
    /// [`RaftError::NotEncrypted`], [`RaftError::Keys`], [`RaftError::KeysBeingRead`], [`RaftError::KeyVersionInUse`], [`RaftError::KeyNotHeld`]; this node isn't the leader, or another change is under way.
    /// Where the node stops leading meanwhile, the outcome is unknown: the status tells.
    pub async fn rotate_key(&self, version: Option<KeyVersion>) -> RaftResult<()> {
        let reader = self.key_reader.as_ref().ok_or(RaftError::NotEncrypted)?;
        let keys = reader.read().await?;
        let version = version.or_else(|| keys.versions().last()).unwrap_or(KeyVersion::NONE);
        reader.expect(&keys, version)?;
        self.inbox.put(|contents| contents.keys = Some(keys));
        self.control(Control::RotateKey(version)).await
    }

    async fn control(&self, control: Control) -> RaftResult<()> {
        let (reply, outcome) = oneshot::channel();
        if !self.inbox.put(|contents| contents.controls.push(ControlRequest { control, reply })) {
            return Err(RaftError::ShuttingDown);
        }
        outcome.await.unwrap_or_else(|_| Err(if self.inbox.is_closed() { RaftError::ShuttingDown } else { self.unknown_outcome() }))
    }

    /// The node's state.
    ///
    /// # Errors
    /// The node has ended.
    pub async fn status(&self) -> RaftResult<Status> {
        let (reply, status) = oneshot::channel();
        self.inbox.put(|contents| contents.status.push(reply));
        status.await.map_err(|_| RaftError::ShuttingDown)
    }

    async fn make_room(&self, requests: &[Bytes]) -> RaftResult<SemaphorePermit<'_>> {
        let bytes: usize = requests.iter().map(Bytes::len).sum();
        let units = u32::try_from(bytes / UNIT + 1).unwrap_or(u32::MAX).min(self.total_room);
        self.room.acquire_many(units).await.map_err(|_| RaftError::ShuttingDown)
    }

    fn unknown_outcome(&self) -> RaftError {
        RaftError::UnknownOutcome { waited_ms: u64::try_from(self.request_timeout.as_millis()).unwrap_or(u64::MAX) }
    }
}
