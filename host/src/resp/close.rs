//! Why connections end.

use std::io;
use std::time::Duration;

use thiserror::Error;

use super::request::ProtocolError;

/// Why a connection ended. Each is counted under its [`reason`](Close::reason).
#[derive(Debug, Error)]
pub(super) enum Close {
    #[error("the client ended it")]
    Ended,
    #[error("the client ended it within a request")]
    CutShort,
    #[error("the client asked for it")]
    Quit,
    #[error("nothing came for {0:?}")]
    Idle(Duration),
    #[error("a request was not complete after {0:?}")]
    SlowRequest(Duration),
    #[error("the client did not take its answers for {0:?}")]
    SlowWrite(Duration),
    #[error("the client broke the protocol: {0}")]
    Protocol(#[from] ProtocolError),
    #[error("what came looks like HTTP: a web page may not speak for its reader")]
    Http,
    #[error("{0} connections are open already: raise --max-clients")]
    TooMany(usize),
    #[error("large requests take all of the {0} bytes that they may have together: try again later")]
    OutOfBuffers(usize),
    #[error("this node has ended")]
    Shutdown,
    #[error("it broke: {0}")]
    Io(#[source] io::Error),
    #[error("it ended by a bug of this server: the log has more")]
    Panicked,
    #[error("the node gave {got} results for {asked} requests")]
    Backend { asked: usize, got: usize },
}

impl Close {
    /// The reason's name in metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::CutShort => "cut_short",
            Self::Quit => "quit",
            Self::Idle(_) => "idle",
            Self::SlowRequest(_) => "slow_request",
            Self::SlowWrite(_) => "slow_write",
            Self::Protocol(_) => "protocol",
            Self::Http => "http",
            Self::TooMany(_) => "too_many",
            Self::OutOfBuffers(_) => "out_of_buffers",
            Self::Shutdown => "shutdown",
            Self::Io(_) => "io",
            Self::Panicked => "panicked",
            Self::Backend { .. } => "backend",
        }
    }

    /// What the client is told before the connection ends, where it can know it.
    pub(super) fn farewell(&self) -> Option<String> {
        match self {
            Self::Protocol(error) => Some(format!("ERR Protocol error: {error}")),
            Self::OutOfBuffers(_) => Some(format!("OOM {self}")),
            _ => None,
        }
    }
}
