//! `ukehi wal inspect`: what a node's journal holds, and in what shape it is.
#![allow(clippy::print_stdout, reason = "the command's output")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, presets};

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
    table.set_header(["segment", "records", "hard states", "appends", "marks", "entries", "indexes", "bytes"]);
    for segment in segments {
        let indexes = if segment.appends == 0 { "–".to_owned() } else { format!("{}–{}", segment.first_index, segment.last_index) };
        table.add_row([
            format!("{:016x}", segment.number),
            format!("{}–{}", segment.first_sequence, segment.last_sequence),
            segment.hard_states.to_string(),
            segment.appends.to_string(),
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
