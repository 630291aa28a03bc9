//! Integers as Redis reads them.

/// Reads a decimal integer in its one canonical form: no spaces, no plus sign, no leading zeros, no `-0`.
///
/// A value that is not canonical is not an integer to `INCR`, because its length would change without its number.
pub(crate) fn parse_i64(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        [b'0'] => digits.len() == text.len(),
        [b'1'..=b'9', ..] => true,
        _ => false,
    };
    if canonical { std::str::from_utf8(text).ok()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::parse_i64;

    #[test]
    fn only_the_canonical_form_is_a_number() {
        for (text, number) in
            [("0", 0), ("7", 7), ("-7", -7), ("9223372036854775807", i64::MAX), ("-9223372036854775808", i64::MIN), ("10", 10)]
        {
            assert_eq!(parse_i64(text.as_bytes()), Some(number), "{text}");
        }
        for text in
            ["", "-", "-0", "+1", "01", "-01", " 1", "1 ", "1a", "0x1", "1.0", "9223372036854775808", "-9223372036854775809", "\u{661}"]
        {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
        assert_eq!(parse_i64(b"1\xff"), None);
    }
}
