//! A cluster in one thread: real nodes, simulated clocks, disks and network, and nothing that happens by itself.
//!
//! Effects are carried out as [`amaters_cluster_core::io`] asks for. Messages gather in a [pool](Cluster::pool) until the test delivers or drops
//! them, submissions on the [disk](Disk) until it completes them; each node has a clock of its own. The verbs under "stories" move many
//! things at once, for tests that care about one fault and want the rest to work.

mod effects;
mod events;
mod keys;
mod machines;
mod sessions;
mod stories;
mod vault;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher as _};
use std::rc::Rc;
use std::time::Duration;

use amaters_cluster_core::message::Envelope;
use amaters_cluster_core::{
    Applied, Committed, Config, Input, Instant, KeyRing, KeyVersion, LogIndex, MemberStatus, MembershipChange, Node, NodeId, NodeState,
    Payload, Ticket, Token, wire,
};

use crate::disk::{Disk, Image};
pub use events::{Event, Outcome};
pub use keys::{encryption, key_of, lacking, ring_of};
pub use vault::Vault;

/// Nodes, and what is between them.
pub struct Cluster {
    members: BTreeMap<NodeId, Member>,
    pool: Vec<InFlight>,
    cut: BTreeSet<(NodeId, NodeId)>,
    last_token: Token,
    outcomes: BTreeMap<Token, Outcome>,
    events: Vec<Event>,
    digest: DefaultHasher,
    /// Where the random bytes of sealed nodes' starts come from.
    boots: fastrand::Rng,
}

/// A node and its machine.
pub struct Member {
    /// The settings with which the node starts next.
    pub config: Config,
    /// None while it is down.
    pub node: Option<Node>,
    /// Its disk.
    pub disk: Disk,
    /// Its snapshots.
    pub vault: Vault,
    /// What its source of keys holds. Its node has what was there when it last looked.
    pub keys: KeyRing,
    /// The version that its node has asked for, until it is answered.
    pub wanted_key: Option<KeyVersion>,
    /// Its state machine: what was applied, by this run or by those before its snapshot.
    pub machine: Vec<Committed>,
    /// Results that the node wants, and has not been given: of each command, how many its machine has carried out with it.
    pub results: Vec<Applied>,
    /// What it had when it was damaged, until it has repaired itself: the last entry of its snapshot, and its log.
    pub lost: Option<(LogIndex, Image)>,
    /// Its clock.
    pub clock: Instant,
    /// The members, as the node told last, and the version of that configuration.
    pub told: (LogIndex, Vec<MemberStatus>),
    /// While true, [`Cluster::settle`] leaves its disk alone.
    pub disk_stalled: bool,
}

/// A message under way.
#[derive(Clone, Debug)]
pub struct InFlight {
    /// The message.
    pub envelope: Rc<Envelope>,
    /// Whether it is a copy that the network made.
    pub copy: bool,
}

/// What became of a message.
#[derive(Clone, Debug)]
pub enum Delivery {
    /// Its receiver has it.
    Taken(InFlight),
    /// Its link is cut, or its receiver down.
    Lost(InFlight),
}

// Making one, and looking at it.
impl Cluster {
    /// This many nodes with default settings, all up.
    #[must_use]
    pub fn new(nodes: u64) -> Self {
        Self::with(nodes, |_| {})
    }

    /// This many nodes, with settings that `configure` changes, all up.
    #[must_use]
    pub fn with(nodes: u64, mut configure: impl FnMut(&mut Config)) -> Self {
        let voters: Vec<_> = (1..=nodes).collect();
        let mut cluster = Self {
            members: BTreeMap::new(),
            pool: Vec::new(),
            cut: BTreeSet::new(),
            last_token: Token::NONE,
            outcomes: BTreeMap::new(),
            events: Vec::new(),
            digest: DefaultHasher::new(),
            boots: fastrand::Rng::with_seed(0),
        };
        for &id in &voters {
            let mut config = Config { seed: id, ..Config::new(id, voters.clone()) };
            configure(&mut config);
            if id == 1 {
                cluster.boots = fastrand::Rng::with_seed(config.seed);
            }
            cluster.put_up(config);
        }
        cluster
    }

    /// Puts up one more node, with the settings of another: it waits to be added.
    pub fn put_up_spare(&mut self, id: NodeId, like: NodeId) {
        let like = &self.member(like).config;
        self.put_up(Config { id, voters: Vec::new(), seed: id.0, ..like.clone() });
    }

    fn put_up(&mut self, config: Config) {
        let (id, told) = (config.id, (LogIndex::NONE, Vec::new()));
        let (disk, vault, machine, clock) = (Disk::default(), Vault::default(), Vec::new(), Instant(1_000_000_000));
        self.members.insert(
            id,
            Member {
                keys: config.encryption.as_ref().map(|encryption| encryption.keys.clone()).unwrap_or_default(),
                wanted_key: None,
                config,
                node: None,
                disk,
                vault,
                machine,
                results: Vec::new(),
                lost: None,
                clock,
                told,
                disk_stalled: false,
            },
        );
        self.restart(id);
    }

    /// All nodes' ids, up or down.
    #[must_use]
    pub fn ids(&self) -> Vec<NodeId> {
        self.members.keys().copied().collect()
    }

    /// A node with its machine.
    ///
    /// # Panics
    /// If there is no such node.
    #[must_use]
    pub fn member(&self, id: NodeId) -> &Member {
        &self.members[&id]
    }

