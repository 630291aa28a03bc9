//! Reading the source of keys while a node runs, beside its thread: asking somebody else for keys may take long.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use amaters_cluster_core::sealing::{KeyRing, KeyVersion};
use tokio::sync::oneshot;

use super::{KeyProvider, KeySourceError};
use crate::error::{RaftError, RaftResult};

/// A source of keys that several may read, one after the other.
#[derive(Clone)]
pub(crate) struct KeyReader(Arc<Shared>);

struct Shared {
    provider: Mutex<Box<dyn KeyProvider>>,
    origin: String,
    /// Whether [`KeyReader::read_anew`] is under way.
    reading: AtomicBool,
    /// What was last said about a source that gives nothing: the same is not said each second.
    complaint: Mutex<String>,
}

impl KeyReader {
    pub(crate) fn new(provider: Box<dyn KeyProvider>) -> Self {
        let origin = provider.describe();
        Self(Arc::new(Shared { provider: Mutex::new(provider), origin, reading: AtomicBool::new(false), complaint: Mutex::default() }))
    }

    /// Reads the source, and waits for that.
    pub(crate) fn load(&self) -> Result<KeyRing, KeySourceError> {
        self.0.provider.lock().unwrap_or_else(PoisonError::into_inner).load()
    }

    /// As [`Self::load`], on a thread of its own.
    pub(crate) async fn read(&self) -> RaftResult<KeyRing> {
        let (done, read) = oneshot::channel();
        let reader = self.clone();
        // Whoever asked may have gone away; without a thread nothing is sent.
        let _ = thread::Builder::new().name("keys".to_owned()).spawn(move || done.send(reader.load().map_err(RaftError::Keys)));
        read.await.unwrap_or(Err(RaftError::Overloaded))
    }

    /// Reads the source on a thread of its own, unless that is under way. `take` gets none where the source gives nothing: the log has said why by then.
    pub(crate) fn read_anew(&self, take: impl FnOnce(Option<KeyRing>) + Send + 'static) {
        if self.0.reading.swap(true, Ordering::AcqRel) {
            return;
        }
        let reader = self.clone();
        let act = move || {
            take(reader.load_or_complain());
            reader.0.reading.store(false, Ordering::Release);
        };
        if let Err(error) = thread::Builder::new().name("keys".to_owned()).spawn(act) {
            tracing::error!("the source of keys can't be read, since a thread can't be started: {error}");
            self.0.reading.store(false, Ordering::Release);
        }
    }

    fn load_or_complain(&self) -> Option<KeyRing> {
        let error = match self.load() {
            Ok(keys) => return Some(keys),
            Err(error) => error.to_string(),
        };
        let mut complaint = self.0.complaint.lock().unwrap_or_else(PoisonError::into_inner);
        if *complaint != error {
            tracing::error!("{error}");
            *complaint = error;
        }
        None
    }

    /// Whether the source has a version.
    pub(crate) fn expect(&self, keys: &KeyRing, version: KeyVersion) -> Result<(), KeySourceError> {
        keys.get(version).map(drop).map_err(|missing| KeySourceError::Missing { origin: self.0.origin.clone(), missing })
    }
}

impl fmt::Debug for KeyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyReader").field(&self.0.origin).finish()
    }
}
