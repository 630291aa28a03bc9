//! What goes into a node, and what comes out of it: the contract with whoever drives it.
//!
//! [`Node::step`](crate::Node::step) takes one [`Input`]. Inputs only change the node's state; the effects of a whole burst of them
//! leave with the next [`Input::Tick`], so that one write to storage and one envelope serve them all.
//!
//! # The order of effects
//!
//! This is the durability contract of the whole system. A driver carries out effects in the order in which they come, and:
//!
//! 1. [`Effect::Persist`] is handed to storage and need not be waited for. The driver answers with [`Input::Persisted`] once it is durable.
//! 2. [`Effect::Send`] may leave at once. The node itself holds back every envelope that speaks for something that is not durable yet (a
//!    vote, a new term, an acknowledgement of entries) until the ticket that covers it has come back. Only a leader's entries leave
//!    before its own copy is durable (dissertation, §10.2.1), and it counts itself only when that copy is.
//! 3. [`Effect::Apply`] is emitted for committed entries alone, each once, in the order of the log.
//! 4. [`Effect::ServeReads`] comes after the `Apply` of everything that those reads must see.
//! 5. [`Effect::CaptureState`] stands between the `Apply` of what a snapshot holds and of what it does not. [`Operation::Compact`] leaves only once the
//!    snapshot that it relies on has been reported durable.

use crate::cluster_config::{MemberStatus, MembershipChange};
use crate::detector::FailureEvent;
use crate::entry::Payload;
use crate::sealing::{KeyRing, KeyVersion};
use crate::sessions::{Applied, SessionChange, SessionStamp};
use crate::types::{EntryId, Instant, LogIndex, NodeId, Term, Ticket, Token};

/// What a node can be told, besides the time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Time has passed, or a burst of inputs has ended. Wanted after each burst, and every 10 ms or so without one.
    Tick,
    /// An envelope came from a peer, whose identity the transport vouches for.
    Receive {
        /// The peer.
        sender: NodeId,
        /// Its bytes, unchecked.
        envelope: Vec<u8>,
    },
    /// A command for the log.
    Propose {
        /// Comes back with the outcome.
        token: Token,
        /// Opaque bytes.
        command: Payload,
        /// Its place in its client's session, where it has one.
        session: Option<SessionStamp>,
    },
    /// A session is to be opened, kept or closed: an [`Effect::Reply`] answers.
    Session {
        /// Comes back with the outcome.
        token: Token,
        /// What is to happen.
        change: SessionChange,
    },
    /// The results of commands whose [`Committed::result_wanted`] is true: all of them, each once, in the order of the log.
    Applied {
        /// From the state machine.
        results: Vec<Applied>,
    },
    /// A linearizable read is wanted.
    Read {
        /// Comes back when the read may be served.
        token: Token,
    },
    /// Leadership is to move (dissertation, §3.10). [`Effect::Done`] says that the other node leads.
    Transfer {
        /// Comes back with the outcome.
        token: Token,
        /// The node that is to lead; none for the peer that has most of the log.
        to: NodeId,
    },
    /// The membership is to change (Raft paper, §6). [`Effect::Done`] says that it has, all the way.
    ChangeMembership {
        /// Comes back with the outcome.
        token: Token,
        /// What is wanted.
        change: MembershipChange,
    },
    /// The log is to be sealed with another version of the key. [`Effect::Done`] says that the entry which says so is committed.
    RotateKey {
        /// Comes back with the outcome.
        token: Token,
        /// Higher than the one in use.
        version: KeyVersion,
    },
    /// What the host's source of keys has now: answers [`Effect::RequestKey`], and may come unasked.
    KeysLoaded {
        /// All of them.
        keys: KeyRing,
    },
    /// All submissions up to this ticket are durable.
    Persisted {
        /// The last durable ticket.
        ticket: Ticket,
    },
    /// A snapshot is wanted now, whatever the policy says. [`Effect::Done`] says that there is one of everything that was applied when this came.
    TakeSnapshot {
        /// Comes back with the outcome.
        token: Token,
    },
    /// Answers [`Effect::ReadState`].
    StateRead {
        /// The next piece of the state that was captured.
        piece: Payload,
        /// Whether it is the last one. It may be empty.
        last: bool,
    },
    /// Answers [`Effect::WriteSnapshot`]: the bytes are written. They need not be durable.
    SnapshotWritten {
        /// The snapshot.
        id: EntryId,
        /// How many of its bytes are written, from the first on.
        end: u64,
    },
    /// Answers [`Effect::FinishSnapshot`]: the snapshot is durable, and is there after a restart.
    SnapshotStored {
        /// The snapshot.
        id: EntryId,
    },
    /// Answers [`Effect::ReadSnapshot`].
    SnapshotRead {
        /// The snapshot.
        id: EntryId,
        /// As in the effect.
        reader: NodeId,
        /// As in the effect.
        offset: u64,
        /// What stands there; empty at the end of the snapshot, and where there is none.
        bytes: Vec<u8>,
    },
    /// Whether storage lacks space. It has some until this says otherwise, which is best said early: while what was submitted and some small operations still
    /// fit. Until there is space again, a leader takes nothing into the log that can wait.
    DiskSpace {
        /// Whether there is none.
        full: bool,
    },
    /// A snapshot can't be written, and what was there of it is gone: the disk is full, for one.
    SnapshotFailed {
        /// The snapshot.
        id: EntryId,
        /// Why, in words for an operator.
        reason: String,
    },
}

