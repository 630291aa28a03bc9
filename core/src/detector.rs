//! Which peers are alive, from the traffic that there is.
//!
//! Anything that comes from a peer is a sign of life; a leader and its followers exchange one every heartbeat interval when nothing else happens. Suspicion grows with
//! silence, measured against the gaps between the peer's latest signs: φ of the accrual failure detector (Hayashibara and others, 2004; `suspicion` has the arithmetic).
//! A verdict changes at a threshold, and each change is reported once.
//!
//! Deviations from the paper: under load signs come thousands of times a second, and the silence after it would be unheard of. So the longest gap of each heartbeat interval
//! counts, as an interval at least. A pause is forgiven on top of the mean, and the deviation has a least value. A peer that was failed is back once its signs
//! have come for as long as a pause without another failure: one late message is no recovery. And time in which the node itself stood still is no silence of others.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{ConfigError, check};
use crate::suspicion::Gaps;
use crate::types::{Instant, NodeId};

/// How silent a peer must be to count as failed. With the defaults and heartbeats every 50 ms: for a second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatConfig {
    /// φ from which on a peer counts as failed: 1 to 30 (default 8, where one verdict in a hundred million is wrong).
    pub threshold: u32,
    /// The silence that is forgiven beyond the usual one: 0 to 60 s in whole milliseconds (default 400 ms). A node forgives its longest election timeout in any case.
    pub acceptable_pause: Duration,
    /// The least standard deviation of the gaps between signs of life, however regular they are: 1 ms to 60 s in whole milliseconds (default 100 ms).
    pub min_deviation: Duration,
    /// How many of the latest gaps are remembered: 1 to 1000 (default 64), of which there is one each heartbeat interval.
    pub window: usize,
}

/// A change of what a node thinks of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureEvent {
    /// It is silent for longer than it would be if it worked.
    Failed {
        /// The peer.
        peer: NodeId,
    },
    /// It is heard of again, regularly.
    Recovered {
        /// The peer.
        peer: NodeId,
    },
}

/// Watches peers.
///
/// A peer that is watched is judged by its silence. One that is not (a follower hears nothing of other followers) keeps its verdict, until [a
/// leader's word](Self::accept) changes it.
///
/// ```
/// use std::time::Duration;
/// use amaters_cluster_core::{FailureDetector, FailureEvent, HeartbeatConfig, Instant, NodeId};
///
/// let peer = NodeId(2);
/// let mut detector = FailureDetector::new(HeartbeatConfig::default(), Duration::from_millis(50), Instant(0));
/// detector.watch(peer, Instant(0));
///
/// // It is heard of for a second, then no more.
/// let mut events = Vec::new();
/// for ms in (0..60_000).step_by(10) {
///     let now = Instant(ms * 1_000_000);
///     if ms <= 1_000 && ms % 50 == 0 {
///         detector.heard(peer, now);
///     }
///     events.extend(detector.check(now));
/// }
/// assert_eq!(events, [FailureEvent::Failed { peer }], "the change is reported once");
/// ```
#[derive(Clone, Debug)]
pub struct FailureDetector {
    config: HeartbeatConfig,
    /// Between two signs of life, as a rule.
    interval: Duration,
    checked_at: Instant,
    /// The time in which nothing was checked, beyond the intervals in which it need not be.
    lost: Duration,
    peers: BTreeMap<NodeId, Peer>,
    changes: Vec<FailureEvent>,
}

#[derive(Clone, Debug)]
struct Peer {
    heard_at: Instant,
    failed: bool,
    watch: Option<Watch>,
}

/// What is known of a peer that is watched. Its times are those of [`FailureDetector::clock`].
#[derive(Clone, Debug)]
struct Watch {
    /// The last sign of life, or the beginning of the watch.
    sign_at: Instant,
    /// Whether there was a sign.
    heard: bool,
    /// When a gap was taken into account last.
    counted_at: Instant,
    /// The longest gap since then.
    longest: Duration,
    gaps: Gaps,
    /// While the peer counts as failed: since when it has been heard of again.
    back_since: Option<Instant>,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self { threshold: 8, acceptable_pause: Duration::from_millis(400), min_deviation: Duration::from_millis(100), window: 64 }
    }
}

