//! `INFO`: the text that people, monitoring and client libraries read.

use std::fmt::Write as _;

use amaters_cluster_core::{NodeState, Status};

use super::local::REDIS_VERSION;
use super::request::Args;
use super::server::Shared;
use crate::error::RaftResult;

/// What the text is made of.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    pub(super) shared: &'a Shared,
    pub(super) port: u16,
    pub(super) status: RaftResult<Status>,
    /// The number of keys, where it is asked for and known.
    pub(super) keys: Option<i64>,
}

/// The lines of a section.
type Fields = Vec<(&'static str, String)>;
/// Makes them.
type Section = fn(&Facts<'_>) -> Fields;

/// Whether a request asks for a section. Without a name it asks for all.
pub(super) fn wants(args: Args<'_>, section: &str) -> bool {
    const ALL: [&[u8]; 3] = [b"all", b"everything", b"default"];
    args.len() == 1
        || args.from(1).any(|name| name.eq_ignore_ascii_case(section.as_bytes()) || ALL.iter().any(|all| name.eq_ignore_ascii_case(all)))
}

/// The sections that a request asks for, with an empty line between two.
pub(super) fn render(args: Args<'_>, facts: &Facts<'_>) -> String {
    let sections: [(&str, Section); 5] =
        [("Server", server), ("Clients", clients), ("Replication", replication), ("Raft", raft), ("Keyspace", keyspace)];
    let mut text = String::new();
    for (name, fields) in sections.into_iter().filter(|(name, _)| wants(args, name)) {
        if !text.is_empty() {
            text += "\r\n";
        }
        let _ = write!(text, "# {name}\r\n");
        for (field, value) in fields(facts) {
            let _ = write!(text, "{field}:{value}\r\n");
        }
    }
    text
}

fn server(facts: &Facts<'_>) -> Fields {
    vec![
        ("redis_version", REDIS_VERSION.to_owned()),
        ("redis_mode", "standalone".to_owned()),
        ("ukehi_version", env!("CARGO_PKG_VERSION").to_owned()),
        ("process_id", std::process::id().to_string()),
        ("tcp_port", facts.port.to_string()),
        ("uptime_in_seconds", facts.shared.started.elapsed().as_secs().to_string()),
    ]
}

fn clients(facts: &Facts<'_>) -> Fields {
    vec![
        ("connected_clients", facts.shared.metrics.connected().to_string()),
        ("maxclients", facts.shared.limits.max_connections.to_string()),
    ]
}

fn replication(facts: &Facts<'_>) -> Fields {
    let leads = facts.status.as_ref().is_ok_and(|status| status.state == NodeState::Leader);
    vec![("role", if leads { "master" } else { "slave" }.to_owned())]
}

fn raft(facts: &Facts<'_>) -> Fields {
    let status = match &facts.status {
        Ok(status) => status,
        Err(error) => return vec![("error", error.to_string())],
    };
    let role = match status.state {
        NodeState::Follower => "follower",
        NodeState::PreCandidate => "precandidate",
        NodeState::Candidate => "candidate",
        NodeState::Leader => "leader",
        NodeState::Learner => "learner",
    };
    vec![
        ("raft_id", status.id.to_string()),
        ("raft_role", role.to_owned()),
        ("raft_term", status.term.to_string()),
        ("raft_leader", status.leader.to_string()),
        ("raft_commit", status.commit_index.to_string()),
        ("raft_applied", status.applied_index.to_string()),
        ("raft_last", status.last_index.to_string()),
        ("raft_peers", status.peers.len().to_string()),
        ("raft_sessions", status.sessions.to_string()),
    ]
}

fn keyspace(facts: &Facts<'_>) -> Fields {
    match facts.keys {
        Some(keys) if keys > 0 => vec![("db0", format!("keys={keys},expires=0,avg_ttl=0"))],
        _ => Vec::new(),
    }
}
