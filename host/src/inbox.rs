//! Where everything that a node must hear of waits for its thread.
//!
//! Sockets, the disk and clients put things in from their own threads; the node's thread takes all that there is in one go, so that a burst costs
//! one lock and one turn. What it holds is bounded: envelopes by [`MAX_RECEIVED_BYTES`], requests by the [`Handle`](crate::handle::Handle).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amaters_cluster_core::{KeyRing, NodeId, SessionChange, SessionStamp, Status, Ticket};
use bytes::Bytes;
use tokio::sync::{Notify, oneshot};

use crate::engine::Control;
use crate::error::RaftResult;
use crate::handle::Outcome;
use crate::snapshots::SnapshotReport;

/// The most bytes of envelopes that wait; connections that bring more are made to wait too.
const MAX_RECEIVED_BYTES: usize = 64 << 20;

/// Many put in, one takes out.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    contents: Mutex<Contents>,
    filled: Notify,
    room: Notify,
}

/// What has come since the last look.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) received: Vec<(NodeId, Vec<u8>)>,
    received_bytes: usize,
    pub(crate) persisted: Option<Ticket>,
    pub(crate) writes: Vec<WriteRequest>,
    pub(crate) sessions: Vec<SessionRequest>,
    pub(crate) reads: Vec<ReadRequest>,
    pub(crate) local_reads: Vec<ReadRequest>,
    pub(crate) controls: Vec<ControlRequest>,
    pub(crate) status: Vec<oneshot::Sender<Status>>,
    /// What came of jobs for snapshots.
    pub(crate) snapshots: Vec<SnapshotReport>,
    /// What the source of keys has now.
    pub(crate) keys: Option<KeyRing>,
    pub(crate) storage_failure: Option<Box<dyn std::error::Error + Send + Sync>>,
    pub(crate) closed: bool,
    /// Whether the node waits to be woken: telling it otherwise costs time for nothing.
    sleeping: bool,
}

/// Commands of one caller, and where their outcomes go.
#[derive(Debug)]
pub(crate) struct WriteRequest {
    pub(crate) commands: Vec<Bytes>,
    /// The first command's place in a session, where they have one: the others follow it there.
    pub(crate) session: Option<SessionStamp>,
    pub(crate) reply: oneshot::Sender<Vec<RaftResult<Outcome>>>,
}

/// A session to be opened, kept or closed, and where the outcome goes.
#[derive(Debug)]
pub(crate) struct SessionRequest {
    pub(crate) change: SessionChange,
    pub(crate) reply: oneshot::Sender<Vec<RaftResult<Outcome>>>,
}

/// Queries of one caller, and where the answers go.
#[derive(Debug)]
pub(crate) struct ReadRequest {
    pub(crate) queries: Vec<Bytes>,
    pub(crate) reply: oneshot::Sender<RaftResult<Vec<Bytes>>>,
}

/// A change of the cluster that a caller wants, and where the outcome goes.
#[derive(Debug)]
pub(crate) struct ControlRequest {
    pub(crate) control: Control,
    pub(crate) reply: oneshot::Sender<RaftResult<()>>,
}

impl Inbox {
    /// Takes everything that is there; nothing, if that is so.
    pub(crate) fn take(&self) -> Contents {
        let mut contents = self.lock();
        let closed = contents.closed;
        let taken = std::mem::replace(&mut *contents, Contents { closed, ..Contents::default() });
        drop(contents);
        if taken.received_bytes > 0 {
            self.room.notify_waiters();
        }
        taken
    }

    /// Resolves when something is there. One waits at a time.
    pub(crate) async fn filled(&self) {
        loop {
            {
                let mut contents = self.lock();
                if !contents.is_empty() {
                    contents.sleeping = false;
                    return;
                }
                contents.sleeping = true;
            }
            self.filled.notified().await;
        }
    }

    /// Puts something in; `false` if the node has ended.
    pub(crate) fn put(&self, change: impl FnOnce(&mut Contents)) -> bool {
        let mut contents = self.lock();
        if contents.closed {
            return false;
        }
        change(&mut contents);
        self.wake(contents);
        true
    }

    /// Puts envelopes in, once there is room; `false` if the node has ended.
    pub(crate) async fn put_received(&self, sender: NodeId, envelopes: Vec<Vec<u8>>) -> bool {
        let bytes: usize = envelopes.iter().map(Vec::len).sum();
        loop {
            let room = self.room.notified();
            {
                let mut contents = self.lock();
                if contents.closed {
                    return false;
                }
                if contents.received_bytes == 0 || contents.received_bytes + bytes <= MAX_RECEIVED_BYTES {
                    contents.received_bytes += bytes;
                    contents.received.extend(envelopes.into_iter().map(|envelope| (sender, envelope)));
                    self.wake(contents);
                    return true;
                }
            }
            room.await;
        }
    }

    fn wake(&self, mut contents: MutexGuard<'_, Contents>) {
        let sleeping = std::mem::take(&mut contents.sleeping);
        drop(contents);
        if sleeping {
            self.filled.notify_one();
        }
    }

    /// Ends the node: what waits is dropped, and nothing comes in any more.
    pub(crate) fn close(&self) {
        let dropped = std::mem::replace(&mut *self.lock(), Contents { closed: true, ..Contents::default() });
        drop(dropped);
        self.filled.notify_one();
        self.room.notify_waiters();
    }

    /// Whether the node has ended, or is about to.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// No thread panics while it holds the lock; were one to, the contents are still whole.
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.contents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    fn is_empty(&self) -> bool {
        self.received.is_empty()
            && self.persisted.is_none()
            && self.writes.is_empty()
            && self.sessions.is_empty()
            && self.reads.is_empty()
            && self.local_reads.is_empty()
            && self.controls.is_empty()
            && self.status.is_empty()
            && self.snapshots.is_empty()
            && self.keys.is_none()
            && self.storage_failure.is_none()
            && !self.closed
    }
}

/// The way into a node for envelopes from its peers.
#[derive(Clone, Debug)]
pub struct Inlet(pub(crate) Arc<Inbox>);

impl Inlet {
    /// Hands over envelopes from a peer, once there is room for them; `false` if the node has ended.
    ///
    /// The caller vouches for `sender`: the node checks that the envelopes name it.
    pub async fn deliver(&self, sender: NodeId, envelopes: Vec<Vec<u8>>) -> bool {
        self.0.put_received(sender, envelopes).await
    }

    /// Hands over an envelope at once, however many wait; `false` if the node has ended. For networks that bound what is on its way themselves.
    pub fn deliver_now(&self, sender: NodeId, envelope: Vec<u8>) -> bool {
        self.0.put(|contents| contents.received.push((sender, envelope)))
    }
}
