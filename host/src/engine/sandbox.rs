//! The component, compiled and ready to be instantiated, and the limits of its instances.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::component::Component;
use wasmtime::{Cache, CacheConfig, Engine, EngineWeak};

use super::EngineError;

/// The consensus component that this crate was built with; empty where it was built with `UKEHI_SKIP_COMPONENT=1`.
pub static COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ukehi-raft.wasm"));

/// What an instance may use.
#[derive(Clone, Copy, Debug)]
pub struct SandboxLimits {
    /// The most bytes of memory (default 2 GiB). The log is kept there: more than the core's `max_log_bytes`.
    pub memory: usize,
    /// The longest that one call may take (default 5 s). A call takes microseconds: this ends a guest that never returns.
    pub call_deadline: Duration,
}

impl Default for SandboxLimits {
    fn default() -> Self {
        Self { memory: 2 << 30, call_deadline: Duration::from_secs(5) }
    }
}

/// A compiled component. Compiling takes time, and is done once for all instances that a process needs, one after a trap among them.
#[derive(Clone)]
pub struct Sandbox {
    pub(super) component: Component,
    pub(super) limits: SandboxLimits,
    /// Whether the host does AES where a guest asks for it.
    pub(super) offers_aes: bool,
    pub(super) ticker: Arc<Ticker>,
}

impl Sandbox {
    /// Compiles a component ([`COMPONENT`], as a rule), or takes what a former run left in wasmtime's cache below the user's cache folder.
    ///
    /// # Errors
    /// [`EngineError::Load`]: it is no component, or this crate was built without one.
    pub fn new(component: &[u8], limits: SandboxLimits) -> Result<Self, EngineError> {
        if component.is_empty() {
            let reason = "this program was built without one: build it again without UKEHI_SKIP_COMPONENT";
            return Err(EngineError::Load(reason.to_owned()));
        }
        let mut config = wasmtime::Config::new();
        config.epoch_interruption(true).cache(cache());
        let load = |error: wasmtime::Error| EngineError::Load(format!("{error:#}"));
        let engine = Engine::new(&config).map_err(load)?;
        let component = Component::new(&engine, component).map_err(load)?;
        let ticker = Ticker::start(&engine).map_err(|error| EngineError::Load(format!("no thread for its deadlines: {error}")))?;
        Ok(Self { component, limits, offers_aes: true, ticker: Arc::new(ticker) })
    }

    /// Has the core do AES in the sandbox, in software and an order of magnitude slower. Otherwise this process does it, with the processor's instructions, and the core hands it sub-keys
    /// for that: nothing that a process which gives the core its keys could not know anyway.
    #[must_use]
    pub fn without_aes(self) -> Self {
        Self { offers_aes: false, ..self }
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// A cache makes a start fast and nothing else: without one, for lack of a home or of permission, the component is compiled each time.
fn cache() -> Option<Cache> {
    Cache::new(CacheConfig::new()).inspect_err(|error| tracing::debug!("no cache for the compiled component: {error:#}")).ok()
}

/// Counts the engine's epochs, by which calls that never return are interrupted.
pub(super) struct Ticker {
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    const PERIOD: Duration = Duration::from_millis(100);

    fn start(engine: &Engine) -> std::io::Result<Self> {
        let (stop, stopped) = mpsc::channel();
        let engine = engine.weak();
        let thread = std::thread::Builder::new().name("epochs".to_owned()).spawn(move || Self::run(&engine, &stopped))?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    fn run(engine: &EngineWeak, stopped: &mpsc::Receiver<()>) {
        while stopped.recv_timeout(Self::PERIOD) == Err(RecvTimeoutError::Timeout) {
            let Some(engine) = engine.upgrade() else { return };
            engine.increment_epoch();
        }
    }

    /// The epochs that `deadline` is worth: one more than fits, since the current one has begun already.
    pub(super) fn epochs(deadline: Duration) -> u64 {
        u64::try_from(deadline.as_nanos().div_ceil(Self::PERIOD.as_nanos())).unwrap_or(u64::MAX - 1).saturating_add(1)
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It only counts: it can't have panicked, and there is nothing to be done if it had.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_never_shortened() {
        assert_eq!(Ticker::epochs(Duration::from_millis(1)), 2);
        assert_eq!(Ticker::epochs(Duration::from_millis(100)), 2);
        assert_eq!(Ticker::epochs(Duration::from_millis(101)), 3);
    }

    #[test]
    fn what_is_no_component_says_so() {
        let said = |bytes: &[u8]| Sandbox::new(bytes, SandboxLimits::default()).expect_err("refused").to_string();
        assert!(said(b"").contains("built without one"));
        assert!(said(b"not wasm").starts_with("the component can't be loaded: "));
    }
}
