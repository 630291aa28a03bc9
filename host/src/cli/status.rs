//! `ukehi status`: the state of all nodes, as each of them tells it.
#![allow(clippy::print_stdout, reason = "the command's output")]

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;
use ureq::Agent;

use crate::admin::{RoleView, StatusView};

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most bytes of an answer.
const ANSWER_BYTES: u64 = 1 << 20;

/// Asks all admin addresses at the same time, and prints a table, or with `json` an array. Succeeds if all answered.
///
/// # Errors
/// The answers can't be encoded.
pub fn run(admin: &[String], json: bool) -> anyhow::Result<ExitCode> {
    let answers = ask_all(admin);
    if json {
        println!("{}", serde_json::to_string_pretty(&answers)?);
    } else {
        println!("{}", table(&answers));
    }
    let all_well = answers.iter().all(|answer| matches!(answer.outcome, Outcome::Status(_)));
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What came of asking one address.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    pub(super) admin: String,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
#[allow(clippy::large_enum_variant, reason = "there are a handful of them")]
pub(super) enum Outcome {
    Status(StatusView),
    Failure { error: String },
}

/// Asks all addresses at the same time.
pub(super) fn ask_all(admin: &[String]) -> Vec<Answer> {
    let agent = agent();
    thread::scope(|scope| {
        let asking: Vec<_> = admin.iter().map(|address| scope.spawn(|| ask(&agent, address))).collect();
        let outcomes = asking.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("the request failed unexpectedly".to_owned())));
        admin
            .iter()
            .zip(outcomes)
            .map(|(address, outcome)| Answer {
                admin: address.clone(),
                outcome: outcome.map_or_else(|error| Outcome::Failure { error }, Outcome::Status),
            })
            .collect()
    })
}

/// What asks admin ports.
pub(super) fn agent() -> Agent {
    Agent::config_builder().timeout_global(Some(PATIENCE)).http_status_as_error(false).proxy(None).build().into()
}

fn ask(agent: &Agent, address: &str) -> Result<StatusView, String> {
    let mut response = agent.get(format!("http://{address}/status")).call().map_err(|error| in_words(&error))?;
    let code = response.status();
    let body = response.body_mut().with_config().limit(ANSWER_BYTES).read_to_string().map_err(|error| in_words(&error))?;
    if !code.is_success() {
        return Err(reason(&body).unwrap_or_else(|| format!("answered {code}: is this the admin port of a node?")));
    }
    serde_json::from_str(&body).map_err(|error| format!("no status came: {error}. Is this the admin port of a node?"))
}

/// Why a node refused, as the body of its answer has it.
pub(super) fn reason(body: &str) -> Option<String> {
    Some(serde_json::from_str::<serde_json::Value>(body).ok()?.get("error")?.as_str()?.to_owned())
}

pub(super) fn in_words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer within {} s", PATIENCE.as_secs()),
        ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
            "connection refused: is the node running?".to_owned()
        }
        error => error.to_string(),
    }
}

