//! A network of its own for each node: namespaces with a cable each to one switch, which stands in a namespace too. Nothing of it is seen outside.
//!
//! Names hold the process's id, so that runs don't meet, and everything goes when the [`Network`] is dropped, whatever becomes of the test.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Namespaces, and the switch between them.
pub(crate) struct Network {
    nodes: u64,
}

impl Network {
    /// A network of this many nodes, with nothing cut.
    ///
    /// # Errors
    /// Why there can't be one here: not root, no `ip`, or a kernel without namespaces or bridges.
    pub(crate) fn new(nodes: u64) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("not root".to_owned());
        }
        let network = Self { nodes }; // from here on it cleans up after itself
        let switch = network.switch();
        ip(&["netns", "add", &switch])?;
        ip(&["-n", &switch, "link", "add", "switch", "type", "bridge"])?;
        ip(&["-n", &switch, "link", "set", "switch", "up"])?;
        for id in 1..=nodes {
            let (node, port) = (network.namespace(id), port(id));
            ip(&["netns", "add", &node])?;
            ip(&["-n", &switch, "link", "add", &port, "type", "veth", "peer", "name", "cable", "netns", &node])?;
            ip(&["-n", &switch, "link", "set", &port, "master", "switch", "up"])?;
            ip(&["-n", &node, "address", "add", &format!("{}/24", address(id)), "dev", "cable"])?;
            ip(&["-n", &node, "link", "set", "cable", "up"])?;
            ip(&["-n", &node, "link", "set", "lo", "up"])?;
        }
        Ok(network)
    }

    /// Pulls a node's cable: nothing reaches it, and nothing of it reaches anybody. What its clients do on its own machine goes on.
    pub(crate) fn cut(&self, id: u64) {
        ip(&["-n", &self.switch(), "link", "set", &port(id), "down"]).expect("the switch is there");
    }

    /// Plugs it in again.
    pub(crate) fn heal(&self, id: u64) {
        ip(&["-n", &self.switch(), "link", "set", &port(id), "up"]).expect("the switch is there");
    }

    /// A command that runs on a node's machine.
    pub(crate) fn command(&self, id: u64, program: &Command) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace(id)]).arg(program.get_program()).args(program.get_args());
        command
    }

    /// Does something on a node's machine, such as opening a connection, which stays there.
    pub(crate) fn on<T: Send>(&self, id: u64, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(format!("/run/netns/{}", self.namespace(id))).expect("the namespace is there");
        let there = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("root may enter it");
            act()
        };
        // A thread of its own: it does not come back.
        std::thread::scope(|scope| scope.spawn(there).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    }

    fn namespace(&self, id: u64) -> String {
        format!("ukehi-{}-{id}", std::process::id())
    }

    fn switch(&self) -> String {
        format!("ukehi-{}-switch", std::process::id())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let namespaces = (1..=self.nodes).map(|id| self.namespace(id)).chain([self.switch()]);
        for namespace in namespaces {
            // One that was never made is none that has to go.
            let _ = ip(&["netns", "delete", &namespace]);
        }
    }
}

/// A node's address for its peers.
pub(crate) fn address(id: u64) -> String {
    format!("10.77.0.{id}")
}

/// The switch's end of a node's cable.
fn port(id: u64) -> String {
    format!("port{id}")
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(arguments).output().map_err(|error| format!("`ip` of iproute2 can't be run: {error}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("`ip {}` failed: {}", arguments.join(" "), said.trim())) }
}
