//! Keys that systemd hands to a unit (`LoadCredential=`, `LoadCredentialEncrypted=`; systemd.exec(5), "Credentials").

use std::env;
use std::path::{Component, Path, PathBuf};

use amaters_cluster_core::sealing::KeyRing;

use super::file::{open, read};
use super::{KeyProvider, KeySourceError};

/// A credential: a file in a directory that systemd makes for the unit alone, and names in `$CREDENTIALS_DIRECTORY`. Its mode is systemd's business: access lists there look like a group's rights.
#[derive(Clone, Debug)]
pub struct KeyCredential {
    name: String,
    directory: Option<PathBuf>,
}

impl KeyCredential {
    /// The credential of this name, in the directory that systemd gave this process.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), directory: env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from) }
    }

    fn path(&self) -> Result<PathBuf, KeySourceError> {
        let mut parts = Path::new(&self.name).components();
        if !matches!((parts.next(), parts.next()), (Some(Component::Normal(name)), None) if name == self.name.as_str()) {
            return Err(KeySourceError::CredentialName(self.name.clone()));
        }
        let directory = self.directory.as_ref().ok_or_else(|| KeySourceError::NoCredentials(self.name.clone()))?;
        Ok(directory.join(&self.name))
    }
}

impl KeyProvider for KeyCredential {
    fn load(&self) -> Result<KeyRing, KeySourceError> {
        let path = self.path()?;
        let file = open(&path).map_err(|error| match error {
            KeySourceError::NoFile(_) => KeySourceError::NoCredentials(self.name.clone()),
            other => other,
        })?;
        read(file, &path)
    }

    fn describe(&self) -> String {
        format!("the credential {}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use amaters_cluster_core::sealing::KeyVersion;

    use super::*;

    #[test]
    fn a_credential_is_read_from_the_units_directory() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("log-keys"), format!("ukehi-keys 1\n3 {}\n", "5a".repeat(32))).expect("ours");
        let credential =
            |name: &str, directory: Option<&Path>| KeyCredential { name: name.into(), directory: directory.map(Path::to_owned) };
        assert_eq!(credential("log-keys", Some(dir.path())).versions().expect("keys"), [KeyVersion(3)]);

        for (name, directory) in [("log-keys", None), ("other", Some(dir.path()))] {
            let error = credential(name, directory).load().expect_err("not there").to_string();
            assert!(error.contains(&format!("LoadCredential={name}:")), "{error}");
        }
        for name in ["", "..", ".", "a/b", "/etc/passwd", "../log-keys", "log-keys/"] {
            assert!(matches!(credential(name, Some(dir.path())).load(), Err(KeySourceError::CredentialName(_))), "{name}");
        }
    }
}
