//! For a model checker alone: makes equal what no later step can tell apart. None of this is in a node that is built without the feature
//! `model-checking`.

use crate::catch_up::CatchUp;
use crate::complaints::Complaints;
use crate::node::Node;
use crate::rng::Rng;
use crate::role::Role;
use crate::status::Counters;
use crate::types::{Instant, LogIndex};

/// The move of a node's time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shift {
    now: Instant,
    to: Instant,
    /// What lies this far back has been over for long enough for anything, in nanoseconds.
    longest: u64,
}

impl Shift {
    /// A wait for an election: one that is not over begins anew.
    fn apply_to_wait(&self, deadline: &mut Instant) {
        self.apply(deadline);
        if *deadline > self.to {
            *deadline = Instant(self.to.0 + self.longest);
        }
    }

    pub(crate) fn apply(&self, time: &mut Instant) {
        *time = match time.0.checked_sub(self.now.0) {
            Some(ahead) => Instant(self.to.0 + ahead),
            None => Instant(self.to.0 - (self.now.0 - time.0).min(self.longest)),
        };
    }
}

impl Node {
    /// Moves the node's time to `to`, and forgets what only spreads time-outs or counts for people. Proposals wait for their outcome as if they
    /// had just come. Reads are left as they are.
    ///
    /// Nothing follows from this that might not have followed anyway: the node is as it would be at another time of the day, after other random
    /// numbers.
    ///
    /// # Panics
    /// If `to` is not later than the longest election timeout.
    pub fn canonicalize(&mut self, to: Instant) {
        let longest = u64::try_from(self.config.election_timeout_max.as_nanos()).expect("the configuration bounds it");
        assert!(to.0 > longest, "what is over must have a time");
        let shift = Shift { now: self.now, to, longest };
        self.now = to;
        match &mut self.role {
            Role::Follower(follower) => {
                shift.apply(&mut follower.heard_at);
                shift.apply_to_wait(&mut follower.election_at);
            }
            Role::PreCandidate(ballot) | Role::Candidate(ballot) => shift.apply_to_wait(&mut ballot.retry_at),
            Role::Leader(leader) => {
                let times = [&mut leader.sent_at, &mut leader.heartbeat_at, &mut leader.led_since.1];
                times.into_iter().for_each(|time| shift.apply(time));
                leader.peers.values_mut().for_each(|progress| progress.shift(shift));
                for (peer, progress) in &mut leader.peers {
                    // Whether a peer has caught up is asked of those alone that don't vote yet.
                    if self.membership.voters().contains(peer) {
                        progress.catch_up = CatchUp::new(LogIndex::NONE, to);
                    }
                    progress.catch_up.shift(shift);
                    progress.leaving.iter_mut().for_each(|leaving| shift.apply(&mut leaving.since));
                }
            }
        }
        self.proposals.shift(shift, to + self.config.request_timeout);
        self.detector = Self::new_detector(&self.config, to);
        self.watch_peers();
        self.outbox.canonicalize(shift);
        shift.apply(&mut self.promised_until);
        self.disk_space.shift(shift);
        self.rng = Rng::new(0);
        self.counters = Counters::default();
        self.complaints = Complaints::default();
    }
}
