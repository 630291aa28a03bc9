//! A leader brings a peer the snapshot in place of what its log no longer has (Raft paper, §7).

use std::time::Duration;

use super::format::SnapshotReader;
use super::{Kept, SnapshotConfig, WINDOW, within_rate};
use crate::encryption::Sealing;
use crate::io::{Effect, LogLevel};
use crate::message::{InstallProgress, InstallSnapshotRequest, InstallSnapshotResponse, Message};
use crate::node::Node;
use crate::planted::Bug;
use crate::role::Role;
use crate::sealing::SnapshotKeys;
use crate::types::{EntryId, Instant, NodeId};

/// A snapshot on its way to a peer.
#[derive(Clone, Debug)]
pub(crate) struct Sending {
    id: EntryId,
    /// What the peer has.
    acknowledged: u64,
    /// What has left.
    sent: u64,
    /// Whether the next part is being read.
    reading: bool,
    /// When the peer's part last grew.
    since: Instant,
    began: Instant,
    /// Bytes that have left, again or not.
    traffic: u64,
    /// Reads along: what was damaged on this node's disk is not sent for ever.
    check: SnapshotReader,
}

impl Sending {
    pub(crate) fn new(id: EntryId, keys: Option<SnapshotKeys>, now: Instant) -> Self {
        let check = SnapshotReader::of(id, keys);
        Self { id, acknowledged: 0, sent: 0, reading: false, since: now, began: now, traffic: 0, check }
    }

    pub(crate) fn id(&self) -> EntryId {
        self.id
    }

    /// Where the next part is to be read, if one is due. Parts without an answer for `retry` are sent again.
    fn next_read(&mut self, now: Instant, config: &SnapshotConfig, retry: Duration) -> Option<u64> {
        if self.sent > self.acknowledged && now.since(self.since) >= retry {
            self.sent = self.acknowledged;
            self.since = now;
        }
        if self.is_all_acknowledged() && now.since(self.since) >= retry * 10 {
            // The last answer may be lost: the last part makes the peer give it again.
            self.sent = self.sent.saturating_sub(config.chunk_bytes as u64);
            self.acknowledged = self.sent;
            self.since = now;
        }
        let all_sent = self.check.is_complete() && self.sent == self.check.bytes();
        let due = !self.reading
            && !all_sent
            && self.sent - self.acknowledged < WINDOW * config.chunk_bytes as u64
            && within_rate(self.traffic, config.max_bytes_per_second, now.since(self.began));
        self.reading |= due;
        due.then_some(self.sent)
    }

    fn is_all_acknowledged(&self) -> bool {
        self.check.is_complete() && self.acknowledged == self.check.bytes()
    }

    /// Takes a part that was read: whether all of the snapshot has been seen, once it makes sense.
    fn read(&mut self, bytes: &[u8]) -> Result<bool, String> {
        let end = self.sent + bytes.len() as u64;
        if self.sent <= self.check.bytes() && end > self.check.bytes() {
            let seen = usize::try_from(self.check.bytes() - self.sent).expect("it is less than a part");
            self.check.push(&bytes[seen..]);
            while self.check.next().map_err(|error| error.to_string())?.is_some() {}
        } else if bytes.is_empty() {
            return Err(format!("it ends after {} bytes", self.sent));
        }
        self.sent = end;
        self.traffic += bytes.len() as u64;
        Ok(self.check.is_complete() && end == self.check.bytes())
    }

    #[cfg(feature = "model-checking")]
    pub(crate) fn shift(&mut self, shift: crate::canonical::Shift) {
        [&mut self.since, &mut self.began].into_iter().for_each(|time| shift.apply(time));
    }
}

