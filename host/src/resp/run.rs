//! Consecutive commands of one kind, on their way to the node together.

use bytes::Bytes;

use crate::kv::{Query, Write};

/// The most commands of a run.
const MAX_COMMANDS: usize = 1024;
/// The most bytes of the commands of a run, unless it is one command.
const MAX_BYTES: usize = 4 << 20;
/// The most values that the answers of a run may hold, unless it is one command: at 1 MiB each, they bound its memory.
const MAX_VALUES: usize = 64;

/// What the commands of a run have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Write,
    Read,
    /// Of the node's own state, which may be stale.
    LocalRead,
}

/// A command on its way to the node.
#[derive(Debug)]
pub(super) struct Item {
    kind: Kind,
    bytes: Bytes,
    values: usize,
}

/// Commands that wait for the node.
#[derive(Debug)]
pub(super) struct Run {
    kind: Kind,
    commands: Vec<Bytes>,
    bytes: usize,
    values: usize,
}

impl Item {
    pub(super) fn write(write: &Write<'_>) -> Self {
        let values = usize::from(matches!(write, Write::Set { get: true, .. } | Write::FencedSet { get: true, .. } | Write::GetDel { .. }));
        Self { kind: Kind::Write, bytes: write.encode(), values }
    }

    pub(super) fn read(query: &Query<'_>) -> Self {
        let values = match query {
            Query::Get { .. } => 1,
            Query::MGet(keys) => keys.len(),
            _ => 0,
        };
        Self { kind: Kind::Read, bytes: query.encode(), values }
    }

    /// A part of a scan: its keys weigh less than one value.
    pub(super) fn scan(query: Bytes) -> Self {
        Self { kind: Kind::Read, bytes: query, values: 1 }
    }
}

impl Item {
    /// The same read, of the node's own state if the connection has asked for that.
    pub(super) fn local_if(mut self, read_only: bool) -> Self {
        if read_only {
            self.kind = Kind::LocalRead;
        }
        self
    }
}

impl Run {
    pub(super) fn new() -> Self {
        Self { kind: Kind::Write, commands: Vec::new(), bytes: 0, values: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Whether a command can join.
    pub(super) fn takes(&self, item: &Item) -> bool {
        self.is_empty()
            || self.kind == item.kind
                && self.commands.len() < MAX_COMMANDS
                && self.bytes + item.bytes.len() <= MAX_BYTES
                && self.values + item.values <= MAX_VALUES
    }

    /// Adds a command that [can join](Self::takes).
    pub(super) fn push(&mut self, item: Item) {
        self.kind = item.kind;
        self.bytes += item.bytes.len();
        self.values += item.values;
        self.commands.push(item.bytes);
    }

    /// Empties it.
    pub(super) fn take(&mut self) -> (Kind, Vec<Bytes>) {
        (self.bytes, self.values) = (0, 0);
        (self.kind, std::mem::take(&mut self.commands))
    }
}

#[cfg(test)]
mod tests {
    use serde_bytes::Bytes as Slice;

    use super::*;

    fn fill(item: impl Fn() -> Item) -> usize {
        let mut run = Run::new();
        (0..).take_while(|_| run.takes(&item()).then(|| run.push(item())).is_some()).count()
    }

    #[test]
    fn a_run_is_bounded_by_commands_bytes_and_values() {
        let value = vec![0; 1 << 20];
        let set = |value: &[u8]| {
            let (key, condition) = (Slice::new(b"k"), crate::kv::Condition::Always);
            Item::write(&Write::Set { key, value: Slice::new(value), condition, get: false })
        };
        assert_eq!(fill(|| set(b"v")), 1024);
        assert_eq!(fill(|| set(&value)), 3);
        assert_eq!(fill(|| Item::read(&Query::Get { key: Slice::new(b"k") })), 64);
        assert_eq!(fill(|| Item::read(&Query::MGet(vec![Slice::new(b"k"); 100]))), 1);
        assert_eq!(fill(|| Item::read(&Query::Type { key: Slice::new(b"k") })), 1024);
    }

    #[test]
    fn a_run_holds_one_kind_and_starts_anew_once_taken() {
        let mut run = Run::new();
        run.push(Item::write(&Write::FlushAll));
        assert!(!run.takes(&Item::read(&Query::DbSize)));
        assert_eq!(run.take(), (Kind::Write, vec![Write::FlushAll.encode()]));
        assert!(run.is_empty() && run.takes(&Item::read(&Query::DbSize)));
    }
}
