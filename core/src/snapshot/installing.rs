//! A snapshot takes the place of this node's state: at a restart, or from a leader.

use super::format::{Part, SnapshotError, SnapshotReader};
use super::{Kept, RETRY, StoredSnapshot, WINDOW};
use crate::io::{Effect, LogLevel};
use crate::message::{InstallProgress, InstallSnapshotRequest, InstallSnapshotResponse, Message, Session};
use crate::node::{JournalError, Node};
use crate::planted::Bug;
use crate::sealing::KeyVersion;
use crate::sessions::Sessions;
use crate::types::{EntryId, Instant, NodeId, Term};

/// A snapshot that a leader sends.
#[derive(Clone, Debug)]
pub(super) struct Receiving {
    from: NodeId,
    term: Term,
    session: Session,
    id: EntryId,
    check: SnapshotReader,
    /// Whether it is durable.
    stored: bool,
    heard_at: Instant,
}

/// The state is being replaced from a snapshot.
#[derive(Clone, Debug)]
pub(super) struct Restoring {
    reader: SnapshotReader,
    /// Whom to tell when that is done.
    sender: Option<(NodeId, Session)>,
    asked: bool,
}

impl Receiving {
    pub(super) fn id(&self) -> EntryId {
        self.id
    }

    pub(super) fn bytes(&self) -> u64 {
        self.check.bytes()
    }

    fn is_from(&self, from: NodeId, request: &InstallSnapshotRequest) -> bool {
        (self.from, self.term, self.session, self.id) == (from, request.term, request.session, request.snapshot)
    }
}

impl Restoring {
    fn new(reader: SnapshotReader, sender: Option<(NodeId, Session)>) -> Self {
        Self { reader, sender, asked: false }
    }

    pub(super) fn id(&self) -> Option<EntryId> {
        self.reader.metadata().map(|metadata| metadata.last)
    }

    /// Takes the next bytes: whether they were the last ones.
    fn feed(&mut self, bytes: &[u8], effects: &mut Vec<Effect>) -> Result<bool, SnapshotError> {
        self.reader.push(bytes);
        while let Some(part) = self.reader.next()? {
            match part {
                Part::State(piece) => effects.push(Effect::RestoreState { piece: piece.into() }),
                Part::End => effects.push(Effect::StateRestored),
            }
        }
        Ok(self.reader.is_complete())
    }
}

// At a restart.
impl Node {
    /// Takes back the next bytes of the newest snapshot, in any pieces. All of it has to come, before [`Node::recover`].
    ///
    /// # Errors
    /// It is damaged, or no snapshot. This node is of no further use; another one may try an earlier snapshot.
    pub fn restore(&mut self, bytes: &[u8], effects: &mut Vec<Effect>) -> Result<(), SnapshotError> {
        if self.snapshots.latest().is_some() || self.log.last() != EntryId::default() {
            return Err(SnapshotError::OutOfOrder);
        }
        let keys = self.snapshot_keys();
        let restoring = self.snapshots.restoring.get_or_insert_with(|| {
            effects.push(Effect::ClearState);
            Restoring::new(SnapshotReader::any(keys), None)
        });
        if !restoring.feed(bytes, effects)? {
            return Ok(());
        }
        let mut reader = std::mem::take(&mut restoring.reader);
        self.snapshots.restoring = None;
        let metadata = reader.metadata().expect("a complete snapshot has a header").clone();
        self.sessions = Sessions::from_image(reader.take_sessions()?)?;
        self.membership.begin_anew(metadata.membership);
        self.applied_term = metadata.last.term;
        self.snapshots.restored = metadata.last.index;
        self.snapshots.kept.push_back(Kept { id: metadata.last, bytes: reader.bytes(), point: metadata.chain });
        Ok(())
    }

    /// Names the other complete snapshots that storage has, in any order, once the newest one was restored: so many as are to be kept stay for the case that the
    /// newest is damaged. Those that are not older than it, or that the journal does not go back to, are of no use, and storage hears so.
    pub fn remember(&mut self, others: &[StoredSnapshot]) {
        let restored = self.snapshots.restored;
        let older =
            others.iter().filter(|other| other.id.index < restored).map(|&StoredSnapshot { id, bytes }| Kept { id, bytes, point: None });
        let mut all: Vec<_> = older.chain(self.snapshots.kept.drain(..)).collect();
        all.sort_unstable_by_key(|stored| (stored.id.index, stored.id.term));
        all.dedup_by_key(|stored| stored.id);
        all.drain(..all.len().saturating_sub(self.config.snapshots.keep));
        self.snapshots.kept = all.into();
    }

