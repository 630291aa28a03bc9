//! Where the options come from, and the words for one that is wrong.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use clap::{Args as _, Command};
use thiserror::Error;
use toml::de::{DeTable, DeValue};

use super::{PEER, StartArgs};

/// An option that is wrong, missing or unknown, or a file that can't be read. The program ends with code 2.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UsageError {
    /// A value that is not allowed.
    #[error("{key} is {got} ({origin}): expected {expected}")]
    Value {
        /// The option.
        key: String,
        /// What came.
        got: String,
        /// Where it stands.
        origin: Origin,
        /// What is allowed.
        expected: String,
    },
    /// An option that can't be left out here.
    #[error("{key} is missing: expected {expected}")]
    Missing {
        /// The option.
        key: &'static str,
        /// What is allowed.
        expected: String,
    },
    /// A node among others has no key for its log, and was not told to do without.
    #[error("this node is to encrypt its log, and no key was named")]
    NoKeys {
        /// Whether it joins a cluster that runs.
        joins: bool,
    },
    /// A key of the file that is no option.
    #[error("{key} is not an option ({origin}): known are {known}")]
    UnknownKey {
        /// The key.
        key: String,
        /// Where it stands.
        origin: Origin,
        /// The keys that there are.
        known: String,
    },
    /// The file is not TOML.
    #[error("{origin}: {message}")]
    Syntax {
        /// Where the mistake is.
        origin: Origin,
        /// What is wrong.
        message: String,
    },
    /// The file can't be read.
    #[error("config is {} ({origin}): the file can't be read", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Where its name stands.
        origin: Origin,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl UsageError {
    /// What a person can do about it.
    #[must_use]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::NoKeys { joins: false } => {
                "make a key file once, give each node of the cluster a copy, and name it at each start:
    ukehi key generate --out FILE
    ukehi start … --key-file FILE
  or start all nodes with --no-encryption: whoever gets a disk or a backup then reads everything"
            }
            Self::NoKeys { joins: true } => {
                "copy the key file that the nodes of the cluster have, and name it:
    ukehi key generate --out FILE      made it, on one of them; a cluster of one made DATA_DIR.key
    ukehi start … --key-file FILE
  or start with --no-encryption, if they were"
            }
            _ => "see `ukehi start --help`",
        }
    }

    pub(super) fn missing(key: &'static str, expected: impl Into<String>) -> Self {
        Self::Missing { key, expected: expected.into() }
    }
}

/// Where an option stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line: the flag.
    Flag(String),
    /// In the environment: the variable.
    Variable(String),
    /// In the configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Nowhere.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("the default"),
        }
    }
}

/// A value, and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Setting<T> {
    pub(super) key: &'static str,
    pub(super) value: T,
    /// The value as it was written.
    pub(super) given: String,
    pub(super) origin: Origin,
}

impl<T: fmt::Debug> Setting<T> {
    pub(super) fn default(key: &'static str, value: T) -> Self {
        Self { key, given: format!("{value:?}"), value, origin: Origin::Default }
    }

    pub(super) fn refuse(&self, expected: impl Into<String>) -> UsageError {
        UsageError::Value { key: self.key.to_owned(), got: self.given.clone(), origin: self.origin.clone(), expected: expected.into() }
    }
}

/// A voter as it was written.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    pub(super) id: String,
    pub(super) address: String,
    pub(super) origin: Origin,
}

impl Peer {
    pub(super) fn refuse(&self, expected: impl Into<String>) -> UsageError {
        let got = format!("{}={}", self.id, self.address);
        UsageError::Value { key: "peer".to_owned(), got, origin: self.origin.clone(), expected: expected.into() }
    }
}

/// The environment and the file; the flags come as arguments.
pub(super) struct Sources<'a> {
    variable: &'a dyn Fn(&str) -> Option<String>,
    file: Option<File>,
}

impl<'a> Sources<'a> {
    pub(super) fn open(config: Option<&str>, variable: &'a dyn Fn(&str) -> Option<String>) -> Result<Self, UsageError> {
        let mut sources = Self { variable, file: None };
        if let Some(path) = sources.find("config", config) {
            sources.file = Some(File::read(&path)?);
        }
        Ok(sources)
    }

