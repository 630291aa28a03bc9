//! The proposals of this node's host, from when they come until their outcome is known.
//!
//! Each proposal reaches the log exactly once, whatever becomes of leaders and messages:
//!
//! - Within a term, it is given to one leader only, at one position of a stream whose positions that leader takes once and in order.
//! - It is given to the leader of a later term only when it is certain that the earlier one's log lost it: when an entry of a later term has been
//!   applied and the proposal was not among the entries before. Terms never fall along a log, so it can't come after.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::time::Duration;

use crate::entry::Proposal;
use crate::io::{Rejected, Rejection};
use crate::message::{ForwardRequest, Forwarded};
use crate::types::{Instant, NodeId, Term, Token};

/// Proposals whose outcome is not known yet, by their number in this run.
#[derive(Clone, Debug)]
pub(crate) struct Proposals {
    run: u64,
    last_sequence: u64,
    pending: BTreeMap<u64, Pending>,
    pending_bytes: usize,
    /// All below this have been given to a leader, or are done.
    unsent_from: u64,
    stream: Stream,
}

#[derive(Clone, Debug)]
struct Pending {
    token: Token,
    proposal: Proposal,
    deadline: Instant,
    /// The term whose leader has it; none while it waits for one.
    given_in: Term,
}

/// The proposals on their way to the leader of a term, in order.
#[derive(Clone, Debug, Default)]
struct Stream {
    term: Term,
    /// How many positions the leader is known to have taken.
    received: u64,
    /// The sequences at the positions after that.
    unreceived: VecDeque<u64>,
    /// Since when the first of them waits to be taken, or to be sent again.
    waiting_since: Instant,
}

impl Proposals {
    pub(crate) fn new(run: u64) -> Self {
        Self { run, last_sequence: 0, pending: BTreeMap::new(), pending_bytes: 0, unsent_from: 1, stream: Stream::default() }
    }

    /// This node's run: it names the proposals together with their sequences.
    pub(crate) fn run(&self) -> u64 {
        self.run
    }

    /// Bytes of commands whose outcome is not known.
    pub(crate) fn bytes(&self) -> usize {
        self.pending_bytes
    }

    /// Takes a proposal.
    pub(crate) fn add(&mut self, token: Token, proposal: Proposal, deadline: Instant) {
        self.last_sequence += 1;
        self.pending_bytes += proposal.size();
        self.pending.insert(self.last_sequence, Pending { token, proposal, deadline, given_in: Term::NONE });
    }

    /// The first proposals that wait for a leader, in order and up to `max_bytes`; from here on the leader of `term` has them.
    pub(crate) fn give_to(&mut self, term: Term, max_bytes: usize) -> Vec<Forwarded> {
        let mut given = Vec::new();
        let mut bytes = 0;
        for (&sequence, pending) in self.pending.range_mut(self.unsent_from..) {
            if pending.given_in.is_none() {
                bytes += pending.proposal.size();
                if bytes > max_bytes && !given.is_empty() {
                    break;
                }
                pending.given_in = term;
                given.push(Forwarded { sequence, proposal: Some(pending.proposal.clone()) });
            }
            self.unsent_from = sequence + 1;
        }
        given
    }

    /// The next request for the leader of `term`, which is another node: new proposals, or those that it seems not to have got.
    pub(crate) fn forward_to(&mut self, term: Term, now: Instant, retry: Duration, max_bytes: usize) -> Option<ForwardRequest> {
        if self.stream.term != term {
            self.stream = Stream { term, ..Stream::default() };
        }
        let given = self.give_to(term, max_bytes);
        if given.is_empty() {
            let lost = !self.stream.unreceived.is_empty() && now.since(self.stream.waiting_since) >= retry;
            return lost.then(|| self.repeat(now, max_bytes));
        }
        let position = self.stream.received + self.stream.unreceived.len() as u64 + 1;
        if self.stream.unreceived.is_empty() {
            self.stream.waiting_since = now;
        }
        self.stream.unreceived.extend(given.iter().map(|proposal| proposal.sequence));
        Some(ForwardRequest { term, run: self.run, position, proposals: given })
    }

