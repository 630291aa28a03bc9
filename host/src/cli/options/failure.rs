//! The options of the failure detector: when a silent peer counts as failed.

use std::time::Duration;

use amaters_cluster_core::HeartbeatConfig;
use clap::Args;

use super::parse;
use super::sources::{Sources, UsageError};

/// The flags of the failure detector. No election waits for it: it decides what is reported.
#[derive(Args, Clone, Debug, Default)]
pub struct FailureArgs {
    /// How sure a node is before a silent peer counts as failed: φ, 1 to 30 [default: 8]
    #[arg(long, value_name = "PHI")]
    pub failure_threshold: Option<String>,
    /// The silence of a peer that is forgiven beyond the usual one [default: 400ms]
    #[arg(long, value_name = "TIME")]
    pub failure_pause: Option<String>,
    /// The least deviation of the gaps between a peer's signs of life, however regular they are [default: 100ms]
    #[arg(long, value_name = "TIME")]
    pub failure_min_deviation: Option<String>,
    /// How many of a peer's latest gaps are remembered: 1 to 1000, one for each heartbeat interval [default: 64]
    #[arg(long, value_name = "N")]
    pub failure_window: Option<String>,
}

const PAUSE: &str = "0 to 60s in whole milliseconds, such as 400ms";
const DEVIATION: &str = "1ms to 60s in whole milliseconds, such as 100ms";

impl FailureArgs {
    pub(super) fn resolve(&self, sources: &Sources<'_>) -> Result<HeartbeatConfig, UsageError> {
        let default = HeartbeatConfig::default();
        let threshold = self.failure_threshold.as_deref();
        let deviation = self.failure_min_deviation.as_deref();
        let some_time = |text: &str| whole_milliseconds(text).filter(|time| !time.is_zero());
        Ok(HeartbeatConfig {
            threshold: sources.value_or("failure-threshold", threshold, default.threshold, "1 to 30", parse::number(1, 30))?.value,
            acceptable_pause: sources
                .value_or("failure-pause", self.failure_pause.as_deref(), default.acceptable_pause, PAUSE, whole_milliseconds)?
                .value,
            min_deviation: sources.value_or("failure-min-deviation", deviation, default.min_deviation, DEVIATION, some_time)?.value,
            window: sources
                .value_or("failure-window", self.failure_window.as_deref(), default.window, "1 to 1000", parse::number(1, 1000))?
                .value,
        })
    }
}

/// Up to a minute, as the detector counts.
fn whole_milliseconds(text: &str) -> Option<Duration> {
    let is_whole = |time: &Duration| time.subsec_nanos().is_multiple_of(1_000_000);
    parse::time(text).filter(|time| *time <= Duration::from_secs(60) && is_whole(time))
}
