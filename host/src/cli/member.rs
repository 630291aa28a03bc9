//! `ukehi member`: who is a member, and changes of that, by the admin ports; and the way of a new node into a cluster.
#![allow(clippy::print_stdout, reason = "the command's output")]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use comfy_table::{Table, presets};
use ureq::Agent;

use super::Advice;
use crate::admin::{AddressView, ChangeRequest, MemberRoleView, MembersView};

/// How long a node may take to answer: a change is answered after 8 s at the latest.
const ANSWER: Duration = Duration::from_secs(12);

/// How long a leader is looked for.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Where to ask.
#[derive(Args, Clone, Debug)]
pub struct AdminArgs {
    /// The nodes' admin addresses: the leader's has to be among them for a change
    #[arg(long, value_name = "ADDR", value_delimiter = ',', default_value = "127.0.0.1:8091")]
    admin: Vec<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Shows the members, and what each is
    List {
        /// Where to ask.
        #[command(flatten)]
        admin: AdminArgs,
        /// Prints JSON
        #[arg(long)]
        json: bool,
    },
    /// Adds a voter: it learns first, and votes once it has caught up
    Add {
        /// The node, and where the others reach it
        #[arg(value_name = "ID=HOST:PORT", value_parser = member)]
        member: (u64, String),
        /// Where to ask.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Adds a learner, which receives the log and does not vote
    AddLearner {
        /// The node, and where the others reach it
        #[arg(value_name = "ID=HOST:PORT", value_parser = member)]
        member: (u64, String),
        /// Where to ask.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Makes a learner that has caught up a voter
    Promote {
        /// The node
        id: u64,
        /// Where to ask.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Removes a node
    Remove {
        /// The node
        id: u64,
        /// Where to ask.
        #[command(flatten)]
        admin: AdminArgs,
    },
    /// Makes these nodes the voters, all at once
    Replace {
        /// The nodes, and where the others reach them
        #[arg(value_name = "ID=HOST:PORT", value_delimiter = ',', required = true, value_parser = member)]
        members: Vec<(u64, String)>,
        /// Where to ask.
        #[command(flatten)]
        admin: AdminArgs,
    },
}

/// Carries out a command.
///
/// # Errors
/// Nobody answers, no leader is found, or it refuses: with the reason and what to do about it.
pub fn command(command: MemberCommand) -> anyhow::Result<ExitCode> {
    let (AdminArgs { admin }, request) = match command {
        MemberCommand::List { admin, json } => {
            let members = Admins::new(admin.admin).members()?;
            if json {
                println!("{}", serde_json::to_string_pretty(&members)?);
            } else {
                show(&members);
            }
            return Ok(ExitCode::SUCCESS);
        }
        MemberCommand::Add { member: (id, address), admin } => (admin, ChangeRequest::Add { id, address }),
        MemberCommand::AddLearner { member: (id, address), admin } => (admin, ChangeRequest::AddLearner { id, address }),
        MemberCommand::Promote { id, admin } => (admin, ChangeRequest::Promote { id }),
        MemberCommand::Remove { id, admin } => (admin, ChangeRequest::Remove { id }),
        MemberCommand::Replace { members, admin } => {
            let ids: BTreeSet<u64> = members.iter().map(|(id, _)| *id).collect();
            anyhow::ensure!(ids.len() == members.len(), "a node is named twice");
            let members = members.into_iter().map(|(id, address)| AddressView { id, address }).collect();
            (admin, ChangeRequest::Replace { members })
        }
    };
    show(&Admins::new(admin).change(&request)?);
    Ok(ExitCode::SUCCESS)
}

fn member(text: &str) -> Result<(u64, String), String> {
    let expected = || "expected ID=HOST:PORT with an id from 1, such as 4=10.0.0.4:7101".to_owned();
    let (id, address) = text.split_once('=').ok_or_else(expected)?;
    let id = id.parse().ok().filter(|id| *id > 0).ok_or_else(expected)?;
    let (host, port) = address.rsplit_once(':').ok_or_else(expected)?;
    let is_good = !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0);
    if is_good { Ok((id, address.to_owned())) } else { Err(expected()) }
}

fn show(members: &MembersView) {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["id", "role", "address", ""]);
    for member in &members.members {
        let leads = if members.leader == Some(member.id) { "leads" } else { "" };
        table.add_row([member.id.to_string(), member.role.to_string(), member.address.clone(), leads.to_owned()]);
    }
    println!("{table}");
}

/// The admin ports of a cluster.
pub(super) struct Admins {
    addresses: Vec<String>,
    agent: Agent,
}

/// What came of asking one node for a change.
enum Answer {
    Done(MembersView),
    UnderWay,
    /// It makes no sense: the reason's name, and its words.
    Refused {
        reason: String,
        error: String,
    },
    /// Another node may do it, or this one later.
    NotNow(String),
}

impl Admins {
    pub(super) fn new(addresses: Vec<String>) -> Self {
        let agent = Agent::config_builder().timeout_global(Some(ANSWER)).http_status_as_error(false).proxy(None).build().into();
        Self { addresses, agent }
    }

