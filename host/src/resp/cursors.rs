//! Numbers for scans that go on.
//!
//! A client of `SCAN` holds a number; the scan goes on after a key. This table maps the one to the other. A cursor may be used again, as in Redis,
//! but used ones make room first, so that a scan is lost only when more scans are open at once than the table holds.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// The most bytes of keys in the table.
const MAX_BYTES: usize = 16 << 20;

/// The cursors of a server.
#[derive(Debug)]
pub(super) struct Cursors {
    capacity: usize,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    /// Cursors that wait for their use, the oldest first.
    open: BTreeMap<u64, Bytes>,
    /// Cursors that have been used, kept for clients that ask again.
    used: BTreeMap<u64, Bytes>,
    bytes: usize,
    last: u64,
}

impl Cursors {
    pub(super) fn new(capacity: usize) -> Self {
        // A cursor of this process's last life, or of another node, must not be taken for one of ours: it would skip keys.
        let last = RandomState::new().hash_one("cursors") >> 2;
        Self { capacity, table: Mutex::new(Table { open: BTreeMap::new(), used: BTreeMap::new(), bytes: 0, last }) }
    }

    /// Keeps a key, and gives its number.
    pub(super) fn keep(&self, resume_after: &[u8]) -> u64 {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        while table.open.len() + table.used.len() >= self.capacity || table.bytes + resume_after.len() > MAX_BYTES {
            let Some((_, key)) = table.used.pop_first().or_else(|| table.open.pop_first()) else { break };
            table.bytes -= key.len();
        }
        table.last += 1;
        table.bytes += resume_after.len();
        let cursor = table.last;
        table.open.insert(cursor, Bytes::copy_from_slice(resume_after));
        cursor
    }

    /// The key of a cursor; none where it is not known, or no longer.
    pub(super) fn find(&self, cursor: u64) -> Option<Bytes> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = table.open.remove(&cursor) {
            table.used.insert(cursor, key.clone());
            return Some(key);
        }
        table.used.get(&cursor).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_cursors_make_room_before_open_ones() {
        let cursors = Cursors::new(3);
        let [a, b, c] = ["a", "b", "c"].map(|key| cursors.keep(key.as_bytes()));
        assert_eq!(cursors.find(b).unwrap(), "b");
        assert_eq!(cursors.find(b).unwrap(), "b", "a cursor can be used again");
        let d = cursors.keep(b"d");
        assert_eq!(cursors.find(b), None);
        let e = cursors.keep(b"e");
        assert_eq!(cursors.find(a), None, "the oldest goes where all are open");
        assert_eq!([c, d, e].map(|cursor| cursors.find(cursor).unwrap()), ["c", "d", "e"]);
        assert_eq!(cursors.find(e + 1), None);
    }

    #[test]
    fn long_keys_make_room_too() {
        let cursors = Cursors::new(usize::MAX);
        let kept: Vec<u64> = (0..300).map(|_| cursors.keep(&[0; 64 << 10])).collect();
        assert_eq!(kept.iter().filter(|cursor| cursors.find(**cursor).is_some()).count(), 256);
    }

    #[test]
    fn two_servers_do_not_share_numbers() {
        assert_ne!(Cursors::new(1).keep(b""), Cursors::new(1).keep(b""));
    }
}
