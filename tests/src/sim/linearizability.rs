//! Whether the history of a register is linearizable: whether each operation can be thought to happen at one moment between its call and its
//! answer, so that all answers come out right (Herlihy and Wing, 1990).
//!
//! In general that takes a search through all orders. Here two things make it a matter of bookkeeping (after Gibbons and Korach, "Testing Shared
//! Memories", 1997): no value is written twice, and a compare-and-set answers with the value that it found. So each answer names the write that it
//! comes right after:
//!
//! - A value's writer, and all who found that value, are a *group*: no other write comes between them.
//! - A compare-and-set that succeeded comes between the group of the value that it found and its own, with nothing between. Groups that are joined in
//!   this way are a *block*: its operations follow each other, in an order that is known but for those that only look at the same value.
//! - So the history is linearizable if no block goes against the order of time in itself, and if the blocks can be put into an order that does not:
//!   block A must come before B if some operation of A was answered before some operation of B was called. Those demands contradict each other only
//!   where they do for two blocks: in a longer circle, the block with the earliest answer must also come before the one that precedes it.

use std::collections::{BTreeMap, BTreeSet};

/// What a register holds: each value is written by one operation at most.
pub(super) type Value = u64;

/// What a register holds at first.
pub(super) const INITIAL: Value = 0;

/// An operation on a register, as its client saw it. Moments are numbered as they come, and no two events share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Operation {
    /// What was asked for.
    pub(super) call: Call,
    /// When.
    pub(super) called: u64,
    /// When the answer came, and the value that the operation found; none while there is no answer. A plain write finds nothing.
    pub(super) answer: Option<(u64, Option<Value>)>,
}

/// What an operation asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    Read,
    Write(Value),
    CompareAndSet { expected: Value, new: Value },
}

/// Checks the history of one register. An operation without an answer may have happened at any time after its call, or not at all.
///
/// # Errors
/// Says why there is no order that explains the answers.
pub(super) fn check(history: &[Operation]) -> Result<(), String> {
    let steps = steps(history);
    let mut groups: BTreeMap<Value, Group> = BTreeMap::from([(INITIAL, Group::default())]);
    for step in steps.iter().filter(|step| step.set.is_some()) {
        groups.insert(step.set.unwrap_or(INITIAL), Group { writer: Some(*step), ..Group::default() });
    }
    for step in &steps {
        let Some(found) = step.found else { continue };
        let group = groups.get_mut(&found).ok_or_else(|| format!("value {found} was found, and nobody wrote it"))?;
        match step.set {
            None => group.lookers.push(*step),
            Some(set) => {
                if let Some(other) = group.next.replace(set) {
                    return Err(format!("compare-and-set from {found} succeeded twice: to {other} and to {set}"));
                }
            }
        }
    }
    check_order(&groups)
}

/// An operation that happened: when, what it found, and what it left.
#[derive(Clone, Copy, Debug)]
struct Step {
    called: u64,
    answered: u64,
    found: Option<Value>,
    set: Option<Value>,
}

/// The operations that happened for certain. One without an answer is among them if somebody found its value; if nobody did, it may as well not have
/// happened, since it would have to be undone unseen.
fn steps(history: &[Operation]) -> Vec<Step> {
    let mut steps: Vec<Step> = history.iter().filter_map(Operation::step).collect();
    let mut found: BTreeSet<Value> = steps.iter().filter_map(|step| step.found).collect();
    let mut open: Vec<Step> = history.iter().filter_map(Operation::open_step).collect();
    loop {
        let (happened, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|step| step.set.is_some_and(|set| found.contains(&set)));
        if happened.is_empty() {
            return steps;
        }
        found.extend(happened.iter().filter_map(|step| step.found));
        steps.extend(happened);
        open = rest;
    }
}

impl Operation {
    fn step(&self) -> Option<Step> {
        let (answered, found) = self.answer?;
        let set = match self.call {
            Call::Read => None,
            Call::Write(value) => Some(value),
            Call::CompareAndSet { expected, new } => (found == Some(expected)).then_some(new),
        };
        Some(Step { called: self.called, answered, found, set })
    }

    /// What an operation without an answer did, if it changed anything.
    fn open_step(&self) -> Option<Step> {
        let (found, set) = match self.call {
            _ if self.answer.is_some() => return None,
            Call::Read => return None,
            Call::Write(value) => (None, value),
            Call::CompareAndSet { expected, new } => (Some(expected), new),
        };
        Some(Step { called: self.called, answered: u64::MAX, found, set: Some(set) })
    }

