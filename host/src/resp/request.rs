//! Where one request ends and the next begins, and what may not be one.
//!
//! [`Gate`] stands before the parser of `redis-protocol`. That parser starts again from the first byte each time, follows arrays to any depth and
//! believes any length; the gate remembers where it was, lets only arrays of bulk strings pass, refuses lengths before memory is spent on them,
//! and words its refusals as Redis does. The parser sees complete requests alone.

use redis_protocol::resp2::decode::decode_range;
use redis_protocol::resp2::types::RangeFrame;
use thiserror::Error;

use super::inline;
use crate::kv::parse_i64;

/// The most arguments of a request.
pub(super) const MAX_ARGUMENTS: i64 = 1 << 20;
/// The longest line: a header, or an inline request. Redis' own bound.
const MAX_LINE_BYTES: usize = 64 << 10;

/// Finds the ends of requests in what a client sends.
#[derive(Debug)]
pub(super) struct Gate {
    max_request_bytes: usize,
    /// How far the request at the front has been looked at, where it has begun.
    inside: Option<Inside>,
}

#[derive(Clone, Copy, Debug)]
struct Inside {
    /// Bytes that are known to be well-formed.
    position: usize,
    /// Bulk strings that are still due.
    arguments_left: usize,
}

/// A request at the front of the input.
#[derive(Debug)]
pub(super) struct Request {
    /// How many bytes of the input it takes.
    pub(super) bytes: usize,
    ranges: Vec<RangeFrame>,
    /// The bytes that the ranges are of, where they are not the input's own.
    unquoted: Option<Vec<u8>>,
}

/// The arguments of a request, the command's name first. Empty for a blank request, which gets no answer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Args<'a> {
    bytes: &'a [u8],
    ranges: &'a [RangeFrame],
}

/// What breaks the protocol, in Redis' words where it has any. The connection ends after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub(super) enum ProtocolError {
    #[error("invalid multibulk length")]
    ArgumentCount,
    #[error("too big mbulk count string")]
    LongArgumentCount,
    #[error("expected '$', got '{}'", printable(*.0))]
    NotABulkString(u8),
    #[error("invalid bulk length")]
    BulkLength,
    #[error("too big bulk count string")]
    LongBulkLength,
    #[error("a bulk string does not end where its length says")]
    BulkEnd,
    #[error("the request has more than {0} bytes")]
    TooLong(usize),
    #[error("too big inline request")]
    LongInline,
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
}

impl Gate {
    pub(super) fn new(max_request_bytes: usize) -> Self {
        Self { max_request_bytes, inside: None }
    }

    /// The request at the front of the input; none while it is not complete. The caller takes its bytes off the input before the next call.
    pub(super) fn next(&mut self, input: &[u8]) -> Result<Option<Request>, ProtocolError> {
        let bytes = match input.first() {
            None => return Ok(None),
            Some(b'*') => self.end_of_array(input)?,
            Some(_) => return inline_request(input),
        };
        let Some(bytes) = bytes else { return Ok(None) };
        self.inside = None;
        if input.get(1) == Some(&b'-') {
            // Blank, as Redis has it. The parser would take all of these but -1 for errors.
            return Ok(Some(Request { bytes, ranges: Vec::new(), unquoted: None }));
        }
        match decode_range(&input[..bytes]) {
            Ok(Some((RangeFrame::Array(ranges), _))) => Ok(Some(Request { bytes, ranges, unquoted: None })),
            // The gate has seen that it is one.
            _ => Err(ProtocolError::ArgumentCount),
        }
    }

