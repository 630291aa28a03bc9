//! Stories over real loopback sockets.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use amaters_cluster_core::NodeId;
use bytes::BytesMut;
use prometheus::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::handshake::tests::hello_of;
use super::{Deliver, Outbox, Transport, TransportConfig, TransportLimits, TransportMetrics, frame};

/// A node's transport, and all that came to it.
struct TestNode {
    transport: Transport,
    inbox: Inbox,
    registry: Registry,
    stop: watch::Sender<bool>,
}

#[derive(Clone, Default)]
struct Inbox(Arc<Mutex<Vec<Received>>>);

/// Sender and envelope.
type Received = (u64, Vec<u8>);

impl Deliver for Inbox {
    async fn deliver(&self, sender: NodeId, envelopes: Vec<Vec<u8>>) -> bool {
        self.0.lock().unwrap().extend(envelopes.into_iter().map(|envelope| (sender.0, envelope)));
        true
    }
}

impl Inbox {
    fn of(&self, sender: u64) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().iter().filter(|(from, _)| *from == sender).map(|(_, envelope)| envelope.clone()).collect()
    }
}

impl TestNode {
    fn start(id: u64, listener: TcpListener, addresses: &BTreeMap<NodeId, String>, limits: TransportLimits) -> Self {
        let (registry, inbox, (stop, shutdown)) = (Registry::new(), Inbox::default(), watch::channel(false));
        let metrics = TransportMetrics::register(&registry).unwrap();
        let address = addresses.get(&NodeId(id)).cloned().unwrap_or_default();
        let config =
            TransportConfig { cluster: "test".to_owned(), id: NodeId(id), address, peers: addresses.clone(), sealed: false, limits };
        let transport = Transport::start(config, listener, inbox.clone(), metrics, &shutdown).unwrap();
        Self { transport, inbox, registry, stop }
    }

    fn outbox(&self) -> Outbox {
        self.transport.outbox()
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        timeout(Duration::from_secs(10), self.transport.stopped()).await.expect("stops");
    }

    /// The sum of a metric over all labels that contain these.
    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let name = format!("amaters_cluster_transport_{name}");
        let families = self.registry.gather();
        let metrics = families.iter().filter(|family| family.name() == name).flat_map(|family| family.get_metric());
        let values = metrics
            .filter(|metric| labels.iter().all(|want| metric.get_label().iter().any(|label| (label.name(), label.value()) == *want)))
            .map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value());
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small counts")]
        {
            values.sum::<f64>() as u64
        }
    }

    fn closes(&self, direction: &str, reason: &str) -> u64 {
        self.metric("closes_total", &[("direction", direction), ("reason", reason)])
    }

    async fn connected(&self, peers: u64) {
        eventually("all connections are up", || self.metric("connected", &[]) == 2 * peers).await;
    }
}

/// Polls until `condition` holds.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 20 s: {what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// Short where tests wait for them; the others as they are.
fn short() -> TransportLimits {
    let limit = Duration::from_millis(300);
    TransportLimits { handshake: limit, frame: limit, silence: Duration::from_secs(2), handshakes: 4, ..TransportLimits::default() }
}

/// Listeners on free ports, and the addresses of all.
async fn listeners(count: u64) -> (Vec<TcpListener>, BTreeMap<NodeId, String>) {
    let (mut listeners, mut addresses) = (Vec::new(), BTreeMap::new());
    for id in 1..=count {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        addresses.insert(NodeId(id), listener.local_addr().unwrap().to_string());
        listeners.push(listener);
    }
    (listeners, addresses)
}

async fn cluster(count: u64, limits: &TransportLimits) -> (Vec<TestNode>, BTreeMap<NodeId, String>) {
    let (listeners, addresses) = listeners(count).await;
    let nodes: Vec<_> = (1..).zip(listeners).map(|(id, listener)| TestNode::start(id, listener, &addresses, limits.clone())).collect();
    for node in &nodes {
        node.connected(count - 1).await;
    }
    (nodes, addresses)
}