impl HeartbeatConfig {
    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, what came and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        const MINUTE: Duration = Duration::from_secs(60);
        let whole_ms = |time: Duration| time <= MINUTE && time.subsec_nanos().is_multiple_of(1_000_000);
        check("threshold", self.threshold.to_string(), "1 to 30", (1..=30).contains(&self.threshold))?;
        let pause = self.acceptable_pause;
        check("acceptable_pause", format!("{pause:?}"), "0 to 60 s, in whole milliseconds", whole_ms(pause))?;
        let deviation = self.min_deviation;
        check(
            "min_deviation",
            format!("{deviation:?}"),
            "1 ms to 60 s, in whole milliseconds",
            whole_ms(deviation) && !deviation.is_zero(),
        )?;
        check("window", self.window.to_string(), "1 to 1000", (1..=1000).contains(&self.window))
    }
}

impl FailureDetector {
    /// A detector that knows of no peer yet. As a rule, signs of life come every `interval`. The settings are taken as [valid](HeartbeatConfig::validate).
    #[must_use]
    pub fn new(config: HeartbeatConfig, interval: Duration, now: Instant) -> Self {
        Self { config, interval, checked_at: now, lost: Duration::ZERO, peers: BTreeMap::new(), changes: Vec::new() }
    }

    /// From here on a peer is expected to be heard of. Changes nothing where it is watched already.
    pub fn watch(&mut self, peer: NodeId, now: Instant) {
        let clock = self.clock(now);
        let peer = self.peer(peer, now);
        peer.watch.get_or_insert_with(|| Watch::new(clock));
    }

    /// From here on a peer's silence means nothing.
    pub fn unwatch(&mut self, peer: NodeId, now: Instant) {
        self.peer(peer, now).watch = None;
    }

    /// Forgets all peers but some.
    pub fn retain(&mut self, stays: impl Fn(NodeId) -> bool) {
        self.peers.retain(|peer, _| stays(*peer));
    }

    /// A sign of life.
    pub fn heard(&mut self, peer: NodeId, now: Instant) {
        let (clock, interval, window) = (self.clock(now), self.interval, self.config.window);
        let peer = self.peer(peer, now);
        peer.heard_at = now;
        if let Some(watch) = &mut peer.watch {
            if peer.failed && watch.back_since.is_none() {
                // The gap is that of a failure, and says nothing of the peer's habits.
                *watch = Watch { heard: true, back_since: Some(clock), ..Watch::new(clock) };
            } else {
                watch.sign(clock, interval, window);
            }
        }
    }

    /// Somebody who watches them all says which peers have failed, and of which it can't tell: that is the verdict on those that are not watched here.
    pub fn accept(&mut self, failed: &[NodeId], doubtful: &[NodeId]) {
        for (&id, peer) in self.peers.iter_mut().filter(|(id, peer)| peer.watch.is_none() && !doubtful.contains(id)) {
            peer.judge(id, failed.contains(&id), &mut self.changes);
        }
    }

    /// Judges those that are watched, and gives the verdicts that have changed since the last call. Wanted several times in a heartbeat interval.
    pub fn check(&mut self, now: Instant) -> Vec<FailureEvent> {
        self.lost += now.since(self.checked_at).saturating_sub(self.interval);
        self.checked_at = self.checked_at.max(now);
        let (clock, recovery) = (self.clock(now), self.config.acceptable_pause.max(self.interval * 2));
        for (&id, peer) in &mut self.peers {
            let Some(watch) = &mut peer.watch else { continue };
            if watch.suspicion(clock, &self.config, self.interval) >= self.config.threshold * 1000 {
                watch.back_since = None;
                peer.judge(id, true, &mut self.changes);
            } else if watch.back_since.is_some_and(|since| watch.sign_at.since(since) >= recovery) {
                watch.back_since = None;
                peer.judge(id, false, &mut self.changes);
            }
        }
        std::mem::take(&mut self.changes)
    }

