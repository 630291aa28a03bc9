use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that expects these requests, each on one line and without their framing, and gives each its answers; a connection without an answer
/// is closed once its request has come.
async fn server(script: &'static [(&'static str, &'static str)]) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let task = tokio::spawn(async move {
        let mut script = script.iter();
        let mut next = script.next();
        while next.is_some() {
            let (mut stream, _) = listener.accept().await.expect("accepted");
            while let Some((request, answer)) = next {
                let mut came = [0; 4096];
                let length = stream.read(&mut came).await.expect("a request");
                if length == 0 {
                    break;
                }
                assert_eq!(words(&came[..length]), *request);
                next = script.next();
                stream.write_all(answer.as_bytes()).await.expect("written");
                if answer.is_empty() {
                    break;
                }
            }
        }
    });
    (address, task)
}

/// The words of commands in their wire form.
fn words(request: &[u8]) -> String {
    let lines: Vec<_> = str::from_utf8(request).expect("text").lines().filter(|line| !line.starts_with(['*', '$'])).collect();
    lines.join(" ")
}

/// Opens a client of one server, lets it act, and sees that the server got all that it expects.
async fn with_server<T>(script: &'static [(&'static str, &'static str)], act: impl AsyncFnOnce(Client) -> T) -> T {
    let (address, task) = server(script).await;
    let result = act(Client::open(vec![address], PATIENCE).await.expect("a session")).await;
    task.await.expect("the script was followed to its end");
    result
}

const OPEN: (&str, &str) = ("SESSION OPEN", ":7\r\n");

#[tokio::test]
async fn a_write_without_an_answer_is_repeated_under_its_number_and_the_next_has_the_next() {
    let script = &[
        OPEN,
        ("SESSION RESUME 7 1 INCR n", ""),
        ("SESSION RESUME 7 1 INCR n", "+OK\r\n-UNCERTAIN who knows\r\n"),
        ("SESSION RESUME 7 1 INCR n", "+OK\r\n-CLUSTERDOWN no leader\r\n"),
        ("SESSION RESUME 7 1 INCR n", "+OK\r\n:1\r\n"),
        ("SESSION RESUME 7 2 INCR n", "+OK\r\n:2\r\n"),
        ("GET n", "$1\r\n2\r\n"),
        ("SESSION RESUME 7 3 SESSION CLOSE", "+OK\r\n+OK\r\n"),
    ];
    with_server(script, async |mut client: Client| {
        assert_eq!(client.write(&[b"INCR", b"n"]).await, Ok(Reply::Integer(1)));
        assert_eq!(client.write(&[b"INCR", b"n"]).await, Ok(Reply::Integer(2)));
        assert_eq!(client.read(&[b"GET", b"n"]).await, Ok(Reply::Value(Some("2".into()))));
        client.close().await.expect("it is there");
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ended_while_nothing_was_under_way_is_replaced() {
    let script = &[
        OPEN,
        ("SESSION RESUME 7 1 INCR n", "+OK\r\n:1\r\n"),
        ("SESSION RESUME 7 2 INCR n", "+OK\r\n-NOSESSION it expired\r\n"),
        ("SESSION OPEN", ":9\r\n"),
        ("SESSION RESUME 9 1 INCR n", "+OK\r\n:2\r\n"),
        ("SESSION RESUME 9 2 INCR n", "+OK\r\n:3\r\n"),
    ];
    with_server(script, async |mut client: Client| {
        for count in 1..=3 {
            assert_eq!(client.write(&[b"INCR", b"n"]).await, Ok(Reply::Integer(count)));
        }
    })
    .await;
}

#[tokio::test]
async fn a_session_that_ended_while_a_write_had_no_answer_is_a_loss_that_is_told() {
    let script = &[
        OPEN,
        ("SESSION RESUME 7 1 INCR n", ""),
        ("SESSION RESUME 7 1 INCR n", "+OK\r\n-NOSESSION it expired\r\n"),
        ("SESSION OPEN", ":9\r\n"),
        ("SESSION RESUME 9 1 INCR n", "+OK\r\n:2\r\n"),
    ];
    with_server(script, async |mut client: Client| {
        assert_eq!(client.write(&[b"INCR", b"n"]).await, Err(ClientError::SessionLost));
        assert_eq!(client.write(&[b"INCR", b"n"]).await, Ok(Reply::Integer(2)));
    })
    .await;
}

#[tokio::test]
async fn a_refusal_is_final_and_takes_a_number_of_its_own() {
    let script = &[
        OPEN,
        ("SESSION RESUME 7 1 INCR", "+OK\r\n-ERR wrong number of arguments\r\n"),
        ("SESSION RESUME 7 2 GETDEL n", "+OK\r\n-NORESPONSE too large\r\n"),
        ("SESSION RESUME 7 3 DEL n", "+OK\r\n:0\r\n"),
    ];
    with_server(script, async |mut client: Client| {
        let refused = client.write(&[b"INCR"]).await.expect_err("it is refused");
        assert_eq!(refused, ClientError::Refused("ERR wrong number of arguments".to_owned()));
        assert_eq!(client.write(&[b"GETDEL", b"n"]).await, Err(ClientError::ResponseLost));
        assert_eq!(client.write(&[b"DEL", b"n"]).await, Ok(Reply::Integer(0)));
    })
    .await;
}

/// A client whose patience ended gives its write up: the next one's number says so to the cluster.
#[tokio::test]
async fn patience_ends_and_the_next_write_gives_up_the_last() {
    let script = &[OPEN, ("SESSION RESUME 7 1 INCR n", "+OK\r\n"), ("SESSION RESUME 7 2 INCR n", "+OK\r\n:5\r\n")];
    with_server(script, async |mut client: Client| {
        client.patience = Duration::from_millis(50);
        let error = client.write(&[b"INCR", b"n"]).await.expect_err("half an answer is none");
        assert!(matches!(&error, ClientError::TimedOut { last, .. } if last.contains("timed out")), "{error}");
        client.patience = PATIENCE;
        assert_eq!(client.write(&[b"INCR", b"n"]).await, Ok(Reply::Integer(5)));
    })
    .await;
}

#[tokio::test]
async fn the_next_node_is_asked_when_one_is_down() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("bound");
    let (address, task) = server(&[OPEN, ("SESSION RESUME 7 1 SET a 1", "+OK\r\n+OK\r\n")]).await;
    let mut client = Client::open(vec![nobody, address], PATIENCE).await.expect("one of them is there");
    assert_eq!(client.write(&[b"SET", b"a", b"1"]).await, Ok(Reply::Status("OK".into())));
    task.await.expect("the script was followed to its end");
    assert_eq!(Client::open(Vec::new(), PATIENCE).await.expect_err("nowhere to go"), ClientError::NoNodes);
}
