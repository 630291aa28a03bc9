//! `cargo xtask fuzz`: libFuzzer on the consensus core, and on what reads files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

use crate::{run, workspace};

/// What there is to fuzz.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum Target {
    /// A node, and whatever its peers, its host and its clock may do
    Envelopes,
    /// A damaged journal, and all that reads it
    Journal,
    /// A damaged snapshot, and a node that starts from it
    Snapshot,
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Self::Envelopes => "envelopes",
            Self::Journal => "journal",
            Self::Snapshot => "snapshot",
        }
    }
}

/// Runs the fuzzer, and reduces its corpus to what reaches something that nothing else does.
///
/// Without a sanitizer any compiler will do: neither the core nor the journal has unsafe code that one could watch.
pub(crate) fn fuzz(target: Target, minutes: u32) -> Result<()> {
    let version = Command::new("cargo").args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(version.is_ok_and(|status| status.success()), "cargo-fuzz is missing: `cargo install cargo-fuzz` installs it");
    let corpus = workspace().join("fuzz/corpus").join(target.name());
    fs::create_dir_all(&corpus).with_context(|| format!("can't create {}", corpus.display()))?;
    let files = directory_of_files();
    fs::create_dir_all(&files).with_context(|| format!("can't create {}", files.display()))?;
    let fuzzed = run_on(target, minutes, &files);
    fs::remove_dir_all(&files).with_context(|| format!("can't remove {}", files.display()))?;
    fuzzed
}

fn run_on(target: Target, minutes: u32, files: &Path) -> Result<()> {
    let seconds = u64::from(minutes) * 60;
    let limits = [&format!("-max_total_time={seconds}"), "-max_len=1024", "-print_final_stats=1"];
    run(cargo_fuzz("run", target, files).arg("--").args(limits))?;
    // Counts of how often something was reached would keep thousands of stories.
    run(cargo_fuzz("cmin", target, files).args(["--", "-use_counters=0"]))
}

/// Where targets may write: in memory, if there is a place.
fn directory_of_files() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    parent.join(format!("ukehi-fuzz-{}", std::process::id()))
}

fn cargo_fuzz(command: &str, target: Target, files: &Path) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace()).env("TMPDIR", files).args(["fuzz", command, "--sanitizer", "none", target.name()]);
    cargo
}
