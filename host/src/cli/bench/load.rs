//! One client's loop, and what the clients find out together.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hdrhistogram::Histogram;
use tokio::time::{Instant, timeout_at};

use super::{BenchOptions, BenchReport};
use crate::client::connection::{Connection, Frame, command};

/// The clients' common clock and counters. They share a thread, so that nobody waits for the lock.
#[derive(Clone)]
pub(super) struct Load {
    start: Instant,
    end: Instant,
    counts: Arc<Mutex<Counts>>,
}

struct Counts {
    /// Microseconds.
    latencies: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

/// Longer ones count as this.
const SLOWEST: Duration = Duration::from_secs(600);

/// Before a client connects again.
const PAUSE: Duration = Duration::from_millis(100);

/// Errors are told apart by their words, but a server that puts a number into each won't fill the memory.
const MAX_KINDS: usize = 20;

impl Load {
    /// Counts what ends from `start` to `end`.
    pub(super) fn new(start: Instant, end: Instant) -> Self {
        let slowest = u64::try_from(SLOWEST.as_micros()).unwrap_or(u64::MAX);
        let latencies = Histogram::new_with_max(slowest, 3).expect("3 digits of a fixed range are a valid histogram");
        Self { start, end, counts: Arc::new(Mutex::new(Counts { latencies, errors: BTreeMap::new() })) }
    }

    /// A client's life: it connects again as often as it must.
    pub(super) async fn run_client(self, target: SocketAddr, first: Connection, mut requests: Requests) {
        let mut connection = Some(first);
        while Instant::now() < self.end {
            let failure = match connection.take() {
                // A server that never replies is left in the end.
                Some(mut client) => match timeout_at(self.end + PAUSE, self.exchange(&mut client, &mut requests)).await {
                    Ok(ended) => ended.err(),
                    Err(_) => return self.count_error("no reply until the end".to_owned()),
                },
                None => match Connection::connect(target).await {
                    Ok(client) => {
                        connection = Some(client);
                        continue;
                    }
                    Err(failure) => Some(failure),
                },
            };
            if let Some(failure) = failure {
                self.count_error(failure.to_string());
                tokio::time::sleep_until((Instant::now() + PAUSE).min(self.end)).await;
            }
        }
    }

    /// Sends and waits, until the end.
    async fn exchange(&self, client: &mut Connection, requests: &mut Requests) -> io::Result<()> {
        while Instant::now() < self.end {
            let sent = Instant::now();
            client.send(requests.next()).await?;
            for _ in 0..requests.pipeline {
                match client.reply().await? {
                    Frame::Error(words) => self.count_error(words.to_string()),
                    _ => self.count_success(sent),
                }
            }
        }
        Ok(())
    }

    fn count_success(&self, sent: Instant) {
        let now = Instant::now();
        if (self.start..self.end).contains(&now) {
            let latency = u64::try_from((now - sent).as_micros()).unwrap_or(u64::MAX);
            self.counts().latencies.saturating_record(latency);
        }
    }

    /// Errors count from the first moment: one in the warm-up is one too many as well.
    fn count_error(&self, words: String) {
        let errors = &mut self.counts().errors;
        let words = if errors.len() < MAX_KINDS || errors.contains_key(&words) { words } else { "other errors".to_owned() };
        *errors.entry(words).or_default() += 1;
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn report(&self) -> BenchReport {
        let counts = self.counts();
        let latencies = &counts.latencies;
        let seconds = (self.end - self.start).as_secs_f64();
        BenchReport {
            operations: latencies.len(),
            seconds,
            per_second: latencies.len() as f64 / seconds,
            p50_us: latencies.value_at_quantile(0.5),
            p99_us: latencies.value_at_quantile(0.99),
            p999_us: latencies.value_at_quantile(0.999),
            max_us: latencies.max(),
            errors: counts.errors.values().sum(),
            errors_by_kind: counts.errors.clone(),
        }
    }
}

/// What a client sends: commands that are encoded once, into which only the key is written.
pub(super) struct Requests {
    pub(super) pipeline: u32,
    set: Template,
    get: Template,
    get_ratio: f64,
    keys: u32,
    random: fastrand::Rng,
    bytes: Vec<u8>,
}

struct Template {
    bytes: Vec<u8>,
    /// Where the key's number starts.
    number: usize,
}

const PREFIX: &[u8] = b"key:";
const DIGITS: usize = 10;

impl Requests {
    /// The requests of client `number`, which are the same in each run.
    pub(super) fn new(number: u64, options: &BenchOptions) -> Self {
        let value = vec![b'x'; options.value as usize];
        Self {
            pipeline: options.pipeline,
            set: Template::new(|key| vec![b"SET", key, &value]),
            get: Template::new(|key| vec![b"GET", key]),
            get_ratio: options.get_ratio,
            keys: options.keys,
            random: fastrand::Rng::with_seed(number),
            bytes: Vec::new(),
        }
    }