fn frames(payloads: &[&[u8]]) -> BytesMut {
    let mut out = BytesMut::new();
    payloads.iter().for_each(|payload| frame::encode(payload, &mut out));
    out
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_hear_each_other_in_order() {
    let (nodes, _) = cluster(3, &TransportLimits::default()).await;
    let envelope = |from: u64, number: u32| [&from.to_le_bytes()[..], &number.to_le_bytes()].concat();
    for number in 0..1000 {
        for (from, node) in (1..).zip(&nodes) {
            for to in (1..=3).filter(|to| *to != from) {
                node.outbox().send(NodeId(to), envelope(from, number));
            }
        }
    }
    for (to, node) in (1..).zip(&nodes) {
        for from in (1..=3).filter(|from| *from != to) {
            eventually("all 1,000 arrive", || node.inbox.of(from).len() == 1000).await;
            assert!(node.inbox.of(from).into_iter().eq((0..1000).map(|number| envelope(from, number))));
        }
        assert_eq!(node.metric("envelopes_total", &[("direction", "in")]), 2000);
        assert_eq!(node.metric("bytes_total", &[("direction", "in")]), 2000 * 20);
    }
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test]
async fn a_large_envelope_arrives_whole() {
    let (nodes, _) = cluster(2, &TransportLimits::default()).await;
    let large: Vec<u8> = (0..8_u32 << 20).map(|number| number.to_le_bytes()[1]).collect();
    nodes[0].outbox().send(NodeId(2), large.clone());
    nodes[0].outbox().send(NodeId(2), b"small".to_vec());
    eventually("both arrive", || nodes[1].inbox.of(1).len() == 2).await;
    assert!(nodes[1].inbox.of(1) == [large, b"small".to_vec()]);
}

#[tokio::test]
async fn a_peer_that_comes_back_is_reached_again_and_hears_nothing_stale() {
    let (mut nodes, addresses) = cluster(2, &TransportLimits::default()).await;
    let second = nodes.remove(1);
    second.stop().await;
    let first = &nodes[0];
    eventually("the loss is noticed", || first.metric("connected", &[]) == 0).await;
    first.outbox().send(NodeId(2), b"stale".to_vec());
    assert_eq!(first.metric("shed_envelopes_total", &[("reason", "disconnected")]), 1);

    let listener = TcpListener::bind(&addresses[&NodeId(2)]).await.expect("the port is free again");
    let second = TestNode::start(2, listener, &addresses, TransportLimits::default());
    second.connected(1).await;
    first.connected(1).await;
    first.outbox().send(NodeId(2), b"fresh".to_vec());
    second.outbox().send(NodeId(1), b"back".to_vec());
    eventually("both hear each other", || second.inbox.of(1) == [b"fresh"] && first.inbox.of(2) == [b"back"]).await;
    assert_eq!(first.metric("connects_total", &[("direction", "out")]), 2);
}

#[tokio::test]
async fn a_peer_that_dials_is_dialled_at_once() {
    let day = Duration::from_secs(24 * 3600);
    let limits = TransportLimits { backoff_min: day, backoff_max: day, ..TransportLimits::default() };
    let (mut listeners, addresses) = listeners(2).await;
    drop(listeners.pop());
    let first = TestNode::start(1, listeners.remove(0), &addresses, limits);
    eventually("the first dial fails", || first.closes("out", "unreachable") == 1).await;
    let listener = TcpListener::bind(&addresses[&NodeId(2)]).await.unwrap();
    let second = TestNode::start(2, listener, &addresses, TransportLimits::default());
    second.connected(1).await;
    first.connected(1).await;
}

#[tokio::test]
async fn bad_connections_end_with_their_reason_and_a_good_peer_notices_nothing() {
    let (nodes, addresses) = cluster(2, &short()).await;
    let port: SocketAddr = addresses[&NodeId(2)].parse().unwrap();
    let good = || frames(&[b"envelope"]);
    let damaged = {
        let mut bytes = good();
        bytes[9] ^= 1;
        bytes
    };
    // (what is sent after which it waits, or leaves; the reason). Those that pass the handshake come as node 3, a known peer of none of these.
    let before_the_handshake: [(Vec<u8>, bool, &str); 8] = [
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), true, "garbage"),
        (vec![0xff; 100], true, "garbage"),
        (Vec::new(), true, "slow_handshake"),
        (hello_of(3, "test", 1, 2)[..20].to_vec(), true, "slow_handshake"),
        (hello_of(3, "test", 1, 2)[..20].to_vec(), false, "ended_in_handshake"),
        (hello_of(3, "other", 1, 2), true, "wrong_cluster"),
        (hello_of(3, "test", 1, 3), true, "wrong_node"),
        (hello_of(9, "test", 1, 2), true, "version"),
    ];
    for (bytes, stays, reason) in before_the_handshake {
        let before = nodes[1].closes("in", reason);
        let mut stream = TcpStream::connect(port).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        if !stays {
            drop(stream);
        }
        eventually(reason, || nodes[1].closes("in", reason) == before + 1).await;
    }
    still_well(&nodes, 1, 0).await;
    assert_eq!(nodes[0].metric("closes_total", &[]), 0, "the good peer noticed nothing");

    // A peer that passes the handshake, next to the good one.
    let (third, mut with_third) = (TcpListener::bind("127.0.0.1:0").await.unwrap(), addresses.clone());
    with_third.insert(NodeId(3), third.local_addr().unwrap().to_string());
    let (mut listeners, _) = listeners(1).await;
    with_third.insert(NodeId(2), listeners[0].local_addr().unwrap().to_string());
    let node = TestNode::start(2, listeners.remove(0), &with_third, short());
    let port: SocketAddr = with_third[&NodeId(2)].parse().unwrap();
    let mut keeper = peer(port, 1, 2).await;
    let after_the_handshake: [(Vec<u8>, bool, &str); 6] = [
        (vec![0xff; 8], true, "frame_too_large"),
        (damaged.to_vec(), true, "bad_checksum"),
        (good()[..10].to_vec(), true, "slow_frame"),
        (good()[..10].to_vec(), false, "cut_short"),
        (good().to_vec(), true, "silent"),
        (good().to_vec(), false, "ended"),
    ];
    for (bytes, stays, reason) in after_the_handshake {
        let mut stream = peer(port, 3, 2).await;
        stream.write_all(&bytes).await.unwrap();
        if !stays {
            drop(stream);
        }
        let deadline = Instant::now() + Duration::from_secs(20);
        while node.closes("in", reason) != 1 {
            assert!(Instant::now() < deadline, "{reason}");
            keeper.write_all(&good()).await.expect("the good peer is still connected");
            sleep(Duration::from_millis(20)).await;
        }
    }
    assert_eq!(node.metric("connected", &[("direction", "in"), ("peer", "1")]), 1);
    assert_eq!(node.metric("connects_total", &[("direction", "in"), ("peer", "1")]), 1);
}

