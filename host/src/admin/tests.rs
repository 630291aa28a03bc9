//! Each route, and bad requests, over real sockets.

use std::time::Duration;

use amaters_cluster_core::sealing::ChainLink;
use amaters_cluster_core::{
    ChainPoint, Counters, EncryptionStatus, EntryId, KeyVersion, LogIndex, MemberRole, MemberStatus, MembershipChange, NodeId, NodeState,
    PeerStatus, SnapshotStatus, Status, Term,
};
use prometheus::{IntCounter, Registry};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::phase::{Watch, Watched};
use super::{MembersView, NodeInfo, RoleView, StatusSource, StatusView, serve};
use crate::error::{RaftError, RaftResult};

/// A node that reports this, an error, or nothing at all.
#[derive(Clone)]
enum Node {
    Reports(Box<Status>),
    Ends,
    IsStuck,
}

impl StatusSource for Node {
    async fn status(&self) -> RaftResult<Status> {
        match self {
            Self::Reports(status) => Ok((**status).clone()),
            Self::Ends => Err(RaftError::ShuttingDown),
            Self::IsStuck => std::future::pending().await,
        }
    }

    async fn transfer(&self, to: Option<NodeId>) -> RaftResult<()> {
        match (self, to) {
            (Self::Reports(status), _) if status.state != NodeState::Leader => {
                Err(RaftError::NotLeader { leader: (!status.leader.is_none()).then_some(status.leader) })
            }
            (_, None | Some(NodeId(1..=3))) => Ok(()),
            _ => Err(RaftError::UnknownTarget),
        }
    }

    async fn rotate_key(&self, version: Option<KeyVersion>) -> RaftResult<()> {
        match (self, version) {
            (Self::Ends, _) => Err(RaftError::NotLeader { leader: Some(NodeId(2)) }),
            (_, None | Some(KeyVersion(3))) => Ok(()),
            (_, Some(KeyVersion(1 | 2))) => Err(RaftError::KeyVersionInUse),
            _ => Err(RaftError::KeyNotHeld),
        }
    }

    async fn take_snapshot(&self) -> RaftResult<()> {
        match self {
            Self::Reports(status) if status.snapshots.taking.is_some() => Err(RaftError::SnapshotUnderWay),
            _ => Ok(()),
        }
    }

    async fn change_membership(&self, change: MembershipChange) -> RaftResult<()> {
        match (self, change) {
            (Self::Ends, _) => Err(RaftError::NotLeader { leader: Some(NodeId(2)) }),
            (_, MembershipChange::Remove(NodeId(3))) => Ok(()),
            (_, MembershipChange::Remove(_)) => Err(RaftError::NotMember),
            _ => Err(RaftError::ChangeUnderWay),
        }
    }
}

fn leader() -> Status {
    let peer = |id, match_index, ms: u32| {
        let silent = Duration::from_millis(ms.into());
        PeerStatus { id: NodeId(id), match_index: LogIndex(match_index), silent, suspicion: 6 * ms, failed: ms > 1000 }
    };
    Status {
        id: NodeId(1),
        state: NodeState::Leader,
        term: Term(3),
        leader: NodeId(1),
        commit_index: LogIndex(8),
        applied_index: LogIndex(8),
        last_index: LogIndex(9),
        durable_index: LogIndex(7),
        log_bytes: 1234,
        sessions: 6,
        removed: false,
        config_version: LogIndex(4),
        members: (1..=3).map(|id| MemberStatus { id: NodeId(id), address: format!("host{id}:7101"), role: MemberRole::Voter }).collect(),
        peers: vec![peer(2, 8, 20), peer(3, 5, 1500)],
        counters: Counters {
            elections: 2,
            refused_envelopes: 1,
            proposals: 40,
            rejections: 4,
            transfers: 5,
            lease_reads: 6,
            disk_stalls: 7,
            configurations: 1,
            strangers: 3,
            snapshots_taken: 8,
            snapshots_sent: 9,
            snapshots_installed: 10,
            snapshots_failed: 11,
        },
        transfer_to: NodeId(2),
        has_lease: true,
        disk_waits: Duration::from_millis(250),
        disk_full: true,
        first_index: LogIndex(2),
        snapshots: SnapshotStatus {
            latest: Some(EntryId { index: LogIndex(3), term: Term(2) }),
            latest_bytes: 4321,
            ..SnapshotStatus::default()
        },
        repairing: false,
        encryption: Some(EncryptionStatus {
            version: KeyVersion(2),
            held: (1..=3).map(KeyVersion).collect(),
            oldest_needed: KeyVersion(2),
            missing: Some(KeyVersion(4)),
            head_index: LogIndex(9),
            head: ChainPoint { link: ChainLink([0xab; 32]), version: KeyVersion(2) },
            accelerated: true,
        }),
    }
}

