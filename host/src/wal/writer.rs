//! The thread that writes the journal, in groups as [`SyncMode`] has them.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use amaters_cluster_core::{GroupId, Operation, Ticket};

use super::disk::{self, Disk, SystemDisk};
use super::error::{Damage, WalError};
use super::journal::Journal;
use super::policy::{self, Opened};
use super::reader::Located;
use super::record::Body;
use super::space::Space;
use super::{OnDurable, SyncMode, WalDiagnostics, WalOptions};

/// The most bytes of one group, unless a single submission has more: beyond this a longer write costs more than another sync.
const GROUP_BYTES: usize = 4 << 20;

/// Adds to the journal in a directory. Dropping it waits until all that was submitted is written and durable, but for what finds no space.
///
/// The caller makes sure that nobody else writes there: a node holds the lock of its [`DataDir`](crate::data_dir::DataDir).
pub struct WalWriter {
    shared: Arc<Shared>,
    space: Space,
    thread: Option<JoinHandle<()>>,
}

impl WalWriter {
    /// Gives every record of the journal, oldest first, puts its end in order, and starts the thread. The directory is created if there is none.
    ///
    /// `on_durable` is called on that thread: after each group with the ticket of its last submission (what that promises is for [`WalOptions::sync`] to say); or once with the failure that has ended it,
    /// after which nothing is written and nothing reported any more.
    ///
    /// # Errors
    /// The system fails, the disk is full, the format is unknown, something durable is damaged and [`WalOptions::on_corruption`] has nothing else done about it, or `visit` fails.
    pub fn open<E: From<WalError>>(
        dir: &Path,
        options: &WalOptions,
        on_durable: OnDurable,
        visit: impl FnMut(Located<'_>) -> Result<(), E>,
    ) -> Result<(Self, WalDiagnostics), E> {
        disk::create_dir(dir).map_err(WalError::io("create", dir))?;
        Self::open_on(Arc::new(SystemDisk), dir, options, on_durable, visit)
    }

    pub(crate) fn open_on<E: From<WalError>>(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: &WalOptions,
        on_durable: OnDurable,
        visit: impl FnMut(Located<'_>) -> Result<(), E>,
    ) -> Result<(Self, WalDiagnostics), E> {
        let (opened, diagnostics) = policy::open(&disk, dir, options, visit)?;
        let (shared, space) = (Arc::new(Shared::default()), Space::default());
        let queue = Arc::clone(&shared);
        let name = thread::Builder::new().name("wal".to_owned());
        let thread = match opened {
            Opened::ToRead(damage) => name.spawn(move || refuse_all(&queue, &damage, on_durable)),
            Opened::ToWrite(end) => {
                let mut journal = Journal::new(disk, dir.to_owned(), options.segment_size, space.clone(), end);
                if options.sync == SyncMode::System {
                    journal = journal.left_to_the_system();
                }
                let gathering = Gathering::of(options.sync);
                name.spawn(move || write_all(&queue, &gathering, journal, on_durable))
            }
        };
        let thread = Some(thread.map_err(WalError::io("start a thread for", dir))?);
        Ok((Self { shared, space, thread }, diagnostics))
    }

    /// Queues operations of a group, in this order and after all that came before, and returns at once. A crash may keep the first of them and lose
    /// the others. Tickets must grow.
    pub fn submit(&self, group: GroupId, ticket: Ticket, operations: Vec<Operation>) {
        let mut queue = self.shared.lock();
        // What comes after a failure is dropped: it was reported, and no ticket will be.
        if !queue.ended {
            let submission = Submission { group, ticket, operations, came: Instant::now() };
            queue.bytes += submission.bytes();
            queue.submissions.push_back(submission);
            drop(queue);
            self.shared.filled.notify_one();
        }
    }
}

impl WalWriter {
    /// Whether the journal waits for space. It says so while there is some left: what was submitted and some small operations still fit, as a rule.
    #[must_use]
    pub fn lacks_space(&self) -> bool {
        self.space.is_lacking()
    }
}

impl Drop for WalWriter {
    fn drop(&mut self) {
        self.shared.lock().ended = true;
        self.space.close();
        self.shared.filled.notify_one();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the journal's thread panicked: its log line says where");
        }
    }
}

impl fmt::Debug for WalWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WalWriter").finish_non_exhaustive()
    }
}

