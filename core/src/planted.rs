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
    /// A leader changes the membership before it has committed an entry of its own term.
    ChangeBeforeOwnCommit,
    /// Votes are counted by the latest configuration that is known to be committed, not by the latest in the log.
    ElectByCommittedConfiguration,
    /// While two configurations hold, only who votes in both may stand.
    StandInBothAlone,
    /// A leader goes on when its removal is committed.
    RemovedLeaderStays,
    /// A node never stands in whose configuration it does not vote, committed or not.
    RemovedNeverStands,
    /// An answer to a request for a vote counts as one, whatever it says.
    CountRefusals,
    /// A candidate that has become a follower in its term votes for another one.
    CandidateVotesAgain,
    /// Who refuses a pre-vote tells its later term in vain.
    TermNeverLearned,
    /// Pre-votes are promised while there is a leader, and by the leader itself.
    PreVoteUnderLeader,
    /// A leader tells its successor to stand once everything has been sent, durable or not.
    HandOverBeforeDurable,
    /// The election timeout is drawn anew at each look at the clock.
    TimeoutDrawnAtEachLook,
    /// Elections begin without a pre-vote.
    NoPreVote,
    /// Whether a node leads was looked up before, and its term now.
    LeadByEarlierLook,
    /// Members are what a leader knows: others take up no configuration from the log.
    MembershipOnLeaderAlone,
    /// Commands that are committed together are applied twice.
    ApplyTogetherTwice,
    /// A leader takes no notice of its stalled disk.
    StalledDiskLeads,
    /// A leader takes entries for which there is no space.
    FullDiskTakesEntries,
    /// A voter says that it holds a key when it has another one of that version.
    KeyVersionIsEnough,
    /// The coordinator wants three reports of a failure, of which there is one.
    WaitForMoreReports,
    /// A leader that has compacted what a peer lacks sends it no snapshot.
    CompactedSendsNothing,
    /// What stands before the log is taken for an entry of term 0.
    ForgetBaseTerm,
    /// A snapshot from a leader brings no members.
    MembersNotInSnapshot,
    /// A snapshot is received whatever this node has committed since.
    LateSnapshotCounts,
    /// That a peer has installed a snapshot moves nothing at the leader.
    InstalledMovesNothing,
    /// A node that repairs itself votes, and counts.
    DamagedVotes,
    /// All starts of a node share their random bytes.
    BootShared,
    /// What is sealed is bound to no place in the log.
    SealedForNoPlace,
    /// What an earlier version of the key has sealed is not opened any more.
    EarlierKeysForgotten,
    /// A line of the log shows a key.
    KeyInLine,
    /// Entries are taken whatever their links say.
    LinksUnchecked,
    /// A log that disagrees with a leader's at the same place is made to agree.
    DivergenceOverwritten,
    /// A leader changes the key whoever lacks it.
    KeyChangedUnasked,
    /// A version of the key counts as unneeded before the disk has forgotten what it sealed.
    KeyRetiredEarly,
}

#[cfg(feature = "planted-bugs")]
std::thread_local! {
    static OF_THIS_THREAD: std::cell::Cell<Option<Bug>> = const { std::cell::Cell::new(None) };
}

/// Runs something with a bug in all that this thread makes meanwhile: every [`crate::Config::new`] and [`crate::FailoverCoordinator::new`]. So a test
/// that knows of no bugs can be seen to fail.
#[cfg(feature = "planted-bugs")]
pub fn with_bug<T>(bug: Bug, run: impl FnOnce() -> T) -> T {
    /// Takes the bug away again, if by a panic.
    struct Planted(Option<Bug>);
    impl Drop for Planted {
        fn drop(&mut self) {
            OF_THIS_THREAD.set(self.0);
        }
    }
    let _planted = Planted(OF_THIS_THREAD.replace(Some(bug)));
    run()
}

/// The bug that is in what this thread makes now.
#[cfg(feature = "planted-bugs")]
pub(crate) fn of_this_thread() -> Option<Bug> {
    OF_THIS_THREAD.get()
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
