//! Commands, queries and their results as bytes.
//!
//! One byte of version, then postcard. The log keeps commands for as long as it lives, so a version once written stays readable: a change that is
//! not a new last variant of an enum takes a new version. Byte strings are borrowed on both sides, so nothing is copied but into the result.

use amaters_cluster_core::FencingToken;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_bytes::Bytes as Slice;

use super::{MAX_FENCE_NAME_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// The version of the encoding.
const VERSION: u8 = 1;
/// [`Reply::Done`], which most writes give: it needs no memory of its own.
const DONE: &[u8] = &[VERSION, 0];

/// A command for the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Write<'a> {
    /// Sets a key. Gives [`Reply::Done`], or [`Reply::Value`] of nothing where the condition did not hold; with `get`, the old value always.
    Set {
        /// The key.
        #[serde(borrow)]
        key: &'a Slice,
        /// Its new value.
        value: &'a Slice,
        /// When to set it.
        condition: Condition,
        /// Whether the old value is wanted.
        get: bool,
    },
    /// Removes a key. Gives its value.
    GetDel {
        /// The key.
        key: &'a Slice,
    },
    /// Sets keys, all at once. Gives [`Reply::Done`].
    MSet(Vec<(&'a Slice, &'a Slice)>),
    /// Removes keys. Gives the number of those that were there.
    Del(Vec<&'a Slice>),
    /// Adds to a value that is a number, 0 where there is none. Gives the sum.
    IncrBy {
        /// The key.
        key: &'a Slice,
        /// What to add.
        by: i64,
    },
    /// Appends to a value, empty where there is none. Gives its new length.
    Append {
        /// The key.
        key: &'a Slice,
        /// What to append.
        value: &'a Slice,
    },
    /// Removes all keys. Gives [`Reply::Done`]. Fences stay: whoever held one before must not come back by it.
    FlushAll,
    /// Issues the next token of a fence, greater than all before it of any fence. Gives [`Reply::Token`].
    FenceNext {
        /// The fence.
        name: &'a Slice,
    },
    /// Removes a fence: no token of it is good any more. Gives 1 if it was there, or 0.
    FenceDrop {
        /// The fence.
        name: &'a Slice,
    },
    /// [`Write::Set`], if the fence lets the token through; else gives [`Failure::Stale`].
    FencedSet {
        /// The fence.
        name: &'a Slice,
        /// What the writer holds.
        token: FencingToken,
        /// The key.
        key: &'a Slice,
        /// Its new value.
        value: &'a Slice,
        /// When to set it.
        condition: Condition,
        /// Whether the old value is wanted.
        get: bool,
    },
}

/// When [`Write::Set`] sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Condition {
    /// In any case.
    Always,
    /// Where the key is not there.
    IfAbsent,
    /// Where the key is there.
    IfPresent,
}

/// A question to the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query<'a> {
    /// The value of a key.
    Get {
        /// The key.
        #[serde(borrow)]
        key: &'a Slice,
    },
    /// The values of keys, in their order; at most [`MAX_ANSWER_BYTES`](super::MAX_ANSWER_BYTES) of them.
    MGet(Vec<&'a Slice>),
    /// How many of these keys are there. One that is named twice counts twice.
    Exists(Vec<&'a Slice>),
    /// The length of a value; 0 where there is none.
    StrLen {
        /// The key.
        key: &'a Slice,
    },
    /// Whether there is a value, all of which are strings.
    Type {
        /// The key.
        key: &'a Slice,
    },
    /// The number of keys.
    DbSize,
    /// The next keys in their order.
    Scan {
        /// Where the scan stopped last: the first key is the one after this.
        after: Option<&'a Slice>,
        /// How many keys to look at: 1 to [`MAX_SCAN_COUNT`](super::MAX_SCAN_COUNT), taken as the nearest of these where it is neither.
        count: u32,
        /// Leaves out keys that don't match; at most [`MAX_PATTERN_BYTES`](super::MAX_PATTERN_BYTES) long.
        pattern: Option<&'a Slice>,
        /// Leaves out all keys where it is not `string`.
        kind: Option<&'a Slice>,
    },
    /// Whether a fence lets a token through: 1, or 0.
    FenceCheck {
        /// The fence.
        name: &'a Slice,
        /// The token.
        token: FencingToken,
    },
}

/// What a command or a query gave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply<'a> {
    /// It was carried out.
    Done,
    /// A number.
    Integer(i64),
    /// A value, or nothing.
    #[serde(borrow)]
    Value(Option<&'a Slice>),
    /// Values, or nothing in their places.
    Values(Vec<Option<&'a Slice>>),
    /// Whether there is a value.
    Type {
        /// There is.
        exists: bool,
    },
    /// A part of a scan.
    Scanned {
        /// The keys that matched.
        keys: Vec<&'a Slice>,
        /// Where to go on, unless the scan is at its end.
        resume_after: Option<&'a Slice>,
    },
    /// It was not carried out.
    Failed(Failure),
    /// A fencing token.
    Token(FencingToken),
}

/// Why a command or a query was not carried out. The same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Failure {
    /// The value is not an integer of 64 bits in its canonical form.
    NotAnInteger,
    /// The sum does not fit 64 bits.
    Overflow,
    /// A key is longer than [`MAX_KEY_BYTES`].
    KeyTooLong {
        /// How long it is.
        bytes: u64,
    },
    /// A value is, or would become, longer than [`MAX_VALUE_BYTES`].
    ValueTooLong {
        /// How long it would be.
        bytes: u64,
    },
    /// The values are longer than [`MAX_ANSWER_BYTES`](super::MAX_ANSWER_BYTES) together.
    AnswerTooLong,
    /// The pattern is longer than [`MAX_PATTERN_BYTES`](super::MAX_PATTERN_BYTES).
    PatternTooLong,
    /// The bytes are no command or query of a version that this node knows.
    NotUnderstood,
    /// A fence's name is longer than [`MAX_FENCE_NAME_BYTES`].
    FenceNameTooLong {
        /// How long it is.
        bytes: u64,
    },
    /// There are [`MAX_FENCES`](super::MAX_FENCES) already.
    TooManyFences,
    /// The writer's token is not good any more: its fence has issued another since, or has been removed.
    Stale {
        /// The fence's last token; none where there is no such fence.
        last: Option<FencingToken>,
    },
}

impl<'a> Write<'a> {
    /// The command's bytes for the log.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let payload = match self {
            Self::Set { key, value, .. } | Self::Append { key, value } => key.len() + value.len(),
            Self::GetDel { key } | Self::IncrBy { key, .. } => key.len(),
            Self::MSet(pairs) => pairs.iter().map(|(key, value)| key.len() + value.len() + 8).sum(),
            Self::Del(keys) => total(keys),
            Self::FlushAll => 0,
            Self::FenceNext { name } | Self::FenceDrop { name } => name.len(),
            Self::FencedSet { name, key, value, .. } => name.len() + key.len() + value.len() + TOKEN_BYTES,
        };
        encode(self, payload)
    }

    /// Reads a command; none where the bytes are not one that this version knows.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        decode(bytes)
    }

    /// Checks keys, values and names against the limits.
    ///
    /// # Errors
    /// [`Failure::KeyTooLong`], [`Failure::ValueTooLong`] or [`Failure::FenceNameTooLong`] of the first that is.
    pub fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Set { key, value, .. } | Self::Append { key, value } => check_pair(key, value),
            Self::GetDel { key } | Self::IncrBy { key, .. } => check_key(key),
            Self::MSet(pairs) => pairs.iter().try_for_each(|(key, value)| check_pair(key, value)),
            Self::Del(keys) => keys.iter().try_for_each(|key| check_key(key)),
            Self::FlushAll => Ok(()),
            Self::FenceNext { name } | Self::FenceDrop { name } => check_fence(name),
            Self::FencedSet { name, key, value, .. } => check_fence(name).and_then(|()| check_pair(key, value)),
        }
    }
}

