//! What nodes say and do, as lines for a reader: messages in the paper's terms, entries as `index@term`.

use std::fmt::Write as _;

use amaters_cluster_core::message::{AppendOutcome, InstallProgress, Message};
use amaters_cluster_core::{
    ClusterConfig, ConfigState, EntryKind, LogEntry, NodeId, NodeState, Operation, Proposal, Rejection, SessionChange, SessionStamp, wire,
};

/// A message, as `AppendEntries term=2 prev=3@1 entries=[4@2 "x=1"] commit=3`.
pub(super) fn message(message: &Message) -> String {
    let term = message.term();
    match message {
        Message::PreVoteRequest(m) => format!("PreVote term={term} proposed={} last={}", m.proposed_term, m.last_log),
        Message::PreVoteResponse(m) => {
            format!("PreVoteResponse term={term} proposed={} {}", m.proposed_term, granted(m.vote_granted))
        }
        Message::RequestVoteRequest(m) => {
            format!("RequestVote term={term} last={}{}", m.last_log, if m.by_transfer { " by transfer" } else { "" })
        }
        Message::RequestVoteResponse(m) => format!("RequestVoteResponse term={term} {}", granted(m.vote_granted)),
        Message::AppendEntriesRequest(m) => {
            format!("AppendEntries term={term} prev={} entries={} commit={}", m.prev_log, entries(&m.entries), m.leader_commit)
        }
        Message::AppendEntriesResponse(m) => match &m.outcome {
            AppendOutcome::Appended { match_index } => format!("AppendEntriesResponse term={term} match={match_index}"),
            AppendOutcome::Conflict { rejected, conflict, first_of_term } => {
                format!("AppendEntriesResponse term={term} refused prev={rejected}, has {conflict}, its term from {first_of_term}")
            }
        },
        Message::HeartbeatRequest(m) => {
            let wanted = if m.sent_at.is_some() { " wants a promise" } else { "" };
            format!("Heartbeat term={term} commit={}{}{wanted}", m.commit_index, round(m.round))
        }
        Message::CommitNotice(m) => format!("CommitNotice term={term} commit={}", m.commit_index),
        Message::HeartbeatResponse(m) => {
            let promised = m.promise.map_or(String::new(), |promise| format!(" promises {} ms", promise.lasts.as_millis()));
            format!("HeartbeatResponse term={term}{}{promised}", round(m.round))
        }
        Message::InstallSnapshotRequest(m) => {
            let done = if m.done { ", the end" } else { "" };
            format!("InstallSnapshot term={term} snapshot={} offset={} bytes={}{done}", m.snapshot, m.offset, m.data.len())
        }
        Message::InstallSnapshotResponse(m) => match m.progress {
            InstallProgress::Received { end } => format!("InstallSnapshotResponse term={term} snapshot={} received={end}", m.snapshot),
            InstallProgress::Installed => format!("InstallSnapshotResponse term={term} snapshot={} installed", m.snapshot),
        },
        Message::RemovalNotice(m) => format!("RemovalNotice term={term} version={}", m.version),
        Message::TimeoutNowRequest(_) => format!("TimeoutNow term={term}"),
        Message::ForwardRequest(m) => {
            let commands: Vec<_> =
                (m.proposals.iter()).map(|forwarded| forwarded.proposal.as_ref().map_or("given up".to_owned(), proposal)).collect();
            format!("Forward term={term} position={} [{}]", m.position, commands.join(", "))
        }
        Message::ForwardResponse(m) => {
            let refused: Vec<_> = m.refused.iter().map(|(_, reason)| rejection(*reason)).collect();
            let refused = if refused.is_empty() { String::new() } else { format!(" refused: {}", refused.join(", ")) };
            format!("ForwardResponse term={term} received={}{refused}", m.received)
        }
        Message::ReadIndexRequest(m) => format!("ReadIndex term={term} number={}", m.id.number),
        Message::ReadIndexResponse(m) => format!("ReadIndexResponse term={term} number={} index={}", m.id.number, m.read_index),
    }
}

/// Entries, as `[4@2 "x=1", 5@2 no-op]`.
pub(super) fn entries<'a>(entries: impl IntoIterator<Item = &'a LogEntry>) -> String {
    let entries: Vec<_> = entries.into_iter().map(entry).collect();
    format!("[{}]", entries.join(", "))
}

/// An entry, as `4@2 "x=1"`.
pub(super) fn entry(entry: &LogEntry) -> String {
    match &entry.kind {
        EntryKind::NoOp => format!("{} no-op", entry.id),
        EntryKind::Command { payload, .. } => format!("{} {}", entry.id, command(payload)),
        EntryKind::SessionCommand { stamp, time, payload, .. } => format!("{} {} at {time} ms", entry.id, in_session(stamp, payload)),
        EntryKind::Session { change, time, .. } => format!("{} {} at {time} ms", entry.id, session_change(change)),
        EntryKind::Configuration(state) => format!("{} {}", entry.id, configuration(state)),
        EntryKind::KeyVersion(version) => format!("{} seals with version {version}", entry.id),
    }
}

