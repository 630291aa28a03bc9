//! The receiving side: accepts connections, asks who is there, and hands over what comes, a burst at a time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use amaters_cluster_core::NodeId;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::close::Close;
use super::crowd::{Crowd, Place};
use super::frame::{FrameDecoder, FrameError};
use super::handshake::{Guest, Own};
use super::metrics::{Direction, Traffic};
use super::{Deliver, Shared, TransportLimits, handshake};

/// The wait after an accept that failed: what it lacks (file descriptors, mostly) does not come back at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Accepts connections, for ever.
pub(super) async fn run<D: Deliver>(shared: Arc<Shared>, listener: TcpListener, deliver: D) {
    let handshakes = Crowd::new(shared.config.limits.handshakes);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, address)) => {
                    connections.spawn(serve(Arc::clone(&shared), stream, address, handshakes.enter(), deliver.clone()));
                }
                Err(error) => {
                    shared.reporter.closed(Direction::In, None, "", &Close::CannotAccept(error));
                    sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => if let Err(error) = ended {
                tracing::error!(%error, "the task of a peer's connection failed");
            },
        }
    }
}

/// One connection, from its handshake to its end.
async fn serve<D: Deliver>(shared: Arc<Shared>, mut stream: TcpStream, address: SocketAddr, place: Place, deliver: D) {
    let (peer, close) = match greet(&shared, &mut stream, place).await {
        Ok(guest) => (Some(guest.id), attend(&shared, &mut stream, guest, address, deliver).await),
        Err(close) => (None, close),
    };
    shared.reporter.closed(Direction::In, peer, &address.to_string(), &close);
}

/// The handshake, within its time and its place.
async fn greet(shared: &Shared, stream: &mut TcpStream, mut place: Place) -> Result<Guest, Close> {
    let config = &shared.config;
    super::tune(stream, &config.limits).map_err(Close::Io)?;
    let own = Own::of(config);
    let handshake = handshake::welcome(stream, &own, |node| shared.peers.admits(node));
    tokio::select! {
        sender = timeout(config.limits.handshake, handshake) => sender.unwrap_or(Err(Close::SlowHandshake(config.limits.handshake))),
        () = place.crowded_out() => Err(Close::CrowdedOut),
    }
}

/// Receives from a peer until the connection ends or the peer opens another one.
async fn attend<D: Deliver>(shared: &Shared, stream: &mut TcpStream, guest: Guest, address: SocketAddr, deliver: D) -> Close {
    let (sender, direction) = (guest.id, Direction::inwards(guest.lane));
    let (peer, replaced) = shared.peers.enter(guest);
    peer.seen.notify_one();
    let _up = shared.reporter.connected(direction, sender, address);
    let traffic = shared.reporter.metrics().traffic(direction, sender);
    let close = tokio::select! {
        close = receive(stream, sender, &deliver, &shared.config.limits, &traffic) => close,
        _ = replaced => Close::Replaced,
    };
    shared.peers.leave(&peer);
    close
}

/// Hands over what comes: all complete frames of a read as one burst. Returns when the connection is of no more use.
async fn receive<S, D>(stream: &mut S, sender: NodeId, deliver: &D, limits: &TransportLimits, traffic: &Traffic) -> Close
where
    S: AsyncRead + Unpin,
    D: Deliver,
{
    let mut decoder = FrameDecoder::new(limits.frame_bytes);
    let mut deadline = Deadline::new(limits);
    loop {
        let count = match timeout_at(deadline.at, stream.read_buf(decoder.room())).await {
            Ok(Ok(0)) if decoder.is_empty() => return Close::Ended,
            Ok(Ok(0)) => return Close::CutShort,
            Ok(Ok(count)) => count,
            Ok(Err(error)) => return Close::Io(error),
            Err(_) if decoder.is_empty() => return Close::Silent(limits.silence),
            Err(_) => return Close::SlowFrame(limits.frame),
        };
        traffic.bytes.inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        let mut burst = Vec::new();
        let decoded = drain(&mut decoder, &mut burst);
        // What came whole before the damage is good.
        if !burst.is_empty() {
            traffic.envelopes.inc_by(u64::try_from(burst.len()).unwrap_or(u64::MAX));
            if !deliver.deliver(sender, burst).await {
                return Close::NodeEnded;
            }
        }
        match decoded {
            // Counted from here on: the time that the node took for the burst is not the peer's.
            Ok(completed) => deadline.advance(limits, completed, decoder.is_empty()),
            Err(error) => return Close::Frame(error),
        }
    }
}

