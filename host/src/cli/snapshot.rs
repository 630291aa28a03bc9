//! `ukehi snapshot`: looks at a node's snapshots, and has one taken.
#![allow(clippy::print_stdout, reason = "the command's output")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use amaters_cluster_core::snapshot::SnapshotForm;
use amaters_cluster_core::{Effect, EntryId, KeyVersion, Node, NodeId, Status};
use anyhow::{Context as _, Result, anyhow, bail};
use clap::Subcommand;
use comfy_table::{CellAlignment, Table, presets};

use super::key::KeySource;
use super::opener::{Opener, reading_config};
use super::status::{agent, in_words, reason};
use crate::admin::SnapshotView;
use crate::data_dir::identity_of;
use crate::snapshots::{StoredSnapshot, list_files, read_file};

mod inspect;

/// How much of a file is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// What is done with snapshots.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Lists the snapshots of a data directory. Changes nothing
    List {
        /// The data directory
        dir: PathBuf,
    },
    /// Reads the snapshots of a data directory from end to end, and fails if one is damaged. Changes nothing. Those of an encrypted log are opened if their keys are named
    Verify {
        /// The data directory
        dir: PathBuf,
        /// The keys.
        #[command(flatten)]
        keys: KeySource,
    },
    /// Prints what a snapshot holds: entries, members, sessions, sizes; fails if it is damaged. Changes nothing
    Inspect {
        /// A snapshot, a backup, or a data directory, for each of its snapshots
        #[arg(value_name = "FILE|DIR")]
        path: PathBuf,
        /// The keys.
        #[command(flatten)]
        keys: KeySource,
    },
    /// Has a node take a snapshot now
    Create {
        /// The node's admin address
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8091")]
        admin: String,
    },
}

/// Carries it out.
///
/// # Errors
/// The directory can't be read, or the node did not take a snapshot.
pub fn command(command: &SnapshotCommand) -> Result<ExitCode> {
    match command {
        SnapshotCommand::List { dir } => list(dir),
        SnapshotCommand::Verify { dir, keys } => verify(dir, keys),
        SnapshotCommand::Inspect { path, keys } => inspect::inspect(path, keys),
        SnapshotCommand::Create { admin } => create(admin),
    }
}

fn list(dir: &Path) -> Result<ExitCode> {
    let found = snapshots_of(dir)?;
    println!("{}", table(&found, |_| String::new()));
    Ok(ExitCode::SUCCESS)
}

