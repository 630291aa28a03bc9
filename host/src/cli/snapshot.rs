//! `ukehi snapshot`: looks at a node's snapshots, and has one taken.
#![allow(clippy::print_stdout, reason = "the command's output")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use amaters_cluster_core::{Config, Effect, EntryId, Node, NodeId, Status};
use anyhow::{Context as _, Result, anyhow, bail};
use clap::Subcommand;
use comfy_table::{CellAlignment, Table, presets};

use super::status::{agent, in_words, reason};
use crate::admin::SnapshotView;
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
    /// Reads the snapshots of a data directory from end to end, and fails if one is damaged. Changes nothing
    Verify {
        /// The data directory
        dir: PathBuf,
    },
    /// Prints what a snapshot holds: entries, members, sessions, sizes; fails if it is damaged. Changes nothing
    Inspect {
        /// A snapshot, a backup, or a data directory, for each of its snapshots
        #[arg(value_name = "FILE|DIR")]
        path: PathBuf,
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
        SnapshotCommand::Verify { dir } => verify(dir),
        SnapshotCommand::Inspect { path } => inspect::inspect(path),
        SnapshotCommand::Create { admin } => create(admin),
    }
}

fn list(dir: &Path) -> Result<ExitCode> {
    let found = snapshots_of(dir)?;
    println!("{}", table(&found, |_| String::new()));
    Ok(ExitCode::SUCCESS)
}

fn verify(dir: &Path) -> Result<ExitCode> {
    let found = snapshots_of(dir)?;
    let verdicts: Vec<_> = found.iter().map(|stored| check(&directory_of(dir), *stored)).collect();
    let all_whole = verdicts.iter().all(Result::is_ok);
    let mut verdicts = verdicts.into_iter();
    println!("{}", table(&found, |_| verdicts.next().map_or_else(String::new, in_a_word)));
    Ok(if all_whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn in_a_word(verdict: Result<()>) -> String {
    verdict.map_or_else(|error| format!("damaged: {error}"), |()| "whole".to_owned())
}

fn snapshots_of(dir: &Path) -> Result<Vec<StoredSnapshot>> {
    list_files(&directory_of(dir)).context("no snapshots can be read here: expected a node's data directory")
}

/// The snapshots' directory may be named as well as the data directory that it is in.
fn directory_of(dir: &Path) -> PathBuf {
    let below = dir.join("snapshots");
    if below.is_dir() { below } else { dir.to_owned() }
}

fn check(dir: &Path, stored: StoredSnapshot) -> Result<()> {
    let mut check = Check::new()?;
    loop {
        let bytes = read_file(dir, stored.id, check.bytes, PIECE_BYTES)?;
        if bytes.is_empty() {
            break;
        }
        check.push(&bytes)?;
    }
    let held = check.finish()?;
    if held != stored.id {
        bail!("it is another one: {held}");
    }
    Ok(())
}

/// Reads a snapshot as a node does at its start. What the state machine makes of it is not seen.
pub(super) struct Check {
    node: Node,
    effects: Vec<Effect>,
    bytes: u64,
    whole: bool,
}

impl Check {
    pub(super) fn new() -> Result<Self> {
        let node = Node::new(Config::new(NodeId(1), vec![NodeId(1)]))?;
        Ok(Self { node, effects: Vec::new(), bytes: 0, whole: false })
    }

    /// Takes the next bytes. Fails if they are damaged.
    pub(super) fn push(&mut self, bytes: &[u8]) -> Result<()> {
        self.node.restore(bytes, &mut self.effects)?;
        self.whole |= self.effects.drain(..).any(|effect| matches!(effect, Effect::StateRestored));
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// What the node knows by now.
    fn status(&self) -> Status {
        self.node.status(amaters_cluster_core::Instant(0))
    }

    /// Gives the last entry that the snapshot holds. Fails if it is cut short.
    pub(super) fn finish(self) -> Result<EntryId> {
        let held = self.status().snapshots.latest;
        held.filter(|_| self.whole).with_context(|| format!("it is cut short after {} bytes", self.bytes))
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
