//! The systems that are compared: how each is started, when it is ready, and how it is loaded.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use amaters_cluster::cli::bench::{self, BenchOptions, BenchReport};
use amaters_cluster::keys::create_key_file;
use anyhow::{Context as _, bail};

use crate::processes::{Processes, free_ports};
use crate::{Workload, etcd};

/// A system, and the program that it is.
#[derive(Debug)]
pub(crate) struct System {
    kind: Kind,
    program: PathBuf,
}

#[derive(Debug)]
enum Kind {
    Ukehi { engine: &'static str, load: UkehiLoad, encryption: Encryption },
    Etcd,
    Redis,
}

/// What clients do to it.
#[derive(Clone, Copy, Debug)]
pub(crate) enum UkehiLoad {
    Writes,
    LinearizableReads,
    /// Writes, while each node takes one snapshot after the other.
    WritesUnderSnapshots,
    WritesWithoutSnapshots,
}

impl UkehiLoad {
    /// The node's flags for it. The state of the load's keys takes some 20 MiB, and a snapshot is due when the log has grown by as much.
    fn flags(self) -> &'static [&'static str] {
        match self {
            Self::Writes | Self::LinearizableReads => &[],
            Self::WritesUnderSnapshots => &["--snapshot-every-bytes", "1MiB"],
            Self::WritesWithoutSnapshots => &["--snapshot-every-bytes", "0", "--snapshot-every-entries", "0"],
        }
    }
}

/// Whether the nodes encrypt their logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// As they do unless they are told otherwise.
    On,
    Off,
    /// Off, and that is what this side of the comparison is about.
    OffForContrast,
}

/// How long a system may take until it takes writes.
const START_UP: Duration = Duration::from_secs(30);

impl System {
    /// Three nodes of the program beside this one, or of the one that `UKEHI_BIN` names.
    pub(crate) fn ukehi(engine: &'static str, load: UkehiLoad, encryption: Encryption) -> anyhow::Result<Self> {
        let program = match std::env::var_os("UKEHI_BIN") {
            Some(program) => PathBuf::from(program),
            None => std::env::current_exe()?.with_file_name("ukehi"),
        };
        anyhow::ensure!(program.is_file(), "{} is missing: run `cargo build --release` first", program.display());
        Ok(Self { kind: Kind::Ukehi { engine, load, encryption }, program })
    }

    /// Three nodes of etcd.
    pub(crate) fn etcd() -> anyhow::Result<Self> {
        Ok(Self { kind: Kind::Etcd, program: find("etcd", "etcd-server")? })
    }

    /// One Redis.
    pub(crate) fn redis() -> anyhow::Result<Self> {
        Ok(Self { kind: Kind::Redis, program: find("redis-server", "redis-server")? })
    }