    /// Whether all of a snapshot has come that was begun.
    pub(crate) fn expect_whole_snapshot(&self) -> Result<(), JournalError> {
        match &self.snapshots.restoring {
            Some(restoring) => Err(SnapshotError::CutShort { got: restoring.reader.bytes() }.into()),
            None => Ok(()),
        }
    }

    /// Older snapshots come without their place in the chain: the journal leads through it.
    fn find_points(&mut self) {
        let Self { snapshots, log, .. } = self;
        for kept in snapshots.kept.iter_mut().filter(|kept| kept.point.is_none()) {
            kept.point = log.point_at(kept.id.index);
        }
    }

    /// Fits the journal to the snapshot, once both were given back.
    pub(crate) fn join_snapshot_and_journal(&mut self) -> Result<(), JournalError> {
        self.expect_whole_snapshot()?;
        let base = self.log.base().index;
        let held = self.snapshots.latest_index();
        if base > held {
            let snapshot = if held.is_none() { "no snapshot".to_owned() } else { format!("a snapshot up to entry {held}") };
            let expected = format!("a snapshot up to entry {base} at least");
            return Err(JournalError::Gap { got: format!("{snapshot} and a journal from entry {}", base.next()), expected });
        }
        let Some(Kept { id, point, .. }) = self.snapshots.latest() else { return Ok(()) };
        if !self.log.install(id, point)? {
            // A leader's snapshot: the journal was yet to hear of it.
            self.membership.truncate_from(id.index.next());
            self.outbox.begin_at(id, point);
        }
        let base = self.log.base().index;
        self.outbox.begins_behind(base);
        self.forget_unconnected(base);
        self.find_points();
        self.compact();
        if !self.log.is_anchored() {
            self.log.compact_to(self.log.base().index.next());
        }
        if id.term > self.persistent.current_term {
            self.persistent.current_term = id.term;
            self.persistent.voted_for = NodeId::NONE;
            self.outbox.hard_state_changed();
        }
        Ok(())
    }
}

// From a leader.
impl Node {
    /// InstallSnapshot, receiver implementation (Raft paper, figure 13).
    pub(crate) fn on_install_snapshot_request(&mut self, from: NodeId, request: &InstallSnapshotRequest) {
        if !self.accept_leader(from) {
            return;
        }
        let id = request.snapshot;
        if id.index <= self.log.commit_index() && !self.config.has_bug(Bug::LateSnapshotCounts) {
            return self.answer_late_snapshot(from, request);
        }
        if self.snapshots.is_restoring() || self.now < self.snapshots.not_before {
            return; // the leader asks again
        }
        let goes_on = self.snapshots.receiving.as_ref().is_some_and(|receiving| receiving.is_from(from, request));
        if !goes_on {
            self.begin_receiving(from, request);
        }
        self.receive_part(from, request);
    }

    /// This node has all that the snapshot holds, and may have it by another name only if two logs have diverged.
    fn answer_late_snapshot(&mut self, from: NodeId, request: &InstallSnapshotRequest) {
        let id = request.snapshot;
        match self.log.term_at(id.index) {
            Some(term) if term != id.term => {
                let own = EntryId { term, ..id };
                let what = format!("a snapshot from node {from} would replace the committed entry {own} by {id}");
                self.complain(from, LogLevel::Error, &format!("{what}: two logs have diverged, and no data of either may be dropped"));
            }
            _ => self.answer_part(from, request.session, id, InstallProgress::Installed),
        }
    }

    fn begin_receiving(&mut self, from: NodeId, request: &InstallSnapshotRequest) {
        self.give_up_taking();
        if let Some(earlier) = self.snapshots.receiving.take() {
            self.snapshots.effects.push(Effect::DiscardSnapshot { id: earlier.id });
        }
        let id = request.snapshot;
        let keys = self.snapshot_keys();
        self.note(LogLevel::Info, format!("receives snapshot {id} from node {from}"));
        self.snapshots.receiving = Some(Receiving {
            from,
            term: request.term,
            session: request.session,
            id,
            check: SnapshotReader::of(id, keys),
            stored: false,
            heard_at: self.now,
        });
    }

