//! Linearizable reads without the log (dissertation, §6.4).
//!
//! A node asks the leader, itself or another, for an index; the leader answers with its commit index once a majority has confirmed, after the
//! question came, that it leads; the node serves the reads when it has applied that much. One question is under way at a time: reads that come
//! meanwhile share the next one.

use std::collections::VecDeque;
use std::time::Duration;

use crate::io::{Rejected, Rejection};
use crate::message::{ReadId, ReadIndexRequest};
use crate::types::{Instant, LogIndex, NodeId, Term, Token};

/// The reads of this node's host.
#[derive(Clone, Debug)]
pub(crate) struct Reads {
    run: u64,
    last_number: u64,
    waiting: VecDeque<Read>,
    asked: Option<Question>,
    /// Reads whose index is known, and that wait for it to be applied. Indexes grow.
    granted: VecDeque<(LogIndex, Vec<Read>)>,
}

#[derive(Clone, Copy, Debug)]
struct Read {
    token: Token,
    deadline: Instant,
}

#[derive(Clone, Debug)]
struct Question {
    number: u64,
    term: Term,
    asked_at: Instant,
    reads: Vec<Read>,
}

impl Reads {
    pub(crate) fn new(run: u64) -> Self {
        Self { run, last_number: 0, waiting: VecDeque::new(), asked: None, granted: VecDeque::new() }
    }

    /// This node's run, which names its questions together with their numbers.
    pub(crate) fn run(&self) -> u64 {
        self.run
    }

    /// Takes a read.
    pub(crate) fn add(&mut self, token: Token, deadline: Instant) {
        self.waiting.push_back(Read { token, deadline });
    }

    /// The question for the leader of `term`, if one is due. One that got no answer is asked anew, under a new number: a late answer to the old
    /// one might be too old for the reads that joined since.
    pub(crate) fn ask(&mut self, term: Term, now: Instant, retry: Duration) -> Option<ReadIndexRequest> {
        if let Some(question) = &self.asked {
            if question.term == term && now.since(question.asked_at) < retry {
                return None;
            }
            self.withdraw();
        }
        if self.waiting.is_empty() {
            return None;
        }
        self.last_number += 1;
        self.asked = Some(Question { number: self.last_number, term, asked_at: now, reads: self.waiting.drain(..).collect() });
        Some(ReadIndexRequest { term, id: ReadId { run: self.run, number: self.last_number } })
    }

    fn withdraw(&mut self) {
        for read in self.asked.take().into_iter().flat_map(|question| question.reads).rev() {
            self.waiting.push_front(read);
        }
    }

    /// The leader's answer.
    pub(crate) fn answered(&mut self, id: ReadId, read_index: LogIndex) {
        if id.run != self.run {
            return;
        }
        if let Some(question) = self.asked.take_if(|question| question.number == id.number) {
            let after = self.granted.back().map_or(LogIndex::NONE, |(index, _)| *index);
            self.granted.push_back((read_index.max(after), question.reads));
        }
    }

    /// The reads that may be served from a state that has applied this much.
    pub(crate) fn ready(&mut self, applied: LogIndex) -> Vec<Token> {
        let mut ready = Vec::new();
        while let Some((_, reads)) = self.granted.pop_front_if(|(index, _)| *index <= applied) {
            ready.extend(reads.iter().map(|read| read.token));
        }
        ready
    }

    /// Gives up on all that have no index yet: this node has no leader any more.
    pub(crate) fn give_up(&mut self, rejected: &mut Vec<Rejected>) {
        self.withdraw();
        let removed = |read: Read| Rejected { token: read.token, reason: Rejection::Removed, leader: NodeId::NONE };
        rejected.extend(self.waiting.drain(..).map(removed));
    }

    /// Gives up on what has waited too long. A read changes nothing, so that it can always be tried again.
    pub(crate) fn expire(&mut self, now: Instant, leader: NodeId, rejected: &mut Vec<Rejected>) {
        let overdue = |read: &Read| read.deadline <= now;
        // All wait equally long, and a batch's first read has waited longest.
        let mut expired = Vec::new();
        while let Some((_, reads)) = self.granted.pop_front_if(|(_, reads)| reads.first().is_some_and(overdue)) {
            expired.extend(reads);
        }
        if self.asked.as_ref().is_some_and(|question| question.reads.first().is_some_and(overdue)) {
            self.withdraw();
        }
        while let Some(read) = self.waiting.pop_front_if(|read| overdue(read)) {
            expired.push(read);
        }
        rejected.extend(expired.into_iter().map(|read| Rejected { token: read.token, reason: Rejection::NoLeader, leader }));
    }
}

