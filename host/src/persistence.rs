//! What a node keeps, and where: the storage trait of the host and its two backends.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use amaters_cluster_core::{GroupId, Operation, Ticket};

use crate::error::{RaftError, RaftResult};
use crate::wal::{self, CorruptionPolicy, SyncMode, WalDiagnostics, WalError, WalOptions, WalWriter};

pub use crate::wal::OnDurable;

/// How many bytes of operations are given back at once: enough to make a crossing into the sandbox cheap.
const CHUNK_BYTES: usize = 1 << 20;

/// Keeps a node's operations. The node's own thread calls it, so it must not wait for a disk.
///
/// A backend reports what is durable through an [`OnDurable`] that it is given when it is opened.
pub trait RaftPersistence: Send + 'static {
    /// Gives back every operation of the journal, oldest first, in chunks. Called once, before the first submission. What was given back is durable.
    ///
    /// # Errors
    /// The journal can't be read or belongs to someone else, or `visit` fails.
    fn recover(&mut self, visit: &mut dyn FnMut(Vec<Operation>) -> RaftResult<()>) -> RaftResult<()>;

    /// Queues operations, in this order and after all that came before, and returns at once. Once they are durable, or storage has failed, the
    /// [`OnDurable`] is called. Tickets grow.
    fn submit(&mut self, ticket: Ticket, operations: Vec<Operation>);

    /// Whether there is no space for what is to come. The node asks often, and takes no new writes until there is some again: best said while what was submitted
    /// and some small operations still fit. What does not fit is to be tried again until it does.
    fn lacks_space(&self) -> bool;
}

/// A journal in memory, durable at once for as long as the process lives. [`RaftNode::new`](crate::RaftNode::new) uses it.
///
/// A submission is reported before [`RaftPersistence::submit`] returns.
pub struct MemoryPersistence {
    journal: Arc<Mutex<Vec<Operation>>>,
    on_durable: OnDurable,
}

impl MemoryPersistence {
    /// The same journal for another instance of the node.
    #[must_use]
    pub fn open(&self, on_durable: OnDurable) -> Self {
        Self { journal: Arc::clone(&self.journal), on_durable }
    }

    /// No thread panics while it holds the lock; were one to, the journal is still whole.
    fn lock(&self) -> MutexGuard<'_, Vec<Operation>> {
        self.journal.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for MemoryPersistence {
    /// An empty journal that reports to nobody: [`MemoryPersistence::open`] gives one that does.
    fn default() -> Self {
        Self { journal: Arc::default(), on_durable: Box::new(drop) }
    }
}

impl RaftPersistence for MemoryPersistence {
    fn recover(&mut self, visit: &mut dyn FnMut(Vec<Operation>) -> RaftResult<()>) -> RaftResult<()> {
        let mut chunks = Chunks::new(visit);
        for operation in self.lock().iter() {
            chunks.push(operation.clone())?;
        }
        chunks.finish()
    }

    fn submit(&mut self, ticket: Ticket, operations: Vec<Operation>) {
        {
            let mut journal = self.lock();
            let compacts = operations.iter().any(|operation| matches!(operation, Operation::Compact { .. }));
            journal.extend(operations);
            if compacts {
                drop_superseded(&mut journal);
            }
        }
        (self.on_durable)(Ok(ticket));
    }

    /// Memory that is used up ends the process.
    fn lacks_space(&self) -> bool {
        false
    }
}

/// Drops operations from the front that say nothing any more. Only from there: an append that stays may be cut by a later one.
fn drop_superseded(journal: &mut Vec<Operation>) {
    let last = |is: fn(&Operation) -> bool| journal.iter().rposition(is);
    let (hard_state, compact) = (last(|it| matches!(it, Operation::HardState(_))), last(|it| matches!(it, Operation::Compact { .. })));
    let needed_from = compact.and_then(|at| match &journal[at] {
        Operation::Compact { first, .. } => Some(*first),
        Operation::HardState(_) | Operation::Append { .. } => None,
    });
    let Some(needed_from) = needed_from else { return };
    let is_superseded = |(at, operation): (usize, &Operation)| match operation {
        Operation::HardState(_) => hard_state.is_some_and(|latest| at < latest),
        Operation::Compact { .. } => compact.is_some_and(|latest| at < latest),
        Operation::Append { first, count, .. } => first.0.saturating_add(u64::from(*count)) <= needed_from.0,
    };
    let dropped = journal.iter().enumerate().take_while(|it| is_superseded(*it)).count();
    // What follows is to be read with the hard state that held when it came.
    let state = journal.drain(..dropped).rfind(|it| matches!(it, Operation::HardState(_)));
    journal.splice(..0, state);
}

impl fmt::Debug for MemoryPersistence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPersistence").field("operations", &self.lock().len()).finish()
    }
}

