//! The demo's writers: each goes on with the same key, at the next node, until it is acknowledged.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::client::connection::{Connection, Frame, command};

/// What is written, and how far it is. Cheap to clone: all clones count together.
#[derive(Clone)]
pub(super) struct Writes(Arc<Shared>);

struct Shared {
    targets: Vec<SocketAddr>,
    keys: u32,
    /// Tells this run's values from an earlier one's.
    run: u64,
    next: AtomicU32,
    acknowledged: AtomicU32,
    retries: AtomicU64,
    record: Mutex<Record>,
}

struct Record {
    /// Microseconds from the first attempt to the acknowledgement.
    latencies: Histogram<u64>,
    begun: Instant,
    last_success: Instant,
    last_error: String,
    killed: Option<Instant>,
    first_success_after_kill: Option<Instant>,
}

/// How long one attempt may take: longer than a node's own limit for a request.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Before the next attempt.
const PAUSE: Duration = Duration::from_millis(10);

impl Writes {
    pub(super) fn new(targets: Vec<SocketAddr>, keys: u32) -> anyhow::Result<Self> {
        let now = Instant::now();
        let record = Record {
            latencies: Histogram::new_with_max(600_000_000, 3)?,
            begun: now,
            last_success: now,
            last_error: "none".to_owned(),
            killed: None,
            first_success_after_kill: None,
        };
        let counter = || AtomicU32::new(0);
        let (next, acknowledged, retries) = (counter(), counter(), AtomicU64::new(0));
        Ok(Self(Arc::new(Shared { targets, keys, run: fastrand::u64(..), next, acknowledged, retries, record: Mutex::new(record) })))
    }

    /// Writes all keys from so many clients. The last quarter waits for the leader's death, however fast the machine is.
    pub(super) async fn run(&self, clients: u32) -> anyhow::Result<()> {
        let mut writers = JoinSet::new();
        for number in 0..clients {
            writers.spawn(self.clone().write(number as usize));
        }
        while let Some(ended) = writers.join_next().await {
            ended?;
        }
        Ok(())
    }

    async fn write(self, number: usize) {
        let targets = &self.0.targets;
        let mut target = number;
        let mut client = None;
        loop {
            let key = self.0.next.fetch_add(1, Relaxed);
            if key >= self.0.keys {
                return;
            }
            while key >= self.0.keys / 4 * 3 && !self.is_after_kill() {
                sleep(PAUSE).await;
            }
            let mut request = Vec::new();
            command(&mut request, &[b"SET", self.key(key).as_bytes(), self.value(key).as_bytes()]);
            let begun = Instant::now();
            loop {
                let sent = Instant::now();
                match timeout(ATTEMPT, attempt(&mut client, targets[target % targets.len()], &request)).await {
                    Ok(Ok(())) => {
                        self.note_success(begun, sent);
                        break;
                    }
                    Ok(Err(error)) => self.note_failure(&error.to_string()),
                    Err(_) => self.note_failure("no reply in time"),
                }
                client = None;
                target += 1;
                sleep(PAUSE).await;
            }
        }
    }

    fn note_success(&self, begun: Instant, sent: Instant) {
        let now = Instant::now();
        self.0.acknowledged.fetch_add(1, Relaxed);
        let mut record = self.record();
        record.latencies.saturating_record(u64::try_from((now - begun).as_micros()).unwrap_or(u64::MAX));
        record.last_success = now;
        if record.killed.is_some_and(|killed| sent >= killed) {
            record.first_success_after_kill.get_or_insert(now);
        }
    }

    fn note_failure(&self, words: &str) {
        self.0.retries.fetch_add(1, Relaxed);
        words.clone_into(&mut self.record().last_error);
    }

    /// Says that the leader is dead: what was sent before may have been acknowledged by it, and says nothing about the fail-over.
    pub(super) fn note_kill(&self) {
        self.record().killed = Some(Instant::now());
    }

    fn is_after_kill(&self) -> bool {
        self.record().killed.is_some()
    }

    /// When the first write was acknowledged of those that were sent after the kill.
    pub(super) fn first_success_after_kill(&self) -> Option<Instant> {
        self.record().first_success_after_kill
    }

    pub(super) fn key(&self, number: u32) -> String {
        format!("demo:{number}")
    }

