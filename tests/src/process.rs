//! Clusters of real `ukehi` processes on loopback.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use amaters_cluster::admin::{MemberRoleView, RoleView, StatusView};
use amaters_cluster::keys::create_key_file;
use rustix::process::{Pid, Signal, kill_process};

/// Longer than anything here takes on a loaded machine: only a failure waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Processes with data directories of their own, all ended when this is dropped.
pub struct Processes {
    directory: tempfile::TempDir,
    nodes: Vec<Process>,
    /// Flags of every node besides those that say who and where it is.
    flags: Vec<String>,
    /// What each node is told of encryption: a key file of the cluster's own, unless a test wants something else.
    encryption: Vec<String>,
}

/// One node's place in the cluster; its process may be down.
pub struct Process {
    /// The node's id.
    pub id: u64,
    /// Where its peers reach it.
    pub listen: SocketAddr,
    /// Where RESP clients reach it.
    pub client: SocketAddr,
    /// Where its status is.
    pub admin: SocketAddr,
    /// Whether it joined a cluster, rather than beginning one.
    joins: bool,
    child: Option<Child>,
}

impl Processes {
    /// Starts a cluster, and waits until it has a leader.
    pub fn start(count: u64) -> Self {
        Self::start_with(count, &["--segment-size", "4MiB"])
    }

    /// As [`Processes::start`], with flags that all nodes get.
    pub fn start_with(count: u64, flags: &[&str]) -> Self {
        let mut cluster = Self::prepare(count, flags);
        for id in 1..=count {
            cluster.restart(id);
        }
        cluster.leader();
        cluster
    }

    /// A cluster of which no node runs yet.
    pub fn prepare(count: u64, flags: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory can be made");
        let nodes = (1..=count).map(Process::new).collect();
        let mut cluster = Self { directory, nodes, flags: Vec::new(), encryption: Vec::new() };
        create_key_file(&cluster.key_file()).expect("the directory is new");
        cluster.set_encryption(&["--key-file", &cluster.key_file().display().to_string()]);
        cluster.set_flags(flags);
        cluster
    }

    /// The cluster's key file.
    pub fn key_file(&self) -> PathBuf {
        self.directory.path().join("log.keys")
    }

    /// Changes what nodes are told of encryption when they start from now on.
    pub fn set_encryption(&mut self, flags: &[&str]) {
        self.encryption = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// Changes the flags with which nodes start from now on.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
    }

    /// A new cluster of one from a backup, which has been started. It goes on with the keys of the old one.
    pub fn restored(backup: &Path, key_file: &Path) -> Self {
        let mut cluster = Self::prepare(1, &[]);
        cluster.set_encryption(&["--key-file", &key_file.display().to_string()]);
        let (done, said) = restore(backup, &cluster.data_dir(1), key_file);
        assert!(done, "{said}");
        cluster.restart(1);
        cluster.leader();
        cluster
    }

    /// The node with an id.
    pub fn node(&self, id: u64) -> &Process {
        self.nodes.iter().find(|node| node.id == id).expect("the id is one of the cluster's")
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Process] {
        &self.nodes
    }

    /// A node's data directory.
    pub fn data_dir(&self, id: u64) -> PathBuf {
        self.directory.path().join(format!("node-{id}"))
    }

    /// The command line that starts a node, without its program.
    pub fn arguments(&self, id: u64) -> Vec<String> {
        let node = self.node(id);
        let flag = |name: &str, value: &dyn std::fmt::Display| [format!("--{name}"), value.to_string()];
        let founders = self.nodes.iter().filter(|peer| !peer.joins);
        let peers = founders.map(|peer| format!("{}={}", peer.id, peer.listen));
        let mut arguments = vec!["start".to_owned()];
        arguments.extend(flag("id", &id));
        arguments.extend(flag("data-dir", &self.data_dir(id).display()));
        arguments.extend(flag("listen", &node.listen));
        arguments.extend(flag("client", &node.client));
        arguments.extend(flag("admin", &node.admin));
        arguments.extend(self.encryption.iter().chain(&self.flags).cloned());
        if node.joins {
            arguments.extend(flag("join", &self.admin_addresses()));
        } else {
            arguments.extend(peers.flat_map(|peer| ["--peer".to_owned(), peer]));
        }
        arguments
    }

