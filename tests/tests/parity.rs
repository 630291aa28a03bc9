//! The core does in its sandbox what it does natively: the same inputs give the same effects, byte for byte.
//!
//! Three nodes and one that waits to be added, each as a pair of engines: one native, one a component under wasmtime, with the same seed and
//! the same clock. Both get every input; every effect is compared; the native one's is carried out. The network loses, repeats and reorders, nodes
//! can't be reached for a while and restart from their journals, so that elections, conflicts and catching up are on the way too.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use amaters_cluster::engine::{
    Ambient, COMPONENT, Clock, Control, Driver, Engine, NativeEngine, Proposal, Sandbox, SandboxLimits, Turn, WasmEngine,
};
use amaters_cluster_core::{
    Applied, Config, Effect, FailureEvent, HeartbeatConfig, Instant, Member, MembershipChange, NodeId, NodeState, Operation, SessionChange,
    SessionId, SessionStamp, SnapshotConfig, SnapshotPolicy, Ticket, Token,
};

const NODES: u64 = 3;

#[test]
fn the_component_does_what_the_native_core_does() {
    let sandbox = Sandbox::new(COMPONENT, SandboxLimits::default()).expect("the component loads");
    let mut seen = Seen::default();
    for seed in 1..=20 {
        let roomy = Config::new(NodeId(1), (1..=NODES).map(NodeId).collect());
        // Limits must be met at the same request, on a machine of 64 bits and in a sandbox of 32.
        // The least patience there is: messages that are late are failures, and each is a recovery when it comes.
        let failure =
            HeartbeatConfig { threshold: 1, acceptable_pause: Duration::ZERO, min_deviation: Duration::from_millis(1), window: 8 };
        let snapshots = SnapshotConfig { policy: SnapshotPolicy::NEVER, ..SnapshotConfig::default() }; // its log is to be full
        let tight = Config { max_command_bytes: 150, max_pending_bytes: 1_000, max_log_bytes: 50_000, failure, snapshots, ..roomy.clone() };
        let config = if seed % 2 == 0 { tight } else { roomy };
        Cluster::new(&sandbox, seed, Config { lease_reads: seed % 3 == 0, ..config }).run(3_000, &mut seen);
    }
    // What was compared is worth comparing: each kind of effect came up, and more than one leader.
    assert!(seen.persisted > 1_000 && seen.sent > 10_000 && seen.applied > 1_000, "{seen:?}");
    assert!(seen.done > 20 && seen.lease_reads > 5 && seen.configurations > 200, "{seen:?}");
    assert!(seen.served > 100 && seen.replied > 500 && seen.rejected > 1_000 && seen.elections > 20 && seen.restarts > 100, "{seen:?}");
    assert!(seen.failures > 10 && seen.recoveries > 10 && seen.leader_changes > 50, "{seen:?}");
}

/// What came up over all runs.
#[derive(Debug, Default)]
struct Seen {
    persisted: usize,
    sent: usize,
    applied: usize,
    served: usize,
    done: usize,
    lease_reads: u64,
    replied: usize,
    configurations: usize,
    rejected: usize,
    elections: usize,
    restarts: usize,
    failures: usize,
    recoveries: usize,
    leader_changes: usize,
}

struct Cluster<'a> {
    sandbox: &'a Sandbox,
    config: Config,
    clock: TestClock,
    dice: Dice,
    pairs: Vec<Pair>,
    /// Sender, receiver, envelope.
    network: VecDeque<(NodeId, NodeId, Vec<u8>)>,
    /// A node that nothing reaches, and for how many turns more.
    away: (NodeId, usize),
    tokens: u64,
    /// Sessions that were opened, or used.
    sessions: Vec<SessionId>,
}

impl<'a> Cluster<'a> {
    fn new(sandbox: &'a Sandbox, seed: u64, config: Config) -> Self {
        let clock = TestClock::default();
        let mut dice = Dice(seed);
        let pairs =
            (1..=NODES + 1).map(|id| Pair::new(sandbox, &config_of(NodeId(id), &config), dice.roll(), &clock, Vec::new())).collect();
        Self { sandbox, config, clock, dice, pairs, network: VecDeque::new(), away: (NodeId::NONE, 0), tokens: 0, sessions: Vec::new() }
    }

    fn run(mut self, turns: usize, seen: &mut Seen) {
        for _ in 0..turns {
            let at = self.dice.below(self.pairs.len());
            if self.dice.below(400) == 0 {
                self.restart(at);
                seen.restarts += 1;
            }
            self.away = match (self.away, self.dice.below(500)) {
                ((_, 0), 0) => (self.pairs[at].id, self.dice.below(800)),
                ((_, 0), _) => (NodeId::NONE, 0),
                ((id, turns), _) => (id, turns - 1),
            };
            let turn = self.inputs(at);
            let was_leader = self.pairs[at].leads;
            let effects = self.pairs[at].turn(&turn);
            seen.elections += usize::from(self.pairs[at].leads && !was_leader);
            seen.lease_reads = seen.lease_reads.max(self.pairs[at].lease_reads);
            for effect in effects {
                self.carry_out(at, effect, seen);
            }
            self.clock.advance(self.dice.below(4_000_000) as u64);
        }
    }