    fn end_of_array(&mut self, input: &[u8]) -> Result<Option<usize>, ProtocolError> {
        let mut inside = match self.inside {
            Some(inside) => inside,
            None => match header(input, ProtocolError::ArgumentCount, ProtocolError::LongArgumentCount)? {
                None => return Ok(None),
                Some((count, _)) if count > MAX_ARGUMENTS => return Err(ProtocolError::ArgumentCount),
                Some((count, position)) => Inside { position, arguments_left: usize::try_from(count).unwrap_or(0) },
            },
        };
        while inside.arguments_left > 0 {
            self.inside = Some(inside);
            let rest = &input[inside.position..];
            match rest.first() {
                None => return Ok(None),
                Some(b'$') => {}
                Some(other) => return Err(ProtocolError::NotABulkString(*other)),
            }
            let Some((length, header_bytes)) = header(rest, ProtocolError::BulkLength, ProtocolError::LongBulkLength)? else {
                return Ok(None);
            };
            let length = usize::try_from(length).map_err(|_| ProtocolError::BulkLength)?;
            if length > self.max_request_bytes {
                return Err(ProtocolError::BulkLength);
            }
            let end = header_bytes + length;
            if inside.position + end + 2 > self.max_request_bytes {
                return Err(ProtocolError::TooLong(self.max_request_bytes));
            }
            match rest.get(end..end + 2) {
                None => return Ok(None),
                Some(b"\r\n") => {}
                Some(_) => return Err(ProtocolError::BulkEnd),
            }
            inside.position += end + 2;
            inside.arguments_left -= 1;
        }
        Ok(Some(inside.position))
    }
}

impl Request {
    /// Its arguments; `input` is what the gate found it in.
    pub(super) fn args<'a>(&'a self, input: &'a [u8]) -> Args<'a> {
        Args { bytes: self.unquoted.as_deref().unwrap_or(input), ranges: &self.ranges }
    }
}

impl<'a> Args<'a> {
    /// How many there are, the name among them.
    pub(super) fn len(self) -> usize {
        self.ranges.len()
    }

    /// One of them; empty where there are fewer.
    pub(super) fn get(self, index: usize) -> &'a [u8] {
        self.ranges.get(index).map_or(&[], |range| self.slice(range))
    }

    /// Those from `index` on.
    pub(super) fn from(self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.ranges.get(index..).unwrap_or(&[]).iter().map(move |range| self.slice(range))
    }

    fn slice(self, range: &RangeFrame) -> &'a [u8] {
        match range {
            RangeFrame::BulkString((start, end)) => &self.bytes[*start..*end],
            // The gate lets nothing else pass.
            _ => &[],
        }
    }
}

/// Reads a line of a type byte and a number: the number, and the length of the line.
fn header(input: &[u8], not_a_number: ProtocolError, too_long: ProtocolError) -> Result<Option<(i64, usize)>, ProtocolError> {
    let line = &input[..input.len().min(MAX_LINE_BYTES)];
    let Some(end) = line.iter().position(|&byte| byte == b'\r') else {
        return if input.len() > MAX_LINE_BYTES { Err(too_long) } else { Ok(None) };
    };
    match input.get(end + 1) {
        None => Ok(None),
        Some(b'\n') => Ok(Some((parse_i64(&input[1..end]).ok_or(not_a_number)?, end + 2))),
        Some(_) => Err(not_a_number),
    }
}

/// A line of words, as people type them.
fn inline_request(input: &[u8]) -> Result<Option<Request>, ProtocolError> {
    let line = &input[..input.len().min(MAX_LINE_BYTES)];
    let Some(end) = line.iter().position(|&byte| byte == b'\n') else {
        return if input.len() > MAX_LINE_BYTES { Err(ProtocolError::LongInline) } else { Ok(None) };
    };
    let line = input[..end].strip_suffix(b"\r").unwrap_or(&input[..end]);
    let (unquoted, words) = inline::split(line).ok_or(ProtocolError::UnbalancedQuotes)?;
    let ranges = words.into_iter().map(|word| RangeFrame::BulkString((word.start, word.end))).collect();
    Ok(Some(Request { bytes: end + 1, ranges, unquoted: Some(unquoted) }))
}

