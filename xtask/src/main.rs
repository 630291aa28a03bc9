//! The developer's commands: `cargo xtask`.
#![allow(clippy::print_stdout, reason = "a command line speaks through it")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio, exit};
use std::{env, fs};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;

mod fuzz;
#[allow(dead_code, reason = "compiling the core is the part of the host's build script, which includes the same file")]
mod guest;
mod setup;

/// Set-up and developer commands of Ukehi.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Finds or installs what builds the component. Quick and silent when all is there
    Setup,
    /// Builds the component and writes it to target/ukehi-raft.wasm
    Component,
    /// Runs a cluster of three nodes, kills its leader, and counts what was lost; arguments go to `ukehi demo`
    Demo(PassedOn),
    /// Runs every test; arguments go to `cargo test`
    Test(PassedOn),
    /// Runs simulated clusters, one for each seed; arguments go to the simulator: `--seeds N --from S`, and more with `--help`
    Sim(PassedOn),
    /// Goes through all states of a small cluster; arguments are its bounds: `--nodes N --terms T --entries E --crashes C`, and more with `--help`
    Model(PassedOn),
    /// Looks for envelopes and schedules that a node does not bear, or for damage to its files, and keeps what is worth keeping in fuzz/corpus. Needs cargo-fuzz
    Fuzz {
        /// What is fuzzed.
        #[arg(long, value_enum, default_value = "envelopes")]
        target: fuzz::Target,
        /// For how many minutes.
        #[arg(long, default_value_t = 10)]
        minutes: u32,
    },
    /// Runs real nodes under load while they are killed, stopped and damaged, and counts what was lost; arguments: `--minutes M --seed S`
    Soak(PassedOn),
    /// Compares the speed with other systems', on this machine; arguments go to the comparison: try `--help`. With `--sealing` as the first
    /// argument, measures how fast payloads are sealed, opened and chained
    Bench(PassedOn),
}

/// Arguments that another program understands.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
struct PassedOn {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

fn main() -> ExitCode {
    match run_task(Task::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_task(task: Task) -> Result<()> {
    // These need the core alone, natively.
    if !matches!(task, Task::Sim(_) | Task::Model(_) | Task::Fuzz { .. }) {
        setup::setup()?;
    }
    match task {
        Task::Setup => Ok(()),
        Task::Component => component(),
        Task::Demo(PassedOn { args }) => run_program("amaters-cluster", "ukehi", ["demo".into()].into_iter().chain(args)),
        Task::Test(PassedOn { args }) => test(&args),
        Task::Sim(PassedOn { args }) => run_without_host("sim", args),
        Task::Model(PassedOn { args }) => run_without_host("model", args),
        Task::Fuzz { target, minutes } => fuzz::fuzz(target, minutes),
        Task::Bench(PassedOn { args }) if args.first().is_some_and(|first| first == "--sealing") => bench_sealing(&args[1..]),
        Task::Soak(PassedOn { args }) => {
            run(cargo("build").args(["--release", "--package", "amaters-cluster"]))?;
            run_program("amaters-cluster-tests", "soak", args)
        }
        Task::Bench(PassedOn { args }) => {
            run(cargo("build").args(["--release", "--package", "amaters-cluster"]))?;
            let compare = ["--package", "amaters-cluster-tests", "--features", "compare", "--bin", "compare", "--"];
            run(cargo("run").arg("--release").args(compare).args(args))
        }
    }
}

/// The guest is built as the component is, and so is its code.
fn bench_sealing(args: &[OsString]) -> Result<()> {
    let toolchain = guest::Toolchain::find().context(guest::HOW_TO_SET_UP)?;
    let program = env::current_exe().context("this program has no path")?;
    let target_dir = program.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).context("the build has no target folder")?;
    let guest = toolchain.compile_example(&workspace(), &target_dir.join("guest"), "sealing_speed").map_err(anyhow::Error::msg)?;
    let sealing = ["--package", "amaters-cluster-tests", "--features", "sealing", "--bin", "sealing", "--", "--guest"];
    run(cargo("run").arg("--release").args(sealing).arg(guest).args(args))
}

/// In two builds: the tests' own package puts bugs into its copy of the core, which the program that it starts must not have.
fn test(args: &[OsString]) -> Result<()> {
    let products = ["--package", "amaters-cluster-core", "--package", "amaters-cluster", "--package", "xtask"];
    run(cargo("test").arg("--release").args(products).args(args))?;
    run(cargo("build").args(["--release", "--package", "amaters-cluster"]))?;
    run(cargo("test").args(["--release", "--package", "amaters-cluster-tests"]).args(args))
}

fn run_program(package: &str, program: &str, args: impl IntoIterator<Item = OsString>) -> Result<()> {
    run(cargo("run").args(["--release", "--package", package, "--bin", program, "--"]).args(args))
}

/// A program of the tests that needs the core alone: without the host there is no wasmtime to wait for.
fn run_without_host(program: &str, args: impl IntoIterator<Item = OsString>) -> Result<()> {
    let package = ["--package", "amaters-cluster-tests", "--no-default-features", "--bin", program, "--"];
    run(cargo("run").arg("--release").args(package).args(args))
}

/// Cargo on this workspace, in the user's own folder: paths among the arguments mean what they say.
fn cargo(command: &str) -> Command {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg(command).arg("--manifest-path").arg(workspace().join("Cargo.toml"));
    cargo
}

fn workspace() -> PathBuf {
    let xtask = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&xtask).parent().expect("xtask is a folder of the workspace").to_owned()
}

/// Runs a command in the foreground. Where it fails it has said why: what is left is to end as it did.
fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{} can't be run", command.get_program().display()))?;
    if !status.success() {
        exit(status.code().unwrap_or(1));
    }
    Ok(())
}

