//! The text that keys stand in, wherever it comes from.
//!
//! ```text
//! text    = "ukehi-keys 1" newline *( line newline )   ; the last newline may be missing
//! line    = comment / version " " key / nothing        ; space around it counts for nothing
//! comment = "#" anything
//! version = 1–4294967295, in decimal                   ; each once, in any order; one at least
//! key     = 64 hexadecimal digits / 44 characters of base64
//! ```
//!
//! The first line names the format, and the number its version: text that begins otherwise is refused.

use std::fmt::Write as _;
use std::str;

use amaters_cluster_core::sealing::{KeyError, KeyRing, KeyVersion, LogEncryptionKey};
use thiserror::Error;
use zeroize::Zeroizing;

const FIRST_LINE: &str = "ukehi-keys 1";

/// What is wrong with a text of keys. Lines count from 1; what they say is not shown.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TextError {
    /// It is no UTF-8.
    #[error("it is no text: a text of keys begins with the line `{FIRST_LINE}`")]
    NotText,
    /// The first line is another.
    #[error("line 1: expected `{FIRST_LINE}`, as `ukehi key generate` writes it")]
    FirstLine,
    /// A line has another form.
    #[error("line {0}: expected a version's number from 1, a space and a key")]
    Line(usize),
    /// A key has another form.
    #[error("line {line}: {source}")]
    Key {
        /// The line.
        line: usize,
        /// What is wrong with the key.
        source: KeyError,
    },
    /// A version is there twice.
    #[error("line {line}: version {version} is there already")]
    Twice {
        /// The line.
        line: usize,
        /// The version.
        version: KeyVersion,
    },
    /// There is no key.
    #[error("there is no key in it")]
    NoKey,
}

/// The keys that a text holds.
///
/// # Errors
/// The text is malformed, or holds no key.
pub fn parse(text: &[u8]) -> Result<KeyRing, TextError> {
    let mut lines = (1..).zip(str::from_utf8(text).map_err(|_| TextError::NotText)?.lines().map(str::trim));
    if lines.next().is_none_or(|(_, first)| first != FIRST_LINE) {
        return Err(TextError::FirstLine);
    }
    let mut keys = KeyRing::default();
    for (line, content) in lines.filter(|(_, content)| !content.is_empty() && !content.starts_with('#')) {
        let (version, key) = content.split_once(char::is_whitespace).ok_or(TextError::Line(line))?;
        let version = version.parse().ok().filter(|version| *version > 0).map(KeyVersion).ok_or(TextError::Line(line))?;
        let key = LogEncryptionKey::from_text(key).map_err(|source| TextError::Key { line, source })?;
        if keys.get(version).is_ok() {
            return Err(TextError::Twice { line, version });
        }
        keys.insert(version, key).map_err(|_| TextError::Twice { line, version })?;
    }
    if keys.versions().next().is_none() { Err(TextError::NoKey) } else { Ok(keys) }
}

/// The text of these keys.
#[must_use]
pub fn write(keys: &KeyRing) -> Zeroizing<String> {
    // Room for all of it: a string that grows leaves a copy behind.
    let lines = keys.versions().count();
    let mut text = Zeroizing::new(String::with_capacity(256 + lines * 80));
    text.push_str(FIRST_LINE);
    text.push_str(
        "\n# The keys of a cluster's log, one version to a line. Whoever has them can read and forge the log; without them it is lost.\n",
    );
    for (version, key) in keys.versions().filter_map(|version| Some((version, keys.get(version).ok()?))) {
        // Writing to a string can't fail.
        let _ = write!(text, "{version} ");
        for byte in key.as_bytes() {
            let _ = write!(text, "{byte:02x}");
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7eff";
    const BASE64: &str = "YGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fv8=";

    #[test]
    fn keys_come_back_from_their_text() {
        let text = format!("ukehi-keys 1\r\n\n  # since March\n 2  {BASE64}\n1\t{HEX}");
        let keys = parse(text.as_bytes()).expect("a text");
        assert_eq!(keys.versions().collect::<Vec<_>>(), [KeyVersion(1), KeyVersion(2)]);
        let again = parse(write(&keys).as_bytes()).expect("our own text");
        for version in keys.versions() {
            assert_eq!(again.get(version).expect("there").as_bytes(), keys.get(version).expect("there").as_bytes());
        }
    }

    #[test]
    fn the_text_has_this_form() {
        let keys = parse(format!("ukehi-keys 1\n7 {BASE64}\n").as_bytes()).expect("a text");
        let written = write(&keys);
        assert!(written.starts_with("ukehi-keys 1\n# ") && written.ends_with(&format!("\n7 {HEX}\n")), "{}", written.as_str());
        assert!(written.capacity() >= 256 + 80, "it did not grow");
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let error = |text: &str| parse(text.as_bytes()).map(|_| ()).expect_err(text);
        assert_eq!(error(""), TextError::FirstLine);
        assert_eq!(error(&format!("1 {HEX}")), TextError::FirstLine);
        assert_eq!(error(&format!("ukehi-keys 2\n1 {HEX}")), TextError::FirstLine);
        assert_eq!(error("ukehi-keys 1\n# none yet\n"), TextError::NoKey);
        assert_eq!(error(&format!("ukehi-keys 1\n{HEX}")), TextError::Line(2));
        assert_eq!(error(&format!("ukehi-keys 1\n0 {HEX}")), TextError::Line(2));
        assert_eq!(error(&format!("ukehi-keys 1\n4294967296 {HEX}")), TextError::Line(2));
        assert_eq!(error(&format!("ukehi-keys 1\n\n1 {}", &HEX[1..])), TextError::Key { line: 3, source: KeyError::Text(63) });
        assert_eq!(error(&format!("ukehi-keys 1\n1 {}", "0".repeat(64))), TextError::Key { line: 2, source: KeyError::Zeros });
        assert_eq!(error(&format!("ukehi-keys 1\n1 {HEX}\n1 {HEX}")), TextError::Twice { line: 3, version: KeyVersion(1) });
        assert_eq!(parse(&[0xff, 0xfe]).map(|_| ()), Err(TextError::NotText));
    }
}
