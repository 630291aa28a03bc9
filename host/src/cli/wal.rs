//! `ukehi wal inspect`, `verify` and `repair`: what a node's journal holds, and in what shape it is.
#![allow(clippy::print_stdout, reason = "the command's output")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, anyhow, bail};
use comfy_table::{CellAlignment, Table, presets};

mod chain;

pub use chain::ExpectedHead;

use super::Advice;
use super::key::KeySource;
use super::opener::Opener;
use crate::data_dir::{identity_of, lock};
use crate::wal::{self, Inspection, SegmentSummary, Verdict, WalDiagnostics};

/// Prints the segments of the journal in a node's data directory, and the verdict: fails if it is damaged. Changes nothing, and works beside a
/// running node.
///
/// # Errors
/// There is no journal, it can't be read, or a newer version wrote it.
pub fn inspect(dir: &Path) -> Result<ExitCode> {
    let dir = journal_of(dir);
    let Inspection { segments, verdict } = wal::inspect(&dir).context("no journal can be read here: expected a node's data directory")?;
    println!("{}", table(&segments));
    println!("{}", sentence(&verdict));
    Ok(if matches!(verdict, Verdict::Damaged(_)) { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Prints the verdict alone: fails if the journal is damaged or, where its log is encrypted and the keys are named, not what was written. Changes nothing. The checksums may be looked at
/// beside a running node; for the chain it is better stopped.
///
/// # Errors
/// As [`inspect`]; or the chain is broken, or can't be checked.
pub fn verify(dir: &Path, keys: &KeySource, head: Option<&ExpectedHead>) -> Result<ExitCode> {
    let inspection = wal::inspect(&journal_of(dir)).context("no journal can be read here: expected a node's data directory")?;
    println!("{}", sentence(&inspection.verdict));
    if matches!(inspection.verdict, Verdict::Damaged(_)) {
        return Ok(ExitCode::FAILURE);
    }
    if !keys.is_named() {
        if head.is_some() {
            return Err(anyhow!("a head is compared with the chain, and that takes the keys").context(Advice("name them: --key-file FILE")));
        }
        if identity_of(dir).is_ok_and(|identity| identity.sealed) {
            println!("the chain through the log was not checked: that takes its keys (--key-file FILE)");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let identity = identity_of(dir)?;
    if !identity.sealed {
        return Err(anyhow!("{} holds a log that is not encrypted: it has no chain", dir.display()).context(Advice("leave the keys out")));
    }
    let opener = Opener::new(keys, &identity.cluster)?.context("no keys were named")?;
    println!("{}", chain::prove(dir, &identity, &opener, head)?);
    Ok(ExitCode::SUCCESS)
}

/// Says what a cut of a damaged journal would lose, and carries it out if `yes` says so. Fails if it was not carried out, or the journal would be lost as a whole.
///
/// # Errors
/// A node uses the directory, or it can't be read or written.
pub fn cut(dir: &Path, yes: bool) -> Result<ExitCode> {
    let journal = dir.join("wal");
    if !journal.is_dir() {
        bail!("{} has no journal: expected a node's data directory", dir.display());
    }
    let _lock = lock(dir)?;
    let Some(cut) = wal::plan_cut(&journal)? else {
        println!("the journal is not damaged: nothing is cut");
        return Ok(ExitCode::SUCCESS);
    };
    println!("damaged: {}", cut.damage);
    if !cut.leaves_something {
        bail!("nothing would be left: remove the node from its cluster, and add it anew with a new id and an empty directory");
    }
    let removed: Vec<_> = cut.removed.iter().map(|number| format!("{number:016x}")).collect();
    let segments = if removed.is_empty() { String::new() } else { format!(", with segments {}", removed.join(", ")) };
    println!(
        "a cut loses {} bytes, every record from number {} on{segments}; what stays has entries up to {}.\nWhat is lost may have been acknowledged, and committed for \
         that: with a majority of whole nodes, use `ukehi start --on-corruption repair` instead.",
        cut.lost_bytes, cut.damage.sequence, cut.last_index
    );
    if !cut.keeps_hard_state {
        println!(
            "No copy of the node's term and vote can be used: what the cut loses of them is forgotten, and the node may vote twice in a term."
        );
    }
    if !yes {
        println!("nothing was changed: --yes carries it out");
        return Ok(ExitCode::FAILURE);
    }
    let added = wal::carry_out_cut(&journal, &cut)?;
    println!("the journal was cut{}", if added.is_empty() { "" } else { "; the newest term and vote were added to it from their copy" });
    Ok(ExitCode::SUCCESS)
}

fn sentence(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Clean(seen) => {
            let WalDiagnostics { records, last_sequence, segments, blank_segments, .. } = seen;
            format!("clean: {records} records, the last is {last_sequence}; {segments} segments in use, {blank_segments} prepared ahead")
        }
        Verdict::Torn(seen) => {
            let WalDiagnostics { torn_bytes, records, last_sequence, .. } = seen;
            format!("torn tail of {torn_bytes} bytes which the next start cuts: {records} records are whole, the last is {last_sequence}")
        }
        Verdict::Damaged(damage) => format!("damaged: {damage}"),
    }
}

/// The journal itself may be named as well as the data directory that it is in.
fn journal_of(dir: &Path) -> PathBuf {
    let below = dir.join("wal");
    if below.is_dir() { below } else { dir.to_owned() }
}

fn table(segments: &[SegmentSummary]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["segment", "records", "hard states", "appends", "compactions", "releases", "marks", "entries", "indexes", "bytes"]);
    for segment in segments {
        let indexes = if segment.appends == 0 { "–".to_owned() } else { format!("{}–{}", segment.first_index, segment.last_index) };
        table.add_row([
            format!("{:016x}", segment.number),
            format!("{}–{}", segment.first_sequence, segment.last_sequence),
            segment.hard_states.to_string(),
            segment.appends.to_string(),
            segment.compactions.to_string(),
            segment.releases.to_string(),
            segment.marks.to_string(),
            segment.entries.to_string(),
            indexes,
            segment.bytes.to_string(),
        ]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
