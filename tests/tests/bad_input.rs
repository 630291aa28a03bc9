//! What a node says to mistakes and to garbage: on the command line, in its directory, and on each of its ports.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::time::Duration;

use amaters_cluster::admin::RoleView;
use amaters_cluster_tests::process::{PATIENCE, Processes, ukehi, wait_until};
use redis::Commands;

/// Runs `ukehi` to its end: a mistake must not leave a node running.
fn run(arguments: &[&str]) -> Output {
    let output = ukehi().args(arguments).output().expect("ukehi can be started");
    assert!(output.stdout.is_empty() || output.status.success(), "errors belong on the error stream");
    output
}

fn complaint(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn mistakes_on_the_command_line_are_explained_and_exit_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let data_dir = directory.path().join("data").display().to_string();
    let start = |arguments: &[&str]| run(&[&["start", "--data-dir", &data_dir], arguments].concat());
    let peers =
        |count: usize| (1..=count).flat_map(|id| ["--peer".to_owned(), format!("{id}=127.0.0.1:{}", 7100 + id)]).collect::<Vec<_>>();
    let with_peers = |id: &str, count: usize| {
        let peers = peers(count);
        let peers: Vec<&str> = peers.iter().map(String::as_str).collect();
        start(&[&["--no-encryption", "--id", id], peers.as_slice()].concat())
    };
    for (what, output, words) in [
        ("peers without the own id", with_peers("4", 3), "4"),
        ("eight voters", with_peers("1", 8), "7"),
        ("an id twice", start(&["--id", "1", "--peer", "1=127.0.0.1:7101", "--peer", "1=127.0.0.1:7102"]), "each id once"),
        ("id 0", start(&["--id", "0"]), "1"),
        ("a peer without address", start(&["--id", "1", "--peer", "1"]), "ID=HOST:PORT"),
        (
            "several nodes, and no key",
            start(&["--id", "1", "--peer", "1=127.0.0.1:7101", "--peer", "2=127.0.0.1:7102"]),
            "ukehi key generate --out FILE",
        ),
        ("a node that joins, and no key", start(&["--id", "4", "--join", "127.0.0.1:8091"]), "ukehi start … --key-file FILE"),
        ("two sources of keys", start(&["--key-file", "a", "--key-env", "B"]), "--key-env"),
        ("a port that is none", start(&["--listen", "127.0.0.1:99999"]), "127.0.0.1:99999"),
        ("listening to the world", start(&["--client", "0.0.0.0:6391"]), "--insecure"),
        ("an unknown flag", start(&["--colour"]), "--colour"),
        ("a missing configuration file", start(&["--config", "/nonexistent.toml"]), "/nonexistent.toml"),
    ] {
        assert_eq!(output.status.code(), Some(2), "{what}: {}", complaint(&output));
        assert!(complaint(&output).contains(words), "{what}: expected `{words}` in: {}", complaint(&output));
    }
}

#[test]
fn what_only_shows_at_run_time_is_explained_and_exits_with_1() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).display().to_string();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_address = taken.local_addr().unwrap().to_string();
    let free = ["--listen", "127.0.0.1:0", "--client", "127.0.0.1:0", "--admin", "127.0.0.1:0"];

    let output = run(&["start", "--data-dir", &path("a"), "--listen", "127.0.0.1:0", "--client", &taken_address, "--admin", "127.0.0.1:0"]);
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert!(complaint(&output).contains(&taken_address), "{}", complaint(&output));

    std::fs::write(path("file"), "not a directory").unwrap();
    let output = run(&[&["start", "--data-dir", &path("file")], free.as_slice()].concat());
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert!(complaint(&output).contains(&path("file")), "{}", complaint(&output));
}

