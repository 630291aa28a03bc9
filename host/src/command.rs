//! Commands for the log.

use bytes::Bytes;

/// A command for the log: opaque to consensus, meaningful to the state machine alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Command(Bytes);

impl Command {
    /// A command from text.
    #[must_use]
    #[allow(clippy::should_implement_trait, reason = "the name that users of this API know; it can't fail")]
    pub fn from_str(text: &str) -> Self {
        Self(Bytes::copy_from_slice(text.as_bytes()))
    }

    /// A command from bytes.
    #[must_use]
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Self {
        Self(bytes.into())
    }

    /// The command's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The command's bytes, without a copy.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}
