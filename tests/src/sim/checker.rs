//! Raft's safety properties (Raft paper, figure 3), checked on the node that moved, after each step.
//!
//! What is checked costs the same however long the logs are: only what changed since the last step is looked at, and by induction that is enough.
//! [`Checker::check_whole_logs`] does without the induction, now and then.

use std::collections::BTreeMap;

use amaters_cluster_core::{
    ChainPoint, ConfigState, EncryptedPayload, EntryId, EntryKind, KeyVersion, LogEntry, LogIndex, Node, NodeId, NodeState, Term,
};

use super::Check;
use super::coverage::{Coverage, Rare};
use super::seals::Opener;
use crate::cluster::Cluster;

/// What has been seen of all nodes so far.
pub(super) struct Checker {
    /// The configuration by which entries were committed last.
    deciding: ConfigState,
    /// The latest committed configuration.
    configuration: ConfigState,
    /// How many configurations ever stood in a log.
    configurations: usize,
    leaders: BTreeMap<Term, NodeId>,
    /// All entries that ever stood in a log: at each index, by term.
    written: Vec<BTreeMap<Term, Written>>,
    committed: Vec<Committed>,
    /// Opens what is committed, if the log is sealed.
    opener: Option<Opener>,
    views: BTreeMap<NodeId, View>,
}

/// An entry, and the one before it.
struct Written {
    previous: Term,
    kind: EntryKind,
    /// Where the chain stands behind it, if the log is sealed.
    point: Option<ChainPoint>,
}

/// A committed entry.
pub(super) struct Committed {
    /// What it says: opened, if the log is sealed.
    pub(super) entry: LogEntry,
    /// The entry as logs have it.
    stored: LogEntry,
    /// The term of the leader that committed it.
    in_term: Term,
}

/// A node as it was after its last step.
#[derive(Default)]
struct View {
    terms: Vec<Term>,
    /// The configuration that held.
    configuration: Option<ConfigState>,
    /// The place of the latest change of the key that its log was seen to have.
    switch: usize,
    /// The term that it led.
    led: Option<Term>,
    commit_index: LogIndex,
    /// How many of the committed entries its log holds.
    held: usize,
    /// How many of the committed entries its disk holds. Outlives crashes.
    durable: usize,
}

impl Checker {
    pub(super) fn new(cluster: &Cluster, sealed: bool) -> Self {
        let views: BTreeMap<_, _> = cluster.ids().into_iter().map(|id| (id, View::default())).collect();
        let initial = cluster.ids().first().and_then(|id| cluster.node(*id)).expect("a cluster has a node that is up").configuration();
        Self {
            deciding: initial.clone(),
            configuration: initial.clone(),
            configurations: 0,
            leaders: BTreeMap::new(),
            written: Vec::new(),
            committed: Vec::new(),
            opener: sealed.then(Opener::new),
            views,
        }
    }

    /// The latest committed configuration.
    pub(super) fn latest_configuration(&self) -> &ConfigState {
        &self.configuration
    }

    /// How many configurations ever stood in a log.
    pub(super) fn configurations(&self) -> usize {
        self.configurations
    }

    /// All entries known to be committed.
    pub(super) fn committed(&self) -> &[Committed] {
        &self.committed
    }

    /// A node has crashed: it starts again with the log that its disk holds.
    pub(super) fn crashed(&mut self, id: NodeId) {
        let view = self.views.entry(id).or_default();
        *view = View { durable: view.durable, ..View::default() };
    }

    /// A node has repaired itself. It has all that others may count on: those hold on without the rest.
    pub(super) fn repaired(&mut self, id: NodeId) {
        self.views.entry(id).or_default().durable = 0;
    }

    /// A node has moved.
    pub(super) fn check(&mut self, cluster: &Cluster, id: NodeId, coverage: &mut Coverage) -> Check {
        let Some(node) = cluster.node(id) else { return Ok(()) };
        self.check_log(id, node, length(cluster.member(id).disk.durable().last()), coverage)?;
        self.check_leader(id, node, coverage)?;
        self.check_commit(id, node, coverage)?;
        self.check_copies(cluster)?;
        self.check_completeness(id, node)?;
        self.views.entry(id).or_default().configuration = Some(node.configuration().clone());
        Ok(())
    }

