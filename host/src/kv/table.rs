//! The map itself: found by hash, walked in order.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use smallvec::SmallVec;

use super::view::View;

/// Short keys stand in the table itself: to compare them costs no jump through memory.
pub(super) type Key = SmallVec<[u8; 24]>;

/// From so many keys on a table is let go of by a thread of its own: that takes about a second for each ten million.
const MANY_KEYS: usize = 10_000;

/// Keys and values, in the order of the keys.
///
/// A tree alone would do. But most commands name a key that is there, and a hash finds it in one jump through memory where a tree takes one or two
/// on each of its levels. The tree is left with what comes and goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    /// Never walked: its order differs from node to node.
    values: HashMap<Key, Vec<u8>>,
    /// The same keys.
    order: BTreeSet<Key>,
    /// The table as it was, while somebody wants to know.
    capture: Option<Box<Capture>>,
}

/// A table as it was at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Capture {
    view: View<Vec<u8>>,
    /// The table of that moment, if it was emptied since: what is there now has nothing to do with it.
    emptied: Option<Table>,
}

impl Table {
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&[u8]> {
        self.values.get(key).map(|value| &value[..])
    }

    /// Copies what it keeps. A value takes the place of the one before it where it fits.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        let view = self.capture.as_mut().and_then(|capture| capture.wanting(key));
        if let Some(place) = self.values.get_mut(key) {
            match view {
                Some(view) => view.keep(key, Some(std::mem::replace(place, value.to_vec()))),
                None => overwrite(place, value),
            }
            return;
        }
        if let Some(view) = view {
            view.keep(key, None);
        }
        let key = Key::from_slice(key);
        self.order.insert(key.clone());
        self.values.insert(key, value.to_vec());
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.order.remove(key);
        let old = self.values.remove(key)?;
        if let Some(view) = self.capture.as_mut().and_then(|capture| capture.wanting(key)) {
            view.keep(key, Some(old.clone()));
        }
        Some(old)
    }

    /// Removes everything. What was captured stays.
    pub(super) fn clear(&mut self) {
        let mut capture = self.capture.take();
        let old = std::mem::take(self);
        match &mut capture {
            Some(capture) if capture.emptied.is_none() => capture.emptied = Some(old),
            _ => let_go(old.values.len(), old),
        }
        self.capture = capture;
    }

    /// Keeps the table as it is now, until [`Table::release`].
    pub(super) fn capture(&mut self) {
        self.release();
        self.capture = Some(Box::default());
    }

    /// What was captured is no longer wanted.
    pub(super) fn release(&mut self) {
        if let Some(capture) = self.capture.take() {
            let_go(capture.view.kept() + capture.emptied.as_ref().map_or(0, Self::len), capture);
        }
    }

    /// Gives the next keys and values of the captured table, as [`View::walk`] does. Nothing is captured: nothing is given.
    pub(super) fn walk_captured(&mut self, room: usize, give: impl FnMut(&[u8], &Vec<u8>) -> usize) -> bool {
        let Some(mut capture) = self.capture.take() else { return true };
        let Capture { view, emptied } = capture.as_mut();
        let table = emptied.as_ref().unwrap_or(self);
        let after = view.passed().map(Key::from_slice);
        let ended = view.walk(table.keys_after(after.as_deref()), |key| table.values.get(key), room, give);
        self.capture = Some(capture);
        ended
    }

    /// Adds a key behind all others. False if it does not belong there.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) -> bool {
        let fits = self.order.last().is_none_or(|last| key > &last[..]);
        if fits {
            self.put(key, value);
        }
        fits
    }

    /// The keys behind `after`, or all of them, in their order.
    pub(super) fn keys_after<'a>(&'a self, after: Option<&[u8]>) -> impl Iterator<Item = &'a [u8]> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range::<[u8], _>((start, Bound::Unbounded)).map(|key| &key[..])
    }
}

impl Capture {
    /// The view, if it has to know of a change of this key.
    fn wanting(&mut self, key: &[u8]) -> Option<&mut View<Vec<u8>>> {
        (self.emptied.is_none() && self.view.wants(key)).then_some(&mut self.view)
    }
}

/// Drops a thing with many parts where it holds nobody up.
fn let_go<T: Send + 'static>(parts: usize, thing: T) {
    if parts >= MANY_KEYS {
        // Without a thread it is dropped here, with what was to be its work.
        let _ = std::thread::Builder::new().name("kv-drop".to_owned()).spawn(move || drop(thing));
    }
}

/// Keeps at most twice the memory that the value takes.
fn overwrite(place: &mut Vec<u8>, value: &[u8]) {
    place.clear();
    place.shrink_to(value.len() * 2);
    place.extend_from_slice(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_in_their_order_and_once_whatever_happened_to_them() {
        let mut table = Table::default();
        for key in ["b", "c", "a", "b"] {
            table.put(key.as_bytes(), b"v");
        }
        table.put(b"c", b"w");
        assert_eq!(table.remove(b"a"), Some(b"v".to_vec()));
        assert_eq!(table.remove(b"a"), None);
        assert_eq!((table.len(), table.get(b"c")), (2, Some(&b"w"[..])));
        assert!(table.keys_after(None).eq([b"b", b"c"]));
        assert!(table.keys_after(Some(b"b")).eq([b"c"]));
        assert!(table.keys_after(Some(b"c")).next().is_none());
    }

    #[test]
    fn a_small_value_gives_back_the_memory_of_a_large_one() {
        let mut place = vec![0; 1 << 20];
        overwrite(&mut place, b"small");
        assert!(place == b"small" && place.capacity() < 1 << 10);
    }
}
