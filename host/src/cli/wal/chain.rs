//! Proving a sealed log offline: from its newest snapshot to its last entry, as the node itself does at its start.

use std::path::Path;
use std::str::FromStr;

use amaters_cluster_core::sealing::{EncryptedPayload, SealingError};
use amaters_cluster_core::{
    ChainError, ChainPoint, EntryEncryptor, EntryId, Instant, JournalError, LogEntry, LogIndex, Node, Operation, SnapshotError, wire,
};
use anyhow::{Context as _, Result, anyhow, ensure};

use crate::admin::encryption::hex;
use crate::cli::Advice;
use crate::cli::opener::Opener;
use crate::data_dir::Identity;
use crate::snapshots::{StoredSnapshot, list_files, read_file};
use crate::wal::{WalError, WalReader};

/// How much of a snapshot is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// A link of the chain that was noted elsewhere, as `/status` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpectedHead {
    index: LogIndex,
    link: String,
}

impl FromStr for ExpectedHead {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected =
            || "expected INDEX:LINK, an entry's index and 64 hexadecimal digits, as `encryption.head` of /status has them".to_owned();
        let (index, link) = text.split_once(':').ok_or_else(expected)?;
        let index = index.parse().map_err(|_| expected())?;
        let is_link = link.len() == 64 && link.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_link { Ok(Self { index: LogIndex(index), link: link.to_ascii_lowercase() }) } else { Err(expected()) }
    }
}

