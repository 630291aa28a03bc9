//! The directory that holds all that a node keeps: whose it is, and that one process alone uses it.
//!
//! ```text
//! DIR/lock        locked exclusively for as long as the node lives; holds its process id
//! DIR/identity    the cluster, the node and the voters that it began with; whether the journal was begun, without which a node has nothing to
//!                 forget; whether the journal has held other members, which count from then on instead of those voters; whether the node repairs itself;
//!                 whether the log is sealed; and a checksum
//! DIR/wal/        the journal
//! DIR/snapshots/  snapshots
//! ```

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use amaters_cluster_core::NodeId;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::repair;
use crate::wal::disk::{create_dir, sync_dir};

/// The newest layout of the directory that this version knows.
const FORMAT: u32 = 3;

/// The layout while the node repairs itself: it must not be started by a version that knows nothing of that, and would have it vote.
const REPAIR_FORMAT: u32 = 2;

/// The layout as long as the node does not repair itself, and its log is not sealed.
const PLAIN_FORMAT: u32 = 1;

/// A node's directory, locked until this is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    /// As the directory has it: the voters are those of the first start.
    identity: Identity,
    marks: Mutex<Marks>,
    /// The lock goes with the open file, however the process ends.
    _lock: File,
}

/// What has happened to the node, as far as its next start has to know.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Marks {
    journal_begun: bool,
    members_in_log: bool,
    repairing: bool,
}

/// Whose data it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster's name.
    pub cluster: String,
    /// The node.
    pub node: NodeId,
    /// The voters that the cluster began with, in any order; none for a node that joined one. A node that is started among others could commit without
    /// those that its log counts on.
    pub voters: Vec<NodeId>,
    /// Whether the log is sealed: it stays what it began as.
    pub sealed: bool,
}

