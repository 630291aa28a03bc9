//! Why keys can't be had, and what helps. No message holds anything of a key or of the text that it stands in.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use amaters_cluster_core::sealing::MissingKey;
use thiserror::Error;

use super::text::TextError;

/// Why a source gives no keys.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KeySourceError {
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
    /// There is no such file.
    #[error("there is no key file {path}: `ukehi key generate --out {path}` makes one for a new cluster; a node of an existing one needs a copy of its keys", path = .0.display())]
    NoFile(PathBuf),
    /// Others than its owner may read or change the file.
    #[error("{path} is open to others than its owner (mode {mode:04o}): run `chmod 600 {path}`, and consider whether its keys are still secret", path = .path.display())]
    OpenToOthers {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A key file is never written over: what its keys sealed would be lost.
    #[error(
        "{} is there already, and is not written over: what is sealed with its keys could never be read again. Choose another name; `ukehi key add-version` adds a key to it", .0.display()
    )]
    Exists(PathBuf),
    /// Another process is adding a version, or one was killed while it did.
    #[error("{} is there: another command is changing the keys. If none is, one was stopped half-way: delete that file, and try again", .0.display())]
    BeingChanged(PathBuf),
    /// A key file's new version would belong to somebody else than the old one.
    #[error(
        "{} belongs to user {user} and group {group}, and a new file can't be given to them: {source}. Nothing was changed: run this as that user, with that group, or as root", .path.display()
    )]
    OwnerNotKept {
        /// The file.
        path: PathBuf,
        /// The number of the user who owns it.
        user: u32,
        /// The number of its group.
        group: u32,
        /// What the system said.
        source: io::Error,
    },
    /// The variable is not set, or is no text.
    #[error("the environment variable {0} is not set, or is no text: it should hold what a key file holds")]
    NoVariable(String),
    /// The command could not be run.
    #[error("the key command {program} can't be run: {source}. It is run without a shell: name a program that is on the PATH, or its path")]
    NotRun {
        /// The program's name.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// The command failed.
    #[error(
        "the key command {program} failed ({status}): what it printed to its standard error is above; run it by hand as the user that runs the node"
    )]
    Failed {
        /// The program's name.
        program: String,
        /// How it ended.
        status: std::process::ExitStatus,
    },
    /// The command took too long, and was ended.
    #[error("the key command {program} printed no keys within {} s, and was ended: it must not ask for anything, since nobody answers", .limit.as_secs())]
    TooSlow {
        /// The program's name.
        program: String,
        /// How long it may take.
        limit: Duration,
    },
    /// There is no directory of credentials.
    #[error(
        "systemd gave this process no credentials ($CREDENTIALS_DIRECTORY is not set): add `LoadCredential={0}:/path/to/keys` to the unit's [Service] section"
    )]
    NoCredentials(String),
    /// A credential's name is a file's name, without a path.
    #[error("'{0}' can't be a credential's name: it is that of a LoadCredential= line of the unit, without a path")]
    CredentialName(String),
    /// There is far more text than any keys make.
    #[error("{origin} gives more than {limit} bytes: that is no text of keys")]
    TooLong {
        /// What was read.
        origin: String,
        /// How much is read, in bytes.
        limit: usize,
    },
    /// The text is not that of a key file.
    #[error("{origin}: {source}")]
    Text {
        /// What was read.
        origin: String,
        /// What is wrong with it.
        source: TextError,
    },
    /// The version is not among the source's.
    #[error("{origin}: {missing}. Give this node the keys that the others have")]
    Missing {
        /// What was read.
        origin: String,
        /// Which version is missing, and which are there.
        missing: MissingKey,
    },
    /// The system's random source failed.
    #[error("the system gives no random bytes ({0}), and keys come from nothing else")]
    NoRandomness(getrandom::Error),
    /// No process can be kept from leaving core files here, or the system refused.
    #[error("core files, which would hold keys, can't be forbidden: {0}")]
    CoreDumps(io::Error),
}
