//! The map itself: found by hash, walked in order.

use std::collections::{BTreeSet, HashMap};
use std::ops::Bound;

use smallvec::SmallVec;

/// Short keys stand in the table itself: to compare them costs no jump through memory.
type Key = SmallVec<[u8; 24]>;

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
        if let Some(place) = self.values.get_mut(key) {
            overwrite(place, value);
            return;
        }
        let key = Key::from_slice(key);
        self.order.insert(key.clone());
        self.values.insert(key, value.to_vec());
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.order.remove(key);
        self.values.remove(key)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The keys behind `after`, or all of them, in their order.
    pub(super) fn keys_after<'a>(&'a self, after: Option<&[u8]>) -> impl Iterator<Item = &'a [u8]> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        self.order.range::<[u8], _>((start, Bound::Unbounded)).map(|key| &key[..])
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