/// Why a directory can't be used.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DataDirError {
    /// The operating system refused or failed.
    #[error("can't {action} {}: {source}. The data directory must be one that this user may write to: give it the rights, or choose another with --data-dir", .path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error(
        "{} is in use by {}: stop that process, or choose another directory with --data-dir", .path.display(),
        .holder.as_ref().map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Its process id, if it could be read.
        holder: Option<String>,
    },
    /// The directory belongs to another node or cluster.
    #[error(
        "{} holds the data of node {} of cluster '{}', and this is node {} of cluster '{}': choose another directory with --data-dir, or start with \
         the id and cluster that it belongs to", .path.display(), .found.node, .found.cluster, .expected.node, .expected.cluster
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: Box<Identity>,
        /// Who wants it.
        expected: Box<Identity>,
    },
    /// The node was a member of other company.
    #[error(
        "{} belongs to a cluster of the nodes {}, and this start names {}: give the same --peer flags as before; `ukehi member` changes the \
         members of a cluster that runs", .path.display(), list(.found), list(.expected)
    )]
    OtherVoters {
        /// The directory.
        path: PathBuf,
        /// The voters that it was made for.
        found: Vec<NodeId>,
        /// The voters that were named.
        expected: Vec<NodeId>,
    },
    /// The log was begun otherwise.
    #[error("{}", other_encryption(.path, *.sealed))]
    OtherEncryption {
        /// The directory.
        path: PathBuf,
        /// Whether its log is sealed.
        sealed: bool,
    },
    /// The journal is gone. A node without its votes and entries could vote again, and for a leader that lacks what it has acknowledged.
    #[error(
        "{} holds no journal, and node {node} has begun one: is a file system not mounted, or was it removed? Restore it; a node that has lost its \
         journal must not take part under its old id", .path.display()
    )]
    JournalGone {
        /// Where the journal was.
        path: PathBuf,
        /// Whose it was.
        node: NodeId,
    },
    /// The directory was laid out by a newer version.
    #[error("{} has format {got}, and this version knows format {FORMAT}: start the version that wrote it, or a newer one", .path.display())]
    UnsupportedFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        got: u32,
    },
    /// The identity can't be read, or it is gone and the data is not.
    #[error("{} does not say whose data this is ({reason}): restore that file from a backup, or choose an empty directory with --data-dir", .path.display())]
    NoIdentity {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl DataDir {
    /// Opens a node's directory: creates it if there is none, locks it, and checks that it is this node's. A new one becomes this node's.
    ///
    /// # Errors
    /// It can't be created, read or written; another process uses it; it belongs to another node, another cluster or a newer version.
    pub fn open(path: &Path, identity: &Identity) -> Result<Self, DataDirError> {
        create_dir(path).map_err(failed("create", path))?;
        let lock = lock(path)?;
        let mut dir = Self { path: path.to_owned(), identity: identity.clone(), marks: Mutex::default(), _lock: lock };
        dir.check_identity(identity)?;
        Ok(dir)
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where the journal goes. The directory may not exist yet.
    #[must_use]
    pub fn wal(&self) -> PathBuf {
        self.path.join("wal")
    }

    /// Where the snapshots go. The directory may not exist yet.
    #[must_use]
    pub fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    /// Notes that there is a journal, durably: to be called when it has been read or made, and before the node acts on it. From then on the directory
    /// is refused without one.
    ///
    /// # Errors
    /// It can't be written.
    pub fn journal_begun(&self) -> Result<(), DataDirError> {
        self.mark(|marks| marks.journal_begun = true)
    }

    /// Notes that the journal has held other members than the cluster began with, durably: from then on it tells who they are, whatever a start names.
    ///
    /// # Errors
    /// It can't be written.
    pub fn members_logged(&self) -> Result<(), DataDirError> {
        self.mark(|marks| marks.members_in_log = true)
    }

    /// Whether the journal has held other members than the cluster began with.
    #[must_use]
    pub fn has_members_in_log(&self) -> bool {
        self.marks().members_in_log
    }

    /// Notes that the node repairs itself, durably: it must not take part, now or after a restart, until [`DataDir::repair_ended`].
    ///
    /// # Errors
    /// It can't be written.
    pub fn repair_begun(&self) -> Result<(), DataDirError> {
        self.mark(|marks| marks.repairing = true)
    }

    /// Notes that the node has everything again that it may have promised.
    ///
    /// # Errors
    /// It can't be written: the next start repairs once more, which does no harm.
    pub fn repair_ended(&self) -> Result<(), DataDirError> {
        self.mark(|marks| marks.repairing = false)
    }

    /// Whether the node has to repair itself.
    #[must_use]
    pub fn is_repairing(&self) -> bool {
        self.marks().repairing
    }

    /// The voters that the cluster began with, as the first start named them: none for a node that joined one.
    #[must_use]
    pub fn founders(&self) -> &[NodeId] {
        &self.identity.voters
    }

    /// Whether nothing has been stored here yet: there is no journal, and has not been one.
    ///
    /// # Errors
    /// The directory can't be read.
    pub fn is_blank(&self) -> Result<bool, DataDirError> {
        Ok(!self.marks().journal_begun && !self.has_journal()?)
    }

    fn mark(&self, set: impl FnOnce(&mut Marks)) -> Result<(), DataDirError> {
        let mut marks = self.marks();
        let mut wanted = *marks;
        set(&mut wanted);
        if wanted != *marks {
            // Noted only once it is written: after a failure the next call must write it again.
            write_identity(&self.path, &self.identity, wanted)?;
            *marks = wanted;
        }
        Ok(())
    }

    fn marks(&self) -> MutexGuard<'_, Marks> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is a segment of a journal.
    fn has_journal(&self) -> Result<bool, DataDirError> {
        let wal = self.wal();
        let names = match fs::read_dir(&wal) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        Ok(names.map_err(failed("read", &wal))?.iter().any(|name| Path::new(name).extension().is_some_and(|extension| extension == "wal")))
    }

    fn check_identity(&mut self, expected: &Identity) -> Result<(), DataDirError> {
        let file = self.path.join("identity");
        let (found, marks) = match fs::read_to_string(&file) {
            Ok(text) => parse_identity(&self.path, &file, &text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.wal().exists() => {
                return write_identity(&self.path, expected, Marks::default());
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidData) => {
                return Err(DataDirError::NoIdentity { path: file, reason: error.to_string() });
            }
            Err(error) => return Err(failed("read", &file)(error)),
        };
        let path = self.path.clone();
        if (&found.cluster, found.node) != (&expected.cluster, expected.node) {
            return Err(DataDirError::Foreign { path, found: Box::new(found), expected: Box::new(expected.clone()) });
        }
        let voters = sorted(&expected.voters);
        if found.voters != voters && !marks.members_in_log {
            return Err(DataDirError::OtherVoters { path, found: found.voters, expected: voters });
        }
        if marks.repairing && repair::is_half_renamed(&self.path) {
            let renamed = repair::finish_renaming(&self.path);
            renamed.map_err(|error| failed("finish the repair of", &self.path)(io::Error::other(error)))?;
        }
        if marks.journal_begun && !self.has_journal()? {
            return Err(DataDirError::JournalGone { path: self.wal(), node: found.node });
        }
        self.identity = found;
        self.marks = Mutex::new(marks);
        self.check_encryption(expected.sealed)
    }

    /// A log stays sealed or not. Before there is one, a start may think better of it: the one before may have failed for want of a key.
    fn check_encryption(&mut self, expected: bool) -> Result<(), DataDirError> {
        let sealed = self.identity.sealed;
        if sealed == expected {
            return Ok(());
        }
        if !self.is_blank()? {
            return Err(DataDirError::OtherEncryption { path: self.path.clone(), sealed });
        }
        self.identity.sealed = expected;
        let marks = *self.marks();
        write_identity(&self.path, &self.identity, marks)
    }
}

/// Whose directory it is, as far as it says: for those who look at its files. Neither locks nor changes anything.
///
/// # Errors
/// It does not say, or a newer version wrote it.
pub fn identity_of(dir: &Path) -> Result<Identity, DataDirError> {
    let file = dir.join("identity");
    let text = fs::read_to_string(&file).map_err(|error| DataDirError::NoIdentity { path: file.clone(), reason: error.to_string() })?;
    parse_identity(dir, &file, &text).map(|(identity, _)| identity)
}

fn parse_identity(dir: &Path, file: &Path, text: &str) -> Result<(Identity, Marks), DataDirError> {
    let unreadable = |error: toml::de::Error| DataDirError::NoIdentity { path: file.to_owned(), reason: error.message().to_owned() };
    // The format comes first: the rest of a newer one may look like anything.
    let Format { format } = toml::from_str(text).map_err(unreadable)?;
    if !(PLAIN_FORMAT..=FORMAT).contains(&format) {
        return Err(DataDirError::UnsupportedFormat { path: dir.to_owned(), got: format });
    }
    let content: IdentityFile = toml::from_str(text).map_err(unreadable)?;
    let damaged = |reason: &str| DataDirError::NoIdentity { path: file.to_owned(), reason: reason.to_owned() };
    if content.format != format_of(content.sealed, content.repairing) {
        return Err(damaged("its format and what it says of a repair and of the log contradict each other"));
    }
    // Those that earlier versions wrote have none.
    if let Some(got) = content.checksum
        && got != content.sum().map_err(|error| damaged(&error.to_string()))?
    {
        return Err(damaged("its checksum does not fit: it is damaged, or was edited"));
    }
    let IdentityFile { cluster, node, voters, sealed, journal_begun, members_in_log, repairing, .. } = content;
    Ok((Identity { cluster, node, voters, sealed }, Marks { journal_begun, members_in_log, repairing }))
}

#[derive(Deserialize)]
struct Format {
    format: u32,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct IdentityFile {
    format: u32,
    cluster: String,
    node: NodeId,
    voters: Vec<NodeId>,
    journal_begun: bool,
    members_in_log: bool,
    #[serde(default)]
    repairing: bool,
    /// Not there where it is false: versions that knew nothing of it wrote the others alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    sealed: bool,
    /// Of all the other fields. Stands last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checksum: Option<u32>,
}

impl IdentityFile {
    /// The checksum that belongs into the file: CRC-32 (IEEE) of the other fields as they are written.
    fn sum(&self) -> Result<u32, toml::ser::Error> {
        let fields = Self { checksum: None, cluster: self.cluster.clone(), voters: self.voters.clone(), ..*self };
        Ok(crc32fast::hash(toml::to_string(&fields)?.as_bytes()))
    }
}

fn format_of(sealed: bool, repairing: bool) -> u32 {
    match (sealed, repairing) {
        (true, _) => FORMAT,
        (false, true) => REPAIR_FORMAT,
        (false, false) => PLAIN_FORMAT,
    }
}

/// Takes the lock, and says in the file who has it.
pub(crate) fn lock(dir: &Path) -> Result<File, DataDirError> {
    let path = dir.join("lock");
    // Not truncated on opening: whoever holds the lock has its process id in there.
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let mut file = opened.map_err(failed("write to", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).ok().map(|pid| pid.trim().to_owned()).filter(|pid| !pid.is_empty());
            return Err(DataDirError::InUse { path: dir.to_owned(), holder });
        }
        Err(TryLockError::Error(error)) => return Err(failed("lock", &path)(error)),
    }
    file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed("write to", &path))?;
    Ok(file)
}

/// Writes beside and renames, so that a crash leaves no half of it.
fn write_identity(dir: &Path, identity: &Identity, marks: Marks) -> Result<(), DataDirError> {
    let path = dir.join("identity");
    let mut content = IdentityFile {
        format: format_of(identity.sealed, marks.repairing),
        cluster: identity.cluster.clone(),
        node: identity.node,
        voters: sorted(&identity.voters),
        journal_begun: marks.journal_begun,
        members_in_log: marks.members_in_log,
        repairing: marks.repairing,
        sealed: identity.sealed,
        checksum: None,
    };
    let mut write = || {
        content.checksum = Some(content.sum().map_err(io::Error::other)?);
        let text = toml::to_string(&content).map_err(io::Error::other)?;
        let temporary = dir.join("identity.tmp");
        let mut file = File::create(&temporary)?;
        file.write_all(format!("# Whose data this is.\n{text}").as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        sync_dir(dir)
    };
    write().map_err(failed("write", &path))
}

fn sorted(voters: &[NodeId]) -> Vec<NodeId> {
    let mut voters = voters.to_vec();
    voters.sort_unstable();
    voters
}

fn list(nodes: &[NodeId]) -> String {
    if nodes.is_empty() {
        return "none".to_owned();
    }
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}

fn other_encryption(path: &Path, sealed: bool) -> String {
    let path = path.display();
    if sealed {
        format!(
            "{path} holds an encrypted log, and a log stays what it began as: start with the keys that it was written with (--key-file FILE or another source of \
             keys), and without --no-encryption"
        )
    } else {
        format!(
            "{path} holds a log that is not encrypted, and a log stays what it began as: go on with --no-encryption; or take a backup, and restore it into a new \
             cluster that encrypts (`ukehi backup`, `ukehi restore`)"
        )
    }
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> DataDirError {
    move |source| DataDirError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster: &str, node: u64) -> Identity {
        Identity { cluster: cluster.to_owned(), node: NodeId(node), voters: vec![NodeId(1), NodeId(2), NodeId(3)], sealed: false }
    }

    #[test]
    fn a_new_directory_becomes_the_nodes_and_stays_its() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        drop(DataDir::open(&path, &identity("quotes \" and \n", 1)).unwrap());
        let again = DataDir::open(&path, &identity("quotes \" and \n", 1)).unwrap();
        assert_eq!(again.wal(), path.join("wal"));
        assert!(!path.join("identity.tmp").exists());
    }

    #[test]
    fn h41_a_second_process_is_refused_and_told_who_holds_the_directory() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path(), &identity("c", 1)).unwrap();
        let error = DataDir::open(dir.path(), &identity("c", 1)).unwrap_err().to_string();
        assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
        drop(held);
        DataDir::open(dir.path(), &identity("c", 1)).unwrap();
    }

    #[test]
    fn another_node_and_another_cluster_are_refused_and_change_nothing() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), &identity("c", 1)).unwrap());
        for other in [identity("c", 2), identity("d", 1)] {
            let error = DataDir::open(dir.path(), &other).unwrap_err();
            assert!(matches!(&error, DataDirError::Foreign { found, .. } if **found == identity("c", 1)), "{error}");
            assert!(error.to_string().contains("holds the data of node 1 of cluster 'c'"), "{error}");
        }
        DataDir::open(dir.path(), &identity("c", 1)).unwrap();
    }

    #[test]
    fn a_member_of_three_is_not_started_alone() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), &identity("c", 1)).unwrap());
        let alone = Identity { voters: vec![NodeId(1)], ..identity("c", 1) };
        let error = DataDir::open(dir.path(), &alone).unwrap_err().to_string();
        assert!(error.contains("belongs to a cluster of the nodes 1, 2, 3, and this start names 1"), "{error}");
        let reordered = Identity { voters: vec![NodeId(3), NodeId(1), NodeId(2)], ..identity("c", 1) };
        DataDir::open(dir.path(), &reordered).unwrap();
    }

    #[test]
    fn once_the_log_has_the_members_a_start_names_them_in_vain() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path(), &identity("c", 1)).unwrap();
        assert!(!held.has_members_in_log());
        held.members_logged().unwrap();
        held.members_logged().unwrap();
        drop(held);
        let others = Identity { voters: vec![NodeId(1), NodeId(4)], ..identity("c", 1) };
        let again = DataDir::open(dir.path(), &others).unwrap();
        assert!(again.has_members_in_log());
        assert_eq!(again.founders(), [NodeId(1), NodeId(2), NodeId(3)], "the log goes on from what it began with");
    }

    #[test]
    fn a_node_that_has_lost_its_journal_is_not_started_as_a_blank_one() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path(), &identity("c", 1)).unwrap();
        fs::create_dir(held.wal()).unwrap();
        drop(held);
        let held = DataDir::open(dir.path(), &identity("c", 1)).expect("a crash before the first segment has cost nothing");
        fs::write(held.wal().join("0000000000000001.wal"), "").unwrap();
        held.journal_begun().unwrap();
        drop(held);
        drop(DataDir::open(dir.path(), &identity("c", 1)).unwrap());
        fs::remove_dir_all(dir.path().join("wal")).unwrap();
        let error = DataDir::open(dir.path(), &identity("c", 1)).unwrap_err();
        assert!(matches!(error, DataDirError::JournalGone { node: NodeId(1), .. }), "{error}");
        fs::create_dir(dir.path().join("wal")).unwrap();
        let error = DataDir::open(dir.path(), &identity("c", 1)).unwrap_err();
        assert!(matches!(error, DataDirError::JournalGone { .. }), "an empty mount point is no journal: {error}");
    }

    #[test]
    fn a_mark_that_could_not_be_written_is_written_by_the_next_call() {
        let dir = tempfile::tempdir().unwrap();
        let held = DataDir::open(dir.path(), &identity("c", 1)).unwrap();
        fs::create_dir(dir.path().join("identity.tmp")).unwrap();
        held.members_logged().unwrap_err();
        assert!(!held.has_members_in_log());
        fs::remove_dir(dir.path().join("identity.tmp")).unwrap();
        held.members_logged().unwrap();
        drop(held);
        assert!(DataDir::open(dir.path(), &identity("c", 1)).unwrap().has_members_in_log());
    }

    #[test]
    fn a_log_stays_encrypted_or_not_and_both_refusals_say_what_to_do() {
        for sealed in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let started = |sealed| DataDir::open(dir.path(), &Identity { sealed, ..identity("c", 1) });
            drop(started(!sealed).unwrap());
            let held = started(sealed).expect("a start that came to nothing has decided nothing");
            assert!(held.is_blank().unwrap());
            fs::create_dir(held.wal()).unwrap();
            fs::write(held.wal().join("0000000000000001.wal"), "").unwrap();
            held.journal_begun().unwrap();
            assert!(!held.is_blank().unwrap());
            drop(held);

            let error = started(!sealed).unwrap_err();
            assert!(matches!(error, DataDirError::OtherEncryption { sealed: found, .. } if found == sealed), "{error}");
            let help = if sealed { "--key-file FILE" } else { "go on with --no-encryption" };
            assert!(error.to_string().contains(help), "{error}");
            started(sealed).expect("as before");
        }
    }

    #[test]
    fn what_earlier_versions_wrote_is_a_log_that_is_not_encrypted() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataDir::open(dir.path(), &identity("c", 1)).unwrap());
        let text = fs::read_to_string(dir.path().join("identity")).unwrap();
        assert!(text.contains("format = 1\n") && !text.contains("sealed"), "{text}");
        drop(DataDir::open(dir.path(), &Identity { sealed: true, ..identity("c", 1) }).unwrap());
        let text = fs::read_to_string(dir.path().join("identity")).unwrap();
        assert!(
            text.contains("format = 3\n") && text.contains("sealed = true\n"),
            "a version that knows nothing of it refuses the format: {text}"
        );
    }

    #[test]
    fn a_newer_format_is_refused_whatever_else_it_says() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("identity"), "format = 4\nmembers = [1]\n").unwrap();
        let error = DataDir::open(dir.path(), &identity("c", 1)).unwrap_err();
        assert!(matches!(error, DataDirError::UnsupportedFormat { got: 4, .. }), "{error}");
    }

    #[test]
    fn an_unreadable_identity_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        for text in [&b""[..], b"format = 1\ncluster = \"c\"", b"\xff\xfe", b"format = \"x\""] {
            fs::write(dir.path().join("identity"), text).unwrap();
            let error = DataDir::open(dir.path(), &identity("c", 1)).unwrap_err();
            assert!(matches!(error, DataDirError::NoIdentity { .. }), "{error}");
            assert_eq!(fs::read(dir.path().join("identity")).unwrap(), text);
        }
    }

    #[test]
    fn a_journal_without_an_identity_is_not_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("wal")).unwrap();
        let error = DataDir::open(dir.path(), &identity("c", 1)).unwrap_err();
        assert!(matches!(error, DataDirError::NoIdentity { .. }), "{error}");
    }

    #[test]
    fn half_an_identity_from_a_crash_is_written_anew() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("identity.tmp"), "form").unwrap();
        drop(DataDir::open(dir.path(), &identity("c", 1)).unwrap());
        DataDir::open(dir.path(), &identity("c", 1)).unwrap();
    }

    #[test]
    fn a_file_in_the_directorys_place_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = DataDir::open(&path, &identity("c", 1)).unwrap_err().to_string();
            assert!(error.contains("choose another with --data-dir"), "{error}");
        }
    }
}
