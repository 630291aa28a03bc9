//! What a node goes through when its peers, its host and its clock do as a string of bytes says: for a fuzzer, and to repeat what a fuzzer found.
//!
//! The first bytes choose the cluster, the node's journal and its role. Each further piece is an input: a message whose numbers lie around the node's
//! own, one of its own envelopes sent back or damaged, mere bytes, a report of its disk, a request, some time, a crash. Whatever comes, the node must
//! not panic, and what it does must stay in the bounds that `Subject` checks after each tick.
//!
//! The file needs nothing but the core: `fuzz/` compiles it too.

pub(crate) mod bytes;
mod members;
mod messages;
mod subject;

use amaters_cluster_core::message::{HeartbeatRequest, Message, PreVoteResponse, RequestVoteResponse};
use amaters_cluster_core::{Input, LogIndex, NodeState, Term, Ticket};

use bytes::Bytes;
use subject::Subject;

/// The most inputs of one story.
const MAX_INPUTS: usize = 400;

/// Lets a node go through what the bytes say.
///
/// # Panics
/// If the node panics, or does what no node may do.
pub fn live(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let mut subject = Subject::from_bytes(&mut bytes);
    take_role(&mut subject, bytes.number(5));
    for _ in 0..MAX_INPUTS {
        if bytes.0.is_empty() {
            return;
        }
        take_input(&mut subject, &mut bytes);
        if bytes.number(4) > 0 {
            subject.tick();
        }
    }
}

/// Brings the node into one of its roles, by what its peers would say.
fn take_role(subject: &mut Subject, role: u64) {
    if role == 0 || subject.peers().is_empty() {
        return;
    }
    if role == 1 {
        let term = subject.term().next();
        let heartbeat = HeartbeatRequest {
            term,
            session: 1,
            commit_index: LogIndex(0),
            round: 0,
            sent_at: None,
            failed: Vec::new(),
            doubtful: Vec::new(),
            key: None,
        };
        subject.receive(subject.peers()[0], Message::HeartbeatRequest(heartbeat));
        subject.tick();
        return;
    }
    subject.pass_ms(400);
    subject.tick();
    if role > 2 {
        let (term, proposed_term) = (subject.term(), subject.term().next());
        for peer in subject.peers() {
            subject.receive(peer, Message::PreVoteResponse(PreVoteResponse { term, proposed_term, vote_granted: true }));
        }
        subject.tick();
    }
    if role > 3 {
        subject.complete(u64::MAX);
        subject.tick();
        let term = subject.term();
        for peer in subject.peers() {
            subject.receive(peer, Message::RequestVoteResponse(RequestVoteResponse { term, vote_granted: true }));
        }
        subject.tick();
        assert!(subject.state() == NodeState::Leader || !subject.votes(), "all have voted for it");
    }
}

fn take_input(subject: &mut Subject, bytes: &mut Bytes<'_>) {
    match bytes.number(21) {
        0..=5 => {
            let sender = subject.peer(bytes);
            let message = messages::message(subject, bytes);
            subject.receive(sender, message);
        }
        6 | 7 => subject.receive_echo(bytes),
        8 => {
            let (sender, length) = (subject.peer(bytes), bytes.number(64));
            let envelope = bytes.take(length).to_vec();
            subject.receive_bytes(sender, envelope);
        }
        9 | 10 => subject.complete(bytes.number(4)),
        11 => subject.input(Input::Persisted { ticket: Ticket(bytes.any()) }),
        12 => subject.propose(bytes),
        13 => subject.read(),
        14 => subject.pass_ms(bytes.number(400)),
        15 => subject.change_session(bytes),
        16 | 17 => subject.report_results(bytes.number(4)),
        18 => subject.transfer(bytes),
        19 => subject.change_membership(bytes),
        _ if bytes.number(4) == 0 => subject.restart(bytes.number(8)),
        _ => subject.pass_ms(20),
    }
}

/// A term or an index: most lie around the node's own, and some anywhere.
fn near(bytes: &mut Bytes<'_>, own: u64) -> u64 {
    match bytes.number(16) {
        15 => bytes.any(),
        14 => 0,
        offset => own.saturating_add(offset).saturating_sub(6),
    }
}

/// A term around the node's own.
fn near_term(subject: &Subject, bytes: &mut Bytes<'_>) -> Term {
    Term(near(bytes, subject.term().0))
}