/// What must happen outside of the node. See the [module](self) for what their order means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Make these operations durable, in this order, after all that were submitted before.
    Persist {
        /// Names the submission.
        ticket: Ticket,
        /// Never empty.
        operations: Vec<Operation>,
    },
    /// Send an envelope. It may be lost.
    Send {
        /// The peer.
        to: NodeId,
        /// The encoded envelope.
        envelope: Vec<u8>,
    },
    /// Send an envelope that is large and in no hurry, beside the others: they must not queue behind it. It may be lost, but must not overtake others of
    /// its kind.
    SendBulk {
        /// The peer.
        to: NodeId,
        /// The encoded envelope.
        envelope: Vec<u8>,
    },
    /// Apply committed commands, in this order.
    Apply {
        /// Never empty.
        commands: Vec<Committed>,
    },
    /// Answer these proposals, which the node's sessions have answered themselves: they don't come in an [`Effect::Apply`] with their tokens.
    Reply {
        /// Never empty.
        replies: Vec<Reply>,
    },
    /// Serve these reads from the state as it is now.
    ServeReads {
        /// Never empty.
        tokens: Vec<Token>,
    },
    /// What these requests wanted has happened: those that change who leads, who is a member, or the key.
    Done {
        /// Never empty.
        tokens: Vec<Token>,
    },
    /// These requests came to nothing.
    Reject {
        /// Never empty.
        requests: Vec<Rejected>,
    },
    /// These are the members from now on: the nodes to which there has to be a way. Comes first after the start, and when they change.
    Members {
        /// The index of the configuration's entry; 0 for the one that the node was started with.
        version: LogIndex,
        /// By their ids. Empty at a node that waits to be added.
        members: Vec<MemberStatus>,
    },
    /// A line for the host's log.
    Log {
        /// How much it matters.
        level: LogLevel,
        /// The line.
        message: String,
    },
    /// A peer counts as failed from now on, or no longer: once for each change.
    Failure {
        /// The change.
        event: FailureEvent,
    },
    /// The node knows of another leader than before, or of none any more: once for each change.
    LeaderChanged {
        /// The latest term it has seen.
        term: Term,
        /// The leader of that term, or none.
        leader: NodeId,
    },
    /// Capture the state machine's state as it is now, with all that was applied before this effect and nothing after it. One at a time.
    CaptureState,
    /// Give the next piece of the captured state, by [`Input::StateRead`].
    ReadState {
        /// About how long the piece should be, in bytes.
        max_bytes: usize,
    },
    /// The captured state is no longer wanted.
    ReleaseState,
    /// Forget the state: another one comes, by [`Effect::RestoreState`] in pieces and in order, until [`Effect::StateRestored`]. Nothing is applied and
    /// no read is served in between.
    ClearState,
    /// A piece of the state, as [`Input::StateRead`] once gave it.
    RestoreState {
        /// The piece.
        piece: Payload,
    },
    /// That was all of it.
    StateRestored,
    /// Write a part of a snapshot. It begins anew at offset 0, and goes on where the part before has ended.
    WriteSnapshot {
        /// Names the snapshot: the last entry that it holds.
        id: EntryId,
        /// Where the bytes belong.
        offset: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// The snapshot is complete: make it durable, and only then let it be found after a restart.
    FinishSnapshot {
        /// The snapshot.
        id: EntryId,
    },
    /// What was written of a snapshot is no longer wanted.
    DiscardSnapshot {
        /// The snapshot.
        id: EntryId,
    },
    /// Remove all complete snapshots but these.
    RetainSnapshots {
        /// Those that stay. Never empty.
        ids: Vec<EntryId>,
    },
    /// Read a part of a complete snapshot, by [`Input::SnapshotRead`].
    ReadSnapshot {
        /// The snapshot.
        id: EntryId,
        /// Comes back with the bytes: who they are for.
        reader: NodeId,
        /// From where.
        offset: u64,
        /// How much.
        max_bytes: usize,
    },
    /// A snapshot that was stored and checked can't be read back, and the state is gone: only a restart helps.
    StateLost {
        /// What has happened, in words for an operator.
        reason: String,
    },
    /// A version of the key is missing: read the source of keys anew, and answer by [`Input::KeysLoaded`] whatever is there. Comes again after a second at the earliest.
    RequestKey {
        /// The version.
        version: KeyVersion,
    },
    /// What two nodes hold can't both be true, or this node's state is not what the key's holders have written. The node says and does nothing from here on.
    Diverged {
        /// What does not match, in words for an operator.
        reason: String,
    },
    /// A node that was started to repair itself has all that it may ever have promised: it takes part from here on.
    Repaired,
}

