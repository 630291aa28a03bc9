//! What clients were told, and whether it is true: a command is carried out once and is never lost, a refused one never is, and reads are
//! linearizable.

use std::collections::BTreeMap;

use amaters_cluster_core::{Committed, LogEntry, LogIndex, LogLevel, NodeId, Rejected, Rejection, Reply, Term, Token};

use super::Check;
use super::checker;
use super::command::token_of;
use super::coverage::{Coverage, Rare};
use super::sessions::{Due, Reference, attempt_of};

/// The request of a command, of a session or not.
fn proposal_of(command: &[u8]) -> Option<Token> {
    token_of(command).or_else(|| attempt_of(command))
}

/// All requests, by their tokens, and how far each node's state machine is.
#[derive(Default)]
pub(super) struct Ledger {
    requests: Vec<Request>,
    /// How many committed entries have been booked.
    booked: usize,
    /// The last index whose effects some client has seen.
    seen: LogIndex,
    applied: BTreeMap<NodeId, LogIndex>,
    /// A node's own requests that it has applied in this step, and not told of yet.
    untold: Vec<(NodeId, Token)>,
    pub(super) sessions: Reference,
}

struct Request {
    node: NodeId,
    asked_in: Term,
    kind: Kind,
    state: State,
}

enum Kind {
    /// Where it stands in the log.
    Write { placed: Option<LogIndex> },
    /// What it must see at least.
    Read { floor: LogIndex },
    /// Of who leads.
    Change,
    /// A session is opened, kept or closed.
    Session,
    /// Of who is a member.
    Members,
    /// Of the key.
    Key,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Answered,
    Rejected(Rejection),
    /// Its node crashed: nobody will answer it.
    Orphaned,
}

// Requests come, and nodes go.
impl Ledger {
    /// A command is proposed, under the next token.
    pub(super) fn proposed(&mut self, node: NodeId, asked_in: Term) {
        self.requests.push(Request { node, asked_in, kind: Kind::Write { placed: None }, state: State::Open });
    }

    /// A session is to be opened, kept or closed, under the next token.
    pub(super) fn changes_session(&mut self, node: NodeId, asked_in: Term) {
        self.requests.push(Request { node, asked_in, kind: Kind::Session, state: State::Open });
    }

    /// A read is asked for, under the next token: it must see what any client has seen before.
    pub(super) fn asked(&mut self, node: NodeId, asked_in: Term) {
        self.requests.push(Request { node, asked_in, kind: Kind::Read { floor: self.seen }, state: State::Open });
    }

    /// A change of who leads is asked for, under the next token.
    pub(super) fn asked_for_a_change(&mut self, node: NodeId, asked_in: Term) {
        self.requests.push(Request { node, asked_in, kind: Kind::Change, state: State::Open });
    }

    /// Other members are asked for, under the next token.
    pub(super) fn asked_for_other_members(&mut self, node: NodeId, asked_in: Term) {
        self.requests.push(Request { node, asked_in, kind: Kind::Members, state: State::Open });
    }

    /// Another version of the key is asked for, under the next token.
    pub(super) fn asked_for_another_key(&mut self, node: NodeId, asked_in: Term) {
        self.requests.push(Request { node, asked_in, kind: Kind::Key, state: State::Open });
    }

    /// A node has crashed: its clients hear no more, and its state machine begins anew.
    pub(super) fn crashed(&mut self, node: NodeId) {
        self.applied.remove(&node);
        for request in self.requests.iter_mut().filter(|request| request.node == node && request.state == State::Open) {
            request.state = State::Orphaned;
        }
    }

    fn request(&mut self, token: Token) -> Result<&mut Request, String> {
        let position = usize::try_from(token.0).ok().and_then(|number| number.checked_sub(1));
        position.and_then(|position| self.requests.get_mut(position)).ok_or_else(|| format!("token {token} was never given out"))
    }

