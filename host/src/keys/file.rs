//! Keys in a file that is its owner's alone.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use amaters_cluster_core::sealing::KeyRing;
use zeroize::Zeroizing;

use super::{KeyProvider, KeySourceError, text};

/// The most that is read of any source, in bytes: some hundreds of keys.
pub(super) const MAX_TEXT: usize = 64 << 10;

/// A key file. On Unix, one that its group or others may read, write or run is refused.
#[derive(Clone, Debug)]
pub struct KeyFile(PathBuf);

impl KeyFile {
    /// The file at this path; a symbolic link counts as what it points to.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

impl KeyProvider for KeyFile {
    fn load(&self) -> Result<KeyRing, KeySourceError> {
        let file = open(&self.0)?;
        check_mode(&file, &self.0)?;
        read(file, &self.0)
    }

    fn describe(&self) -> String {
        self.0.display().to_string()
    }
}

pub(super) fn open(path: &Path) -> Result<File, KeySourceError> {
    File::open(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => KeySourceError::NoFile(path.to_owned()),
        _ => KeySourceError::Io { action: "open", path: path.to_owned(), source },
    })
}

pub(super) fn read(file: File, path: &Path) -> Result<KeyRing, KeySourceError> {
    let io_error = |source| KeySourceError::Io { action: "read", path: path.to_owned(), source };
    let text = read_bounded(file, &path.display().to_string()).map_err(io_error)??;
    parse(&text, &path.display().to_string())
}

/// All that there is to read, in a buffer that never moves: a copy that is left behind could not be wiped.
pub(super) fn read_bounded(source: impl Read, origin: &str) -> io::Result<Result<Zeroizing<Vec<u8>>, KeySourceError>> {
    let mut text = Zeroizing::new(vec![0; MAX_TEXT + 1]);
    let mut source = source;
    let mut length = 0;
    while length < text.len() {
        match source.read(&mut text[length..]) {
            Ok(0) => break,
            Ok(more) => length += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    if length > MAX_TEXT {
        return Ok(Err(KeySourceError::TooLong { origin: origin.to_owned(), limit: MAX_TEXT }));
    }
    text.truncate(length);
    Ok(Ok(text))
}

pub(super) fn parse(text: &[u8], origin: &str) -> Result<KeyRing, KeySourceError> {
    text::parse(text).map_err(|source| KeySourceError::Text { origin: origin.to_owned(), source })
}

/// Asks the open file, not its name: nobody can change places in between.
#[cfg(unix)]
fn check_mode(file: &File, path: &Path) -> Result<(), KeySourceError> {
    use std::os::unix::fs::MetadataExt as _;

    let metadata = file.metadata().map_err(|source| KeySourceError::Io { action: "read", path: path.to_owned(), source })?;
    let mode = metadata.mode() & 0o7777;
    if metadata.is_file() && mode & 0o077 != 0 { Err(KeySourceError::OpenToOthers { path: path.to_owned(), mode }) } else { Ok(()) }
}

#[cfg(not(unix))]
fn check_mode(_: &File, _: &Path) -> Result<(), KeySourceError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::keys::create_key_file;

    #[cfg(unix)]
    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_command_that_helps() {
        use std::os::unix::fs::PermissionsExt as _;

        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        create_key_file(&path).expect("a new file");
        for mode in [0o600, 0o400] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            KeyFile::new(&path).load().expect("its owner's alone");
        }
        for mode in [0o640, 0o604, 0o620, 0o666] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            let error = KeyFile::new(&path).load().expect_err("open to others").to_string();
            assert!(error.contains(&format!("(mode {mode:04o})")), "{error}");
            assert!(error.contains(&format!("chmod 600 {}", path.display())), "{error}");
        }
    }

    #[test]
    fn what_can_not_be_read_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = KeyFile::new(dir.path().join("none")).load().expect_err("no file");
        assert!(matches!(missing, KeySourceError::NoFile(_)), "{missing}");
        assert!(missing.to_string().contains("ukehi key generate --out"), "{missing}");
        assert!(matches!(KeyFile::new(dir.path()).load(), Err(KeySourceError::Io { .. })), "a directory");
    }

    #[test]
    fn no_more_is_read_than_keys_take() {
        let endless = io::repeat(b'x');
        let error = read_bounded(endless, "a source").expect("no failure").map(|_| ()).expect_err("no keys");
        assert_eq!(error.to_string(), "a source gives more than 65536 bytes: that is no text of keys");
    }
}