    /// Sends again what the leader has not confirmed, from the first on.
    fn repeat(&mut self, now: Instant, max_bytes: usize) -> ForwardRequest {
        self.stream.waiting_since = now;
        let mut bytes = 0;
        let proposal = |sequence| self.pending.get(&sequence).map(|pending| pending.proposal.clone());
        let proposals = (self.stream.unreceived.iter())
            .map(|&sequence| Forwarded { sequence, proposal: proposal(sequence) })
            .take_while(|forwarded| {
                let first = bytes == 0;
                bytes += forwarded.proposal.as_ref().map_or(0, Proposal::size) + 1;
                first || bytes <= max_bytes
            })
            .collect();
        ForwardRequest { term: self.stream.term, run: self.run, position: self.stream.received + 1, proposals }
    }

    /// The leader of `term` has taken the stream up to a position.
    pub(crate) fn received(&mut self, run: u64, term: Term, received: u64, now: Instant) {
        let stream = &mut self.stream;
        if run != self.run || term != stream.term || received <= stream.received {
            return;
        }
        let news = usize::try_from(received - stream.received).unwrap_or(usize::MAX).min(stream.unreceived.len());
        stream.unreceived.drain(..news);
        stream.received += news as u64;
        stream.waiting_since = now;
    }

    /// The outcome of a proposal is known: its token, if it was still waited for.
    pub(crate) fn resolve(&mut self, run: u64, sequence: u64, now: Instant) -> Option<Token> {
        if run != self.run {
            return None;
        }
        // A stream is taken in order: the leader has all that was sent before it too.
        if let Some(at) = self.stream.unreceived.iter().position(|sent| *sent == sequence) {
            self.stream.unreceived.drain(..=at);
            self.stream.received += at as u64 + 1;
            self.stream.waiting_since = now;
        }
        let pending = self.pending.remove(&sequence)?;
        self.pending_bytes -= pending.proposal.size();
        Some(pending.token)
    }

    /// An entry of `term` was applied: what earlier leaders had and was not applied by now never will be, and waits for a leader again.
    pub(crate) fn reclaim_before(&mut self, term: Term) {
        for (sequence, pending) in &mut self.pending {
            if !pending.given_in.is_none() && pending.given_in < term {
                pending.given_in = Term::NONE;
                self.unsent_from = self.unsent_from.min(*sequence);
            }
        }
    }

    /// A snapshot has taken the place of entries up to `term`: whether they held what was given to leaders of these terms can't be told any more.
    pub(crate) fn lose_track(&mut self, term: Term, leader: NodeId, rejected: &mut Vec<Rejected>) {
        let bytes = &mut self.pending_bytes;
        self.pending.retain(|_, pending| {
            let lost = !pending.given_in.is_none() && pending.given_in <= term;
            if lost {
                *bytes -= pending.proposal.size();
                rejected.push(Rejected { token: pending.token, reason: Rejection::UnknownOutcome, leader });
            }
            !lost
        });
    }

    /// Gives up on what no leader has: this node has no leader any more.
    pub(crate) fn give_up(&mut self, rejected: &mut Vec<Rejected>) {
        let bytes = &mut self.pending_bytes;
        self.pending.retain(|_, pending| {
            let is_given = !pending.given_in.is_none();
            if !is_given {
                *bytes -= pending.proposal.size();
                rejected.push(Rejected { token: pending.token, reason: Rejection::Removed, leader: NodeId::NONE });
            }
            is_given
        });
    }

    /// Gives up on what has waited too long.
    pub(crate) fn expire(&mut self, now: Instant, leader: NodeId, rejected: &mut Vec<Rejected>) {
        // All wait equally long, so that the first has the earliest deadline.
        while let Some(entry) = self.pending.first_entry()
            && entry.get().deadline <= now
        {
            let pending = entry.remove();
            self.pending_bytes -= pending.proposal.size();
            let reason = if pending.given_in.is_none() { Rejection::NoLeader } else { Rejection::UnknownOutcome };
            rejected.push(Rejected { token: pending.token, reason, leader });
        }
    }
}

#[cfg(feature = "model-checking")]
impl Proposals {
    pub(crate) fn shift(&mut self, shift: crate::canonical::Shift, deadline: Instant) {
        shift.apply(&mut self.stream.waiting_since);
        self.pending.values_mut().for_each(|pending| pending.deadline = deadline);
    }
}

/// The streams of proposals that a leader takes from other nodes in its term.
#[derive(Clone, Debug, Default)]
pub(crate) struct ForwardStreams {
    received: BTreeMap<(NodeId, u64), u64>,
}

