//! The small types that everything else is said in.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Makes a newtype over `u64` whose zero means "none".
macro_rules! number {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// Zero: before the first one, or none at all.
            pub const NONE: Self = Self(0);

            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// Whether this is [`Self::NONE`].
            #[must_use]
            pub fn is_none(self) -> bool {
                self == Self::NONE
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }
    };
}

number! {
    /// A node of the cluster: 1 and up.
    NodeId
}
number! {
    /// A term: the time between two elections, numbered from 1.
    Term
}
number! {
    /// A position in the log, from 1; 0 is the position before the first entry.
    LogIndex
}
number! {
    /// Names a submission to storage. The tickets of one run start at 1 and grow by 1.
    Ticket
}
number! {
    /// Names a request of the host. The host uses each once in the life of a node.
    Token
}
number! {
    /// A client's session: the index of the entry that opened it.
    SessionId
}
number! {
    /// The log's own clock, in milliseconds: leaders give it to entries, and it never goes back along a log (dissertation, §6.3).
    LogTime
}
number! {
    /// A group of nodes that share a log. One process may host nodes of many groups; 0 is a valid group, the default one.
    GroupId
}

impl LogIndex {
    /// The position before this one; that of 0 is 0.
    #[must_use]
    pub fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl LogTime {
    /// The time so much later, in whole milliseconds.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Names an entry for good: by the log matching property (Raft paper, figure 3) no two entries share it.
///
/// Ordered by term first, then by index: the order in which logs are "more up to date" (Raft paper, §5.4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EntryId {
    /// The term in which a leader created the entry.
    pub term: Term,
    /// Its place in the log.
    pub index: LogIndex,
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.index, self.term)
    }
}

/// A reading of the host's monotonic clock, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Instant(pub u64);

impl Instant {
    /// The time from `earlier` to this; zero where `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Instant {
    type Output = Self;

    fn add(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)))
    }
}
