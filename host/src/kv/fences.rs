//! The last token of each fence.

use std::collections::BTreeMap;
use std::ops::Bound;

use amaters_cluster_core::{EntryId, FencingToken, FencingTokenState};

use super::view::View;
use super::{Failure, MAX_FENCES};

/// Fences by their names. What is not here lets no token through, so that one that was removed brings no earlier holder back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fences {
    states: BTreeMap<Box<[u8]>, FencingTokenState>,
    /// The fences as they were, while somebody wants to know.
    capture: Option<View<FencingTokenState>>,
}

impl Fences {
    /// Issues the next token of a fence: the log entry that asked for it, which no other token is, nor any before it as great.
    pub(super) fn next(&mut self, name: &[u8], entry: EntryId) -> Result<FencingToken, Failure> {
        let old = self.states.get(name).copied();
        if old.is_none() && self.states.len() >= MAX_FENCES {
            return Err(Failure::TooManyFences);
        }
        self.keep(name, old);
        let token = FencingToken::from(entry);
        let state = self.states.entry(name.into()).or_default();
        state.check(token).expect("along the log, indexes grow and terms never fall");
        Ok(token)
    }

    /// Removes a fence. Whether it was there.
    pub(super) fn remove(&mut self, name: &[u8]) -> bool {
        let old = self.states.remove(name);
        if old.is_some() {
            self.keep(name, old);
        }
        old.is_some()
    }

    /// Whether a token is as great as the last that its fence issued.
    pub(super) fn admits(&self, name: &[u8], token: FencingToken) -> Result<(), Failure> {
        let state = self.states.get(name).ok_or(Failure::Stale { last: None })?;
        state.admits(token).map_err(|stale| Failure::Stale { last: Some(stale.last_seen) })
    }

    fn keep(&mut self, name: &[u8], old: Option<FencingTokenState>) {
        if let Some(view) = self.capture.as_mut().filter(|view| view.wants(name)) {
            view.keep(name, old);
        }
    }

    /// Keeps the fences as they are now, until [`Fences::release`].
    pub(super) fn capture(&mut self) {
        self.capture = Some(View::default());
    }

    /// What was captured is no longer wanted.
    pub(super) fn release(&mut self) {
        self.capture = None;
    }

    /// Gives the next names and tokens of the captured fences, as [`View::walk`] does. Nothing is captured: nothing is given.
    pub(super) fn walk_captured(&mut self, room: usize, mut give: impl FnMut(&[u8], FencingToken) -> usize) -> bool {
        let Some(view) = &mut self.capture else { return true };
        let states = &self.states;
        let after = view.passed().map(Box::<[u8]>::from);
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let live = states.range::<[u8], _>((start, Bound::Unbounded)).map(|(name, _)| &name[..]);
        view.walk(live, |name| states.get(name), room, |name, state| give(name, state.last_seen()))
    }

    /// Adds a fence behind all others. False if it does not belong there, or there are too many.
    pub(super) fn push(&mut self, name: &[u8], last: FencingToken) -> bool {
        let fits = self.states.len() < MAX_FENCES && self.states.last_key_value().is_none_or(|(before, _)| name > &before[..]);
        let mut state = FencingTokenState::default();
        let fits = fits && state.check(last).is_ok();
        if fits {
            self.states.insert(name.into(), state);
        }
        fits
    }
}
