//! All states of a small cluster, one by one: the real core under `stateright`.
//!
//! A state is the nodes with their disks, and all envelopes that were ever sent: any of them may arrive at any time, again and again, or never. So
//! loss, repetition, delay and overtaking need no steps of their own. A step delivers an envelope, makes a node's oldest write durable, lets a node's
//! time run out, stops a node and starts it again with any part of what was not durable, or brings a request, for a change of the members too. Within the [`Bounds`] all orders of all steps
//! are gone through, and in each state the `properties` of Raft (Raft paper, figure 3) must hold.
//!
//! Left out, besides what lies beyond the bounds: bursts of inputs without a tick between, proposals at followers, requests that give up, and reads, each
//! of which begins another round for ever when the network repeats it. The simulator has all of that.
//!
//! States multiply with what goes on at once: three nodes need tighter bounds than two, such as one time-out, or writes that are durable at once. Memory grows
//! by about 250 bytes a state.
//!
//! Nodes are alike, so that the first whose time runs out is node 1.

mod machine;
mod properties;
mod store;

use std::fmt;
use std::time::{Duration, Instant};

use amaters_cluster_core::planted::Bug;
use amaters_cluster_core::{Member, MembershipChange, NodeId, NodeState, Term, Token};
use stateright::{Checker, Model, Property};

use crate::render;
use machine::Machine;
use properties::{PROPERTIES, Witness};
use store::{EnvelopeId, MachineId, Occurrence, Store};

/// How much may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// How many nodes: 1 to 7.
    pub nodes: u64,
    /// The last term that a node may stand for.
    pub terms: u64,
    /// How many commands are proposed.
    pub entries: u64,
    /// How many crashes there are.
    pub crashes: u64,
    /// How often time passes for a leader, so that its heartbeats are due. Without any it still tells of commits, and a second time it gives up.
    pub heartbeats: u64,
    /// How often a node waits in vain for a leader, or for votes. Without a bound the terms are one.
    pub timeouts: Option<u64>,
    /// Whether every write is durable at once: then a crash loses nothing, and what is sent leaves without waiting.
    pub writes_at_once: bool,
    /// How many nodes wait to be added: 0 or 1.
    pub spares: u64,
    /// How many changes of the membership are asked for: the spare is added, or without one the last node removed.
    pub changes: u64,
    /// A bug to put in.
    pub bug: Option<Bug>,
}

impl Bounds {
    /// The change of the membership that is asked for.
    fn change(&self) -> MembershipChange {
        if self.spares == 0 {
            return MembershipChange::Remove(NodeId(self.nodes));
        }
        MembershipChange::AddVoter(Member { id: NodeId(self.nodes + 1), address: String::new() })
    }
}

/// What a search has gone through.
#[derive(Clone, Debug)]
pub struct Report {
    /// The bounds.
    pub bounds: Bounds,
    /// States of the cluster that were looked at.
    pub states: usize,
    /// Steps that lead from one to the next.
    pub steps: usize,
    /// The most steps on the shortest way to a state.
    pub depth: usize,
    /// States of a single node.
    pub node_states: usize,
    /// Envelopes.
    pub envelopes: usize,
    /// What the core was asked for: the same event in the same node's state is not worked out again.
    pub reactions: usize,
    /// How long it took.
    pub time: Duration,
    /// A property that does not hold, and the steps that lead there.
    pub violation: Option<(String, Vec<String>)>,
}

/// Goes through all states within the bounds, with so many threads.
#[must_use]
pub fn explore(bounds: Bounds, threads: usize) -> Report {
    let begin = Instant::now();
    let checker = Cluster { bounds, store: Store::default() }
        .checker()
        .threads(threads)
        .finish_when(stateright::HasDiscoveries::AnyFailures)
        .spawn_bfs()
        .join();
    let discoveries = checker.discoveries();
    let violation = discoveries.into_iter().next().map(|(property, path)| {
        let model = checker.model();
        let (last, actions) = (path.last_state().clone(), path.into_actions());
        let steps = actions.into_iter().map(|action| model.describe(action)).chain(last.witness.details()).collect();
        (property.to_owned(), steps)
    });
    let [node_states, envelopes, reactions] = checker.model().store.sizes();
    Report {
        bounds,
        states: checker.unique_state_count(),
        steps: checker.state_count(),
        depth: checker.max_depth(),
        node_states,
        envelopes,
        reactions,
        time: begin.elapsed(),
        violation,
    }
}

/// The cluster, as `stateright` wants it described.
struct Cluster {
    bounds: Bounds,
    store: Store,
}

/// A state of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    machines: Vec<MachineId>,
    /// Which envelopes were ever sent: a bit for each.
    network: Vec<u64>,
    proposed: u64,
    crashes: u64,
    heartbeats: u64,
    /// Counted where there is a bound.
    timeouts: u64,
    changes: u64,
    witness: Witness,
}

