//! What fails, and how often, during a spell of a run.
//!
//! Runs in which everything fails at its average rate are all alike. So each spell draws its own rates, many of them zero: now the network is fine
//! and nodes crash, now disks stall while messages overtake each other (Groce et al., "Swarm Testing", 2012).

use fastrand::Rng;

/// What a step may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Deliver,
    Complete,
    Answer,
    PassTime,
    Propose,
    Read,
    Transfer,
    Session,
    ChangeMembers,
    RotateKey,
    ManageKeys,
    Lose,
    Duplicate,
    Cut,
    Heal,
    Crash,
    PowerFailure,
    Restart,
    StallDisk,
    FillDisk,
    MendDisks,
    JumpClock,
}

const ACTIONS: [Action; 22] = [
    Action::Deliver,
    Action::Complete,
    Action::Answer,
    Action::PassTime,
    Action::Propose,
    Action::Read,
    Action::Transfer,
    Action::Session,
    Action::ChangeMembers,
    Action::RotateKey,
    Action::ManageKeys,
    Action::Lose,
    Action::Duplicate,
    Action::Cut,
    Action::Heal,
    Action::Crash,
    Action::PowerFailure,
    Action::Restart,
    Action::StallDisk,
    Action::FillDisk,
    Action::MendDisks,
    Action::JumpClock,
];

/// The rates of a spell.
#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// How often each action comes, relative to the others.
    weights: [u32; ACTIONS.len()],
    /// The chance that a message is delivered in the order of the pool.
    pub(super) in_order: f64,
    /// The chance that a node isn't ticked right after an input: a burst.
    pub(super) bursts: f64,
    /// The longest pause between two steps, in milliseconds.
    pub(super) longest_pause: u64,
    /// The chance that a fault hits the leader rather than any node.
    pub(super) aimed_at_leader: f64,
    /// If not 0: the most steps that a new leader gets, before it crashes or is cut off. It leaves behind what it could replicate by then.
    pub(super) reign: u32,
    /// How far the clocks' rates are from true, in percent at most: each machine's is drawn anew in each spell.
    pub(super) skew: u64,
    /// The chance that a node which crashes has lost its log, in percent.
    pub(super) damage: u32,
    /// The size of commands, in bytes.
    pub(super) command_bytes: usize,
}

impl Weather {
    /// `sealed`: whether there are keys to care for.
    pub(super) fn draw(rng: &mut Rng, sealed: bool) -> Self {
        let mut one_of = |choices: &[u32]| choices[rng.usize(..choices.len())];
        let weights = [
            200,                                                                  // Deliver
            one_of(&[20, 60, 200]),                                               // Complete
            one_of(&[10, 40, 100]),                                               // Answer
            one_of(&[3, 10, 40, 80]),                                             // PassTime
            one_of(&[0, 5, 20]),                                                  // Propose
            one_of(&[0, 2, 8]),                                                   // Read
            one_of(&[0, 0, 2, 6]),                                                // Transfer
            one_of(&[0, 0, 10, 30]),                                              // Session
            one_of(&[0, 2, 10]),                                                  // ChangeMembers
            if sealed { one_of(&[0, 2, 10, 30]) } else { one_of(&[0, 0, 0, 1]) }, // RotateKey
            if sealed { one_of(&[5, 20, 60]) } else { 0 },                        // ManageKeys
            one_of(&[0, 0, 5, 30]),                                               // Lose
            one_of(&[0, 5, 20]),                                                  // Duplicate
            one_of(&[0, 0, 2, 4]),                                                // Cut
            one_of(&[0, 1, 10]),                                                  // Heal
            one_of(&[0, 0, 1, 3]),                                                // Crash
            one_of(&[0, 0, 0, 0, 0, 1]),                                          // PowerFailure
            one_of(&[5, 20, 50]),                                                 // Restart
            one_of(&[0, 0, 0, 1, 3]),                                             // StallDisk
            one_of(&[0, 0, 0, 0, 1]),                                             // FillDisk
            one_of(&[2, 5, 10]),                                                  // MendDisks
            one_of(&[0, 0, 0, 1, 3]),                                             // JumpClock
        ];
        let in_order = f64::from(one_of(&[100, 100, 90, 50, 0])) / 100.0;
        let bursts = f64::from(one_of(&[0, 20, 60])) / 100.0;
        let longest_pause = one_of(&[20, 60, 100]).into();
        let aimed_at_leader = f64::from(one_of(&[0, 50, 90])) / 100.0;
        let reign = one_of(&[0, 8, 8, 20, 50, 100]);
        let skew = one_of(&[1, 10, 10, 80]).into();
        let damage = one_of(&[0, 0, 20, 60]);
        let command_bytes = one_of(&[8, 300, 1100]) as usize;
        Self { weights, in_order, bursts, longest_pause, aimed_at_leader, reign, skew, damage, command_bytes }
    }

    pub(super) fn next(&self, rng: &mut Rng) -> Action {
        let all: u32 = self.weights.iter().sum();
        let mut left = rng.u32(..all);
        for (action, weight) in ACTIONS.into_iter().zip(self.weights) {
            match left.checked_sub(weight) {
                Some(rest) => left = rest,
                None => return action,
            }
        }
        unreachable!("a number below the sum of the weights falls into one of them")
    }
}
