//! Keys in an environment variable.

use std::env;

use amaters_cluster_core::sealing::KeyRing;
use zeroize::Zeroizing;

use super::file::parse;
use super::{KeyProvider, KeySourceError};

/// An environment variable that holds the text of a key file. The variable itself can't be wiped: whoever may look into the process's environment sees it.
#[derive(Clone, Debug)]
pub struct KeyVariable(String);

impl KeyVariable {
    /// The variable of this name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}

impl KeyProvider for KeyVariable {
    fn load(&self) -> Result<KeyRing, KeySourceError> {
        // A value that is no text is dropped here, and not wiped: it is no key either.
        let text = Zeroizing::new(env::var(&self.0).map_err(|_| KeySourceError::NoVariable(self.0.clone()))?);
        parse(text.as_bytes(), &self.describe())
    }

    fn describe(&self) -> String {
        format!("the environment variable {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Setting a variable is unsafe beside other threads, so these are two that every test has, or has not.
    #[test]
    fn a_variable_without_keys_is_named() {
        let missing = KeyVariable::new("UKEHI_NO_SUCH_VARIABLE").load().expect_err("not set");
        assert!(missing.to_string().contains("UKEHI_NO_SUCH_VARIABLE is not set"), "{missing}");
        let other = KeyVariable::new("PATH").load().expect_err("something else").to_string();
        assert!(other.starts_with("the environment variable PATH: line 1: expected `ukehi-keys 1`"), "{other}");
    }
}