/// A connection that has passed the handshake.
async fn peer(port: SocketAddr, sender: u64, receiver: u64) -> TcpStream {
    let mut stream = TcpStream::connect(port).await.unwrap();
    stream.write_all(&hello_of(3, "test", sender, receiver)).await.unwrap();
    let mut reply = [0; 23];
    stream.read_exact(&mut reply).await.unwrap();
    assert_eq!(reply[10], 0, "accepted");
    stream
}

/// Sends one envelope from node `from` (counted from 0) to node `to`, and waits for it.
async fn still_well(nodes: &[TestNode], to: usize, from: usize) {
    let (sender, receiver) = (from as u64 + 1, to as u64 + 1);
    let before = nodes[to].inbox.of(sender).len();
    nodes[from].outbox().send(NodeId(receiver), b"well".to_vec());
    eventually("a good peer's envelope arrives", || nodes[to].inbox.of(sender).len() == before + 1).await;
}

#[tokio::test]
async fn the_dialling_side_learns_why_it_is_refused() {
    let (mut listeners, addresses) = listeners(2).await;
    // Node 1 takes node 2's address for that of node 3.
    let mut wrong = addresses.clone();
    wrong.insert(NodeId(3), addresses[&NodeId(2)].clone());
    let second = TestNode::start(2, listeners.remove(1), &addresses, TransportLimits::default());
    let first = TestNode::start(1, listeners.remove(0), &wrong, TransportLimits::default());
    eventually("both sides count it", || first.closes("out", "refused_wrong_node") > 0 && second.closes("in", "wrong_node") > 0).await;
    assert_eq!(first.metric("connects_total", &[("peer", "3")]), 0);
}

