//! Sealing and chaining in the sandbox, for `cargo xtask bench --sealing`: the work of `workload.rs` behind three plain exports, without an import. Whoever calls them has the clock.
#![allow(unsafe_code, reason = "a name that the caller knows is an unsafe attribute")]

#[path = "../../src/sealing/tests/known_answers.rs"]
mod known_answers;
mod workload;

/// How many published answers the primitives gave: a wrong one traps.
#[unsafe(no_mangle)]
pub extern "C" fn known_answers() -> u32 {
    u32::try_from(known_answers::check()).expect("few")
}

/// Does the work once, and gives a digest of all that came out.
#[unsafe(no_mangle)]
pub extern "C" fn digest() -> u64 {
    workload::digest()
}

/// Does one kind of work so many times on payloads of so many bytes; 0 for a kind that there is none of, else 1.
#[unsafe(no_mangle)]
pub extern "C" fn work(kind: u32, bytes: u32, times: u32) -> u32 {
    let Some(kind) = workload::KINDS.get(kind as usize) else { return 0 };
    workload::run(*kind, bytes as usize, times);
    1
}
