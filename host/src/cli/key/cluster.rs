//! The keys of a cluster that runs: what its nodes have and use, and the change to another version.

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use comfy_table::{CellAlignment, Table, presets};
use ureq::Agent;

use crate::admin::{EncryptionView, RotateRequest, StatusView};
use crate::cli::Advice;
use crate::cli::status::{Answer, Outcome, ask_all, in_words, reason};
use crate::cli::transfer::find_leader;

/// How long a leader may take to answer: a change is answered after 8 s at the latest, and is then under way or refused.
const ANSWER: Duration = Duration::from_secs(12);

/// How long a change is waited for that is under way, or for which a node has to read its keys anew: a command may take 10 s for that.
const PATIENCE: Duration = Duration::from_secs(12);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(200);

/// Prints a line for each node. Fails if one did not answer, or lacks a key.
pub(super) fn list(admin: &[String]) -> Result<ExitCode> {
    let answers = ask_all(admin);
    println!("{}", table(&answers));
    let all_well = answers.iter().all(|answer| matches!(&answer.outcome, Outcome::Status(status) if !lacks_key(status)));
    if let Some(sentence) = all_retirable(&answers) {
        println!("{sentence}");
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Has the leader change to another version, and waits until that is committed.
pub(super) fn rotate(admin: &[String], version: Option<u32>) -> Result<ExitCode> {
    let (leader, address) = find_leader(admin)?;
    let agent: Agent = Agent::config_builder().timeout_global(Some(ANSWER)).http_status_as_error(false).proxy(None).build().into();
    let failed = |error: &ureq::Error| anyhow!("node {leader} at {address}: {}", in_words(error));
    let before = in_use(admin, leader);
    let begun = Instant::now();
    let now = loop {
        let request = agent.post(format!("http://{address}/keys/rotate")).send_json(RotateRequest { version });
        let mut response = request.map_err(|error| failed(&error))?;
        let code = response.status();
        let body = response.body_mut().read_to_string().map_err(|error| failed(&error))?;
        match code.as_u16() {
            200 => break serde_json::from_str::<EncryptionView>(&body).context("the answer does not say how the log is sealed")?.version,
            202 => break wait_for_change(admin, leader, before)?,
            // The others, or the leader, read their sources by now, and that may take longer than a request.
            409 if comes_again(&body) && begun.elapsed() < PATIENCE => thread::sleep(PAUSE),
            _ => bail!("node {leader} did not change the key: {}", reason(&body).unwrap_or_else(|| format!("it answered {code}"))),
        }
    };
    println!(
        "the log is sealed with version {now} of the key from here on. Keep the earlier ones: what they sealed is read with them until `ukehi key list --admin` \
         calls them retirable on all nodes, and backups need them for good"
    );
    Ok(ExitCode::SUCCESS)
}

/// Whether the reason is one that may pass by itself.
fn comes_again(body: &str) -> bool {
    let passes = |reason: &serde_json::Value| reason == "key-not-held" || reason == "keys-being-read";
    serde_json::from_str::<serde_json::Value>(body).is_ok_and(|body| body.get("reason").is_some_and(passes))
}

fn wait_for_change(admin: &[String], leader: u64, before: Option<u32>) -> Result<u32> {
    let begun = Instant::now();
    loop {
        if let Some(now) = in_use(admin, leader).filter(|now| Some(*now) > before) {
            return Ok(now);
        }
        if begun.elapsed() >= PATIENCE {
            return Err(anyhow!("node {leader} did not change the key: its log says which node did not say that it holds the new one"))
                .context(Advice("give all nodes the new key file, see `ukehi key list --admin`, and try again"));
        }
        thread::sleep(PAUSE);
    }
}

/// The version that a node seals with.
fn in_use(admin: &[String], id: u64) -> Option<u32> {
    let answers = ask_all(admin);
    let mut statuses = answers.iter().filter_map(status);
    Some(statuses.find(|status| status.id == id)?.encryption.as_ref()?.version)
}

fn status(answer: &Answer) -> Option<&StatusView> {
    if let Outcome::Status(status) = &answer.outcome { Some(status) } else { None }
}

fn lacks_key(status: &StatusView) -> bool {
    status.encryption.as_ref().is_some_and(|encryption| encryption.missing.is_some())
}

/// The versions that none of the nodes needs.
fn all_retirable(answers: &[Answer]) -> Option<String> {
    let views: Vec<_> = answers.iter().map(|answer| status(answer)?.encryption.as_ref()).collect::<Option<_>>()?;
    let (first, others) = views.split_first()?;
    let everywhere = |version: &&u32| others.iter().all(|view| view.retirable.contains(version) || !view.held.contains(version));
    let versions = list_of(&first.retirable.iter().filter(everywhere).copied().collect::<Vec<_>>());
    (!versions.is_empty()).then(|| {
        format!("None of these nodes needs version {versions} any more: if these are all nodes of the cluster, take it out of their key files, and keep a copy for backups")
    })
}

fn table(answers: &[Answer]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["id", "in use", "held", "retirable", "lacks", "chain ends at", "admin"]);
    for Answer { admin, outcome } in answers {
        table.add_row(match outcome {
            Outcome::Status(StatusView { id, encryption: Some(view), .. }) => {
                let head = format!("{}:{}…", view.head.index, view.head.link.get(..16).unwrap_or_default());
                let lacks = view.missing.map(|version| version.to_string()).unwrap_or_default();
                [id.to_string(), view.version.to_string(), list_of(&view.held), list_of(&view.retirable), lacks, head, admin.clone()]
            }
            Outcome::Status(status) => [&status.id.to_string(), "not encrypted", "", "", "", "", admin].map(str::to_owned),
            Outcome::Failure { error } => ["-", error, "", "", "", "", admin].map(str::to_owned),
        });
    }
    if let Some(column) = table.column_mut(0) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn list_of(versions: &[u32]) -> String {
    versions.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