impl Node {
    /// Begins to bring peers the snapshot that they need, and goes on with it.
    pub(super) fn send_snapshots(&mut self) {
        let Self { role: Role::Leader(leader), log, snapshots, config, sealing, .. } = self else { return };
        let latest = snapshots.latest();
        for (&peer, progress) in &mut leader.peers {
            if self.now.since(progress.heard_at) >= config.election_timeout_max {
                continue; // it would be lost
            }
            if progress.needs_snapshot(log.base().index) && !config.has_bug(Bug::CompactedSendsNothing) {
                match latest {
                    Some(Kept { id, .. }) if id.index >= log.base().index => {
                        progress.begin_snapshot(id, sealing.as_ref().map(Sealing::snapshot_keys), self.now);
                    }
                    _ => snapshots.needed = true,
                }
            }
            if let Some(sending) = progress.sending()
                && let Some(offset) = sending.next_read(self.now, &config.snapshots, config.election_timeout_max)
            {
                let (id, max_bytes) = (sending.id, config.snapshots.chunk_bytes);
                snapshots.effects.push(Effect::ReadSnapshot { id, reader: peer, offset, max_bytes });
            }
        }
    }

    /// A part of a snapshot was read, for a peer or for this node itself.
    pub(crate) fn snapshot_read(&mut self, id: EntryId, reader: NodeId, offset: u64, bytes: Vec<u8>) {
        if reader == self.config.id {
            return self.own_part_read(id, offset, &bytes);
        }
        let term = self.persistent.current_term;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&reader) else { return };
        let session = progress.session;
        let Some(sending) = progress.sending().filter(|sending| sending.id == id && sending.reading) else { return };
        sending.reading = false;
        if sending.sent != offset {
            return; // the peer has begun anew meanwhile
        }
        match sending.read(&bytes) {
            Ok(done) => {
                let request = InstallSnapshotRequest { term, session, snapshot: id, offset, data: bytes.into(), done };
                self.mail.send_bulk(reader, Message::InstallSnapshotRequest(request));
            }
            Err(reason) => {
                progress.snapshot_failed();
                self.distrust(id, &reason);
            }
        }
    }

    /// A snapshot that was durable can't be read: it helps nobody. Another one is taken.
    fn distrust(&mut self, id: EntryId, reason: &str) {
        self.snapshots.kept.retain(|stored| stored.id != id);
        self.snapshots.needed = true;
        self.note(LogLevel::Error, format!("snapshot {id} can't be used any more, and another one is taken: {reason}"));
    }

    /// A peer's answer to a part.
    pub(crate) fn on_install_snapshot_response(&mut self, from: NodeId, response: &InstallSnapshotResponse) {
        let now = self.now;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.peers.get_mut(&from).filter(|progress| progress.session == response.session) else { return };
        progress.heard_at = now;
        let Some(sending) = progress.sending().filter(|sending| sending.id == response.snapshot) else { return };
        match response.progress {
            // Of an earlier try: this one begins at the start, or the peer says where.
            InstallProgress::Received { end } if end > sending.sent.max(sending.check.bytes()) => {}
            InstallProgress::Received { end } => {
                if end > sending.acknowledged || sending.sent == end {
                    sending.since = now;
                }
                if end == 0 && sending.sent > 0 {
                    // It begins anew: it may have found damage that this node's disk has done since these bytes were checked.
                    let (traffic, keys) = (sending.traffic, self.sealing.as_ref().map(Sealing::snapshot_keys));
                    *sending = Sending { traffic, began: sending.began, ..Sending::new(response.snapshot, keys, now) };
                } else if end < sending.acknowledged {
                    sending.sent = end;
                }
                sending.acknowledged = end;
                sending.sent = sending.sent.max(end);
            }
            InstallProgress::Installed if self.config.has_bug(Bug::InstalledMovesNothing) => {}
            InstallProgress::Installed => {
                let last = self.log.last().index;
                progress.snapshot_installed(now, response.snapshot.index);
                progress.catch_up.reached(progress.match_index, last, now, self.config.election_timeout_min);
                self.counters.snapshots_sent += 1;
            }
        }
    }

    /// Those that are being sent: they have to stay until that is over.
    pub(super) fn sent_snapshots(&mut self) -> Vec<EntryId> {
        let Role::Leader(leader) = &mut self.role else { return Vec::new() };
        leader.peers.values_mut().filter_map(|progress| progress.sending().map(|sending| sending.id())).collect()
    }
}
