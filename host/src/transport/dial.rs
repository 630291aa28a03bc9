//! The sending side: one task for each peer, which keeps a connection to it and writes what is queued.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use super::close::Close;
use super::handshake::{Lane, Own};
use super::metrics::{Direction, Traffic};
use super::peers::Peer;
use super::queue::{DISCONNECTED, PeerQueue};
use super::{Shared, TransportLimits, frame, handshake};

/// What one write carries at most, unless a single envelope is larger.
const BURST_BYTES: usize = 1 << 20;

/// Keeps a connection to `peer` in each lane, for ever.
pub(super) async fn run_both(shared: Arc<Shared>, peer: Arc<Peer>) {
    tokio::join!(run(&shared, &peer, Lane::Main), run(&shared, &peer, Lane::Bulk));
}

async fn run(shared: &Shared, peer: &Peer, lane: Lane) {
    let limits = &shared.config.limits;
    let mut backoff = Backoff::new(limits);
    loop {
        if lane == Lane::Bulk {
            peer.queue(lane).ready().await;
        }
        let close = match connect(shared, peer, lane).await {
            Ok(mut stream) => {
                let since = Instant::now();
                let close = serve(shared, peer, lane, &mut stream).await;
                // One that is lost at once, time and again, must not be dialled in a tight loop.
                if since.elapsed() >= limits.backoff_max {
                    backoff.reset();
                }
                close
            }
            Err(close) => close,
        };
        let forgotten = peer.queue(lane).close();
        shared.reporter.shed(Some(peer.id), DISCONNECTED, u64::try_from(forgotten).unwrap_or(u64::MAX));
        shared.reporter.closed(Direction::outwards(lane), Some(peer.id), &peer.address, &close);
        tokio::select! {
            () = sleep(backoff.draw()) => {}
            // The peer has just dialled this node: it is there.
            () = peer.seen.notified(), if lane == Lane::Main => {}
        }
    }
}

async fn connect(shared: &Shared, peer: &Peer, lane: Lane) -> Result<TcpStream, Close> {
    let limit = shared.config.limits.handshake;
    let connecting = async {
        let mut stream = TcpStream::connect(peer.address.as_str()).await.map_err(Close::Unreachable)?;
        // On one machine, a dial to a port that nobody listens on may get that very port for its own end, and meet itself.
        if stream.local_addr().ok() == stream.peer_addr().ok() {
            return Err(Close::Unreachable(std::io::ErrorKind::ConnectionRefused.into()));
        }
        super::tune(&stream, &shared.config.limits).map_err(Close::Io)?;
        handshake::introduce(&mut stream, &Own::of(&shared.config), peer.id, lane).await?;
        Ok(stream)
    };
    timeout(limit, connecting).await.unwrap_or(Err(Close::SlowHandshake(limit)))
}

async fn serve(shared: &Shared, peer: &Peer, lane: Lane, stream: &mut TcpStream) -> Close {
    let (direction, queue) = (Direction::outwards(lane), peer.queue(lane));
    queue.open();
    let _up = stream.peer_addr().map(|address| shared.reporter.connected(direction, peer.id, address));
    send(stream, queue, &shared.config.limits, &shared.reporter.metrics().traffic(direction, peer.id)).await
}

/// Writes what is queued, one write for a burst, and keep-alives in between. Returns when the connection is of no more use.
async fn send<S>(stream: &mut S, queue: &PeerQueue, limits: &TransportLimits, traffic: &Traffic) -> Close
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut burst, mut taken, mut stray) = (BytesMut::new(), Vec::new(), [0]);
    loop {
        tokio::select! {
            () = queue.ready() => {}
            () = sleep(limits.silence / 3) => {}
            // Nothing is due from the other side, so this tells at once when it is gone.
            read = stream.read(&mut stray) => return match read {
                Ok(0) => Close::Ended,
                Ok(_) => Close::Unexpected,
                Err(error) => Close::Io(error),
            },
        }
        queue.take(BURST_BYTES, &mut taken);
        if taken.is_empty() {
            frame::encode(&[], &mut burst);
        }
        taken.iter().for_each(|envelope| frame::encode(envelope, &mut burst));
        match timeout(limits.write, stream.write_all(&burst)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Close::Io(error),
            Err(_) => return Close::SlowWrite(limits.write),
        }
        traffic.bytes.inc_by(u64::try_from(burst.len()).unwrap_or(u64::MAX));
        traffic.envelopes.inc_by(u64::try_from(taken.len()).unwrap_or(u64::MAX));
        taken.clear();
        burst.clear();
        if burst.capacity() > 2 * BURST_BYTES {
            burst = BytesMut::new();
        }
    }
}