    /// The admin addresses of the nodes that began the cluster, as commands take them.
    pub fn admin_addresses(&self) -> String {
        self.nodes.iter().filter(|node| !node.joins).map(|node| node.admin.to_string()).collect::<Vec<_>>().join(",")
    }

    /// Starts one more node, which joins the cluster, and waits until it votes.
    pub fn join(&mut self, id: u64) {
        self.begin_to_join(id);
        self.votes(id);
    }

    /// Starts one more node, which is to join the cluster.
    pub fn begin_to_join(&mut self, id: u64) {
        self.nodes.push(Process { joins: true, ..Process::new(id) });
        self.restart(id);
    }

    /// Waits until a node votes, as it sees it itself.
    pub fn votes(&self, id: u64) {
        wait_until("the new node votes", || {
            let status = self.node(id).status()?;
            let votes = status.members.iter().any(|member| member.id == id && member.role == MemberRoleView::Voter);
            (votes && status.leader.is_some()).then_some(())
        });
    }

    /// Ends a node that was removed, and forgets it.
    pub fn retire(&mut self, id: u64) {
        self.stop(id);
        self.nodes.retain(|node| node.id != id);
    }

    /// Runs `ukehi key …` for this cluster: whether it succeeded, and what it said.
    pub fn key(&self, arguments: &[&str]) -> (bool, String) {
        said(ukehi().arg("key").args(arguments).args(["--admin", &self.admin_addresses()]))
    }

    /// Adds a version to the cluster's key file, and has the cluster seal with it.
    pub fn rotate_key(&self) {
        let (done, words) = said(ukehi().args(["key", "add-version", "--key-file"]).arg(self.key_file()));
        assert!(done, "{words}");
        let (done, words) = self.key(&["rotate"]);
        assert!(done, "{words}");
    }

    /// Runs `ukehi member …` for this cluster: whether it succeeded, and what it said.
    pub fn member(&self, arguments: &[&str]) -> (bool, String) {
        said(ukehi().arg("member").args(arguments).args(["--admin", &self.admin_addresses()]))
    }

    /// Starts a node's process.
    pub fn restart(&mut self, id: u64) {
        let log = File::options().create(true).append(true).open(self.log_path(id)).expect("the log can be opened");
        let errors = log.try_clone().expect("a file can be shared");
        let child = ukehi().args(self.arguments(id)).stdin(Stdio::null()).stdout(log).stderr(errors).spawn();
        self.slot(id).child = Some(child.expect("ukehi can be started"));
    }

    /// Ends a node's process as a power failure would.
    pub fn kill(&mut self, id: u64) {
        let mut child = self.slot(id).child.take().expect("the node is running");
        child.kill().expect("the child can be killed");
        child.wait().expect("the child has ended");
    }

    /// Sends a node's process a signal.
    pub fn signal(&self, id: u64, signal: Signal) {
        let child = self.node(id).child.as_ref().expect("the node is running");
        kill_process(Pid::from_child(child), signal).expect("the child can be signalled");
    }

    /// Asks a node's process to stop, and waits until it has.
    pub fn stop(&mut self, id: u64) -> (ExitStatus, Duration) {
        let began = Instant::now();
        self.signal(id, Signal::TERM);
        let mut child = self.slot(id).child.take().expect("the node is running");
        let status = wait_until("the process has ended", || child.try_wait().expect("the child can be asked"));
        (status, began.elapsed())
    }

