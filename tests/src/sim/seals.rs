//! What only sealed clusters have to keep, checked against all that reaches a disk or leaves a node: no key and nonce seals two different things, and no byte of a command
//! can be read.
//!
//! A proposal on its way to the leader is plain, and so is what clients hear: neither is part of the log.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use amaters_cluster_core::message::{Envelope, Message};
use amaters_cluster_core::sealing::{Boot, LogName};
use amaters_cluster_core::{EncryptedPayload, EntryEncryptor, EntryId, EntryKind, GroupId, KeyVersion, LogEntry, NodeId, Operation, wire};

use super::Check;
use super::command::PLAIN;
use crate::cluster::{Event, encryption, ring_of};

/// All that was ever sealed, by the key and nonce that sealed it: a fingerprint of it.
#[derive(Default)]
pub(super) struct Seals {
    payloads: HashMap<(KeyVersion, NodeId, Boot, u64), u64>,
    /// By the header of a snapshot's seal, and the number of the frame.
    frames: HashMap<(Vec<u8>, u32), u64>,
    streams: HashMap<Stream, Reading>,
}

/// The bytes of a snapshot on their way: from a node, to a node, or to its own disk.
type Stream = (NodeId, NodeId, EntryId);

/// How far a snapshot's bytes have come.
#[derive(Default)]
struct Reading {
    end: u64,
    /// Bytes of a frame that is not whole yet.
    rest: Vec<u8>,
    /// The header of the seal, from the first frame.
    seal: Option<Vec<u8>>,
}

impl Seals {
    /// A node has done something.
    pub(super) fn check(&mut self, event: &Event) -> Check {
        match event {
            Event::Submitted(id, _, operations) => operations.iter().try_for_each(|operation| self.check_operation(*id, operation)),
            Event::Sent(envelope) => self.check_envelope(envelope),
            Event::WroteSnapshot(id, snapshot, offset, bytes) => {
                expect_unreadable(bytes, || format!("node {id} writes it into snapshot {snapshot}"))?;
                self.follow((*id, *id, *snapshot), *offset, bytes)
            }
            _ => Ok(()),
        }
    }

    fn check_operation(&mut self, id: NodeId, operation: &Operation) -> Check {
        let bytes = match operation {
            Operation::HardState(bytes) | Operation::Append { entries: bytes, .. } | Operation::Compact { base: bytes, .. } => bytes,
        };
        expect_unreadable(bytes, || format!("node {id} writes it into its journal"))?;
        let Operation::Append { first, count, entries } = operation else { return Ok(()) };
        let (entries, _) = wire::decode_entries(*first, *count, entries).expect("a node writes what it can read");
        entries.iter().try_for_each(|entry| self.note_entry(entry))
    }

    fn check_envelope(&mut self, envelope: &Envelope) -> Check {
        let Envelope { from, to, message, .. } = envelope;
        if matches!(message, Message::ForwardRequest(_)) {
            return Ok(());
        }
        expect_unreadable(&wire::encode_envelope(envelope), || format!("node {from} sends it to node {to}"))?;
        match message {
            Message::AppendEntriesRequest(request) => request.entries.iter().try_for_each(|entry| self.note_entry(entry)),
            Message::InstallSnapshotRequest(part) => self.follow((*from, *to, part.snapshot), part.offset, &part.data),
            _ => Ok(()),
        }
    }

    fn note_entry(&mut self, entry: &LogEntry) -> Check {
        let Some(payload) = entry.payload() else { return Ok(()) };
        let sealed = EncryptedPayload::parse(payload.clone()).map_err(|error| format!("entry {} is not sealed: {error}", entry.id))?;
        let header = sealed.header();
        let known = self.payloads.entry((header.version, header.node, header.boot, header.counter));
        let fingerprint = fingerprint(entry.id, payload);
        if *known.or_insert(fingerprint) == fingerprint {
            return Ok(());
        }
        Err(format!("a key and nonce seal two payloads, one of them that of entry {}: {header:?}", entry.id))
    }