/// Why a log is not what was written.
#[derive(Debug, thiserror::Error)]
enum Flawed {
    #[error("the journal can't be read")]
    Journal(#[from] WalError),
    #[error("{0}")]
    Entry(String),
    #[error(transparent)]
    Recovery(#[from] JournalError),
}

/// Checks the chain of a node's log, and gives what it has found in words.
///
/// # Errors
/// A link, a payload or a snapshot is not what the holders of the keys have written: the first entry that is wrong is named. Or a key is missing, or the files can't be read.
pub(super) fn prove(dir: &Path, identity: &Identity, opener: &Opener, head: Option<&ExpectedHead>) -> Result<String> {
    let mut node = Node::new(opener.config(identity.node)?)?;
    let snapshot = begin_with_snapshot(&mut node, dir, opener, identity)?;
    let mut encryptor = opener.encryptor(identity.node)?;
    WalReader::new(&dir.join("wal")).read(|located| {
        let Some(operation) = located.record.body.to_operation() else { return Ok(()) };
        node.recover(operation.clone()).map_err(|error| first_flaw(error, operation, &mut encryptor))
    })?;
    node.start(Instant(0)).map_err(Flawed::from)?;
    let log = node.log();
    let end = log.chain_end().context("the log has no chain")?;
    if let Some(head) = head {
        compare(&node, head)?;
    }
    let from = snapshot.map_or_else(|| "its first entry".to_owned(), |id| format!("the snapshot up to entry {id}"));
    let ChainPoint { link, version } = end;
    let noted = if head.is_some() { ", and what was noted stands in it" } else { "" };
    Ok(format!(
        "the chain is whole from {from} on{noted}: it ends at entry {}, with version {version} of the key.\nhead {}:{}",
        log.last(),
        log.last().index,
        hex(&link.0)
    ))
}

/// Reads the newest snapshot that is whole, as a start does. Gives its last entry.
fn begin_with_snapshot(node: &mut Node, dir: &Path, opener: &Opener, identity: &Identity) -> Result<Option<EntryId>> {
    let snapshots = dir.join("snapshots");
    let stored = if snapshots.is_dir() { list_files(&snapshots)? } else { Vec::new() };
    for StoredSnapshot { id, .. } in stored {
        let (mut effects, mut offset) = (Vec::new(), 0);
        let mut restore = || -> Result<(), Unusable> {
            loop {
                let bytes = read_file(&snapshots, id, offset, PIECE_BYTES).map_err(|error| Unusable::File(error.into()))?;
                if bytes.is_empty() {
                    return Ok(());
                }
                offset += bytes.len() as u64;
                node.restore(&bytes, &mut effects)?;
                effects.clear();
            }
        };
        match restore() {
            Ok(()) => return Ok(Some(id)),
            Err(Unusable::File(error)) => return Err(error),
            Err(Unusable::Bytes(error @ (SnapshotError::Tampered(_) | SnapshotError::MissingKey(_)))) => {
                return Err(anyhow!(error).context(format!("snapshot {id}")));
            }
            Err(Unusable::Bytes(error)) => {
                println!("snapshot {id} is damaged, and the one before it is tried, as a start does: {error}");
                *node = Node::new(opener.config(identity.node)?)?;
            }
        }
    }
    Ok(None)
}

/// Why a snapshot was not read.
enum Unusable {
    File(anyhow::Error),
    Bytes(SnapshotError),
}

impl From<SnapshotError> for Unusable {
    fn from(error: SnapshotError) -> Self {
        Self::Bytes(error)
    }
}

/// A batch of entries has one link, so that the chain tells no more than the batch. The payloads' tags tell which of them it is, if it is one of those.
fn first_flaw(error: JournalError, operation: Operation, encryptor: &mut EntryEncryptor) -> Flawed {
    let (JournalError::Chain(_), Operation::Append { first, count, entries }) = (&error, operation) else { return error.into() };
    let Ok((entries, _)) = wire::decode_entries(first, count, &entries) else { return error.into() };
    let wrong = entries.iter().find_map(|entry| wrong_payload(entry, encryptor).map(|why| (entry.id, why)));
    match (wrong, &error) {
        (Some((id, why)), _) => Flawed::Entry(format!("entry {id} is not what was written: {why}")),
        (None, JournalError::Chain(ChainError::Broken { first, last, .. })) if first != last => Flawed::Entry(format!(
            "the first entry that is not what was written is one of {first} to {last}: their payloads are, but not what stands beside them, their order or their link ({error})"
        )),
        (None, _) => Flawed::Entry(format!("entry {first} is not what was written: {error}")),
    }
}

fn wrong_payload(entry: &LogEntry, encryptor: &mut EntryEncryptor) -> Option<SealingError> {
    let payload = entry.payload()?.clone();
    EncryptedPayload::parse(payload).and_then(|sealed| encryptor.open(entry.id, &sealed)).err()
}

fn compare(node: &Node, head: &ExpectedHead) -> Result<()> {
    let (log, ExpectedHead { index, link }) = (node.log(), head);
    let last = log.last().index;
    let cut = anyhow!(
        "the log ends at entry {last}, and a head was noted at entry {index}: its end was cut off, or an older state was brought back"
    );
    if *index > last {
        return Err(cut.context(Advice("the other nodes have what is missing, if a majority of them was not changed: compare their heads")));
    }
    let point = log.point_at(*index).with_context(|| {
        format!(
            "the log in these files begins behind entry {}: the head at entry {index} can't be compared any more; note a later one",
            log.base().index
        )
    })?;
    ensure!(
        hex(&point.link.0) == *link,
        "the chain at entry {index} is not the one that was noted: the log was changed by somebody who has the key, or is another one"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_an_index_and_a_link() {
        let link = "0a".repeat(32);
        let head: ExpectedHead = format!("7:{}", link.to_uppercase()).parse().expect("a head");
        assert_eq!(head, ExpectedHead { index: LogIndex(7), link: link.clone() });
        for wrong in ["7", "7:", &format!(":{link}"), &format!("x:{link}"), &format!("7:{}", &link[1..]), &format!("7:g{}", &link[1..])] {
            assert!(wrong.parse::<ExpectedHead>().is_err_and(|said| said.contains("INDEX:LINK")), "{wrong}");
        }
    }
}