/// What both threads see.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    submissions: VecDeque<Submission>,
    /// Theirs.
    bytes: usize,
    /// The writer was dropped, or the journal has failed: nothing comes in any more.
    ended: bool,
}

struct Submission {
    group: GroupId,
    ticket: Ticket,
    operations: Vec<Operation>,
    came: Instant,
}

/// How many submissions make a group.
#[derive(Clone, Copy, Debug)]
struct Gathering {
    /// So many are waited for.
    fewest: usize,
    /// But the first of them waits no longer than this.
    delay: Duration,
    /// No more are taken.
    most: usize,
}

impl Gathering {
    fn of(mode: SyncMode) -> Self {
        match mode {
            SyncMode::EveryWrite => Self { fewest: 1, delay: Duration::ZERO, most: 1 },
            SyncMode::Batched { count, delay } => Self { fewest: count.max(1), delay, most: usize::MAX },
            SyncMode::System => Self { fewest: 1, delay: Duration::ZERO, most: usize::MAX },
        }
    }
}

impl Submission {
    fn bytes(&self) -> usize {
        let of = |operation: &Operation| match operation {
            Operation::HardState(bytes) => bytes.len(),
            Operation::Append { entries, .. } => entries.len(),
            Operation::Compact { base, .. } => base.len(),
        };
        self.operations.iter().map(of).sum()
    }
}

impl Shared {
    /// Waits for submissions, and takes as many as make a group; none once the writer has been dropped and all are taken.
    fn take_group(&self, gathering: &Gathering) -> Vec<Submission> {
        let mut queue = self.wait_for_group(gathering);
        let mut bytes = 0;
        let mut group = Vec::new();
        while bytes < GROUP_BYTES
            && group.len() < gathering.most
            && let Some(submission) = queue.submissions.pop_front()
        {
            bytes += submission.bytes();
            group.push(submission);
        }
        queue.bytes = queue.bytes.saturating_sub(bytes);
        group
    }

    fn wait_for_group(&self, gathering: &Gathering) -> MutexGuard<'_, Queue> {
        let waited = self.filled.wait_while(self.lock(), |queue| queue.submissions.is_empty() && !queue.ended);
        let queue = waited.unwrap_or_else(PoisonError::into_inner);
        let Some(first) = queue.submissions.front() else { return queue };
        let left = gathering.delay.saturating_sub(first.came.elapsed());
        let is_short = |queue: &mut Queue| queue.submissions.len() < gathering.fewest && queue.bytes < GROUP_BYTES && !queue.ended;
        self.filled.wait_timeout_while(queue, left, is_short).unwrap_or_else(PoisonError::into_inner).0
    }

    /// No thread panics while it holds the lock; were one to, the queue is still whole.
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread's life.
fn write_all(shared: &Shared, gathering: &Gathering, mut journal: Journal, mut on_durable: OnDurable) {
    loop {
        let group = shared.take_group(gathering);
        let Some(last) = group.last().map(|submission| submission.ticket) else { break };
        let written = write_group(&mut journal, &group);
        let released = written.and_then(|()| {
            on_durable(Ok(last));
            journal.release()
        });
        if let Err(error) = released {
            let mut queue = shared.lock();
            queue.ended = true;
            queue.submissions.clear();
            drop(queue);
            // The writer was dropped: nobody waits, and whoever opens the journal next finds out about its space.
            if !matches!(error, WalError::ClosedWhileFull { .. }) {
                on_durable(Err(error));
            }
            return;
        }
    }
    if let Err(error) = journal.close() {
        tracing::warn!("the journal was not closed with a mark; nothing is lost: {error}");
    }
}

/// The thread's life where the journal is read-only.
fn refuse_all(shared: &Shared, damage: &Damage, mut on_durable: OnDurable) {
    let one_at_a_time = Gathering::of(SyncMode::EveryWrite);
    while !shared.take_group(&one_at_a_time).is_empty() {
        on_durable(Err(WalError::ReadOnly(Box::new(damage.clone()))));
    }
}

fn write_group(journal: &mut Journal, group: &[Submission]) -> Result<(), WalError> {
    for submission in group {
        for operation in &submission.operations {
            journal.push(submission.group, Body::of(operation))?;
        }
    }
    journal.flush()
}
