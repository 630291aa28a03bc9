//! A log key: 32 bytes that nothing prints, and that are wiped when they are no longer used.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use super::error::KeyError;

/// A log key of 256 bits. It seals nothing itself: what does is derived from it (RFC 5869).
///
/// The bytes live on the heap, so that a key that moves leaves no copy behind, and are wiped on drop. `Debug` shows none of them.
///
/// ```
/// use amaters_cluster_core::sealing::LogEncryptionKey;
///
/// let key = LogEncryptionKey::from_text("606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f")?;
/// assert_eq!(key.as_bytes()[0], 0x60);
/// assert_eq!(format!("{key:?}"), "LogEncryptionKey(..)");
/// # Ok::<(), amaters_cluster_core::sealing::KeyError>(())
/// ```
#[derive(Clone)]
pub struct LogEncryptionKey(Box<Zeroizing<[u8; 32]>>);

impl LogEncryptionKey {
    /// A key's length in bytes.
    pub const LENGTH: usize = 32;

    /// The key with these bytes. The caller wipes its own copy.
    ///
    /// # Errors
    /// They are not 32, or all zero.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeyError> {
        if bytes.len() != Self::LENGTH {
            return Err(KeyError::Length(bytes.len()));
        }
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(KeyError::Zeros);
        }
        let mut key = Self(Box::new(Zeroizing::new([0; 32])));
        key.0.copy_from_slice(bytes);
        Ok(key)
    }

    /// The key of this text: 64 hexadecimal digits, or 44 characters of base64 (RFC 4648, §4) of which the last, the padding, may be left out. Space around it is skipped.
    ///
    /// # Errors
    /// The text is neither, or says nothing but zeros.
    pub fn from_text(text: &str) -> Result<Self, KeyError> {
        let text = text.trim();
        let digits = text.as_bytes();
        let mut bytes = Zeroizing::new([0; 32]);
        let read = match digits.len() {
            64 => from_hex(digits, &mut bytes),
            43 => from_base64(digits, &mut bytes),
            44 if digits[43] == b'=' => from_base64(&digits[..43], &mut bytes),
            _ => None,
        };
        read.ok_or_else(|| KeyError::Text(text.chars().count()))?;
        Self::from_bytes(bytes.as_slice())
    }

    /// The bytes themselves, for whoever stores a key or hands it to the sandbox. Copies are the caller's to wipe.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A short name for the key that tells nothing about it: people compare it across nodes.
    #[must_use]
    pub fn fingerprint(&self) -> KeyFingerprint {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.as_bytes()).expect("HMAC takes keys of any length");
        mac.update(b"ukehi key fingerprint v1");
        let mut short = [0; 8];
        short.copy_from_slice(&mac.finalize().into_bytes()[..8]);
        KeyFingerprint(short)
    }

    /// Whether both are the same key, in a time that does not tell where they differ.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0.iter()).fold(0, |seen, (a, b)| seen | (a ^ b)) == 0
    }
}

impl fmt::Debug for LogEncryptionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LogEncryptionKey(..)")
    }
}

/// The public name of a key: the first 8 bytes of HMAC-SHA256 (key; `"ukehi key fingerprint v1"`), as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyFingerprint([u8; 8]);

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

fn from_hex(digits: &[u8], bytes: &mut [u8; 32]) -> Option<()> {
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = hex_value(pair[0])? << 4 | hex_value(pair[1])?;
    }
    Some(())
}

fn hex_value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

/// 43 characters hold 258 bits: the last 2 belong to no byte, and must be zero.
fn from_base64(characters: &[u8], bytes: &mut [u8; 32]) -> Option<()> {
    let mut filled = bytes.iter_mut();
    let (mut bits, mut held) = (0_u32, 0);
    for character in characters {
        bits = bits << 6 | u32::from(base64_value(*character)?);
        held += 6;
        if held >= 8 {
            held -= 8;
            let [.., byte] = (bits >> held).to_be_bytes();
            *filled.next()? = byte;
            bits &= (1 << held) - 1;
        }
    }
    (bits == 0).then_some(())
}

fn base64_value(character: u8) -> Option<u8> {
    match character {
        b'A'..=b'Z' => Some(character - b'A'),
        b'a'..=b'z' => Some(character - b'a' + 26),
        b'0'..=b'9' => Some(character - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7eff";
    const BASE64: &str = "YGFiY2RlZmdoaWprbG1ub3BxcnN0dXZ3eHl6e3x9fv8=";

    #[test]
    fn hexadecimal_and_base64_name_the_same_key() {
        let key = LogEncryptionKey::from_text(HEX).expect("hexadecimal");
        assert_eq!(&key.as_bytes()[..2], [0x60, 0x61]);
        assert_eq!(key.as_bytes()[31], 0xff);
        for text in [BASE64, BASE64.trim_end_matches('='), &format!(" {BASE64}\n"), &HEX.to_uppercase()] {
            assert!(LogEncryptionKey::from_text(text).expect(text).is_same(&key), "{text}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        let odd = &BASE64.replace("fv8=", "fv9="); // a bit beyond the last byte
        for text in
            ["", "secret", &HEX[1..], &HEX.replace('6', "g"), odd, &BASE64.replace('=', "A"), &format!("{BASE64}="), &"é".repeat(32)]
        {
            let error = LogEncryptionKey::from_text(text).expect_err(text);
            assert_eq!(error, KeyError::Text(text.chars().count()), "{text}");
            assert!(text.is_empty() || !error.to_string().contains(text), "{error}");
        }
        assert_eq!(LogEncryptionKey::from_bytes(&[1; 31]).expect_err("too short"), KeyError::Length(31));
        assert_eq!(LogEncryptionKey::from_text(&"0".repeat(64)).expect_err("zeros"), KeyError::Zeros);
    }

    #[test]
    fn a_fingerprint_names_a_key_and_a_debug_line_shows_none() {
        let key = LogEncryptionKey::from_text(HEX).expect("a key");
        let other = LogEncryptionKey::from_bytes(&[7; 32]).expect("a key");
        assert_eq!(key.fingerprint(), key.clone().fingerprint());
        assert_ne!(key.fingerprint(), other.fingerprint());
        assert!(!key.is_same(&other));
        assert_eq!(key.fingerprint().to_string().len(), 16);
        assert_eq!(format!("{key:?}"), "LogEncryptionKey(..)");
    }
}
