//! Files that were damaged as a string of bytes says, and all that reads them: for a fuzzer, and to repeat what a fuzzer found.
//!
//! [`journal`] and [`snapshot`] first make whole files, from the documented formats alone, and know what is in them. They then damage these, by accident and not by design: no damage
//! makes up for a checksum. Some files have parts that no node writes, under checksums that fit: of those no more is asked than that nobody panics, hangs or gives what is not there.
//!
//! `fuzz/` compiles the two files as well. What they need of others is named here.

pub mod journal;
pub mod snapshot;

use amaters_cluster::wal;

use crate::fuzzing::bytes;
