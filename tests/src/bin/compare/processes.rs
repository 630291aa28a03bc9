//! The processes of the system that is being measured: none outlives this.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;

/// Child processes, and where they keep their data. Dropping this ends them: their data goes too, so nothing is asked of them first.
pub(crate) struct Processes {
    dir: PathBuf,
    children: Vec<(String, Child)>,
}

impl Processes {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), children: Vec::new() }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn start(&mut self, name: &str, command: &mut Command) -> anyhow::Result<()> {
        let log = File::create(self.log(name)).context("no log can be written")?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // The user's own settings are not what is compared.
        for (variable, _) in
            std::env::vars_os().filter(|(name, _)| ["UKEHI_", "ETCD_"].iter().any(|p| name.to_string_lossy().starts_with(p)))
        {
            command.env_remove(variable);
        }
        let child = command.spawn().with_context(|| format!("{name} can't be started"))?;
        self.children.push((name.to_owned(), child));
        Ok(())
    }

    /// The end of every log: most of what goes wrong is said there.
    pub(crate) fn last_words(&self) -> String {
        const LINES: usize = 5;
        let mut words = "the ends of the logs:".to_owned();
        for (name, _) in &self.children {
            let text = std::fs::read_to_string(self.log(name)).unwrap_or_default();
            let lines = text.lines().collect::<Vec<_>>();
            for line in &lines[lines.len().saturating_sub(LINES)..] {
                words.push_str(&format!("\n    {name}: {line}"));
            }
        }
        words
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.log"))
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child) in &mut self.children {
            // Where this fails, the process has ended already.
            let _ = child.kill();
        }
        for (_, child) in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// Free loopback ports, below those that the system gives to outgoing connections.
pub(crate) fn free_ports<const N: usize>() -> anyhow::Result<[u16; N]> {
    let mut ports = BTreeSet::new();
    while ports.len() < N {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            ports.insert(port);
        }
    }
    let ports: Vec<u16> = ports.into_iter().collect();
    ports.try_into().ok().context("as many ports as were asked for")
}
