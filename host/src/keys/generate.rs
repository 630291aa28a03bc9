//! New keys, from the system's random source and nothing else.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use amaters_cluster_core::sealing::{KeyRing, KeyVersion, LogEncryptionKey};
use zeroize::Zeroizing;

use super::{KeyFile, KeyProvider as _, KeySourceError, text};
use crate::wal::disk::sync_dir;

/// A new key, from the system's random source.
///
/// # Errors
/// The system gives no random bytes.
pub fn random_key() -> Result<LogEncryptionKey, KeySourceError> {
    loop {
        let mut bytes = Zeroizing::new([0; LogEncryptionKey::LENGTH]);
        getrandom::fill(bytes.as_mut_slice()).map_err(KeySourceError::NoRandomness)?;
        // Refused are zeros alone, which come once in 2²⁵⁶ draws.
        if let Ok(key) = LogEncryptionKey::from_bytes(bytes.as_slice()) {
            return Ok(key);
        }
    }
}

/// Writes a key file with a new key as version 1, for its owner alone, and durably. Gives the keys.
///
/// # Errors
/// The file is there already, whatever it holds; or it can't be written.
pub fn create_key_file(path: &Path) -> Result<KeyRing, KeySourceError> {
    let mut keys = KeyRing::default();
    keys.insert(KeyVersion(1), random_key()?).expect("it is the first");
    let file = create_new(path).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeySourceError::Exists(path.to_owned()),
        _ => KeySourceError::Io { action: "create", path: path.to_owned(), source },
    })?;
    write_whole(file, path, &keys)?;
    Ok(keys)
}

/// Adds a new key to a key file, as the version after the last, and gives that version. The file is replaced by a new one that holds all the keys: a crash leaves the one or the other.
/// The new one belongs to the user and the group of the old one, whoever adds the version.
///
/// # Errors
/// The file can't be read or written, the new one can't be given to the old one's owner, or another process is doing the same. The file is as it was then.
pub fn add_version(path: &Path) -> Result<(KeyVersion, KeyRing), KeySourceError> {
    // Where the file is a link, what it points to is replaced, and not the link.
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(_) => path.to_owned(), // reading it says what is wrong
    };
    let load = || KeyFile::new(&path).load();
    load()?; // what can't be read leaves nothing behind
    // The keys that are written are those that are read once this file is there, which keeps others from doing the same.
    let beside = beside(&path);
    let file = create_new(&beside).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => KeySourceError::BeingChanged(beside.clone()),
        _ => KeySourceError::Io { action: "create", path: beside.clone(), source },
    })?;
    let added = load().and_then(|mut keys| {
        let last = keys.versions().last().map_or(0, |version| version.0);
        let next = KeyVersion(last.checked_add(1).ok_or_else(|| io_error("add a version to", &path, io::ErrorKind::StorageFull.into()))?);
        keys.insert(next, random_key()?).expect("no version is as high");
        keep_owner(&path, &file)?;
        write_whole(file, &beside, &keys)?;
        fs::rename(&beside, &path).map_err(|source| io_error("replace", &path, source))?;
        sync_folder(&path)?;
        Ok((next, keys))
    });
    if added.is_err() {
        // It may have taken its place already, and is then no longer here.
        let _ = fs::remove_file(&beside);
    }
    added
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    name.into()
}