#[tokio::test]
async fn silent_strangers_do_not_keep_a_peer_out() {
    let (mut listeners, addresses) = listeners(2).await;
    let limits = TransportLimits { handshakes: 4, handshake: Duration::from_secs(600), ..TransportLimits::default() };
    let node = TestNode::start(2, listeners.remove(1), &addresses, limits);
    let port: SocketAddr = addresses[&NodeId(2)].parse().unwrap();
    let mut strangers = Vec::new();
    for _ in 0..10 {
        strangers.push(TcpStream::connect(port).await.unwrap());
    }
    eventually("the oldest make room", || node.closes("in", "crowded_out") == 6).await;
    peer(port, 1, 2).await;
    assert_eq!(node.closes("in", "crowded_out"), 7);
}

#[tokio::test]
async fn a_newer_connection_of_a_peer_replaces_the_older() {
    let (mut listeners, addresses) = listeners(2).await;
    let node = TestNode::start(2, listeners.remove(1), &addresses, TransportLimits::default());
    let port: SocketAddr = addresses[&NodeId(2)].parse().unwrap();
    let mut older = peer(port, 1, 2).await;
    let mut newer = peer(port, 1, 2).await;
    eventually("the older ends", || node.closes("in", "replaced") == 1).await;
    assert_eq!(older.read(&mut [0]).await.unwrap_or(0), 0);
    newer.write_all(&frames(&[b"new"])).await.unwrap();
    eventually("the newer is heard", || node.inbox.of(1) == [b"new"]).await;
}

#[tokio::test]
async fn a_node_that_takes_nothing_holds_up_its_sender_whose_queue_sheds() {
    #[derive(Clone)]
    struct Stuck;
    impl Deliver for Stuck {
        async fn deliver(&self, _: NodeId, _: Vec<Vec<u8>>) -> bool {
            std::future::pending().await
        }
    }
    let (mut listeners, addresses) = listeners(2).await;
    let (stop, shutdown) = watch::channel(false);
    let (cluster, limits) = ("test".to_owned(), TransportLimits::default());
    let config = TransportConfig { cluster, id: NodeId(2), address: String::new(), peers: addresses.clone(), sealed: false, limits };
    let metrics = TransportMetrics::register(&Registry::new()).unwrap();
    let stuck = Transport::start(config, listeners.remove(1), Stuck, metrics, &shutdown).unwrap();
    let node = TestNode::start(1, listeners.remove(0), &addresses, TransportLimits { queue_bytes: 4 << 20, ..TransportLimits::default() });
    node.connected(1).await;

    let (outbox, deadline) = (node.outbox(), Instant::now() + Duration::from_secs(20));
    while node.metric("shed_envelopes_total", &[("reason", "queue_full")]) == 0 {
        assert!(Instant::now() < deadline, "the queue never fills");
        outbox.send(NodeId(2), vec![0; 1 << 20]);
        tokio::task::yield_now().await;
    }
    outbox.send(NodeId(9), b"nobody".to_vec());
    assert_eq!(node.metric("shed_envelopes_total", &[("reason", "unknown_peer")]), 1);
    // A node that takes nothing does not hold up its own end either.
    stop.send_replace(true);
    timeout(Duration::from_secs(10), stuck.stopped()).await.expect("stops");
}