    /// Whether somebody found the value of an operation that got no answer.
    pub(super) fn is_open_but_seen(&self, history: &[Self]) -> bool {
        self.open_step().is_some_and(|step| history.iter().any(|other| other.answer.is_some_and(|(_, found)| found == step.set)))
    }
}

/// A value, whoever wrote it, and those who found it.
#[derive(Default)]
struct Group {
    writer: Option<Step>,
    lookers: Vec<Step>,
    /// The value of the compare-and-set that found this one.
    next: Option<Value>,
}

/// Groups that follow each other with nothing between.
struct Block {
    /// The value that it begins with.
    first: Value,
    earliest_answer: u64,
    latest_call: u64,
}

fn check_order(groups: &BTreeMap<Value, Group>) -> Result<(), String> {
    let mut blocks = Vec::new();
    let mut placed = 0;
    let begins = |group: &Group| group.writer.is_none_or(|writer| writer.found.is_none());
    for (&first, _) in groups.iter().filter(|(_, group)| begins(group)) {
        let mut block = Block { first, earliest_answer: u64::MAX, latest_call: 0 };
        let mut value = Some(first);
        while let Some(group) = value.and_then(|value| groups.get(&value)) {
            block.add(group.writer.as_slice())?;
            block.add(&group.lookers)?;
            placed += 1;
            value = group.next;
        }
        blocks.push(block);
    }
    if placed < groups.len() {
        return Err("compare-and-sets found each other's values in a circle".to_owned());
    }
    for (position, a) in blocks.iter().enumerate() {
        for b in &blocks[position + 1..] {
            // The initial value is there before all others: its block is the first, here too.
            let before = a.first == INITIAL || a.earliest_answer < b.latest_call;
            if before && b.earliest_answer < a.latest_call {
                return Err(format!("value {} was there before value {}, and after it", a.first, b.first));
            }
        }
    }
    Ok(())
}

impl Block {
    /// Adds operations that come after all that are there.
    fn add(&mut self, steps: &[Step]) -> Result<(), String> {
        if let Some(late) = steps.iter().find(|step| step.answered < self.latest_call) {
            let value = late.found.or(late.set).unwrap_or(INITIAL);
            return Err(format!("value {value} was seen before it could be there, or after it was replaced"));
        }
        self.earliest_answer = steps.iter().map(|step| step.answered).fold(self.earliest_answer, u64::min);
        self.latest_call = steps.iter().map(|step| step.called).fold(self.latest_call, u64::max);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;
    use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

    use super::*;

    /// A history from lines `(call, called, answer)`; answers at 0 are still out.
    fn verdict(operations: &[(Call, u64, u64, Option<Value>)]) -> Result<(), String> {
        let history: Vec<_> = operations
            .iter()
            .map(|&(call, called, answered, found)| Operation { call, called, answer: (answered > 0).then_some((answered, found)) })
            .collect();
        check(&history)
    }

    const fn cas(expected: Value, new: Value) -> Call {
        Call::CompareAndSet { expected, new }
    }

    #[test]
    fn answers_that_fit_some_order_are_fine() {
        use Call::{Read, Write};
        // Calls that overlap may happen in either order, and one without an answer late, or never.
        let overlap = [(Write(1), 1, 4, None), (Write(2), 2, 5, None), (Read, 6, 7, Some(1)), (Read, 8, 9, Some(1))];
        assert_eq!(verdict(&overlap), Ok(()));
        assert_eq!(verdict(&[(Write(1), 1, 0, None), (Read, 2, 3, Some(0)), (Read, 4, 5, Some(1))]), Ok(()));
        assert_eq!(verdict(&[(Write(1), 1, 2, None), (cas(1, 2), 3, 0, None), (cas(2, 3), 4, 0, None), (Read, 5, 6, Some(3))]), Ok(()));
        assert_eq!(verdict(&[(Write(1), 1, 2, None), (cas(7, 2), 3, 4, Some(1)), (Read, 5, 6, Some(1))]), Ok(()));
    }

    #[test]
    fn answers_that_fit_no_order_are_found() {
        use Call::{Read, Write};
        for (what, operations) in [
            ("a stale read", vec![(Write(1), 1, 2, None), (Write(2), 3, 4, None), (Read, 5, 6, Some(1))]),
            ("a lost write", vec![(Write(1), 1, 2, None), (Read, 3, 4, Some(0))]),
            ("a read from the future", vec![(Read, 1, 2, Some(1)), (Write(1), 3, 4, None)]),
            ("a value from nowhere", vec![(Read, 1, 2, Some(9))]),
            ("two winners", vec![(cas(0, 1), 1, 3, Some(0)), (cas(0, 2), 2, 4, Some(0))]),
            ("a loser that had its way", vec![(cas(5, 1), 1, 2, Some(0)), (Read, 3, 4, Some(1))]),
            ("a circle", vec![(cas(2, 1), 1, 9, Some(2)), (cas(1, 2), 2, 8, Some(1))]),
            ("back and forth", vec![(Write(1), 1, 9, None), (Read, 2, 3, Some(1)), (Read, 4, 5, Some(0))]),
        ] {
            assert!(verdict(&operations).is_err(), "{what}");
        }
    }

    /// A register as `stateright`'s own tester wants it described.
    #[derive(Clone, Debug, PartialEq, Eq, Hash)]
    struct Register(Value);

    impl SequentialSpec for Register {
        type Op = Operation;
        type Ret = Option<Value>;

        fn invoke(&mut self, operation: &Operation) -> Option<Value> {
            let found = self.0;
            match operation.call {
                Call::Read => Some(found),
                Call::Write(value) => {
                    self.0 = value;
                    None
                }
                Call::CompareAndSet { expected, new } => {
                    self.0 = if found == expected { new } else { found };
                    Some(found)
                }
            }
        }
    }

    impl std::hash::Hash for Operation {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            self.called.hash(state);
        }
    }

