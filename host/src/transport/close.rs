//! Why connections end, and how that is told: each end is counted, and logged at most once a minute for each peer and reason.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use amaters_cluster_core::NodeId;
use thiserror::Error;

use super::frame::FrameError;
use super::handshake::{Refusal, VERSION};
use super::metrics::{Direction, TransportMetrics, Up};

/// The time in which a reason is logged once for each peer.
const QUIET: Duration = Duration::from_secs(60);

/// Why a connection ended, or was never made.
#[derive(Debug, Error)]
pub(super) enum Close {
    #[error("it can't be reached: {0}. Is it running, and is its address right?")]
    Unreachable(#[source] io::Error),
    #[error("no handshake within {0:?}")]
    SlowHandshake(Duration),
    #[error("the connection ended before the handshake did")]
    EndedInHandshake,
    #[error("what came is not this protocol's handshake, or was damaged on its way")]
    Garbage,
    #[error("too many connections wait for their handshake: the oldest makes room")]
    CrowdedOut,
    #[error("it speaks version {theirs} of the protocol: expected {VERSION}. Upgrade the older node")]
    OtherVersion { theirs: u16 },
    #[error("refused {came}: {refusal}. {}", .refusal.advice())]
    Refused { refusal: Refusal, came: String },
    #[error("node {answered} answered and refused: {refusal}. {}", .refusal.advice())]
    RefusedByPeer { refusal: Refusal, answered: NodeId },
    #[error("node {answered} answered in its place: correct the address")]
    AnsweredByOther { answered: NodeId },
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("a frame was not complete after {0:?}")]
    SlowFrame(Duration),
    #[error("nothing came for {0:?}")]
    Silent(Duration),
    #[error("nothing was taken for {0:?}")]
    SlowWrite(Duration),
    #[error("the peer sent bytes where none are due")]
    Unexpected,
    #[error("the peer opened a newer connection")]
    Replaced,
    #[error("the peer ended the connection")]
    Ended,
    #[error("the connection ended within a frame")]
    CutShort,
    #[error("the connection broke: {0}")]
    Io(#[source] io::Error),
    #[error("connections can't be accepted: {0}. Is the limit of open files too low?")]
    CannotAccept(#[source] io::Error),
    #[error("this node has ended")]
    NodeEnded,
}

impl Close {
    /// An error of reading in a handshake.
    pub(super) fn in_handshake(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof { Self::EndedInHandshake } else { Self::Io(error) }
    }

    /// The reason's name in metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::SlowHandshake(_) => "slow_handshake",
            Self::EndedInHandshake => "ended_in_handshake",
            Self::Garbage => "garbage",
            Self::CrowdedOut => "crowded_out",
            Self::OtherVersion { .. } => Refusal::Version.name(),
            Self::Refused { refusal, .. } => refusal.name(),
            Self::RefusedByPeer { refusal, .. } => match refusal {
                Refusal::Version => "refused_version",
                Refusal::WrongCluster => "refused_wrong_cluster",
                Refusal::WrongNode => "refused_wrong_node",
                Refusal::UnknownNode => "refused_unknown_node",
                Refusal::Encryption { .. } => "refused_encryption",
            },
            Self::AnsweredByOther { .. } => "answered_by_other",
            Self::Frame(FrameError::TooLarge { .. }) => "frame_too_large",
            Self::Frame(FrameError::BadChecksum { .. }) => "bad_checksum",
            Self::SlowFrame(_) => "slow_frame",
            Self::Silent(_) => "silent",
            Self::SlowWrite(_) => "slow_write",
            Self::Unexpected => "unexpected_bytes",
            Self::Replaced => "replaced",
            Self::Ended => "ended",
            Self::CutShort => "cut_short",
            Self::Io(_) => "broken",
            Self::CannotAccept(_) => "cannot_accept",
            Self::NodeEnded => "node_ended",
        }
    }