/// A step: what happens, to which node.
type Action = (usize, Occurrence);

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let machines =
            (1..=self.bounds.nodes + self.bounds.spares).map(|id| self.store.add(Machine::new(NodeId(id), &self.bounds))).collect();
        let state = State {
            machines,
            network: Vec::new(),
            proposed: 0,
            crashes: 0,
            heartbeats: 0,
            timeouts: 0,
            changes: 0,
            witness: Witness::default(),
        };
        self.next_state(&state, (0, Occurrence::TimeOut)).into_iter().collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for envelope in state.envelopes() {
            let receiver = usize::try_from(self.store.receiver(envelope).0 - 1).expect("ids are small");
            actions.push((receiver, Occurrence::Delivery(envelope)));
        }
        for (position, machine) in state.machines.iter().enumerate() {
            let view = self.store.view(*machine);
            if view.unsynced > 0 {
                actions.push((position, Occurrence::Completion));
            }
            let leads = view.state == NodeState::Leader;
            let may_stand = view.term < Term(self.bounds.terms) && self.bounds.timeouts.is_none_or(|most| state.timeouts < most);
            let has_time = if leads { state.heartbeats < self.bounds.heartbeats } else { may_stand };
            if has_time {
                actions.push((position, Occurrence::TimeOut));
            }
            if state.crashes < self.bounds.crashes {
                actions.extend((0..=view.unsynced).map(|keep| (position, Occurrence::Crash(keep))));
            }
            if state.proposed < self.bounds.entries && leads {
                actions.push((position, Occurrence::Proposal(Token(state.proposed + 1))));
            }
            if state.changes < self.bounds.changes && leads {
                actions.push((position, Occurrence::Change));
            }
        }
    }

    fn next_state(&self, before: &State, (position, occurrence): Action) -> Option<State> {
        let step = self.store.step(before.machines[position], occurrence);
        let mut state = before.clone();
        state.machines[position] = step.next;
        step.sent.iter().for_each(|envelope| state.send(*envelope));
        if state == *before {
            return None;
        }
        match occurrence {
            Occurrence::TimeOut if self.store.view(before.machines[position]).state == NodeState::Leader => state.heartbeats += 1,
            Occurrence::TimeOut => state.timeouts += u64::from(self.bounds.timeouts.is_some()),
            Occurrence::Crash(_) => state.crashes += 1,
            Occurrence::Proposal(_) => state.proposed += 1,
            Occurrence::Change => state.changes += 1,
            Occurrence::Delivery(_) | Occurrence::Completion => {}
        }
        let views: Vec<_> = state.machines.iter().map(|machine| self.store.view(*machine)).collect();
        state.witness.look(&views, position, &step, self.bounds.nodes);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(PROPERTIES[0], |_, state: &State| state.witness.holds(0)),
            Property::always(PROPERTIES[1], |_, state: &State| state.witness.holds(1)),
            Property::always(PROPERTIES[2], |_, state: &State| state.witness.holds(2)),
            Property::always(PROPERTIES[3], |_, state: &State| state.witness.holds(3)),
            Property::always(PROPERTIES[4], |_, state: &State| state.witness.holds(4)),
            Property::always(PROPERTIES[5], |_, state: &State| state.witness.holds(5)),
        ]
    }
}

impl State {
    fn envelopes(&self) -> impl Iterator<Item = EnvelopeId> {
        (0..).zip(&self.network).flat_map(|(word, bits)| (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| word * 64 + bit))
    }

    fn send(&mut self, envelope: EnvelopeId) {
        let word = envelope as usize / 64;
        if self.network.len() <= word {
            self.network.resize(word + 1, 0);
        }
        self.network[word] |= 1 << (envelope % 64);
    }
}

impl Cluster {
    fn describe(&self, (position, occurrence): Action) -> String {
        let node = position + 1;
        match occurrence {
            Occurrence::Delivery(envelope) => {
                let envelope = self.store.envelope(envelope);
                format!("{} → {} {}", envelope.from, envelope.to, render::message(&envelope.message))
            }
            Occurrence::Completion => format!("the oldest write of node {node} is durable"),
            Occurrence::TimeOut => format!("the time of node {node} runs out"),
            Occurrence::Crash(keep) => format!("node {node} crashes and starts again, with {keep} operations that were not durable"),
            Occurrence::Proposal(token) => format!("command {token} is proposed at node {node}"),
            Occurrence::Change => format!("node {node} is asked for {:?}", self.bounds.change()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}:", self.bounds)?;
        let seconds = self.time.as_secs_f64();
        writeln!(f, "{} states of the cluster, {} steps, at most {} deep, in {seconds:.1} s", self.states, self.steps, self.depth)?;
        write!(f, "{} states of a node, {} envelopes, {} reactions of the core", self.node_states, self.envelopes, self.reactions)?;
        let Some((property, steps)) = &self.violation else { return Ok(()) };
        write!(f, "\n{property}: does not hold after {} steps", steps.len())?;
        steps.iter().try_for_each(|step| write!(f, "\n  {step}"))
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { nodes, terms, entries, crashes, heartbeats, timeouts, writes_at_once, spares, changes, .. } = self;
        write!(f, "{nodes} nodes, {terms} terms, {entries} commands, {crashes} crashes, {heartbeats} heartbeats")?;
        if let Some(timeouts) = timeouts {
            write!(f, ", {timeouts} time-outs")?;
        }
        if *changes > 0 {
            write!(f, ", {changes} change of members ({})", if *spares > 0 { "one is added" } else { "the last one is removed" })?;
        }
        if *writes_at_once {
            write!(f, ", writes durable at once")?;
        }
        Ok(())
    }
}
