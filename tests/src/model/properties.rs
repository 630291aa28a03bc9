//! Raft's safety properties (Raft paper, figure 3), of each state.

use std::collections::BTreeMap;
use std::sync::Arc;

use amaters_cluster_core::{LogIndex, NodeId, NodeState, Term};

use super::machine::{Entry, View, What};
use super::store::Step;

/// Their names.
pub(super) const PROPERTIES: [&str; 6] =
    ["election safety", "log matching", "leader completeness", "state machine safety", "nothing acknowledged is lost", "nobody complains"];

/// What has been seen on the way to a state, as far as the properties speak of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Witness {
    /// Who led each term, by position.
    leaders: BTreeMap<Term, usize>,
    committed: Vec<Committed>,
    broken: [bool; PROPERTIES.len()],
    complaint: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Committed {
    entry: Entry,
    /// The term of the leader that committed it.
    in_term: Term,
}

impl Witness {
    pub(super) fn holds(&self, property: usize) -> bool {
        !self.broken[property]
    }

    pub(super) fn details(&self) -> Option<String> {
        self.complaint.clone()
    }

    /// The machine at a position has made a step, in a cluster that began with so many voters.
    pub(super) fn look(&mut self, views: &[Arc<View>], position: usize, step: &Step, voters: u64) {
        let view = &*views[position];
        let others = || views.iter().enumerate().filter(|(other, _)| *other != position).map(|(_, other)| &**other);
        let breaks = [
            view.state == NodeState::Leader && *self.leaders.entry(view.term).or_insert(position) != position,
            others().any(|other| !logs_match(&view.log, &other.log)),
            !self.is_complete(view),
            !self.commits(view),
            !self.are_on_a_majority(views, voters) || !self.is_committed(step),
            step.complaint.is_some(),
        ];
        self.broken = breaks;
        self.complaint.clone_from(&step.complaint);
    }

    /// Leader completeness: a leader holds what was committed in earlier terms.
    fn is_complete(&self, view: &View) -> bool {
        let is_due = |committed: &&Committed| committed.in_term < view.term;
        let due = self.committed.iter().take_while(is_due).map(|committed| Some(&committed.entry));
        view.state != NodeState::Leader || due.eq((0..).zip(&self.committed).take_while(|(_, c)| is_due(c)).map(|(i, _)| view.log.get(i)))
    }

    /// State machine safety: all commit the same.
    fn commits(&mut self, view: &View) -> bool {
        let entries = view.log.iter().take(length(view.commit_index));
        for (position, entry) in entries.enumerate() {
            match self.committed.get(position) {
                Some(committed) if committed.entry != *entry => return false,
                Some(_) => {}
                None => self.committed.push(Committed { entry: entry.clone(), in_term: view.term }),
            }
        }
        true
    }

    /// What is committed is durable on a majority, whatever crashes: of each set of voters in the latest configuration that is committed.
    fn are_on_a_majority(&self, views: &[Arc<View>], voters: u64) -> bool {
        let founders = vec![(1..=voters).map(NodeId).collect()];
        let latest = self.committed.iter().rev().find_map(|committed| match &committed.entry.1 {
            What::Voters(electorates) => Some(electorates),
            What::Nothing | What::Command(_) => None,
        });
        (self.committed.iter().enumerate()).all(|(position, committed)| {
            let has_it = |voter: &&NodeId| {
                let view = usize::try_from(voter.0 - 1).ok().and_then(|at| views.get(at));
                view.is_some_and(|view| view.durable.get(position) == Some(&committed.entry))
            };
            let agrees = |electorate: &Vec<NodeId>| electorate.iter().filter(has_it).count() > electorate.len() / 2;
            latest.unwrap_or(&founders).iter().all(agrees)
        })
    }

    /// What clients are told of is committed.
    fn is_committed(&self, step: &Step) -> bool {
        step.answered.iter().all(|(token, index)| {
            let entry = length(*index).checked_sub(1).and_then(|position| self.committed.get(position));
            entry.is_some_and(|committed| committed.entry.1 == What::Command(token.to_string().into_bytes().into()))
        })
    }
}

/// Log matching: two logs that hold the same entry are equal up to it.
fn logs_match(a: &[Entry], b: &[Entry]) -> bool {
    let shorter = a.len().min(b.len());
    let last_in_common = (0..shorter).rev().find(|position| a[*position].0 == b[*position].0);
    last_in_common.is_none_or(|last| a[..=last] == b[..=last])
}

fn length(index: LogIndex) -> usize {
    usize::try_from(index.0).expect("a log fits into memory")
}
