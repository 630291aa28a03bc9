//! What a node must be told, and the ranges that keep it alive.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use crate::cluster_config::{ClusterConfig, MAX_ADDRESS_BYTES};
use crate::detector::HeartbeatConfig;
use crate::encryption::Encryption;
use crate::snapshot::SnapshotConfig;
use crate::types::{GroupId, LogIndex, NodeId};

/// The most voters of a group: more cost a majority of more disks and win nothing.
pub const MAX_VOTERS: usize = 7;

/// The longest election timeout.
pub(crate) const MAX_ELECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// The settings of a node. [`Config::new`] gives the defaults; [`Config::validate`] holds the ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// The group whose log this is.
    pub group: GroupId,
    /// The voting members that the cluster begins with, this node among them: 1 to 7. None for a node that waits to be added to a cluster. Once the log
    /// has a configuration, that one holds.
    pub voters: Vec<NodeId>,
    /// Where these voters can be reached, as far as anybody has to know: at most 255 bytes each.
    pub addresses: BTreeMap<NodeId, String>,
    /// The shortest wait for a leader (Raft paper, §5.2; default 150 ms). Each wait is drawn once between this and the longest.
    pub election_timeout_min: Duration,
    /// The longest wait (default 300 ms).
    pub election_timeout_max: Duration,
    /// Between two heartbeats of a leader (default 50 ms): at most half of the shortest wait.
    pub heartbeat_interval: Duration,
    /// The most bytes of commands in one AppendEntries (default 1 MiB). One command alone may be larger.
    pub max_batch_bytes: usize,
    /// The most AppendEntries with entries on their way to one peer (default 32).
    pub max_inflight: usize,
    /// The largest command (default 2 MiB).
    pub max_command_bytes: usize,
    /// The most bytes of commands that wait for their outcome here (default 64 MiB).
    pub max_pending_bytes: usize,
    /// The most bytes of the log in memory (default 1 GiB).
    pub max_log_bytes: usize,
    /// How long a request waits for its outcome (default 2 s).
    pub request_timeout: Duration,
    /// Whether a leader serves reads without asking a majority first while a majority has promised to elect nobody else (dissertation, §6.4.1;
    /// default: no). Linearizable only where no clock outruns another by more than `max_clock_drift`, and none stands still, as it does on a
    /// machine that sleeps. A node for which this is off gives no such promise either.
    pub lease_reads: bool,
    /// By how much the fastest clock of the group may outrun the slowest, in percent: 1 to 100 (default 10). A lease is shorter by that.
    pub max_clock_drift: u32,
    /// How long the own disk may make no progress before a leader hands over, and others don't want to lead: 10 ms to 60 s (default 1 s).
    pub disk_stall_timeout: Duration,
    /// When a silent peer counts as failed. No election waits for it.
    pub failure: HeartbeatConfig,
    /// When a snapshot is taken, and what is kept of the log then.
    pub snapshots: SnapshotConfig,
    /// Whether storage has lost a part of what this node once promised: then it takes no part in elections, and is counted in no majority, until a
    /// leader that a majority of the others has confirmed since has brought it everything that it may have promised.
    pub repair: bool,
    /// What seals the log; none for a log that anybody can read who has its bytes. All nodes of a group seal, or none, from the first entry on (default: none).
    pub encryption: Option<Encryption>,
    /// Where the node's own random numbers start. The driver draws it from the system's random source; equal seeds and inputs give
    /// equal effects.
    pub seed: u64,
    /// A bug to put in.
    #[cfg(feature = "planted-bugs")]
    pub bug: Option<crate::planted::Bug>,
}

/// A setting out of its range.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{field} is {got}: expected {expected}")]
pub struct ConfigError {
    /// The setting.
    pub field: &'static str,
    /// What came.
    pub got: String,
    /// What is allowed.
    pub expected: String,
}

impl Config {
    /// The default settings for a node among these voters.
    #[must_use]
    pub fn new(id: impl Into<NodeId>, voters: Vec<impl Into<NodeId>>) -> Self {
        let voters = voters.into_iter().map(Into::into).collect();
        Self {
            id: id.into(),
            group: GroupId(0),
            voters,
            addresses: BTreeMap::new(),
            election_timeout_min: Duration::from_millis(150),
            election_timeout_max: Duration::from_millis(300),
            heartbeat_interval: Duration::from_millis(50),
            max_batch_bytes: 1 << 20,
            max_inflight: 32,
            max_command_bytes: 2 << 20,
            max_pending_bytes: 64 << 20,
            max_log_bytes: 1 << 30,
            request_timeout: Duration::from_secs(2),
            lease_reads: false,
            max_clock_drift: 10,
            disk_stall_timeout: Duration::from_secs(1),
            failure: HeartbeatConfig::default(),
            snapshots: SnapshotConfig::default(),
            repair: false,
            encryption: None,
            seed: 0,
            #[cfg(feature = "planted-bugs")]
            bug: crate::planted::of_this_thread(),
        }
    }

