//! What can go wrong with the journal.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use amaters_cluster_core::GroupId;
use thiserror::Error;

use super::record::MAX_RECORD_BYTES;

/// Why the journal can't be read or written. None of these is worth another try in the same process.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WalError {
    /// The operating system refused or failed.
    #[error("can't {action} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The disk, or the user's share of it, is full.
    #[error(
        "no space for {needed} bytes in {}: nothing that was acknowledged is lost; free some space there and start the node again ({source})",
        .dir.display()
    )]
    DiskFull {
        /// The journal's directory.
        dir: PathBuf,
        /// How many bytes were to be written.
        needed: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The journal was closed while it waited for space.
    #[error("the journal in {} was closed while it waited for space: what was still to be written is not there, and nobody was told that it is", .dir.display())]
    ClosedWhileFull {
        /// The journal's directory.
        dir: PathBuf,
    },
    /// Something that was durable can't be read any more.
    #[error(transparent)]
    Damaged(#[from] Box<Damage>),
    /// The segment was written by a version of this program that knows another format.
    #[error("{} has format {got}, and this version reads format {}: start the version that wrote it, or a newer one", .path.display(), super::segment::FORMAT)]
    UnsupportedFormat {
        /// The segment.
        path: PathBuf,
        /// Its format.
        got: u32,
    },
    /// A whole record of a type that this version does not know.
    #[error(
        "{} has a record of unknown type {got} at byte {offset}: a newer version wrote it; start that version, or a newer one", .path.display()
    )]
    UnsupportedRecord {
        /// The segment.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// The type.
        got: u8,
    },
    /// A node was to leave it to the system when its journal reaches the disk.
    #[error(
        "a node's journal can't be left to the system to sync (SyncMode::System): the node would forget votes and what it has acknowledged when the power \
         fails; choose SyncMode::Batched or SyncMode::EveryWrite"
    )]
    SyncRequired,
    /// A node was to go on with a journal that it can only read.
    #[error(
        "a node can't go on with a journal that is only read (CorruptionPolicy::ReadOnly): choose CorruptionPolicy::Refuse or CorruptionPolicy::Repair"
    )]
    ReadOnlyNode,
    /// The journal is damaged, and was opened to be read: nothing is added to it.
    #[error("the journal is read-only, and this was not written: {}", .0.place())]
    ReadOnly(Box<Damage>),
    /// One operation is larger than a record can be.
    #[error("an operation takes {bytes} bytes, and a record holds {MAX_RECORD_BYTES} at most: propose less at a time")]
    TooLarge {
        /// How much it takes.
        bytes: u64,
    },
    /// The journal has records of a group that nobody here knows.
    #[error(
        "the journal has records of group {group}, and this node serves group {expected}: start it with the data directory that belongs to it"
    )]
    ForeignGroup {
        /// The group of the record.
        group: GroupId,
        /// The group of the node.
        expected: GroupId,
    },
}

/// Where something durable is damaged, and how that is known.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error(
    "{} is damaged at byte {offset}: expected {expected}, got {got}. It was durable once ({proof}), so nothing is cut and the node does not start. \
     Keep a copy of the directory, check the disk, and restore the directory from a backup or put a new node in this one's place",
    .path.display()
)]
pub struct Damage {
    /// The segment.
    pub path: PathBuf,
    /// Where in it: in bytes from its start.
    pub offset: u64,
    /// The sequence number of the first record that is missing.
    pub sequence: u64,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub got: String,
    /// What shows that it is damage, and not the torn end of a write that nobody relied on.
    pub proof: String,
}

impl Damage {
    /// Where it is, what should be there and what is there; without what to do about it.
    #[must_use]
    pub fn place(&self) -> String {
        let Self { path, offset, expected, got, .. } = self;
        format!("{} is damaged at byte {offset}: expected {expected}, got {got}", path.display())
    }
}

impl WalError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// For whatever takes space in the journal's directory.
    pub(crate) fn space(action: &'static str, dir: &Path, path: &Path, needed: u64) -> impl FnOnce(io::Error) -> Self {
        move |source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { dir: dir.to_owned(), needed, source },
            _ => Self::Io { action, path: path.to_owned(), source },
        }
    }
}

/// What is wrong with the bytes at a place where a record or a header should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    Nothing,
    Header,
    Foreign,
    Length { got: u32 },
    Checksum { got: u32, expected: u32 },
    Sequence { got: u64 },
    Body,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("zeros, as at the end of the journal"),
            Self::Header => f.write_str("something else"),
            Self::Foreign => f.write_str("that of another segment or journal"),
            Self::Length { got } => write!(f, "the length {got}, which no record can have here"),
            Self::Checksum { got, expected } => write!(f, "one whose checksum is {got:08x} where its bytes give {expected:08x}"),
            Self::Sequence { got } => write!(f, "record {got} in its place"),
            Self::Body => f.write_str("one whose parts contradict each other"),
        }
    }
}