    /// Log matching: entries with the same index and term are equal, and so are all before them. A leader only adds to its log.
    fn check_log(&mut self, id: NodeId, node: &Node, durable: usize, coverage: &mut Coverage) -> Check {
        let view = self.views.entry(id).or_default();
        let (base, last) = (node.log().base(), length(node.log().last().index));
        begin_with_snapshot(&mut view.terms, base, &self.committed)?;
        let mut same = last.min(view.terms.len());
        let mut changed = false;
        while same > length(base.index) && node.log().term_at(index(same)) != Some(view.terms[same - 1]) {
            same -= 1;
        }
        if same < view.terms.len() {
            changed = true;
            coverage.hit(Rare::Truncations);
            coverage.hit_if(durable < view.terms.len(), Rare::TruncationsUnderWay);
            coverage.hit_if(view.switch > same, Rare::RotationsTruncated);
            let undone = view.configuration.as_ref().is_some_and(|state| state.version() > index(same));
            coverage.hit_if(undone, Rare::ConfigurationsTruncated);
            if view.led.is_some() && view.led == led(node) {
                return Err(format!("leader append-only: node {id} leads and removed entry {} of its log", same + 1));
            }
        }
        view.terms.truncate(same);
        view.switch = view.switch.min(same);
        for entry in node.log().iter_from(index(same + 1)) {
            let previous = view.terms.last().copied().unwrap_or_default();
            view.terms.push(entry.id.term);
            let point = node.log().point_at(entry.id.index);
            check_written(&mut self.written, entry, previous, point).map_err(|error| format!("{error}, as node {id} has it"))?;
            if entry.switch().is_some() {
                view.switch = length(entry.id.index);
            }
            let is_configuration = matches!(entry.kind, EntryKind::Configuration(_));
            self.configurations += usize::from(is_configuration);
            changed |= is_configuration;
        }
        match &view.configuration {
            Some(before) if !changed && before == node.configuration() => Ok(()),
            _ => check_configuration(id, node),
        }
    }

    /// Election safety: at most one leader in a term.
    fn check_leader(&mut self, id: NodeId, node: &Node, coverage: &mut Coverage) -> Check {
        let view = self.views.entry(id).or_default();
        let (before, now) = (view.led, led(node));
        view.led = now;
        if let Some(term) = before.filter(|_| now.is_none()) {
            coverage.hit(Rare::SteppedDown);
            coverage.hit_if(term == node.persistent_state().current_term, Rare::LostQuorum);
        }
        let Some(term) = now.filter(|_| now != before) else { return Ok(()) };
        coverage.hit(Rare::Elections);
        coverage.hit_if(node.configuration().outgoing().is_some(), Rare::ElectionsInJoint);
        match self.leaders.insert(term, id) {
            Some(other) if other != id => Err(format!("election safety: nodes {other} and {id} both lead term {term}")),
            Some(_) => Err(format!("election safety: node {id} leads term {term} a second time")),
            None => Ok(()),
        }
    }

    /// The commit index never falls, and everybody commits the same entries.
    fn check_commit(&mut self, id: NodeId, node: &Node, coverage: &mut Coverage) -> Check {
        let commit_index = node.log().commit_index();
        let view = self.views.entry(id).or_default();
        if commit_index < view.commit_index {
            return Err(format!("the commit index of node {id} fell from {} to {commit_index}", view.commit_index));
        }
        view.commit_index = commit_index;
        let in_term = node.persistent_state().current_term;
        let (known, before) = (self.committed.len(), view.configuration.clone());
        for entry in node.log().iter_from(index(self.committed.len() + 1)).take_while(|entry| entry.id.index <= commit_index) {
            coverage.hit_if(entry.id.term < in_term, Rare::EarlierTermsCommitted);
            if entry.switch().is_some() {
                coverage.hit_if(entry.id.term < in_term, Rare::RotationsByAnother);
                coverage.hit_if(surrounded(node, entry.id.index), Rare::RotationsUnderLoad);
            }
            let opened = self.opener.as_mut().map(|opener| opener.open(entry)).transpose()?;
            self.committed.push(Committed { entry: opened.unwrap_or_else(|| entry.clone()), stored: entry.clone(), in_term });
        }
        if self.committed.len() > known {
            // A leader counts by what it had before it took the next step of a change, in the same moment.
            self.deciding = before.unwrap_or_else(|| node.configuration().clone());
        }
        for entry in self.committed[known..].iter().map(|committed| &committed.entry) {
            let EntryKind::Configuration(next) = &entry.kind else { continue };
            let appended_by = |at: usize| self.committed[at - 1].entry.id.term;
            let by_another = length(self.configuration.version()) > 0 && appended_by(length(self.configuration.version())) < entry.id.term;
            follow_configuration(&self.configuration, next, by_another, coverage)?;
            coverage.hit_if(self.leaders.get(&in_term) == Some(&id) && !next.is_voter(id), Rare::LeadersRemoved);
            self.configuration = next.clone();
        }
        let view = self.views.entry(id).or_default();
        let base = node.log().base().index;
        view.held = still_held(&self.committed, view.held, |id| id.index < base || node.log().contains(id))
            .map_err(|lost| format!("node {id} held the committed entry {lost}, and has lost it"))?;
        if length(commit_index) > view.held {
            let (ours, theirs) = (node.log().term_at(index(view.held + 1)), self.committed[view.held].entry.id);
            let ours = ours.unwrap_or_default();
            return Err(format!("state-machine safety: node {id} commits {}@{ours}, but {theirs} is committed", theirs.index));
        }
        Ok(())
    }