    /// Takes a part if it is the next one; otherwise the leader hears what is.
    fn receive_part(&mut self, from: NodeId, request: &InstallSnapshotRequest) {
        let now = self.now;
        let Some(receiving) = &mut self.snapshots.receiving else { return };
        receiving.heard_at = now;
        let id = receiving.id;
        let end = receiving.check.bytes();
        if request.offset != end || receiving.check.is_complete() || request.data.is_empty() {
            return self.answer_part(from, request.session, id, InstallProgress::Received { end });
        }
        receiving.check.push(&request.data);
        let in_use = self.log.point_at(self.log.commit_index()).map_or(KeyVersion::NONE, |point| point.version);
        if let Err(error) = check_part(&mut receiving.check, request.done, in_use) {
            return self.refuse_part(from, request, &error);
        }
        let complete = receiving.check.is_complete();
        self.snapshots.effects.push(Effect::WriteSnapshot { id, offset: request.offset, bytes: request.data.to_vec() });
        if complete {
            self.snapshots.effects.push(Effect::FinishSnapshot { id });
        }
    }

    /// What was damaged on its way is received anew at once. What needs another key would come again and again: it has to wait.
    fn refuse_part(&mut self, from: NodeId, request: &InstallSnapshotRequest, error: &SnapshotError) {
        let id = request.snapshot;
        self.snapshots.receiving = None;
        self.snapshots.effects.push(Effect::DiscardSnapshot { id });
        if let SnapshotError::MissingKey(missing) = error {
            self.lack_key(from, missing);
        } else {
            self.complain(from, LogLevel::Warn, &format!("snapshot {id} from node {from} is received anew: {error}"));
        }
        if matches!(error, SnapshotError::MissingKey(_) | SnapshotError::Tampered(_) | SnapshotError::KeyVersion { .. }) {
            self.snapshots.not_before = self.now + RETRY;
        }
        self.answer_part(from, request.session, id, InstallProgress::Received { end: 0 });
    }

    /// A part is written: the leader may send more.
    pub(super) fn part_written(&mut self, id: EntryId, end: u64) {
        let Some(receiving) = self.snapshots.receiving.as_ref().filter(|receiving| receiving.id == id) else { return };
        let (from, session) = (receiving.from, receiving.session);
        self.answer_part(from, session, id, InstallProgress::Received { end });
    }

    /// Whether this is the one that was being received.
    pub(super) fn received(&mut self, id: EntryId) -> bool {
        let Some(receiving) = self.snapshots.receiving.as_mut().filter(|it| it.id == id && it.check.is_complete()) else { return false };
        receiving.stored = true;
        true
    }

    /// A leader that has gone away sends no more.
    pub(super) fn forget_stale_receiving(&mut self) {
        let patience = self.config.election_timeout_max * 20;
        let now = self.now;
        if let Some(stale) = self.snapshots.receiving.take_if(|it| !it.check.is_complete() && now.since(it.heard_at) > patience) {
            self.snapshots.effects.push(Effect::DiscardSnapshot { id: stale.id });
        }
    }

    /// Replaces the state by a snapshot that has come and is durable, unless the log has overtaken it. Sessions wait for results until then.
    pub(super) fn begin_restoring(&mut self) {
        if self.sessions.waits_for_results() {
            return;
        }
        let Some(receiving) = self.snapshots.receiving.take_if(|receiving| receiving.stored) else { return };
        let id = receiving.id;
        let point = receiving.check.metadata().and_then(|metadata| metadata.chain);
        if self.log.contains(id) && self.log.point_at(id.index) != point {
            return self.diverge(format!("snapshot {id} and the log are not of one log, and both were written with the cluster's key"));
        }
        self.snapshots.keep(Kept { id, bytes: receiving.check.bytes(), point }, self.config.snapshots.keep);
        if id.index <= self.log.commit_index() && !self.config.has_bug(Bug::LateSnapshotCounts) {
            self.compact();
            return self.answer_part(receiving.from, receiving.session, id, InstallProgress::Installed);
        }
        let sender = Some((receiving.from, receiving.session));
        self.snapshots.effects.push(Effect::ClearState);
        self.snapshots.restoring = Some(Restoring::new(SnapshotReader::of(id, self.snapshot_keys()), sender));
        self.read_on();
    }

