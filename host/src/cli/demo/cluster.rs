//! The demo's nodes: child processes with ports, directories and logs of their own, none of which outlives the demo.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use ureq::Agent;

use crate::admin::{MemberRoleView, RoleView, StatusView};
use crate::keys::create_key_file;

/// The processes. Dropping this ends them all.
pub(super) struct Cluster {
    dir: PathBuf,
    nodes: Vec<Node>,
    /// How many of them begin the cluster; the others join it.
    founders: u8,
    /// The keys of all of them.
    keys: PathBuf,
    agent: Agent,
    deaths_are_tolerated: AtomicBool,
}

struct Node {
    id: u8,
    listen: SocketAddr,
    client: SocketAddr,
    admin: SocketAddr,
    child: Mutex<Option<Child>>,
}

/// What a node has to stop in before it is killed: its own limit is 2 s.
const GRACE: Duration = Duration::from_secs(3);

impl Cluster {
    /// Chooses ports and directories, and makes a key file for all; nothing is started. The first `founders` nodes begin the cluster, the others join it when they are started.
    pub(super) fn new(dir: &Path, count: u8, founders: u8) -> anyhow::Result<Self> {
        let dir = dir.canonicalize().with_context(|| format!("{} can't be found", dir.display()))?;
        let ports = free_ports(usize::from(count) * 3)?;
        let address = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let node = |(id, ports): (u8, &[u16])| Node {
            id,
            listen: address(ports[0]),
            client: address(ports[1]),
            admin: address(ports[2]),
            child: Mutex::new(None),
        };
        let nodes = (1..=count).zip(ports.chunks_exact(3)).map(node).collect();
        let agent = Agent::config_builder().timeout_global(Some(Duration::from_secs(1))).proxy(None).build().into();
        let keys = dir.join("log.keys");
        create_key_file(&keys)?;
        Ok(Self { dir, nodes, founders, keys, agent, deaths_are_tolerated: AtomicBool::new(false) })
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The file that the nodes' keys are in.
    pub(super) fn keys(&self) -> &Path {
        &self.keys
    }

    pub(super) fn len(&self) -> u8 {
        u8::try_from(self.nodes.len()).unwrap_or(u8::MAX)
    }

    pub(super) fn client_addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(|node| node.client).collect()
    }

    /// Where clients reach the nodes that run.
    pub(super) fn running_client_addresses(&self) -> Vec<SocketAddr> {
        self.nodes.iter().filter(|node| node.child().is_some()).map(|node| node.client).collect()
    }

    /// The admin addresses of the nodes that run.
    pub(super) fn running_admin_addresses(&self) -> Vec<String> {
        self.nodes.iter().filter(|node| node.child().is_some()).map(|node| node.admin.to_string()).collect()
    }

    /// Whether the leader has a node as a member in this role.
    pub(super) async fn has_member(&self, id: u8, role: MemberRoleView) -> bool {
        let is_so = |status: &StatusView| status.members.iter().any(|member| member.id == u64::from(id) && member.role == role);
        let leaders = self.statuses().await.into_iter().filter_map(|(_, status)| status).filter(|status| status.role == RoleView::Leader);
        leaders.max_by_key(|status| status.term).is_some_and(|status| is_so(&status))
    }

    /// All admin addresses, as `ukehi status` takes them.
    pub(super) fn admin_addresses(&self) -> String {
        self.nodes.iter().map(|node| node.admin.to_string()).collect::<Vec<_>>().join(",")
    }

    pub(super) fn descriptions(&self) -> impl Iterator<Item = String> {
        self.nodes.iter().map(|node| {
            let pid = node.child().as_ref().map_or_else(|| "none".to_owned(), |child| child.id().to_string());
            format!("  node {}: pid {pid}, clients {}, http://{}/status, http://{}/metrics", node.id, node.client, node.admin, node.admin)
        })
    }