    /// `stateright`'s tester searches through all orders: on small histories, right or wrong, it must say the same.
    #[test]
    fn the_verdict_is_that_of_a_search_through_all_orders() {
        let mut rng = Rng::with_seed(1);
        let mut verdicts = [0, 0];
        for _ in 0..20_000 {
            let history = random_history(&mut rng);
            let expected = by_search(&history);
            assert_eq!(check(&history).is_ok(), expected, "{history:#?}");
            verdicts[usize::from(expected)] += 1;
        }
        assert!(verdicts.iter().all(|count| *count > 2000), "both verdicts are met: {verdicts:?}");
    }

    /// Up to six operations whose answers are those of a register, or now and then another value that is around.
    fn random_history(rng: &mut Rng) -> Vec<Operation> {
        let operations = rng.u64(2..=6);
        let mut moments: Vec<u64> = (1..=3 * operations).collect();
        rng.shuffle(&mut moments);
        let mut register = Register(INITIAL);
        let mut history: Vec<Operation> = Vec::new();
        let mut spans: Vec<_> = moments.chunks(3).map(|span| [span[0], span[1], span[2]]).collect();
        spans.iter_mut().for_each(|span| span.sort_unstable());
        spans.sort_unstable_by_key(|span| span[1]); // the moment when it happens
        for (number, [called, _, answered]) in (1..).zip(spans) {
            let value = |rng: &mut Rng| rng.u64(0..=operations);
            let call = match rng.u8(..3) {
                0 => Call::Read,
                1 => Call::Write(number),
                _ => Call::CompareAndSet { expected: if rng.bool() { register.0 } else { value(rng) }, new: number },
            };
            let operation = Operation { call, called, answer: None };
            let happens = rng.u8(..8) > 0;
            let mut found = if happens { register.invoke(&operation) } else { None };
            if rng.u8(..6) == 0 {
                found = found.map(|_| value(rng));
            }
            let answer = (happens && rng.u8(..5) > 0).then_some((answered, found));
            history.push(Operation { answer, ..operation });
        }
        history
    }

    fn by_search(history: &[Operation]) -> bool {
        let mut events: Vec<(u64, usize, bool)> = Vec::new();
        for (client, operation) in history.iter().enumerate() {
            events.push((operation.called, client, true));
            events.extend(operation.answer.map(|(answered, _)| (answered, client, false)));
        }
        events.sort_unstable();
        let mut tester = LinearizabilityTester::new(Register(INITIAL));
        for (_, client, is_call) in events {
            let operation = history[client];
            if is_call {
                tester.on_invoke(client, operation).expect("each client calls once");
            } else {
                tester.on_return(client, operation.answer.and_then(|(_, found)| found)).expect("it has called");
            }
        }
        tester.is_consistent()
    }
}
