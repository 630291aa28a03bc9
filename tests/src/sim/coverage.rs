//! Which rare paths runs have taken: a simulation that never gets there proves nothing about them.

use std::fmt;

use amaters_cluster_core::MAX_VOTERS;

/// A path that bugs like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "`Rare::label` says what each is")]
pub enum Rare {
    Candidacies,
    Elections,
    SteppedDown,
    LostQuorum,
    LeaderCrashes,
    PowerFailures,
    LostWrites,
    UnknownWritesKept,
    TornWrites,
    OneWayCuts,
    PreVotesRefused,
    VotesRefused,
    Conflicts,
    Truncations,
    TruncationsUnderWay,
    DuplicateAppends,
    EarlierTermsCommitted,
    Forwards,
    ForwardsRepeated,
    DuplicateForwards,
    ForwardsToLaterLeader,
    ReadsServed,
    ReadsAcrossLeaders,
    NoLeader,
    UnknownOutcomes,
    Overloaded,
    TooLarge,
    CompareAndSets,
    CompareAndSetsInVain,
    OpenWritesSeen,
    StalledDisks,
    LeadersStalledDisks,
    FullDisks,
    ShortDisks,
    RefusedForSpace,
    ClockLeaps,
    ClocksSetBack,
    Transfers,
    TransfersDone,
    TransfersFailed,
    TransfersRefused,
    LeaseReads,
    PromisesKept,
    DiskStalls,
    SessionsChanged,
    RepeatsAnswered,
    RepeatsWaited,
    RepeatsAcrossLeaders,
    SessionsExpired,
    ResponsesDropped,
    SessionsFull,
    Changes,
    ChangesDone,
    ChangesRefused,
    ChangesUnknown,
    NotCaughtUp,
    LearnersAdded,
    LearnersPromoted,
    JointEntered,
    JointLeft,
    JointLeftByAnother,
    ElectionsInJoint,
    LeadersRemoved,
    ConfigurationsTruncated,
    RefusedAsRemoved,
    Strangers,
    SnapshotsTaken,
    SnapshotsSent,
    SnapshotsInstalled,
    SnapshotsRestored,
    SnapshotsFailed,
    LogsCompacted,
    DamagedSnapshots,
    DamagedLogs,
    DamagedInRepair,
    Repaired,
    Rotations,
    RotationsDone,
    RotationsUnderLoad,
    RotationsRefused,
    RotationsNotHeld,
    RotationsUnknown,
    RotationsTruncated,
    RotationsByAnother,
    KeysAskedFor,
    KeysWaitedFor,
    StartsWithoutKey,
    KeysRetired,
    StartsAfterRetirement,
    SealedSnapshotsInstalled,
    SealedSnapshotsRestored,
    DamagedSealedSnapshots,
}

impl Rare {
    /// All of them.
    pub const ALL: [Self; 92] = [
        Self::Candidacies,
        Self::Elections,
        Self::SteppedDown,
        Self::LostQuorum,
        Self::LeaderCrashes,
        Self::PowerFailures,
        Self::LostWrites,
        Self::UnknownWritesKept,
        Self::TornWrites,
        Self::OneWayCuts,
        Self::PreVotesRefused,
        Self::VotesRefused,
        Self::Conflicts,
        Self::Truncations,
        Self::TruncationsUnderWay,
        Self::DuplicateAppends,
        Self::EarlierTermsCommitted,
        Self::Forwards,
        Self::ForwardsRepeated,
        Self::DuplicateForwards,
        Self::ForwardsToLaterLeader,
        Self::ReadsServed,
        Self::ReadsAcrossLeaders,
        Self::NoLeader,
        Self::UnknownOutcomes,
        Self::Overloaded,
        Self::TooLarge,
        Self::CompareAndSets,
        Self::CompareAndSetsInVain,
        Self::OpenWritesSeen,
        Self::StalledDisks,
        Self::LeadersStalledDisks,
        Self::FullDisks,
        Self::ShortDisks,
        Self::RefusedForSpace,
        Self::ClockLeaps,
        Self::ClocksSetBack,
        Self::Transfers,
        Self::TransfersDone,
        Self::TransfersFailed,
        Self::TransfersRefused,
        Self::LeaseReads,
        Self::PromisesKept,
        Self::DiskStalls,
        Self::SessionsChanged,
        Self::RepeatsAnswered,
        Self::RepeatsWaited,
        Self::RepeatsAcrossLeaders,
        Self::SessionsExpired,
        Self::ResponsesDropped,
        Self::SessionsFull,
        Self::Changes,
        Self::ChangesDone,
        Self::ChangesRefused,
        Self::ChangesUnknown,
        Self::NotCaughtUp,
        Self::LearnersAdded,
        Self::LearnersPromoted,
        Self::JointEntered,
        Self::JointLeft,
        Self::JointLeftByAnother,
        Self::ElectionsInJoint,
        Self::LeadersRemoved,
        Self::ConfigurationsTruncated,
        Self::RefusedAsRemoved,
        Self::Strangers,
        Self::SnapshotsTaken,
        Self::SnapshotsSent,
        Self::SnapshotsInstalled,
        Self::SnapshotsRestored,
        Self::SnapshotsFailed,
        Self::LogsCompacted,
        Self::DamagedSnapshots,
        Self::DamagedLogs,
        Self::DamagedInRepair,
        Self::Repaired,
        Self::Rotations,
        Self::RotationsDone,
        Self::RotationsUnderLoad,
        Self::RotationsRefused,
        Self::RotationsNotHeld,
        Self::RotationsUnknown,
        Self::RotationsTruncated,
        Self::RotationsByAnother,
        Self::KeysAskedFor,
        Self::KeysWaitedFor,
        Self::StartsWithoutKey,
        Self::KeysRetired,
        Self::StartsAfterRetirement,
        Self::SealedSnapshotsInstalled,
        Self::SealedSnapshotsRestored,
        Self::DamagedSealedSnapshots,
    ];