fn create_new(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// Gives a new file to whoever owns the old one: root may add a version to the keys of a node that runs as another user, and that node has to read them.
#[cfg(unix)]
fn keep_owner(old: &Path, new: &File) -> Result<(), KeySourceError> {
    use std::os::unix::fs::{MetadataExt as _, fchown};

    let owner_of = |metadata: fs::Metadata| (metadata.uid(), metadata.gid());
    let (user, group) = fs::metadata(old).map(owner_of).map_err(|source| io_error("read the owner of", old, source))?;
    let now = new.metadata().map(owner_of).map_err(|source| io_error("read the owner of", &beside(old), source))?;
    if now == (user, group) {
        return Ok(());
    }
    // What stays as it is is not asked for, since that may be refused.
    let (new_user, new_group) = ((now.0 != user).then_some(user), (now.1 != group).then_some(group));
    fchown(new, new_user, new_group).map_err(|source| KeySourceError::OwnerNotKept { path: old.to_owned(), user, group, source })
}

#[cfg(not(unix))]
fn keep_owner(_: &Path, _: &File) -> Result<(), KeySourceError> {
    Ok(())
}

fn write_whole(mut file: File, path: &Path, keys: &KeyRing) -> Result<(), KeySourceError> {
    let written = file.write_all(text::write(keys).as_bytes()).and_then(|()| file.sync_all());
    if let Err(source) = written {
        // Half a key is of no use, and would stand in the way of the next try.
        let _ = fs::remove_file(path);
        return Err(io_error("write", path, source));
    }
    sync_folder(path)
}

fn sync_folder(path: &Path) -> Result<(), KeySourceError> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_dir(folder).map_err(|source| io_error("sync", folder, source))
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> KeySourceError {
    KeySourceError::Io { action, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_file_is_new_its_owners_alone_and_never_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        let keys = create_key_file(&path).expect("a new file");
        assert_eq!(keys.versions().collect::<Vec<_>>(), [KeyVersion(1)]);
        let text = fs::read_to_string(&path).expect("ours");
        #[cfg(unix)]
        assert_eq!(std::os::unix::fs::MetadataExt::mode(&fs::metadata(&path).expect("ours")) & 0o7777, 0o600);

        let error = create_key_file(&path).expect_err("it is there");
        assert!(matches!(error, KeySourceError::Exists(_)), "{error}");
        assert_eq!(fs::read_to_string(&path).expect("ours"), text, "as it was");
    }

    #[test]
    fn a_version_is_added_after_the_last_and_the_others_stay() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        let first = create_key_file(&path).expect("a new file");
        let (second, _) = add_version(&path).expect("added");
        let (third, keys) = add_version(&path).expect("added");
        assert_eq!((second, third), (KeyVersion(2), KeyVersion(3)));
        let read = KeyFile::new(&path).load().expect("still its owner's alone");
        assert_eq!(read.versions().count(), 3);
        for version in read.versions() {
            assert_eq!(read.get(version).expect("there").as_bytes(), keys.get(version).expect("there").as_bytes());
        }
        assert_eq!(read.get(KeyVersion(1)).expect("there").as_bytes(), first.get(KeyVersion(1)).expect("there").as_bytes());
        assert_eq!(fs::read_dir(dir.path()).expect("ours").count(), 1, "nothing else is left");
    }

    /// Only root can give files away: run by anybody else, this shows that the owner stays who it was.
    #[cfg(unix)]
    #[test]
    fn a_version_that_root_adds_leaves_the_file_to_its_owner() {
        use std::os::unix::fs::{MetadataExt as _, chown};

        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        create_key_file(&path).expect("a new file");
        let owner_of = || fs::metadata(&path).map(|metadata| (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777)).expect("ours");
        let mut owner = owner_of();
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(1234), Some(4321)).expect("root may");
            owner = (1234, 4321, owner.2);
        }
        add_version(&path).expect("added");
        assert_eq!(owner_of(), owner, "a node that runs as that user could not read its keys");
        assert_eq!(owner.2, 0o600);
    }

    #[test]
    fn two_do_not_add_a_version_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        assert!(matches!(add_version(&path), Err(KeySourceError::NoFile(_))));
        create_key_file(&path).expect("a new file");
        fs::write(beside(&path), "").expect("ours");
        assert!(matches!(add_version(&path), Err(KeySourceError::BeingChanged(_))));
        assert!(beside(&path).exists(), "the other's file stays");
        assert_eq!(KeyFile::new(&path).versions().expect("as it was"), [KeyVersion(1)]);
    }

    /// What a fixed seed, a clock or a process id would give: keys that are alike.
    #[test]
    fn h53_keys_are_drawn_anew_each_time_and_no_message_holds_one() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        let keys = create_key_file(&path).expect("a new file");
        let mut all: Vec<_> = (0..64).map(|_| *random_key().expect("random bytes").as_bytes()).collect();
        all.push(*keys.get(KeyVersion(1)).expect("there").as_bytes());
        for (at, key) in all.iter().enumerate() {
            assert!(
                all[..at].iter().all(|earlier| earlier[..8] != key[..8] && earlier[24..] != key[24..]),
                "key {at} is like an earlier one"
            );
        }

        let text = fs::read_to_string(&path).expect("ours");
        let secret = text.lines().last().expect("the key").split(' ').next_back().expect("the key").to_owned();
        fs::write(&path, text.replace("1 ", "one ")).expect("ours");
        let malformed = KeyFile::new(&path).load().expect_err("a line is wrong");
        fs::write(&path, text.replace(&secret, &secret[1..])).expect("ours");
        let cut = KeyFile::new(&path).load().expect_err("a key is wrong");
        fs::write(&path, text.replace("ukehi-keys 1\n", "")).expect("ours");
        let headless = KeyFile::new(&path).load().expect_err("the first line is missing");
        let said = format!("{malformed} {malformed:?} {cut} {cut:?} {headless} {headless:?} {keys:?} {:?}", random_key());
        for at in 0..secret.len() - 8 {
            assert!(!said.contains(&secret[at..at + 8]), "{said}");
        }
    }
}
