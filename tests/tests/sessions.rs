//! Client sessions with real processes: what clients count is what the cluster counts, whatever happens to leaders.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use amaters_cluster::client::{Client, Reply};
use amaters_cluster_tests::process::{PATIENCE, Process, Processes, wait_until};
use redis::{Commands, Connection, RedisResult, cmd};

/// Several clients count up, each its own counter and all a common one, while three leaders die one after the other. No client ever learns that an
/// attempt was lost: it repeats it, and the counters say exactly how often it was acknowledged.
#[test]
fn counters_are_exact_through_the_deaths_of_leaders() {
    let mut cluster = Processes::start(3);
    let nodes: Vec<SocketAddr> = cluster.nodes().iter().map(|node| node.client).collect();
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let counts: Vec<i64> = std::thread::scope(|scope| {
        let count = |number: usize| {
            let (nodes, stop, done) = (nodes.clone(), &stop, &done);
            scope.spawn(move || runtime().block_on(count_up(nodes, &format!("own-{number}"), stop, done)))
        };
        let clients: Vec<_> = (0..6).map(count).collect();
        for _ in 0..3 {
            let leader = cluster.leader();
            wait_for_more(&done, 300);
            cluster.kill(leader);
            wait_for_more(&done, 300);
            cluster.restart(leader);
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().expect("the client counts right")).collect()
    });
    cluster.settled();
    for node in cluster.nodes() {
        let mut connection = node.connect();
        for (number, count) in counts.iter().enumerate() {
            assert_eq!(connection.get::<_, i64>(format!("own-{number}")).unwrap(), *count, "client {number}, at node {}", node.id);
        }
        assert_eq!(connection.get::<_, i64>("common").unwrap(), counts.iter().sum::<i64>(), "at node {}", node.id);
    }
    assert!(cluster.nodes().iter().all(|node| node.status().is_some_and(|status| status.sessions == 0)), "all clients closed theirs");
}

/// Counts its own key and the common one up until told to stop; gives how often.
async fn count_up(nodes: Vec<SocketAddr>, key: &str, stop: &AtomicBool, done: &AtomicU64) -> i64 {
    let mut client = Client::open(nodes, PATIENCE).await.expect("a session");
    let mut count = 0;
    while !stop.load(Ordering::Relaxed) {
        count += 1;
        assert_eq!(client.write(&[b"INCR", key.as_bytes()]).await, Ok(Reply::Integer(count)), "nobody else counts {key}");
        client.write(&[b"INCR", b"common"]).await.expect("it is counted");
        done.fetch_add(2, Ordering::Relaxed);
    }
    client.close().await.expect("the session ends");
    count
}

fn wait_for_more(done: &AtomicU64, more: u64) {
    let began = done.load(Ordering::Relaxed);
    wait_until("the clients get on", || (done.load(Ordering::Relaxed) >= began + more).then_some(()));
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// What any client can do by hand: open, lose the connection, go on elsewhere, and get the first answers; also after a power failure.
#[test]
fn a_session_goes_on_at_another_node_and_after_a_restart_of_all() {
    let mut cluster = Processes::start(3);
    let mut client = cluster.node(1).connect();
    let session: u64 = session(&mut client, &["OPEN"]).unwrap();
    assert_eq!([incr(&mut client), incr(&mut client), incr(&mut client)], [Ok(1), Ok(2), Ok(3)]);
    drop(client);

    let resumed = |node: &Process, sequence: u64| {
        let mut client = node.connect();
        let _: () = session_at(&mut client, session, sequence).unwrap();
        client
    };
    let mut client = resumed(cluster.node(2), 2);
    assert_eq!([incr(&mut client), incr(&mut client), incr(&mut client)], [Ok(2), Ok(3), Ok(4)], "two repetitions, and a new one");
    let mut late = resumed(cluster.node(3), 1);
    assert_eq!(incr(&mut late), Err("NORESPONSE".to_owned()), "the client has said that it has this answer");

    for id in 1..=3 {
        cluster.kill(id);
    }
    for id in 1..=3 {
        cluster.restart(id);
    }
    cluster.leader();
    let mut client = resumed(cluster.node(3), 4);
    assert_eq!([incr(&mut client), incr(&mut client)], [Ok(4), Ok(5)]);
    let _: () = self::session(&mut client, &["CLOSE"]).unwrap();
    let mut client = resumed(cluster.node(1), 6);
    assert_eq!(incr(&mut client), Err("NOSESSION".to_owned()));
    assert_eq!(client.get::<_, u64>("n").unwrap(), 5, "reads need no session");
}

#[test]
fn a_session_ends_after_the_silence_that_its_client_chose() {
    let cluster = Processes::start(1);
    let mut client = cluster.node(1).connect();
    let short: u64 = session(&mut client, &["OPEN", "TIMEOUT", "1000"]).unwrap();
    assert_eq!(incr(&mut client), Ok(1));
    // The log's time is that of the entries of sessions: another one's bring it on.
    let mut other = cluster.node(1).connect();
    let _: u64 = session(&mut other, &["OPEN"]).unwrap();
    wait_until("the session has ended", || {
        incr(&mut other).expect("this one lives");
        cluster.node(1).status().is_some_and(|status| status.sessions == 1).then_some(())
    });
    let _: () = session_at(&mut client, short, 1).unwrap();
    assert_eq!(incr(&mut client), Err("NOSESSION".to_owned()), "nobody knows any more whether it was carried out");
}

fn session<T: redis::FromRedisValue>(client: &mut Connection, words: &[&str]) -> RedisResult<T> {
    cmd("SESSION").arg(words).query(client)
}

fn session_at<T: redis::FromRedisValue>(client: &mut Connection, session: u64, sequence: u64) -> RedisResult<T> {
    cmd("SESSION").arg("RESUME").arg(session).arg(sequence).query(client)
}

/// Counts up; the error's code, if it is refused.
fn incr(client: &mut Connection) -> Result<u64, String> {
    client.incr("n", 1).map_err(|error| error.code().unwrap_or_default().to_owned())
}
