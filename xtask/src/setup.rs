//! `cargo xtask setup`: something that builds the component, installed if need be.

use std::env;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};

use crate::guest::{HOW_TO_SET_UP, TARGET, Toolchain};

/// Debian's compiler, its standard library's sources, and a linker for WebAssembly.
const DEBIAN_PACKAGES: [&str; 4] = ["rustc-web", "rust-web-src", "cargo-web", "lld-22"];

/// Returns once a toolchain can build the component. Asks for nothing, and prints a line for each thing that it does.
pub(crate) fn setup() -> Result<()> {
    let given = ["UKEHI_COMPONENT", "UKEHI_SKIP_COMPONENT"].iter().any(|variable| env::var_os(variable).is_some());
    if given || Toolchain::find().is_some() {
        return Ok(());
    }
    for install in [with_rustup, with_apt] {
        match install() {
            Ok(()) if Toolchain::find().is_some() => return Ok(()),
            Ok(()) => eprintln!("setup: that went through, but there is still no way to build for {TARGET}"),
            Err(Unavailable::NotHere) => {}
            Err(Unavailable::Failed(reason)) => eprintln!("setup: that failed: {reason}"),
        }
    }
    bail!(HOW_TO_SET_UP)
}

/// Why a way of installing did not work.
enum Unavailable {
    /// This machine doesn't have it, or this user may not use it.
    NotHere,
    Failed(String),
}

fn with_rustup() -> Result<(), Unavailable> {
    if !succeeds(Command::new("rustup").arg("--version")) {
        return Err(Unavailable::NotHere);
    }
    let mut rustup = Command::new("rustup");
    // Without a network it would try for minutes before the next way gets its turn.
    rustup.args(["target", "add", TARGET]).env("RUSTUP_MAX_RETRIES", "0");
    announced(&mut rustup)
}

fn with_apt() -> Result<(), Unavailable> {
    if !Path::new("/etc/debian_version").exists() || !succeeds(Command::new("apt-get").arg("--version")) {
        return Err(Unavailable::NotHere);
    }
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.trim_ascii() == b"0");
    if !is_root && !succeeds(Command::new("sudo").args(["-n", "true"])) {
        return Err(Unavailable::NotHere);
    }
    let apt_get = || {
        let mut command = Command::new(if is_root { "env" } else { "sudo" });
        command.args(if is_root { &[][..] } else { &["-n", "env"] });
        command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
        command
    };
    announced(apt_get().arg("update"))?;
    announced(apt_get().args(["install", "-y", "--no-install-recommends"]).args(DEBIAN_PACKAGES))
}

fn succeeds(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Says what is run, and runs it. Its own words are shown only where it fails.
fn announced(command: &mut Command) -> Result<(), Unavailable> {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    eprintln!("setup: {}", words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" "));
    let output =
        command.stdin(Stdio::null()).env_remove("RUST_BACKTRACE").output().map_err(|error| Unavailable::Failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Unavailable::Failed(format!("{}; {}", reason(&said), output.status)))
}

/// The line that says most of what a program wrote before it gave up: the first error, or its last words.
fn reason(said: &str) -> &str {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let error = lines.clone().find(|line| line.starts_with("error") || line.starts_with("E:"));
    error.or_else(|| lines.next_back()).unwrap_or("it said nothing")
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_first_error_is_the_reason() {
        assert_eq!(reason("info: downloading\nerror: no network\n\nCaused by:\n  much\n"), "error: no network");
        assert_eq!(reason("Reading lists\nE: Unable to locate package x\n"), "E: Unable to locate package x");
        assert_eq!(reason("a\n b \n\n"), "b");
        assert_eq!(reason(""), "it said nothing");
    }
}