fn verify(dir: &Path, keys: &KeySource) -> Result<ExitCode> {
    let found = snapshots_of(dir)?;
    let opener = if keys.is_named() { Opener::new(keys, &identity_of(dir)?.cluster)? } else { None };
    let verdicts: Vec<_> = found.iter().map(|stored| check(&directory_of(dir), *stored, opener.as_ref())).collect();
    let all_whole = verdicts.iter().all(Result::is_ok);
    let mut verdicts = verdicts.into_iter();
    println!("{}", table(&found, |_| verdicts.next().map_or_else(String::new, in_a_word)));
    Ok(if all_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_a_word(verdict: Result<Opened>) -> String {
    match verdict {
        Ok(Opened(true)) => "whole".to_owned(),
        Ok(Opened(false)) => "whole by its checksums; encrypted, and not opened: name its keys (--key-file FILE)".to_owned(),
        Err(error) => format!("damaged: {error:#}"),
    }
}

/// Whether what is in a snapshot was read, too.
struct Opened(bool);

fn snapshots_of(dir: &Path) -> Result<Vec<StoredSnapshot>> {
    list_files(&directory_of(dir)).context("no snapshots can be read here: expected a node's data directory")
}

/// The snapshots' directory may be named as well as the data directory that it is in.
fn directory_of(dir: &Path) -> PathBuf {
    let below = dir.join("snapshots");
    if below.is_dir() { below } else { dir.to_owned() }
}

fn check(dir: &Path, stored: StoredSnapshot, opener: Option<&Opener>) -> Result<Opened> {
    let mut check = Check::new(opener)?;
    loop {
        let bytes = read_file(dir, stored.id, check.bytes, PIECE_BYTES)?;
        if bytes.is_empty() {
            break;
        }
        check.push(&bytes)?;
    }
    let opened = Opened(!check.stays_closed());
    let held = check.finish()?;
    if held != stored.id {
        bail!("it is another one: {held}");
    }
    Ok(opened)
}

/// Reads a snapshot as a node does at its start. What the state machine makes of it is not seen; and nothing of a sealed one where there are no keys, but its checksums.
pub(super) struct Check {
    form: SnapshotForm,
    /// What has come before it was clear whether it is sealed.
    held_back: Vec<u8>,
    node: Node,
    has_keys: bool,
    effects: Vec<Effect>,
    bytes: u64,
}

impl Check {
    pub(super) fn new(opener: Option<&Opener>) -> Result<Self> {
        let node = Node::new(reading_config(opener, NodeId(1))?)?;
        let has_keys = opener.is_some();
        Ok(Self { form: SnapshotForm::default(), held_back: Vec::new(), node, has_keys, effects: Vec::new(), bytes: 0 })
    }

    /// Takes the next bytes. Fails if they are damaged.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes += bytes.len() as u64;
        self.form.push(bytes)?;
        if self.stays_closed() {
            return Ok(());
        }
        self.held_back.extend_from_slice(bytes);
        if self.form.is_sealed().is_some() {
            self.node.restore(&std::mem::take(&mut self.held_back), &mut self.effects)?;
            self.effects.clear();
        }
        Ok(())
    }

    /// Whether the snapshot is sealed, and there are no keys.
    pub(super) fn stays_closed(&self) -> bool {
        self.form.is_sealed() == Some(true) && !self.has_keys
    }

    /// Whether it is clear by now that the snapshot is sealed, or not.
    pub(super) fn is_known(&self) -> bool {
        self.form.is_sealed().is_some()
    }

    /// What the node knows by now.
    fn status(&self) -> Status {
        self.node.status(amaters_cluster_core::Instant(0))
    }

    /// Gives the last entry that the snapshot holds. Fails if it is cut short.
    pub(super) fn finish(&self) -> Result<EntryId> {
        let last = self.form.finish().with_context(|| format!("it is cut short after {} bytes", self.bytes))?;
        if self.stays_closed() {
            return Ok(last);
        }
        self.status().snapshots.latest.with_context(|| format!("it is cut short after {} bytes", self.bytes))
    }

    /// The version of the key that it is sealed with, if it is and was opened, once it was read to its end: that which holds where its chain stands.
    pub(super) fn sealed_with(mut self) -> Result<Option<KeyVersion>> {
        if !self.has_keys || self.form.is_sealed() != Some(true) {
            return Ok(None);
        }
        let now = amaters_cluster_core::Instant(0);
        self.node.start(now)?; // a node takes its place in the chain no earlier
        Ok(self.node.status(now).encryption.map(|encryption| encryption.version))
    }
}

fn create(admin: &str) -> Result<ExitCode> {
    let request = agent().post(format!("http://{admin}/snapshots")).send_empty();
    let mut response = request.map_err(|error| anyhow!("the node at {admin}: {}", in_words(&error)))?;
    let code = response.status();
    let body = response.body_mut().read_to_string().map_err(|error| anyhow!("the node at {admin}: {}", in_words(&error)))?;
    if code.as_u16() == 202 {
        println!("a snapshot is being taken: `ukehi status --json` tells when it is durable");
        return Ok(ExitCode::SUCCESS);
    }
    if !code.is_success() {
        bail!("the node at {admin} took no snapshot: {}", reason(&body).unwrap_or_else(|| format!("it answered {code}")));
    }
    match serde_json::from_str::<Option<SnapshotView>>(&body).context("the answer is no snapshot's")? {
        Some(SnapshotView { index, term, bytes }) => {
            println!("snapshot up to entry {index} of term {term}: {bytes} bytes");
        }
        None => println!("the log is empty: there is nothing to take a snapshot of"),
    }
    Ok(ExitCode::SUCCESS)
}

fn table(found: &[StoredSnapshot], mut verdict: impl FnMut(&StoredSnapshot) -> String) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["up to entry", "of term", "bytes", ""]);
    for stored in found {
        let StoredSnapshot { id, bytes } = stored;
        table.add_row([id.index.to_string(), id.term.to_string(), bytes.to_string(), verdict(stored)]);
    }
    for column in table.column_iter_mut().take(3) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
