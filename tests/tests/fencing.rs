//! Fencing tokens from a cluster: whoever gets one later has the greater one, whatever happens to nodes and leaders in between.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use amaters_cluster::kv::{KeyValue, Reply, Slice, Write};
use amaters_cluster::{FencingToken, FencingTokenState};
use amaters_cluster_core::{EntryId, LogIndex, NodeId, Token};
use amaters_cluster_tests::cluster::{Cluster, Outcome};
use amaters_cluster_tests::process::Processes;
use fastrand::Rng;

const FENCES: [&str; 3] = ["a", "b", "c"];

#[test]
fn tokens_grow_and_never_repeat_over_crashes_and_leaders() {
    let (mut given, mut terms) = (0, 0);
    for seed in 0..100 {
        let story = Story::live(seed);
        given += story.given.len();
        terms += story.given.iter().map(|(_, token, _)| token.term).collect::<BTreeSet<_>>().len();
        story.check();
    }
    assert!(given > 2_000 && terms > 300, "{given} tokens of {terms} terms say little");
}

/// What the clients of a cluster in trouble have got.
struct Story {
    cluster: Cluster,
    /// The fence, the token, and the greatest that any client had of any fence when this one was asked for.
    given: Vec<(&'static str, FencingToken, FencingToken)>,
}

impl Story {
    fn live(seed: u64) -> Self {
        let (mut rng, mut cluster) = (Rng::with_seed(seed), Cluster::with(3, |config| config.seed += 10 * seed));
        let mut asked: Vec<(Token, &'static str, FencingToken)> = Vec::new();
        let (mut given, mut greatest) = (Vec::new(), FencingToken::default());
        for _ in 0..150 {
            let ids = cluster.ids();
            let at = ids[rng.usize(..3)];
            match rng.u32(..10) {
                0 if cluster.node(at).is_some() => drop(cluster.crash(at, rng.usize(..3))),
                1 => ids
                    .into_iter()
                    .filter(|id| cluster.node(*id).is_none())
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|id| cluster.restart(id)),
                2 => cluster.isolate(cluster.leader().unwrap_or(at)),
                3 => cluster.heal(),
                _ => {
                    let fence = FENCES[rng.usize(..3)];
                    let token = cluster.propose(at, Write::FenceNext { name: Slice::new(fence.as_bytes()) }.encode());
                    asked.push((token, fence, greatest));
                }
            }
            cluster.run(Duration::from_millis(rng.u64(10..400)));
            asked.retain(|(token, fence, before)| {
                let Some(Outcome::Applied(index)) = cluster.outcome(*token) else { return true };
                let token = issued(&cluster, index);
                given.push((*fence, token, *before));
                greatest = greatest.max(token);
                false
            });
        }
        cluster.heal();
        for id in cluster.ids() {
            if cluster.node(id).is_none() {
                cluster.restart(id);
            }
        }
        cluster.run(Duration::from_secs(3));
        Self { cluster, given }
    }

    fn check(&self) {
        let tokens: Vec<_> = self.given.iter().map(|(_, token, _)| *token).collect();
        assert_eq!(tokens.iter().collect::<BTreeSet<_>>().len(), tokens.len(), "a token was given twice: {tokens:?}");
        for (fence, token, before) in &self.given {
            assert!(token > before, "{fence} gave {token} to one who asked when {before} was known");
        }
        // A resource that sees holders in the order in which they got their tokens refuses none of them, and refuses all but the last afterwards.
        for fence in FENCES {
            let mut guard = FencingTokenState::default();
            let mut tokens: Vec<_> = self.given.iter().filter(|(name, ..)| *name == fence).map(|(_, token, _)| *token).collect();
            tokens.sort_unstable();
            assert!(tokens.iter().all(|token| guard.check(*token).is_ok()));
            assert_eq!(tokens.iter().filter(|token| guard.check(**token).is_ok()).count(), tokens.len().min(1));
        }
        // Each node, however often it started anew, has issued the same.
        let states: BTreeMap<_, _> = self.cluster.ids().into_iter().map(|id| (id, state(&self.cluster, id))).collect();
        let [one, two, three] = &states.values().collect::<Vec<_>>()[..] else { panic!("three nodes") };
        assert!(one == two && two == three);
    }
}

/// The token that a log entry gave, as a node's state machine says it.
fn issued(cluster: &Cluster, index: LogIndex) -> FencingToken {
    let knows = |id: &NodeId| cluster.member(*id).machine.iter().any(|committed| committed.index == index);
    let node = cluster.ids().into_iter().find(knows).expect("whoever answered has applied it");
    let mut machine = KeyValue::new();
    for committed in &cluster.member(node).machine {
        let reply = machine.write(EntryId { term: committed.term, index: committed.index }, &committed.command);
        if committed.index == index {
            let Some(Reply::Token(token)) = Reply::decode(&reply) else { panic!("{reply:?}") };
            return token;
        }
    }
    unreachable!("it knows entry {index}")
}

fn state(cluster: &Cluster, id: NodeId) -> KeyValue {
    let mut machine = KeyValue::new();
    for committed in &cluster.member(id).machine {
        machine.write(EntryId { term: committed.term, index: committed.index }, &committed.command);
    }
    machine
}

#[test]
fn a_replaced_holder_writes_nothing_more_whichever_nodes_it_talks_to() {
    let mut cluster = Processes::start(3);
    let leader = cluster.leader();
    let other = leader % 3 + 1;
    let next = |cluster: &Processes, id: u64| redis::cmd("FENCE").arg("NEXT").arg("lock").query::<String>(&mut cluster.node(id).connect());
    let old = next(&cluster, leader).expect("a token");
    let set = |cluster: &Processes, id: u64, value: &str, token: &str| {
        let mut client = cluster.node(id).connect();
        redis::cmd("SET").arg("k").arg(value).arg("FENCE").arg("lock").arg(token).query::<()>(&mut client)
    };
    set(&cluster, other, "old", &old).expect("it holds the lock");
    cluster.kill(leader);
    let new = next(&cluster, other).expect("another leader gives one");
    assert!(new > old, "{new} is not greater than {old}, as text");
    set(&cluster, other, "new", &new).expect("it holds the lock now");
    cluster.restart(leader);
    for id in 1..=3 {
        let error = set(&cluster, id, "late", &old).expect_err("it was replaced");
        assert_eq!(error.code(), Some("FENCED"), "{error}");
        let value: String = redis::cmd("GET").arg("k").query(&mut cluster.node(id).connect()).expect("a value");
        assert_eq!(value, "new");
    }
}