    /// A value of 128 bytes that no other key and no other run has.
    pub(super) fn value(&self, number: u32) -> String {
        format!("{:016x}:{number:0>111}", self.0.run)
    }

    pub(super) fn keys(&self) -> u32 {
        self.0.keys
    }

    pub(super) fn acknowledged(&self) -> u32 {
        self.0.acknowledged.load(Relaxed)
    }

    /// Attempts that failed.
    pub(super) fn retries(&self) -> u64 {
        self.0.retries.load(Relaxed)
    }

    pub(super) fn last_error(&self) -> String {
        self.record().last_error.clone()
    }

    pub(super) fn since_last_success(&self) -> Duration {
        self.record().last_success.elapsed()
    }

    /// Writes a second, and their latencies in microseconds.
    pub(super) fn figures(&self) -> (f64, Histogram<u64>) {
        let record = self.record();
        (f64::from(self.acknowledged()) / (record.last_success - record.begun).as_secs_f64(), record.latencies.clone())
    }

    fn record(&self) -> MutexGuard<'_, Record> {
        self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Sends a request once. Only `+OK` counts: after anything else it is unknown what came of it.
async fn attempt(client: &mut Option<Connection>, target: SocketAddr, request: &[u8]) -> io::Result<()> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Connection::connect(target).await?),
    };
    client.send(request).await?;
    match client.reply().await? {
        Frame::SimpleString(words) if words == "OK" => Ok(()),
        Frame::Error(words) => Err(io::Error::other(words.to_string())),
        other => Err(io::Error::other(format!("expected OK, got {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that gives each connection the next of these answers, which is empty where it just closes.
    async fn server(answers: &'static [&'static str]) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        tokio::spawn(async move {
            for answer in answers.iter().cycle() {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                let mut request = [0; 4096];
                let _ = stream.read(&mut request).await.expect("a request");
                stream.write_all(answer.as_bytes()).await.expect("written");
            }
        });
        address
    }

    #[tokio::test]
    async fn a_key_counts_once_it_is_acknowledged_and_not_before() {
        let refuses = server(&["-CLUSTERDOWN no leader\r\n", "+QUEUED\r\n", "", ":1\r\n"]).await;
        let answers = server(&["", "+OK\r\n"]).await;
        let writes = Writes::new(vec![refuses, answers], 3).expect("valid");
        writes.note_kill();
        writes.run(1).await.expect("written");
        assert_eq!(writes.acknowledged(), 3);
        // Each key is refused by the first server and dropped by the second before it is taken; the connection that took it is closed for the next one.
        assert_eq!(writes.retries(), 3 + 4 + 4);
        assert_eq!(writes.figures().1.len(), 3);
    }

    #[tokio::test]
    async fn the_last_keys_wait_for_the_kill() {
        let writes = Writes::new(vec![server(&["+OK\r\n"]).await], 8).expect("valid");
        let kill = async {
            while writes.acknowledged() < 6 {
                sleep(PAUSE).await;
            }
            // Longer than the two keys left would take.
            let waits = timeout(PAUSE * 10, async {
                while writes.acknowledged() == 6 {
                    sleep(PAUSE).await
                }
            })
            .await;
            waits.expect_err("nothing more is written before the kill");
            writes.note_kill();
        };
        let (written, ()) = tokio::join!(writes.run(1), kill);
        written.expect("written");
        assert_eq!(writes.acknowledged(), 8);
        assert!(writes.first_success_after_kill().is_some());
    }

    #[tokio::test]
    async fn only_what_was_sent_after_the_kill_ends_the_fail_over() {
        let writes = Writes::new(Vec::new(), 1).expect("valid");
        let before = Instant::now();
        writes.note_success(before, before);
        assert_eq!(writes.first_success_after_kill(), None);
        writes.note_kill();
        writes.note_success(before, before);
        assert_eq!(writes.first_success_after_kill(), None);
        writes.note_success(before, Instant::now());
        assert!(writes.first_success_after_kill().is_some());
    }

    #[test]
    fn values_differ_by_key_and_by_run() {
        let [one, other] = [(); 2].map(|()| Writes::new(Vec::new(), 2).expect("valid"));
        assert_eq!(one.value(0).len(), 128);
        assert_ne!(one.value(0), one.value(1));
        assert_ne!(one.value(0), other.value(0));
    }
}
