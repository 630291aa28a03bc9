//! Fencing tokens: numbers that tell a lock's present holder from one that only believes to hold it.
//!
//! Whoever holds a lock may be stopped for any time (by its scheduler, its garbage collector, its network) and go on after somebody else was given the lock. No
//! clock can tell it so in time. What it guards can: the holder sends its token with each request, and the guarded resource refuses a token that
//! is smaller than one it has seen (a technique that goes back to Chubby's sequencers: Burrows, "The Chubby lock service", 2006, §2.4).
//!
//! A token is the id of the log entry that issued it. Entries are named once and for good (log matching, Raft paper, figure 3), terms never go back along the log, and
//! indexes grow by one: so tokens never repeat and only grow, whoever leads, and nothing counts them but the log.

use std::fmt::{self, Write as _};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::{EntryId, Term};

/// Says which of two holders is the later one: the greater token wins. Ordered by term, then by sequence.
///
/// Its text has one width, so that it sorts as the token does wherever bytes can be compared: in a database's column, a header, a file's name.
/// Parsing also takes the short form.
///
/// ```
/// use amaters_cluster_core::{FencingToken, Term};
///
/// let earlier = FencingToken { term: Term(9), sequence: 1234 };
/// let later = FencingToken { term: Term(10), sequence: 1300 };
/// assert!(earlier < later);
/// assert_eq!(earlier.to_string(), "00000000000000000009:00000000000000001234");
/// assert!(earlier.to_string() < later.to_string());
/// assert_eq!("9:1234".parse(), Ok(earlier));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FencingToken {
    /// The term of the leader that issued it: 1 and up. 0 belongs to no token, and is smaller than all.
    pub term: Term,
    /// The index of the log entry that issued it: 1 and up.
    pub sequence: u64,
}

/// A text that is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("expected a fencing token: two numbers of at most 20 digits and 64 bits with a colon between them, as 7:1234")]
pub struct NotAToken;

/// A token from before the last one that was seen: its holder has been replaced, and must stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the fencing token {token} is out of date: {last_seen} has been seen since")]
pub struct StaleToken {
    /// The token that came.
    pub token: FencingToken,
    /// The greatest that came before.
    pub last_seen: FencingToken,
}

/// The verifier of a guarded resource: lets no token through that is smaller than one before it.
///
/// Keep it with what it guards, in the same transaction: a resource that forgets what it has seen lets a replaced holder in again.
///
/// ```
/// use amaters_cluster_core::{FencingToken, FencingTokenState};
///
/// let (old, new): (FencingToken, FencingToken) = ("7:1234".parse()?, "8:1240".parse()?);
/// let mut guard = FencingTokenState::default();
/// assert!(guard.check(old).is_ok());
/// assert!(guard.check(new).is_ok());
/// assert!(guard.check(old).is_err(), "its holder was replaced");
/// assert!(guard.check(new).is_ok(), "the present holder may come as often as it likes");
/// # Ok::<(), amaters_cluster_core::NotAToken>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencingTokenState {
    last_seen: FencingToken,
}

impl FencingTokenState {
    /// Takes note of a token, unless it is out of date.
    ///
    /// # Errors
    /// A greater one has been seen. The state is as before.
    pub fn check(&mut self, token: FencingToken) -> Result<(), StaleToken> {
        self.admits(token)?;
        self.last_seen = token;
        Ok(())
    }

    /// Whether [`Self::check`] would let a token through; takes no note of it.
    ///
    /// # Errors
    /// A greater one has been seen.
    pub fn admits(&self, token: FencingToken) -> Result<(), StaleToken> {
        if token < self.last_seen { Err(StaleToken { token, last_seen: self.last_seen }) } else { Ok(()) }
    }

    /// The greatest token so far; of term 0 where there was none.
    #[must_use]
    pub fn last_seen(&self) -> FencingToken {
        self.last_seen
    }
}

impl From<EntryId> for FencingToken {
    fn from(entry: EntryId) -> Self {
        Self { term: entry.term, sequence: entry.index.0 }
    }
}

/// The digits of the largest number.
const DIGITS: usize = 20;

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:0DIGITS$}", self.term.0)?;
        f.write_char(':')?;
        write!(f, "{:0DIGITS$}", self.sequence)
    }
}

