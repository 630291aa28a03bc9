//! The last token of each fence.

use std::collections::BTreeMap;

use amaters_cluster_core::{EntryId, FencingToken, FencingTokenState};

use super::{Failure, MAX_FENCES};

/// Fences by their names. What is not here lets no token through, so that one that was removed brings no earlier holder back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fences(BTreeMap<Box<[u8]>, FencingTokenState>);

impl Fences {
    /// Issues the next token of a fence: the log entry that asked for it, which no other token is, nor any before it as great.
    pub(super) fn next(&mut self, name: &[u8], entry: EntryId) -> Result<FencingToken, Failure> {
        if !self.0.contains_key(name) && self.0.len() >= MAX_FENCES {
            return Err(Failure::TooManyFences);
        }
        let token = FencingToken::from(entry);
        let state = self.0.entry(name.into()).or_default();
        state.check(token).expect("along the log, indexes grow and terms never fall");
        Ok(token)
    }

    /// Removes a fence. Whether it was there.
    pub(super) fn remove(&mut self, name: &[u8]) -> bool {
        self.0.remove(name).is_some()
    }

    /// Whether a token is as great as the last that its fence issued.
    pub(super) fn admits(&self, name: &[u8], token: FencingToken) -> Result<(), Failure> {
        let state = self.0.get(name).ok_or(Failure::Stale { last: None })?;
        state.admits(token).map_err(|stale| Failure::Stale { last: Some(stale.last_seen) })
    }
}