    /// A committed entry is durable on a majority of each configuration by which it was committed, and never leaves a disk again.
    fn check_copies(&mut self, cluster: &Cluster) -> Check {
        for (id, view) in &mut self.views {
            let member = cluster.member(*id);
            let image = member.disk.durable();
            let vault = member.vault.newest().map_or(LogIndex::NONE, |(id, _)| id.index);
            // What a damaged node had counts on until it has it again, since others may have committed for that; what comes to it until then does not.
            let (vault, image) = member.lost.as_ref().map_or((vault, image), |(vault, image)| (*vault, image));
            view.durable = still_held(&self.committed, view.durable, |id| id.index <= vault || image.holds(id))
                .map_err(|lost| format!("the disk of node {id} held the committed entry {lost}, and has lost it"))?;
        }
        for half in self.deciding.halves() {
            let mut copies: Vec<usize> = half.voters.keys().map(|voter| self.views.get(voter).map_or(0, |view| view.durable)).collect();
            copies.sort_unstable();
            let on_majority = copies[(copies.len() - 1) / 2];
            if let Some(Committed { entry, .. }) = self.committed.get(on_majority) {
                let voters: Vec<_> = half.voters.keys().map(ToString::to_string).collect();
                return Err(format!("entry {} is committed, but not durable on a majority of {}", entry.id, voters.join(", ")));
            }
        }
        Ok(())
    }

    /// Leader completeness: a leader holds all that leaders of earlier terms have committed.
    fn check_completeness(&self, id: NodeId, node: &Node) -> Check {
        let Some(term) = led(node) else { return Ok(()) };
        let due = self.committed.partition_point(|committed| committed.in_term < term);
        let held = self.views[&id].held;
        if held >= due {
            return Ok(());
        }
        Err(format!("leader completeness: node {id} leads term {term} without the committed entry {}", self.committed[held].entry.id))
    }

    /// Log matching and state-machine safety once more, over all entries of all nodes.
    pub(super) fn check_whole_logs(&mut self, cluster: &Cluster) -> Check {
        for id in cluster.ids() {
            let Some(node) = cluster.node(id) else { continue };
            let base = node.log().base();
            let mut previous = base;
            for entry in node.log().iter_from(LogIndex(1)) {
                if entry.id.index != previous.index.next() {
                    return Err(format!("entry {} follows entry {previous} in the log of node {id}", entry.id));
                }
                check_written(&mut self.written, entry, previous.term, node.log().point_at(entry.id.index))?;
                previous = entry.id;
            }
            let (from, to) = (length(base.index), length(node.log().commit_index()));
            let committed = self.committed[from..to].iter().map(|committed| &committed.stored);
            if !committed.eq(node.log().iter_from(LogIndex(1)).take(to - from)) {
                return Err(format!("state-machine safety: the committed entries of node {id} are not those of the cluster"));
            }
        }
        Ok(())
    }
}

/// What holds at a node is what its log says last.
fn check_configuration(id: NodeId, node: &Node) -> Check {
    let state = node.configuration();
    let logged = node.log().get(state.version()).map(|entry| &entry.kind);
    let is_logged = state.version() <= node.log().base().index || logged == Some(&EntryKind::Configuration(state.clone()));
    let is_last = node.log().iter_from(state.version().next()).all(|entry| !matches!(entry.kind, EntryKind::Configuration(_)));
    if is_logged && is_last { Ok(()) } else { Err(format!("node {id} goes by configuration {}, its log by another", state.version())) }
}