    /// The members, as a node tells that knows a leader; or another one.
    pub(super) fn members(&self) -> anyhow::Result<MembersView> {
        let (mut best, mut failures) = (None, Vec::new());
        for address in &self.addresses {
            match self.ask(address) {
                Ok(members) if members.leader.is_some() => return Ok(members),
                Ok(members) => best = Some(members),
                Err(reason) => failures.push(format!("{address}: {reason}")),
            }
        }
        let advice = Advice("name the admin address of a node that is running (--admin of its start)");
        best.ok_or_else(|| anyhow!("no node answered: {}", failures.join("; ")).context(advice))
    }

    fn ask(&self, address: &str) -> Result<MembersView, String> {
        let mut response = self.agent.get(format!("http://{address}/members")).call().map_err(|error| error.to_string())?;
        response.body_mut().read_json().map_err(|error| format!("no members came: {error}. Is this the admin port of a node?"))
    }

    /// Has the leader make a change, and waits until it is made.
    pub(super) fn change(&self, request: &ChangeRequest) -> anyhow::Result<MembersView> {
        let (mut begun, mut under_way) = (Instant::now(), false);
        loop {
            let mut reasons = Vec::new();
            for address in &self.addresses {
                match self.post(address, request) {
                    Answer::Done(members) => return Ok(members),
                    Answer::UnderWay => (begun, under_way) = (Instant::now(), true),
                    // It was made while nobody waited.
                    Answer::Refused { reason, .. } if under_way && reason == made(request) => return self.members(),
                    Answer::Refused { error, .. } => return Err(anyhow!("the change was refused: {error}")),
                    Answer::NotNow(reason) => reasons.push(format!("{address}: {reason}")),
                }
            }
            if begun.elapsed() >= PATIENCE {
                let advice = Advice("name the admin addresses of all nodes, the leader's among them: --admin ADDR,ADDR,…");
                return Err(anyhow!("no node made the change: {}", reasons.join("; ")).context(advice));
            }
            thread::sleep(PAUSE);
        }
    }

    fn post(&self, address: &str, request: &ChangeRequest) -> Answer {
        let mut response = match self.agent.post(format!("http://{address}/members")).send_json(request) {
            Ok(response) => response,
            Err(error) => return Answer::NotNow(error.to_string()),
        };
        let code = response.status().as_u16();
        let body: serde_json::Value = response.body_mut().read_json().unwrap_or_default();
        let text = |key: &str| body.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        match code {
            200 => serde_json::from_value(body).map_or_else(|error| Answer::NotNow(error.to_string()), Answer::Done),
            202 => Answer::UnderWay,
            400 => Answer::Refused { reason: text("reason"), error: text("error") },
            _ if text("error").is_empty() => Answer::NotNow(format!("answered {code}: is this the admin port of a node?")),
            _ => Answer::NotNow(text("error")),
        }
    }
}

/// How a leader refuses a change that was made already.
fn made(request: &ChangeRequest) -> &'static str {
    match request {
        ChangeRequest::Remove { .. } => "not-member",
        _ => "already-member",
    }
}

/// A node on its way into a cluster.
#[derive(Clone, Debug)]
pub(super) struct Newcomer {
    pub(super) id: u64,
    pub(super) address: String,
    pub(super) cluster: String,
    /// Admin addresses of the cluster.
    pub(super) admin: Vec<String>,
}

impl Newcomer {
    /// Whether the cluster is the right one, and has room: asked before anything is made.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let members = Admins::new(self.admin.clone()).members().context("the cluster to join can't be asked")?;
        if members.cluster != self.cluster {
            return Err(anyhow!(
                "{} is a node of cluster '{}', and this node is to be one of '{}'",
                self.admin.join(", "),
                members.cluster,
                self.cluster
            )
            .context(Advice("start with --cluster and its name, or join another cluster")));
        }
        let known = members.members.iter().find(|member| member.id == self.id && member.role != MemberRoleView::Leaving);
        match known {
            Some(member) if member.address != self.address => Err(anyhow!(
                "node {} of the cluster is at {}, and this node is at {}",
                self.id,
                member.address,
                self.address
            )
            .context(Advice("choose an id that no node of the cluster has ever had"))),
            Some(member) if member.role != MemberRoleView::Learner => Err(anyhow!("node {} votes already, and this data directory is new", self.id)
                .context(Advice(
                    "a node that has lost its data must not vote as if it had it: remove it with `ukehi member remove`, and join with an id that no node has had",
                ))),
            _ => Ok(()),
        }
    }

    /// Asks to be added, and returns when this node votes.
    pub(super) fn join(&self) -> anyhow::Result<()> {
        let request = ChangeRequest::Add { id: self.id, address: self.address.clone() };
        let members = Admins::new(self.admin.clone()).change(&request).context("this node was not added to the cluster")?;
        tracing::info!("joined the cluster: {} members", members.members.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_an_id_and_an_address() {
        assert_eq!(member("4=host:7101"), Ok((4, "host:7101".to_owned())));
        assert_eq!(member("4=[::1]:7101"), Ok((4, "[::1]:7101".to_owned())));
        for wrong in ["4", "0=host:1", "x=host:1", "4=host", "4=:1", "4=host:0", "4=host:70000"] {
            assert!(member(wrong).is_err_and(|said| said.contains("ID=HOST:PORT")), "{wrong}");
        }
    }
}