    /// φ of a peer's present silence, in thousandths: 0 to 32,750, where all that is longer is the same. 0 for one that is not watched.
    #[must_use]
    pub fn suspicion(&self, peer: NodeId, now: Instant) -> u32 {
        let watch = self.peers.get(&peer).and_then(|peer| peer.watch.as_ref());
        watch.map_or(0, |watch| watch.suspicion(self.clock(now), &self.config, self.interval))
    }

    /// Since a peer was last heard of, or became known.
    #[must_use]
    pub fn silence(&self, peer: NodeId, now: Instant) -> Duration {
        self.peers.get(&peer).map_or(Duration::ZERO, |peer| now.since(peer.heard_at))
    }

    /// Whether a peer counts as failed.
    #[must_use]
    pub fn is_failed(&self, peer: NodeId) -> bool {
        self.peers.get(&peer).is_some_and(|peer| peer.failed)
    }

    /// Those that count as failed, by their ids.
    #[must_use]
    pub fn failed(&self) -> Vec<NodeId> {
        self.peers.iter().filter(|(_, peer)| peer.failed).map(|(id, _)| *id).collect()
    }

    /// Those that don't, but have not been heard of since they are watched, or are silent for longer than is forgiven: a verdict from before may be the better one.
    #[must_use]
    pub fn doubtful(&self, now: Instant) -> Vec<NodeId> {
        let clock = self.clock(now);
        let doubted = |watch: &Watch| !watch.heard || watch.suspicion(clock, &self.config, self.interval) > 0;
        self.peers.iter().filter(|(_, peer)| !peer.failed && peer.watch.as_ref().is_some_and(doubted)).map(|(id, _)| *id).collect()
    }

    fn peer(&mut self, peer: NodeId, now: Instant) -> &mut Peer {
        self.peers.entry(peer).or_insert(Peer { heard_at: now, failed: false, watch: None })
    }

    /// The time without that in which this node stood still: what came meanwhile is still waiting to be heard.
    fn clock(&self, now: Instant) -> Instant {
        let lost = self.lost + now.since(self.checked_at).saturating_sub(self.interval);
        Instant(u64::try_from(now.since(Instant(0)).saturating_sub(lost).as_nanos()).unwrap_or(u64::MAX))
    }
}

impl Peer {
    fn judge(&mut self, id: NodeId, failed: bool, changes: &mut Vec<FailureEvent>) {
        if self.failed != failed {
            self.failed = failed;
            changes.push(if failed { FailureEvent::Failed { peer: id } } else { FailureEvent::Recovered { peer: id } });
        }
    }
}

impl Watch {
    fn new(clock: Instant) -> Self {
        Self { sign_at: clock, heard: false, counted_at: clock, longest: Duration::ZERO, gaps: Gaps::default(), back_since: None }
    }

    fn sign(&mut self, clock: Instant, interval: Duration, window: usize) {
        self.longest = self.longest.max(clock.since(self.sign_at));
        (self.sign_at, self.heard) = (clock, true);
        if clock.since(self.counted_at) >= interval {
            self.gaps.add(self.longest.max(interval), window);
            (self.counted_at, self.longest) = (clock, Duration::ZERO);
        }
    }

    fn suspicion(&self, clock: Instant, config: &HeartbeatConfig, interval: Duration) -> u32 {
        let silence = clock.since(self.sign_at).saturating_sub(config.acceptable_pause);
        // Most are asked about when they have just been heard of.
        if silence.is_zero() { 0 } else { self.gaps.phi(silence, interval, config.min_deviation) }
    }
}