    /// Whether it happens where nothing is wrong, when nodes start and stop.
    fn is_routine(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Replaced | Self::Ended | Self::Io(_) | Self::NodeEnded)
    }
}

/// Tells of connections: counts all, logs the first of a kind in a minute.
#[derive(Debug)]
pub(super) struct Reporter {
    metrics: TransportMetrics,
    // As large as the number of peers times the number of reasons: strangers share one name.
    told: Mutex<HashMap<(Option<NodeId>, &'static str), Told>>,
}

/// When something was logged last, and how often it was not since.
#[derive(Debug)]
struct Told {
    last: Instant,
    withheld: u64,
}

impl Reporter {
    pub(super) fn new(metrics: TransportMetrics) -> Self {
        Self { metrics, told: Mutex::default() }
    }

    pub(super) fn metrics(&self) -> &TransportMetrics {
        &self.metrics
    }

    /// A connection is up, until what this gives is dropped.
    pub(super) fn connected(&self, direction: Direction, peer: NodeId, address: SocketAddr) -> Up {
        let up = self.metrics.connected(direction, peer);
        if let Some(withheld) = self.may_tell(Some(peer), direction.name()) {
            tracing::info!(%peer, %address, direction = direction.name(), withheld, "connected");
        }
        up
    }

    /// A connection ended, or an attempt at one. `peer` is none until it is known who is there.
    pub(super) fn closed(&self, direction: Direction, peer: Option<NodeId>, address: &str, close: &Close) {
        let reason = close.reason();
        self.metrics.closed(direction, reason);
        let Some(withheld) = self.may_tell(peer, reason) else { return };
        let (peer, direction) = (peer.map_or(0, |peer| peer.0), direction.name());
        if close.is_routine() {
            tracing::info!(peer, address, direction, reason, withheld, "no connection: {close}");
        } else {
            tracing::warn!(peer, address, direction, reason, withheld, "connection refused or closed: {close}");
        }
    }

    /// An envelope was dropped.
    pub(super) fn shed(&self, peer: Option<NodeId>, reason: &'static str, envelopes: u64) {
        self.metrics.shed(reason, envelopes);
        // A peer that is away has been told of by then.
        if reason == super::queue::DISCONNECTED {
            return;
        }
        if let Some(withheld) = self.may_tell(peer, reason) {
            tracing::warn!(peer = peer.map_or(0, |peer| peer.0), reason, withheld, "envelopes for a peer are dropped");
        }
    }

    /// How often the same was withheld, if it may be said again.
    fn may_tell(&self, peer: Option<NodeId>, what: &'static str) -> Option<u64> {
        let now = Instant::now();
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        match told.get_mut(&(peer, what)) {
            Some(told) if now.duration_since(told.last) < QUIET => {
                told.withheld += 1;
                None
            }
            Some(told) => Some(std::mem::replace(told, Told { last: now, withheld: 0 }).withheld),
            None => {
                told.insert((peer, what), Told { last: now, withheld: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_once_a_minute_and_others_meanwhile() {
        let reporter = Reporter::new(TransportMetrics::register(&prometheus::Registry::new()).unwrap());
        assert_eq!(reporter.may_tell(Some(NodeId(1)), "garbage"), Some(0));
        assert_eq!(reporter.may_tell(Some(NodeId(1)), "garbage"), None);
        assert_eq!(reporter.may_tell(Some(NodeId(1)), "garbage"), None);
        assert_eq!(reporter.may_tell(Some(NodeId(2)), "garbage"), Some(0));
        assert_eq!(reporter.may_tell(None, "garbage"), Some(0));
        assert_eq!(reporter.may_tell(Some(NodeId(1)), "silent"), Some(0));
        if let Some(told) = reporter.told.lock().unwrap().get_mut(&(Some(NodeId(1)), "garbage")) {
            told.last = Instant::now().checked_sub(QUIET).expect("the machine runs for a minute");
        }
        assert_eq!(reporter.may_tell(Some(NodeId(1)), "garbage"), Some(2));
    }
}
