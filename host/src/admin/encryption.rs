//! How the log is sealed, and the change of its key, as JSON.

use std::fmt::Write as _;

use amaters_cluster_core::sealing::KeyVersion;
use amaters_cluster_core::{EncryptionStatus, Status};
use serde::{Deserialize, Serialize};

/// How a node's log is sealed, as `/status` words it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncryptionView {
    /// The version of the key that the next entry is sealed with.
    pub version: u32,
    /// The versions that this node holds, in order.
    pub held: Vec<u32>,
    /// Those of them that nothing on this node's disk needs any more. Backups may.
    pub retirable: Vec<u32>,
    /// The version that this node lacks, and waits for; else null.
    pub missing: Option<u32>,
    /// Where the chain through the log ends: the same on all nodes at the same index.
    pub head: ChainHead,
    /// Where AES is done: `component`, in the sandbox and by its own code; `host`, by the process around it; `process` where the core runs natively.
    pub sealed_by: String,
}

/// A link of the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// The entry.
    pub index: u64,
    /// Its link, 32 bytes as hexadecimal digits.
    pub link: String,
}

/// The body of `POST /keys/rotate`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotateRequest {
    /// The version to seal with; null for the newest of the leader's source of keys.
    #[serde(default)]
    pub version: Option<u32>,
}

impl EncryptionView {
    /// The view of a status; none where the log is not sealed. `engine` is what runs the core.
    pub(super) fn new(status: &Status, engine: &str) -> Option<Self> {
        let EncryptionStatus { version, held, oldest_needed, missing, head_index, head, accelerated } = status.encryption.as_ref()?;
        let numbers = |versions: &mut dyn Iterator<Item = &KeyVersion>| versions.map(|version| version.0).collect();
        Some(Self {
            version: version.0,
            held: numbers(&mut held.iter()),
            retirable: numbers(&mut held.iter().filter(|held| *held < oldest_needed)),
            missing: missing.map(|version| version.0),
            head: ChainHead { index: head_index.0, link: hex(&head.link.0) },
            sealed_by: match engine {
                "wasm" if *accelerated => "host",
                "wasm" => "component",
                _ => "process",
            }
            .to_owned(),
        })
    }
}

/// Two hexadecimal digits for each byte.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string can't fail
        text
    })
}
