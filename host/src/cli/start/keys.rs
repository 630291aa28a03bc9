//! The source of the log's keys at a start, and the key file of a cluster of one.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};

use crate::cli::Advice;
use crate::cli::options::{EncryptionChoice, StartOptions, own_key_file};
use crate::data_dir::DataDir;
use crate::keys::{self, KeyFile, KeyProvider};

/// Where the node's keys come from; none for a log that is not encrypted. A cluster of one gets a key file at its first start. The directory must be open: nobody else does the same then.
///
/// # Errors
/// The key file is gone and the data is not, no key file can be made, or core files can't be forbidden.
pub(super) fn source(options: &StartOptions, data_dir: &DataDir) -> Result<Option<Box<dyn KeyProvider>>> {
    let provider = match &options.encryption {
        EncryptionChoice::Off => return Ok(None),
        EncryptionChoice::Keys(origin) => origin.clone().provider(),
        EncryptionChoice::OwnKeys => {
            keys::forbid_core_dumps()?;
            Box::new(KeyFile::new(own_keys(data_dir)?))
        }
    };
    keys::forbid_core_dumps()?;
    Ok(Some(provider))
}

fn own_keys(data_dir: &DataDir) -> Result<PathBuf> {
    let no_name = || anyhow!("{} has no name that a key file beside it could be called after", data_dir.path().display());
    let path = own_key_file(data_dir.path()).with_context(no_name).context(Advice("name a file with --key-file FILE"))?;
    if path.exists() {
        return Ok(path);
    }
    if !data_dir.is_blank()? {
        return Err(anyhow!("{} is encrypted with the keys of {}, and that file is not there", data_dir.path().display(), path.display())
            .context(Advice(
                "put the file, or a copy of it, back in its place, or name the copy with --key-file FILE: nothing else opens the log",
            )));
    }
    keys::create_key_file(&path)?;
    tracing::warn!(
        "the log is encrypted with a new key in {}: keep a copy elsewhere, for without it the data is lost; a node that joins needs one too",
        path.display()
    );
    Ok(path)
}
