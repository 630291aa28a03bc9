//! What the component may touch: its imports and exports, read from the built component.

use std::collections::BTreeSet;

use wasmtime::Engine;
use wasmtime::component::Component;
use wasmtime::component::types::ComponentItem;

/// Everything that crosses the boundary. Whoever adds to this list widens what a guest can do.
const IMPORTS: [&str; 36] = [
    "amaters:cluster/accelerator@0.1.0 [constructor]cipher",
    "amaters:cluster/accelerator@0.1.0 [method]cipher.open",
    "amaters:cluster/accelerator@0.1.0 [method]cipher.seal",
    "amaters:cluster/accelerator@0.1.0 available",
    "amaters:cluster/accelerator@0.1.0 cipher",
    "amaters:cluster/events@0.1.0 diverged",
    "amaters:cluster/events@0.1.0 leader-changed",
    "amaters:cluster/events@0.1.0 peer-failed",
    "amaters:cluster/events@0.1.0 peer-recovered",
    "amaters:cluster/events@0.1.0 repaired",
    "amaters:cluster/events@0.1.0 state-lost",
    "amaters:cluster/keys@0.1.0 held",
    "amaters:cluster/keys@0.1.0 request",
    "amaters:cluster/log@0.1.0 write",
    "amaters:cluster/network@0.1.0 members",
    "amaters:cluster/network@0.1.0 send",
    "amaters:cluster/network@0.1.0 send-bulk",
    "amaters:cluster/snapshots@0.1.0 discard",
    "amaters:cluster/snapshots@0.1.0 finish",
    "amaters:cluster/snapshots@0.1.0 read",
    "amaters:cluster/snapshots@0.1.0 retain",
    "amaters:cluster/snapshots@0.1.0 write",
    "amaters:cluster/state-machine@0.1.0 answer",
    "amaters:cluster/state-machine@0.1.0 apply",
    "amaters:cluster/state-machine@0.1.0 capture",
    "amaters:cluster/state-machine@0.1.0 clear",
    "amaters:cluster/state-machine@0.1.0 done",
    "amaters:cluster/state-machine@0.1.0 read-captured",
    "amaters:cluster/state-machine@0.1.0 reject",
    "amaters:cluster/state-machine@0.1.0 release",
    "amaters:cluster/state-machine@0.1.0 restore",
    "amaters:cluster/state-machine@0.1.0 restored",
    "amaters:cluster/state-machine@0.1.0 serve-reads",
    "amaters:cluster/storage@0.1.0 submit",
    "wasi:clocks/monotonic-clock@0.2.12 now",
    "wasi:random/random@0.2.12 get-random-u64",
];

const EXPORTS: [&str; 24] = [
    "amaters:cluster/node@0.1.0 applied",
    "amaters:cluster/node@0.1.0 change-membership",
    "amaters:cluster/node@0.1.0 configure",
    "amaters:cluster/node@0.1.0 disk-space",
    "amaters:cluster/node@0.1.0 keys-loaded",
    "amaters:cluster/node@0.1.0 persisted",
    "amaters:cluster/node@0.1.0 propose",
    "amaters:cluster/node@0.1.0 read",
    "amaters:cluster/node@0.1.0 receive",
    "amaters:cluster/node@0.1.0 recover",
    "amaters:cluster/node@0.1.0 remember",
    "amaters:cluster/node@0.1.0 restore",
    "amaters:cluster/node@0.1.0 rotate-key",
    "amaters:cluster/node@0.1.0 session",
    "amaters:cluster/node@0.1.0 snapshot-failed",
    "amaters:cluster/node@0.1.0 snapshot-read",
    "amaters:cluster/node@0.1.0 snapshot-stored",
    "amaters:cluster/node@0.1.0 snapshot-written",
    "amaters:cluster/node@0.1.0 start",
    "amaters:cluster/node@0.1.0 state-read",
    "amaters:cluster/node@0.1.0 status",
    "amaters:cluster/node@0.1.0 take-snapshot",
    "amaters:cluster/node@0.1.0 tick",
    "amaters:cluster/node@0.1.0 transfer",
];

#[test]
fn the_component_imports_and_exports_what_the_contract_lists_and_nothing_else() {
    let (imports, exports) = boundary(amaters_cluster::COMPONENT);
    assert_eq!(unlisted(&imports, &IMPORTS), Vec::<String>::new(), "imports that the contract does not list");
    assert_eq!(missing(&imports, &IMPORTS), Vec::<&str>::new(), "imports of the contract that the component has no use for");
    assert_eq!(unlisted(&exports, &EXPORTS), Vec::<String>::new(), "exports that the contract does not list");
    assert_eq!(missing(&exports, &EXPORTS), Vec::<&str>::new(), "exports that a host may rely on");
}

/// The check must be able to fail: an import that no list names is reported by its name.
#[test]
fn another_import_is_named() {
    let (imports, _) = boundary(amaters_cluster::COMPONENT);
    assert_eq!(unlisted(&imports, &IMPORTS[1..]), [IMPORTS[0]]);
}

/// The names of what a component imports and exports: of an interface, those of its functions.
fn boundary(component: &[u8]) -> (BTreeSet<String>, BTreeSet<String>) {
    let engine = Engine::default();
    let component = Component::new(&engine, component).expect("it loads: was it built with UKEHI_SKIP_COMPONENT?");
    let component = component.component_type();
    let imports = component.imports(&engine).flat_map(|(name, import)| names(&engine, name, &import.ty)).collect();
    let exports = component.exports(&engine).flat_map(|(name, export)| names(&engine, name, &export.ty)).collect();
    (imports, exports)
}

fn names(engine: &Engine, name: &str, item: &ComponentItem) -> Vec<String> {
    // A type names data: nothing can be done with it.
    let matters = |item: &ComponentItem| !matches!(item, ComponentItem::Type(_));
    match item {
        ComponentItem::ComponentInstance(interface) => {
            let items = interface.exports(engine).filter(|(_, item)| matters(&item.ty));
            items.map(|(item, _)| format!("{name} {item}")).collect()
        }
        item if matters(item) => vec![name.to_owned()],
        _ => Vec::new(),
    }
}

fn unlisted(found: &BTreeSet<String>, listed: &[&str]) -> Vec<String> {
    found.iter().filter(|name| !listed.contains(&name.as_str())).cloned().collect()
}

fn missing<'a>(found: &BTreeSet<String>, listed: &[&'a str]) -> Vec<&'a str> {
    listed.iter().filter(|name| !found.contains(**name)).copied().collect()
}