/// A change of what storage keeps. Storage gives operations back in their order after a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Replaces the hard state: term and vote, encoded.
    HardState(Vec<u8>),
    /// Entries that replace whatever the log held at `first` and after it, in one piece.
    Append {
        /// The index of the first entry.
        first: LogIndex,
        /// How many: 1 and up.
        count: u32,
        /// The entries, encoded.
        entries: Vec<u8>,
    },
    /// Entries before `first` are no longer needed: a durable snapshot holds what they did. Storage may drop all earlier operations that say nothing
    /// else. The hard state comes anew in the same submission.
    Compact {
        /// The first index that is still needed.
        first: LogIndex,
        /// What the log begins with, encoded.
        base: Vec<u8>,
    },
}

/// A committed command on its way to the state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Its place in the log.
    pub index: LogIndex,
    /// The term of the leader that took it into the log.
    pub term: Term,
    /// The proposer's token, where this node proposed it in this run.
    pub token: Option<Token>,
    /// The command.
    pub command: Payload,
    /// Whether the node wants the result back, by [`Input::Applied`]: it belongs to a session.
    pub result_wanted: bool,
}

/// An answer that needs no state machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The proposal.
    pub token: Token,
    /// For a repeated command, where it was carried out; for a change of a session, the session's id.
    pub index: LogIndex,
    /// For a repeated command, its first response; empty for a change of a session.
    pub result: Payload,
}

/// A request that came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    /// The request.
    pub token: Token,
    /// Why.
    pub reason: Rejection,
    /// The leader that the node knows of, or none.
    pub leader: NodeId,
}

/// Why a request came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Rejection {
    /// No leader was known for the whole time that a request may wait. Not carried out: safe to try again.
    NoLeader,
    /// The time ran out after a proposal had been passed on: it may still be carried out later.
    UnknownOutcome,
    /// Too many bytes wait already. Not carried out: safe to try again.
    Overloaded,
    /// Larger than the configuration allows. Not carried out.
    TooLarge,
    /// The log has reached its bound. Not carried out.
    LogFull,
    /// Only a leader can do it. Not carried out: ask the leader.
    NotLeader,
    /// Leadership can't go to a node that is not a member. Not carried out.
    UnknownTarget,
    /// The node that was to lead was not heard of lately, or no other was. Not carried out.
    TargetSilent,
    /// A transfer is under way. Not carried out.
    TransferUnderWay,
    /// The node that was to lead did not within an election timeout: its log lacked too much, or it could not be reached. It may yet.
    TransferFailed,
    /// There is no such session: it expired, was closed or never opened. Whether an earlier attempt was carried out can't be told any more.
    SessionExpired,
    /// The command's response is not kept: the client has acknowledged it, or it was too large. An earlier attempt that got no answer may have been
    /// carried out; no further one will be.
    ResponseDropped,
    /// Too many commands of the session are without an acknowledged response. Not carried out: safe to try again with a later acknowledgement.
    SessionFull,
    /// Another change of the membership is under way. Not carried out: try again when it has ended.
    ChangeUnderWay,
    /// The leader has yet to commit an entry of its own term. Not carried out: try again in a moment.
    NotReady,
    /// The node is a member already, or was named twice. Not carried out.
    AlreadyMember,
    /// The node is no member. Not carried out.
    NotMember,
    /// There would be no voter, or too many members, or one with an impossible id or address. Not carried out.
    MemberLimits,
    /// A node that was to vote did not catch up with the log. It is a learner, if it was not one before, and the change has ended there.
    NotCaughtUp,
    /// This node was removed from the cluster. Not carried out: ask a member.
    Removed,
    /// A snapshot is being taken or installed. Not carried out: try again when that has ended.
    SnapshotUnderWay,
    /// The snapshot could not be written: the log says why.
    SnapshotFailed,
    /// The log is not sealed: there is no key to change.
    NotEncrypted,
    /// The log is sealed with this version of the key already, or with a later one. Nothing was changed.
    KeyVersionInUse,
    /// A voter did not say in time that it holds the new key: the log says which. Nothing was changed.
    KeyNotHeld,
    /// The leader's disk is full, or those of so many others that no majority has space. Not carried out: safe to try again once there is space.
    DiskFull,
}

/// How much a line of the log matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// For developers.
    Debug,
    /// For operators: a change of leader, for one.
    Info,
    /// Something is wrong, and the node copes.
    Warn,
    /// Something is wrong that an operator must look at.
    Error,
}

/// The time of an input, and the input: what a recording of a node's life consists of.
pub type Stamped = (Instant, Input);