    /// What it is, for people.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Candidacies => "elections begun",
            Self::Elections => "elections won",
            Self::SteppedDown => "leaders that stepped down",
            Self::LostQuorum => "of these, without having seen a later term",
            Self::LeaderCrashes => "leaders that crashed",
            Self::PowerFailures => "crashes of all nodes at once",
            Self::LostWrites => "crashes that lost writes",
            Self::UnknownWritesKept => "crashes that kept writes which the node had not heard of",
            Self::TornWrites => "crashes that tore a write",
            Self::OneWayCuts => "links cut in one direction",
            Self::PreVotesRefused => "pre-votes refused",
            Self::VotesRefused => "votes refused",
            Self::Conflicts => "entries refused for a conflict",
            Self::Truncations => "conflicting tails removed",
            Self::TruncationsUnderWay => "of these, while the tail was on its way to disk",
            Self::DuplicateAppends => "entries that came again",
            Self::EarlierTermsCommitted => "entries committed by a later leader than their own",
            Self::Forwards => "proposals forwarded",
            Self::ForwardsRepeated => "forwards sent again to the same leader",
            Self::DuplicateForwards => "forwards that came again",
            Self::ForwardsToLaterLeader => "proposals sent on to a later leader",
            Self::ReadsServed => "reads served",
            Self::ReadsAcrossLeaders => "of these, under a later leader than when they were asked",
            Self::NoLeader => "requests refused for want of a leader",
            Self::UnknownOutcomes => "proposals whose outcome stayed unknown",
            Self::Overloaded => "proposals refused for overload",
            Self::TooLarge => "proposals refused as too large",
            Self::CompareAndSets => "compare-and-sets that succeeded",
            Self::CompareAndSetsInVain => "compare-and-sets that found another value",
            Self::OpenWritesSeen => "registers with a write that nobody confirmed and somebody read",
            Self::StalledDisks => "disks that stalled",
            Self::LeadersStalledDisks => "of these, a leader's",
            Self::FullDisks => "nodes that a full disk ended",
            Self::ShortDisks => "disks whose node heard that they are full",
            Self::RefusedForSpace => "requests refused for want of space",
            Self::ClockLeaps => "clocks that leapt",
            Self::ClocksSetBack => "clocks set back",
            Self::Transfers => "leaders asked to hand over",
            Self::TransfersDone => "of these, whose successor led",
            Self::TransfersFailed => "of these, whose successor did not within its time",
            Self::TransfersRefused => "transfers refused",
            Self::LeaseReads => "reads served under a lease",
            Self::PromisesKept => "requests for a vote that a promise forbade to look at",
            Self::DiskStalls => "leaders that left for their disk",
            Self::SessionsChanged => "sessions opened, kept or closed",
            Self::RepeatsAnswered => "repeated commands answered with the first response",
            Self::RepeatsWaited => "of these, once the first response had come",
            Self::RepeatsAcrossLeaders => "of these, under a later leader than the first",
            Self::SessionsExpired => "requests refused for want of their session",
            Self::ResponsesDropped => "repeated commands refused as acknowledged",
            Self::SessionsFull => "commands refused for too many open ones",
            Self::Changes => "leaders asked for other members",
            Self::ChangesDone => "changes of the members that were done",
            Self::ChangesRefused => "changes of the members that were refused",
            Self::ChangesUnknown => "changes of the members whose leader was deposed meanwhile",
            Self::NotCaughtUp => "changes refused or given up since a node had not caught up",
            Self::LearnersAdded => "configurations committed with a new learner",
            Self::LearnersPromoted => "joint configurations committed that made a learner a voter",
            Self::JointEntered => "joint configurations committed",
            Self::JointLeft => "joint configurations left",
            Self::JointLeftByAnother => "of these, by a later leader",
            Self::ElectionsInJoint => "elections won in a joint configuration",
            Self::LeadersRemoved => "leaders that committed a configuration without themselves",
            Self::ConfigurationsTruncated => "configurations undone with a conflicting tail",
            Self::RefusedAsRemoved => "requests refused by a removed node",
            Self::Strangers => "messages of nodes that are no members turned away",
            _ => self.label_of_storage(),
        }
    }

    /// The same for what befalls snapshots and logs on disk.
    fn label_of_storage(self) -> &'static str {
        match self {
            Self::SnapshotsTaken => "snapshots taken",
            Self::SnapshotsSent => "snapshots sent to the end",
            Self::SnapshotsInstalled => "snapshots installed",
            Self::SnapshotsRestored => "states restored from a snapshot",
            Self::SnapshotsFailed => "snapshots that found no room",
            Self::LogsCompacted => "logs on disk that lost their beginning",
            Self::DamagedSnapshots => "nodes whose newest snapshot was damaged, and that had another",
            Self::DamagedLogs => "logs of a minority that were lost",
            Self::DamagedInRepair => "of these, before they were repaired",
            Self::Repaired => "nodes that repaired themselves",
            _ => self.label_of_sealing(),
        }
    }

    /// The same for what befalls keys, and what is sealed with them.
    fn label_of_sealing(self) -> &'static str {
        match self {
            Self::Rotations => "leaders of sealed clusters asked for another key",
            Self::RotationsDone => "changes of the key that were done",
            Self::RotationsUnderLoad => "of these, with commands on both sides of the change under way",
            Self::RotationsRefused => "changes of the key that were refused",
            Self::RotationsNotHeld => "changes of the key given up since a voter did not hold it",
            Self::RotationsUnknown => "changes of the key whose leader was deposed meanwhile",
            Self::RotationsTruncated => "changes of the key undone with a conflicting tail",
            Self::RotationsByAnother => "changes of the key that a later leader committed",
            Self::KeysAskedFor => "missing keys that nodes asked for",
            Self::KeysWaitedFor => "missing keys that came",
            Self::StartsWithoutKey => "starts that failed for want of a key",
            Self::KeysRetired => "versions of the key that were retired",
            Self::StartsAfterRetirement => "starts without a version that was in use once",
            Self::SealedSnapshotsInstalled => "sealed snapshots installed",
            Self::SealedSnapshotsRestored => "states restored from a sealed snapshot",
            Self::DamagedSealedSnapshots => "damaged sealed snapshots that had another before them",
            _ => unreachable!("the others have their labels"),
        }
    }
}