    /// The next pipeline of commands.
    pub(super) fn next(&mut self) -> &[u8] {
        self.bytes.clear();
        for _ in 0..self.pipeline {
            let template = if self.get_ratio > 0.0 && self.random.f64() < self.get_ratio { &self.get } else { &self.set };
            let number = self.bytes.len() + template.number;
            self.bytes.extend_from_slice(&template.bytes);
            write_number(&mut self.bytes[number..number + DIGITS], self.random.u32(0..self.keys));
        }
        &self.bytes
    }
}

impl Template {
    fn new<'a>(words: impl Fn(&'a [u8]) -> Vec<&'a [u8]>) -> Self {
        const KEY: &[u8; PREFIX.len() + DIGITS] = b"key:0000000000";
        let mut bytes = Vec::new();
        command(&mut bytes, &words(KEY));
        let key = bytes.windows(KEY.len()).position(|window| window == KEY).expect("the key is one of the words");
        Self { bytes, number: key + PREFIX.len() }
    }
}

fn write_number(digits: &mut [u8], mut number: u32) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789"[number as usize % 10];
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    fn options(target: SocketAddr) -> BenchOptions {
        BenchOptions { target: vec![target], clients: 2, pipeline: 3, value: 2, seconds: 1, get_ratio: 0.0, keys: 1, json: false }
    }

    #[test]
    fn requests_are_whole_commands_with_keys_in_range() {
        let mut options = options(([127, 0, 0, 1], 1).into());
        let set = "*3\r\n$3\r\nSET\r\n$14\r\nkey:0000000000\r\n$2\r\nxx\r\n";
        assert_eq!(Requests::new(0, &options).next(), set.repeat(3).as_bytes());
        options.get_ratio = 1.0;
        let get = "*2\r\n$3\r\nGET\r\n$14\r\nkey:0000000000\r\n";
        assert_eq!(Requests::new(0, &options).next(), get.repeat(3).as_bytes());
        options.keys = u32::MAX;
        let mut requests = Requests::new(0, &options);
        let text = String::from_utf8(requests.next().to_vec()).expect("text");
        let keys = text.lines().filter_map(|line| line.strip_prefix("key:")).collect::<Vec<_>>();
        assert!(keys.len() == 3 && keys[0] != keys[1] && keys.iter().all(|key| key.parse::<u32>().is_ok()), "{keys:?}");
    }

    #[test]
    fn a_number_fills_its_digits() {
        let mut digits = [0; DIGITS];
        write_number(&mut digits, u32::MAX);
        assert_eq!(&digits, b"4294967295");
    }

    /// A server that answers each pipeline of three with a success, an error and a success, and closes a connection after a hundred of them.
    #[tokio::test]
    async fn errors_and_broken_connections_are_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let options = options(listener.local_addr().expect("bound"));
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accepted");
                tokio::spawn(async move {
                    let mut request = vec![0; "*3\r\n$3\r\nSET\r\n$14\r\nkey:0000000000\r\n$2\r\nxx\r\n".len() * 3];
                    for _ in 0..100 {
                        if stream.read_exact(&mut request).await.is_err() || stream.write_all(b"+OK\r\n-ERR odd\r\n+OK\r\n").await.is_err()
                        {
                            return;
                        }
                    }
                });
            }
        });
        let report = super::super::run(&options).await.expect("reached");
        let [odd, closed] = ["ERR odd", "the server closed the connection"].map(|words| report.errors_by_kind[words]);
        assert!(odd >= 100 && closed >= 1, "{report:?}");
        assert_eq!(report.errors, report.errors_by_kind.values().sum::<u64>());
        assert!(report.operations >= 200 && report.p50_us <= report.p99_us && report.p999_us <= report.max_us, "{report:?}");
    }
}
