//! What waits to leave for one peer.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::TransportLimits;

/// Why an envelope is dropped while its peer is away, in metrics.
pub(super) const DISCONNECTED: &str = "disconnected";

/// A bounded queue: the node's thread puts in without waiting, the peer's sender takes out.
///
/// It is open while the peer is connected. What would have to wait for a connection is dropped: Raft sends it again, and fresher. That of the bulk lane is open until a connection
/// can't be made, since the first envelope is what it is made for.
#[derive(Debug)]
pub(super) struct PeerQueue {
    max_envelopes: usize,
    max_bytes: usize,
    max_envelope: u32,
    state: Mutex<State>,
    arrived: Notify,
    /// Whether the first envelope opens it.
    opens_itself: bool,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    bytes: usize,
    envelopes: VecDeque<Vec<u8>>,
}

impl PeerQueue {
    pub(super) fn new(limits: &TransportLimits) -> Self {
        let TransportLimits { queue_envelopes, queue_bytes, frame_bytes, .. } = *limits;
        Self {
            max_envelopes: queue_envelopes,
            max_bytes: queue_bytes,
            max_envelope: frame_bytes,
            state: Mutex::default(),
            arrived: Notify::new(),
            opens_itself: false,
        }
    }

    pub(super) fn bulk(limits: &TransportLimits) -> Self {
        Self { max_bytes: limits.bulk_queue_bytes, opens_itself: true, ..Self::new(limits) }
    }

    /// Puts an envelope in, or says why it was dropped. The newest is the one to go: those before it may make sense only together.
    pub(super) fn push(&self, envelope: Vec<u8>) -> Result<(), &'static str> {
        if envelope.is_empty() {
            return Err("empty");
        }
        if envelope.len() > self.max_envelope as usize {
            return Err("too_large");
        }
        let mut state = self.state();
        if !state.open && !self.opens_itself {
            return Err(DISCONNECTED);
        }
        if state.envelopes.len() >= self.max_envelopes || state.bytes + envelope.len() > self.max_bytes {
            return Err("queue_full");
        }
        state.bytes += envelope.len();
        state.envelopes.push_back(envelope);
        let was_empty = state.envelopes.len() == 1;
        drop(state);
        if was_empty {
            self.arrived.notify_one();
        }
        Ok(())
    }

    /// Resolves when something is there. One waits at a time.
    pub(super) async fn ready(&self) {
        while self.state().envelopes.is_empty() {
            self.arrived.notified().await;
        }
    }

    /// Takes the oldest envelope, and more up to `max_bytes` altogether.
    pub(super) fn take(&self, max_bytes: usize, out: &mut Vec<Vec<u8>>) {
        let mut state = self.state();
        let mut taken = 0;
        while let Some(next) = state.envelopes.front()
            && (taken == 0 || taken + next.len() <= max_bytes)
        {
            taken += next.len();
            out.extend(state.envelopes.pop_front());
        }
        state.bytes -= taken;
    }

    /// The peer is there.
    pub(super) fn open(&self) {
        self.state().open = true;
    }

    /// The peer is away: forgets what is queued, and says how much that was.
    pub(super) fn close(&self) -> usize {
        std::mem::take(&mut *self.state()).envelopes.len()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in this module panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(queue_envelopes: usize, queue_bytes: usize) -> PeerQueue {
        PeerQueue::new(&TransportLimits { queue_envelopes, queue_bytes, frame_bytes: 10, ..TransportLimits::default() })
    }

    fn taken(queue: &PeerQueue, max_bytes: usize) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        queue.take(max_bytes, &mut out);
        out
    }

    #[test]
    fn it_is_bounded_in_count_and_in_bytes_and_has_room_again_when_some_left() {
        let queue = queue(3, 10);
        queue.open();
        assert_eq!(queue.push(vec![1; 4]), Ok(()));
        assert_eq!(queue.push(vec![2; 7]), Err("queue_full"));
        assert_eq!(queue.push(vec![3; 6]), Ok(()));
        assert_eq!(taken(&queue, 100), [vec![1; 4], vec![3; 6]]);
        for _ in 0..3 {
            assert_eq!(queue.push(vec![1]), Ok(()));
        }
        assert_eq!(queue.push(vec![1]), Err("queue_full"));
    }

    #[test]
    fn what_could_not_be_framed_is_dropped() {
        let queue = queue(3, 100);
        queue.open();
        assert_eq!(queue.push(vec![]), Err("empty"));
        assert_eq!(queue.push(vec![1; 11]), Err("too_large"));
        assert_eq!(queue.push(vec![1; 10]), Ok(()));
    }

    #[test]
    fn it_takes_nothing_while_the_peer_is_away_and_forgets_what_it_had() {
        let queue = queue(3, 10);
        assert_eq!(queue.push(vec![1]), Err(DISCONNECTED));
        queue.open();
        assert_eq!(queue.push(vec![1]), Ok(()));
        assert_eq!(queue.close(), 1);
        assert_eq!(queue.push(vec![1]), Err(DISCONNECTED));
        queue.open();
        assert_eq!(queue.push(vec![2; 10]), Ok(()), "the bytes of the forgotten don't count");
    }

    #[test]
    fn a_burst_has_a_bound_and_at_least_one_envelope() {
        let queue = queue(10, 100);
        queue.open();
        for length in [8, 3, 3] {
            assert_eq!(queue.push(vec![0; length]), Ok(()));
        }
        assert_eq!(taken(&queue, 5), [vec![0; 8]]);
        assert_eq!(taken(&queue, 5), [vec![0; 3]]);
        assert_eq!(taken(&queue, 5), [vec![0; 3]]);
        assert!(taken(&queue, 5).is_empty());
    }

    #[tokio::test]
    async fn a_waiting_sender_is_woken() {
        let queue = std::sync::Arc::new(queue(10, 100));
        queue.open();
        let waiting = tokio::spawn({
            let queue = std::sync::Arc::clone(&queue);
            async move { queue.ready().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert_eq!(queue.push(vec![1]), Ok(()));
        waiting.await.unwrap();
    }
}
