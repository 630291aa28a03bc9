//! The front end over real sockets, with a map in memory as its node.

mod limits;
mod protocol;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amaters_cluster_core::{EntryId, LogIndex, NodeId, NodeState, SessionChange, SessionId, SessionStamp, Status, Term};
use bytes::Bytes;
use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Backend, RespLimits, RespMetrics, serve};
use crate::error::{RaftError, RaftResult};
use crate::kv::KeyValue;
use crate::state_machine::StateMachine;

/// How long a test waits for what must come: long enough for any machine, since only a failing test waits it out.
const PATIENCE: Duration = Duration::from_secs(20);

type MakeError = fn() -> RaftError;

/// A node without consensus.
#[derive(Clone, Default)]
struct Fake {
    map: Arc<Mutex<KeyValue>>,
    /// The sessions that are open, and the results of their commands.
    sessions: Arc<Mutex<BTreeMap<SessionId, BTreeMap<u64, Bytes>>>>,
    /// How many writes came.
    written: Arc<Mutex<u64>>,
    /// The runs that came: their kind and their length.
    runs: Arc<Mutex<Vec<(char, usize)>>>,
    /// Makes every request fail.
    failure: Option<MakeError>,
}

impl Backend for Fake {
    async fn write(&self, commands: Vec<Bytes>, session: Option<SessionStamp>) -> Vec<RaftResult<Bytes>> {
        self.runs.lock().unwrap().push(('w', commands.len()));
        let (mut map, mut written) = (self.map.lock().unwrap(), self.written.lock().unwrap());
        let mut write = |command: &Bytes| {
            *written += 1;
            map.write(EntryId { term: Term(3), index: LogIndex(*written) }, command)
        };
        let mut sessions = self.sessions.lock().unwrap();
        let mut carry_out = |(number, command): (u64, &Bytes)| match session.map(|first| first.later(number)) {
            None => Ok(write(command)),
            Some(SessionStamp { session, sequence, acknowledged }) => {
                let results = sessions.get_mut(&session).ok_or(RaftError::SessionExpired)?;
                *results = results.split_off(&acknowledged);
                Ok(results.entry(sequence).or_insert_with(|| write(command)).clone())
            }
        };
        let outcome = |command| self.failure.map_or_else(|| carry_out(command), |failure| Err(failure()));
        (0..).zip(&commands).map(outcome).collect()
    }

    async fn change_session(&self, change: SessionChange) -> RaftResult<SessionId> {
        let mut sessions = self.sessions.lock().unwrap();
        match (self.failure, change) {
            (Some(failure), _) => Err(failure()),
            (None, SessionChange::Open { .. }) => {
                let id = SessionId(sessions.len() as u64 + 12);
                sessions.insert(id, BTreeMap::new());
                Ok(id)
            }
            (None, SessionChange::KeepAlive { session, .. }) => sessions.get(&session).map(|_| session).ok_or(RaftError::SessionExpired),
            (None, SessionChange::Close { session }) => sessions.remove(&session).map(|_| session).ok_or(RaftError::SessionExpired),
        }
    }

    async fn read(&self, queries: Vec<Bytes>) -> RaftResult<Vec<Bytes>> {
        self.runs.lock().unwrap().push(('r', queries.len()));
        if let Some(failure) = self.failure {
            return Err(failure());
        }
        let map = self.map.lock().unwrap();
        Ok(queries.iter().map(|query| map.query(query)).collect())
    }

    async fn read_local(&self, queries: Vec<Bytes>) -> RaftResult<Vec<Bytes>> {
        self.runs.lock().unwrap().push(('l', queries.len()));
        let map = self.map.lock().unwrap();
        Ok(queries.iter().map(|query| map.query(query)).collect())
    }

    async fn status(&self) -> RaftResult<Status> {
        Ok(Status {
            id: NodeId(1),
            state: NodeState::Leader,
            term: Term(3),
            leader: NodeId(1),
            commit_index: LogIndex(7),
            applied_index: LogIndex(7),
            last_index: LogIndex(8),
            durable_index: LogIndex(8),
            log_bytes: 100,
            sessions: 0,
            removed: false,
            config_version: LogIndex(0),
            members: Vec::new(),
            peers: Vec::new(),
            counters: Default::default(),
            transfer_to: NodeId::NONE,
            has_lease: false,
            disk_waits: Duration::ZERO,
            disk_full: false,
            first_index: LogIndex(1),
            snapshots: amaters_cluster_core::SnapshotStatus::default(),
            repairing: false,
            encryption: None,
        })
    }
}

struct Server {
    address: std::net::SocketAddr,
    registry: Registry,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(backend: impl Backend, limits: RespLimits) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let registry = Registry::new();
        let metrics = Arc::new(RespMetrics::register(&registry).unwrap());
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(serve(listener, backend, limits, metrics, stopped));
        Self { address, registry, stop, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The value of a counter.
    fn count(&self, name: &str, label: Option<&str>) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == format!("amaters_cluster_client_{name}"));
        let metrics = family.map_or(&[][..], |family| family.get_metric());
        let metric = metrics.iter().find(|metric| label.is_none_or(|label| metric.get_label().iter().any(|pair| pair.value() == label)));
        metric.map_or(0.0, |metric| metric.get_counter().get_value() + metric.get_gauge().get_value())
    }

    /// Waits until a connection has been counted as ended for this reason.
    async fn expect_close(&self, reason: &str) {
        let counted = timeout(PATIENCE, async {
            while self.count("closes_total", Some(reason)) < 1.0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        });
        assert!(counted.await.is_ok(), "no connection ended for {reason}");
    }
}

/// Reads as many bytes as are expected, and compares.
async fn expect(stream: &mut TcpStream, expected: &[u8]) {
    let mut came = vec![0; expected.len()];
    let mut length = 0;
    let _ = timeout(PATIENCE, async {
        while length < came.len() {
            match stream.read(&mut came[length..]).await {
                Ok(0) | Err(_) => break,
                Ok(bytes) => length += bytes,
            }
        }
    })
    .await;
    came.truncate(length);
    assert_eq!(came.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

/// Reads until the server ends the connection.
async fn read_to_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut came = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut came)).await.expect("the server should have ended the connection").unwrap();
    came
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
}

/// A request as clients send it.
fn request(words: &[&[u8]]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}
