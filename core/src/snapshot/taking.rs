//! Taking a snapshot of this node's own state.

use std::collections::VecDeque;

use super::format::{FrameWriter, MAX_PAYLOAD, SnapshotMetadata, encode_sessions};
use super::{Kept, SnapshotConfig, SnapshotPolicy, WINDOW, within_rate};
use crate::chain::ChainPoint;
use crate::entry::Payload;
use crate::io::{Effect, LogLevel, Rejection};
use crate::node::Node;
use crate::types::{EntryId, Instant, Token};

/// A snapshot that is being taken.
#[derive(Debug)]
#[cfg_attr(feature = "model-checking", derive(Clone))]
pub(super) struct Taking {
    id: EntryId,
    writer: FrameWriter,
    point: Option<ChainPoint>,
    sessions: VecDeque<Payload>,
    /// Whether a piece of the state is on its way here.
    asked: bool,
    /// Whether all of it has come.
    finished: bool,
    written: u64,
    since: Instant,
    /// The bytes of entries that it holds, and the one before it did not.
    applied_bytes: usize,
    wanted: Vec<Token>,
}

impl Taking {
    pub(super) fn id(&self) -> EntryId {
        self.id
    }

    pub(super) fn written(&mut self, end: u64) {
        self.written = self.written.max(end);
    }

    fn may_go_on(&self, now: Instant, config: &SnapshotConfig) -> bool {
        let on_their_way = self.writer.offset().saturating_sub(self.written);
        on_their_way < WINDOW * config.chunk_bytes as u64
            && within_rate(self.writer.offset(), config.max_bytes_per_second, now.since(self.since))
    }

    fn write(&mut self, frame: impl FnOnce(&mut FrameWriter) -> Vec<u8>) -> Effect {
        let offset = self.writer.offset();
        Effect::WriteSnapshot { id: self.id, offset, bytes: frame(&mut self.writer) }
    }
}

impl Node {
    /// A snapshot is wanted.
    pub(crate) fn take_snapshot(&mut self, token: Token) {
        let snapshots = &mut self.snapshots;
        if snapshots.taking.is_some() || snapshots.receiving.is_some() || snapshots.is_restoring() {
            self.reject(token, Rejection::SnapshotUnderWay);
        } else if self.log.applied_index() == snapshots.latest_index() {
            self.done.push(token);
        } else {
            snapshots.wanted.push(token);
        }
    }

    /// Begins a snapshot if one is due. All results of commands have to be back, since sessions keep them.
    pub(super) fn begin_taking(&mut self) {
        self.forget_stale_receiving();
        let snapshots = &self.snapshots;
        let busy = snapshots.taking.is_some() || snapshots.receiving.is_some() || snapshots.is_restoring();
        if busy || !self.snapshot_is_due() {
            return;
        }
        let index = self.log.applied_index();
        let (Some(term), Some(image), Some(membership)) =
            (self.log.term_at(index), self.sessions.image(), self.membership.as_of(index).cloned())
        else {
            return;
        };
        let id = EntryId { index, term };
        let sessions = Payload::from(encode_sessions(&image));
        let point = self.log.point_at(index);
        let metadata = SnapshotMetadata { last: id, membership, session_bytes: sessions.len() as u64, chain: point };
        let sealer = match self.sealing.as_mut().zip(point).map(|(sealing, point)| sealing.snapshot_sealer(id, point)).transpose() {
            Ok(sealer) => sealer,
            Err(error) => return self.snapshot_failed(id, &error.to_string()),
        };
        let chunk = self.config.snapshots.chunk_bytes;
        let pieces = (0..sessions.len()).step_by(chunk).map(|at| sessions.slice(at..sessions.len().min(at + chunk))).collect();
        let snapshots = &mut self.snapshots;
        let mut taking = Taking {
            id,
            writer: FrameWriter::new(id, sealer),
            point,
            sessions: pieces,
            asked: false,
            finished: false,
            written: 0,
            since: self.now,
            applied_bytes: snapshots.applied_bytes,
            wanted: std::mem::take(&mut snapshots.wanted),
        };
        snapshots.effects.push(Effect::CaptureState);
        snapshots.effects.push(taking.write(|writer| writer.header(&metadata)));
        snapshots.taking = Some(taking);
    }