    /// Takes a snapshot's frames apart as its bytes come. What comes again is known, and what leaves a gap is not waited for.
    fn follow(&mut self, stream: Stream, offset: u64, bytes: &[u8]) -> Check {
        let reading = self.streams.entry(stream).or_default();
        if offset == 0 {
            *reading = Reading::default();
        }
        if offset != reading.end {
            return Ok(());
        }
        reading.end += bytes.len() as u64;
        reading.rest.extend_from_slice(bytes);
        while let Some(payload) = next_frame(&mut reading.rest) {
            let Some(seal) = &reading.seal else {
                reading.seal = Some(seal_of(&payload).ok_or_else(|| format!("snapshot {} is not sealed", stream.2))?);
                continue;
            };
            let number = payload.get(2..6).and_then(|bytes| bytes.first_chunk()).map(|bytes| u32::from_be_bytes(*bytes));
            let number = number.ok_or_else(|| format!("snapshot {} has a frame that is not sealed", stream.2))?;
            let fingerprint = fingerprint(stream.2, &payload);
            if *self.frames.entry((seal.clone(), number)).or_insert(fingerprint) != fingerprint {
                return Err(format!("a key and nonce seal two frames {number}, one of them of snapshot {}", stream.2));
            }
        }
        Ok(())
    }
}

/// The payload of the frame that these bytes begin with, once all of it is there: behind its length and kind, and before its checksum.
fn next_frame(bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    const BEFORE: usize = 5;
    const AFTER: usize = 4;
    let length = usize::try_from(u32::from_le_bytes(*bytes.first_chunk()?)).ok()?;
    if bytes.len() < BEFORE + length + AFTER {
        return None;
    }
    let payload = bytes[BEFORE..BEFORE + length].to_vec();
    bytes.drain(..BEFORE + length + AFTER);
    Some(payload)
}

/// The header of a snapshot's seal, from its first frame: behind a version and the last entry's term and index, and its own length.
fn seal_of(payload: &[u8]) -> Option<Vec<u8>> {
    let mut rest = payload.strip_prefix(&[2])?;
    for _ in 0..2 {
        let length = rest.iter().position(|byte| *byte < 0x80)? + 1;
        rest = &rest[length..];
    }
    let (length, seal) = rest.split_first()?;
    (seal.len() == usize::from(*length) && seal.first() == Some(&2)).then(|| seal.to_vec())
}

fn fingerprint(id: EntryId, bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    (id, bytes).hash(&mut hasher);
    hasher.finish()
}

fn expect_unreadable(bytes: &[u8], what: impl Fn() -> String) -> Check {
    if bytes.windows(PLAIN.len()).any(|part| part == PLAIN) { Err(format!("a command can be read: {}", what())) } else { Ok(()) }
}

/// Opens what nodes have sealed, with every key that there ever was: what an entry says, whoever sealed it and when.
pub(super) struct Opener(EntryEncryptor);

impl Opener {
    pub(super) fn new() -> Self {
        let log = LogName::new(encryption().cluster, GroupId(0)).expect("a short name");
        let keys = ring_of(1..=super::keys::MOST_VERSIONS);
        Self(EntryEncryptor::new(log, NodeId(1), Boot([1; 16]), keys).expect("it seals nothing, so that any boot will do"))
    }

    /// An entry with the command that was sealed into it.
    pub(super) fn open(&mut self, entry: &LogEntry) -> Result<LogEntry, String> {
        let mut opened = entry.clone();
        if let EntryKind::Command { payload, .. } | EntryKind::SessionCommand { payload, .. } = &mut opened.kind {
            let sealed = EncryptedPayload::parse(payload.clone()).and_then(|sealed| self.0.open(entry.id, &sealed));
            *payload = sealed.map_err(|error| format!("the committed entry {} can't be opened: {error}", entry.id))?;
        }
        Ok(opened)
    }
}
