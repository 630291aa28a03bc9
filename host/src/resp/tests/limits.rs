//! What clients can't do to the server.

use super::*;
use crate::kv::{MAX_KEY_BYTES, MAX_VALUE_BYTES};

/// A connection that breaks the protocol is told so and ended; another one does not notice.
#[tokio::test]
async fn what_breaks_the_protocol_is_answered_and_ends_the_connection() {
    let cases: [(&[u8], &str); 12] = [
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*1048577\r\n", "invalid multibulk length"),
        (b"*x\r\n", "invalid multibulk length"),
        (b"*1\r\nx\r\n", "expected '$', got 'x'"),
        (b"*1\r\n*1\r\n*1\r\n", "expected '$', got '*'"),
        (b"*1\r\n$x\r\n", "invalid bulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$4294967296\r\n", "invalid bulk length"),
        (b"*1\r\n$4\r\nPINGxx", "a bulk string does not end where its length says"),
        (b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$16777215\r\n", "the request has more than 16777216 bytes"),
        (b"GET \"a\r\n", "unbalanced quotes in request"),
        (b"\x16\x03\x01\x02\x00\"\n", "unbalanced quotes in request"),
    ];
    let server = Server::start(Fake::default(), RespLimits::default()).await;
    let mut bystander = server.connect().await;
    for (bytes, error) in cases {
        let mut client = server.connect().await;
        send(&mut client, b"PING\r\n").await;
        send(&mut client, bytes).await;
        let answer = String::from_utf8(read_to_end(&mut client).await).unwrap();
        assert_eq!(answer, format!("+PONG\r\n-ERR Protocol error: {error}\r\n"), "{}", bytes.escape_ascii());
        send(&mut bystander, b"PING\r\n").await;
        expect(&mut bystander, b"+PONG\r\n").await;
    }
    drop(bystander);
    server.expect_close("ended").await;
    assert_eq!(server.count("closes_total", Some("protocol")), cases.len() as f64);
    assert_eq!(server.count("connections", None), 0.0);
}

#[tokio::test]
async fn endless_lines_and_nesting_end_early() {
    let server = Server::start(Fake::default(), RespLimits::default()).await;
    for (bytes, error) in [
        (vec![b'x'; 70_000], "too big inline request"),
        ([b"*".to_vec(), vec![b'1'; 70_000]].concat(), "too big mbulk count string"),
        ([b"*1\r\n$".to_vec(), vec![b'1'; 70_000]].concat(), "too big bulk count string"),
        (b"*1\r\n".repeat(100_000), "expected '$', got '*'"),
    ] {
        let mut client = server.connect().await;
        send(&mut client, &bytes).await;
        let answer = String::from_utf8(read_to_end(&mut client).await).unwrap();
        assert_eq!(answer, format!("-ERR Protocol error: {error}\r\n"));
    }
}

#[tokio::test]
async fn http_gets_no_answer() {
    let server = Server::start(Fake::default(), RespLimits::default()).await;
    let mut client = server.connect().await;
    send(&mut client, b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET a 1\r\n").await;
    // The end of the connection may reach the client as a reset, for its unread bytes.
    let mut came = Vec::new();
    let _ = timeout(PATIENCE, client.read_to_end(&mut came)).await.expect("the connection should have ended");
    assert_eq!(came, b"");
    server.expect_close("http").await;
}

#[tokio::test]
async fn long_keys_and_values_are_refused_and_the_connection_lives_on() {
    let server = Server::start(Fake::default(), RespLimits::default()).await;
    let mut client = server.connect().await;
    let key = vec![b'k'; MAX_KEY_BYTES + 1];
    let value = vec![b'v'; MAX_VALUE_BYTES + 1];
    send(&mut client, &request(&[b"SET", &key[1..], &value[1..]])).await;
    expect(&mut client, b"+OK\r\n").await;
    let long_key = b"-ERR the key has 65537 bytes: at most 65536 are allowed\r\n";
    let long_value = b"-ERR the value has 1048577 bytes: at most 1048576 are allowed\r\n";
    for (words, answer) in [
        (&[b"SET", &key[..], b"v"][..], &long_key[..]),
        (&[b"GET", &key[..]], long_key),
        (&[b"SET", b"k", &value[..]], long_value),
        (&[b"MSET", b"a", b"1", b"k", &value[..]], long_value),
        (&[b"APPEND", &key[1..], b"v"], long_value),
    ] {
        send(&mut client, &request(words)).await;
        expect(&mut client, answer).await;
    }
    send(&mut client, &request(&[b"GET", &key[1..]])).await;
    expect(&mut client, &[b"$1048576\r\n", &value[1..], b"\r\n"].concat()).await;
    send(&mut client, b"DBSIZE\r\n").await;
    expect(&mut client, b":1\r\n").await;
}

#[tokio::test]
async fn silence_and_half_requests_have_their_time() {
    let short = Duration::from_millis(30);
    let idle = Server::start(Fake::default(), RespLimits { idle_timeout: short, ..RespLimits::default() }).await;
    let mut silent = idle.connect().await;
    assert_eq!(read_to_end(&mut silent).await, b"");
    idle.expect_close("idle").await;

    let slow = Server::start(Fake::default(), RespLimits { request_timeout: short, ..RespLimits::default() }).await;
    let mut dripping = slow.connect().await;
    send(&mut dripping, b"PING\r\n*1\r\n$4\r\nPI").await;
    assert_eq!(read_to_end(&mut dripping).await, b"+PONG\r\n");
    slow.expect_close("slow_request").await;

    let mut cut = slow.connect().await;
    send(&mut cut, b"*1\r\n$4\r\nPI").await;
    cut.shutdown().await.unwrap();
    assert_eq!(read_to_end(&mut cut).await, b"");
    slow.expect_close("cut_short").await;
}

#[tokio::test]
async fn a_client_that_drips_does_not_win_time() {
    let limits = RespLimits { request_timeout: Duration::from_millis(100), ..RespLimits::default() };
    let server = Server::start(Fake::default(), limits).await;
    let (mut reader, mut writer) = server.connect().await.into_split();
    let drip = tokio::spawn(async move {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut came = Vec::new();
    let _ = timeout(PATIENCE, reader.read_to_end(&mut came)).await.expect("the connection should have ended");
    assert_eq!(came, b"");
    server.expect_close("slow_request").await;
    drip.abort();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_ended() {
    let limits = RespLimits { write_timeout: Duration::from_millis(100), ..RespLimits::default() };
    let server = Server::start(Fake::default(), limits).await;
    let mut client = server.connect().await;
    let value = vec![b'v'; MAX_VALUE_BYTES];
    send(&mut client, &request(&[b"SET", b"k", &value])).await;
    expect(&mut client, b"+OK\r\n").await;
    send(&mut client, &request(&[b"GET", b"k"]).repeat(60)).await;
    server.expect_close("slow_write").await;
}

#[tokio::test]
async fn one_connection_too_many_is_turned_away() {
    let server = Server::start(Fake::default(), RespLimits { max_connections: 1, ..RespLimits::default() }).await;
    let mut first = server.connect().await;
    send(&mut first, b"PING\r\n").await;
    expect(&mut first, b"+PONG\r\n").await;
    let mut second = server.connect().await;
    assert_eq!(read_to_end(&mut second).await, b"-ERR max number of clients reached\r\n");
    assert_eq!(server.count("closes_total", Some("too_many")), 1.0);
    drop(first);
    server.expect_close("ended").await;
    let mut third = server.connect().await;
    send(&mut third, b"PING\r\n").await;
    expect(&mut third, b"+PONG\r\n").await;
}

#[tokio::test]
async fn large_requests_share_a_bound() {
    let server = Server::start(Fake::default(), RespLimits { max_buffered_bytes: 1 << 20, ..RespLimits::default() }).await;
    let value = vec![b'v'; 700 << 10];
    let whole = request(&[b"SET", b"k", &value]);
    // Half of one waits; the other does not fit beside it.
    let mut waiting = server.connect().await;
    send(&mut waiting, &whole[..600 << 10]).await;
    let received = timeout(PATIENCE, async {
        while server.count("bytes_total", Some("in")) < (600 << 10) as f64 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    });
    received.await.unwrap();
    let mut refused = server.connect().await;
    let _ = refused.write_all(&whole[..whole.len() - 1]).await;
    let answer = String::from_utf8(read_to_end(&mut refused).await).unwrap();
    assert_eq!(answer, "-OOM large requests take all of the 1048576 bytes that they may have together: try again later\r\n");
    server.expect_close("out_of_buffers").await;
    // What the waiting one holds comes back once it is answered, however often.
    send(&mut waiting, &whole[600 << 10..]).await;
    expect(&mut waiting, b"+OK\r\n").await;
    let mut other = server.connect().await;
    for _ in 0..2 {
        for client in [&mut waiting, &mut other] {
            send(client, &whole).await;
            expect(client, b"+OK\r\n").await;
        }
    }
}

#[tokio::test]
async fn the_end_of_the_node_ends_its_connections() {
    let server = Server::start(Fake::default(), RespLimits::default()).await;
    let mut client = server.connect().await;
    send(&mut client, b"PING\r\n").await;
    expect(&mut client, b"+PONG\r\n").await;
    server.stop.send(true).unwrap();
    assert_eq!(read_to_end(&mut client).await, b"");
    timeout(PATIENCE, server.task).await.expect("serve should have ended").unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());
}
