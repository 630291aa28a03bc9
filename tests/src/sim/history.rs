//! What clients see: the answers to their reads, writes and compare-and-sets on a few registers, whose history must be linearizable.

use std::collections::BTreeMap;

use amaters_cluster_core::{Committed, NodeId, Rejected, Rejection, Token};

use super::Check;
use super::command::{Command, REGISTERS};
use super::coverage::{Coverage, Rare};
use super::linearizability::{self, Call, INITIAL, Operation, Value};

/// All requests that may have been carried out, and the registers as each node has them.
#[derive(Default)]
pub(super) struct History {
    /// The number of the last event.
    moment: u64,
    requests: BTreeMap<Token, Request>,
    registers: BTreeMap<NodeId, [Value; REGISTERS]>,
    /// What some client found last in each register.
    found: [Value; REGISTERS],
}

struct Request {
    register: usize,
    operation: Operation,
}

impl History {
    /// A client calls.
    pub(super) fn called(&mut self, token: Token, register: usize, call: Call) {
        self.moment += 1;
        self.requests.insert(token, Request { register, operation: Operation { call, called: self.moment, answer: None } });
    }

    /// What some client found last in a register: what the next compare-and-set expects there.
    pub(super) fn found(&self, register: usize) -> Value {
        self.found[register]
    }

    /// A node has crashed: its registers begin anew, and its clients get no answers.
    pub(super) fn crashed(&mut self, node: NodeId) {
        self.registers.remove(&node);
    }

    /// A node applies commands, and answers those that are its own.
    pub(super) fn applied(&mut self, node: NodeId, commands: &[Committed], coverage: &mut Coverage) {
        for committed in commands {
            let Some(Command { register, expected, token }) = Command::decode(&committed.command) else { continue };
            let held = &mut self.registers.entry(node).or_insert([INITIAL; REGISTERS])[register];
            let found = *held;
            let succeeds = expected.is_none_or(|expected| expected == found);
            if succeeds {
                *held = token.0;
            }
            if let Some(own) = committed.token {
                self.found[register] = if succeeds { token.0 } else { found };
                self.answer(own, expected.map(|_| found));
                coverage.hit_if(expected.is_some() && succeeds, Rare::CompareAndSets);
                coverage.hit_if(!succeeds, Rare::CompareAndSetsInVain);
            }
        }
    }

    /// A node serves reads.
    pub(super) fn served(&mut self, node: NodeId, tokens: &[Token]) {
        let registers = self.registers.get(&node).copied().unwrap_or([INITIAL; REGISTERS]);
        for token in tokens {
            let Some(register) = self.requests.get(token).map(|request| request.register) else { continue };
            self.found[register] = registers[register];
            self.answer(*token, Some(registers[register]));
        }
    }

    /// A node turns requests down: they were not carried out, where it doesn't say that they may have been.
    pub(super) fn rejected(&mut self, requests: &[Rejected]) {
        for rejected in requests.iter().filter(|rejected| rejected.reason != Rejection::UnknownOutcome) {
            self.requests.remove(&rejected.token);
        }
    }

    fn answer(&mut self, token: Token, found: Option<Value>) {
        self.moment += 1;
        if let Some(request) = self.requests.get_mut(&token) {
            request.operation.answer = Some((self.moment, found));
        }
    }

    /// There is an order that explains all answers so far.
    pub(super) fn check(&self, coverage: &mut Coverage) -> Check {
        for register in 0..REGISTERS {
            let of_register = self.requests.values().filter(|request| request.register == register);
            let history: Vec<Operation> = of_register.map(|request| request.operation).collect();
            linearizability::check(&history).map_err(|reason| format!("linearizability: in register {register}, {reason}"))?;
            let seen = history.iter().any(|operation| operation.is_open_but_seen(&history));
            coverage.hit_if(seen, Rare::OpenWritesSeen);
        }
        Ok(())
    }
}