fn table(answers: &[Answer]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    table.set_header(["id", "role", "term", "leader", "commit", "applied", "last", "peers", "admin"]);
    for column in [0, 2, 3, 4, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    for Answer { admin, outcome } in answers {
        table.add_row(match outcome {
            Outcome::Status(status) => row(status, admin),
            Outcome::Failure { error } => ["-", error, "", "", "", "", "", "", admin].map(str::to_owned),
        });
    }
    table
}

fn row(status: &StatusView, admin: &str) -> [String; 9] {
    [
        status.id.to_string(),
        status.role.to_string(),
        status.term.to_string(),
        status.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
        status.commit.to_string(),
        status.applied.to_string(),
        status.last.to_string(),
        peers(status),
        admin.to_owned(),
    ]
}

/// How far the peers are, which only a leader knows; for the others when they were heard of.
fn peers(status: &StatusView) -> String {
    let told = status.peers.iter().map(|peer| {
        let failed = if peer.failed { ", failed" } else { "" };
        match status.role {
            RoleView::Leader => match status.last.saturating_sub(peer.match_index) {
                0 => format!("{}: {}{failed}", peer.id, peer.match_index),
                lag => format!("{}: {} (lag {lag}{failed})", peer.id, peer.match_index),
            },
            _ if status.leader == Some(peer.id) => format!("{}: heard {} ms ago{failed}", peer.id, peer.silent_ms),
            _ => format!("{}: {}", peer.id, if peer.failed { "failed" } else { "-" }),
        }
    });
    told.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;
    use crate::admin::PeerView;

    fn status(id: u64, role: RoleView) -> StatusView {
        let peers = [1, 2, 3]
            .into_iter()
            .filter(|peer| *peer != id)
            .map(|id| PeerView { id, match_index: 7 * (id - 1), silent_ms: 12, suspicion: 0.0, failed: id == 3 })
            .collect();
        let (version, cluster, engine) = ("0.1.0".to_owned(), "dev".to_owned(), "wasm".to_owned());
        StatusView {
            id,
            role,
            term: 4,
            leader: Some(1),
            commit: 14,
            applied: 14,
            last: 14,
            config: 0,
            members: Vec::new(),
            removed: false,
            peers,
            durable: 14,
            log_bytes: 0,
            first: 1,
            snapshot: None,
            snapshot_under_way: false,
            repairing: false,
            encryption: None,
            sessions: 0,
            version,
            cluster,
            engine,
            transfer_to: None,
            has_lease: false,
            disk_waits_ms: 0,
            disk_full: false,
        }
    }

    /// A server that gives one answer to one request.
    fn answers(code: &str, body: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let answer = format!("HTTP/1.1 {code}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.push(byte[0]);
            }
            assert!(request.starts_with(b"GET /status HTTP/1.1\r\n"));
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn the_table_shows_each_node_or_why_it_is_not_there() {
        let answer = |admin: &str, outcome| Answer { admin: admin.to_owned(), outcome };
        let shown = table(&[
            answer("a:1", Outcome::Status(status(1, RoleView::Leader))),
            answer("b:2", Outcome::Status(status(2, RoleView::Follower))),
            answer("c:3", Outcome::Failure { error: "no answer within 2 s".to_owned() }),
        ])
        .to_string();
        for part in ["leader", "2: 7 (lag 7), 3: 14, failed", "follower", "1: heard 12 ms ago, 3: failed", "no answer within 2 s", "c:3"] {
            assert!(shown.contains(part), "no {part:?} in\n{shown}");
        }
    }

    #[test]
    fn all_are_asked_and_each_failure_is_said_in_words() {
        let well = answers("200 OK", &serde_json::to_string(&status(1, RoleView::Leader)).unwrap());
        let stuck = answers("503 Service Unavailable", r#"{"error":"the node is shutting down"}"#);
        let other = answers("200 OK", "<html>");
        let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let addresses = [well, stuck, other, away, silent.local_addr().unwrap().to_string()];
        let began = std::time::Instant::now();
        let told: Vec<_> = ask_all(&addresses)
            .into_iter()
            .map(|answer| match answer.outcome {
                Outcome::Status(status) => status.role.to_string(),
                Outcome::Failure { error } => error,
            })
            .collect();
        assert_eq!(told[..2], ["leader", "the node is shutting down"]);
        assert!(told[2].ends_with("Is this the admin port of a node?"), "{}", told[2]);
        assert_eq!(told[3..], ["connection refused: is the node running?", "no answer within 2 s"]);
        assert!(began.elapsed() < 2 * PATIENCE, "they were asked one after the other");
    }

    #[test]
    fn json_has_the_status_as_it_came_and_the_address() {
        let well = Answer { admin: "a:1".to_owned(), outcome: Outcome::Status(status(1, RoleView::Leader)) };
        let json = serde_json::to_value(&well).unwrap();
        assert_eq!((&json["admin"], &json["role"], &json["peers"][0]["match"]), (&"a:1".into(), &"leader".into(), &7.into()));
        let away = Answer { admin: "b:2".to_owned(), outcome: Outcome::Failure { error: "away".to_owned() } };
        assert_eq!(serde_json::to_string(&away).unwrap(), r#"{"admin":"b:2","error":"away"}"#);
    }

    #[test]
    fn it_fails_when_a_node_is_away() {
        let away = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        assert_eq!(format!("{:?}", run(&[away], true).unwrap()), format!("{:?}", ExitCode::FAILURE));
    }
}
