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
    /// Whether a thread is reading: there is one at most, however many ask.
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

    /// As [`Self::load`], on a thread of its own. A caller never joins a reading that is under way: that may have begun before the keys were there which it asks for.
    ///
    /// # Errors
    /// The source gives nothing; or [`RaftError::KeysBeingRead`], at once.
    pub(crate) async fn read(&self) -> RaftResult<KeyRing> {
        let reading = self.begin().ok_or(RaftError::KeysBeingRead)?;
        let (done, read) = oneshot::channel();
        let act = move || {
            let keys = reading.0.load().map_err(RaftError::Keys);
            drop(reading); // who has the answer may ask again
            done.send(keys)
        };
        // Whoever asked may have gone away; without a thread nothing is sent.
        let _ = thread::Builder::new().name("keys".to_owned()).spawn(act);
        read.await.unwrap_or(Err(RaftError::Overloaded))
    }

    /// Reads the source on a thread of its own, unless that is under way. `take` gets none where the source gives nothing: the log has said why by then.
    pub(crate) fn read_anew(&self, take: impl FnOnce(Option<KeyRing>) + Send + 'static) {
        let Some(reading) = self.begin() else { return };
        let act = move || take(reading.0.load_or_complain());
        if let Err(error) = thread::Builder::new().name("keys".to_owned()).spawn(act) {
            tracing::error!("the source of keys can't be read, since a thread can't be started: {error}");
        }
    }

    fn begin(&self) -> Option<Reading> {
        (!self.0.reading.swap(true, Ordering::AcqRel)).then(|| Reading(self.clone()))
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

/// The right to read, which goes back when it is dropped: with a thread that panics, too, or that never starts.
struct Reading(KeyReader);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.0.reading.store(false, Ordering::Release);
    }
}

impl fmt::Debug for KeyReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KeyReader").field(&self.0.origin).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Says when it is read, and waits for leave to answer.
    #[derive(Debug)]
    struct Slow {
        begun: Sender<()>,
        leave: Receiver<()>,
    }

    impl KeyProvider for Slow {
        fn load(&self) -> Result<KeyRing, KeySourceError> {
            self.begun.send(()).expect("the test listens");
            self.leave.recv().expect("the test answers");
            Ok(KeyRing::default())
        }

        fn describe(&self) -> String {
            "a slow source".to_owned()
        }
    }

    #[test]
    fn who_asks_while_the_source_is_read_is_sent_away_and_starts_no_thread() {
        let ((begun, listens), (answers, leave)) = (channel(), channel());
        let reader = KeyReader::new(Box::new(Slow { begun, leave }));
        let first = thread::spawn({
            let reader = reader.clone();
            move || pollster::block_on(reader.read())
        });
        listens.recv().expect("it is read");
        for _ in 0..100 {
            let error = pollster::block_on(reader.read()).expect_err("it is being read");
            assert!(matches!(error, RaftError::KeysBeingRead) && error.is_retryable(), "{error}");
        }
        reader.read_anew(|_| panic!("nobody reads for this one"));
        answers.send(()).expect("it waits");
        first.join().expect("no panic").expect("keys");
        assert!(listens.try_recv().is_err(), "it was read once");

        answers.send(()).expect("it will wait");
        pollster::block_on(reader.read()).expect("who comes later is answered");
    }
}
