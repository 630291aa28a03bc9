//! The journal's promises, on a disk that loses power, fails and forgets.

mod crashes;
mod faulty;
mod format;
mod hazards;
mod properties;
mod recovery_table;
mod support;
mod system;
