//! An ordered map as it was at one moment, while it goes on changing.
//!
//! Nothing is copied to begin with. The first change of a key that the walk has yet to come to puts its old value aside; what the walk has passed costs
//! nothing. So a view costs memory for what changes while it is walked, and time for nothing else.

use std::collections::BTreeMap;
use std::iter::Peekable;

use super::table::Key;

/// How much of a piece a key counts that was not there: many of them must not make a step long.
const ABSENT_BYTES: usize = 32;

/// Where the walk through a map stands, and what has changed before it came there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View<V> {
    /// The last key that was given.
    passed: Option<Key>,
    /// How keys behind it were that have changed since; none for those that were not there.
    before: BTreeMap<Key, Option<V>>,
}

impl<V> Default for View<V> {
    fn default() -> Self {
        Self { passed: None, before: BTreeMap::new() }
    }
}

impl<V> View<V> {
    /// The last key that was given.
    pub(super) fn passed(&self) -> Option<&[u8]> {
        self.passed.as_deref()
    }

    /// Whether the value that a key has is to be put aside before it changes.
    pub(super) fn wants(&self, key: &[u8]) -> bool {
        self.passed().is_none_or(|passed| key > passed) && !self.before.contains_key(key)
    }

    /// Puts the value aside that a key has, or had until just now.
    pub(super) fn keep(&mut self, key: &[u8], value: Option<V>) {
        self.before.insert(Key::from_slice(key), value);
    }

    /// How many values are put aside.
    pub(super) fn kept(&self) -> usize {
        self.before.len()
    }

    /// Gives keys and values as they were, in the order of the keys, until `give` has taken as many bytes as there are in `room`: it says how many each was. Whether all
    /// have been given.
    ///
    /// `live` are the keys behind the last one that was given, as they are now, and `value` knows their values.
    pub(super) fn walk<'m>(
        &mut self,
        live: impl Iterator<Item = &'m [u8]>,
        value: impl Fn(&[u8]) -> Option<&'m V>,
        mut room: usize,
        mut give: impl FnMut(&[u8], &V) -> usize,
    ) -> bool
    where
        V: 'm,
    {
        let mut live = live.peekable();
        while room > 0 {
            let (key, took) = match self.turn(&mut live) {
                Some(Next::Live(key)) => (Key::from_slice(key), value(key).map(|value| give(key, value))),
                Some(Next::Kept(key, old)) => {
                    let took = old.map(|old| give(&key, &old));
                    (key, took)
                }
                None => return true,
            };
            room = room.saturating_sub(took.unwrap_or(ABSENT_BYTES));
            self.passed = Some(key);
        }
        false
    }

    /// What comes next. A key that has changed counts as it was.
    fn turn<'m>(&mut self, live: &mut Peekable<impl Iterator<Item = &'m [u8]>>) -> Option<Next<'m, V>> {
        let kept = self.before.first_entry();
        let (next_live, next_kept) = (live.peek().copied(), kept.as_ref().map(|kept| &kept.key()[..]));
        match (next_live, next_kept) {
            (Some(key), None) => {
                live.next();
                return Some(Next::Live(key));
            }
            (Some(key), Some(kept)) if key < kept => {
                live.next();
                return Some(Next::Live(key));
            }
            (Some(key), Some(kept)) if key == kept => drop(live.next()),
            _ => {}
        }
        kept.map(|kept| kept.remove_entry()).map(|(key, old)| Next::Kept(key, old))
    }
}

/// The next key of a walk.
enum Next<'m, V> {
    /// It is as it was.
    Live(&'m [u8]),
    /// It has changed, and was this.
    Kept(Key, Option<V>),
}