/// Takes all complete frames, and says whether there were any, keep-alives among them.
fn drain(decoder: &mut FrameDecoder, burst: &mut Vec<Vec<u8>>) -> Result<bool, FrameError> {
    let mut completed = false;
    while let Some(payload) = decoder.next()? {
        completed = true;
        if !payload.is_empty() {
            burst.push(payload);
        }
    }
    Ok(completed)
}

/// Until when the next bytes must come: a frame that has begun must end in time, however steadily its bytes drip.
struct Deadline {
    at: Instant,
    in_frame: bool,
}

impl Deadline {
    fn new(limits: &TransportLimits) -> Self {
        Self { at: Instant::now() + limits.silence, in_frame: false }
    }

    fn advance(&mut self, limits: &TransportLimits, completed: bool, empty: bool) {
        if empty {
            *self = Self::new(limits);
        } else if completed || !self.in_frame {
            *self = Self { at: Instant::now() + limits.frame, in_frame: true };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::transport::{TransportMetrics, frame};
    use bytes::BytesMut;
    use tokio::io::{AsyncWriteExt, DuplexStream};

    /// Takes its time, and keeps the bursts.
    #[derive(Clone, Default)]
    struct Slow {
        takes: Duration,
        ended: bool,
        bursts: Arc<Mutex<Vec<Vec<Vec<u8>>>>>,
    }

    impl Deliver for Slow {
        async fn deliver(&self, _: NodeId, envelopes: Vec<Vec<u8>>) -> bool {
            sleep(self.takes).await;
            self.bursts.lock().unwrap().push(envelopes);
            !self.ended
        }
    }

    /// Receives in the background.
    fn receiving(deliver: &Slow) -> (DuplexStream, tokio::task::JoinHandle<(Close, Duration)>) {
        let (far, mut near) = tokio::io::duplex(1 << 16);
        let deliver = deliver.clone();
        let task = tokio::spawn(async move {
            let traffic = TransportMetrics::register(&prometheus::Registry::new()).unwrap().traffic(Direction::In, NodeId(1));
            let began = Instant::now();
            let close = receive(&mut near, NodeId(1), &deliver, &TransportLimits::default(), &traffic).await;
            (close, began.elapsed())
        });
        (far, task)
    }

    fn frames(payloads: &[&[u8]]) -> BytesMut {
        let mut out = BytesMut::new();
        payloads.iter().for_each(|payload| frame::encode(payload, &mut out));
        out
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_peer_is_closed_after_thirty_seconds_and_keep_alives_count_as_talk() {
        let (mut far, task) = receiving(&Slow::default());
        sleep(Duration::from_secs(29)).await;
        far.write_all(&frames(&[b""])).await.unwrap();
        let (close, took) = task.await.unwrap();
        assert_eq!((close.reason(), took.as_secs()), ("silent", 59));
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_that_drips_is_closed_after_ten_seconds() {
        let (mut far, task) = receiving(&Slow::default());
        for byte in frames(&[&[7; 100]]) {
            if far.write_all(&[byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        let (close, took) = task.await.unwrap();
        assert_eq!((close.reason(), took.as_secs()), ("slow_frame", 10));
    }

    #[tokio::test(start_paused = true)]
    async fn the_nodes_own_slowness_is_not_the_peers() {
        let slow = Slow { takes: Duration::from_secs(60), ..Slow::default() };
        let (mut far, task) = receiving(&slow);
        let bytes = frames(&[b"first", b"second"]);
        far.write_all(&bytes[..20]).await.unwrap();
        sleep(Duration::from_secs(65)).await;
        far.write_all(&bytes[20..]).await.unwrap();
        drop(far);
        assert_eq!(task.await.unwrap().0.reason(), "ended");
        assert_eq!(*slow.bursts.lock().unwrap(), [[b"first".to_vec()].to_vec(), [b"second".to_vec()].to_vec()]);
    }

    #[tokio::test]
    async fn a_burst_is_all_that_is_complete_and_damage_does_not_touch_what_came_before_it() {
        let deliver = Slow::default();
        let (mut far, task) = receiving(&deliver);
        let mut bytes = frames(&[b"a", b"", b"b", b"c"]);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        far.write_all(&bytes).await.unwrap();
        assert_eq!(task.await.unwrap().0.reason(), "bad_checksum");
        assert_eq!(*deliver.bursts.lock().unwrap(), [[b"a".to_vec(), b"b".to_vec()]]);
    }

    #[tokio::test]
    async fn when_the_node_has_ended_so_does_the_connection() {
        let (mut far, task) = receiving(&Slow { ended: true, ..Slow::default() });
        far.write_all(&frames(&[b"a"])).await.unwrap();
        assert_eq!(task.await.unwrap().0.reason(), "node_ended");
    }
}