    /// What the node gets to hear: some of what is on its way to it, and some requests.
    fn inputs(&mut self, at: usize) -> Turn {
        let mut turn = Turn { persisted: self.pairs[at].durable(self.dice.below(4) == 0), ..Turn::default() };
        for _ in 0..self.network.len() {
            let (sender, to, envelope) = self.network.pop_front().expect("as many as were counted");
            let fate = self.dice.below(20);
            if sender == self.away.0 || to == self.away.0 {
                continue;
            }
            if to != self.pairs[at].id || fate == 0 {
                self.network.push_back((sender, to, envelope));
            } else if fate != 1 {
                if fate == 2 {
                    self.network.push_back((sender, to, envelope.clone()));
                }
                turn.received.push((sender, envelope));
            }
        }
        for _ in 0..self.dice.below(3) {
            self.tokens += 1;
            let command = vec![u8::try_from(self.tokens % 251).expect("less than 251"); self.dice.below(200)];
            let session = (self.dice.below(3) == 0).then(|| self.stamp());
            turn.proposals.push(Proposal { token: Token(self.tokens), command: command.into(), session });
        }
        if self.dice.below(50) == 0 {
            self.tokens += 1;
            turn.sessions.push((Token(self.tokens), self.session_change()));
        }
        if self.dice.below(4) > 0 {
            turn.applied = std::mem::take(&mut self.pairs[at].results);
        }
        if self.dice.below(5) == 0 {
            self.tokens += 1;
            turn.reads.push(Token(self.tokens));
        }
        if self.dice.below(60) == 0 {
            self.tokens += 1;
            let to = (self.dice.below(3) > 0).then(|| NodeId(self.dice.below(4) as u64 + 1));
            turn.controls.push((Token(self.tokens), Control::Transfer { to }));
        }
        if self.dice.below(60) == 0 {
            self.tokens += 1;
            turn.controls.push((Token(self.tokens), Control::ChangeMembership(self.change())));
        }
        turn
    }

    /// The place of a command in one of the sessions that were opened last, often one that a command has had before.
    fn stamp(&mut self) -> SessionStamp {
        let session = self.session();
        let acknowledged = self.tokens / 100 + 1;
        // Few places, so that commands meet in them; and now and then one that is too far ahead.
        let ahead = if self.dice.below(50) == 0 { 64 } else { self.dice.below(8) as u64 };
        SessionStamp { session, sequence: acknowledged + ahead, acknowledged }
    }

    fn session(&mut self) -> SessionId {
        let recent = self.sessions.len().min(3);
        if recent == 0 { SessionId(1) } else { self.sessions[self.sessions.len() - 1 - self.dice.below(recent)] }
    }

    fn session_change(&mut self) -> SessionChange {
        let session = self.session();
        match self.dice.below(8) {
            0 => SessionChange::Close { session },
            1 => SessionChange::KeepAlive { session, acknowledged: 1 },
            _ => SessionChange::Open { timeout_ms: self.dice.below(20_000) as u64 },
        }
    }

    /// One of all kinds of changes, of which many are refused.
    fn change(&mut self) -> MembershipChange {
        let id = NodeId(self.dice.below(self.pairs.len()) as u64 + 1);
        let member = |id: NodeId| Member { id, address: format!("node {id} ⛵") };
        match self.dice.below(8) {
            0 => MembershipChange::AddLearner(member(id)),
            1 => MembershipChange::Promote(id),
            2 => MembershipChange::Remove(id),
            3 => MembershipChange::Replace((1..=NODES).map(|id| member(NodeId(id))).collect()),
            4 => MembershipChange::Replace(vec![member(id), member(NodeId(1))]),
            _ => MembershipChange::AddVoter(member(id)),
        }
    }