    fn read_on(&mut self) {
        let Some(restoring) = &mut self.snapshots.restoring else { return };
        let Some(id) = self.snapshots.kept.back().map(|stored| stored.id) else { return };
        restoring.asked = true;
        let max_bytes = self.config.snapshots.chunk_bytes * usize::try_from(WINDOW).unwrap_or(1);
        let (reader, offset) = (self.config.id, restoring.reader.bytes());
        self.snapshots.effects.push(Effect::ReadSnapshot { id, reader, offset, max_bytes });
    }

    /// A part of the snapshot that replaces the state was read.
    pub(super) fn own_part_read(&mut self, id: EntryId, offset: u64, bytes: &[u8]) {
        let Some(restoring) = &mut self.snapshots.restoring else { return };
        if !std::mem::take(&mut restoring.asked) || offset != restoring.reader.bytes() {
            return;
        }
        let fed = if bytes.is_empty() {
            Err(SnapshotError::CutShort { got: offset })
        } else {
            restoring.feed(bytes, &mut self.snapshots.effects)
        };
        match fed {
            Ok(false) => self.read_on(),
            Ok(true) => self.installed(id),
            Err(error) => self.lose_state(id, &error),
        }
    }

    fn lose_state(&mut self, id: EntryId, error: &SnapshotError) {
        let reason = format!("snapshot {id} was checked and stored, and can't be read back: {error}");
        self.snapshots.effects.push(Effect::StateLost { reason });
    }

    /// The state is that of the snapshot: now the log, the sessions and the members follow.
    fn installed(&mut self, id: EntryId) {
        let Some(mut restoring) = self.snapshots.restoring.take() else { return };
        let sessions = restoring.reader.take_sessions().and_then(|image| Ok(Sessions::from_image(image)?));
        let (sessions, metadata) = match (sessions, restoring.reader.metadata()) {
            (Ok(sessions), Some(metadata)) => (sessions, metadata.clone()),
            (Err(error), _) => return self.lose_state(id, &error),
            (Ok(_), None) => return,
        };
        self.sessions = sessions;
        self.applied_term = self.applied_term.max(id.term);
        self.proposals.lose_track(id.term, self.leader(), &mut self.rejected);
        if self.log.term_at(id.index).is_some_and(|term| term != id.term) && id.index <= self.log.commit_index() {
            let reason = format!("snapshot {id} and the log have diverged: no data of either may be dropped");
            return self.snapshots.effects.push(Effect::StateLost { reason });
        }
        let stays = match self.log.install(id, metadata.chain) {
            Ok(stays) => stays,
            Err(error) => return self.diverge(format!("snapshot {id} and the log are not of one log: {error}")),
        };
        if !stays {
            if !self.config.has_bug(Bug::MembersNotInSnapshot) {
                self.membership.begin_anew(metadata.membership.clone());
            }
            self.members_changed();
            self.update_progress();
            self.outbox.begin_at(id, metadata.chain);
        }
        self.snapshots.applied_bytes = 0;
        self.compact();
        self.counters.snapshots_installed += 1;
        self.note(LogLevel::Info, format!("installed snapshot {id}"));
        if let Some((from, session)) = restoring.sender {
            self.answer_part(from, session, id, InstallProgress::Installed);
        }
    }

    /// Answers the leader, once all that this speaks for is durable.
    fn answer_part(&mut self, from: NodeId, session: Session, snapshot: EntryId, progress: InstallProgress) {
        let term = self.persistent.current_term;
        let response = InstallSnapshotResponse { term, session, snapshot, progress };
        self.outbox.send_when_durable(from, Message::InstallSnapshotResponse(response));
    }
}

/// Takes what a part has brought. Its key is the one that this node's log is sealed with, or a later one: whoever has an earlier key could replace the state otherwise.
fn check_part(check: &mut SnapshotReader, done: bool, in_use: KeyVersion) -> Result<(), SnapshotError> {
    while check.next()?.is_some() {}
    if let Some(point) = check.metadata().and_then(|metadata| metadata.chain)
        && point.version < in_use
    {
        return Err(SnapshotError::KeyVersion { got: point.version, expected: in_use });
    }
    if done && !check.is_complete() { Err(SnapshotError::CutShort { got: check.bytes() }) } else { Ok(()) }
}
