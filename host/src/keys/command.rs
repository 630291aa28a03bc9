//! Keys that a command prints, as credential helpers do.

use std::io;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use amaters_cluster_core::sealing::KeyRing;
use zeroize::Zeroizing;

use super::file::{parse, read_bounded};
use super::{KeyProvider, KeySourceError};

/// A program that prints the text of a key file to its standard output, and ends with success. It is run directly, never by a shell; its standard input is empty, its standard error the node's. On Unix it has a process group
/// of its own: where it takes too long, what it has started is ended with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyCommand {
    program: String,
    args: Vec<String>,
    limit: Duration,
}

impl KeyCommand {
    /// How long the command may take.
    pub const LIMIT: Duration = Duration::from_secs(10);

    /// A program and its arguments.
    #[must_use]
    pub fn new(program: impl Into<String>, args: impl IntoIterator<Item = String>) -> Self {
        Self { program: program.into(), args: args.into_iter().collect(), limit: Self::LIMIT }
    }

    /// A program and its arguments in one line, with spaces between them. Quotes and dollar signs mean themselves: what needs more belongs in a script. `None` for an empty line.
    #[must_use]
    pub fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().map(str::to_owned);
        Some(Self::new(words.next()?, words))
    }

    /// Another limit than [`Self::LIMIT`].
    #[must_use]
    pub fn with_limit(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }

    fn failed_to_run(&self, source: io::Error) -> KeySourceError {
        KeySourceError::NotRun { program: self.program.clone(), source }
    }

    fn ended(&self, child: &mut Child, deadline: Instant) -> Result<ExitStatus, KeySourceError> {
        loop {
            if let Some(status) = child.try_wait().map_err(|source| self.failed_to_run(source))? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(KeySourceError::TooSlow { program: self.program.clone(), limit: self.limit });
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// What it has printed, and how it ended. Where this fails, it has not ended, or nobody has asked how: its number is still its own.
    fn run(&self, child: &mut Child) -> Result<(Zeroizing<Vec<u8>>, ExitStatus), KeySourceError> {
        let deadline = Instant::now() + self.limit;
        let Some(output) = child.stdout.take() else { return Err(self.failed_to_run(io::ErrorKind::BrokenPipe.into())) };
        let (sender, receiver) = mpsc::channel();
        let origin = self.describe();
        // Where something that the command started keeps its output open from a group of its own, this thread outlives the call. It holds a buffer, and wipes it.
        thread::spawn(move || sender.send(read_bounded(output, &origin)));
        let text = match receiver.recv_timeout(self.limit) {
            Ok(text) => text.map_err(|source| self.failed_to_run(source))??,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                return Err(KeySourceError::TooSlow { program: self.program.clone(), limit: self.limit });
            }
        };
        let status = self.ended(child, deadline)?;
        Ok((text, status))
    }
}

/// Ends a command that has not been waited for, and what it has started. What has left its group, as a daemon does, goes on.
fn end(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        // There is none where all of it has ended, and then there is nothing to kill.
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

impl KeyProvider for KeyCommand {
    fn load(&self) -> Result<KeyRing, KeySourceError> {
        let mut command = Command::new(&self.program);
        command.args(&self.args).stdin(Stdio::null()).stdout(Stdio::piped());
        // A shell's own end would leave what it waits for behind, and with that our reader.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|source| self.failed_to_run(source))?;
        let (text, status) = self.run(&mut child).inspect_err(|_| end(&mut child))?;
        if status.success() {
            parse(&text, &self.describe())
        } else {
            Err(KeySourceError::Failed { program: self.program.clone(), status })
        }
    }

    /// Without its arguments, which may hold secrets of their own.
    fn describe(&self) -> String {
        format!("the key command {}", self.program)
    }
}

#[cfg(all(test, unix))]
mod tests {
    use amaters_cluster_core::sealing::KeyVersion;

    use super::*;
    use crate::keys::create_key_file;

    fn shell(script: &str) -> KeyCommand {
        KeyCommand::new("sh", ["-c".to_owned(), script.to_owned()]).with_limit(Duration::from_millis(500))
    }

    #[test]
    fn what_a_command_prints_is_taken_as_a_key_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        create_key_file(&path).expect("a new file");
        let command = KeyCommand::from_line(&format!("cat  {}", path.display())).expect("two words");
        assert_eq!(command.versions().expect("keys"), [KeyVersion(1)]);
        assert_eq!(command.describe(), "the key command cat");
        let missing = command.key(KeyVersion(4)).expect_err("there is one").to_string();
        assert!(missing.starts_with("the key command cat: version 4 of the log key is needed, and only 1 is there"), "{missing}");
        assert!(KeyCommand::from_line("  ").is_none());
    }

    #[test]
    fn no_shell_reads_the_line() {
        let error = KeyCommand::from_line("echo $HOME; true").expect("words").load().expect_err("no keys").to_string();
        assert_eq!(error, "the key command echo: line 1: expected `ukehi-keys 1`, as `ukehi key generate` writes it");
        let error = KeyCommand::from_line("/no/such/program").expect("a word").load().expect_err("no program").to_string();
        assert!(error.contains("without a shell"), "{error}");
    }

    #[test]
    fn a_command_that_hangs_fails_or_floods_is_ended() {
        let begun = Instant::now();
        assert!(matches!(shell("sleep 60").load(), Err(KeySourceError::TooSlow { .. })));
        assert!(
            matches!(shell("exec >&-; exec sleep 60").load(), Err(KeySourceError::TooSlow { .. })),
            "it closes its output, and goes on"
        );
        assert!(matches!(shell("read answer || exit 3").load(), Err(KeySourceError::Failed { .. })), "it asks, and nobody answers");
        assert!(matches!(shell("yes").load(), Err(KeySourceError::TooLong { .. })));
        assert!(begun.elapsed() < Duration::from_secs(30));
    }
    #[test]
    fn what_a_command_has_started_ends_with_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let beats = dir.path().join("beats");
        // Ends by itself, should nobody end it.
        let script = format!("for n in $(seq 200); do echo >> {}; sleep 0.05; done & wait", beats.display());
        assert!(matches!(shell(&script).load(), Err(KeySourceError::TooSlow { .. })));
        let length = || std::fs::metadata(&beats).map_or(0, |metadata| metadata.len());
        let at_its_end = length();
        assert!(at_its_end > 0, "it had begun");
        thread::sleep(Duration::from_millis(500));
        assert!(length() <= at_its_end + 1, "it goes on: {} beats, then {}", at_its_end, length());
    }
}