fn printable(byte: u8) -> char {
    match byte {
        b' '..=b'~' => char::from(byte),
        b'\r' | b'\n' => ' ',
        _ => '?',
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(request: &Request, input: &[u8]) -> Vec<Vec<u8>> {
        request.args(input).from(0).map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn a_request_is_found_wherever_it_is_cut() {
        let requests: [&[u8]; 6] =
            [b"*2\r\n$3\r\nGET\r\n$4\r\n\r\n\r\n\r\n", b"*0\r\n", b"*-5\r\n", b"PING \"a b\"\r\n", b"\n", b"*1\r\n$0\r\n\r\n"];
        let input = requests.concat();
        let expected: Vec<Vec<Vec<u8>>> = vec![
            vec![b"GET".to_vec(), b"\r\n\r\n".to_vec()],
            vec![],
            vec![],
            vec![b"PING".to_vec(), b"a b".to_vec()],
            vec![],
            vec![vec![]],
        ];
        for step in 1..=input.len() {
            let (mut gate, mut buffer, mut found) = (Gate::new(1000), Vec::new(), Vec::new());
            for chunk in input.chunks(step) {
                buffer.extend_from_slice(chunk);
                while let Some(request) = gate.next(&buffer).unwrap() {
                    found.push(words(&request, &buffer));
                    buffer.drain(..request.bytes);
                }
            }
            assert_eq!(found, expected, "in steps of {step}");
            assert!(buffer.is_empty());
        }
    }

    #[test]
    fn a_length_is_refused_before_its_bytes_come() {
        use ProtocolError as E;
        let long = |first: &str| [first.as_bytes(), &vec![b'1'; MAX_LINE_BYTES + 1]].concat();
        let cases: Vec<(Vec<u8>, E)> = vec![
            (b"*2147483648\r\n".to_vec(), E::ArgumentCount),
            (b"*1048577\r\n".to_vec(), E::ArgumentCount),
            (b"*x\r\n".to_vec(), E::ArgumentCount),
            (b"*\r\n".to_vec(), E::ArgumentCount),
            (b"*+1\r\n".to_vec(), E::ArgumentCount),
            (b"*1\rx".to_vec(), E::ArgumentCount),
            (long("*"), E::LongArgumentCount),
            (b"*1\r\nx".to_vec(), E::NotABulkString(b'x')),
            (b"*1\r\n*1\r\n*1\r\n".to_vec(), E::NotABulkString(b'*')),
            (b"*1\r\n$4294967296\r\n".to_vec(), E::BulkLength),
            (b"*1\r\n$1001\r\n".to_vec(), E::BulkLength),
            (b"*1\r\n$-1\r\n".to_vec(), E::BulkLength),
            (b"*1\r\n$01\r\n".to_vec(), E::BulkLength),
            (b"*1\r\n$9223372036854775808\r\n".to_vec(), E::BulkLength),
            (long("*1\r\n$"), E::LongBulkLength),
            (b"*1\r\n$1\r\nabc".to_vec(), E::BulkEnd),
            (b"*2\r\n$1\r\na\r\n$990\r\n".to_vec(), E::TooLong(1000)),
            (long(""), E::LongInline),
            (b"GET \"a\r\n".to_vec(), E::UnbalancedQuotes),
        ];
        for (input, error) in cases {
            assert_eq!(Gate::new(1000).next(&input).unwrap_err(), error, "{}", input[..input.len().min(40)].escape_ascii());
        }
    }

    /// Pieces of requests, and of what is none.
    fn garbage() -> impl Strategy<Value = Vec<u8>> {
        let pieces: [&[u8]; 12] = [b"*", b"$", b"\r\n", b"\r", b"-1", b"1", b"3", b"$1\r\na\r\n", b"*2\r\n", b"\"", b" ", b"\xff"];
        let piece = proptest::sample::select(pieces.to_vec());
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    /// All requests of an input that comes in these steps, and the error that ends it.
    fn take_all(input: &[u8], step: usize) -> (Vec<Vec<Vec<u8>>>, Option<ProtocolError>) {
        let (mut gate, mut buffer, mut found) = (Gate::new(1000), Vec::new(), Vec::new());
        for chunk in input.chunks(step) {
            buffer.extend_from_slice(chunk);
            loop {
                match gate.next(&buffer) {
                    Ok(None) => break,
                    Ok(Some(request)) => {
                        found.push(words(&request, &buffer));
                        buffer.drain(..request.bytes);
                    }
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    }

    proptest! {
        #[test]
        fn garbage_is_judged_alike_in_any_pieces(input in garbage(), step in 1..10_usize) {
            prop_assert_eq!(take_all(&input, step), take_all(&input, usize::MAX));
        }
    }
}
