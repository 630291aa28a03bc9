//! What a connection is, to itself and to `CLIENT`.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::carried::Carried;
use super::reply::{Protocol, Refusal};

/// A client's connection.
#[derive(Debug)]
pub(super) struct Session {
    /// Names it for as long as the process lives.
    pub(super) id: u64,
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) opened: Instant,
    /// What the client calls itself.
    pub(super) name: Bytes,
    pub(super) library: Bytes,
    pub(super) library_version: Bytes,
    pub(super) protocol: Protocol,
    /// The client is content with reads that may be stale.
    pub(super) read_only: bool,
    /// The session in which its writes are.
    pub(super) carried: Option<Carried>,
    /// The client has asked to end it.
    pub(super) quitting: bool,
}

impl Session {
    pub(super) fn new(id: u64, remote: SocketAddr, local: SocketAddr) -> Self {
        Self {
            id,
            remote,
            local,
            opened: Instant::now(),
            name: Bytes::new(),
            library: Bytes::new(),
            library_version: Bytes::new(),
            protocol: Protocol::default(),
            read_only: false,
            carried: None,
            quitting: false,
        }
    }

    /// Back to what it was when it was opened.
    pub(super) fn reset(&mut self) {
        self.name = Bytes::new();
        self.protocol = Protocol::default();
        self.read_only = false;
        self.carried = None;
    }

    /// Takes the name that a client gives itself.
    pub(super) fn set_name(&mut self, name: &[u8]) -> Result<(), Refusal> {
        if !is_plain(name) {
            return Err(Refusal::new("ERR Client names cannot contain spaces, newlines or special characters."));
        }
        self.name = Bytes::copy_from_slice(name);
        Ok(())
    }

    /// Takes the name and version of a client's library.
    pub(super) fn set_info(&mut self, attribute: &[u8], value: &[u8]) -> Result<(), Refusal> {
        let (name, place) = if attribute.eq_ignore_ascii_case(b"LIB-NAME") {
            ("lib-name", &mut self.library)
        } else if attribute.eq_ignore_ascii_case(b"LIB-VER") {
            ("lib-ver", &mut self.library_version)
        } else {
            return Err(format!("ERR Unrecognized option '{}'", String::from_utf8_lossy(attribute)).into());
        };
        if !is_plain(value) {
            return Err(format!("ERR {name} cannot contain spaces, newlines or special characters.").into());
        }
        *place = Bytes::copy_from_slice(value);
        Ok(())
    }

    /// The line of `CLIENT INFO`.
    pub(super) fn describe(&self) -> String {
        let text = String::from_utf8_lossy;
        format!(
            "id={} addr={} laddr={} name={} age={} db=0 cmd=client|info resp={} lib-name={} lib-ver={}\n",
            self.id,
            self.remote,
            self.local,
            text(&self.name),
            self.opened.elapsed().as_secs(),
            match self.protocol {
                Protocol::Resp2 => 2,
                Protocol::Resp3 => 3,
            },
            text(&self.library),
            text(&self.library_version),
        )
    }
}

/// The longest name that a client may give itself: names are kept for as long as connections.
const MAX_NAME_BYTES: usize = 1 << 10;

fn is_plain(text: &[u8]) -> bool {
    text.len() <= MAX_NAME_BYTES && text.iter().all(u8::is_ascii_graphic)
}
