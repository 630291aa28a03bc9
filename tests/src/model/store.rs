//! Every state of a machine that is met, every envelope and every reaction, each kept once and named by a number.
//!
//! A cluster's states are combinations of few machines' states: the real core runs once for each event in each state of a machine, however many states
//! of the cluster that occurs in. What a search goes through are numbers.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use amaters_cluster_core::message::Envelope;
use amaters_cluster_core::{LogIndex, NodeId, Token, wire};

use super::machine::{Event, Machine, View};

/// Names a machine's state.
pub(super) type MachineId = u32;
/// Names an envelope.
pub(super) type EnvelopeId = u32;

/// What is kept. Machines' states and envelopes are found from several threads.
#[derive(Default)]
pub(super) struct Store {
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    machines: Vec<(Arc<Machine>, Arc<View>)>,
    machine_ids: HashMap<u128, MachineId>,
    envelopes: Vec<(Envelope, Vec<u8>)>,
    envelope_ids: HashMap<Vec<u8>, EnvelopeId>,
    steps: HashMap<(MachineId, Occurrence), Arc<Step>>,
}

/// An event, as a search names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Occurrence {
    Delivery(EnvelopeId),
    Completion,
    TimeOut,
    Crash(usize),
    Proposal(Token),
    Change,
}

/// What an event comes to.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) next: MachineId,
    pub(super) sent: Vec<EnvelopeId>,
    pub(super) answered: Vec<(Token, LogIndex)>,
    pub(super) complaint: Option<String>,
}

impl Store {
    pub(super) fn add(&self, machine: Machine) -> MachineId {
        self.kept.write().expect("no search panics").add(machine)
    }

    pub(super) fn view(&self, machine: MachineId) -> Arc<View> {
        Arc::clone(&self.kept.read().expect("no search panics").machines[machine as usize].1)
    }

    /// Who gets an envelope.
    pub(super) fn receiver(&self, envelope: EnvelopeId) -> NodeId {
        self.kept.read().expect("no search panics").envelopes[envelope as usize].0.to
    }

    pub(super) fn envelope(&self, envelope: EnvelopeId) -> Envelope {
        self.kept.read().expect("no search panics").envelopes[envelope as usize].0.clone()
    }

    /// How many machines' states, envelopes and reactions there are.
    pub(super) fn sizes(&self) -> [usize; 3] {
        let kept = self.kept.read().expect("no search panics");
        [kept.machines.len(), kept.envelopes.len(), kept.steps.len()]
    }

    pub(super) fn step(&self, machine: MachineId, occurrence: Occurrence) -> Arc<Step> {
        let (before, event) = {
            let kept = self.kept.read().expect("no search panics");
            if let Some(step) = kept.steps.get(&(machine, occurrence)) {
                return Arc::clone(step);
            }
            (Arc::clone(&kept.machines[machine as usize].0), kept.event(occurrence))
        };
        let (after, reaction) = before.after(&event);
        let mut kept = self.kept.write().expect("no search panics");
        let next = kept.add(after);
        let sent = reaction.sent.into_iter().map(|envelope| kept.add_envelope(envelope)).collect();
        let step = Arc::new(Step { next, sent, answered: reaction.answered, complaint: reaction.complaint });
        Arc::clone(kept.steps.entry((machine, occurrence)).or_insert(step))
    }
}

impl Kept {
    fn add(&mut self, machine: Machine) -> MachineId {
        let new = MachineId::try_from(self.machines.len()).expect("memory bounds the states");
        let id = *self.machine_ids.entry(machine.fingerprint()).or_insert(new);
        if id == new {
            let view = Arc::new(machine.view());
            self.machines.push((Arc::new(machine), view));
        }
        id
    }

    fn add_envelope(&mut self, envelope: Envelope) -> EnvelopeId {
        let bytes = wire::encode_envelope(&envelope);
        let new = EnvelopeId::try_from(self.envelopes.len()).expect("memory bounds the envelopes");
        let id = *self.envelope_ids.entry(bytes.clone()).or_insert(new);
        if id == new {
            self.envelopes.push((envelope, bytes));
        }
        id
    }

    fn event(&self, occurrence: Occurrence) -> Event {
        match occurrence {
            Occurrence::Delivery(id) => Event::Delivery(self.envelopes[id as usize].1.clone()),
            Occurrence::Completion => Event::Completion,
            Occurrence::TimeOut => Event::TimeOut,
            Occurrence::Crash(keep) => Event::Crash(keep),
            Occurrence::Proposal(token) => Event::Proposal(token),
            Occurrence::Change => Event::Change,
        }
    }
}
