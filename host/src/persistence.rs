//! stub
use std::sync::{Arc, Mutex, PoisonError};

use amaters_cluster_core::{Operation, Ticket};

use crate::error::RaftResult;
use crate::wal::{WalError, WalOptions};

/// Hears of what is durable.
pub type OnDurable = Box<dyn FnMut(Result<Ticket, WalError>) + Send>;

/// The storage of a node.
pub trait RaftPersistence: Send + 'static {
    /// Gives back every operation.
    fn recover(&mut self, visit: &mut dyn FnMut(Vec<Operation>) -> RaftResult<()>) -> RaftResult<()>;
    /// Queues operations.
    fn submit(&mut self, ticket: Ticket, operations: Vec<Operation>);
}

/// In memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryPersistence {
    journal: Arc<Mutex<Vec<Operation>>>,
}

impl MemoryPersistence {
    /// A view of it that reports to `on_durable`.
    #[must_use]
    pub fn open(&self, on_durable: OnDurable) -> impl RaftPersistence {
        Opened { journal: self.clone(), on_durable }
    }
}

struct Opened {
    journal: MemoryPersistence,
    on_durable: OnDurable,
}

impl RaftPersistence for Opened {
    fn recover(&mut self, visit: &mut dyn FnMut(Vec<Operation>) -> RaftResult<()>) -> RaftResult<()> {
        visit(self.journal.journal.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }
    fn submit(&mut self, ticket: Ticket, operations: Vec<Operation>) {
        self.journal.journal.lock().unwrap_or_else(PoisonError::into_inner).extend(operations);
        (self.on_durable)(Ok(ticket));
    }
}

/// Stub.
pub struct FilePersistence(MemoryPersistence);
impl FilePersistence {
    /// Stub.
    pub fn open(_: &std::path::Path, _: WalOptions, on_durable: OnDurable) -> RaftResult<impl RaftPersistence> { Ok(MemoryPersistence::default().open(on_durable)) }
}