    /// Whether a node's process is there, stopped or not.
    pub fn is_running(&mut self, id: u64) -> bool {
        self.slot(id).child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Waits until a node's process has ended by itself, as one does that can't go on.
    pub fn ended(&mut self, id: u64) -> ExitStatus {
        let mut child = self.slot(id).child.take().expect("the node was started");
        wait_until("the process ends by itself", || child.try_wait().expect("the child can be asked"))
    }

    /// What a node's files take of the disk, in bytes.
    pub fn disk_bytes(&self, id: u64) -> u64 {
        bytes_below(&self.data_dir(id))
    }

    /// The id of the leader that a majority agrees on, once there is one.
    pub fn leader(&self) -> u64 {
        wait_until("a majority names one leader", || {
            let statuses: Vec<_> = self.nodes.iter().filter_map(Process::status).collect();
            let leader = statuses.iter().find(|status| status.role == RoleView::Leader)?.id;
            let agreed = statuses.iter().filter(|status| status.leader == Some(leader)).count();
            (agreed > self.nodes.len() / 2).then_some(leader)
        })
    }

    /// Waits until all nodes have applied the same.
    pub fn settled(&self) {
        wait_until("all nodes agree on the commit index and have applied it", || {
            let statuses: Vec<_> = self.nodes.iter().map(Process::status).collect::<Option<_>>()?;
            let commit = statuses.first()?.commit;
            statuses.iter().all(|status| status.commit == commit && status.applied == commit).then_some(())
        });
    }

    /// What a node has logged so far.
    pub fn log(&self, id: u64) -> String {
        std::fs::read_to_string(self.log_path(id)).unwrap_or_default()
    }

    fn log_path(&self, id: u64) -> PathBuf {
        self.directory.path().join(format!("node-{id}.log"))
    }

    fn slot(&mut self, id: u64) -> &mut Process {
        self.nodes.iter_mut().find(|node| node.id == id).expect("the id is one of the cluster's")
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                // It may have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        for node in self.nodes.iter().filter(|_| failed) {
            eprintln!("--- log of node {}\n{}", node.id, self.log(node.id));
        }
    }
}

impl Process {
    fn new(id: u64) -> Self {
        let [listen, client, admin] = free_ports();
        Self { id, listen, client, admin, joins: false, child: None }
    }

    /// The same place without its process, to be used from another thread.
    pub fn address(&self) -> Self {
        Self { child: None, ..*self }
    }

    /// What the node says of itself; none while it doesn't answer.
    pub fn status(&self) -> Option<StatusView> {
        let agent = ureq::Agent::config_builder().timeout_global(Some(Duration::from_secs(2))).build().new_agent();
        agent.get(format!("http://{}/status", self.admin)).call().ok()?.body_mut().read_json().ok()
    }

    /// The value of a counter or gauge at the node's `/metrics`, labels included in the name.
    pub fn metric(&self, name: &str) -> Option<f64> {
        let text = ureq::get(format!("http://{}/metrics", self.admin)).call().ok()?.body_mut().read_to_string().ok()?;
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }

    /// A client of this node.
    pub fn connect(&self) -> redis::Connection {
        let client = redis::Client::open(format!("redis://{}", self.client)).expect("the address is valid");
        let connection = wait_until("the node takes clients", || client.get_connection_with_timeout(Duration::from_secs(1)).ok());
        connection.set_read_timeout(Some(Duration::from_secs(5))).expect("a time-out can be set");
        connection
    }
}

/// Runs `ukehi restore`: whether it succeeded, and what it said.
pub fn restore(backup: &Path, data_dir: &Path, key_file: &Path) -> (bool, String) {
    said(ukehi().arg("restore").arg("--from").arg(backup).arg("--data-dir").arg(data_dir).arg("--key-file").arg(key_file))
}

/// Runs a command to its end: whether it succeeded, and what it said.
pub fn said(command: &mut Command) -> (bool, String) {
    let output = command.output().expect("ukehi can be run");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// The program under test: beside this one, or, as tests live in a folder of their own, above it.
pub fn ukehi() -> Command {
    let own = std::env::current_exe().expect("a program knows its own path");
    let places = own.ancestors().skip(1).take(2).map(|folder| folder.join("ukehi"));
    let program = places.into_iter().find(|place| place.is_file());
    Command::new(program.expect("`ukehi` is missing: build it with `cargo build --release`"))
}

/// Files that go away meanwhile take no room any more.
fn bytes_below(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => bytes_below(&entry.path()),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}

/// Ports that nobody listened on a moment ago, and that nobody else in this process has got.
fn free_ports<const N: usize>() -> [SocketAddr; N] {
    static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().expect("nobody panics with it");
    std::array::from_fn(|_| {
        loop {
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
            let address = listener.local_addr().expect("a bound socket has an address");
            if given.insert(address) {
                return address;
            }
        }
    })
}

/// Asks again until there is an answer; fails the test if none comes.
pub fn wait_until<T>(what: &str, mut answer: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = answer() {
            return answer;
        }
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain until {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
