use super::*;

const PEER: NodeId = NodeId(2);
const MS: Duration = Duration::from_millis(1);

/// A detector that is asked every 10 ms, as a node is, and what it has reported: when, and whether the peer failed.
struct Story {
    detector: FailureDetector,
    now: u64,
    reported: Vec<(u64, bool)>,
}

impl Story {
    fn new() -> Self {
        let mut detector = FailureDetector::new(HeartbeatConfig::default(), 50 * MS, Instant(0));
        detector.watch(PEER, Instant(0));
        Self { detector, now: 0, reported: Vec::new() }
    }

    fn at(&self) -> Instant {
        Instant(self.now * 1_000_000)
    }

    /// This many ms pass.
    fn pass(&mut self, ms: u64) {
        for _ in 0..ms / 10 {
            self.now += 10;
            for event in self.detector.check(self.at()) {
                self.reported.push((self.now, matches!(event, FailureEvent::Failed { peer: PEER })));
            }
        }
    }

    /// Signs of life come after each of these gaps.
    fn signs(&mut self, gaps: impl IntoIterator<Item = u64>) {
        for gap in gaps {
            self.pass(gap);
            self.detector.heard(PEER, self.at());
        }
    }

    fn steady(&mut self, ms: u64) {
        self.signs((0..ms / 50).map(|_| 50));
    }

    /// Says nothing until it counts as failed: for how long.
    fn fall_silent(&mut self) -> u64 {
        let (began, before) = (self.now, self.reported.len());
        while self.reported.len() == before {
            assert!(self.now < began + 60_000, "not reported in a minute");
            self.pass(10);
        }
        assert!(self.reported[before].1, "it failed");
        self.now - began
    }
}

#[test]
fn a_steady_peer_that_falls_silent_fails_after_a_second_and_once() {
    let mut story = Story::new();
    story.steady(10_000);
    assert_eq!((story.reported.len(), story.detector.suspicion(PEER, story.at())), (0, 0));
    assert_eq!(story.fall_silent(), 1_020, "400 ms are forgiven, 50 ms usual, and 5.6 times 100 ms are one in a hundred million");
    story.pass(60_000);
    assert_eq!(story.reported.len(), 1, "it is reported once");
    assert_eq!(story.detector.failed(), [PEER]);
}

#[test]
fn suspicion_only_grows_while_a_peer_is_silent() {
    let mut story = Story::new();
    story.steady(1_000);
    let mut last = 0;
    for _ in 0..300 {
        story.pass(10);
        let suspicion = story.detector.suspicion(PEER, story.at());
        assert!(suspicion >= last, "{suspicion} after {last}");
        last = suspicion;
    }
    assert_eq!(last, 32_750);
}

#[test]
fn a_jittery_peer_is_given_more_time() {
    let mut story = Story::new();
    story.signs((0..500).map(|n| if n % 5 == 0 { 600 } else { 50 }));
    assert_eq!(story.reported, [], "its own habits are no reason for suspicion");
    let patience = story.fall_silent();
    assert!((1_500..3_000).contains(&patience), "{patience} ms");
}

#[test]
fn a_slow_peer_is_measured_by_its_own_pace() {
    let mut story = Story::new();
    story.signs((0..300).map(|_| 800));
    assert_eq!(story.reported, []);
    assert_eq!(story.fall_silent(), 1_770, "400 ms, 800 ms and 5.6 times 100 ms");
}

#[test]
fn the_silence_after_a_load_is_no_failure() {
    let strict = HeartbeatConfig { acceptable_pause: Duration::ZERO, min_deviation: 5 * MS, ..HeartbeatConfig::default() };
    let mut detector = FailureDetector::new(strict, 50 * MS, Instant(0));
    detector.watch(PEER, Instant(0));
    let mut now = Instant(0);
    for gap in std::iter::repeat_n(100, 100_000).chain(std::iter::repeat_n(50_000, 100)) {
        now = now + Duration::from_micros(gap);
        assert_eq!(detector.check(now), [], "gaps count as a heartbeat interval at least");
        detector.heard(PEER, now);
    }
}

