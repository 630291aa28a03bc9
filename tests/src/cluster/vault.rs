//! Where a node's snapshots are kept, and what its storage and its state machine have yet to answer.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use amaters_cluster_core::{
    Committed, Config, Effect, EntryId, Input, LogIndex, Node, NodeId, Payload, SnapshotError, StoredSnapshot, Term, Token,
};

use super::Cluster;

/// The snapshots of one node.
///
/// A snapshot is complete once its answer has been given. A crash before that leaves it complete or leaves nothing of it.
#[derive(Debug, Default)]
pub struct Vault {
    complete: BTreeMap<EntryId, Vec<u8>>,
    /// Of these, the ones that a bit has flipped in.
    damaged: BTreeSet<EntryId>,
    partial: Option<(EntryId, Vec<u8>)>,
    finished: Option<(EntryId, Vec<u8>)>,
    answers: VecDeque<Input>,
    /// What is left of the captured state.
    captured: Option<VecDeque<Committed>>,
    /// Whether the state is being replaced.
    pub(super) restoring: bool,
}

impl Vault {
    /// The newest complete snapshot.
    #[must_use]
    pub fn newest(&self) -> Option<(EntryId, &[u8])> {
        self.complete.last_key_value().map(|(id, bytes)| (*id, bytes.as_slice()))
    }

    /// All complete snapshots, the oldest first.
    #[must_use]
    pub fn stored(&self) -> Vec<StoredSnapshot> {
        self.complete.iter().map(|(id, bytes)| StoredSnapshot { id: *id, bytes: bytes.len() as u64 }).collect()
    }

    /// Whether something is still to be answered.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        !self.answers.is_empty()
    }

    /// A complete snapshot is gone.
    pub fn lose(&mut self, id: EntryId) {
        self.complete.remove(&id);
    }

    /// All complete snapshots are gone.
    pub fn lose_all(&mut self) {
        self.complete.clear();
    }

    /// A bit of a complete snapshot flips.
    ///
    /// # Panics
    /// If there is no such bit.
    pub fn flip(&mut self, id: EntryId, bit: usize) {
        let bytes = self.complete.get_mut(&id).expect("there is such a snapshot");
        bytes[bit / 8] ^= 1 << (bit % 8);
        self.damaged.insert(id);
    }

    /// A node that has the newest snapshot that makes sense, and knows of those before it. Damaged ones are put aside.
    ///
    /// # Errors
    /// The newest can't be read for want of a key.
    pub(super) fn restore(&mut self, config: &Config) -> Result<(Node, Vec<Effect>), SnapshotError> {
        loop {
            let mut node = Node::new(config.clone()).expect("the configuration is valid");
            let mut effects = Vec::new();
            let Some((newest, bytes)) = self.newest() else { return Ok((node, effects)) };
            let read = bytes.chunks(1000).try_for_each(|piece| node.restore(piece, &mut effects));
            // One that is damaged may also look as if more of it were to come.
            if read.is_ok() && effects.iter().any(|effect| matches!(effect, Effect::StateRestored)) {
                node.remember(&self.stored());
                return Ok((node, effects));
            }
            if let Err(missing @ SnapshotError::MissingKey(_)) = read {
                return Err(missing);
            }
            assert!(self.damaged.contains(&newest), "node {} can't read its own snapshot {newest}: {read:?}", config.id);
            self.lose(newest);
        }
    }

    pub(super) fn capture(&mut self, machine: &[Committed]) {
        assert!(self.captured.is_none(), "one state is captured at a time");
        self.captured = Some(machine.iter().cloned().collect());
    }

    pub(super) fn release(&mut self) {
        assert!(self.captured.take().is_some(), "a state that was captured is released, once");
    }

    pub(super) fn read_state(&mut self, max_bytes: usize) {
        let rest = self.captured.as_mut().expect("a state was captured");
        let mut piece = Vec::new();
        while piece.len() < max_bytes
            && let Some(command) = rest.pop_front()
        {
            encode(&command, &mut piece);
        }
        let last = rest.is_empty();
        self.answers.push_back(Input::StateRead { piece: piece.into(), last });
    }

    pub(super) fn write(&mut self, id: EntryId, offset: u64, bytes: &[u8]) {
        if offset == 0 {
            self.partial = Some((id, Vec::new()));
        }
        // What could not be written is gone, and the node is yet to hear of it.
        let Some((_, written)) = self.partial.as_mut().filter(|(partial, _)| *partial == id) else { return };
        assert_eq!(written.len() as u64, offset, "parts of snapshot {id} come in their order");
        written.extend_from_slice(bytes);
        let end = written.len() as u64;
        self.answers.push_back(Input::SnapshotWritten { id, end });
    }

    pub(super) fn finish(&mut self, id: EntryId) {
        if let Some(whole) = self.partial.take_if(|(partial, _)| *partial == id) {
            self.finished = Some(whole);
            self.answers.push_back(Input::SnapshotStored { id });
        }
    }

    pub(super) fn discard(&mut self, id: EntryId) {
        self.partial.take_if(|(partial, _)| *partial == id);
        self.finished.take_if(|(finished, _)| *finished == id);
    }

    pub(super) fn retain(&mut self, ids: &[EntryId]) {
        let missing = ids.iter().find(|id| !self.complete.contains_key(id));
        assert_eq!(missing, None, "a snapshot that is to be retained is complete");
        self.complete.retain(|id, _| ids.contains(id));
    }

    pub(super) fn read(&mut self, id: EntryId, reader: NodeId, offset: u64, max_bytes: usize) {
        let whole = self.complete.get(&id).map(Vec::as_slice).unwrap_or_default();
        let from = usize::try_from(offset).expect("it fits into memory").min(whole.len());
        let bytes = whole[from..whole.len().min(from + max_bytes)].to_vec();
        self.answers.push_back(Input::SnapshotRead { id, reader, offset, bytes });
    }

    /// There is no room: the next answer to a write is that it has failed.
    pub fn fail_next_write(&mut self) -> bool {
        let failing = self.answers.iter_mut().find_map(|answer| match answer {
            Input::SnapshotWritten { id, .. } => {
                let id = *id;
                *answer = Input::SnapshotFailed { id, reason: "there is no room".to_owned() };
                Some(id)
            }
            _ => None,
        });
        if let Some(id) = failing {
            self.answers.retain(|answer| !matches!(answer, Input::SnapshotWritten { id: written, .. } | Input::SnapshotStored { id: written } if *written == id));
            self.discard(id);
        }
        failing.is_some()
    }

    pub(super) fn crash(&mut self, keeps_what_is_under_way: bool) {
        self.answers.clear();
        (self.partial, self.captured, self.restoring) = (None, None, false);
        if let Some((id, bytes)) = self.finished.take().filter(|_| keeps_what_is_under_way) {
            self.complete.insert(id, bytes);
        }
    }

    fn next_answer(&mut self) -> Option<Input> {
        let answer = self.answers.pop_front()?;
        if let Input::SnapshotStored { id } = answer {
            let (_, bytes) = self.finished.take_if(|(finished, _)| *finished == id)?;
            self.complete.insert(id, bytes);
        }
        Some(answer)
    }
}

