//! A bound on how many may be somewhere at once, at which the oldest makes room for the newest.
//!
//! Refusing the newest would let a few silent connections keep everybody else out.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// Places, at most so many.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    max: usize,
    members: Arc<Mutex<Members>>,
}

#[derive(Debug, Default)]
struct Members {
    next: u64,
    present: BTreeMap<u64, oneshot::Sender<()>>,
}

impl Crowd {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, members: Arc::default() }
    }

    /// Takes a place; where there is none, the oldest is told to leave.
    pub(crate) fn enter(&self) -> Place {
        let (stay, crowded_out) = oneshot::channel();
        let mut members = lock(&self.members);
        let number = members.next;
        members.next += 1;
        members.present.insert(number, stay);
        while members.present.len() > self.max.max(1) {
            members.present.pop_first();
        }
        Place { number, crowded_out, members: Arc::clone(&self.members) }
    }
}

/// A place in a [`Crowd`], until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    number: u64,
    crowded_out: oneshot::Receiver<()>,
    members: Arc<Mutex<Members>>,
}

impl Place {
    /// Resolves when a newer one needs the place. To be awaited once.
    pub(crate) async fn crowded_out(&mut self) {
        // The sender is only ever dropped.
        let _ = (&mut self.crowded_out).await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.members).present.remove(&self.number);
    }
}

fn lock(members: &Mutex<Members>) -> MutexGuard<'_, Members> {
    // Nothing in this module panics while it holds the lock.
    members.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_oldest_makes_room_and_a_free_place_is_used_first() {
        let crowd = Crowd::new(2);
        let mut oldest = crowd.enter();
        let left = crowd.enter();
        drop(left);
        let mut second = crowd.enter();
        assert!(oldest.crowded_out.try_recv() == Err(oneshot::error::TryRecvError::Empty), "there was a free place");
        let _third = crowd.enter();
        oldest.crowded_out().await;
        assert!(second.crowded_out.try_recv() == Err(oneshot::error::TryRecvError::Empty));
    }
}
