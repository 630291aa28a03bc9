//! Sealing and chaining of the log: a disk, a backup or a copied segment tells nothing, and an edit, a swap or a cut shows.
//!
//! Pure code: keys and randomness come in from outside, bytes go out. Commands and snapshots are sealed with AES-256-GCM (NIST SP 800-38D), once, by the node that makes them;
//! followers store and forward what they got. HMAC-SHA256 (RFC 2104) chains each entry to the one before. All sub-keys come from a log key by HKDF-SHA256 (RFC 5869).
//!
//! - [`LogEncryptionKey`], [`KeyVersion`], [`KeyRing`]: the keys of a log, by version.
//! - [`EntryEncryptor`]: seals and opens payloads; [`EncryptedPayload`] is the sealed form.
//! - [`SnapshotSealer`], [`SnapshotOpener`]: the same for the frames of a snapshot.
//! - [`LogIntegrityVerifier`]: the chain.
//! - [`Accelerator`]: somebody else who does AES, with the same bytes.
//!
//! # Formats
//!
//! Numbers are big-endian, but for `varint`: LEB128 in its shortest form, as in the rest of the log. A longer form is refused: what can be written in two ways could be changed unseen.
//!
//! ```text
//! payload    = header ciphertext tag   ; an entry's payload: 38 bytes longer than the plain one while version, node and counter are small
//! header     = form version node boot counter
//! form       = %x01                    ; 1 byte: a payload of AES-256-GCM; snapshots have %x02
//! version    = varint                  ; 1–5 bytes: the version of the log key
//! node       = varint                  ; 1–10 bytes: who sealed it
//! boot       = 16 OCTET                ; that node's start: random, drawn by its host
//! counter    = varint                  ; 1–10 bytes, from 1: what the node sealed in that start before it, and this
//! ciphertext = *OCTET                  ; as long as the plain payload
//! tag        = 16 OCTET
//!
//! snapshot   = header frame *frame     ; the header's form is %x02. Its owner stores each in a record or message of its own
//! frame      = kind last number ciphertext tag
//! kind       = OCTET                   ; what the frame holds: its owner's number
//! last       = %x00 / %x01             ; %x01 in the last frame, and only there
//! number     = 4 OCTET                 ; from 0
//!
//! link       = 32 OCTET                ; HMAC-SHA256 (chain key; previous term index kind beside-length beside payload)
//! previous   = link                    ; of the entry before; before the first one SHA-256 ("ukehi chain genesis v1" %x00 log)
//! term       = 8 OCTET
//! index      = 8 OCTET
//! kind       = OCTET                   ; the entry's kind, as the log numbers it
//! beside     = *OCTET                  ; what the log stores of an entry beside its payload; its length in 4 OCTET
//! log        = group cluster           ; 8 OCTET, and the cluster's id to the end
//! ```
//!
//! # Keys and nonces
//!
//! | sub-key of | salt | info |
//! |---|---|---|
//! | payloads | boot | `"ukehi payload v1" %x00 version node log` |
//! | a snapshot | boot | `"ukehi snapshot v1" %x00 version node counter term index log` |
//! | the chain | none | `"ukehi chain v1" %x00 version log` |
//!
//! with a `version` of 4 bytes, all other numbers of 8. A payload's nonce is 4 bytes of 0 and the counter in 8, a frame's is 8 bytes of 0 and its number in 4: deterministic constructions
//! (SP 800-38D, §8.2.1). Nothing that is stored is read back to choose one. So a (key, nonce) pair can't repeat when an index is written again in a later term, or a node starts again from an
//! older disk: the boot is new, and with it the sub-key. A snapshot takes a number of the same counter, and so has a key of its own.
//!
//! The associated data of a payload is `%x01 version group term index cluster`, that of a frame `%x02 version group term index kind last number cluster`: a ciphertext opens in its own
//! place alone. Of the header, `version`, `node` and `boot` choose the key, and `counter` the nonce: whichever is changed, the tag does not match.
//!
//! # What it does not do
//!
//! Lengths, terms, indexes, kinds, members and session numbers are not hidden. A chain by itself does not show that its end was cut off: its head must be kept elsewhere too, in snapshots and with
//! peers. Whoever has the log key can forge all of this.

mod chain;
mod encryptor;
mod error;
mod gcm;
mod header;
mod key;
mod ring;
mod snapshot;
mod subkey;
#[cfg(test)]
mod tests;

pub use chain::{ChainLink, ChainedEntry, LogIntegrityVerifier};
pub use encryptor::{EntryEncryptor, MAX_BLOCKS};
pub use error::{BrokenChain, KeyError, MissingKey, SealingError};
pub use gcm::{Accelerator, Gcm, OwnGcm};
pub use header::{Boot, EncryptedPayload, SealHeader};
pub use key::{KeyFingerprint, LogEncryptionKey};
pub use ring::{KeyRing, KeyVersion};
pub use snapshot::{OpenedFrame, SnapshotKeys, SnapshotOpener, SnapshotSealer};
pub use subkey::LogName;