impl FromStr for FencingToken {
    type Err = NotAToken;

    fn from_str(text: &str) -> Result<Self, NotAToken> {
        let (term, sequence) = text.split_once(':').ok_or(NotAToken)?;
        Ok(Self { term: Term(number(term)?), sequence: number(sequence)? })
    }
}

/// Digits alone: the standard library would take a sign as well.
fn number(text: &str) -> Result<u64, NotAToken> {
    let digits = !text.is_empty() && text.len() <= DIGITS && text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().map_err(|_| NotAToken) } else { Err(NotAToken) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn token(term: u64, sequence: u64) -> FencingToken {
        FencingToken { term: Term(term), sequence }
    }

    /// Numbers of all sizes: where two parts share one number of 64 bits, the large ones run into each other.
    fn drawn(rng: &mut Rng) -> FencingToken {
        let mut number = || rng.next() >> (rng.next() % 64);
        token(number(), number())
    }

    #[test]
    fn a_token_has_two_parts_that_never_run_into_each_other() {
        assert!(token(1, u64::MAX) < token(2, 0));
        assert!(token(u64::MAX, 0) > token(u64::MAX - 1, u64::MAX));
        let mut guard = FencingTokenState::default();
        for grown in [token(1, 1), token(1, u64::MAX), token(2, 0), token(u64::MAX, 0)] {
            guard.check(grown).expect("it is greater than those before");
            guard.check(token(grown.term.0 - 1, u64::MAX)).expect_err("it is of an earlier term");
        }
        let mut rng = Rng::new(1);
        for _ in 0..10_000 {
            let (a, b) = (drawn(&mut rng), drawn(&mut rng));
            let by_parts = a.term.0.cmp(&b.term.0).then(a.sequence.cmp(&b.sequence));
            assert_eq!(a.cmp(&b), by_parts, "{a:?}, {b:?}");
            assert_eq!(a.to_string().cmp(&b.to_string()), by_parts, "as text: {a}, {b}");
            assert_eq!(a.to_string().parse(), Ok(a));
            assert_eq!(format!("{}:{}", a.term, a.sequence).parse(), Ok(a));
        }
    }

    #[test]
    fn a_text_that_is_no_token_is_refused() {
        for text in [
            "",
            ":",
            "7",
            "7:",
            ":7",
            "7:1:2",
            "+7:1",
            "7:-1",
            " 7:1",
            "7:1\n",
            "7.1",
            "x:1",
            "18446744073709551616:1",
            "000000000000000000007:1",
        ] {
            assert_eq!(text.parse::<FencingToken>(), Err(NotAToken), "{text:?}");
        }
    }

    #[test]
    fn a_verifier_lets_nothing_through_that_is_smaller_than_what_it_let_through_before() {
        let mut rng = Rng::new(2);
        let mut guard = FencingTokenState::default();
        let (mut passed, mut refused) = (token(0, 0), 0);
        for _ in 0..10_000 {
            // Small numbers, so that tokens meet each other again.
            let token = token(rng.between(1, 20), rng.between(1, 50));
            match guard.check(token) {
                Ok(()) => {
                    assert!(token >= passed, "{token} went through after {passed}");
                    passed = token;
                }
                Err(stale) => {
                    refused += 1;
                    assert!(token < passed, "{token} was refused, and the greatest was {passed}");
                    assert_eq!(stale, StaleToken { token, last_seen: passed });
                }
            }
            assert_eq!(guard.last_seen(), passed);
        }
        assert!(refused > 5_000, "{refused}");
    }

    #[test]
    fn a_verifier_outlives_its_process() {
        let mut guard = FencingTokenState::default();
        guard.check(token(8, 1240)).expect("the first");
        let kept = postcard::to_allocvec(&guard).expect("it can be kept");
        let mut guard: FencingTokenState = postcard::from_bytes(&kept).expect("it can be read");
        let stale = guard.check(token(7, 2000)).expect_err("of an earlier term");
        assert_eq!(
            stale.to_string(),
            "the fencing token 00000000000000000007:00000000000000002000 is out of date: 00000000000000000008:00000000000000001240 has been seen since"
        );
    }
}
