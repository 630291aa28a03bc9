//! `ukehi transfer`: has the leader hand over.
#![allow(clippy::print_stdout, reason = "the command's output")]

use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::{Value, json};

use super::Advice;
use super::status::{Outcome, agent, ask_all, in_words, reason};
use crate::admin::StatusView;

/// Finds the leader among these admin addresses, and has it hand over to a node, or to the one that has most of the log.
///
/// # Errors
/// No node knows a leader, the leader's admin address is not among these, or it did not hand over.
pub fn run(admin: &[String], to: Option<u64>) -> Result<ExitCode> {
    let (leader, address) = find_leader(admin)?;
    let body = to.map_or_else(|| json!({}), |to| json!({ "to": to }));
    let request = agent().post(format!("http://{address}/transfer")).send_json(body);
    let mut response = request.map_err(|error| anyhow!("node {leader} at {address}: {}", in_words(&error)))?;
    let code = response.status();
    let body = response.body_mut().read_to_string().map_err(|error| anyhow!("node {leader} at {address}: {}", in_words(&error)))?;
    if !code.is_success() {
        bail!("node {leader} did not hand over: {}", reason(&body).unwrap_or_else(|| format!("it answered {code}")));
    }
    let new: Value = serde_json::from_str(&body).context("the answer is no JSON")?;
    println!("node {} leads instead of node {leader}", new["leader"]);
    Ok(ExitCode::SUCCESS)
}

/// The leader of the latest term that any node knows one for, and its admin address.
pub(super) fn find_leader(admin: &[String]) -> Result<(u64, String)> {
    let answers = ask_all(admin);
    let statuses: Vec<(&str, &StatusView)> = (answers.iter())
        .filter_map(|answer| if let Outcome::Status(status) = &answer.outcome { Some((answer.admin.as_str(), status)) } else { None })
        .collect();
    if statuses.is_empty() {
        let reasons = answers.iter().filter_map(|answer| match &answer.outcome {
            Outcome::Failure { error } => Some(format!("{}: {error}", answer.admin)),
            Outcome::Status(_) => None,
        });
        let advice = Advice("name the nodes' admin addresses with --admin");
        return Err(anyhow!("no node answered ({})", reasons.collect::<Vec<_>>().join("; "))).context(advice);
    }
    let known = statuses.iter().filter_map(|(_, status)| Some((status.term, status.leader?))).max();
    let (_, leader) = known.context("no node knows a leader").context(Advice("wait for an election, and see `ukehi status`"))?;
    let address = statuses.iter().find(|(_, status)| status.id == leader).map(|(address, _)| (*address).to_owned());
    let address = address.with_context(|| format!("node {leader} leads, and its admin address is not among {}", admin.join(", ")));
    Ok((leader, address.context(Advice("name the admin addresses of all nodes with --admin"))?))
}
