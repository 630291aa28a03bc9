//! `ukehi key`: the keys of a cluster's log.
#![allow(clippy::print_stdout, reason = "the command's output")]

use std::path::PathBuf;
use std::process::ExitCode;

use amaters_cluster_core::sealing::KeyRing;
use anyhow::Result;
use clap::{Args, Subcommand};

mod cluster;

use crate::keys::{self, KeyCommand, KeyCredential, KeyFile, KeyProvider, KeyVariable};

/// What to do with keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommands {
    /// Writes a key file with a new key, for its owner alone. A file that is there is never written over
    Generate {
        /// The new file
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
    },
    /// Adds a new key to a key file, as the version after the last. Earlier versions stay: what they sealed is read with them
    AddVersion {
        /// The key file
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
    },
    /// Lists the versions of a source, each with a fingerprint that tells nothing about its key; and with --admin what the nodes of a cluster have, use and need
    List {
        /// The source.
        #[command(flatten)]
        source: KeySource,
        /// The nodes' admin addresses
        #[arg(long, value_name = "ADDR", value_delimiter = ',', required_unless_present_any = SOURCES)]
        admin: Vec<String>,
    },
    /// Has a cluster seal with a newer version of its key, once all voters hold it. The earlier ones are kept for what they sealed
    Rotate {
        /// The version [default: the newest that the leader's source of keys has]
        #[arg(long, value_name = "NUMBER")]
        version: Option<u32>,
        /// The nodes' admin addresses: the leader's has to be among them
        #[arg(long, value_name = "ADDR", value_delimiter = ',', default_value = "127.0.0.1:8091")]
        admin: Vec<String>,
    },
}

/// The arguments of [`KeySource`].
const SOURCES: [&str; 4] = ["key_file", "key_env", "key_command", "key_credential"];

/// Where keys come from: one source, or none.
#[derive(Clone, Debug, Default, Args)]
#[group(multiple = false)]
pub struct KeySource {
    /// A key file, as `ukehi key generate` writes it, that is its owner's alone
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// An environment variable that holds the text of a key file
    #[arg(long, value_name = "VAR")]
    pub key_env: Option<String>,
    /// A command that prints the text of a key file: a program and its arguments with spaces between them, run without a shell
    #[arg(long, value_name = "CMD", value_parser = command_line)]
    pub key_command: Option<KeyCommand>,
    /// A credential of the systemd unit: the name in its `LoadCredential=`
    #[arg(long, value_name = "NAME")]
    pub key_credential: Option<String>,
}

/// A source of keys that was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// A key file.
    File(PathBuf),
    /// An environment variable.
    Variable(String),
    /// A command.
    Command(KeyCommand),
    /// A credential of the systemd unit.
    Credential(String),
}

impl KeySource {
    /// Whether one was chosen.
    #[must_use]
    pub fn is_named(&self) -> bool {
        self.key_file.is_some() || self.key_env.is_some() || self.key_command.is_some() || self.key_credential.is_some()
    }

    /// The source that was chosen; `None` if none was.
    #[must_use]
    pub fn origin(self) -> Option<KeyOrigin> {
        match self {
            Self { key_file: Some(path), .. } => Some(KeyOrigin::File(path)),
            Self { key_env: Some(name), .. } => Some(KeyOrigin::Variable(name)),
            Self { key_command: Some(command), .. } => Some(KeyOrigin::Command(command)),
            Self { key_credential: Some(name), .. } => Some(KeyOrigin::Credential(name)),
            Self { .. } => None,
        }
    }

    /// What reads the source that was chosen; `None` if none was.
    #[must_use]
    pub fn provider(self) -> Option<Box<dyn KeyProvider>> {
        self.origin().map(KeyOrigin::provider)
    }
}

impl KeyOrigin {
    /// What reads it.
    #[must_use]
    pub fn provider(self) -> Box<dyn KeyProvider> {
        match self {
            Self::File(path) => Box::new(KeyFile::new(path)),
            Self::Variable(name) => Box::new(KeyVariable::new(name)),
            Self::Command(command) => Box::new(command),
            Self::Credential(name) => Box::new(KeyCredential::new(name)),
        }
    }
}

/// Carries the command out.
///
/// # Errors
/// The keys can't be read or written.
pub fn command(command: KeyCommands) -> Result<ExitCode> {
    keys::forbid_core_dumps()?;
    match command {
        KeyCommands::Generate { out } => {
            let keys = keys::create_key_file(&out)?;
            println!("{}: a new key, version 1", out.display());
            print!("{}", listing(&keys));
            println!("Give each node of the cluster a copy, and keep one elsewhere: without it, what is sealed is lost.");
        }
        KeyCommands::AddVersion { key_file } => {
            let (version, keys) = keys::add_version(&key_file)?;
            println!("{}: a new key, version {version}", key_file.display());
            print!("{}", listing(&keys));
            println!("Give each node of the cluster a copy, and then have the cluster seal with it: ukehi key rotate --admin ADDR,…");
        }
        KeyCommands::List { source, admin } => {
            if let Some(provider) = source.provider() {
                print!("{}", listing(&provider.load()?));
            }
            if !admin.is_empty() {
                return cluster::list(&admin);
            }
        }
        KeyCommands::Rotate { version, admin } => return cluster::rotate(&admin, version),
    }
    Ok(ExitCode::SUCCESS)
}

fn listing(keys: &KeyRing) -> String {
    let line = |version| Some(format!("version {version}  fingerprint {}\n", keys.get(version).ok()?.fingerprint()));
    keys.versions().filter_map(line).collect()
}

fn command_line(line: &str) -> Result<KeyCommand, &'static str> {
    KeyCommand::from_line(line).ok_or("expected a program, and its arguments if it takes any")
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(subcommand)]
        command: KeyCommands,
    }

    #[test]
    fn a_listing_shows_fingerprints_and_no_keys() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        keys::create_key_file(&path).expect("a new file");
        let (_, keys) = keys::add_version(&path).expect("added");
        let listing = listing(&keys);
        let lines: Vec<_> = listing.lines().collect();
        assert_eq!(lines.len(), 2);
        for (line, version) in lines.iter().zip(keys.versions()) {
            let key = keys.get(version).expect("there");
            assert_eq!(*line, format!("version {version}  fingerprint {}", key.fingerprint()));
            let hex: String = key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
            assert!((0..56).all(|at| !line.contains(&hex[at..at + 8])), "{line}");
        }
    }

    #[test]
    fn one_source_is_named_and_nothing_is_forced() {
        for line in ["x list", "x list --key-file a --key-env B", "x generate", "x generate --out a --force", "x list --key-command="] {
            assert_eq!(Line::try_parse_from(line.split(' ')).expect_err(line).exit_code(), 2, "{line}");
        }
        let parsed = Line::try_parse_from(["x", "list", "--key-command", "vault read keys"]).expect("a command");
        let KeyCommands::List { source, .. } = parsed.command else { panic!("list") };
        assert_eq!(source.provider().map(|provider| provider.describe()), Some("the key command vault".into()));
    }
}