#[test]
fn a_directory_in_use_or_of_another_node_or_cluster_is_refused() {
    let mut cluster = Processes::start(1);
    let data_dir = cluster.data_dir(1).display().to_string();
    let free = ["--listen", "127.0.0.1:0", "--client", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let output = run(&[&["start", "--data-dir", &data_dir], free.as_slice()].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint(&output).contains("lock") || complaint(&output).contains("in use"), "{}", complaint(&output));

    cluster.kill(1);
    for other in [["--id", "2", "--peer", "2=127.0.0.1:1"], ["--id", "1", "--peer", "1=127.0.0.1:1"]] {
        let cluster = if other[1] == "1" { "another" } else { "ukehi" };
        let start = ["start", "--no-encryption", "--data-dir", &data_dir, "--cluster", cluster, "--listen", "127.0.0.2:0"];
        let output = run(&[start.as_slice(), other.as_slice(), &free[2..]].concat());
        assert_eq!(output.status.code(), Some(1));
        assert!(complaint(&output).contains(&data_dir), "{}", complaint(&output));
    }
    cluster.restart(1);
    cluster.settled();
}

/// What is not meant for the port that gets it.
fn garbage() -> Vec<(&'static str, Vec<u8>)> {
    let noise = |seed: u64| (0..4096u64).map(|n| (n.wrapping_mul(seed) >> 7).to_le_bytes()[0]).collect::<Vec<u8>>();
    vec![
        ("noise", noise(0x9E37_79B9_7F4A_7C15)),
        ("a frame of 4 GiB", [0xFF; 64].to_vec()),
        ("a bulk string of 4 GiB", b"*2\r\n$4294967296\r\nx".to_vec()),
        ("an array of a billion", b"*1000000000\r\n".to_vec()),
        ("nested arrays", b"*1\r\n".repeat(10_000)),
        ("a TLS greeting", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3]),
        ("zeros", vec![0; 4096]),
    ]
}

/// Sends bytes and reads until the node closes, for a short while: it may also wait for more.
fn talk(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_millis(200))).expect("a time-out can be set");
    // The node may close before it has read everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(answer.len() < 1 << 20, "the answer to garbage is short");
}

#[test]
fn garbage_on_any_port_disturbs_nobody() {
    let cluster = Processes::start(3);
    let leader = cluster.leader();
    let term = cluster.node(leader).status().unwrap().term;
    let mut client = cluster.node(leader).connect();
    // Held open, silent, for the whole test.
    let silent: Vec<TcpStream> = (cluster.nodes().iter())
        .flat_map(|node| [node.listen, node.client, node.admin])
        .map(|address| TcpStream::connect(address).unwrap())
        .collect();
    for (round, (what, bytes)) in garbage().into_iter().enumerate() {
        for node in cluster.nodes() {
            for address in [node.listen, node.client, node.admin] {
                talk(address, &bytes);
                talk(address, &bytes[..bytes.len() / 2]);
            }
        }
        let _: () = client.set("round", round).unwrap_or_else(|error| panic!("after {what}: {error}"));
        assert_eq!(cluster.node(3).connect().get::<_, usize>("round").unwrap(), round, "after {what}");
    }
    let status = cluster.node(leader).status().unwrap();
    assert_eq!((status.role, status.term), (RoleView::Leader, term), "no election was needed");
    drop(silent);
}

#[test]
fn a_protocol_error_is_answered_and_ends_the_connection() {
    let cluster = Processes::start(1);
    let mut stream = TcpStream::connect(cluster.node(1).client).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"*1\r\n$x\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("the node closes the connection");
    assert_eq!(answer, "-ERR Protocol error: invalid bulk length\r\n");
}

#[test]
fn a_stranger_on_the_peer_port_is_counted() {
    let cluster = Processes::start(1);
    talk(cluster.node(1).listen, b"GET / HTTP/1.1\r\n\r\n");
    wait_until("the close is counted", || {
        let text = ureq::get(format!("http://{}/metrics", cluster.node(1).admin)).call().ok()?.body_mut().read_to_string().ok()?;
        let counted = |line: &str| line.starts_with("amaters_cluster_transport_closes_total{") && !line.ends_with(" 0");
        text.lines().any(counted).then_some(())
    });
}

#[test]
fn a_node_whose_journal_is_gone_is_not_started_as_a_blank_one() {
    let mut cluster = Processes::start(3);
    let _: () = cluster.node(1).connect().set("a", 1).unwrap();
    cluster.kill(2);
    std::fs::remove_dir_all(cluster.data_dir(2).join("wal")).unwrap();
    let arguments = cluster.arguments(2);
    let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
    assert!(complaint(&output).contains("holds no journal"), "{}", complaint(&output));
}
