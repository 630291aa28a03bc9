//! The `keys` interface of `wit/`, linked by hand.
//!
//! What the generated glue would take is a list that it drops when it has copied it, with the keys in it. Here the list shares its bytes with the host, which wipes
//! them when the guest has them.

use std::sync::Arc;

use amaters_cluster_core::{Effect, KeyRing, KeyVersion};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Linker, Lower};
use zeroize::Zeroize as _;

use super::Driver;
use super::wasm::Host;

/// The keys that a guest may ask for while it is set up. Wiped when this is dropped.
#[derive(Default)]
pub(super) struct HeldKeys(Vec<LogKey>);

/// `keys.log-key`.
#[derive(Clone, ComponentType, Lower)]
#[component(record)]
struct LogKey {
    version: u32,
    key: Arc<[u8]>,
}

impl HeldKeys {
    pub(super) fn new(keys: &KeyRing) -> Self {
        let held = |version: KeyVersion| Some(LogKey { version: version.0, key: Arc::from(&keys.get(version).ok()?.as_bytes()[..]) });
        Self(keys.versions().filter_map(held).collect())
    }
}

impl Drop for HeldKeys {
    fn drop(&mut self) {
        for LogKey { key, .. } in &mut self.0 {
            // Nobody shares it but a call, and no call outlives this.
            if let Some(bytes) = Arc::get_mut(key) {
                bytes.zeroize();
            }
        }
    }
}

/// Links `keys.held` and `keys.request`.
pub(super) fn link_keys<D: Driver>(linker: &mut Linker<Host<D>>) -> wasmtime::Result<()> {
    let mut interface = linker.instance("amaters:cluster/keys@0.1.0")?;
    interface.func_wrap("held", |store: StoreContextMut<'_, Host<D>>, (): ()| Ok((store.data().keys.0.clone(),)))?;
    interface.func_wrap("request", |mut store: StoreContextMut<'_, Host<D>>, (version,): (u32,)| {
        store.data_mut().driver.carry_out(Effect::RequestKey { version: KeyVersion(version) });
        Ok(())
    })?;
    Ok(())
}