/// A journal in files: the [`wal`] of group 0.
///
/// Dropping it waits until all that was submitted is written.
pub struct FilePersistence(State);

enum State {
    Closed {
        dir: PathBuf,
        options: WalOptions,
        on_durable: OnDurable,
    },
    Open {
        writer: WalWriter,
        diagnostics: WalDiagnostics,
    },
    /// Recovery was begun, and has failed.
    Failed,
}

impl FilePersistence {
    /// The group whose records these are: a process serves one so far.
    const GROUP: GroupId = GroupId(0);

    /// A journal in `dir`, which is created if there is none. Nothing is read before [`RaftPersistence::recover`].
    ///
    /// # Errors
    /// The directory can't be created; or the options are for a journal that is no node's, one that is not synced before it reports ([`SyncMode::System`]), since what a node promises
    /// rests on that, or one that may be read alone ([`CorruptionPolicy::ReadOnly`]).
    pub fn open(dir: &Path, options: WalOptions, on_durable: OnDurable) -> Result<Self, WalError> {
        if options.sync == SyncMode::System {
            return Err(WalError::SyncRequired);
        }
        if options.on_corruption == CorruptionPolicy::ReadOnly {
            return Err(WalError::ReadOnlyNode);
        }
        wal::disk::create_dir(dir).map_err(WalError::io("create", dir))?;
        Ok(Self(State::Closed { dir: dir.to_owned(), options, on_durable }))
    }

    /// What recovery has found; none before it.
    #[must_use]
    pub fn diagnostics(&self) -> Option<&WalDiagnostics> {
        match &self.0 {
            State::Open { diagnostics, .. } => Some(diagnostics),
            State::Closed { .. } | State::Failed => None,
        }
    }
}

impl RaftPersistence for FilePersistence {
    /// # Panics
    /// On a second call.
    fn recover(&mut self, visit: &mut dyn FnMut(Vec<Operation>) -> RaftResult<()>) -> RaftResult<()> {
        let State::Closed { dir, options, on_durable } = std::mem::replace(&mut self.0, State::Failed) else {
            panic!("a journal is recovered once");
        };
        let mut chunks = Chunks::new(visit);
        let (writer, diagnostics) = WalWriter::open(&dir, &options, on_durable, |located| -> RaftResult<()> {
            let record = located.record;
            // A mark or a release says nothing to any group.
            let Some(operation) = record.body.to_operation() else { return Ok(()) };
            if record.group != Self::GROUP {
                return Err(WalError::ForeignGroup { group: record.group, expected: Self::GROUP }.into());
            }
            chunks.push(operation)
        })?;
        chunks.finish()?;
        if diagnostics.torn_bytes > 0 {
            tracing::warn!(
                "{} bytes of a write that a crash had torn were cut from the journal: nobody relied on them",
                diagnostics.torn_bytes
            );
        }
        self.0 = State::Open { writer, diagnostics };
        Ok(())
    }

    /// # Panics
    /// Before recovery has succeeded.
    fn submit(&mut self, ticket: Ticket, operations: Vec<Operation>) {
        let State::Open { writer, .. } = &self.0 else { panic!("a journal is recovered before it is added to") };
        writer.submit(Self::GROUP, ticket, operations);
    }

    fn lacks_space(&self) -> bool {
        matches!(&self.0, State::Open { writer, .. } if writer.lacks_space())
    }
}

impl fmt::Debug for FilePersistence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilePersistence").field("diagnostics", &self.diagnostics()).finish_non_exhaustive()
    }
}

impl From<WalError> for RaftError {
    fn from(error: WalError) -> Self {
        Self::Storage(Box::new(error))
    }
}

/// Collects operations into chunks.
struct Chunks<'v> {
    visit: &'v mut dyn FnMut(Vec<Operation>) -> RaftResult<()>,
    chunk: Vec<Operation>,
    bytes: usize,
}

impl<'v> Chunks<'v> {
    fn new(visit: &'v mut dyn FnMut(Vec<Operation>) -> RaftResult<()>) -> Self {
        Self { visit, chunk: Vec::new(), bytes: 0 }
    }

    fn push(&mut self, operation: Operation) -> RaftResult<()> {
        self.bytes += match &operation {
            Operation::HardState(bytes) => bytes.len(),
            Operation::Append { entries, .. } => entries.len(),
            Operation::Compact { base, .. } => base.len(),
        } + size_of::<Operation>();
        self.chunk.push(operation);
        if self.bytes < CHUNK_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        (self.visit)(std::mem::take(&mut self.chunk))
    }

    fn finish(self) -> RaftResult<()> {
        if self.chunk.is_empty() { Ok(()) } else { (self.visit)(self.chunk) }
    }
}
