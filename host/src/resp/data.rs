//! From arguments to commands and queries of the state machine. The table has checked the number of arguments against the arity.

use serde_bytes::Bytes as Slice;

use super::cursors::Cursors;
use super::fence;
use super::reply::Refusal;
use super::request::Args;
use crate::kv::{Condition, MAX_SCAN_COUNT, Query, Write, parse_i64};

type WriteResult<'a> = Result<Write<'a>, Refusal>;
type ReadResult<'a> = Result<Query<'a>, Refusal>;

/// `SET key value [NX|XX] [GET] [FENCE name token]`.
pub(super) fn set(args: Args<'_>) -> WriteResult<'_> {
    const EXPIRY: [&[u8]; 5] = [b"EX", b"PX", b"EXAT", b"PXAT", b"KEEPTTL"];
    let (mut condition, mut get, mut guard) = (Condition::Always, false, None);
    let mut index = 3;
    while index < args.len() {
        let option = args.get(index);
        index += 1;
        condition = match condition {
            _ if option.eq_ignore_ascii_case(b"GET") => {
                get = true;
                continue;
            }
            _ if option.eq_ignore_ascii_case(b"FENCE") && guard.is_none() && index + 2 <= args.len() => {
                guard = Some((slice(args, index), fence::token(args.get(index + 1))?));
                index += 2;
                continue;
            }
            Condition::Always | Condition::IfAbsent if option.eq_ignore_ascii_case(b"NX") => Condition::IfAbsent,
            Condition::Always | Condition::IfPresent if option.eq_ignore_ascii_case(b"XX") => Condition::IfPresent,
            _ if EXPIRY.iter().any(|expiry| option.eq_ignore_ascii_case(expiry)) => {
                return Err(Refusal::new("ERR syntax error: keys do not expire here, leave out EX, PX, EXAT, PXAT and KEEPTTL"));
            }
            _ => return Err(Refusal::SYNTAX),
        };
    }
    let (key, value) = (key(args), slice(args, 2));
    Ok(match guard {
        None => Write::Set { key, value, condition, get },
        Some((name, token)) => Write::FencedSet { name, token, key, value, condition, get },
    })
}

pub(super) fn getset(args: Args<'_>) -> WriteResult<'_> {
    Ok(Write::Set { key: key(args), value: slice(args, 2), condition: Condition::Always, get: true })
}

pub(super) fn getdel(args: Args<'_>) -> WriteResult<'_> {
    Ok(Write::GetDel { key: key(args) })
}

pub(super) fn mset(args: Args<'_>) -> WriteResult<'_> {
    if args.len().is_multiple_of(2) {
        return Err(Refusal::arity("mset"));
    }
    Ok(Write::MSet((1..args.len()).step_by(2).map(|index| (slice(args, index), slice(args, index + 1))).collect()))
}

pub(super) fn del(args: Args<'_>) -> WriteResult<'_> {
    Ok(Write::Del(keys(args)))
}

pub(super) fn incr(args: Args<'_>) -> WriteResult<'_> {
    Ok(Write::IncrBy { key: key(args), by: 1 })
}

pub(super) fn decr(args: Args<'_>) -> WriteResult<'_> {
    Ok(Write::IncrBy { key: key(args), by: -1 })
}

pub(super) fn incrby(args: Args<'_>) -> WriteResult<'_> {
    Ok(Write::IncrBy { key: key(args), by: integer(args.get(2))? })
}

pub(super) fn decrby(args: Args<'_>) -> WriteResult<'_> {
    let by = integer(args.get(2))?.checked_neg().ok_or(Refusal::new("ERR decrement would overflow"))?;
    Ok(Write::IncrBy { key: key(args), by })
}

pub(super) fn append(args: Args<'_>) -> WriteResult<'_> {
    Ok(Write::Append { key: key(args), value: slice(args, 2) })
}

pub(super) fn flush(args: Args<'_>) -> WriteResult<'_> {
    let option = args.get(1);
    match args.len() {
        1 => Ok(Write::FlushAll),
        2 if option.eq_ignore_ascii_case(b"SYNC") || option.eq_ignore_ascii_case(b"ASYNC") => Ok(Write::FlushAll),
        _ => Err(Refusal::SYNTAX),
    }
}

pub(super) fn get(args: Args<'_>) -> ReadResult<'_> {
    Ok(Query::Get { key: key(args) })
}

pub(super) fn mget(args: Args<'_>) -> ReadResult<'_> {
    Ok(Query::MGet(keys(args)))
}

pub(super) fn exists(args: Args<'_>) -> ReadResult<'_> {
    Ok(Query::Exists(keys(args)))
}

pub(super) fn strlen(args: Args<'_>) -> ReadResult<'_> {
    Ok(Query::StrLen { key: key(args) })
}

pub(super) fn kind(args: Args<'_>) -> ReadResult<'_> {
    Ok(Query::Type { key: key(args) })
}

pub(super) fn dbsize(_: Args<'_>) -> ReadResult<'_> {
    Ok(Query::DbSize)
}

/// `SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]`: the query's bytes, since the key where it starts is the table's.
pub(super) fn scan(args: Args<'_>, cursors: &Cursors) -> Result<bytes::Bytes, Refusal> {
    const UNKNOWN_CURSOR: Refusal = Refusal::new("ERR invalid cursor");
    let cursor = std::str::from_utf8(args.get(1)).ok().and_then(|text| text.parse::<u64>().ok()).ok_or(UNKNOWN_CURSOR)?;
    let (mut count, mut pattern, mut kind) = (10, None, None);
    let mut index = 2;
    while index < args.len() {
        let (option, value) = (args.get(index), slice(args, index + 1));
        if index + 1 == args.len() {
            return Err(Refusal::SYNTAX);
        }
        if option.eq_ignore_ascii_case(b"COUNT") {
            let wanted = integer(value)?;
            if wanted < 1 {
                return Err(Refusal::SYNTAX);
            }
            count = u32::try_from(wanted).unwrap_or(MAX_SCAN_COUNT).min(MAX_SCAN_COUNT);
        } else if option.eq_ignore_ascii_case(b"MATCH") {
            pattern = Some(value);
        } else if option.eq_ignore_ascii_case(b"TYPE") {
            kind = Some(value);
        } else {
            return Err(Refusal::SYNTAX);
        }
        index += 2;
    }
    let after = if cursor == 0 { None } else { Some(cursors.find(cursor).ok_or(UNKNOWN_CURSOR)?) };
    Ok(Query::Scan { after: after.as_deref().map(Slice::new), count, pattern, kind }.encode())
}

fn key(args: Args<'_>) -> &Slice {
    slice(args, 1)
}

fn keys(args: Args<'_>) -> Vec<&Slice> {
    args.from(1).map(Slice::new).collect()
}

fn slice(args: Args<'_>, index: usize) -> &Slice {
    Slice::new(args.get(index))
}

fn integer(text: &[u8]) -> Result<i64, Refusal> {
    parse_i64(text).ok_or(Refusal::NOT_AN_INTEGER)
}