    /// Checks every setting.
    ///
    /// # Errors
    /// Names the first setting that is out of its range, what came and what is allowed.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_members()?;
        self.failure.validate()?;
        self.snapshots.validate()?;
        let ms = |wait: Duration| format!("{} ms", wait.as_millis());
        check("heartbeat_interval", ms(self.heartbeat_interval), "at least 1 ms", self.heartbeat_interval >= Duration::from_millis(1))?;
        check(
            "election_timeout_min",
            ms(self.election_timeout_min),
            &format!("at least twice heartbeat_interval ({})", ms(self.heartbeat_interval)),
            self.election_timeout_min >= self.heartbeat_interval * 2,
        )?;
        check(
            "election_timeout_max",
            ms(self.election_timeout_max),
            &format!("more than election_timeout_min ({}), at most 60000 ms", ms(self.election_timeout_min)),
            self.election_timeout_max > self.election_timeout_min && self.election_timeout_max <= MAX_ELECTION_TIMEOUT,
        )?;
        check(
            "request_timeout",
            ms(self.request_timeout),
            &format!("at least election_timeout_max ({})", ms(self.election_timeout_max)),
            self.request_timeout >= self.election_timeout_max,
        )?;
        check("max_clock_drift", format!("{} %", self.max_clock_drift), "1 to 100 %", (1..=100).contains(&self.max_clock_drift))?;
        let stall = Duration::from_millis(10)..=Duration::from_secs(60);
        check("disk_stall_timeout", ms(self.disk_stall_timeout), "10 ms to 60000 ms", stall.contains(&self.disk_stall_timeout))?;
        let range = |field, got: usize, min: usize, max: usize| {
            check(field, got.to_string(), &format!("{min} to {max}"), (min..=max).contains(&got))
        };
        range("max_batch_bytes", self.max_batch_bytes, 1 << 10, 16 << 20)?;
        range("max_inflight", self.max_inflight, 1, 1024)?;
        range("max_command_bytes", self.max_command_bytes, 1, 16 << 20)?;
        range("max_pending_bytes", self.max_pending_bytes, self.max_command_bytes, usize::MAX)?;
        range("max_log_bytes", self.max_log_bytes, self.max_command_bytes, usize::MAX)
    }

    fn validate_members(&self) -> Result<(), ConfigError> {
        check("id", self.id.to_string(), "1 or more", !self.id.is_none())?;
        let names = self.voters.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ");
        check("voters", names.clone(), &format!("at most {MAX_VOTERS} nodes"), self.voters.len() <= MAX_VOTERS)?;
        check("voters", names.clone(), "ids of 1 or more", self.voters.iter().all(|voter| !voter.is_none()))?;
        let mut unique = self.voters.clone();
        unique.sort_unstable();
        unique.dedup();
        check("voters", names.clone(), "each id once", unique.len() == self.voters.len())?;
        let included = self.voters.is_empty() || self.voters.contains(&self.id);
        check("voters", names, &format!("this node's own id, {}, among them", self.id), included)?;
        let longest = self.addresses.values().map(String::len).max().unwrap_or_default();
        check("addresses", format!("{longest} bytes"), &format!("at most {MAX_ADDRESS_BYTES} bytes each"), longest <= MAX_ADDRESS_BYTES)
    }

    /// The configuration that the cluster begins with.
    pub(crate) fn initial_members(&self) -> ClusterConfig {
        let address = |voter| self.addresses.get(voter).cloned().unwrap_or_default();
        let voters = self.voters.iter().map(|voter| (*voter, address(voter))).collect();
        ClusterConfig { version: LogIndex::NONE, voters, ..ClusterConfig::default() }
    }
}

pub(crate) fn check(field: &'static str, got: String, expected: &str, holds: bool) -> Result<(), ConfigError> {
    if holds { Ok(()) } else { Err(ConfigError { field, got, expected: expected.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(id: u64, voters: &[u64]) -> Config {
        Config::new(id, voters.to_vec())
    }

    #[test]
    fn defaults_hold_for_one_to_seven_voters() {
        for n in 1..=7 {
            config(1, &(1..=n).collect::<Vec<_>>()).validate().expect("defaults are valid");
        }
        config(1, &[]).validate().expect("a node may wait to be added");
    }

    #[test]
    fn a_wrong_membership_names_what_is_allowed() {
        for (config, said) in [
            (config(0, &[0]), "id is 0: expected 1 or more"),
            (config(4, &[1, 2, 3]), "voters is 1, 2, 3: expected this node's own id, 4, among them"),
            (config(1, &[1, 2, 2]), "voters is 1, 2, 2: expected each id once"),
            (config(1, &[1, 2, 3, 4, 5, 6, 7, 8]), "voters is 1, 2, 3, 4, 5, 6, 7, 8: expected at most 7 nodes"),
        ] {
            assert_eq!(config.validate().expect_err("invalid").to_string(), said);
        }
    }

    #[test]
    fn a_heartbeat_too_slow_for_the_election_timeout_is_refused() {
        let mut config = config(1, &[1]);
        config.heartbeat_interval = Duration::from_millis(100);
        let error = config.validate().expect_err("invalid");
        assert_eq!(error.to_string(), "election_timeout_min is 150 ms: expected at least twice heartbeat_interval (100 ms)");
    }
}
