//! What stands in which segment, so that those that say nothing any more can go.

use std::collections::{BTreeMap, BTreeSet};

use amaters_cluster_core::{GroupId, LogIndex};

use super::record::Body;

/// Kept while records are written, and made again from them at each start.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    segments: BTreeMap<u64, Segment>,
    groups: BTreeMap<GroupId, Group>,
    /// Segments before this one were released.
    released: u64,
}

/// What stands in a segment.
#[derive(Debug, Default)]
struct Segment {
    /// The last index of each group's appends; 0 where a group has only others.
    groups: BTreeMap<GroupId, LogIndex>,
    /// Groups that had a hard state when the segment began, and have none in it yet.
    lacking: BTreeSet<GroupId>,
    /// Whether each group's hard state stands before its other records. Else the journal can't begin here: what follows is to be read with the hard state that
    /// held when it came.
    is_whole: bool,
}

/// The latest of a group's records.
#[derive(Debug, Default)]
struct Group {
    hard_state: Option<(u64, Vec<u8>)>,
    /// Whether its hard state has changed since it was last taken.
    is_new: bool,
    /// The segment of the latest compaction, and what it needs.
    compact: Option<(u64, LogIndex)>,
    /// Whether that came since segments were last looked at.
    may_release: bool,
}

impl Ledger {
    /// Takes note of a record.
    pub(crate) fn note(&mut self, segment: u64, group: GroupId, body: Body<'_>) {
        let known = self.groups.iter().filter(|(_, group)| group.hard_state.is_some());
        let here = self.segments.entry(segment).or_insert_with(|| Segment {
            groups: BTreeMap::new(),
            lacking: known.map(|(id, _)| *id).collect(),
            is_whole: true,
        });
        let last = match body {
            Body::Mark => return,
            Body::Release { first_segment } => {
                self.released = self.released.max(first_segment);
                self.segments = self.segments.split_off(&self.released);
                return;
            }
            Body::Append { first, count, .. } => LogIndex(first.0.saturating_add(u64::from(count))).previous(),
            Body::HardState(_) | Body::Compact { .. } => LogIndex::default(),
        };
        let highest = here.groups.entry(group).or_default();
        *highest = last.max(*highest);
        match body {
            Body::HardState(_) => drop(here.lacking.remove(&group)),
            _ => here.is_whole &= !here.lacking.contains(&group),
        }
        let group = self.groups.entry(group).or_default();
        match body {
            Body::HardState(bytes) => {
                group.is_new |= group.hard_state.as_ref().is_none_or(|(_, before)| before != bytes);
                group.hard_state = Some((segment, bytes.to_vec()));
            }
            Body::Compact { first, .. } => {
                group.compact = Some((segment, first));
                group.may_release = true;
            }
            Body::Append { .. } | Body::Release { .. } | Body::Mark => {}
        }
    }

    /// The first segment that is still needed, if a compaction has come since this was last asked and there are any before it. `current` is being written, and stays.
    pub(crate) fn releasable(&mut self, current: u64) -> Option<u64> {
        let mut compacted = false;
        for group in self.groups.values_mut() {
            compacted |= std::mem::take(&mut group.may_release);
        }
        if !compacted {
            return None;
        }
        let needed = self.segments.range(..current).find(|(number, segment)| !self.says_nothing(**number, segment));
        let needed = needed.map_or(current, |(number, _)| *number);
        let can_begin = |segment: &Segment| segment.is_whole && segment.lacking.is_empty();
        let (&first, _) = self.segments.range(..=needed).rev().find(|(_, segment)| can_begin(segment))?;
        let any = self.segments.keys().next().is_some_and(|oldest| *oldest < first);
        any.then_some(first)
    }

    fn says_nothing(&self, number: u64, segment: &Segment) -> bool {
        segment.groups.iter().all(|(group, last)| {
            let Some(Group { hard_state, compact: Some((compact, first)), .. }) = self.groups.get(group) else { return false };
            let hard_state_stays = hard_state.as_ref().is_none_or(|(latest, _)| *latest > number);
            last < first && *compact > number && hard_state_stays
        })
    }

    /// Each group's hard state.
    pub(crate) fn hard_states(&self) -> Vec<(GroupId, Vec<u8>)> {
        self.groups.iter().filter_map(|(id, group)| Some((*id, group.hard_state.as_ref()?.1.clone()))).collect()
    }

    /// The hard states that have changed since this was last called: each group's, after a walk through the journal.
    pub(crate) fn take_new_hard_states(&mut self) -> impl Iterator<Item = (GroupId, &[u8])> {
        let changed = self.groups.iter_mut().filter_map(|(id, group)| std::mem::take(&mut group.is_new).then_some((*id, &*group)));
        changed.filter_map(|(id, group)| Some((id, &group.hard_state.as_ref()?.1[..])))
    }
}
