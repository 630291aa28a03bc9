//! The test bed: what the tests of this crate share.
//!
//! - [`cluster`]: real nodes over simulated clocks, [disks](disk) and network, moved by hand.
//! - [`sim`]: seeded random runs of such a cluster, with Raft's safety properties checked after each step.
//! - [`model`]: all states of a small cluster, one by one.
//! - [`fuzzing`]: a node that meets whatever a string of bytes says.
//! - [`planted`]: tests that are seen to fail with a bug put in.
//! - [`script`]: stories of a cluster in commands, with reviewed output.
//! - [`damaged`]: journals and snapshots that are damaged as a string of bytes says, and what reads them.
//! - [`process`]: clusters of real processes; [`load`]: clients that remember what they were promised; [`damage`]: bad disks. With the feature `host`
//!   alone: it is on by default, and takes minutes to build.

#![forbid(unsafe_code)]

pub mod cluster;
#[cfg(feature = "host")]
pub mod damage;
#[cfg(feature = "host")]
pub mod damaged;
pub mod disk;
pub mod fuzzing;
#[cfg(feature = "host")]
pub mod load;
pub mod model;
pub mod planted;
#[cfg(feature = "host")]
pub mod process;
#[cfg(feature = "host")]
pub mod ram_disk;
mod render;
pub mod script;
pub mod sim;
