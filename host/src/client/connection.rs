//! A connection to one server: commands out, replies in, as many at a time as one likes.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use redis_protocol::resp2::decode::decode_bytes_mut;
pub(crate) use redis_protocol::resp2::types::BytesFrame as Frame;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A connection. After an error it is of no further use: replies to what was sent may still be under way.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    received: BytesMut,
}

impl Connection {
    /// Connects, within a second.
    ///
    /// # Errors
    /// Nobody listens there, or nobody answers.
    pub(crate) async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = tokio::time::timeout(Duration::from_secs(1), TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: BytesMut::with_capacity(4096) })
    }

    /// Sends commands that [`command`] made, one after the other.
    ///
    /// # Errors
    /// The connection is gone.
    pub(crate) async fn send(&mut self, commands: &[u8]) -> io::Result<()> {
        self.stream.write_all(commands).await
    }

    /// Takes the next reply. An error that the server replied is a [`Frame::Error`].
    ///
    /// # Errors
    /// The connection is gone, or what came is no reply.
    pub(crate) async fn reply(&mut self) -> io::Result<Frame> {
        loop {
            if let Some((reply, _, _)) = decode_bytes_mut(&mut self.received).map_err(io::Error::other)? {
                return Ok(reply);
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"));
            }
        }
    }
}

/// Appends a command in its wire form to `to`.
pub(crate) fn command(to: &mut Vec<u8>, words: &[&[u8]]) {
    to.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        to.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        to.extend_from_slice(word);
        to.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn a_command_is_an_array_of_bulk_strings() {
        let mut bytes = Vec::new();
        command(&mut bytes, &[b"SET", b"k", b"\r\n"]);
        assert_eq!(bytes, b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$2\r\n\r\n\r\n");
    }

    /// Replies that come byte by byte, several in one piece, and a connection that closes within one.
    #[tokio::test]
    async fn replies_are_taken_whole_however_they_come() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut client = Connection::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let (mut server, _) = listener.accept().await.expect("accepted");
        let serve = async {
            for byte in b"+OK\r\n" {
                server.write_all(&[*byte]).await.expect("written");
                server.flush().await.expect("flushed");
                tokio::task::yield_now().await;
            }
            server.write_all(b"$1\r\nv\r\n-ERR no\r\n$-1\r\n$9\r\nhalf").await.expect("written");
            drop(server);
        };
        let read = async {
            assert_eq!(client.reply().await.expect("a reply"), Frame::SimpleString("OK".into()));
            assert_eq!(client.reply().await.expect("a reply"), Frame::BulkString("v".into()));
            assert_eq!(client.reply().await.expect("a reply"), Frame::Error("ERR no".into()));
            assert_eq!(client.reply().await.expect("a reply"), Frame::Null);
            assert_eq!(client.reply().await.expect_err("half a reply").kind(), io::ErrorKind::UnexpectedEof);
        };
        tokio::join!(serve, read);
    }

    #[tokio::test]
    async fn what_is_no_reply_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let mut client = Connection::connect(listener.local_addr().expect("bound")).await.expect("connected");
        let (mut server, _) = listener.accept().await.expect("accepted");
        server.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.expect("written");
        client.reply().await.expect_err("no reply");
    }
}
