//! Looks through bytes that nothing explains.

use super::record::{self, Decoded, OVERHEAD};

const PAGE: usize = 4096;
static ZERO_PAGE: [u8; PAGE] = [0; PAGE];

/// How many bytes there are before the zeros at the end.
pub(crate) fn used(bytes: &[u8]) -> usize {
    let pages = bytes.chunks(PAGE).rposition(|page| *page != ZERO_PAGE[..page.len()]).map_or(0, |page| page + 1);
    let end = bytes.len().min(pages * PAGE);
    bytes[..end].iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

/// A whole record anywhere in `bytes` which says that record `sequence` was durable when it was written: its sequence number.
///
/// Where `bytes` begin with what should be record `sequence` and isn't, this tells damage from the torn end of a write that nobody relied on.
pub(crate) fn proof_of(journal: u64, bytes: &[u8], sequence: u64) -> Option<u64> {
    // The zeros at the end are looked at too: a checksum may end with some.
    let furthest = sequence.saturating_add((bytes.len() / OVERHEAD) as u64);
    let mut at = 0;
    while at + OVERHEAD <= bytes.len() {
        if bytes[at..].starts_with(&ZERO_PAGE) {
            at += PAGE - OVERHEAD; // what begins within the last bytes of the zeros is still to be seen
            continue;
        }
        let rest = &bytes[at..];
        // Cheap, and nearly always enough: a checksum over every candidate would take hours.
        let plausible = record::claims(rest).is_some_and(|(got, synced)| synced >= sequence && synced < got && got <= furthest);
        if plausible && let Decoded::Record(found, _) = record::decode(journal, rest) {
            return Some(found.sequence);
        }
        at += 1;
    }
    None
}
