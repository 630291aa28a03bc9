//! Bugs that tests put in, to see that the simulator would find them. None of this is in a node that is built without the feature
//! `planted-bugs`.

/// A bug that a real implementation had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "planted-bugs"), allow(dead_code, unreachable_pub))]
pub enum Bug {
    /// A follower's acknowledgement names its own last entry, so that a diverging tail counts as replicated.
    AckNamesOwnLast,
    /// A follower drops whatever follows the request's predecessor, so that a delayed request undoes a later one.
    TruncateAlways,
    /// A leader commits entries of earlier terms by counting copies (Raft paper, figure 8).
    CommitEarlierTerms,
    /// Votes and acknowledgements leave before the disk has what they speak for.
    AckBeforeDurable,
    /// A leader answers for reads without asking a majority whether it still leads.
    ReadWithoutRound,
    /// A leader answers for reads before an entry of its own term is committed.
    ReadBeforeFirstCommit,
    /// A leader keeps its lease after it has told its successor to stand.
    KeepLeaseInTransfer,
    /// A repeated command of a session is carried out again.
    RepeatCarriedOut,
    /// Sessions expire by a node's own clock.
    ExpireByOwnClock,
    /// While two configurations hold, a majority of the new one is enough.
    NewMajorityAlone,
    /// While two configurations hold, a majority of all their voters together is enough.
    MajorityOfUnion,
    /// Answers from a peer's earlier life count: from before it was removed and added again.
    AnswersOfEarlierLives,
}

#[cfg(feature = "planted-bugs")]
impl crate::Config {
    /// Whether this bug was put in.
    pub(crate) fn has_bug(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// The bug that was put in.
    pub(crate) fn bug(&self) -> Option<Bug> {
        self.bug
    }
}

#[cfg(not(feature = "planted-bugs"))]
impl crate::Config {
    /// No bug was put in.
    #[allow(clippy::unused_self, reason = "the same signature as with the feature")]
    pub(crate) const fn has_bug(&self, _: Bug) -> bool {
        false
    }

    /// No bug was put in.
    #[allow(clippy::unused_self, reason = "the same signature as with the feature")]
    pub(crate) const fn bug(&self) -> Option<Bug> {
        None
    }
}