/// The host's build script builds the component. Cargo tells where it left it.
fn component() -> Result<()> {
    let mut build = cargo("build");
    build.args(["--release", "--package", "amaters-cluster", "--lib", "--message-format", "json-render-diagnostics"]);
    let output = build.env_remove("UKEHI_SKIP_COMPONENT").stderr(Stdio::inherit()).output().context("cargo can't be run")?;
    if !output.status.success() {
        exit(output.status.code().unwrap_or(1));
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    let built = messages.lines().filter_map(build_script_folder).map(|folder| folder.join("ukehi-raft.wasm")).find(|file| file.is_file());
    let Some(built) = built else { bail!("cargo did not say where the host's build script left the component") };
    let target_dir = built.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file()).context("the build has no target folder")?;
    let component = target_dir.join("ukehi-raft.wasm");
    let bytes = fs::copy(&built, &component).with_context(|| format!("{} can't be written", component.display()))?;
    ensure!(bytes > 0, "the build script left an empty component");
    println!("{}: {bytes} bytes", component.display());
    Ok(())
}

/// The `out_dir` of a message about a build script; `None` for other messages. Paths with characters that JSON escapes are not found.
fn build_script_folder(message: &str) -> Option<PathBuf> {
    let (_, rest) = message.split_once(r#""out_dir":""#).filter(|_| message.contains(r#""build-script-executed""#))?;
    Some(PathBuf::from(rest.split_once('"')?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        <Task as clap::CommandFactory>::command().debug_assert();
        let Task::Demo(demo) = Task::parse_from(["xtask", "demo", "--hold", "--nodes", "5"]) else { panic!("demo") };
        assert_eq!(demo.args, ["--hold", "--nodes", "5"]);
    }

    #[test]
    fn the_build_scripts_folder_is_read_from_cargos_message() {
        let message = r#"{"reason":"build-script-executed","package_id":"x","env":[],"out_dir":"/t/release/build/x/out"}"#;
        assert_eq!(build_script_folder(message), Some("/t/release/build/x/out".into()));
        assert_eq!(build_script_folder(r#"{"reason":"compiler-artifact","out_dir":"/t"}"#), None);
    }
}