/// Configurations lead from one to the next by a joint one (Raft paper, §6), unless no voter changes.
fn follow_configuration(before: &ConfigState, next: &ConfigState, by_another: bool, coverage: &mut Coverage) -> Check {
    let (from, to) = (before.latest(), next.latest());
    let fits = match (before.outgoing(), next.outgoing()) {
        (None, None) => from.voters == to.voters,
        (None, Some(old)) => from == old,
        (Some(_), None) => (&from.voters, &from.learners) == (&to.voters, &to.learners),
        (Some(_), Some(_)) => false,
    };
    if !fits {
        return Err(format!("configuration {} is committed after {}, which does not lead there", next.version(), before.version()));
    }
    match (before.outgoing(), next.outgoing()) {
        (_, Some(_)) => {
            coverage.hit(Rare::JointEntered);
            coverage.hit_if(to.voters.keys().any(|id| from.learners.contains_key(id)), Rare::LearnersPromoted);
        }
        (Some(_), None) => {
            coverage.hit(Rare::JointLeft);
            coverage.hit_if(by_another, Rare::JointLeftByAnother);
        }
        (None, None) => coverage.hit_if(to.learners.keys().any(|id| !from.learners.contains_key(id)), Rare::LearnersAdded),
    }
    Ok(())
}

fn check_written(written: &mut Vec<BTreeMap<Term, Written>>, entry: &LogEntry, previous: Term, point: Option<ChainPoint>) -> Check {
    let position = length(entry.id.index) - 1;
    if written.len() <= position {
        written.resize_with(position + 1, BTreeMap::new);
    }
    if let Some(point) = point {
        check_version(written, entry, previous, point)?;
    }
    let known = written[position].entry(entry.id.term).or_insert_with(|| Written { previous, kind: entry.kind.clone(), point });
    if known.previous != previous || known.kind != entry.kind {
        return Err(format!(
            "log matching: there are two entries {}, one after an entry of term {} and one of {previous}",
            entry.id, known.previous
        ));
    }
    if known.point == point { Ok(()) } else { Err(format!("links: the chain up to entry {} has two ends", entry.id)) }
}

/// An entry is sealed with the version that the entries before it have led to, and what it changes that to is what holds behind it.
fn check_version(written: &[BTreeMap<Term, Written>], entry: &LogEntry, previous: Term, point: ChainPoint) -> Check {
    let before = match length(entry.id.index).checked_sub(2) {
        None => Some(KeyVersion(1)),
        Some(position) => written[position].get(&previous).and_then(|written| written.point).map(|point| point.version),
    };
    let Some(before) = before else { return Err(format!("entry {} follows one of term {previous} that nobody wrote", entry.id)) };
    let sealed = entry.payload().and_then(|payload| EncryptedPayload::parse(payload.clone()).ok()).map(|sealed| sealed.header().version);
    if sealed.is_some_and(|version| version != before) || point.version != entry.switch().unwrap_or(before) {
        return Err(format!("entry {} is sealed with version {sealed:?} where {before} holds, and {} behind it", entry.id, point.version));
    }
    Ok(())
}

/// Whether there are commands on both sides of an entry, and those behind it are not committed yet.
fn surrounded(node: &Node, index: LogIndex) -> bool {
    let is_command = |at: LogIndex| node.log().get(at).is_some_and(|entry| entry.payload().is_some());
    is_command(index.previous()) && is_command(node.log().commit_index().max(index).next())
}

/// A snapshot stands for the beginning of a log: it is that of the committed entries.
fn begin_with_snapshot(terms: &mut Vec<Term>, base: EntryId, committed: &[Committed]) -> Check {
    let length = length(base.index);
    if terms.get(length.wrapping_sub(1)).copied() == Some(base.term) || length == 0 {
        return Ok(());
    }
    match committed.get(length - 1) {
        Some(last) if last.entry.id == base => {
            *terms = committed[..length].iter().map(|committed| committed.entry.id.term).collect();
            Ok(())
        }
        _ => Err(format!("a log begins behind entry {base}, which is not committed")),
    }
}

/// How many committed entries, from the first on, a log holds that held `held` of them before; or the one that it lost.
fn still_held(committed: &[Committed], mut held: usize, holds: impl Fn(EntryId) -> bool) -> Result<usize, EntryId> {
    if let Some(last) = held.checked_sub(1).map(|last| committed[last].entry.id)
        && !holds(last)
    {
        return Err(last);
    }
    while committed.get(held).is_some_and(|next| holds(next.entry.id)) {
        held += 1;
    }
    Ok(held)
}

/// The term that a node leads.
fn led(node: &Node) -> Option<Term> {
    (node.state() == NodeState::Leader).then(|| node.persistent_state().current_term)
}

fn index(length: usize) -> LogIndex {
    LogIndex(length as u64)
}

fn length(index: LogIndex) -> usize {
    usize::try_from(index.0).expect("a log fits into memory")
}
