//! Waits for space: what needs more of the disk is tried until there is some.
//!
//! Each try begins with a new file, and what failed before is removed: that is no second try of a write or sync that has failed, of which nobody can say what it
//! left behind. Bytes for a file that is in use are never tried twice.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::disk::Disk;
use super::error::WalError;

/// How often the disk is looked at: soon enough for an operator who waits.
const PAUSE: Duration = Duration::from_millis(500);

/// The longest pause where a disk seems to have room, and a quota does not allow to use it: each try writes what it can.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);

/// Who waits for space, and whether it is worth it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space(Arc<(Mutex<State>, Condvar)>);

#[derive(Debug, Default)]
struct State {
    waiting: usize,
    patience: Patience,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Patience {
    /// A node is patient.
    #[default]
    UntilClosed,
    Closed,
    /// A tool's user would rather know.
    None,
}

impl Space {
    /// For which nobody waits: a full disk is an error at once.
    pub(crate) fn now_or_never() -> Self {
        Self(Arc::new((Mutex::new(State { patience: Patience::None, ..State::default() }), Condvar::new())))
    }

    /// Whether somebody waits.
    pub(crate) fn is_lacking(&self) -> bool {
        self.lock().waiting > 0
    }

    /// Nobody waits from now on.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        if state.patience == Patience::UntilClosed {
            state.patience = Patience::Closed;
        }
        drop(state);
        self.0.1.notify_all();
    }

    /// Tries something until there is space for it.
    ///
    /// # Errors
    /// It fails for another reason, or is closed while it waits.
    pub(crate) fn wait_for<T>(&self, disk: &dyn Disk, mut attempt: impl FnMut() -> Result<T, WalError>) -> Result<T, WalError> {
        let full = match attempt() {
            Err(full @ WalError::DiskFull { .. }) => full,
            done => return done,
        };
        let WalError::DiskFull { dir, needed, .. } = &full else { return Err(full) };
        if self.lock().patience == Patience::None {
            return Err(full);
        }
        tracing::warn!(
            "no space for {needed} bytes in {}: make some; until then new writes are refused, nothing that was acknowledged is lost, and reads go on",
            dir.display()
        );
        self.lock().waiting += 1;
        let done = self.try_on(dir, || disk.room(dir).is_ok_and(|room| room < *needed), attempt);
        self.lock().waiting -= 1;
        if done.is_ok() {
            tracing::info!("there is space in {} again: writes go on", dir.display());
        }
        done
    }

    fn try_on<T>(&self, dir: &Path, is_full: impl Fn() -> bool, mut attempt: impl FnMut() -> Result<T, WalError>) -> Result<T, WalError> {
        let mut pause = PAUSE;
        loop {
            if self.is_closed_within(pause) {
                return Err(WalError::ClosedWhileFull { dir: dir.to_owned() });
            }
            if is_full() {
                continue;
            }
            match attempt() {
                Err(WalError::DiskFull { .. }) => pause = (pause * 2).min(LONGEST_PAUSE),
                done => return done,
            }
        }
    }

    fn is_closed_within(&self, pause: Duration) -> bool {
        let waited = self.0.1.wait_timeout_while(self.lock(), pause, |state| state.patience == Patience::UntilClosed);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.patience != Patience::UntilClosed
    }

    /// No thread panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