/// The questions that a leader has to answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct ReadRounds {
    waiting: Vec<Reader>,
    confirming: Option<Round>,
    last_round: u64,
}

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reader {
    pub(crate) node: NodeId,
    pub(crate) id: ReadId,
}

#[derive(Clone, Debug)]
struct Round {
    read_index: LogIndex,
    readers: Vec<Reader>,
}

/// The most questions that wait for one round: more come again after their time-out.
const MAX_READERS: usize = 4096;

impl ReadRounds {
    /// The number of the latest round, which goes with each heartbeat.
    pub(crate) fn number(&self) -> u64 {
        self.last_round
    }

    /// Takes a question.
    pub(crate) fn add(&mut self, reader: Reader) {
        if self.waiting.len() < MAX_READERS {
            self.waiting.push(reader);
        }
    }

    /// All who wait, also for the round under way, where none is needed for them.
    pub(crate) fn take_all(&mut self) -> Vec<Reader> {
        let mut readers = self.confirming.take().map_or_else(Vec::new, |round| round.readers);
        readers.append(&mut self.waiting);
        readers
    }

    /// Begins a round for all that wait, unless one is under way: whether heartbeats with its number are due.
    pub(crate) fn begin(&mut self, commit_index: LogIndex) -> bool {
        if self.confirming.is_some() || self.waiting.is_empty() {
            return false;
        }
        self.last_round += 1;
        self.confirming = Some(Round { read_index: commit_index, readers: std::mem::take(&mut self.waiting) });
        true
    }

    /// Ends the round under way if a majority has confirmed it: the index, and who asked.
    pub(crate) fn finish(&mut self, confirmed: u64) -> Option<(LogIndex, Vec<Reader>)> {
        if confirmed < self.last_round {
            return None;
        }
        self.confirming.take().map(|round| (round.read_index, round.readers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETRY: Duration = Duration::from_millis(100);

    #[test]
    fn reads_that_come_during_a_question_wait_for_the_next() {
        let mut reads = Reads::new(7);
        reads.add(Token(1), Instant(1));
        let first = reads.ask(Term(1), Instant(0), RETRY).unwrap();
        reads.add(Token(2), Instant(2));
        assert_eq!(reads.ask(Term(1), Instant(0), RETRY), None);
        reads.answered(first.id, LogIndex(5));
        assert_eq!(reads.ready(LogIndex(4)), []);
        assert_eq!(reads.ready(LogIndex(5)), [Token(1)]);
        assert!(reads.ask(Term(1), Instant(0), RETRY).is_some());
    }

    #[test]
    fn a_late_answer_to_an_earlier_question_serves_nothing() {
        let mut reads = Reads::new(7);
        reads.add(Token(1), Instant(1));
        let first = reads.ask(Term(1), Instant(0), RETRY).unwrap();
        let second = reads.ask(Term(1), Instant(0) + RETRY, RETRY).unwrap();
        assert_ne!(first.id, second.id);
        reads.answered(first.id, LogIndex(0));
        reads.answered(ReadId { run: 6, ..second.id }, LogIndex(0));
        assert_eq!(reads.ready(LogIndex(9)), []);
        reads.answered(second.id, LogIndex(3));
        assert_eq!(reads.ready(LogIndex(9)), [Token(1)]);
    }

    #[test]
    fn a_read_without_an_answer_is_given_back() {
        let mut reads = Reads::new(7);
        reads.add(Token(1), Instant(1));
        reads.ask(Term(1), Instant(0), RETRY);
        reads.add(Token(2), Instant(5));
        let mut rejected = Vec::new();
        reads.expire(Instant(1), NodeId(2), &mut rejected);
        assert_eq!(rejected, [Rejected { token: Token(1), reason: Rejection::NoLeader, leader: NodeId(2) }]);
    }

    #[test]
    fn a_round_answers_those_who_asked_before_it_began() {
        let reader = |number| Reader { node: NodeId(1), id: ReadId { run: 7, number } };
        let mut rounds = ReadRounds::default();
        rounds.add(reader(1));
        assert!(rounds.begin(LogIndex(4)));
        rounds.add(reader(2));
        assert!(!rounds.begin(LogIndex(5)), "one round at a time");
        assert_eq!(rounds.finish(0), None);
        assert_eq!(rounds.finish(1), Some((LogIndex(4), vec![reader(1)])));
        assert!(rounds.begin(LogIndex(6)));
        assert_eq!(rounds.finish(1), None);
        assert_eq!(rounds.finish(2), Some((LogIndex(6), vec![reader(2)])));
    }
}
