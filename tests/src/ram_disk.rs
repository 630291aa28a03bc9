//! A disk that is small enough to be filled: a file system in memory, where the user may mount one.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of its own at a directory. Dropping it takes it away.
#[derive(Debug)]
pub struct RamDisk {
    at: PathBuf,
}

impl RamDisk {
    /// Mounts one; nothing where the user may not.
    #[must_use]
    pub fn mount(at: &Path, mib: u32) -> Option<Self> {
        fs::create_dir_all(at).ok()?;
        let size = format!("size={mib}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output().ok()?;
        mount.status.success().then(|| Self { at: at.to_owned() })
    }

    /// Takes all the space that is left, with a file that is none of the node's.
    ///
    /// # Panics
    /// No file can be made.
    pub fn fill(&self) {
        let mut ballast = File::create(self.ballast()).expect("a file can be made");
        // Ends at the error that there is no space.
        while ballast.write_all(&[1; 4096]).is_ok() {}
    }

    /// Gives that space back.
    ///
    /// # Panics
    /// It was not taken.
    pub fn free(&self) {
        fs::remove_file(self.ballast()).expect("the file was made");
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

impl Drop for RamDisk {
    fn drop(&mut self) {
        // Lazily: the node on it may have a moment left.
        let _ = Command::new("umount").arg("--lazy").arg(&self.at).status();
    }
}
