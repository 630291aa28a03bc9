//! `cargo xtask fuzz`: libFuzzer on the consensus core.

use std::process::{Command, Stdio};

use anyhow::{Result, ensure};

use crate::{run, workspace};

/// What there is to fuzz.
const TARGET: &str = "envelopes";

/// Runs the fuzzer, and reduces its corpus to what reaches something that nothing else does.
///
/// Without a sanitizer any compiler will do: the core has no unsafe code that one could watch.
pub(crate) fn fuzz(minutes: u32) -> Result<()> {
    let version = Command::new("cargo").args(["fuzz", "--version"]).stdout(Stdio::null()).stderr(Stdio::null()).status();
    ensure!(version.is_ok_and(|status| status.success()), "cargo-fuzz is missing: `cargo install cargo-fuzz` installs it");
    let seconds = u64::from(minutes) * 60;
    run(cargo_fuzz("run").arg("--").arg(format!("-max_total_time={seconds}")).args(["-max_len=1024", "-print_final_stats=1"]))?;
    // Counts of how often something was reached would keep thousands of stories.
    run(cargo_fuzz("cmin").args(["--", "-use_counters=0"]))
}

fn cargo_fuzz(command: &str) -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace()).args(["fuzz", command, "--sanitizer", "none", TARGET]);
    cargo
}