#[tokio::test]
async fn a_node_that_is_no_member_is_heard_and_answered_and_becomes_one() {
    let (mut listeners, addresses) = listeners(2).await;
    let alone = BTreeMap::from([(NodeId(1), addresses[&NodeId(1)].clone())]);
    let first = TestNode::start(1, listeners.remove(0), &alone, TransportLimits::default());
    let second = TestNode::start(2, listeners.remove(0), &addresses, TransportLimits::default());
    second.connected(1).await;
    first.connected(1).await;
    second.outbox().send(NodeId(1), b"question".to_vec());
    eventually("a stranger is heard", || first.inbox.of(2) == [b"question"]).await;
    first.outbox().send(NodeId(2), b"answer".to_vec());
    eventually("and answered where it said", || second.inbox.of(1) == [b"answer"]).await;

    first.outbox().set_members(&addresses);
    first.outbox().send(NodeId(2), b"welcome".to_vec());
    eventually("its connection is kept", || second.inbox.of(1).len() == 2).await;
    assert_eq!(first.metric("connects_total", &[]), 2);
    // It leaves: the first node dials it no more.
    first.outbox().set_members(&alone);
    second.stop().await;
    eventually("nothing is left of it", || first.metric("connected", &[]) == 0).await;
    first.outbox().send(NodeId(2), b"nobody".to_vec());
    assert_eq!(first.metric("shed_envelopes_total", &[("reason", "unknown_peer")]), 1);
}

#[tokio::test]
async fn a_name_that_does_not_fit_the_handshake_is_refused() {
    let (mut listeners, peers) = listeners(1).await;
    let (cluster, limits) = ("x".repeat(256), TransportLimits::default());
    let config = TransportConfig { cluster, id: NodeId(1), address: String::new(), peers, sealed: false, limits };
    let metrics = TransportMetrics::register(&Registry::new()).unwrap();
    let error = Transport::start(config, listeners.remove(0), Inbox::default(), metrics, &watch::channel(false).1).expect_err("too long");
    assert_eq!(error.to_string(), "the cluster's name has 256 bytes: expected at most 255");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_large_and_in_no_hurry_goes_by_a_way_of_its_own() {
    let (nodes, _) = cluster(2, &TransportLimits::default()).await;
    assert_eq!(nodes[0].metric("connects_total", &[("direction", "bulk_out")]), 0, "nobody needs it yet");
    for number in 0..10_u8 {
        nodes[0].outbox().send_bulk(NodeId(2), vec![number; 1 << 20]);
    }
    eventually("all of it arrives", || nodes[1].inbox.of(1).len() == 10).await;
    assert!(nodes[1].inbox.of(1).iter().map(|envelope| envelope[0]).eq(0..10), "in order");
    assert_eq!(nodes[0].metric("connected", &[("direction", "bulk_out"), ("peer", "2")]), 1);
    assert_eq!(nodes[1].metric("connected", &[("direction", "bulk_in"), ("peer", "1")]), 1);
    nodes[0].outbox().send(NodeId(2), b"urgent".to_vec());
    eventually("the other lane is there as before", || nodes[1].inbox.of(1).len() == 11).await;
    assert_eq!(nodes[1].closes("in", "replaced"), 0);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_peer_that_is_away_is_dropped_and_counted() {
    let (mut listeners, mut addresses) = listeners(1).await;
    // A port that nobody listens on.
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    addresses.insert(NodeId(2), nobody.to_string());
    let node = TestNode::start(1, listeners.remove(0), &addresses, short());
    for _ in 0..20 {
        node.outbox().send_bulk(NodeId(2), vec![1; 1 << 20]);
    }
    eventually("none of it is kept", || node.metric("shed_envelopes_total", &[]) == 20).await;
    node.stop().await;
}