    /// Starts a node, for the first time or again.
    pub(super) fn start(&self, id: u8) -> anyhow::Result<()> {
        let log = self.log(id);
        let output =
            OpenOptions::new().create(true).append(true).open(&log).with_context(|| format!("{} can't be written", log.display()))?;
        let node = self.node(id);
        let program = std::env::current_exe().context("this program's own path is unknown")?;
        let mut command = Command::new(program);
        command.args(["start", "--id", &id.to_string(), "--data-dir"]).arg(self.dir.join(format!("node-{id}")));
        command.args(["--listen", &node.listen.to_string(), "--client", &node.client.to_string(), "--admin", &node.admin.to_string()]);
        command.arg("--key-file").arg(&self.keys);
        if id > self.founders {
            command.args(["--join", &self.running_admin_addresses().join(",")]);
        } else {
            for peer in self.nodes.iter().filter(|peer| peer.id <= self.founders) {
                command.args(["--peer", &format!("{}={}", peer.id, peer.listen)]);
            }
        }
        // The demo's nodes are as it says, whatever the user's own are.
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("UKEHI_")) {
            command.env_remove(name);
        }
        // In a process group of its own, a node doesn't hear the Ctrl-C that is meant for the demo.
        command.process_group(0).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        *node.child() = Some(command.spawn().with_context(|| format!("node {id} can't be started"))?);
        Ok(())
    }

    /// Ends a node with SIGKILL, and returns when it is gone.
    pub(super) async fn kill(&self, id: u8) -> anyhow::Result<()> {
        let mut child = self.node(id).child().take().with_context(|| format!("node {id} is not running"))?;
        tokio::task::spawn_blocking(move || child.kill().and_then(|()| child.wait())).await??;
        Ok(())
    }

    pub(super) fn is_running(&self, id: u8) -> bool {
        self.node(id).child().is_some()
    }

    /// Waits for a node to end by itself, which is an error.
    pub(super) async fn watch(&self) -> anyhow::Error {
        loop {
            if !self.deaths_are_tolerated.load(Ordering::Relaxed)
                && let Some((id, how)) = self.reap()
            {
                return anyhow::anyhow!("node {id} ended unexpectedly ({how}); the end of its log:\n{}", self.log_tail(id));
            }
            tokio::time::sleep(super::GLANCE).await;
        }
    }

    /// From now on a node may end: [`Cluster::reap`] tells.
    pub(super) fn tolerate_deaths(&self) {
        self.deaths_are_tolerated.store(true, Ordering::Relaxed);
    }

    /// A node that has ended by itself since the last look.
    pub(super) fn reap(&self) -> Option<(u8, ExitStatus)> {
        self.nodes.iter().find_map(|node| {
            let mut child = node.child();
            let how = child.as_mut()?.try_wait().ok()??;
            *child = None;
            Some((node.id, how))
        })
    }

    /// Whether every node says that it is ready.
    pub(super) async fn is_ready(&self) -> bool {
        let agent = self.agent.clone();
        let ready = move |admin| agent.get(format!("http://{admin}/readyz")).call().is_ok();
        self.ask(ready).await.into_iter().all(|(_, ready)| ready)
    }

    /// The leader of the latest term, and the term.
    pub(super) async fn leader(&self) -> Option<(u8, u64)> {
        let leads = |(id, status): (u8, Option<StatusView>)| status.filter(|status| status.role == RoleView::Leader).map(|s| (id, s.term));
        self.statuses().await.into_iter().filter_map(leads).max_by_key(|(_, term)| *term)
    }

    /// The commit index, where all nodes have the same and have applied it.
    pub(super) async fn common_commit(&self) -> Option<u64> {
        let statuses = self.statuses().await.into_iter().map(|(_, status)| status).collect::<Option<Vec<_>>>()?;
        let commit = statuses.first()?.commit;
        statuses.iter().all(|status| status.commit == commit && status.applied == commit).then_some(commit)
    }

    async fn statuses(&self) -> Vec<(u8, Option<StatusView>)> {
        let agent = self.agent.clone();
        let status = move |admin| agent.get(format!("http://{admin}/status")).call().ok()?.body_mut().read_json().ok();
        self.ask(status).await
    }

    /// Asks all nodes that run at the same time, each on a thread since the HTTP client blocks.
    async fn ask<T: Send + 'static>(&self, question: impl Fn(SocketAddr) -> T + Clone + Send + 'static) -> Vec<(u8, T)> {
        let ask = |node: &Node| {
            let (question, admin) = (question.clone(), node.admin);
            (node.id, tokio::task::spawn_blocking(move || question(admin)))
        };
        let asked: Vec<_> = self.nodes.iter().filter(|node| node.child().is_some()).map(ask).collect();
        let mut answers = Vec::new();
        for (id, answer) in asked {
            if let Ok(answer) = answer.await {
                answers.push((id, answer));
            }
        }
        answers
    }

    fn log(&self, id: u8) -> PathBuf {
        self.dir.join(format!("node-{id}.log"))
    }

    fn log_tail(&self, id: u8) -> String {
        const LINES: usize = 20;
        let text = std::fs::read(self.log(id)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let lines = text.lines().map(|line| format!("    {line}")).collect::<Vec<_>>();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    fn node(&self, id: u8) -> &Node {
        &self.nodes[usize::from(id) - 1]
    }
}

impl Node {
    fn child(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    /// Asks all nodes to stop, waits a little, and kills those that are left. What fails here has ended already.
    fn drop(&mut self) {
        let mut children: Vec<Child> = self.nodes.iter().filter_map(|node| node.child().take()).collect();
        for child in &children {
            if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let begun = Instant::now();
        while begun.elapsed() < GRACE {
            children.retain_mut(|child| matches!(child.try_wait(), Ok(None)));
            if children.is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        for mut child in children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Free ports below those that the system gives to outgoing connections: a node that is down for a while must find its ports free when it comes back.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    let mut ports = BTreeSet::new();
    for _ in 0..10_000 {
        let port = fastrand::u16(20_000..32_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            ports.insert(port);
        }
        if ports.len() == count {
            return Ok(ports.into_iter().collect());
        }
    }
    anyhow::bail!("fewer than {count} loopback ports from 20000 to 32000 are free")
}