impl Cluster {
    /// Asks a node for a snapshot.
    pub fn take_snapshot(&mut self, id: NodeId) -> Token {
        let token = self.next_token();
        self.input(id, Input::TakeSnapshot { token });
        token
    }

    /// Gives a node the next answer of its storage or state machine. Whether there was one.
    pub fn answer(&mut self, id: NodeId) -> bool {
        let busy = self.member(id).vault.is_busy();
        if let Some(input) = self.member_mut(id).vault.next_answer() {
            self.input(id, input);
        }
        busy
    }
}

fn encode(command: &Committed, piece: &mut Vec<u8>) {
    piece.extend_from_slice(&command.index.0.to_le_bytes());
    piece.extend_from_slice(&command.term.0.to_le_bytes());
    piece.push(command.result_wanted.into());
    piece.extend_from_slice(&u32::try_from(command.command.len()).expect("commands are small").to_le_bytes());
    piece.extend_from_slice(&command.command);
}

pub(super) fn decode(mut piece: &[u8]) -> Vec<Committed> {
    let mut commands = Vec::new();
    let mut take = |count: usize| {
        let (taken, rest) = piece.split_at(count);
        piece = rest;
        (taken.to_vec(), rest.is_empty())
    };
    let number = |bytes: Vec<u8>| bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let mut over = take(0).1;
    while !over {
        let (index, term) = (LogIndex(number(take(8).0)), Term(number(take(8).0)));
        let result_wanted = take(1).0 == [1];
        let length = usize::try_from(number(take(4).0)).expect("commands are small");
        let (command, last) = take(length);
        commands.push(Committed { index, term, token: None, command: Payload::from(command), result_wanted });
        over = last;
    }
    commands
}