/// How often each was taken, and by clusters of which sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    counts: [u64; Rare::ALL.len()],
    /// How many runs had 1 node, 2 nodes, and so on.
    sizes: [u64; MAX_VOTERS],
    /// How many runs had a sealed log.
    sealed: u64,
}

impl Default for Coverage {
    fn default() -> Self {
        Self { counts: [0; Rare::ALL.len()], sizes: [0; MAX_VOTERS], sealed: 0 }
    }
}

impl Coverage {
    /// Of a run of a cluster of this size.
    pub(super) fn of(nodes: u64, sealed: bool) -> Self {
        let mut coverage = Self { sealed: sealed.into(), ..Self::default() };
        coverage.sizes[usize::try_from(nodes).map_or(0, |nodes| nodes - 1)] += 1;
        coverage
    }

    pub(super) fn hit(&mut self, rare: Rare) {
        self.counts[rare as usize] += 1;
    }

    pub(super) fn hit_if(&mut self, holds: bool, rare: Rare) {
        if holds {
            self.hit(rare);
        }
    }

    /// What a node says of itself.
    pub(super) fn note(&mut self, message: &str, sealed: bool) {
        self.hit_if(message.starts_with("stands for election"), Rare::Candidacies);
        self.hit_if(message.contains("is not heard"), Rare::Strangers);
        self.hit_if(message.contains(" was taken: "), Rare::SnapshotsTaken);
        self.hit_if(message.starts_with("installed snapshot"), Rare::SnapshotsInstalled);
        self.hit_if(sealed && message.starts_with("installed snapshot"), Rare::SealedSnapshotsInstalled);
        self.hit_if(message.ends_with(" of the key is there"), Rare::KeysWaitedFor);
        self.hit_if(message.ends_with("another was promised that there is none"), Rare::PromisesKept);
        self.hit_if(message.starts_with("the disk has made no progress"), Rare::DiskStalls);
    }

    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
        for (count, more) in self.sizes.iter_mut().zip(other.sizes) {
            *count += more;
        }
        self.sealed += other.sealed;
    }

    /// How often a path was taken.
    #[must_use]
    pub fn count(&self, rare: Rare) -> u64 {
        self.counts[rare as usize]
    }

    /// The paths that were never taken.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let sizes = (1..).zip(self.sizes).filter(|(_, count)| *count == 0).map(|(nodes, _)| format!("clusters of {nodes}"));
        let sizes = sizes.chain((self.sealed == 0).then(|| "clusters that seal their log".to_owned()));
        Rare::ALL.into_iter().filter(|rare| self.count(*rare) == 0).map(|rare| rare.label().to_owned()).chain(sizes).collect()
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (1..).zip(self.sizes).try_for_each(|(nodes, count)| writeln!(f, "{count:>10}  clusters of {nodes}"))?;
        writeln!(f, "{:>10}  clusters that seal their log", self.sealed)?;
        Rare::ALL.into_iter().try_for_each(|rare| writeln!(f, "{:>10}  {}", self.count(rare), rare.label()))
    }
}
