//! The journal's promises, on a disk that loses power, fails and forgets.

mod compaction;
mod crashes;
mod cut;
pub(crate) mod faulty;
mod format;
mod full;
mod hazards;
mod policies;
mod properties;
mod recovery_table;
pub(crate) mod support;
mod sync_modes;
mod system;
