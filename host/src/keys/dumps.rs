//! No core files: they would hold the keys.

use super::KeySourceError;

/// Keeps this process from leaving core files, and other processes of the same user from reading its memory (`PR_SET_DUMPABLE`, prctl(2)). To be called once, before the first key is loaded.
///
/// On Linux alone; elsewhere it does nothing, and whoever runs the node forbids core files with `ulimit -c 0`. Debuggers and profilers then need root, and the files in `/proc/PID` belong to root. A
/// program that this one starts begins as dumpable as any other. It does not reach root, nor pages that the system swaps out.
///
/// # Errors
/// The system refused.
#[cfg(target_os = "linux")]
pub fn forbid_core_dumps() -> Result<(), KeySourceError> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(|error| KeySourceError::CoreDumps(error.into()))
}

/// Does nothing here: whoever runs the node forbids core files with `ulimit -c 0`.
///
/// # Errors
/// None.
#[cfg(not(target_os = "linux"))]
pub fn forbid_core_dumps() -> Result<(), KeySourceError> {
    Ok(())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use rustix::process::{DumpableBehavior, dumpable_behavior};

    use super::*;

    #[test]
    fn the_process_leaves_no_core_file_any_more() {
        forbid_core_dumps().expect("Linux has it");
        assert_eq!(dumpable_behavior().expect("Linux has it"), DumpableBehavior::NotDumpable);
    }
}
