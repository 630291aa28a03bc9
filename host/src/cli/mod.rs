//! The command line: `ukehi start`, `status`, `transfer`, `demo`, `bench`, `wal`, `snapshot`, `backup`, `restore` and `key`.
//!
//! The exit code is 0 for success, 2 for a command line, variable or configuration file that is wrong, and 1 for everything else that fails.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub mod backup;
pub mod bench;

#[cfg(unix)]
mod demo;
pub mod key;
pub mod member;
mod opener;
pub mod options;
pub mod snapshot;
pub mod start;
pub mod status;
pub mod transfer;
pub mod wal;

use options::{StartArgs, UsageError};

/// Runs the program and gives its exit code. Errors are printed to the standard error, without a backtrace.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::parse().command.run() {
        Ok(code) => code,
        Err(error) => {
            eprint!("{}", explain(&error));
            ExitCode::from(if error.downcast_ref::<UsageError>().is_some() { 2 } else { 1 })
        }
    }
}

/// A Raft node whose consensus runs in a sandbox, with a Redis-compatible front end
#[derive(Debug, Parser)]
#[command(name = "ukehi", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts a node: a cluster of one, or one of up to seven
    Start(Box<StartArgs>),
    /// Shows the state of all nodes
    Status {
        /// The nodes' admin addresses
        #[arg(long, value_name = "ADDR", value_delimiter = ',', default_value = "127.0.0.1:8091")]
        admin: Vec<String>,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Has the leader hand over to another node, without a wait for an election timeout
    Transfer {
        /// The node that is to lead [default: the one that has most of the log]
        #[arg(long, value_name = "ID")]
        to: Option<u64>,
        /// The nodes' admin addresses
        #[arg(long, value_name = "ADDR", value_delimiter = ',', default_value = "127.0.0.1:8091")]
        admin: Vec<String>,
    },
    /// Shows and changes who is a member
    #[command(subcommand)]
    Member(member::MemberCommand),
    /// Shows a cluster on this machine survive the death of its leader
    #[cfg(unix)]
    Demo(demo::DemoOptions),
    /// Loads servers, and measures throughput and latency
    Bench(bench::BenchOptions),
    /// Looks into a write-ahead log
    #[command(subcommand)]
    Wal(Wal),
    /// Writes the state of a running cluster to a file
    Backup(backup::BackupOptions),
    /// Makes the data directory of a new cluster of one from a backup
    Restore(backup::RestoreOptions),
    /// Lists, checks and takes snapshots
    #[command(subcommand)]
    Snapshot(snapshot::SnapshotCommand),
    /// Makes, lists and changes the keys of an encrypted log
    #[command(subcommand)]
    Key(key::KeyCommands),
}

#[derive(Debug, Subcommand)]
enum Wal {
    /// Shows what a data directory's log holds, and whether it is whole. Changes nothing
    Inspect {
        /// The data directory
        dir: PathBuf,
    },
    /// Cuts a damaged log where the damage begins: the last resort. Says what would be lost, and does it with --yes
    Repair {
        /// Cuts it: there is no other way yet (a node repairs itself with `start --on-corruption repair`)
        #[arg(long, required = true)]
        cut: bool,
        /// Does it
        #[arg(long)]
        yes: bool,
        /// The data directory, of a node that does not run
        dir: PathBuf,
    },
    /// Reads a data directory's log from end to end, and fails if it is damaged; with the keys of an encrypted log also if anything was changed, moved or left out. Changes nothing
    Verify {
        /// The data directory
        dir: PathBuf,
        /// The keys.
        #[command(flatten)]
        keys: key::KeySource,
        /// Fails unless the chain has this link: `encryption.head` of /status, noted elsewhere before
        #[arg(long, value_name = "INDEX:LINK")]
        expect_head: Option<wal::ExpectedHead>,
    },
}

impl Command {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Start(args) => start::run(args.resolve(&variable)?),
            Self::Status { admin, json } => status::run(&admin, json),
            Self::Transfer { to, admin } => transfer::run(&admin, to),
            Self::Member(command) => member::command(command),
            #[cfg(unix)]
            Self::Demo(options) => demo::command(&options),
            Self::Bench(options) => bench::command(&options),
            Self::Wal(Wal::Inspect { dir }) => wal::inspect(&dir),
            Self::Wal(Wal::Repair { cut: _, yes, dir }) => wal::cut(&dir, yes),
            Self::Wal(Wal::Verify { dir, keys, expect_head }) => wal::verify(&dir, &keys, expect_head.as_ref()),
            Self::Backup(options) => backup::backup(&options),
            Self::Restore(options) => backup::restore(&options),
            Self::Snapshot(command) => snapshot::command(&command),
            Self::Key(command) => key::command(command),
        }
    }
}

/// A variable that is no Unicode becomes a value that its option refuses.
fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
}

/// What a person can do about an error: `result.context(Advice("…"))` has it printed last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Advice(pub(crate) &'static str);