    fn answer(&mut self, node: NodeId, token: Token, state: State) -> Result<&mut Request, String> {
        let request = self.request(token)?;
        if request.node != node || request.state != State::Open {
            return Err(format!("node {node} answers request {token} of node {}, which is {:?}", request.node, request.state));
        }
        request.state = state;
        Ok(request)
    }
}

// What nodes tell.
impl Ledger {
    /// Exactly once: no command is committed twice, and none that was refused.
    pub(super) fn check_committed(&mut self, committed: &[checker::Committed]) -> Check {
        for checker::Committed { entry, .. } in &committed[self.booked..] {
            self.place(entry)?;
            self.sessions.book(entry)?;
        }
        self.booked = committed.len();
        Ok(())
    }

    fn place(&mut self, entry: &LogEntry) -> Check {
        let (Some(origin), Some(payload)) = (entry.origin(), entry.payload()) else { return Ok(()) };
        let Some(token) = proposal_of(payload) else { return Err(format!("entry {} holds a command that nobody proposed", entry.id)) };
        let request = self.request(token)?;
        let Kind::Write { placed } = &mut request.kind else { return Err(format!("entry {} is no command", entry.id)) };
        if let Some(index) = placed {
            return Err(format!("exactly once: request {token} is committed at {index} and at {}", entry.id));
        }
        *placed = Some(entry.id.index);
        match request.state {
            State::Rejected(reason) if reason != Rejection::UnknownOutcome => {
                Err(format!("request {token} was refused ({reason:?}), and is committed as {}", entry.id))
            }
            _ if request.node != origin.node => {
                Err(format!("entry {} names node {} as its origin: it is node {}", entry.id, origin.node, request.node))
            }
            _ => Ok(()),
        }
    }

    /// State-machine safety: all apply the committed commands, each once, in their order, and tell the proposer's client.
    pub(super) fn check_applied(&mut self, node: NodeId, commands: &[Committed], committed: &[checker::Committed]) -> Check {
        for command in commands {
            let before = self.applied.insert(node, command.index).unwrap_or_default();
            if command.index <= before {
                return Err(format!("node {node} applies entry {} after entry {before}", command.index));
            }
            let position = |index: LogIndex| usize::try_from(index.0).expect("a log fits into memory");
            let Some(entries) = committed.get(position(before)..position(command.index)) else {
                return Err(format!("node {node} applies entry {}, which is not committed", command.index));
            };
            let (applied, skipped) = entries.split_last().expect("the range holds this command's entry at least");
            skipped.iter().try_for_each(|skipped| self.check_skipped(node, &skipped.entry))?;
            let due = self.sessions.attempt_at(command.index).map(|(_, due)| due);
            if due.is_some_and(|due| due != Due::First) || due.is_some() != command.result_wanted {
                return Err(format!("node {node} applies entry {}, to which {due:?} was due", command.index));
            }
            if applied.entry.payload() != Some(&command.command) || applied.entry.id.term != command.term {
                return Err(format!("node {node} applies another command at {} than is committed", command.index));
            }
            self.check_told(node, command)?;
        }
        Ok(())
    }

    /// A node's state is that of a snapshot: the one that those have who applied its entries.
    pub(super) fn check_restored(&mut self, node: NodeId, machine: &[Committed], committed: &[checker::Committed]) -> Check {
        self.applied.remove(&node);
        self.check_applied(node, machine, committed)
    }

    /// A node has left an entry out: that is right for a command which a session has carried out before, or refuses.
    fn check_skipped(&mut self, node: NodeId, entry: &LogEntry) -> Check {
        match self.sessions.attempt_at(entry.id.index) {
            None | Some((_, Due::First)) if entry.payload().is_some() => Err(format!("node {node} does not apply entry {}", entry.id)),
            Some((token, Due::Refused(_))) => self.expect_told(node, token),
            _ => Ok(()),
        }
    }

