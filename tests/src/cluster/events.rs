//! What nodes do, as it is told to whoever watches.

use std::rc::Rc;

use amaters_cluster_core::message::Envelope;
use amaters_cluster_core::{
    Committed, EntryId, FailureEvent, KeyVersion, LogIndex, LogLevel, MemberStatus, NodeId, Operation, Rejected, Rejection, Reply, Term,
    Ticket, Token,
};

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The proposal was applied where it was made: its client is told.
    Applied(LogIndex),
    /// The node's sessions answered: a command with what it gave here first, a change with its session.
    Replied(LogIndex),
    /// The read was served from a state that had applied up to here.
    Served(LogIndex),
    /// What it wanted has happened.
    Done,
    /// It came to nothing, or may have.
    Rejected(Rejection),
}

/// What a node did, in the order in which it did it.
#[derive(Clone, Debug)]
pub enum Event {
    /// It sent this.
    Sent(Rc<Envelope>),
    /// It handed operations to its disk.
    Submitted(NodeId, Ticket, Vec<Operation>),
    /// It applied this.
    Applied(NodeId, Vec<Committed>),
    /// Its sessions answered these.
    Replied(NodeId, Vec<Reply>),
    /// It served these reads.
    Served(NodeId, Vec<Token>),
    /// What these wanted has happened.
    Done(NodeId, Vec<Token>),
    /// It turned these down.
    Rejected(NodeId, Vec<Rejected>),
    /// It told its host who is a member, by a configuration of this version.
    Members(NodeId, LogIndex, Vec<MemberStatus>),
    /// It said this.
    Noted(NodeId, LogLevel, String),
    /// It changed its mind about a peer.
    Judged(NodeId, FailureEvent),
    /// It knows of this leader of this term, or of none any more.
    Follows(NodeId, Term, NodeId),
    /// Its state is that of a snapshot: what these have made of it.
    Restored(NodeId, Vec<Committed>),
    /// It did something else about its snapshots: this.
    Snapshots(NodeId, String),
    /// It wrote this part of a snapshot, which begins so far from its beginning.
    WroteSnapshot(NodeId, EntryId, u64, Vec<u8>),
    /// It asked for this version of the key.
    WantsKey(NodeId, KeyVersion),
    /// It does nothing any more, since this does not match.
    Diverged(NodeId, String),
    /// It has repaired itself.
    Repaired(NodeId),
}
