//! Time limits of an HTTP connection, by what it is doing.
//!
//! They are kept beside hyper, not by it: its own limit on headers also ends a connection that rests between two requests.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, sleep_until};

/// From the first byte of a request, or the start of the connection, to the end of the header.
const HEADER: Duration = Duration::from_secs(5);

/// From the first byte of a request to the last of its response.
const REQUEST: Duration = Duration::from_secs(10);

/// Between two requests.
const IDLE: Duration = Duration::from_secs(60);

/// What a connection is doing, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A header is expected, or has begun.
    Header(Instant),
    /// The request that began then is being answered.
    Answering(Instant),
    /// The response to the request that began then is on its way.
    Responding(Instant),
    /// Nothing is asked.
    Idle(Instant),
}

impl Phase {
    fn deadline(self) -> (Instant, &'static str) {
        match self {
            Self::Header(since) => (since + HEADER, "slow_header"),
            Self::Answering(since) | Self::Responding(since) => (since + REQUEST, "slow_request"),
            Self::Idle(since) => (since + IDLE, "idle"),
        }
    }
}

/// Watches a connection: shared by its stream, its service and its task.
#[derive(Clone, Debug)]
pub(super) struct Watch(Arc<Mutex<Phase>>);

impl Watch {
    /// A connection has been made: a header is due.
    pub(super) fn new() -> Self {
        Self(Arc::new(Mutex::new(Phase::Header(Instant::now()))))
    }

    /// Answers a request.
    pub(super) async fn answering<T>(&self, answer: impl Future<Output = T>) -> T {
        self.change(|phase| match phase {
            Phase::Header(since) => Phase::Answering(since),
            // The request came together with the one before it.
            _ => Phase::Answering(Instant::now()),
        });
        let answer = answer.await;
        self.change(|phase| if let Phase::Answering(since) = phase { Phase::Responding(since) } else { phase });
        answer
    }

    /// Resolves when the connection has overstayed, with the reason's name in metrics.
    pub(super) async fn overstayed(&self) -> &'static str {
        loop {
            let (deadline, reason) = self.phase().deadline();
            if deadline <= Instant::now() {
                return reason;
            }
            // A deadline may come nearer meanwhile: a request that begins on an idle connection has the shortest limit.
            sleep_until(deadline.min(Instant::now() + HEADER)).await;
        }
    }

    fn phase(&self) -> Phase {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, next: impl FnOnce(Phase) -> Phase) {
        let mut phase = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *phase = next(*phase);
    }
}

/// A stream that tells its [`Watch`] when bytes come and when they have left.
#[derive(Debug)]
pub(super) struct Watched<S> {
    stream: S,
    watch: Watch,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, watch: Watch) -> Self {
        Self { stream, watch }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = pin!(&mut self.stream).poll_read(cx, buffer);
        if buffer.filled().len() > before {
            self.watch.change(|phase| if let Phase::Idle(_) = phase { Phase::Header(Instant::now()) } else { phase });
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(mut self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        pin!(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper flushes its stream once its own buffer is empty.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = pin!(&mut self.stream).poll_flush(cx);
        if flushed.is_ready() {
            self.watch.change(|phase| if let Phase::Responding(_) = phase { Phase::Idle(Instant::now()) } else { phase });
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        pin!(&mut self.stream).poll_shutdown(cx)
    }
}