    fn snapshot_is_due(&self) -> bool {
        let snapshots = &self.snapshots;
        let policy = &self.config.snapshots.policy;
        let news = self.log.applied_index().0.saturating_sub(snapshots.latest_index().0);
        if news == 0 || self.now < snapshots.not_before {
            return false;
        }
        let by_bytes = policy.bytes.is_some_and(|bytes| {
            let proportionate = snapshots.latest().map_or(0, |stored| stored.bytes).min(self.config.max_log_bytes as u64 / 2);
            snapshots.applied_bytes as u64 >= bytes.max(proportionate)
        });
        // A log that fills its memory comes to a stop: it must not get there, whatever the policy says of bytes.
        let by_memory = *policy != SnapshotPolicy::NEVER && self.log.bytes() >= self.config.max_log_bytes / 2;
        by_bytes || by_memory || policy.entries.is_some_and(|entries| news >= entries) || snapshots.needed || !snapshots.wanted.is_empty()
    }

    /// Writes the next frames, as far as storage and the rate allow.
    pub(super) fn go_on_taking(&mut self) {
        let snapshots = &mut self.snapshots;
        let Some(taking) = &mut snapshots.taking else { return };
        while taking.may_go_on(self.now, &self.config.snapshots) {
            if let Some(piece) = taking.sessions.pop_front() {
                snapshots.effects.push(taking.write(|writer| writer.sessions(&piece)));
            } else if taking.asked || taking.finished {
                return;
            } else {
                taking.asked = true;
                snapshots.effects.push(Effect::ReadState { max_bytes: self.config.snapshots.chunk_bytes });
            }
        }
    }

    /// A piece of the state has come.
    pub(crate) fn state_read(&mut self, piece: &[u8], last: bool) {
        let Some(taking) = self.snapshots.taking.as_mut().filter(|taking| taking.asked) else {
            return self.note(LogLevel::Debug, "a piece of the state has come that nobody waits for any more".to_owned());
        };
        taking.asked = false;
        if piece.len() > MAX_PAYLOAD {
            let id = taking.id;
            self.snapshots.effects.push(Effect::DiscardSnapshot { id });
            let reason = format!("the state machine gave a piece of {} bytes, and {MAX_PAYLOAD} is the most", piece.len());
            return self.snapshot_failed(id, &reason);
        }
        let effects = &mut self.snapshots.effects;
        effects.push(taking.write(|writer| writer.state(piece)));
        if last {
            taking.finished = true;
            effects.push(Effect::ReleaseState);
            effects.push(taking.write(FrameWriter::end));
            effects.push(Effect::FinishSnapshot { id: taking.id });
        }
    }

    /// Whether this is the one that was being taken. Then it takes the place of the log.
    pub(super) fn taken(&mut self, id: EntryId) -> bool {
        let Some(taking) = self.snapshots.taking.take_if(|taking| taking.id == id && taking.finished) else { return false };
        self.counters.snapshots_taken += 1;
        self.snapshots.applied_bytes = self.snapshots.applied_bytes.saturating_sub(taking.applied_bytes);
        self.snapshots.keep(Kept { id, bytes: taking.writer.offset(), point: taking.point }, self.config.snapshots.keep);
        self.done.extend(taking.wanted);
        self.compact();
        self.note(LogLevel::Debug, format!("snapshot {id} was taken: {} bytes", taking.writer.offset()));
        true
    }

    /// Ends what was begun, for good.
    pub(super) fn stop_taking(&mut self) {
        let Some(taking) = self.snapshots.taking.take() else { return };
        if !taking.finished {
            self.snapshots.effects.push(Effect::ReleaseState);
        }
        for token in taking.wanted {
            self.reject(token, Rejection::SnapshotFailed);
        }
    }

    /// Another snapshot comes in its place.
    pub(super) fn give_up_taking(&mut self) {
        if let Some(taking) = &self.snapshots.taking {
            self.snapshots.effects.push(Effect::DiscardSnapshot { id: taking.id });
        }
        self.stop_taking();
    }
}