/// Exponential back-off with full jitter: each wait is drawn between nothing and a bound that doubles.
///
/// Full jitter keeps nodes that lost each other at the same moment from dialling at the same moment.
#[derive(Debug)]
struct Backoff {
    min: Duration,
    max: Duration,
    bound: Duration,
}

impl Backoff {
    fn new(limits: &TransportLimits) -> Self {
        Self { min: limits.backoff_min, max: limits.backoff_max, bound: limits.backoff_min }
    }

    fn draw(&mut self) -> Duration {
        let wait = self.bound.mul_f64(fastrand::f64());
        self.bound = self.bound.saturating_mul(2).min(self.max);
        wait
    }

    fn reset(&mut self) {
        self.bound = self.min;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::TransportMetrics;
    use amaters_cluster_core::NodeId;

    fn traffic() -> Traffic {
        TransportMetrics::register(&prometheus::Registry::new()).unwrap().traffic(Direction::Out, NodeId(1))
    }

    fn open_queue(limits: &TransportLimits) -> PeerQueue {
        let queue = PeerQueue::new(limits);
        queue.open();
        queue
    }

    #[test]
    fn the_wait_stays_below_a_bound_that_doubles_up_to_its_maximum() {
        let mut backoff = Backoff::new(&TransportLimits::default());
        for bound in [20, 40, 80, 160, 320, 640, 1000, 1000] {
            assert!(backoff.draw() <= Duration::from_millis(bound));
        }
        backoff.reset();
        assert_eq!(backoff.bound, Duration::from_millis(20));
    }

    #[tokio::test]
    async fn a_burst_leaves_in_order() {
        let limits = TransportLimits::default();
        let (queue, traffic, (mut near, mut far)) = (open_queue(&limits), traffic(), tokio::io::duplex(1 << 16));
        for number in 1..=100_u8 {
            queue.push(vec![number]).unwrap();
        }
        let mut bytes = vec![0; 900];
        tokio::select! {
            close = send(&mut near, &queue, &limits, &traffic) => panic!("{close}"),
            read = far.read_exact(&mut bytes) => read.unwrap(),
        };
        assert!(bytes.chunks(9).map(|frame| frame[8]).eq(1..=100));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_kept_alive() {
        let limits = TransportLimits::default();
        let (queue, traffic, (mut near, mut far)) = (open_queue(&limits), traffic(), tokio::io::duplex(64));
        let began = Instant::now();
        let mut keep_alive = [1; 8];
        tokio::select! {
            close = send(&mut near, &queue, &limits, &traffic) => panic!("{close}"),
            read = far.read_exact(&mut keep_alive) => read.unwrap(),
        };
        assert_eq!(keep_alive[..4], [0; 4]);
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let limits = TransportLimits::default();
        let (queue, traffic, (mut near, _far)) = (open_queue(&limits), traffic(), tokio::io::duplex(64));
        queue.push(vec![0; 1000]).unwrap();
        let began = Instant::now();
        assert_eq!(send(&mut near, &queue, &limits, &traffic).await.reason(), "slow_write");
        assert_eq!(began.elapsed().as_secs(), 10);
    }

    #[tokio::test]
    async fn a_peer_that_leaves_or_talks_back_is_noticed() {
        let limits = TransportLimits::default();
        let (queue, traffic, (mut near, mut far)) = (open_queue(&limits), traffic(), tokio::io::duplex(64));
        far.write_all(b"x").await.unwrap();
        assert_eq!(send(&mut near, &queue, &limits, &traffic).await.reason(), "unexpected_bytes");
        drop(far);
        assert_eq!(send(&mut near, &queue, &limits, &traffic).await.reason(), "ended");
    }
}
