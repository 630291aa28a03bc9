//! Where a node's log keys come from: a file, a variable, a command, or a credential of systemd. All four give the same text ([`text`] has its grammar), and none gives it to anybody but the node.
//!
//! | source | `ukehi` takes it as | who else can read the keys |
//! |---|---|---|
//! | [`KeyFile`] | `--key-file FILE` | its owner and root: a file that others may read is refused |
//! | [`KeyVariable`] | `--key-env VAR` | the owner of the process and root, in `/proc/PID/environ`, for as long as it runs; and the programs that it starts |
//! | [`KeyCommand`] | `--key-command CMD` | whoever the command allows |
//! | [`KeyCredential`] | `--key-credential NAME` | the unit and root |
//!
//! Buffers that held a text or a key are wiped. That leaves what is beyond a program's reach: pages that the system swapped out, and a variable's own memory. A core file is prevented by
//! [`forbid_core_dumps`], which whoever loads keys should call first.

use std::fmt;

use amaters_cluster_core::sealing::{KeyRing, KeyVersion, LogEncryptionKey, MissingKey};

mod command;
mod credential;
mod dumps;
mod error;
mod file;
mod generate;
mod reader;
pub mod text;
mod variable;

pub use command::KeyCommand;
pub use credential::KeyCredential;
pub use dumps::forbid_core_dumps;
pub use error::KeySourceError;
pub use file::KeyFile;
pub use generate::{add_version, create_key_file, random_key};
pub(crate) use reader::KeyReader;
pub use variable::KeyVariable;

/// Gives a node the keys of its log. May take as long as asking somebody else takes: it is called at the start, and when a version is missing.
pub trait KeyProvider: fmt::Debug + Send {
    /// All versions that there are, read anew at each call.
    ///
    /// # Errors
    /// The source can't be read, gives no key, or is open to others.
    fn load(&self) -> Result<KeyRing, KeySourceError>;

    /// What it reads, for messages: a path, a name, never a key.
    fn describe(&self) -> String;

    /// The versions that there are, in order.
    ///
    /// # Errors
    /// As [`Self::load`].
    fn versions(&self) -> Result<Vec<KeyVersion>, KeySourceError> {
        Ok(self.load()?.versions().collect())
    }

    /// The key of one version.
    ///
    /// # Errors
    /// As [`Self::load`]; or the version is not among them.
    fn key(&self, version: KeyVersion) -> Result<LogEncryptionKey, KeySourceError> {
        let missing = |missing: MissingKey| KeySourceError::Missing { origin: self.describe(), missing };
        self.load()?.get(version).cloned().map_err(missing)
    }
}

impl<P: KeyProvider + ?Sized> KeyProvider for Box<P> {
    fn load(&self) -> Result<KeyRing, KeySourceError> {
        (**self).load()
    }

    fn describe(&self) -> String {
        (**self).describe()
    }
}