    fn check_told(&mut self, node: NodeId, command: &Committed) -> Check {
        let proposed = proposal_of(&command.command).unwrap_or_default();
        match command.token {
            Some(token) if token != proposed => Err(format!("the command of request {proposed} comes with token {token}")),
            Some(token) => {
                self.answer(node, token, State::Answered)?;
                self.seen = self.seen.max(command.index);
                Ok(())
            }
            None => self.expect_told(node, proposed),
        }
    }

    fn expect_told(&mut self, node: NodeId, token: Token) -> Check {
        let request = self.request(token)?;
        if request.node == node && request.state == State::Open {
            self.untold.push((node, token));
        }
        Ok(())
    }

    /// A repeated command is answered with what it gave first.
    pub(super) fn check_replied(&mut self, node: NodeId, replies: &[Reply], coverage: &mut Coverage) -> Check {
        for reply in replies {
            self.answer(node, reply.token, State::Answered)?;
            let repeated = self.sessions.check_reply(node, reply)?;
            coverage.hit(if repeated { Rare::RepeatsAnswered } else { Rare::SessionsChanged });
            if repeated {
                self.seen = self.seen.max(reply.index);
            }
        }
        Ok(())
    }

    /// At the end of a step: whoever waits for a request that is applied has been told, be it that its outcome was unknown.
    pub(super) fn check_all_told(&mut self) -> Check {
        for (node, token) in std::mem::take(&mut self.untold) {
            if self.request(token)?.state == State::Open {
                return Err(format!("node {node} applies its own request {token} without telling"));
            }
        }
        Ok(())
    }

    /// Linearizable reads: each sees what any client had seen when it was asked for.
    pub(super) fn check_served(&mut self, node: NodeId, tokens: &[Token], term: Term, coverage: &mut Coverage) -> Check {
        let state = self.applied.get(&node).copied().unwrap_or_default();
        for token in tokens {
            let request = self.answer(node, *token, State::Answered)?;
            coverage.hit(Rare::ReadsServed);
            coverage.hit_if(term > request.asked_in, Rare::ReadsAcrossLeaders);
            let Kind::Read { floor } = request.kind else { return Err(format!("request {token} is not a read, and is served")) };
            if state < floor {
                return Err(format!(
                    "stale read: node {node} serves read {token} from entry {state}, a client had seen entry {floor} before"
                ));
            }
        }
        self.seen = self.seen.max(state);
        Ok(())
    }

    /// A change has happened: a transfer, at a node that has seen its successor.
    pub(super) fn check_done(&mut self, node: NodeId, tokens: &[Token], coverage: &mut Coverage) -> Check {
        for token in tokens {
            let request = self.answer(node, *token, State::Answered)?;
            coverage.hit(match request.kind {
                Kind::Change => Rare::TransfersDone,
                Kind::Members => Rare::ChangesDone,
                Kind::Key => Rare::RotationsDone,
                Kind::Write { .. } | Kind::Read { .. } | Kind::Session => {
                    return Err(format!("request {token} changes no leader, no members and no key, and is done"));
                }
            });
        }
        Ok(())
    }

