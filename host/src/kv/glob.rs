//! Patterns of `SCAN … MATCH`.
//!
//! They are Redis' own, on bytes: `*`, `?`, `[abc]`, `[^abc]`, `[a-c]` and `\` before any of them. The glob crates are made for paths and text:
//! fast-glob keeps `*` from crossing a `/`, globset takes no pattern that is not UTF-8, and both give braces a meaning.

/// Whether all of `text` matches `pattern`.
///
/// Takes at most as many steps as the product of both lengths: only the last `*` is ever taken up again, since an earlier one could only leave
/// less text for what follows.
pub(crate) fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    let mut last_star = None;
    loop {
        if let Some(rest) = pattern.strip_prefix(b"*") {
            last_star = Some((rest, text));
            pattern = rest;
            continue;
        }
        let Some((&byte, rest_of_text)) = text.split_first() else { return pattern.is_empty() };
        if let Some(rest) = match_one(pattern, byte) {
            (pattern, text) = (rest, rest_of_text);
            continue;
        }
        // The last star takes one byte more.
        let Some((after_star, taken)) = last_star else { return false };
        let longer = &taken[1..];
        last_star = Some((after_star, longer));
        (pattern, text) = (after_star, longer);
    }
}

/// Matches one byte against the pattern's first element, and gives the pattern after it.
fn match_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    match pattern {
        [b'?', rest @ ..] => Some(rest),
        [b'[', class @ ..] => match_class(class, byte),
        [b'\\', escaped, rest @ ..] | [escaped, rest @ ..] => (*escaped == byte).then_some(rest),
        [] => None,
    }
}

/// Matches one byte against a class, from after its `[`. As in Redis, a class that nothing closes ends with the pattern.
fn match_class(class: &[u8], byte: u8) -> Option<&[u8]> {
    let (negated, mut rest) = class.strip_prefix(b"^").map_or((false, class), |rest| (true, rest));
    let mut found = false;
    loop {
        rest = match rest {
            [] | [b']'] => return (found != negated).then_some(&[]),
            [b']', rest @ ..] => return (found != negated).then_some(rest),
            [b'\\', escaped, rest @ ..] => {
                found |= *escaped == byte;
                rest
            }
            [first, b'-', last, rest @ ..] => {
                found |= (*first.min(last)..=*first.max(last)).contains(&byte);
                rest
            }
            [single, rest @ ..] => {
                found |= *single == byte;
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_mean_what_they_mean_in_redis() {
        let yes: &[(&[u8], &[u8])] = &[
            (b"", b""),
            (b"*", b""),
            (b"*", b"a/b"),
            (b"**a**", b"bab"),
            (b"h?llo", b"hello"),
            (b"h[ae]llo", b"hallo"),
            (b"h[^e]llo", b"hallo"),
            (b"[a-c]x", b"bx"),
            (b"[c-a]x", b"bx"),
            (b"a\\*", b"a*"),
            (b"a\\", b"a\\"),
            (b"[\\]]", b"]"),
            (b"[a-", b"a"),
            (b"[abc", b"b"),
            (b"[^", b"b"),
            (b"*\xff?", b"\x00\xff\xfe"),
            (b"{a,b}", b"{a,b}"),
            (b"!a", b"!a"),
            (b"a*b*c", b"a--b-b--c"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern, text), "{} {}", pattern.escape_ascii(), text.escape_ascii());
        }
        let no: &[(&[u8], &[u8])] = &[
            (b"", b"a"),
            (b"a", b""),
            (b"a*", b"ba"),
            (b"h[^e]llo", b"hello"),
            (b"[]a]", b"a"),
            (b"[a-c]", b"d"),
            (b"\\*", b"a"),
            (b"?", b""),
            (b"a*b*c", b"a--b-b--"),
        ];
        for (pattern, text) in no {
            assert!(!matches(pattern, text), "{} {}", pattern.escape_ascii(), text.escape_ascii());
        }
    }

    #[test]
    fn many_stars_stay_cheap() {
        assert!(!matches(&b"a*".repeat(500), &[b'a'; 400]));
        assert!(!matches(&[b"*a".repeat(500), b"b".to_vec()].concat(), &vec![b'a'; 64 << 10]));
    }
}
