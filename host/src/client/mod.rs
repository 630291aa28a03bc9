//! A client whose writes are carried out once, whatever becomes of nodes and connections.
//!
//! It knows several nodes, and speaks to one of them at a time. Its writes are numbered in a session (dissertation, §6.3): one that got no answer goes
//! to the next node under the same number, until it is answered or the client's patience ends. So a counter that it counted up says how often.
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use amaters_cluster::client::{Client, Reply};
//!
//! # async fn count() -> Result<(), amaters_cluster::client::ClientError> {
//! let nodes = ["127.0.0.1:6391", "127.0.0.1:6392", "127.0.0.1:6393"].map(|node| node.parse().expect("an address"));
//! let mut client = Client::open(nodes.to_vec(), Duration::from_secs(10)).await?;
//! // Whatever happens to the leader meanwhile: the counter is one more.
//! let Reply::Integer(count) = client.write(&[b"INCR", b"visits"]).await? else { panic!("a counter is a number") };
//! println!("visit {count}");
//! client.close().await
//! # }
//! ```

pub(crate) mod connection;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use amaters_cluster_core::SessionId;
use bytes::Bytes;
use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout_at};

use connection::{Connection, Frame, command};

/// A client with a session of its own. One request at a time: for more, open more clients.
#[derive(Debug)]
pub struct Client {
    nodes: Vec<SocketAddr>,
    /// Counts the nodes that were tried: whose turn it is.
    turn: usize,
    connection: Option<Connection>,
    session: SessionId,
    /// The number of the next write in the session.
    sequence: u64,
    patience: Duration,
}

/// What a request was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A word, mostly `OK`.
    Status(Bytes),
    /// A number.
    Integer(i64),
    /// A value, or nothing.
    Value(Option<Bytes>),
    /// Several.
    Values(Vec<Reply>),
}

/// Why a request has no reply.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No node was named.
    #[error("no node is given: name at least one address")]
    NoNodes,
    /// No node answered in time. A write may have been carried out already; once a later write of this client is answered, it never will be any more.
    #[error("no answer came within {waited:?}; the last attempt: {last}")]
    TimedOut {
        /// The client's patience.
        waited: Duration,
        /// What came of the last attempt.
        last: String,
    },
    /// The session ended while a write had no answer: nobody can say whether it was carried out. The client goes on in a new session.
    #[error("the session ended while a write had no answer, which may or may not have been carried out: was the client away for long?")]
    SessionLost,
    /// The write was carried out, but its response is too large to be kept, and got lost on the way.
    #[error("the command was carried out, but its response got lost and was too large to be kept: read what it left")]
    ResponseLost,
    /// The servers understood and refused.
    #[error("{0}")]
    Refused(String),
}

/// How long one attempt may take: longer than a node's own limit for a request.
const ATTEMPT: Duration = Duration::from_secs(3);

/// Before the next attempt.
const PAUSE: Duration = Duration::from_millis(10);

/// How a request ended.
enum Ended {
    Answered(Reply),
    /// There is no such session; and whether an earlier attempt may have been carried out.
    NoSession {
        may_be_done: bool,
    },
    Failed(ClientError),
}

/// What an answer means.
enum Verdict {
    Final(Ended),
    /// It was not carried out.
    Again(String),
    /// It may have been carried out.
    Uncertain(String),
}

impl Client {
    /// Opens a session at any of these nodes. `patience` bounds this and each later request.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] where none of them answered in time.
    pub async fn open(nodes: Vec<SocketAddr>, patience: Duration) -> Result<Self, ClientError> {
        if nodes.is_empty() {
            return Err(ClientError::NoNodes);
        }
        let turn = fastrand::usize(..nodes.len());
        let mut client = Self { nodes, turn, connection: None, session: SessionId::NONE, sequence: 1, patience };
        client.open_session(Instant::now() + patience).await?;
        Ok(client)
    }

    /// Has a command carried out once.
    ///
    /// # Errors
    /// See [`ClientError`]: each says what is known of the command.
    pub async fn write(&mut self, words: &[&[u8]]) -> Result<Reply, ClientError> {
        let deadline = Instant::now() + self.patience;
        loop {
            let ended = self.in_session(deadline, words).await;
            self.sequence += 1;
            match ended {
                Ended::Answered(reply) => return Ok(reply),
                Ended::Failed(error) => return Err(error),
                Ended::NoSession { may_be_done } => {
                    self.open_session(deadline).await?;
                    if may_be_done {
                        return Err(ClientError::SessionLost);
                    }
                    // It ended while nothing was under way: nothing is lost with it.
                }
            }
        }
    }

    /// Asks for what changes nothing.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] or [`ClientError::Refused`].
    pub async fn read(&mut self, words: &[&[u8]]) -> Result<Reply, ClientError> {
        match self.ask(Instant::now() + self.patience, &[words]).await {
            Ended::Answered(reply) => Ok(reply),
            Ended::NoSession { .. } => Err(ClientError::SessionLost),
            Ended::Failed(error) => Err(error),
        }
    }

