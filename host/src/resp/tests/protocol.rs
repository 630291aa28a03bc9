//! Requests and their answers, byte for byte. What Redis 7.0 has too was compared with it.

use super::*;

/// Each line is sent on its own and must be answered so; all lines of a script share a connection and a state.
type Script = &'static [(&'static str, &'static str)];

async fn run(script: Script) {
    let server = Server::start(Fake::default(), RespLimits::default()).await;
    let mut client = server.connect().await;
    for (line, answer) in script {
        send(&mut client, format!("{line}\r\n").as_bytes()).await;
        // An answer too many would shift the next comparison; the last line is followed by one whose answer is known.
        expect(&mut client, answer.as_bytes()).await;
    }
    send(&mut client, b"PING end\r\n").await;
    expect(&mut client, b"$3\r\nend\r\n").await;
}

#[tokio::test]
async fn strings() {
    run(&[
        ("SET a 1", "+OK\r\n"),
        ("GET a", "$1\r\n1\r\n"),
        ("get A", "$-1\r\n"),
        ("SET a 2 NX", "$-1\r\n"),
        ("SET a 2 xx get", "$1\r\n1\r\n"),
        ("SET b 2 NX GET", "$-1\r\n"),
        ("SET b 3 NX XX", "-ERR syntax error\r\n"),
        ("SET b 3 FOO", "-ERR syntax error\r\n"),
        ("SET b 3 EX 10", "-ERR syntax error: keys do not expire here, leave out EX, PX, EXAT, PXAT and KEEPTTL\r\n"),
        ("GETSET b 4", "$1\r\n2\r\n"),
        ("GETSET n 4", "$-1\r\n"),
        ("GETDEL n", "$1\r\n4\r\n"),
        ("MSET x 1 y 2", "+OK\r\n"),
        ("MSET x 1 y", "-ERR wrong number of arguments for 'mset' command\r\n"),
        ("MGET x none y", "*3\r\n$1\r\n1\r\n$-1\r\n$1\r\n2\r\n"),
        ("EXISTS x x none", ":2\r\n"),
        ("DEL x y none", ":2\r\n"),
        ("APPEND s ab", ":2\r\n"),
        ("APPEND s \"\\x00\\xff\"", ":4\r\n"),
        ("STRLEN s", ":4\r\n"),
        ("TYPE s", "+string\r\n"),
        ("TYPE none", "+none\r\n"),
        ("DBSIZE", ":3\r\n"),
        ("FLUSHALL NOW", "-ERR syntax error\r\n"),
        ("FLUSHDB async", "+OK\r\n"),
        ("DBSIZE", ":0\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn numbers() {
    run(&[
        ("INCR n", ":1\r\n"),
        ("INCRBY n 41", ":42\r\n"),
        ("DECR n", ":41\r\n"),
        ("DECRBY n -1", ":42\r\n"),
        ("INCRBY n 1.5", "-ERR value is not an integer or out of range\r\n"),
        ("DECRBY n -9223372036854775808", "-ERR decrement would overflow\r\n"),
        ("INCRBY n 9223372036854775807", "-ERR increment or decrement would overflow\r\n"),
        ("SET n a", "+OK\r\n"),
        ("INCR n", "-ERR value is not an integer or out of range\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn sessions() {
    run(&[
        ("SESSION INFO", "-NOSESSION this connection has no session: open one with SESSION OPEN, or go on with one by SESSION RESUME\r\n"),
        ("SESSION OPEN TIMEOUT 60000", ":12\r\n"),
        ("INCR n", ":1\r\n"),
        ("GET n", "$1\r\n1\r\n"),
        ("INCR n", ":2\r\n"),
        ("SESSION INFO", "*6\r\n$2\r\nid\r\n:12\r\n$8\r\nsequence\r\n:3\r\n$12\r\nacknowledged\r\n:1\r\n"),
        ("SESSION RESUME 12 1", "+OK\r\n"),
        ("INCR n", ":1\r\n"),
        ("INCR", "-ERR wrong number of arguments for 'incr' command\r\n"),
        ("INCR n", ":2\r\n"),
        ("INCR n", ":3\r\n"),
        ("SESSION INFO", "*6\r\n$2\r\nid\r\n:12\r\n$8\r\nsequence\r\n:4\r\n$12\r\nacknowledged\r\n:1\r\n"),
        ("RESET", "+RESET\r\n"),
        ("INCR n", ":4\r\n"),
        ("SESSION resume 12 3", "+OK\r\n"),
        ("INCR n", ":3\r\n"),
        ("SESSION CLOSE", "+OK\r\n"),
        ("INCR n", ":5\r\n"),
        ("SESSION RESUME 12 4", "+OK\r\n"),
        (
            "INCR n",
            "-NOSESSION there is no such session: it expired, was closed or never opened; read before you repeat what had no answer\r\n",
        ),
        ("SESSION FOO", "-ERR unknown subcommand 'FOO'. Try SESSION HELP.\r\n"),
        ("SESSION", "-ERR wrong number of arguments for 'session' command\r\n"),
        ("SESSION OPEN TIMEOUT", "-ERR wrong number of arguments for 'session|open' command\r\n"),
        ("SESSION OPEN TIMEOUT 999", "-ERR a session's TIMEOUT is 1000 to 86400000 milliseconds\r\n"),
        ("SESSION OPEN WINDOW 5", "-ERR syntax error\r\n"),
        ("SESSION RESUME 12", "-ERR wrong number of arguments for 'session|resume' command\r\n"),
        ("SESSION RESUME 0 1", "-ERR value is not an integer or out of range\r\n"),
        ("SESSION RESUME 12 4611686018427387904", "-ERR value is not an integer or out of range\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn fencing_tokens() {
    // The fake node's entries are of term 3, and their indexes grow by one with each write.
    run(&[
        ("FENCE NEXT lock", "$41\r\n00000000000000000003:00000000000000000001\r\n"),
        ("FENCE CHECK lock 00000000000000000003:00000000000000000001", ":1\r\n"),
        ("fence check lock 3:1", ":1\r\n"),
        ("SET a 1 FENCE lock 3:1", "+OK\r\n"),
        ("FENCE NEXT lock", "$41\r\n00000000000000000003:00000000000000000003\r\n"),
        ("FENCE CHECK lock 3:1", ":0\r\n"),
        ("FENCE CHECK lock 3:3", ":1\r\n"),
        ("FENCE CHECK none 3:3", ":0\r\n"),
        (
            "SET a 2 FENCE lock 3:1",
            "-FENCED the token is out of date: 00000000000000000003:00000000000000000003 has been issued since, and its holder replaces this one\r\n",
        ),
        ("SET a 2 FENCE none 3:1", "-FENCED there is no such fence, or no more: FENCE NEXT gives a token\r\n"),
        ("SET a 2 XX FENCE lock 3:3 GET", "$1\r\n1\r\n"),
        ("SET a 3 fence lock 3:3 nx", "$-1\r\n"),
        ("GET a", "$1\r\n2\r\n"),
        ("FLUSHALL", "+OK\r\n"),
        ("FENCE CHECK lock 3:1", ":0\r\n"),
        ("FENCE DROP lock", ":1\r\n"),
        ("FENCE DROP lock", ":0\r\n"),
        ("FENCE CHECK lock 3:3", ":0\r\n"),
        ("SET a 2 FENCE lock", "-ERR syntax error\r\n"),
        ("SET a 2 FENCE lock 3:1 FENCE lock 3:1", "-ERR syntax error\r\n"),
        (
            "FENCE CHECK lock 3",
            "-ERR expected a fencing token: two numbers of at most 20 digits and 64 bits with a colon between them, as 7:1234\r\n",
        ),
        ("FENCE NEXT", "-ERR wrong number of arguments for 'fence|next' command\r\n"),
        ("FENCE CHECK lock", "-ERR wrong number of arguments for 'fence|check' command\r\n"),
        ("FENCE", "-ERR wrong number of arguments for 'fence' command\r\n"),
        ("FENCE PULL lock", "-ERR unknown subcommand 'PULL'. Try FENCE HELP.\r\n"),
    ])
    .await;
}

/// In a session, an unknown outcome is told with the way to find out.
#[tokio::test]
async fn an_unknown_outcome_in_a_session_says_how_to_go_on() {
    let backend = Fake { failure: Some(|| RaftError::UnknownOutcome { waited_ms: 2000 }), ..Fake::default() };
    let server = Server::start(backend, RespLimits::default()).await;
    let mut client = server.connect().await;
    send(&mut client, b"SESSION RESUME 12 7\r\nDEL a\r\nDEL b\r\n").await;
    let words = |sequence| {
        format!(
            "-UNCERTAIN no answer came within 2000 ms: repeat the command after SESSION RESUME 12 {sequence}, it is carried out once\r\n"
        )
    };
    expect(&mut client, format!("+OK\r\n{}{}", words(7), words(8)).as_bytes()).await;
}

#[tokio::test]
async fn a_fence_with_too_long_a_name_is_refused_before_the_log_has_it() {
    let fake = Fake::default();
    let server = Server::start(fake.clone(), RespLimits::default()).await;
    let mut client = server.connect().await;
    send(&mut client, &request(&[b"FENCE", b"NEXT", &[b'n'; 257]])).await;
    expect(&mut client, b"-ERR the fence's name has 257 bytes: at most 256 are allowed\r\n").await;
    send(&mut client, &request(&[b"FENCE", b"NEXT", &[b'n'; 256]])).await;
    expect(&mut client, b"$41\r\n").await;
    assert_eq!(*fake.runs.lock().unwrap(), [('w', 1)]);
}

#[tokio::test]
async fn errors_in_the_words_of_redis() {
    run(&[
        ("GET", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("GET a b", "-ERR wrong number of arguments for 'get' command\r\n"),
        ("FOO a b", "-ERR unknown command 'FOO', with args beginning with: 'a' 'b' \r\n"),
        ("FOO", "-ERR unknown command 'FOO', with args beginning with: \r\n"),
        ("\"F\\r\\nO\" \"a\\nb\"", "-ERR unknown command 'F  O', with args beginning with: 'a b' \r\n"),
        ("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n"),
        ("SELECT 0", "+OK\r\n"),
        ("SELECT 1", "-ERR DB index is out of range\r\n"),
        ("SELECT a", "-ERR value is not an integer or out of range\r\n"),
        (
            "AUTH secret",
            "-ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?\r\n",
        ),
        ("AUTH default secret", "+OK\r\n"),
        ("AUTH someone secret", "-WRONGPASS invalid username-password pair or user is disabled.\r\n"),
        ("AUTH a b c", "-ERR syntax error\r\n"),
        ("HELLO 4", "-NOPROTO unsupported protocol version\r\n"),
        ("HELLO x", "-ERR Protocol version is not an integer or out of range\r\n"),
        ("HELLO 3 FOO", "-ERR Syntax error in HELLO option 'FOO'\r\n"),
        ("CLIENT", "-ERR wrong number of arguments for 'client' command\r\n"),
        ("CLIENT FOO", "-ERR unknown subcommand 'FOO'. Try CLIENT HELP.\r\n"),
        ("CLIENT SETNAME", "-ERR wrong number of arguments for 'client|setname' command\r\n"),
        ("CLIENT SETNAME \"a b\"", "-ERR Client names cannot contain spaces, newlines or special characters.\r\n"),
        ("COMMAND FOO", "-ERR unknown subcommand 'FOO'. Try COMMAND HELP.\r\n"),
        ("CONFIG SET a b", "-ERR unknown subcommand 'SET'. Try CONFIG HELP.\r\n"),
        ("SCAN x", "-ERR invalid cursor\r\n"),
        ("SCAN 12345", "-ERR invalid cursor\r\n"),
        ("SCAN 0 COUNT 0", "-ERR syntax error\r\n"),
        ("SCAN 0 COUNT x", "-ERR value is not an integer or out of range\r\n"),
        ("SCAN 0 MATCH", "-ERR syntax error\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn what_client_libraries_send_when_they_connect() {
    run(&[
        ("PING", "+PONG\r\n"),
        ("ECHO \"\"", "$0\r\n\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
        ("CLIENT SETNAME me", "+OK\r\n"),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        ("CLIENT SETINFO LIB-NAME redis-py", "+OK\r\n"),
        ("CLIENT ID", ":1\r\n"),
        ("CLIENT NO-EVICT on", "+OK\r\n"),
        ("CLIENT NO-TOUCH maybe", "-ERR syntax error\r\n"),
        ("CONFIG GET save", "*2\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("CONFIG GET append*ly", "*2\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n"),
        ("CONFIG GET none", "*0\r\n"),
        ("COMMAND DOCS", "*0\r\n"),
        ("COMMAND COUNT", ":35\r\n"),
        (
            "COMMAND INFO GET none",
            "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n*0\r\n*0\r\n*0\r\n*0\r\n$-1\r\n",
        ),
        (
            "HELLO 2",
            "*14\r\n$6\r\nserver\r\n$5\r\nukehi\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
        ),
    ])
    .await;
}

#[tokio::test]
async fn the_third_version_of_the_protocol() {
    run(&[
        (
            "HELLO 3 AUTH default x SETNAME me",
            "%7\r\n$6\r\nserver\r\n$5\r\nukehi\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:3\r\n$2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n",
        ),
        ("CLIENT GETNAME", "$2\r\nme\r\n"),
        ("GET none", "_\r\n"),
        ("MGET none", "*1\r\n_\r\n"),
        ("SET a 1 XX", "_\r\n"),
        ("CONFIG GET save", "%1\r\n$4\r\nsave\r\n$0\r\n\r\n"),
        ("COMMAND DOCS", "%0\r\n"),
        ("INFO replication", "=32\r\ntxt:# Replication\r\nrole:master\r\n\r\n"),
        ("FOO", "-ERR unknown command 'FOO', with args beginning with: \r\n"),
        ("RESET", "+RESET\r\n"),
        ("GET none", "$-1\r\n"),
        ("CLIENT GETNAME", "$-1\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn info_tells_of_raft_and_of_the_keys() {
    run(&[
        ("SET a 1", "+OK\r\n"),
        ("INFO keyspace", "$44\r\n# Keyspace\r\ndb0:keys=1,expires=0,avg_ttl=0\r\n\r\n"),
        (
            "INFO raft replication",
            "$170\r\n# Replication\r\nrole:master\r\n\r\n# Raft\r\nraft_id:1\r\nraft_role:leader\r\nraft_term:3\r\nraft_leader:1\r\nraft_commit:7\r\nraft_applied:7\r\nraft_last:8\r\nraft_peers:0\r\nraft_sessions:0\r\n\r\n",
        ),
        ("INFO none", "$0\r\n\r\n"),
    ])
    .await;
}

#[tokio::test]
async fn a_pipeline_is_answered_in_order_and_reaches_the_node_in_runs() {
    let fake = Fake::default();
    let server = Server::start(fake.clone(), RespLimits::default()).await;
    let mut client = server.connect().await;
    let pipeline = [
        request(&[b"SET", b"a", b"1"]),
        request(&[b"INCR", b"a"]),
        request(&[b"GET", b"a"]),
        request(&[b"EXISTS", b"a"]),
        b"PING\r\n".to_vec(),
        b"*0\r\n\r\n".to_vec(),
        request(&[b"GET", b"a"]),
        request(&[b"DEL", b"a"]),
        request(&[b"GET"]),
        request(&[b"QUIT"]),
        request(&[b"SET", b"late", b"1"]),
    ];
    send(&mut client, &pipeline.concat()).await;
    let answers = "+OK\r\n:2\r\n$1\r\n2\r\n:1\r\n+PONG\r\n$1\r\n2\r\n:1\r\n-ERR wrong number of arguments for 'get' command\r\n+OK\r\n";
    assert_eq!(String::from_utf8(read_to_end(&mut client).await).unwrap(), answers);
    assert_eq!(*fake.runs.lock().unwrap(), [('w', 2), ('r', 2), ('r', 1), ('w', 1)]);
    server.expect_close("quit").await;
    assert_eq!(server.count("commands_total", Some("get")), 3.0);
    assert_eq!(server.count("errors_total", Some("ERR")), 1.0);
}

#[tokio::test]
async fn a_connection_may_be_content_with_the_nodes_own_state() {
    let fake = Fake::default();
    let server = Server::start(fake.clone(), RespLimits::default()).await;
    let mut client = server.connect().await;
    let pipeline =
        ["GET a", "READONLY", "GET a", "EXISTS a", "SET a 1", "GET a", "SCAN 0", "READWRITE", "GET a", "READONLY", "RESET", "GET a"];
    for line in pipeline {
        send(&mut client, format!("{line}\r\n").as_bytes()).await;
        let answer: &[u8] = match line {
            "GET a" if fake.runs.lock().unwrap().iter().all(|(kind, _)| *kind != 'w') => b"$-1\r\n",
            "GET a" => b"$1\r\n1\r\n",
            "EXISTS a" => b":0\r\n",
            "SCAN 0" => b"*2\r\n$1\r\n0\r\n*1\r\n$1\r\na\r\n",
            "RESET" => b"+RESET\r\n",
            _ => b"+OK\r\n",
        };
        expect(&mut client, answer).await;
    }
    let kinds: String = fake.runs.lock().unwrap().iter().map(|(kind, _)| *kind).collect();
    assert_eq!(kinds, "rllwllrr");
    let mut other = server.connect().await;
    send(&mut other, b"GET a\r\n").await;
    expect(&mut other, b"$1\r\n1\r\n").await;
    assert_eq!(fake.runs.lock().unwrap().last(), Some(&('r', 1)), "each connection for itself");
}

#[tokio::test]
async fn requests_arrive_in_any_pieces() {
    let server = Server::start(Fake::default(), RespLimits::default()).await;
    let mut client = server.connect().await;
    client.set_nodelay(true).unwrap();
    let value = vec![b'v'; 300];
    for byte in request(&[b"SET", b"k", &value]) {
        send(&mut client, &[byte]).await;
    }
    expect(&mut client, b"+OK\r\n").await;
    send(&mut client, &request(&[b"STRLEN", b"k"])).await;
    expect(&mut client, b":300\r\n").await;
}

#[tokio::test]
async fn a_scan_goes_on_from_its_cursor() {
    let server = Server::start(Fake::default(), RespLimits::default()).await;
    let mut client = server.connect().await;
    for n in 0..25 {
        send(&mut client, format!("SET k{n:02} v\r\n").as_bytes()).await;
        expect(&mut client, b"+OK\r\n").await;
    }
    let (mut cursor, mut keys) = ("0".to_owned(), Vec::new());
    for expected in [10, 10, 5] {
        send(&mut client, format!("SCAN {cursor} MATCH k* TYPE string\r\n").as_bytes()).await;
        let mut lines = Vec::new();
        // Array of 2, cursor (2 lines), array of keys (1 line and 2 for each).
        while lines.len() < 4 + 2 * expected {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(timeout(PATIENCE, client.read_u8()).await.unwrap().unwrap());
            }
            lines.push(String::from_utf8(line).unwrap().trim_end().to_owned());
        }
        assert_eq!(lines[3], format!("*{expected}"));
        cursor = lines[2].clone();
        keys.extend(lines[4..].iter().skip(1).step_by(2).cloned());
    }
    assert_eq!(cursor, "0");
    assert_eq!(keys, (0..25).map(|n| format!("k{n:02}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn errors_of_the_cluster_have_codes() {
    let failures: [(MakeError, &str); 7] = [
        (|| RaftError::NoLeader { waited_ms: 2000 }, "CLUSTERDOWN"),
        (|| RaftError::ShuttingDown, "CLUSTERDOWN"),
        (|| RaftError::Overloaded, "TRYAGAIN"),
        (|| RaftError::UnknownOutcome { waited_ms: 2000 }, "UNCERTAIN"),
        (|| RaftError::LogFull, "OOM"),
        (|| RaftError::DiskFull, "MISCONF"),
        (|| RaftError::TooLarge, "ERR"),
    ];
    for (failure, code) in failures {
        let server = Server::start(Fake { failure: Some(failure), ..Fake::default() }, RespLimits::default()).await;
        let mut client = server.connect().await;
        send(&mut client, b"SET a 1\r\nGET a\r\nGET b\r\nPING\r\n").await;
        let answer = format!("-{code} {}\r\n", failure());
        expect(&mut client, format!("{answer}{answer}{answer}+PONG\r\n").as_bytes()).await;
    }
}