    pub(crate) fn name(&self) -> &'static str {
        match self.kind {
            Kind::Ukehi { encryption: Encryption::OffForContrast, .. } => "plaintext",
            Kind::Ukehi { engine: "native", .. } => "native",
            Kind::Ukehi { load: UkehiLoad::LinearizableReads, .. } => "reads",
            Kind::Ukehi { load: UkehiLoad::WritesUnderSnapshots, .. } => "snapshots",
            Kind::Ukehi { load: UkehiLoad::WritesWithoutSnapshots, .. } => "without",
            Kind::Ukehi { .. } => "ukehi",
            Kind::Etcd => "etcd",
            Kind::Redis => "redis",
        }
    }

    pub(crate) fn description(&self) -> &'static str {
        match self.kind {
            Kind::Ukehi { encryption: Encryption::OffForContrast, .. } => "3 nodes of ukehi that encrypt nothing",
            Kind::Ukehi { engine: "native", .. } => "3 nodes of ukehi with its core outside the sandbox",
            Kind::Ukehi { load: UkehiLoad::LinearizableReads, .. } => "3 nodes of ukehi, read from",
            Kind::Ukehi { load: UkehiLoad::WritesUnderSnapshots, .. } => "3 nodes of ukehi that take snapshots all the time",
            Kind::Ukehi { load: UkehiLoad::WritesWithoutSnapshots, .. } => "3 nodes of ukehi that take none",
            Kind::Ukehi { .. } => "3 nodes of ukehi",
            Kind::Etcd => "3 nodes of etcd",
            Kind::Redis => "1 redis-server with appendfsync always",
        }
    }

    /// Starts the system below `home`, loads it, and ends it.
    pub(crate) fn run(&self, home: &Path, workload: Workload) -> anyhow::Result<BenchReport> {
        let dir = tempfile::Builder::new().prefix("compare-").tempdir_in(home).context("no directory for the data")?;
        let mut processes = Processes::new(dir.path());
        let (clients, admin) = match self.kind {
            Kind::Ukehi { engine, load, encryption } => {
                let keys = match encryption {
                    Encryption::On => Some(new_keys(dir.path())?),
                    Encryption::Off | Encryption::OffForContrast => None,
                };
                self.start_ukehi(&mut processes, engine, load, keys.as_deref())?
            }
            Kind::Etcd => (self.start_etcd(&mut processes)?, Vec::new()),
            Kind::Redis => (self.start_redis(&mut processes)?, Vec::new()),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let report = match self.kind {
            Kind::Etcd => runtime.block_on(etcd::load(&clients, workload, START_UP)),
            Kind::Ukehi { load: UkehiLoad::LinearizableReads, .. } => run_bench(&runtime, &clients, workload, 1.0),
            Kind::Ukehi { .. } | Kind::Redis => run_bench(&runtime, &clients, workload, 0.0),
        };
        if let Kind::Ukehi { load: load @ (UkehiLoad::WritesUnderSnapshots | UkehiLoad::WritesWithoutSnapshots), .. } = self.kind {
            check_snapshots(&admin, load)?;
        }
        report.map_err(|error| error.context(processes.last_words()))
    }

    /// Starts three nodes, which encrypt their logs if there are keys. Gives where clients and administrators reach them.
    fn start_ukehi(
        &self,
        processes: &mut Processes,
        engine: &str,
        load: UkehiLoad,
        keys: Option<&Path>,
    ) -> anyhow::Result<(Vec<SocketAddr>, Vec<SocketAddr>)> {
        let ports = free_ports::<9>()?;
        let (listen, rest) = ports.split_at(3);
        let (client, admin) = rest.split_at(3);
        for node in 0..3 {
            let name = format!("node-{}", node + 1);
            let mut command = Command::new(&self.program);
            command.args(["start", "--engine", engine, "--log-level", "warn", "--id", &(node + 1).to_string()]);
            command.args(load.flags()).arg("--data-dir").arg(processes.dir().join(&name));
            match keys {
                Some(keys) => command.arg("--key-file").arg(keys),
                None => command.arg("--no-encryption"),
            };
            for (flag, port) in [("--listen", listen[node]), ("--client", client[node]), ("--admin", admin[node])] {
                command.args([flag, &loopback(port).to_string()]);
            }
            for (peer, port) in (1..).zip(listen) {
                command.args(["--peer", &format!("{peer}={}", loopback(*port))]);
            }
            processes.start(&name, &mut command)?;
        }
        Ok((client.iter().copied().map(loopback).collect(), admin.iter().copied().map(loopback).collect()))
    }

    fn start_etcd(&self, processes: &mut Processes) -> anyhow::Result<Vec<SocketAddr>> {
        let ports = free_ports::<6>()?;
        let (peers, clients) = ports.split_at(3);
        let url = |port: &u16| format!("http://{}", loopback(*port));
        let cluster = (1..).zip(peers).map(|(id, port)| format!("n{id}={}", url(port))).collect::<Vec<_>>().join(",");
        for node in 0..3 {
            let name = format!("n{}", node + 1);
            let mut command = Command::new(&self.program);
            command.args(["--name", &name, "--initial-cluster-state", "new", "--log-level", "error", "--logger", "zap"]);
            command.arg("--data-dir").arg(processes.dir().join(&name)).args(["--initial-cluster", &cluster]);
            command.args(["--listen-peer-urls", &url(&peers[node]), "--initial-advertise-peer-urls", &url(&peers[node])]);
            command.args(["--listen-client-urls", &url(&clients[node]), "--advertise-client-urls", &url(&clients[node])]);
            processes.start(&name, &mut command)?;
        }
        Ok(clients.iter().copied().map(loopback).collect())
    }

    fn start_redis(&self, processes: &mut Processes) -> anyhow::Result<Vec<SocketAddr>> {
        let [port] = free_ports::<1>()?;
        let mut command = Command::new(&self.program);
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", "always"]);
        command.arg("--dir").arg(processes.dir());
        processes.start("redis", &mut command)?;
        Ok(vec![loopback(port)])
    }
}

fn new_keys(dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.join("log.keys");
    create_key_file(&path)?;
    Ok(path)
}

/// A comparison counts only if each node took snapshots on one side, and none on the other.
fn check_snapshots(admin: &[SocketAddr], load: UkehiLoad) -> anyhow::Result<()> {
    let mut taken = Vec::new();
    for node in admin {
        let text = ureq::get(format!("http://{node}/metrics")).call()?.body_mut().read_to_string()?;
        let count = text.lines().find_map(|line| line.strip_prefix("amaters_cluster_snapshots_taken_total ")?.trim().parse::<u64>().ok());
        taken.push(count.context("a node tells how many snapshots it has taken")?);
    }
    let expected = matches!(load, UkehiLoad::WritesUnderSnapshots);
    anyhow::ensure!(taken.iter().all(|count| (*count > 0) == expected), "the nodes took {taken:?} snapshots");
    if expected {
        println!("     snapshots taken: {taken:?}");
    }
    Ok(())
}

fn run_bench(runtime: &tokio::runtime::Runtime, clients: &[SocketAddr], workload: Workload, get_ratio: f64) -> anyhow::Result<BenchReport> {
    wait_for_writes(clients)?;
    let options = BenchOptions {
        target: clients.to_vec(),
        clients: workload.clients,
        pipeline: 1,
        value: workload.value,
        seconds: workload.seconds,
        get_ratio,
        keys: Workload::KEYS,
        json: false,
    };
    runtime.block_on(bench::run(&options))
}

/// Waits until every node has acknowledged a write.
fn wait_for_writes(clients: &[SocketAddr]) -> anyhow::Result<()> {
    let begun = Instant::now();
    for client in clients {
        while let Err(error) = write_once(*client) {
            if begun.elapsed() > START_UP {
                return Err(error.context(format!("{client} took no write within {} s", START_UP.as_secs())));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    Ok(())
}

fn write_once(client: SocketAddr) -> anyhow::Result<()> {
    let mut stream = TcpStream::connect(client)?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(b"*3\r\n$3\r\nSET\r\n$5\r\nready\r\n$1\r\n1\r\n")?;
    let mut reply = [0; 512];
    let length = stream.read(&mut reply)?;
    if reply[..length] != *b"+OK\r\n" {
        bail!("expected OK, got {:?}", String::from_utf8_lossy(&reply[..length]));
    }
    Ok(())
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn find(program: &str, package: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .with_context(|| format!("{program} is missing; on Debian or Ubuntu: sudo apt-get install {package}"))
}