    /// Ends the session. One that is not closed ends by itself after an hour without writes.
    ///
    /// # Errors
    /// [`ClientError::TimedOut`]: it may still be there.
    pub async fn close(mut self) -> Result<(), ClientError> {
        match self.in_session(Instant::now() + self.patience, &[b"SESSION", b"CLOSE"]).await {
            // An earlier attempt may have ended it.
            Ended::Answered(_) | Ended::NoSession { .. } => Ok(()),
            Ended::Failed(error) => Err(error),
        }
    }

    async fn open_session(&mut self, deadline: Instant) -> Result<(), ClientError> {
        match self.ask(deadline, &[&[b"SESSION", b"OPEN"]]).await {
            Ended::Answered(Reply::Integer(session)) => {
                (self.session, self.sequence) = (SessionId(session.unsigned_abs()), 1);
                Ok(())
            }
            Ended::Answered(other) => Err(ClientError::Refused(format!("a session's number was expected, and {other:?} came"))),
            Ended::NoSession { .. } => Err(ClientError::SessionLost),
            Ended::Failed(error) => Err(error),
        }
    }

    /// Asks under the next number of the session, which also says that all before are answered.
    async fn in_session(&mut self, deadline: Instant, words: &[&[u8]]) -> Ended {
        let (session, sequence) = (self.session.to_string(), self.sequence.to_string());
        let resume: [&[u8]; 4] = [b"SESSION", b"RESUME", session.as_bytes(), sequence.as_bytes()];
        self.ask(deadline, &[&resume, words]).await
    }

    /// Sends commands in one piece, to one node after the other, until the last one's answer is final.
    async fn ask(&mut self, deadline: Instant, commands: &[&[&[u8]]]) -> Ended {
        let mut request = Vec::new();
        commands.iter().for_each(|words| command(&mut request, words));
        let (mut may_be_done, mut last) = (false, "there was no time for one".to_owned());
        while Instant::now() < deadline {
            let mut sent = false;
            let attempt = timeout_at(deadline.min(Instant::now() + ATTEMPT), self.attempt(&request, commands.len(), &mut sent)).await;
            match attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(judge) {
                Ok(Verdict::Final(Ended::NoSession { .. })) => return Ended::NoSession { may_be_done },
                Ok(Verdict::Final(ended)) => return ended,
                Ok(Verdict::Again(words)) => last = words,
                Ok(Verdict::Uncertain(words)) => (may_be_done, last) = (true, words),
                Err(error) => {
                    let node = self.nodes[self.turn];
                    (may_be_done, last) = (may_be_done || sent, format!("{node}: {error}"));
                }
            }
            self.connection = None;
            self.turn = (self.turn + 1) % self.nodes.len();
            sleep_until(deadline.min(Instant::now() + PAUSE)).await;
        }
        Ended::Failed(ClientError::TimedOut { waited: self.patience, last })
    }

    /// Sends a request to the node whose turn it is, and gives the last reply, or the first that is an error.
    async fn attempt(&mut self, request: &[u8], replies: usize, sent: &mut bool) -> io::Result<Frame> {
        // Out of its place for as long as replies are due: what breaks off here leaves no connection that would give them to the next request.
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::connect(self.nodes[self.turn]).await?,
        };
        *sent = true;
        connection.send(request).await?;
        for _ in 1..replies {
            let reply = connection.reply().await?;
            if matches!(reply, Frame::Error(_)) {
                return Ok(reply);
            }
        }
        let reply = connection.reply().await?;
        self.connection = Some(connection);
        Ok(reply)
    }
}

fn judge(frame: Frame) -> Verdict {
    let Frame::Error(words) = &frame else { return Verdict::Final(Ended::Answered(frame.into())) };
    let words = words.to_string();
    match words.split(' ').next().unwrap_or_default() {
        "CLUSTERDOWN" | "TRYAGAIN" | "OOM" => Verdict::Again(words),
        "UNCERTAIN" => Verdict::Uncertain(words),
        "NOSESSION" => Verdict::Final(Ended::NoSession { may_be_done: false }),
        "NORESPONSE" => Verdict::Final(Ended::Failed(ClientError::ResponseLost)),
        _ => Verdict::Final(Ended::Failed(ClientError::Refused(words))),
    }
}

impl From<Frame> for Reply {
    fn from(frame: Frame) -> Self {
        match frame {
            Frame::SimpleString(words) => Self::Status(words),
            Frame::Error(words) => Self::Status(words.into_inner()),
            Frame::Integer(number) => Self::Integer(number),
            Frame::BulkString(value) => Self::Value(Some(value)),
            Frame::Array(frames) => Self::Values(frames.into_iter().map(Self::from).collect()),
            Frame::Null => Self::Value(None),
        }
    }
}