#[test]
fn a_peer_has_recovered_when_it_is_heard_of_for_a_while() {
    let mut story = Story::new();
    story.steady(1_000);
    story.fall_silent();
    story.pass(5_000);
    story.signs([10]);
    story.pass(5_000);
    assert_eq!(story.reported.len(), 1, "one late message is no recovery, nor another failure");
    let back = story.now;
    story.steady(5_000);
    assert_eq!(story.reported[1..], [(back + 460, false)], "signs come for 400 ms");
    assert!(story.detector.failed().is_empty());
    assert_eq!(story.fall_silent(), 1_020, "the failure has not spoilt its habits");
}

#[test]
fn time_in_which_the_node_stood_still_is_no_silence_of_others() {
    let mut story = Story::new();
    story.steady(1_000);
    // The node is stopped for a minute. It looks at the clock before it looks at what has come.
    story.now += 60_000;
    story.pass(100);
    story.steady(1_000);
    assert_eq!(story.reported, []);
    assert_eq!(story.fall_silent(), 1_020, "and has left no trace in what is usual");
}

#[test]
fn a_peer_that_is_not_watched_is_judged_by_a_leaders_word() {
    let mut story = Story::new();
    let (other, failed) = (NodeId(3), |peer| FailureEvent::Failed { peer });
    story.detector.unwatch(other, story.at());
    story.detector.accept(&[other, PEER, NodeId(9)], &[]);
    assert_eq!(story.detector.check(story.at()), [failed(other)], "one that is watched here is judged here");
    story.detector.accept(&[other], &[]);
    assert_eq!(story.detector.check(story.at()), []);
    // From here on it is watched. Trust begins anew, but what was reported stands until it is heard of.
    story.detector.watch(other, story.at());
    story.detector.unwatch(PEER, story.at());
    story.pass(5_000);
    assert_eq!((story.reported.len(), story.detector.failed()), (0, vec![other]));
    story.detector.unwatch(other, story.at());
    story.detector.accept(&[], &[other]);
    assert_eq!(story.detector.check(story.at()), [], "whoever can't tell changes no verdict");
    story.detector.accept(&[], &[]);
    assert_eq!(story.detector.check(story.at()), [FailureEvent::Recovered { peer: other }]);
    story.detector.accept(&[other], &[]);
    story.detector.retain(|peer| peer == PEER);
    assert!(story.detector.failed().is_empty(), "nothing is thought of one that is gone");
}

#[test]
fn a_peer_is_doubtful_until_it_is_heard_of_and_while_it_is_silent() {
    let mut story = Story::new();
    let doubtful = |story: &Story| story.detector.doubtful(story.at());
    assert_eq!(doubtful(&story), [PEER]);
    story.steady(1_000);
    assert_eq!(doubtful(&story), []);
    story.pass(600);
    assert_eq!(doubtful(&story), [PEER]);
    story.pass(1_000);
    assert_eq!((doubtful(&story), story.detector.failed()), (vec![], vec![PEER]), "that is a verdict");
}

#[test]
fn settings_out_of_range_are_refused() {
    let refused = |config: HeartbeatConfig| config.validate().expect_err("invalid").to_string();
    let default = HeartbeatConfig::default();
    assert_eq!(default.validate(), Ok(()));
    assert_eq!(refused(HeartbeatConfig { threshold: 31, ..default.clone() }), "threshold is 31: expected 1 to 30");
    let odd = Duration::from_micros(1_500);
    assert_eq!(
        refused(HeartbeatConfig { acceptable_pause: odd, ..default.clone() }),
        "acceptable_pause is 1.5ms: expected 0 to 60 s, in whole milliseconds"
    );
    assert_eq!(
        refused(HeartbeatConfig { min_deviation: Duration::ZERO, ..default.clone() }),
        "min_deviation is 0ns: expected 1 ms to 60 s, in whole milliseconds"
    );
    assert_eq!(refused(HeartbeatConfig { window: 0, ..default }), "window is 0: expected 1 to 1000");
}