/// The most runs of one node that a leader keeps apart in a term: a node restarts less often than this, or is broken.
const MAX_RUNS: usize = 256;

impl ForwardStreams {
    /// Which of a request's proposals are new, and the last position taken after that. A request that leaves a gap brings nothing new.
    pub(crate) fn take(&mut self, from: NodeId, request: ForwardRequest) -> (Vec<Forwarded>, u64) {
        let stream = (from, request.run);
        let runs = self.received.range((Bound::Included((from, 0)), Bound::Included((from, u64::MAX)))).count();
        if runs >= MAX_RUNS && !self.received.contains_key(&stream) {
            return (Vec::new(), 0);
        }
        let received = self.received.entry(stream).or_default();
        let next = *received + 1;
        if request.position == 0 || request.position > next {
            return (Vec::new(), *received);
        }
        let known = usize::try_from(next - request.position).unwrap_or(usize::MAX);
        let new: Vec<_> = request.proposals.into_iter().skip(known).collect();
        *received += new.len() as u64;
        (new, *received)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_millis(100);

    fn command(bytes: &'static [u8]) -> Proposal {
        Proposal::Command(bytes.into())
    }

    fn proposals(count: u64) -> Proposals {
        let mut proposals = Proposals::new(7);
        for n in 1..=count {
            proposals.add(Token(n), command(b"xxxx"), Instant(n));
        }
        proposals
    }

    fn sequences(request: &ForwardRequest) -> Vec<u64> {
        request.proposals.iter().map(|proposal| proposal.sequence).collect()
    }

    #[test]
    fn a_stream_takes_each_position_once_and_in_order() {
        let mut sender = proposals(2);
        let first = sender.forward_to(Term(1), Instant(0), RETRY, 100).unwrap();
        sender.add(Token(3), command(b""), Instant(9));
        let second = sender.forward_to(Term(1), Instant(0), RETRY, 100).unwrap();
        let mut leader = ForwardStreams::default();
        assert_eq!(leader.take(NodeId(2), second.clone()), (vec![], 0), "the first is missing");
        assert_eq!(leader.take(NodeId(2), first.clone()).1, 2);
        assert_eq!(leader.take(NodeId(2), first), (vec![], 2), "taken already");
        assert_eq!(leader.take(NodeId(2), second).1, 3);
    }

    #[test]
    fn what_the_leader_did_not_confirm_is_sent_again_from_there() {
        let mut sender = proposals(3);
        sender.forward_to(Term(1), Instant(0), RETRY, 100).unwrap();
        assert_eq!(sender.forward_to(Term(1), Instant(1), RETRY, 100), None);
        sender.received(7, Term(1), 1, Instant(2));
        let late = Instant(0) + RETRY * 2;
        let again = sender.forward_to(Term(1), late, RETRY, 100).unwrap();
        assert_eq!((again.position, sequences(&again)), (2, vec![2, 3]));
    }

    #[test]
    fn a_later_term_gets_only_what_the_earlier_one_lost() {
        let mut sender = proposals(2);
        sender.forward_to(Term(1), Instant(0), RETRY, 100).unwrap();
        assert_eq!(sender.forward_to(Term(2), Instant(0), RETRY, 100), None, "the leader of term 1 may have both");
        assert_eq!(sender.resolve(7, 1, Instant(0)), Some(Token(1)));
        sender.reclaim_before(Term(2));
        assert_eq!(sequences(&sender.forward_to(Term(2), Instant(0), RETRY, 100).unwrap()), [2]);
        assert_eq!(sender.resolve(6, 2, Instant(0)), None, "another run's");
    }

    #[test]
    fn one_that_no_leader_has_fails_safely_and_the_others_may_still_happen() {
        let mut sender = proposals(1);
        sender.give_to(Term(1), 100);
        sender.add(Token(2), command(b""), Instant(2));
        let mut rejected = Vec::new();
        sender.expire(Instant(2), NodeId::NONE, &mut rejected);
        let reasons: Vec<_> = rejected.iter().map(|rejected| (rejected.token.0, rejected.reason)).collect();
        assert_eq!(reasons, [(1, Rejection::UnknownOutcome), (2, Rejection::NoLeader)]);
        assert_eq!(sender.bytes(), 0);
    }
}
