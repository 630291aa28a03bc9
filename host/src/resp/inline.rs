//! Requests as people type them: words on a line, quoted as in redis-cli.
//!
//! A shell's rules, such as those of the crate shlex, differ where it matters: there `#` begins a comment, a backslash means something outside of
//! quotes, and `"\x00"` does not make a byte.

use std::ops::Range;

/// Splits a line into words: their bytes, and the place of each among them. None where a quote is not closed, or goes on after its end.
pub(super) fn split(line: &[u8]) -> Option<(Vec<u8>, Vec<Range<usize>>)> {
    let mut bytes = Vec::with_capacity(line.len());
    let mut words = Vec::new();
    let mut rest = line.trim_ascii_start();
    while !rest.is_empty() {
        let start = bytes.len();
        rest = word(rest, &mut bytes)?;
        words.push(start..bytes.len());
        rest = rest.trim_ascii_start();
    }
    Some((bytes, words))
}

/// Takes one word, which may have quoted parts.
fn word<'a>(mut rest: &'a [u8], bytes: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return Some(rest),
            [space, ..] if space.is_ascii_whitespace() => return Some(rest),
            [b'"', quoted @ ..] => {
                rest = double_quoted(quoted, bytes)?;
                return at_word_end(rest).then_some(rest);
            }
            [b'\'', quoted @ ..] => {
                rest = single_quoted(quoted, bytes)?;
                return at_word_end(rest).then_some(rest);
            }
            [byte, after @ ..] => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
}

fn at_word_end(rest: &[u8]) -> bool {
    rest.first().is_none_or(u8::is_ascii_whitespace)
}

fn double_quoted<'a>(mut rest: &'a [u8], bytes: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [] => return None,
            [b'"', after @ ..] => return Some(after),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex(*high) << 4 | hex(*low), after)
            }
            [b'\\', escaped, after @ ..] => (unescape(*escaped), after),
            [byte, after @ ..] => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
}

fn single_quoted<'a>(mut rest: &'a [u8], bytes: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        let (byte, after) = match rest {
            [] => return None,
            [b'\'', after @ ..] => return Some(after),
            [b'\\', b'\'', after @ ..] => (b'\'', after),
            [byte, after @ ..] => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
}

fn unescape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 8,
        b'a' => 7,
        other => other,
    }
}

/// The value of a hexadecimal digit.
fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    #[test]
    fn words_are_split_as_redis_splits_them() {
        let cases: [(&[u8], &[&[u8]]); 9] = [
            (b"", &[]),
            (b" \t ", &[]),
            (b"  PING  ", &[b"PING"]),
            (b"SET a \"b c\"", &[b"SET", b"a", b"b c"]),
            (br#"a "\x00\xFf\n\r\t\a\b\"\\\q\xg" '' '\'\n'"#, &[b"a", b"\x00\xff\n\r\t\x07\x08\"\\qxg", b"", b"'\\n"]),
            (b"a\"b\"", &[b"ab"]),
            (b"a\\n #b", &[b"a\\n", b"#b"]),
            (b"\xff\xfe", &[b"\xff\xfe"]),
            (b"a \"\"", &[b"a", b""]),
        ];
        for (line, expected) in cases {
            let (bytes, words) = split(line).unwrap_or_else(|| panic!("{}", line.escape_ascii()));
            let words: Vec<&[u8]> = words.into_iter().map(|word| &bytes[word]).collect();
            assert_eq!(words, expected, "{}", line.escape_ascii());
        }
        for line in [&b"\"a"[..], b"'a", b"\"a\"b", b"'a'b", b"\"a\\"] {
            assert_eq!(split(line), None, "{}", line.escape_ascii());
        }
    }
}