    pub(super) fn check_rejected(&mut self, node: NodeId, requests: &[Rejected], coverage: &mut Coverage) -> Check {
        for Rejected { token, reason, .. } in requests {
            let request = self.answer(node, *token, State::Rejected(*reason))?;
            match (reason, &request.kind) {
                (Rejection::UnknownOutcome, Kind::Members) => coverage.hit(Rare::ChangesUnknown),
                (Rejection::NotCaughtUp, Kind::Members) => coverage.hit(Rare::NotCaughtUp),
                (Rejection::UnknownOutcome, Kind::Key) => coverage.hit(Rare::RotationsUnknown),
                (Rejection::KeyNotHeld, Kind::Key) => coverage.hit(Rare::RotationsNotHeld),
                (reason, Kind::Key) if is_of_key(*reason) => coverage.hit(Rare::RotationsRefused),
                (reason, Kind::Members) if is_of_members(*reason) => coverage.hit(Rare::ChangesRefused),
                (Rejection::UnknownTarget, Kind::Change) => coverage.hit(Rare::TransfersRefused),
                (Rejection::Removed, Kind::Write { .. } | Kind::Read { .. } | Kind::Session) => coverage.hit(Rare::RefusedAsRemoved),
                (Rejection::NoLeader, _) => coverage.hit(Rare::NoLeader),
                (Rejection::UnknownOutcome, _) => coverage.hit(Rare::UnknownOutcomes),
                (Rejection::Overloaded, _) => coverage.hit(Rare::Overloaded),
                (Rejection::TooLarge, _) => coverage.hit(Rare::TooLarge),
                (Rejection::TransferFailed, Kind::Change) => coverage.hit(Rare::TransfersFailed),
                (Rejection::TargetSilent | Rejection::TransferUnderWay | Rejection::NotLeader, Kind::Change) => {
                    coverage.hit(Rare::TransfersRefused);
                }
                (Rejection::SessionExpired, _) => coverage.hit(Rare::SessionsExpired),
                (Rejection::ResponseDropped, _) => coverage.hit(Rare::ResponsesDropped),
                (Rejection::SessionFull, _) => coverage.hit(Rare::SessionsFull),
                (Rejection::DiskFull, Kind::Write { .. } | Kind::Session) => coverage.hit(Rare::RefusedForSpace),
                (Rejection::LogFull, _) => return Err(format!("the log of node {node} is full")),
                (reason, _) => return Err(format!("request {token} is refused for a reason that is not its own: {reason:?}")),
            }
            let by_session = matches!(reason, Rejection::SessionExpired | Rejection::ResponseDropped | Rejection::SessionFull);
            if by_session && matches!(request.kind, Kind::Write { .. }) {
                self.sessions.check_refusal(node, *token, *reason)?;
            } else if let Kind::Write { placed: Some(index) } = request.kind
                && *reason != Rejection::UnknownOutcome
            {
                return Err(format!("request {token} is refused ({reason:?}), and was committed at {index}"));
            }
        }
        Ok(())
    }

    /// Nothing here is faulty but what the simulation takes away: no node has reason to complain of another, or of its disk.
    pub(super) fn check_note(node: NodeId, level: LogLevel, message: &str) -> Check {
        // Keys come late, or not at all.
        let lacks_key = message.contains("it goes on once the key is there");
        if level == LogLevel::Error && !lacks_key || message.starts_with("an envelope from") {
            return Err(format!("node {node} complains: {message}"));
        }
        Ok(())
    }

    /// Every request of a node that lived on has been answered by now.
    pub(super) fn check_all_answered(&self) -> Check {
        let open = self.requests.iter().position(|request| request.state == State::Open);
        open.map_or(Ok(()), |position| Err(format!("request {} at node {} was never answered", position + 1, self.requests[position].node)))
    }

    /// Whether a request was answered, and not turned down.
    pub(super) fn is_answered(&mut self, token: Token) -> bool {
        self.request(token).is_ok_and(|request| request.state == State::Answered)
    }
}

/// Whether it is a reason to refuse a change of the key.
fn is_of_key(reason: Rejection) -> bool {
    matches!(
        reason,
        Rejection::NotLeader | Rejection::NotReady | Rejection::ChangeUnderWay | Rejection::KeyVersionInUse | Rejection::NotEncrypted
    )
}

/// Whether it is a reason to refuse a change of the members.
fn is_of_members(reason: Rejection) -> bool {
    matches!(
        reason,
        Rejection::NotLeader
            | Rejection::NotReady
            | Rejection::TransferUnderWay
            | Rejection::ChangeUnderWay
            | Rejection::AlreadyMember
            | Rejection::NotMember
            | Rejection::MemberLimits
    )
}