impl<'a> Query<'a> {
    /// The query's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let payload = match self {
            Self::Get { key } | Self::StrLen { key } | Self::Type { key } => key.len(),
            Self::MGet(keys) | Self::Exists(keys) => total(keys),
            Self::DbSize => 0,
            Self::Scan { after, pattern, kind, .. } => {
                [after, pattern, kind].iter().filter_map(|slice| **slice).map(|slice| slice.len()).sum()
            }
            Self::FenceCheck { name, .. } => name.len() + TOKEN_BYTES,
        };
        encode(self, payload)
    }

    /// Reads a query; none where the bytes are not one that this version knows.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        decode(bytes)
    }

    /// Checks keys and names against the limits.
    ///
    /// # Errors
    /// [`Failure::KeyTooLong`] or [`Failure::FenceNameTooLong`] of the first that is.
    pub fn check(&self) -> Result<(), Failure> {
        match self {
            Self::Get { key } | Self::StrLen { key } | Self::Type { key } => check_key(key),
            Self::MGet(keys) | Self::Exists(keys) => keys.iter().try_for_each(|key| check_key(key)),
            Self::DbSize | Self::Scan { .. } => Ok(()),
            Self::FenceCheck { name, .. } => check_fence(name),
        }
    }
}

impl<'a> Reply<'a> {
    /// The reply's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let payload = match self {
            Self::Done => return Bytes::from_static(DONE),
            Self::Value(value) => value.map_or(0, |value| value.len()),
            Self::Values(values) => values.iter().map(|value| value.map_or(1, |value| value.len() + 5)).sum(),
            Self::Scanned { keys, resume_after } => total(keys) + resume_after.map_or(0, |key| key.len()),
            Self::Integer(_) | Self::Type { .. } | Self::Failed(_) | Self::Token(_) => 0,
        };
        encode(self, payload)
    }

    /// Reads a reply; none where the bytes are not one that this version knows.
    #[must_use]
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        decode(bytes)
    }
}

/// Room for the version, the variant, lengths and the small fields of any of the enums above.
const OVERHEAD: usize = 24;

/// Room for a token beyond that.
const TOKEN_BYTES: usize = 20;

fn total(slices: &[&Slice]) -> usize {
    slices.iter().map(|slice| slice.len() + 4).sum()
}

fn encode(value: &impl Serialize, payload: usize) -> Bytes {
    let mut bytes = Vec::with_capacity(OVERHEAD + payload);
    bytes.push(VERSION);
    postcard::to_extend(value, bytes).expect("a vector takes any length, and all lengths are known").into()
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (&version, body) = bytes.split_first()?;
    if version != VERSION {
        return None;
    }
    let (value, rest) = postcard::take_from_bytes(body).ok()?;
    rest.is_empty().then_some(value)
}

fn check_key(key: &[u8]) -> Result<(), Failure> {
    if key.len() > MAX_KEY_BYTES { Err(Failure::KeyTooLong { bytes: key.len() as u64 }) } else { Ok(()) }
}

fn check_fence(name: &[u8]) -> Result<(), Failure> {
    if name.len() > MAX_FENCE_NAME_BYTES { Err(Failure::FenceNameTooLong { bytes: name.len() as u64 }) } else { Ok(()) }
}

fn check_pair(key: &[u8], value: &[u8]) -> Result<(), Failure> {
    check_key(key)?;
    if value.len() > MAX_VALUE_BYTES { Err(Failure::ValueTooLong { bytes: value.len() as u64 }) } else { Ok(()) }
}
