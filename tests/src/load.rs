//! Clients that write to real nodes whatever happens to those, and remember what they were promised.
//!
//! Each writer has keys of its own, and counts each up. A write without an answer may be carried out at any time, even after later ones: its key is left alone from then
//! on, and another takes its place. So at the end each key must have the last value that was acknowledged, or the single one that was asked for after it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::process::Process;

/// The longest wait for a connection or a reply, before a writer turns to another node.
const PATIENCE: Duration = Duration::from_secs(3);

/// After a refusal.
const PAUSE: Duration = Duration::from_millis(5);

/// One in so many requests reads what the writer has written.
const READ_EVERY: u64 = 16;

/// Keys that are read back with one request.
const BATCH: usize = 64;

/// Writers at work.
pub struct Load {
    shared: Arc<Shared>,
    writers: Vec<JoinHandle<Book>>,
}

/// How much is written to.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Clients, each with a thread.
    pub writers: usize,
    /// Keys of each.
    pub keys: usize,
    /// Bytes of a value, at least.
    pub value: usize,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    acknowledged: AtomicU64,
    reads: AtomicU64,
}

/// What the writers know of their keys.
#[derive(Debug, Default)]
pub struct Book {
    keys: BTreeMap<String, Known>,
    /// Reads that gave something else than the last acknowledged write.
    wrong_reads: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Known {
    acknowledged: u64,
    /// The last that was asked for: the same, or one more.
    asked: u64,
}

impl Known {
    fn allows(self, got: Option<u64>) -> bool {
        got.is_some_and(|got| got == self.acknowledged || got == self.asked)
    }
}

impl Load {
    /// Starts writers, spread over the nodes; each goes on at the next when its own doesn't answer.
    pub fn start(nodes: &[Process], size: Size) -> Self {
        let shared = Arc::new(Shared::default());
        let writer = |number| {
            let nodes = nodes.iter().map(Process::address).collect();
            let writer = Writer { number, nodes, size, shared: Arc::clone(&shared), book: Book::default(), current: vec![0; size.keys] };
            thread::spawn(move || writer.run())
        };
        let writers = (0..size.writers).map(writer).collect();
        Self { shared, writers }
    }

    /// Writes that were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Reads that were answered so far.
    pub fn reads(&self) -> u64 {
        self.shared.reads.load(Ordering::Relaxed)
    }

    /// Ends the writers, and gives what they know.
    pub fn stop(self) -> Book {
        self.shared.stop.store(true, Ordering::Relaxed);
        let mut all = Book::default();
        for writer in self.writers {
            let book = writer.join().expect("a writer ends");
            all.keys.extend(book.keys);
            all.wrong_reads.extend(book.wrong_reads);
        }
        all
    }
}

impl Book {
    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.keys.len()
    }

    /// Reads all keys at a node, and gives a line for each that has neither its last acknowledged value nor the one after it, and for each wrong read before.
    pub fn lost_at(&self, node: &Process) -> Vec<String> {
        let mut connection = node.connect();
        let mut lost = self.wrong_reads.clone();
        let keys: Vec<_> = self.keys.iter().collect();
        for batch in keys.chunks(BATCH) {
            let names: Vec<_> = batch.iter().map(|(key, _)| key.as_str()).collect();
            let values: Vec<Option<String>> = redis::cmd("MGET").arg(names).query(&mut connection).expect("the node answers a read");
            for ((key, known), value) in batch.iter().zip(values) {
                let got = value.as_deref().map_or(Some(0), |value| count_in(value, key));
                if !known.allows(got) {
                    lost.push(format!("{key} is {got:?} at node {}, expected {known:?}", node.id));
                }
            }
        }
        lost
    }
}

struct Writer {
    number: usize,
    nodes: Vec<Process>,
    size: Size,
    shared: Arc<Shared>,
    book: Book,
    /// How often each key was replaced by another.
    current: Vec<u64>,
}

impl Writer {
    fn run(mut self) -> Book {
        for turn in (0..self.nodes.len()).cycle().skip(self.number) {
            if self.shared.stop.load(Ordering::Relaxed) {
                break;
            }
            // Whatever goes wrong at this node, there are others.
            let _ = self.write_at(turn);
            thread::sleep(PAUSE);
        }
        self.book
    }

    fn write_at(&mut self, turn: usize) -> redis::RedisResult<()> {
        let client = redis::Client::open(format!("redis://{}", self.nodes[turn].client))?;
        let mut connection = client.get_connection_with_timeout(PATIENCE)?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        for request in 0.. {
            if self.shared.stop.load(Ordering::Relaxed) {
                break;
            }
            let slot = fastrand::usize(..self.size.keys);
            let key = format!("soak:{}:{slot}:{}", self.number, self.current[slot]);
            if request % READ_EVERY == 0 {
                self.read(&mut connection, &key)?;
            } else {
                self.write(&mut connection, &key, slot)?;
            }
        }
        Ok(())
    }

    fn write(&mut self, connection: &mut redis::Connection, key: &str, slot: usize) -> redis::RedisResult<()> {
        let known = self.book.keys.entry(key.to_owned()).or_default();
        let next = known.acknowledged + 1;
        let value = format!("{next}:{key}:{:x<1$}", "", self.size.value);
        match redis::cmd("SET").arg(key).arg(value).exec(connection) {
            Ok(()) => {
                *known = Known { acknowledged: next, asked: next };
                self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            // It was not carried out.
            Err(error) if matches!(error.code(), Some("CLUSTERDOWN" | "TRYAGAIN")) => Err(error),
            Err(error) => {
                known.asked = next;
                self.current[slot] += 1;
                Err(error)
            }
        }
    }

    fn read(&mut self, connection: &mut redis::Connection, key: &str) -> redis::RedisResult<()> {
        let value: Option<String> = redis::cmd("GET").arg(key).query(connection)?;
        let known = self.book.keys.get(key).copied().unwrap_or_default();
        let got = value.as_deref().map_or(Some(0), |value| count_in(value, key));
        if got != Some(known.acknowledged) {
            self.book.wrong_reads.push(format!("{key} was read as {got:?}, expected {}", known.acknowledged));
        }
        self.shared.reads.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

/// The count in a value, if the value is one of this key.
fn count_in(value: &str, key: &str) -> Option<u64> {
    let (count, rest) = value.split_once(':')?;
    rest.strip_prefix(key)?.strip_prefix(':').filter(|rest| rest.bytes().all(|byte| byte == b'x'))?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_key_or_with_other_bytes_counts_for_nothing() {
        assert_eq!(count_in("7:soak:1:2:0:xxx", "soak:1:2:0"), Some(7));
        assert_eq!(count_in("7:soak:1:2:0:xxx", "soak:1:3:0"), None);
        assert_eq!(count_in("7:soak:1:2:0:xyx", "soak:1:2:0"), None);
    }

    #[test]
    fn a_key_may_have_what_was_acknowledged_or_what_was_asked_for_last_and_nothing_else() {
        let known = Known { acknowledged: 7, asked: 8 };
        let allowed: Vec<u64> = (0..20).filter(|got| known.allows(Some(*got))).collect();
        assert_eq!(allowed, [7, 8]);
        assert!(!known.allows(None), "a value that is none of the key's");
    }
}
