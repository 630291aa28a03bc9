//! A chained log on a disk that can't be trusted.

use std::ops::RangeInclusive;

use super::*;

#[derive(Clone)]
pub(super) struct Written {
    pub(super) entries: Vec<Entry>,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) kind: u8,
    pub(super) beside: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) link: ChainLink,
}

impl Entry {
    fn chained(&self) -> ChainedEntry<'_> {
        ChainedEntry { id: self.id, kind: self.kind, beside: &self.beside, payload: &self.payload }
    }
}

impl Written {
    pub(super) fn entries(indexes: RangeInclusive<u64>) -> Self {
        let payloads: Vec<_> = indexes.map(|index| format!("payload {index}").into_bytes()).collect();
        Self { entries: Vec::new() }.go_on(&payloads)
    }

    pub(super) fn go_on(mut self, payloads: &[impl AsRef<[u8]>]) -> Self {
        let verifier = verifier("orders", VERSION_1);
        for payload in payloads {
            let previous = self.entries.last().map_or(verifier.genesis(), |entry| entry.link);
            let index = u64::try_from(self.entries.len()).expect("small") + 1;
            let mut entry =
                Entry { id: id(1, index), kind: 1, beside: b"origin".to_vec(), payload: payload.as_ref().to_vec(), link: previous };
            entry.link = verifier.link(&previous, &entry.chained());
            self.entries.push(entry);
        }
        self
    }

    pub(super) fn first_broken(&self) -> Option<EntryId> {
        let verifier = verifier("orders", VERSION_1);
        let mut previous = verifier.genesis();
        for entry in &self.entries {
            if let Err(broken) = verifier.verify(&previous, &entry.chained(), &entry.link) {
                return Some(broken.id);
            }
            previous = entry.link;
        }
        None
    }
}

fn verifier(cluster: &str, version: KeyVersion) -> LogIntegrityVerifier {
    LogIntegrityVerifier::new(&log(cluster, 0), &ring(&[(VERSION_1, 0xa1), (VERSION_2, 0xa2)]), version).expect("its key is there")
}

#[test]
fn each_log_and_each_version_has_links_of_its_own() {
    let entry = ChainedEntry { id: id(1, 1), kind: 1, beside: b"", payload: b"x" };
    let ours = verifier("orders", VERSION_1);
    assert_ne!(ours.genesis(), verifier("orders2", VERSION_1).genesis());
    assert_eq!(ours.genesis(), verifier("orders", VERSION_2).genesis(), "a log begins in one place, whatever its first key is");
    let link = ours.link(&ours.genesis(), &entry);
    for other in [verifier("orders2", VERSION_1), verifier("orders", VERSION_2)] {
        assert_eq!(other.verify(&ours.genesis(), &entry, &link), Err(BrokenChain { id: id(1, 1) }));
    }
    assert_eq!(ours.version(), VERSION_1);
}

/// Bytes that move over from one field to the next are seen.
#[test]
fn no_two_entries_make_the_same_link() {
    let verifier = verifier("orders", VERSION_1);
    let link = |beside, payload| verifier.link(&verifier.genesis(), &ChainedEntry { id: id(1, 1), kind: 1, beside, payload });
    assert_ne!(link(b"ab", b"c"), link(b"a", b"bc"));
    assert_ne!(link(b"", b"abc"), link(b"abc", b""));
    assert_eq!(link(b"ab", b"c"), link(b"ab", b"c"));
}

#[test]
fn a_broken_chain_names_the_entry_and_not_the_link_that_would_fit() {
    let verifier = verifier("orders", VERSION_1);
    let entry = ChainedEntry { id: id(2, 9), kind: 1, beside: b"", payload: b"x" };
    let fits = verifier.link(&verifier.genesis(), &entry);
    let said = verifier.verify(&verifier.genesis(), &entry, &ChainLink([0; 32])).expect_err("no link").to_string();
    assert!(said.contains("9@2") && !said.contains(&fits.to_string()[..8]), "{said}");
}

#[test]
fn a_missing_version_is_named() {
    let error = LogIntegrityVerifier::new(&log("orders", 0), &ring(&[(VERSION_1, 1)]), VERSION_2).expect_err("not there");
    assert_eq!(error, MissingKey { wanted: VERSION_2, held: vec![VERSION_1] });
}