struct Admin {
    address: std::net::SocketAddr,
    registry: Registry,
    stop: watch::Sender<bool>,
    task: JoinHandle<prometheus::Result<()>>,
}

impl Admin {
    async fn start(node: Node) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, registry, (stop, shutdown)) = (listener.local_addr().unwrap(), Registry::new(), watch::channel(false));
        let info = NodeInfo { cluster: "dev".to_owned(), version: "1.2.3".to_owned(), engine: "wasm".to_owned(), snapshots: None };
        let task = tokio::spawn(serve(listener, node, info, registry.clone(), shutdown));
        Self { address, registry, stop, task }
    }

    async fn reports(status: Status) -> Self {
        Self::start(Node::Reports(Box::new(status))).await
    }

    /// All that comes back for these bytes until the other side closes.
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.expect("the connection ends");
        // Bytes that nobody read make the other side's close a reset.
        assert!(read.is_ok() || !answer.is_empty(), "{read:?}");
        String::from_utf8(answer).unwrap()
    }

    /// Status code and body.
    async fn ask(&self, method: &str, path: &str) -> (u16, String) {
        let answer = self.send(format!("{method} {path} HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n").as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a response");
        (head[9..12].parse().unwrap(), body.to_owned())
    }

    async fn get(&self, path: &str) -> (u16, String) {
        self.ask("GET", path).await
    }

    fn closes(&self, reason: &str) -> u64 {
        let families = self.registry.gather();
        let closes =
            families.iter().filter(|family| family.name() == "amaters_cluster_admin_closes_total").flat_map(|family| family.get_metric());
        let count: f64 = closes
            .filter(|metric| metric.get_label().iter().any(|label| label.value() == reason))
            .map(|metric| metric.get_counter().get_value())
            .sum();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
        {
            count as u64
        }
    }

    async fn closed(&self, reason: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while self.closes(reason) == 0 {
            assert!(Instant::now() < deadline, "not closed within 20 s: {reason}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test]
async fn a_snapshot_is_taken_on_demand_and_a_refusal_says_why() {
    let (code, body) = Admin::reports(leader()).await.ask("POST", "/snapshots").await;
    assert_eq!((code, body.as_str()), (200, r#"{"index":3,"term":2,"bytes":4321}"#));
    let mut busy = leader();
    busy.snapshots.taking = busy.snapshots.latest;
    let (code, body) = Admin::reports(busy).await.ask("POST", "/snapshots").await;
    assert!(code == 409 && body.contains("a snapshot is being taken or installed"), "{code}: {body}");
}

#[tokio::test]
async fn status_has_the_fields_that_scripts_rely_on() {
    let (code, body) = Admin::reports(leader()).await.get("/status").await;
    assert_eq!(code, 200);
    let expected = serde_json::json!({
        "id": 1, "role": "leader", "term": 3, "leader": 1, "commit": 8, "applied": 8, "last": 9,
        "first": 2, "snapshot": {"index": 3, "term": 2, "bytes": 4321}, "snapshot_under_way": false, "repairing": false,
        "config": 4, "removed": false,
        "members": [
            {"id": 1, "address": "host1:7101", "role": "voter"},
            {"id": 2, "address": "host2:7101", "role": "voter"},
            {"id": 3, "address": "host3:7101", "role": "voter"},
        ],
        "peers": [{"id": 2, "match": 8, "silent_ms": 20, "suspicion": 0.12, "failed": false},
            {"id": 3, "match": 5, "silent_ms": 1500, "suspicion": 9.0, "failed": true}],
        "durable": 7, "log_bytes": 1234, "sessions": 6, "version": "1.2.3", "cluster": "dev", "engine": "wasm",
        "transfer_to": 2, "has_lease": true, "disk_waits_ms": 250, "disk_full": true,
        "encryption": {"version": 2, "held": [1, 2, 3], "retirable": [1], "missing": 4, "head": {"index": 9, "link": "ab".repeat(32)},
            "sealed_by": "host"},
    });
    assert_eq!(serde_json::from_str::<serde_json::Value>(&body).unwrap(), expected);
    let view: StatusView = serde_json::from_str(&body).unwrap();
    assert_eq!((view.role, view.leader), (RoleView::Leader, Some(1)));

    let lost = Status { state: NodeState::PreCandidate, leader: NodeId::NONE, encryption: None, ..leader() };
    let (_, body) = Admin::reports(lost).await.get("/status").await;
    assert!(
        body.contains(r#""role":"pre-candidate""#) && body.contains(r#""leader":null"#) && body.contains(r#""encryption":null"#),
        "{body}"
    );
}

#[tokio::test]
async fn a_node_is_ready_when_it_knows_a_leader_and_has_applied_what_is_committed() {
    assert_eq!(Admin::reports(leader()).await.get("/readyz").await, (200, "ok\n".to_owned()));
    let lost = Status { leader: NodeId::NONE, ..leader() };
    let admin = Admin::reports(lost).await;
    assert_eq!(admin.get("/readyz").await, (503, "no leader is known in term 3\n".to_owned()));
    assert_eq!(admin.get("/healthz").await, (200, "ok\n".to_owned()));
    let behind = Status { applied_index: LogIndex(5), ..leader() };
    assert_eq!(Admin::reports(behind).await.get("/readyz").await, (503, "applied up to 5: 8 is committed\n".to_owned()));
}

#[tokio::test]
async fn a_transfer_takes_a_target_or_nothing_and_says_why_not() {
    let post = |admin: Admin, body: &'static str| async move {
        let head = format!("POST /transfer HTTP/1.1\r\nhost: node\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
        let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
        let answer = admin.send(format!("{head}{kind}\r\n{body}").as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a response");
        (head[9..12].parse::<u16>().unwrap(), body.to_owned())
    };
    for body in ["", "{}", r#"{"to": 2}"#, r#"{"to": null}"#] {
        assert_eq!(post(Admin::reports(leader()).await, body).await, (200, r#"{"leader":1}"#.to_owned()), "{body}");
    }
    let (code, said) = post(Admin::reports(leader()).await, r#"{"to": 9}"#).await;
    assert!(code == 409 && said.contains("is not a member"), "{code} {said}");
    for body in [r#"{"to": "two"}"#, r#"{"two": 2}"#, "{"] {
        let (code, said) = post(Admin::reports(leader()).await, body).await;
        assert!((code == 400 || code == 422) && said.contains("expected {"), "{body}: {code} {said}");
    }
    let follower = Status { state: NodeState::Follower, leader: NodeId(3), ..leader() };
    let (code, said) = post(Admin::reports(follower).await, "").await;
    assert!(code == 421 && said.contains(r#""leader":3"#), "{code} {said}");
    assert_eq!(Admin::reports(leader()).await.get("/transfer").await.0, 405);
}

#[tokio::test]
async fn a_key_is_changed_to_a_version_or_to_the_newest_and_a_refusal_says_why() {
    let post = |body: &str, kind: &str| {
        let length = body.len();
        format!(
            "POST /keys/rotate HTTP/1.1\r\nhost: node\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
    };
    for (body, kind, code, words) in [
        ("{}", "application/json", 200, r#""version":2"#),
        (r#"{"version": 3}"#, "application/json", 200, r#""sealed_by":"host""#),
        (r#"{"version": 2}"#, "application/json", 409, "is sealed with this version of the key already"),
        (r#"{"version": 4}"#, "application/json", 409, "a voter did not say in time"),
        (r#"{"version": "new"}"#, "application/json", 422, "expected {"),
        // What a page in a browser may send without asking.
        ("{}", "text/plain", 415, "expected {"),
    ] {
        let answer = Admin::reports(leader()).await.send(post(body, kind).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")) && answer.contains(words), "{body}: {answer}");
    }
    let answer = Admin::start(Node::Ends).await.send(post("{}", "application/json").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains(r#""leader":2"#), "{answer}");
}

#[tokio::test]
async fn metrics_show_a_fresh_status_next_to_what_others_registered() {
    let admin = Admin::reports(leader()).await;
    let other = IntCounter::new("amaters_cluster_other_total", "Another part's").unwrap();
    admin.registry.register(Box::new(other)).unwrap();
    for _ in 0..2 {
        let (code, body) = admin.get("/metrics").await;
        assert_eq!(code, 200);
        for line in [
            "amaters_cluster_up 1",
            "amaters_cluster_term 3",
            "amaters_cluster_is_leader 1",
            "amaters_cluster_commit_index 8",
            "amaters_cluster_applied_index 8",
            "amaters_cluster_last_index 9",
            "amaters_cluster_durable_index 7",
            "amaters_cluster_log_bytes 1234",
            "amaters_cluster_sessions 6",
            "amaters_cluster_config_version 4",
            "amaters_cluster_voters 3",
            "amaters_cluster_learners 0",
            "amaters_cluster_strangers_total 3",
            r#"amaters_cluster_peer_match_index{peer="3"} 5"#,
            r#"amaters_cluster_peer_silence_seconds{peer="3"} 1.5"#,
            "# TYPE amaters_cluster_elections_total counter",
            "amaters_cluster_elections_total 2",
            "amaters_cluster_proposals_total 40",
            "amaters_cluster_rejections_total 4",
            "amaters_cluster_refused_envelopes_total 1",
            "amaters_cluster_transfers_total 5",
            "amaters_cluster_lease_reads_total 6",
            "amaters_cluster_disk_stalls_total 7",
            "amaters_cluster_disk_full 1",
            "amaters_cluster_has_lease 1",
            "amaters_cluster_disk_wait_seconds 0.25",
            "amaters_cluster_encrypted 1",
            "amaters_cluster_key_version 2",
            "amaters_cluster_key_missing_version 4",
            "amaters_cluster_keys_retirable 1",
            "amaters_cluster_other_total 0",
        ] {
            assert!(body.lines().any(|got| got == line), "no line {line:?} in\n{body}");
        }
    }
}

#[tokio::test]
async fn members_are_shown_and_changed_by_the_leader() {
    let admin = Admin::reports(leader()).await;
    let (code, body) = admin.get("/members").await;
    assert_eq!(code, 200);
    let view: MembersView = serde_json::from_str(&body).unwrap();
    assert_eq!((view.leader, view.version, view.members.len()), (Some(1), 4, 3));

    let post = |body: &str, kind: &str| {
        let length = body.len();
        format!(
            "POST /members HTTP/1.1\r\nhost: node\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        )
    };
    for (body, kind, code) in [
        (r#"{"change":"remove","id":3}"#, "application/json", 200),
        (r#"{"change":"remove","id":9}"#, "application/json", 400),
        (r#"{"change":"promote","id":3}"#, "application/json", 503),
        (r#"{"change":"paint","id":3}"#, "application/json", 400),
        // What a page in a browser may send without asking.
        (r#"{"change":"remove","id":3}"#, "text/plain", 415),
    ] {
        let answer = admin.send(post(body, kind).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{body}: {answer}");
    }
    let follower = Admin::start(Node::Ends).await;
    let answer = follower.send(post(r#"{"change":"remove","id":3}"#, "application/json").as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 421 ") && answer.contains(r#""leader":2"#), "{answer}");
}

#[tokio::test]
async fn other_paths_and_methods_are_refused_in_words() {
    let admin = Admin::reports(leader()).await;
    let (code, body) = admin.get("/nothing").await;
    assert_eq!(
        (code, body.as_str()),
        (404, r#"{"error":"expected /status, /members, /healthz, /readyz, /metrics, /transfer, /keys/rotate or /snapshots"}"#)
    );
    for path in ["/status", "/healthz", "/readyz", "/metrics"] {
        assert_eq!(
            admin.ask("DELETE", path).await,
            (405, r#"{"error":"expected GET; POST for /transfer, /members, /keys/rotate and /snapshots"}"#.to_owned())
        );
    }
    let answer = admin.send(b"GET /status HTTP/1.1\r\nhost: node\r\ncontent-length: 70000\r\nconnection: close\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[tokio::test]
async fn a_node_that_has_ended_says_so() {
    let admin = Admin::start(Node::Ends).await;
    assert_eq!(admin.get("/status").await, (503, r#"{"error":"the node is shutting down"}"#.to_owned()));
    assert_eq!(admin.get("/readyz").await, (503, "the node is shutting down\n".to_owned()));
}

#[tokio::test]
async fn a_node_that_is_stuck_is_not_healthy_and_shows_no_old_figures() {
    let admin = Admin::start(Node::IsStuck).await;
    assert_eq!(admin.get("/healthz").await, (503, "the node's loop did not answer within 1 s\n".to_owned()));
    let (code, body) = admin.get("/metrics").await;
    assert_eq!(code, 200);
    assert!(body.contains("amaters_cluster_up 0\n") && !body.contains("amaters_cluster_term"), "{body}");
}

#[tokio::test]
async fn garbage_and_half_a_request_end_with_their_reason_and_nobody_else_notices() {
    let admin = Admin::reports(leader()).await;
    let mut kept = TcpStream::connect(admin.address).await.unwrap();
    assert!(admin.send(&[0xff; 64]).await.starts_with("HTTP/1.1 400 "));
    admin.closed("malformed").await;
    let mut half = TcpStream::connect(admin.address).await.unwrap();
    half.write_all(b"GET /sta").await.unwrap();
    drop(half);
    admin.closed("cut_short").await;
    assert!(admin.send(&[&b"GET /status HTTP/1.1\r\nx: "[..], &[b'x'; 64 << 10]].concat()).await.starts_with("HTTP/1.1 431 "));

    // A connection from before them all is still served, twice.
    for _ in 0..2 {
        kept.write_all(b"GET /healthz HTTP/1.1\r\nhost: node\r\n\r\n").await.unwrap();
        let mut answer = [0; 15];
        kept.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer, *b"HTTP/1.1 200 OK");
        let mut rest = Vec::new();
        while !rest.ends_with(b"ok\n") {
            rest.push(kept.read_u8().await.unwrap());
        }
    }
}

#[tokio::test]
async fn silent_connections_do_not_keep_others_out() {
    let admin = Admin::reports(leader()).await;
    let mut silent = Vec::new();
    for _ in 0..super::CONNECTIONS {
        silent.push(TcpStream::connect(admin.address).await.unwrap());
    }
    assert_eq!(admin.get("/healthz").await.0, 200);
    assert!(admin.closes("crowded_out") >= 1);
}

#[tokio::test]
async fn it_stops_with_connections_open() {
    let admin = Admin::reports(leader()).await;
    let _silent = TcpStream::connect(admin.address).await.unwrap();
    assert_eq!(admin.get("/healthz").await.0, 200);
    admin.stop.send_replace(true);
    timeout(Duration::from_secs(10), admin.task).await.expect("stops").unwrap().unwrap();
    TcpStream::connect(admin.address).await.expect_err("the port is closed");
}

/// A connection whose requests take as long as given, and what ends it.
fn served(answer_takes: Duration) -> (DuplexStream, JoinHandle<(&'static str, u64)>) {
    let (far, near) = tokio::io::duplex(1024);
    let task = tokio::spawn(async move {
        let (watch, began) = (Watch::new(), Instant::now());
        let service = hyper::service::service_fn(|_| async {
            watch.answering(tokio::time::sleep(answer_takes)).await;
            Ok::<_, std::convert::Infallible>(hyper::Response::new(axum::body::Body::from("ok")))
        });
        let io = hyper_util::rt::TokioIo::new(Watched::new(near, watch.clone()));
        tokio::select! {
            outcome = hyper::server::conn::http1::Builder::new().serve_connection(io, service) => panic!("{outcome:?}"),
            reason = watch.overstayed() => (reason, began.elapsed().as_secs()),
        }
    });
    (far, task)
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: node\r\n\r\n";

#[tokio::test(start_paused = true)]
async fn a_silent_connection_is_closed_after_five_seconds() {
    let (_far, task) = served(Duration::ZERO);
    assert_eq!(task.await.unwrap(), ("slow_header", 5));
}

#[tokio::test(start_paused = true)]
async fn a_header_that_drips_is_closed_after_five_seconds() {
    let (mut far, task) = served(Duration::ZERO);
    for byte in REQUEST {
        if far.write_all(&[*byte]).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(task.await.unwrap(), ("slow_header", 5));
}

#[tokio::test(start_paused = true)]
async fn a_request_takes_at_most_ten_seconds() {
    let (mut far, task) = served(Duration::from_secs(3600));
    far.write_all(REQUEST).await.unwrap();
    assert_eq!(task.await.unwrap(), ("slow_request", 10));
}

#[tokio::test(start_paused = true)]
async fn a_connection_may_rest_for_a_minute_between_requests_and_not_drip_its_next_one() {
    let (mut far, task) = served(Duration::ZERO);
    far.write_all(REQUEST).await.unwrap();
    tokio::time::sleep(Duration::from_secs(59)).await;
    far.write_all(REQUEST).await.unwrap();
    assert_eq!(task.await.unwrap(), ("idle", 119));

    let (mut far, task) = served(Duration::ZERO);
    far.write_all(REQUEST).await.unwrap();
    tokio::time::sleep(Duration::from_secs(30)).await;
    far.write_all(b"G").await.unwrap();
    assert_eq!(task.await.unwrap(), ("slow_header", 35));
}
