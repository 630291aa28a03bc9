//! x
pub mod bench;
pub mod client;
pub mod options;