    fn carry_out(&mut self, at: usize, effect: Effect, seen: &mut Seen) {
        match effect {
            Effect::Persist { ticket, operations } => {
                seen.persisted += 1;
                self.pairs[at].submitted.push_back((ticket, operations));
            }
            Effect::Send { to, envelope } => {
                seen.sent += 1;
                self.network.push_back((self.pairs[at].id, to, envelope));
            }
            Effect::Apply { commands } => {
                seen.applied += commands.len();
                let wanted = commands.into_iter().filter(|command| command.result_wanted);
                self.pairs[at].results.extend(wanted.map(|command| Applied { index: command.index, result: command.command }));
            }
            Effect::Reply { replies } => {
                seen.replied += replies.len();
                self.sessions.extend(replies.iter().filter(|reply| reply.result.is_empty()).map(|reply| SessionId(reply.index.0)));
            }
            Effect::ServeReads { tokens } => seen.served += tokens.len(),
            Effect::Done { tokens } => seen.done += tokens.len(),
            Effect::Reject { requests } => seen.rejected += requests.len(),
            Effect::Failure { event: FailureEvent::Failed { .. } } => seen.failures += 1,
            Effect::Failure { event: FailureEvent::Recovered { .. } } => seen.recoveries += 1,
            Effect::LeaderChanged { .. } => seen.leader_changes += 1,
            Effect::Members { version, .. } => seen.configurations += usize::from(!version.is_none()),
            Effect::Log { .. } => {}
            other => panic!("the logs are too short for snapshots, and nothing is repaired: {other:?}"),
        }
    }

    /// A node loses what was not durable, and starts from its journal.
    fn restart(&mut self, at: usize) {
        let Pair { id, ref mut journal, .. } = self.pairs[at];
        let journal = std::mem::take(journal);
        let seed = self.dice.roll();
        self.pairs[at] = Pair::new(self.sandbox, &config_of(id, &self.config), seed, &self.clock, journal);
    }
}

/// The settings of a node. The last one waits to be added.
fn config_of(id: NodeId, like: &Config) -> Config {
    let voters = if id.0 > NODES { Vec::new() } else { like.voters.clone() };
    Config { id, voters, ..like.clone() }
}

/// One node, twice.
struct Pair {
    id: NodeId,
    native: NativeEngine<Recorder>,
    sandboxed: WasmEngine<Recorder>,
    leads: bool,
    lease_reads: u64,
    submitted: VecDeque<(Ticket, Vec<Operation>)>,
    journal: Vec<Operation>,
    /// Results that the node wants, and has not been given.
    results: Vec<Applied>,
}

impl Pair {
    fn new(sandbox: &Sandbox, config: &Config, seed: u64, clock: &TestClock, journal: Vec<Operation>) -> Self {
        let ambient = || Ambient { clock: Box::new(clock.clone()), seed: Some(seed) };
        let mut native = NativeEngine::new(config.clone(), Recorder::default(), ambient()).expect("a native node");
        let mut sandboxed = WasmEngine::new(sandbox, config, Recorder::default(), ambient()).expect("a sandboxed node");
        native.recover(journal.clone()).expect("its own journal");
        sandboxed.recover(journal.clone()).expect("its own journal");
        native.start().expect("it starts");
        sandboxed.start().expect("it starts");
        Self { id: config.id, native, sandboxed, leads: false, lease_reads: 0, submitted: VecDeque::new(), journal, results: Vec::new() }
    }

    fn turn(&mut self, turn: &Turn) -> Vec<Effect> {
        self.native.turn(turn.clone()).expect("the native core takes a turn");
        self.sandboxed.turn(turn.clone()).expect("the component takes a turn");
        let effects = std::mem::take(&mut self.native.driver().0);
        assert_eq!(effects, std::mem::take(&mut self.sandboxed.driver().0), "after {turn:?}");
        let status = self.native.status().expect("a status");
        let mut sandboxed = self.sandboxed.status().expect("a status");
        // The contract counts silence in milliseconds.
        for (peer, exact) in sandboxed.peers.iter_mut().zip(&status.peers) {
            assert_eq!(peer.silent.as_millis(), exact.silent.as_millis());
            peer.silent = exact.silent;
        }
        assert_eq!(sandboxed.disk_waits.as_millis(), status.disk_waits.as_millis());
        sandboxed.disk_waits = status.disk_waits;
        assert_eq!(status, sandboxed);
        self.leads = status.state == NodeState::Leader;
        self.lease_reads = status.counters.lease_reads;
        effects
    }

    /// Makes what was submitted durable: all of it, or all but the last.
    fn durable(&mut self, slow: bool) -> Option<Ticket> {
        let mut last = None;
        while self.submitted.len() > usize::from(slow) {
            let (ticket, operations) = self.submitted.pop_front().expect("it is not empty");
            self.journal.extend(operations);
            last = Some(ticket);
        }
        last
    }
}

#[derive(Default)]
struct Recorder(Vec<Effect>);

impl Driver for Recorder {
    fn carry_out(&mut self, effect: Effect) {
        self.0.push(effect);
    }
}

/// Nanoseconds that pass when the test says so.
#[derive(Clone, Default)]
struct TestClock(Arc<AtomicU64>);

impl TestClock {
    fn advance(&self, nanoseconds: u64) {
        self.0.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Instant {
        Instant(self.0.load(Ordering::Relaxed))
    }
}

/// Xorshift (Marsaglia, 2003): the test's own chance, the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() >> 33).expect("31 bits") % bound
    }
}
