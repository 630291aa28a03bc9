//! Takes a story's bytes apart. Once they are used up, all that comes is 0.

/// What is left of them.
pub(crate) struct Bytes<'a>(pub(crate) &'a [u8]);

impl Bytes<'_> {
    /// The next byte.
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// A number below `bound`, from the next byte, or from two where the bound needs them.
    pub(crate) fn number(&mut self, bound: u64) -> u64 {
        let high = if bound > 256 { u64::from(self.byte()) << 8 } else { 0 };
        (high | u64::from(self.byte())) % bound
    }

    /// Any number: from the next eight bytes.
    pub(crate) fn any(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// The next bytes, as many as there are.
    pub(crate) fn take(&mut self, length: u64) -> &[u8] {
        let length = usize::try_from(length).unwrap_or(usize::MAX).min(self.0.len());
        let (taken, rest) = self.0.split_at(length);
        self.0 = rest;
        taken
    }
}