impl std::fmt::Display for Advice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

fn explain(error: &anyhow::Error) -> String {
    let advice = match error.downcast_ref::<Advice>() {
        Some(advice) => Some(advice.0),
        None => error.downcast_ref::<UsageError>().map(UsageError::advice),
    };
    let mut text = String::new();
    let mut label = "error";
    for cause in error.chain().map(ToString::to_string).filter(|cause| Some(cause.as_str()) != advice) {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{label}: {cause}");
        label = "  caused by";
    }
    if let Some(advice) = advice {
        let _ = writeln!(text, "  what to do: {advice}");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context as _;
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_documented_command_lines_are_taken() {
        for line in [
            "ukehi start --data-dir d",
            "ukehi start --id 1 --data-dir d --listen 127.0.0.1:7101 --client 127.0.0.1:6391 --admin 127.0.0.1:8091 --peer 1=127.0.0.1:7101 \
             --peer 2=127.0.0.1:7102 --peer 3=127.0.0.1:7103 --config f.toml --log-format json",
            "ukehi status --admin 127.0.0.1:8091,127.0.0.1:8092 --json",
            "ukehi transfer --to 2 --admin 127.0.0.1:8091,127.0.0.1:8092",
            "ukehi start --id 4 --data-dir d --join 127.0.0.1:8091,127.0.0.1:8092 --advertise host:7104",
            "ukehi member list --admin 127.0.0.1:8091 --json",
            "ukehi member add 4=127.0.0.1:7104 --admin 127.0.0.1:8091,127.0.0.1:8092",
            "ukehi member add-learner 4=127.0.0.1:7104",
            "ukehi member promote 4",
            "ukehi member remove 4",
            "ukehi member replace 1=127.0.0.1:7101,4=127.0.0.1:7104",
            "ukehi demo --nodes 5 --dir d --hold",
            "ukehi demo --membership",
            "ukehi bench --target 127.0.0.1:6391,127.0.0.1:6392 --clients 64 --pipeline 1 --value 128 --seconds 10 --json",
            "ukehi wal inspect d",
            "ukehi wal verify d",
            "ukehi wal verify d --key-file f --expect-head 7:00000000000000000000000000000000000000000000000000000000000000ff",
            "ukehi snapshot verify d --key-env LOG_KEYS",
            "ukehi restore --from f --data-dir d --cluster new --from-cluster old --key-file f",
            "ukehi wal repair --cut --yes d",
            "ukehi snapshot list d",
            "ukehi snapshot verify d",
            "ukehi snapshot inspect f",
            "ukehi snapshot create --admin 127.0.0.1:8091",
            "ukehi backup --to f --admin 127.0.0.1:8091",
            "ukehi restore --from f --data-dir d --cluster new --id 4 --advertise host:7104",
            "ukehi key generate --out f",
            "ukehi key add-version --key-file f",
            "ukehi key list --key-file f",
            "ukehi key list --key-file f --admin 127.0.0.1:8091,127.0.0.1:8092",
            "ukehi key list --admin 127.0.0.1:8091",
            "ukehi key rotate --version 2 --admin 127.0.0.1:8091,127.0.0.1:8092",
            "ukehi start --data-dir d --key-file f",
            "ukehi start --data-dir d --no-encryption",
            "ukehi start --data-dir d --snapshot-every-bytes 64MiB --snapshot-every-entries 0 --snapshots-kept 2 --on-corruption repair",
        ] {
            Cli::try_parse_from(line.split_whitespace()).expect(line);
        }
    }

    #[test]
    fn wrong_command_lines_end_with_code_2() {
        for line in [
            "ukehi start --data-dir d --data-dir e",
            "ukehi start --data-dir d --key-file f --no-encryption",
            "ukehi key list",
            "ukehi demo --nodes 8",
            "ukehi bench",
            "ukehi wal verify d --expect-head 7",
            "ukehi bench --target x",
            "ukehi wal",
            "ukehi restore --from f --data-dir d --cluster x/y",
        ] {
            assert_eq!(Cli::try_parse_from(line.split_whitespace()).expect_err(line).exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn an_error_says_what_and_why_and_what_to_do() {
        let refused: Result<(), _> = Err(io::Error::other("address in use"));
        let error = refused.context("port 7101 can't be opened").context(Advice("end the other node")).expect_err("an error");
        let said = "error: port 7101 can't be opened\n  caused by: address in use\n  what to do: end the other node\n";
        assert_eq!(explain(&error), said);
        assert_eq!(explain(&anyhow::anyhow!("odd")), "error: odd\n");
    }

    #[test]
    fn a_usage_error_points_at_the_help() {
        let error = StartArgs::default().resolve(&|_| None).expect_err("no directory").into();
        assert!(explain(&error).ends_with("\n  what to do: see `ukehi start --help`\n"), "{}", explain(&error));
    }
}
