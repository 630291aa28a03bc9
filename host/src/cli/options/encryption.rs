//! Whether the log is encrypted, and where its keys come from: one answer, from one place.

use std::path::{Path, PathBuf};

use clap::Args;

use super::parse;
use super::sources::{Origin, Setting, Sources, UsageError};
use crate::cli::key::KeyOrigin;
use crate::keys::KeyCommand;

/// The flags for the keys of the log. At most one of them, here as in the environment and in the file.
#[derive(Args, Clone, Debug, Default)]
#[group(multiple = false)]
pub struct EncryptionArgs {
    /// Encrypts the log with the keys of this file, which `ukehi key generate` writes: the same on all nodes [default for a cluster of one: DATA_DIR.key, made at
    /// its first start]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<String>,
    /// As --key-file, from an environment variable that holds the text of such a file
    #[arg(long, value_name = "VAR")]
    pub key_env: Option<String>,
    /// As --key-file, from a command that prints the text of such a file: a program and its arguments with spaces between them, run without a shell
    #[arg(long, value_name = "CMD")]
    pub key_command: Option<String>,
    /// As --key-file, from a credential of the systemd unit: the name in its `LoadCredential=`
    #[arg(long, value_name = "NAME")]
    pub key_credential: Option<String>,
    /// Encrypts nothing: whoever gets a disk or a backup reads everything. On all nodes, or on none
    #[arg(long)]
    pub no_encryption: bool,
}

/// Whether the log is encrypted, and with what keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EncryptionChoice {
    /// It is not.
    Off,
    /// With those of a source that was named.
    Keys(KeyOrigin),
    /// With those of the file beside the data directory ([`own_key_file`]), which a cluster of one makes for itself.
    OwnKeys,
}

/// Where a cluster of one keeps its keys unless it is told otherwise: `DATA_DIR.key`. Beside the data and not among them, since a copy of the directory would hold both.
/// `None` where a directory has no name to add to, such as `/`.
#[must_use]
pub fn own_key_file(data_dir: &Path) -> Option<PathBuf> {
    let named = match data_dir.file_name() {
        Some(_) => data_dir.to_owned(),
        // `.` and `..` have names as well, if one looks.
        None => data_dir.canonicalize().ok()?,
    };
    let mut name = named.file_name()?.to_owned();
    name.push(".key");
    Some(named.with_file_name(name))
}

impl EncryptionArgs {
    /// The choice. `alone` is whether the node is a cluster of one, `joins` whether it becomes a member of one that runs.
    pub(super) fn resolve(&self, sources: &Sources<'_>, alone: bool, joins: bool) -> Result<EncryptionChoice, UsageError> {
        let truth = |text: &str| parse::truth(text).map(|off| off.then_some(EncryptionChoice::Off));
        let no_encryption = self.no_encryption.then_some("true");
        let given = [
            sources.value("key-file", self.key_file.as_deref(), "a file", |text| named(text).map(|it| from(KeyOrigin::File(it.into()))))?,
            sources.value("key-env", self.key_env.as_deref(), "the name of a variable", |text| {
                named(text).map(|it| from(KeyOrigin::Variable(it)))
            })?,
            sources.value("key-command", self.key_command.as_deref(), "a program, and its arguments if it takes any", |text| {
                KeyCommand::from_line(text).map(|it| from(KeyOrigin::Command(it)))
            })?,
            sources.value("key-credential", self.key_credential.as_deref(), "the name in a LoadCredential= line", |text| {
                named(text).map(|it| from(KeyOrigin::Credential(it)))
            })?,
            sources.value("no-encryption", no_encryption, "true or false", truth)?,
        ];
        let mut given: Vec<_> = given.into_iter().flatten().filter_map(chosen).collect();
        // The place that goes before the others decides alone: a flag is meant to replace what a file says.
        let Some(first) = given.iter().map(|setting| rank(&setting.origin)).min() else {
            return if alone { Ok(EncryptionChoice::OwnKeys) } else { Err(UsageError::NoKeys { joins }) };
        };
        given.retain(|setting| rank(&setting.origin) == first);
        match <[_; 1]>::try_from(given) {
            Ok([one]) => Ok(one.value),
            Err(several) => Err(several[1].refuse(format!("one source of keys, and {} names another already", several[0].origin))),
        }
    }
}

fn from(origin: KeyOrigin) -> Option<EncryptionChoice> {
    Some(EncryptionChoice::Keys(origin))
}

fn named(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// `no-encryption = false` says nothing.
fn chosen(setting: Setting<Option<EncryptionChoice>>) -> Option<Setting<EncryptionChoice>> {
    let Setting { key, value, given, origin } = setting;
    Some(Setting { key, value: value?, given, origin })
}

fn rank(origin: &Origin) -> u8 {
    match origin {
        Origin::Flag(_) => 0,
        Origin::Variable(_) => 1,
        Origin::File { .. } => 2,
        Origin::Default => 3,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_key_file_is_beside_the_directory_however_that_is_named() {
        for (data_dir, file) in
            [("data", "data.key"), ("data/", "data.key"), ("/var/lib/ukehi/1", "/var/lib/ukehi/1.key"), ("a.b", "a.b.key")]
        {
            assert_eq!(own_key_file(Path::new(data_dir)), Some(PathBuf::from(file)), "{data_dir}");
        }
        assert_eq!(own_key_file(Path::new("/")), None);
        let here = Path::new(".").canonicalize().expect("it is there");
        assert_eq!(own_key_file(Path::new(".")).expect("it has a name").parent(), here.parent(), "beside it, not in it");
    }
}