fn proposal(proposal: &Proposal) -> String {
    match proposal {
        Proposal::Command(payload) => command(payload),
        Proposal::SessionCommand { stamp, payload } => in_session(stamp, payload),
        Proposal::Session(change) => session_change(change),
    }
}

/// A command of a session, as `"x=1" as 3 of session 2`.
pub(super) fn in_session(stamp: &SessionStamp, payload: &[u8]) -> String {
    format!("{} as {} of session {}", command(payload), stamp.sequence, stamp.session)
}

/// What happens to a session.
pub(super) fn session_change(change: &SessionChange) -> String {
    match change {
        SessionChange::Open { timeout_ms } => format!("opens a session of {timeout_ms} ms"),
        SessionChange::KeepAlive { session, .. } => format!("keeps session {session}"),
        SessionChange::Close { session } => format!("closes session {session}"),
    }
}

/// A configuration, as `voters 1 2 3, learners 4`; a joint one as `voters 1 2 3 and 1 2 4`.
pub(super) fn configuration(state: &ConfigState) -> String {
    let list = |ids: Vec<&NodeId>| ids.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let voters = |config: &ClusterConfig| list(config.voters.keys().collect());
    let learners = list(state.latest().learners.keys().collect());
    let old = state.outgoing().map(|old| format!("{} and ", voters(old))).unwrap_or_default();
    let learners = if learners.is_empty() { String::new() } else { format!(", learners {learners}") };
    format!("voters {old}{}{learners}", voters(state.latest()))
}

/// A command in quotes; a long one is cut.
pub(super) fn command(command: &[u8]) -> String {
    const LONGEST: usize = 16;
    let text = String::from_utf8_lossy(command);
    if text.chars().count() <= LONGEST {
        return format!("\"{text}\"");
    }
    let head: String = text.chars().take(LONGEST / 2).collect();
    format!("\"{head}…\" ({} bytes)", command.len())
}

/// What is written to disk, as `term=2 vote=1, [4@2 "x=1"]`.
pub(super) fn operations(operations: &[Operation]) -> String {
    let mut text = String::new();
    for operation in operations {
        let separator = if text.is_empty() { "" } else { ", " };
        let written = match operation {
            Operation::HardState(bytes) => match wire::decode_hard_state(bytes) {
                Ok(state) if state.voted_for.is_none() => format!("term={}", state.current_term),
                Ok(state) => format!("term={} vote={}", state.current_term, state.voted_for),
                Err(error) => error.to_string(),
            },
            Operation::Compact { first, .. } => format!("the log from {first}"),
            Operation::Append { first, count, entries: bytes } => match wire::decode_entries(*first, *count, bytes) {
                Ok((decoded, _)) => entries(&decoded),
                Err(error) => error.to_string(),
            },
        };
        let _ = write!(text, "{separator}{written}"); // a String takes everything
    }
    text
}

/// A role.
pub(super) fn state(state: NodeState) -> &'static str {
    match state {
        NodeState::Follower => "follower",
        NodeState::PreCandidate => "pre-candidate",
        NodeState::Candidate => "candidate",
        NodeState::Leader => "leader",
        NodeState::Learner => "learner",
    }
}

/// Why a request came to nothing.
pub(super) fn rejection(reason: Rejection) -> &'static str {
    match reason {
        Rejection::NoLeader => "no leader",
        Rejection::UnknownOutcome => "unknown outcome",
        Rejection::Overloaded => "overloaded",
        Rejection::TooLarge => "too large",
        Rejection::LogFull => "log full",
        Rejection::DiskFull => "disk full",
        Rejection::NotLeader => "not the leader",
        Rejection::UnknownTarget => "unknown target",
        Rejection::TargetSilent => "target silent",
        Rejection::TransferUnderWay => "transfer under way",
        Rejection::TransferFailed => "transfer failed",
        Rejection::SessionExpired => "no such session",
        Rejection::ResponseDropped => "its response is not kept",
        Rejection::SessionFull => "too many open commands",
        Rejection::ChangeUnderWay => "change under way",
        Rejection::NotReady => "not ready",
        Rejection::AlreadyMember => "a member already",
        Rejection::NotMember => "no member",
        Rejection::MemberLimits => "beyond the limits of members",
        Rejection::NotCaughtUp => "not caught up",
        Rejection::Removed => "removed",
        Rejection::SnapshotUnderWay => "snapshot under way",
        Rejection::SnapshotFailed => "snapshot failed",
        Rejection::NotEncrypted => "not encrypted",
        Rejection::KeyVersionInUse => "this version, or a later one, is in use",
        Rejection::KeyNotHeld => "a voter lacks the key",
    }
}

fn granted(vote_granted: bool) -> &'static str {
    if vote_granted { "granted" } else { "refused" }
}

fn round(round: u64) -> String {
    if round == 0 { String::new() } else { format!(" round={round}") }
}