    /// The value of an option, if it stands anywhere.
    pub(super) fn value<T>(
        &self,
        key: &'static str,
        flag: Option<&str>,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<Setting<T>>, UsageError> {
        let Some(Setting { given, origin, .. }) = self.find(key, flag) else { return Ok(None) };
        match parse(&given) {
            Some(value) => Ok(Some(Setting { key, value, given, origin })),
            None => Err(UsageError::Value { key: key.to_owned(), got: format!("{given:?}"), origin, expected: expected.to_owned() }),
        }
    }

    /// The value of an option, or the default.
    pub(super) fn value_or<T: fmt::Debug>(
        &self,
        key: &'static str,
        flag: Option<&str>,
        default: T,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Setting<T>, UsageError> {
        Ok(self.value(key, flag, expected, parse)?.unwrap_or_else(|| Setting::default(key, default)))
    }

    /// The voters, unchecked but for their form.
    pub(super) fn peers(&self, flags: &[String]) -> Result<Vec<Peer>, UsageError> {
        let split = |text: &str, origin: Origin| match text.split_once('=') {
            Some((id, address)) => Ok(Peer { id: id.trim().to_owned(), address: address.trim().to_owned(), origin }),
            None => Err(UsageError::Value { key: "peer".to_owned(), got: format!("{text:?}"), origin, expected: PEER.to_owned() }),
        };
        if !flags.is_empty() {
            return flags.iter().map(|text| split(text, Origin::Flag("--peer".to_owned()))).collect();
        }
        if let Some(Setting { given, origin, .. }) = self.find("peer", None) {
            return given.split(',').map(|text| split(text, origin.clone())).collect();
        }
        Ok(self.file.as_ref().map(|file| file.peers.clone()).unwrap_or_default())
    }

    fn find(&self, key: &'static str, flag: Option<&str>) -> Option<Setting<()>> {
        let setting = |given, origin| Setting { key, value: (), given, origin };
        if let Some(flag) = flag {
            return Some(setting(flag.to_owned(), Origin::Flag(format!("--{key}"))));
        }
        let name = format!("UKEHI_{}", key.replace('-', "_").to_uppercase());
        // An empty variable is how many tools spell an absent one.
        if let Some(given) = (self.variable)(&name).filter(|given| !given.is_empty()) {
            return Some(setting(given, Origin::Variable(name)));
        }
        let file = self.file.as_ref()?;
        file.values.get(key).map(|(given, line)| setting(given.clone(), file.origin(*line)))
    }
}

/// A configuration file, its values as text.
struct File {
    path: PathBuf,
    values: BTreeMap<String, (String, usize)>,
    peers: Vec<Peer>,
}

impl File {
    fn read(named: &Setting<()>) -> Result<Self, UsageError> {
        let path = PathBuf::from(&named.given);
        match std::fs::read_to_string(&path) {
            Ok(text) => Self::parse(&path, &text),
            Err(source) => Err(UsageError::Unreadable { path, origin: named.origin.clone(), source }),
        }
    }

    fn parse(path: &Path, text: &str) -> Result<Self, UsageError> {
        let line = |span: Range<usize>| text.bytes().take(span.start).filter(|byte| *byte == b'\n').count() + 1;
        let mut file = Self { path: path.to_owned(), values: BTreeMap::new(), peers: Vec::new() };
        let table = DeTable::parse(text).map_err(|error| UsageError::Syntax {
            origin: file.origin(line(error.span().unwrap_or_default())),
            message: error.message().to_owned(),
        })?;
        for (key, value) in table.get_ref() {
            let (name, at) = (key.get_ref().as_ref(), line(key.span()));
            if !keys().any(|(known, _)| known == name) {
                let known = keys().filter(|(_, hidden)| !hidden).map(|(known, _)| known).collect::<Vec<_>>().join(", ");
                return Err(UsageError::UnknownKey { key: name.to_owned(), origin: file.origin(at), known });
            }
            match (name, value.get_ref()) {
                ("peers", DeValue::Table(peers)) => {
                    for (id, address) in peers {
                        let origin = file.origin(line(id.span()));
                        let address = scalar("peers", address.get_ref(), &origin)?;
                        file.peers.push(Peer { id: id.get_ref().to_string(), address, origin });
                    }
                }
                ("peers", other) => return Err(wrong_kind(name, other, file.origin(at), "a table: [peers] 1 = \"HOST:PORT\"")),
                (name, value) => {
                    let text = scalar(name, value, &file.origin(at))?;
                    file.values.insert(name.to_owned(), (text, at));
                }
            }
        }
        Ok(file)
    }

    fn origin(&self, line: usize) -> Origin {
        Origin::File { path: self.path.clone(), line }
    }
}

fn scalar(key: &str, value: &DeValue<'_>, origin: &Origin) -> Result<String, UsageError> {
    match value {
        DeValue::String(text) => Ok(text.to_string()),
        DeValue::Integer(number) => Ok(number.to_string()),
        DeValue::Boolean(truth) => Ok(truth.to_string()),
        other => Err(wrong_kind(key, other, origin.clone(), "a string, a whole number, true or false")),
    }
}

fn wrong_kind(key: &str, value: &DeValue<'_>, origin: Origin, expected: &str) -> UsageError {
    UsageError::Value { key: key.to_owned(), got: format!("of the kind {}", value.type_str()), origin, expected: expected.to_owned() }
}

/// What a file may say, and whether the help hides it: what the command line may, but for the name of the file.
fn keys() -> impl Iterator<Item = (String, bool)> {
    let command = StartArgs::augment_args(Command::new("start"));
    let flags = command.get_arguments().filter_map(|flag| Some((flag.get_long()?.to_owned(), flag.is_hide_set()))).collect::<Vec<_>>();
    let keys = flags.into_iter().filter(|(name, _)| name != "config" && name != "help");
    keys.map(|(name, hidden)| if name == "peer" { ("peers".to_owned(), hidden) } else { (name, hidden) })
}
