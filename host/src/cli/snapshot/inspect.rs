//! `ukehi snapshot inspect`: what is in a snapshot.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use amaters_cluster_core::{MemberRole, Status};
use anyhow::{Context as _, Result, bail};

use super::{Check, PIECE_BYTES, directory_of};
use crate::cli::key::KeySource;
use crate::cli::opener::Opener;
use crate::data_dir::identity_of;

/// Bytes of a frame before its payload, and behind it.
const BEFORE: usize = 5;
const AFTER: u64 = 4;

/// The kinds of frames, as `docs/on-disk.md` numbers them.
const SESSIONS: u8 = 2;
const STATE: u8 = 3;

/// Prints what the snapshot in a file holds, a backup's too, or each of a data directory. Reads all of it; fails if one is damaged.
/// What is sealed is opened where its keys are named.
pub(super) fn inspect(path: &Path, keys: &KeySource) -> Result<ExitCode> {
    let opener = if keys.is_named() { Opener::new(keys, &cluster_of(path)?)? } else { None };
    let mut all_whole = true;
    for file in files(path)? {
        println!("{}", file.display());
        match look(&file, opener.as_ref()) {
            Ok(lines) => println!("{lines}"),
            Err(error) => {
                all_whole = false;
                println!("  damaged   {error:#}");
            }
        }
    }
    Ok(if all_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The cluster that a data directory belongs to, or that which a snapshot is in: what is sealed opens under its name alone.
fn cluster_of(path: &Path) -> Result<String> {
    let dir = if path.is_dir() { Some(path) } else { path.parent().and_then(Path::parent) };
    let identity = dir.context("it is in no directory").and_then(|dir| Ok(identity_of(dir)?));
    let expected = "the name of its cluster is not known: a sealed snapshot is opened where it is, in a node's data directory; `ukehi restore` opens a backup";
    Ok(identity.context(expected)?.cluster)
}

/// The snapshots that are meant, oldest first.
fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let dir = directory_of(path);
    let listed = fs::read_dir(&dir).and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>());
    let mut files = listed.with_context(|| format!("{} can't be read", dir.display()))?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "snap"));
    files.sort();
    if files.is_empty() {
        bail!("{} has no snapshots: expected a snapshot, or a node's data directory", dir.display());
    }
    Ok(files)
}

fn look(path: &Path, opener: Option<&Opener>) -> Result<String> {
    let mut file = File::open(path).with_context(|| format!("{} can't be read", path.display()))?;
    let (mut check, mut frames) = (Check::new(opener)?, Frames::default());
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = file.read(&mut piece).with_context(|| format!("{} can't be read", path.display()))?;
        if read == 0 {
            break;
        }
        check.push(&piece[..read])?;
        frames.push(&piece[..read]);
    }
    let (status, bytes, is_closed) = (check.status(), check.bytes, check.stays_closed());
    let held = check.finish()?;
    if is_closed {
        return Ok(format!(
            "  holds     the log up to entry {} of term {}\n  encrypted, and not opened: name its keys (--key-file FILE)\n  size      {bytes} bytes, {} frames; every checksum fits",
            held.index,
            held.term,
            frames.all(),
        ));
    }
    let (sessions, state, all) = (frames.of(SESSIONS), frames.of(STATE), frames.all());
    Ok(format!(
        "  holds     the log up to entry {} of term {}\n  members   {}\n  sessions  {}: {} bytes in {} frames\n  state     {} bytes in {} frames\n  \
         size      {bytes} bytes, {all} frames; every checksum fits",
        held.index,
        held.term,
        members(&status),
        status.sessions,
        sessions.bytes,
        sessions.frames,
        state.bytes,
        state.frames,
    ))
}

fn members(status: &Status) -> String {
    let role = |role| match role {
        MemberRole::Voter => "votes",
        MemberRole::Incoming => "is to vote",
        MemberRole::Outgoing => "votes until the next configuration",
        MemberRole::Leaving => "leaves",
        MemberRole::Learner => "learns",
    };
    let address = |address: &str| if address.is_empty() { String::new() } else { format!(" at {address}") };
    let members = status.members.iter().map(|member| format!("{}{} {}", member.id, address(&member.address), role(member.role)));
    let since = match status.config_version.0 {
        0 => "since the cluster's beginning".to_owned(),
        version => format!("since entry {version}"),
    };
    format!("{}; {since}", members.collect::<Vec<_>>().join(", "))
}

/// Frames of a kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    frames: u64,
    /// Of their payloads.
    bytes: u64,
}

/// Counts frames as their bytes come. Whether they are good is for [`Check`] to say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Frames {
    /// The beginning of the next one.
    head: Vec<u8>,
    /// Bytes of the last one that are yet to come.
    left: u64,
    /// By kind.
    counts: std::collections::BTreeMap<u8, Count>,
}

impl Frames {
    fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let skipped = usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
            self.left -= skipped as u64;
            bytes = &bytes[skipped..];
            let (head, rest) = bytes.split_at(bytes.len().min(BEFORE - self.head.len()));
            self.head.extend_from_slice(head);
            bytes = rest;
            if let [a, b, c, d, kind] = self.head[..] {
                let length = u64::from(u32::from_le_bytes([a, b, c, d]));
                let count = self.counts.entry(kind).or_default();
                count.frames += 1;
                count.bytes += length;
                self.left = length + AFTER;
                self.head.clear();
            }
        }
    }

    fn of(&self, kind: u8) -> Count {
        self.counts.get(&kind).copied().unwrap_or_default()
    }

    fn all(&self) -> u64 {
        self.counts.values().map(|count| count.frames).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: u32) -> Vec<u8> {
        let mut bytes = length.to_le_bytes().to_vec();
        bytes.push(kind);
        bytes.resize(bytes.len() + length as usize + 4, 2);
        bytes
    }

    #[test]
    fn frames_are_counted_however_their_bytes_come() {
        let bytes = [frame(1, 7), frame(SESSIONS, 300), frame(STATE, 0), frame(STATE, 1000), frame(4, 16)].concat();
        for size in [1, 2, 3, 7, 100, 10_000] {
            let mut frames = Frames::default();
            bytes.chunks(size).for_each(|chunk| frames.push(chunk));
            assert_eq!((frames.of(SESSIONS), frames.of(STATE)), (Count { frames: 1, bytes: 300 }, Count { frames: 2, bytes: 1000 }));
            assert_eq!((frames.all(), frames.left, frames.head.len()), (5, 0, 0), "pieces of {size}");
        }
    }
}