    /// A node with its machine, to change its clock or settings.
    ///
    /// # Panics
    /// If there is no such node.
    pub fn member_mut(&mut self, id: NodeId) -> &mut Member {
        self.members.get_mut(&id).unwrap_or_else(|| panic!("there is no node {id}"))
    }

    /// The node, if it is up.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.member(id).node.as_ref()
    }

    /// The node that leads the latest term among those that are up.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let nodes = self.members.iter().filter_map(|(id, member)| Some((*id, member.node.as_ref()?)));
        let leaders = nodes.filter(|(_, node)| node.state() == NodeState::Leader);
        leaders.max_by_key(|(_, node)| node.persistent_state().current_term).map(|(id, _)| id)
    }

    /// Messages under way, the oldest first.
    #[must_use]
    pub fn pool(&self) -> &[InFlight] {
        &self.pool
    }

    /// How a request ended, if it has.
    #[must_use]
    pub fn outcome(&self, token: Token) -> Option<Outcome> {
        self.outcomes.get(&token).copied()
    }

    /// What has happened since the last call.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// A fingerprint of all effects so far.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest.finish()
    }
}

// One thing at a time.
impl Cluster {
    /// Gives a node an input; `false` if it is down. What follows from it comes with the next [`Input::Tick`].
    pub fn input(&mut self, id: NodeId, input: Input) -> bool {
        let member = self.member_mut(id);
        let now = member.clock;
        let Some(node) = &mut member.node else { return false };
        let mut effects = Vec::new();
        node.step(now, input, &mut effects);
        effects.into_iter().for_each(|effect| self.carry_out(id, effect));
        true
    }

    /// Ticks a node, which has its machine's results by then.
    pub fn tick(&mut self, id: NodeId) {
        self.give_results(id);
        self.input(id, Input::Tick);
    }

    /// Ticks all nodes.
    pub fn tick_all(&mut self) {
        self.ids().into_iter().for_each(|id| self.tick(id));
    }

    /// Lets time pass on one node's clock.
    pub fn pass(&mut self, id: NodeId, time: Duration) {
        let member = self.member_mut(id);
        member.clock = member.clock + time;
    }

    /// Lets time pass on all clocks.
    pub fn advance(&mut self, time: Duration) {
        self.ids().into_iter().for_each(|id| self.pass(id, time));
    }

    /// Hands over the message at a position of the pool.
    pub fn deliver(&mut self, position: usize) -> Delivery {
        let message = self.pool.remove(position);
        let (from, to) = (message.envelope.from, message.envelope.to);
        let receive = Input::Receive { sender: from, envelope: wire::encode_envelope(&message.envelope) };
        let taken = !self.cut.contains(&(from, to)) && self.input(to, receive);
        if taken { Delivery::Taken(message) } else { Delivery::Lost(message) }
    }

    /// Loses the message at a position of the pool.
    pub fn drop_message(&mut self, position: usize) -> Rc<Envelope> {
        self.pool.remove(position).envelope
    }

    /// Puts a copy of the message at a position behind all others.
    pub fn duplicate(&mut self, position: usize) {
        self.pool.push(InFlight { copy: true, ..self.pool[position].clone() });
    }

    /// Makes a node's submissions up to a ticket durable, and tells the node.
    pub fn complete(&mut self, id: NodeId, up_to: Ticket) {
        if self.member_mut(id).disk.complete(up_to) {
            self.input(id, Input::Persisted { ticket: up_to });
        }
    }

    /// Makes all of a node's submissions durable, and tells the node. Whether there were any.
    pub fn complete_all(&mut self, id: NodeId) -> bool {
        let last = self.member(id).disk.under_way().last().map(|(ticket, _)| ticket);
        last.inspect(|ticket| self.complete(id, *ticket)).is_some()
    }

    /// Proposes a command at a node.
    pub fn propose(&mut self, id: NodeId, command: impl Into<Payload>) -> Token {
        let token = self.next_token();
        self.input(id, Input::Propose { token, command: command.into(), session: None });
        token
    }

    /// Asks a node for a read.
    pub fn read(&mut self, id: NodeId) -> Token {
        let token = self.next_token();
        self.input(id, Input::Read { token });
        token
    }

    /// Asks a node to hand over to another, or to the best.
    pub fn transfer(&mut self, id: NodeId, to: NodeId) -> Token {
        let token = self.next_token();
        self.input(id, Input::Transfer { token, to });
        token
    }

    /// Asks a node to change who is a member.
    pub fn change(&mut self, id: NodeId, change: MembershipChange) -> Token {
        let token = self.next_token();
        self.input(id, Input::ChangeMembership { token, change });
        token
    }

    /// The token of the next request.
    #[must_use]
    pub fn upcoming_token(&self) -> Token {
        self.last_token.next()
    }

    /// Cuts the link from one node to another, in this direction alone.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Cuts all links between two groups of nodes.
    pub fn partition(&mut self, some: &[NodeId], others: &[NodeId]) {
        for (&a, &b) in some.iter().flat_map(|a| others.iter().map(move |b| (a, b))) {
            self.cut(a, b);
            self.cut(b, a);
        }
    }

    /// Cuts a node off from all others.
    pub fn isolate(&mut self, id: NodeId) {
        let others: Vec<_> = self.ids().into_iter().filter(|other| *other != id).collect();
        self.partition(&[id], &others);
    }

    /// Mends all links.
    pub fn heal(&mut self) {
        self.cut.clear();
    }

    pub(crate) fn next_token(&mut self) -> Token {
        self.last_token = self.last_token.next();
        self.last_token
    }
}
