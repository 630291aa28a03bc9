//! What comes of flags, variables and files, right ones and wrong ones.

use std::io::Write as _;

use amaters_cluster_core::HeartbeatConfig;
use clap::Parser;

use super::*;
use crate::cli::key::KeyOrigin;
use crate::keys::KeyCommand;

#[derive(Parser)]
struct Start {
    #[command(flatten)]
    args: StartArgs,
}

const PEERS: &str = "--peer 1=127.0.0.1:7101 --peer 2=127.0.0.1:7102 --peer 3=127.0.0.1:7103";

/// With nothing that these tests are not about.
const THREE: &str = "--no-encryption --peer 1=127.0.0.1:7101 --peer 2=127.0.0.1:7102 --peer 3=127.0.0.1:7103";

/// Resolves a command line, `NAME=VALUE` variables one a line, and the text of a file; the file's name in an error is `ukehi.toml`.
fn resolve(flags: &str, variables: &str, file: &str) -> Result<StartOptions, String> {
    let mut config = tempfile::NamedTempFile::new().expect("a file");
    config.write_all(file.as_bytes()).expect("written");
    let path = config.path().to_str().expect("its name is text");
    let mut words = vec!["start"];
    words.extend(flags.split_whitespace());
    if !file.is_empty() {
        words.extend(["--config", path]);
    }
    let args = Start::try_parse_from(words).map_err(|error| error.to_string())?.args;
    let variable = |name: &str| {
        variables.lines().filter_map(|line| line.trim().split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    args.resolve(&variable).map_err(|error| error.to_string().replace(path, "ukehi.toml"))
}

#[test]
fn one_node_alone_needs_a_directory_and_nothing_else() {
    let options = resolve("--data-dir d", "", "").expect("valid");
    assert_eq!(options.id, NodeId(1));
    assert_eq!(options.cluster, "ukehi");
    assert_eq!(options.data_dir, PathBuf::from("d"));
    assert_eq!(options.listen.to_string(), "127.0.0.1:7101");
    assert_eq!(options.client.to_string(), "127.0.0.1:6391");
    assert_eq!(options.admin.to_string(), "127.0.0.1:8091");
    assert_eq!(options.peers, BTreeMap::from([(NodeId(1), "127.0.0.1:7101".to_owned())]));
    assert_eq!(options.core, Config { addresses: options.peers.clone(), ..Config::new(1, vec![1]) });
    assert_eq!((options.engine, options.log_format, options.log_filter.as_str()), (EngineChoice::Wasm, LogFormat::Human, "info"));
    assert_eq!((options.memory_limit, options.segment_size), (2 << 30, 32 << 20));
    assert_eq!((options.max_clients, options.client_idle_timeout), (10_000, Duration::from_secs(1800)));
    assert!(!options.insecure);
}

#[test]
fn the_documented_command_line_of_three_nodes_is_taken() {
    let flags = "--id 2 --data-dir d --listen 127.0.0.1:7102 --client 127.0.0.1:6392 --admin 127.0.0.1:8092 --log-format json ";
    let options = resolve(&(flags.to_owned() + THREE), "", "").expect("valid");
    assert_eq!(options.id, NodeId(2));
    assert_eq!(options.core.voters, [NodeId(1), NodeId(2), NodeId(3)]);
    assert_eq!(options.peers[&NodeId(3)], "127.0.0.1:7103");
    assert_eq!(options.listen.port(), 7102);
    assert_eq!(options.log_format, LogFormat::Json);
}

#[test]
fn every_option_can_stand_in_the_file() {
    let options = resolve(
        "",
        "",
        r#"
            id = 2
            data-dir = "d"
            listen = "0.0.0.0:7102"
            client = "[::1]:6392"
            admin = "127.0.0.1:8092"
            key-file = "/etc/ukehi/log.keys"
            cluster = "blue.1"
            insecure = true
            log-format = "json"
            log-level = "info,amaters_cluster=debug"
            election-timeout-min = "400ms"
            election-timeout-max = "1s"
            heartbeat-interval = "100ms"
            lease-reads = true
            max-clock-drift = "20%"
            disk-stall-timeout = "2s"
            failure-threshold = 12
            failure-pause = "1s"
            failure-min-deviation = "20ms"
            failure-window = 100
            memory-limit = "256MiB"
            segment-size = "8MiB"
            max-clients = 10
            client-idle-timeout = "1h"
            engine = "native"
            aes = "sandbox"
            [peers]
            1 = "node-1.example:7101"
            2 = "10.0.0.2:7102"
            3 = "[fd00::3]:7103"
        "#,
    )
    .expect("valid");
    assert_eq!(options.id, NodeId(2));
    assert_eq!(options.listen.to_string(), "0.0.0.0:7102");
    assert_eq!(options.client.to_string(), "[::1]:6392");
    assert_eq!(options.cluster, "blue.1");
    assert_eq!(options.encryption, EncryptionChoice::Keys(KeyOrigin::File("/etc/ukehi/log.keys".into())));
    assert_eq!(options.peers.values().collect::<Vec<_>>(), ["node-1.example:7101", "10.0.0.2:7102", "[fd00::3]:7103"]);
    assert_eq!(options.core.election_timeout_min, Duration::from_millis(400));
    assert_eq!(options.core.election_timeout_max, Duration::from_secs(1));
    assert_eq!(options.core.heartbeat_interval, Duration::from_millis(100));
    assert_eq!((options.core.lease_reads, options.core.max_clock_drift), (true, 20));
    assert_eq!(options.core.disk_stall_timeout, Duration::from_secs(2));
    let (acceptable_pause, min_deviation) = (Duration::from_secs(1), Duration::from_millis(20));
    assert_eq!(options.core.failure, HeartbeatConfig { threshold: 12, acceptable_pause, min_deviation, window: 100 });
    assert_eq!(options.core.max_log_bytes, 128 << 20);
    assert_eq!(options.core.max_pending_bytes, 32 << 20);
    assert_eq!((options.memory_limit, options.segment_size, options.max_clients), (256 << 20, 8 << 20, 10));
    assert_eq!(options.client_idle_timeout, Duration::from_secs(3600));
    assert_eq!((options.engine, options.aes_in_sandbox, options.log_format), (EngineChoice::Native, true, LogFormat::Json));
    assert_eq!(options.log_filter, "info,amaters_cluster=debug");
    assert!(options.insecure);
}

/// The file has a key for each flag, so that the test above can't fall behind.
#[test]
fn the_file_knows_every_flag() {
    let said = resolve("", "", "nonsense = 1").expect_err("unknown");
    let known = "id, data-dir, listen, client, admin, peers, join, advertise, key-file, key-env, key-command, key-credential, no-encryption, cluster, \
                 insecure, log-format, log-level, election-timeout-min, \
                 election-timeout-max, heartbeat-interval, lease-reads, max-clock-drift, disk-stall-timeout, failure-threshold, failure-pause, \
                 failure-min-deviation, failure-window, memory-limit, snapshot-every-bytes, snapshot-every-entries, snapshots-kept, segment-size, \
                 on-corruption, max-clients, client-idle-timeout, aes";
    assert_eq!(said, format!("nonsense is not an option (ukehi.toml:1): known are {known}"));
}

#[test]
fn a_flag_goes_before_a_variable_and_a_variable_before_the_file() {
    let file = "cluster = \"file\"\n[peers]\n1 = \"h:1\"";
    let variables =
        "UKEHI_CLUSTER=variable\nUKEHI_PEER=1=127.0.0.1:71,2=127.0.0.1:72\nUKEHI_DATA_DIR=d\nUKEHI_ID=1\nUKEHI_NO_ENCRYPTION=true";
    let cluster = |flags: &str, variables: &str, file: &str| resolve(flags, variables, file).expect("valid").cluster;
    assert_eq!(cluster("--cluster flag", variables, file), "flag");
    assert_eq!(cluster("", variables, file), "variable");
    assert_eq!(cluster("--data-dir d --id 1 --listen 127.0.0.1:1", "", file), "file");
    assert_eq!(cluster("--data-dir d", "UKEHI_CLUSTER=", ""), "ukehi");

    let peers = |flags: &str| resolve(flags, variables, file).expect("valid").core.voters;
    assert_eq!(peers(""), [NodeId(1), NodeId(2)]);
    assert_eq!(peers("--peer 1=127.0.0.1:71"), [NodeId(1)]);
}

#[test]
fn a_switch_can_be_a_variable_too() {
    let open = "--data-dir d --client 0.0.0.0:6391";
    assert!(resolve(open, "UKEHI_INSECURE=true", "").expect("valid").insecure);
    assert!(resolve(open, "UKEHI_INSECURE=1", "").expect("valid").insecure);
    assert!(resolve(open, "UKEHI_INSECURE=false", "").is_err());
}

#[test]
fn a_node_listens_where_its_peers_look_for_it() {
    let listen = |flags: &str| resolve(&format!("--data-dir d --id 1 {flags}"), "", "").expect("valid").listen.to_string();
    assert_eq!(listen("--peer 1=127.0.0.1:9000"), "127.0.0.1:9000");
    // Another address is a matter of networks; see `wrong_members_are_refused` for another port.
    assert_eq!(listen("--peer 1=10.0.0.1:9000 --listen 127.0.0.1:9001"), "127.0.0.1:9001");
    assert_eq!(listen("--peer 1=node:9000 --listen 127.0.0.1:9000"), "127.0.0.1:9000");
}

#[test]
fn what_is_not_said_follows_from_the_shortest_election_timeout() {
    let core = resolve("--data-dir d --election-timeout-min 3s", "", "").expect("valid").core;
    assert_eq!(core.election_timeout_max, Duration::from_secs(6));
    assert_eq!(core.heartbeat_interval, Duration::from_secs(1));
    assert_eq!(core.request_timeout, Duration::from_secs(6));
}

fn assert_refused(rows: impl IntoIterator<Item = (impl AsRef<str>, impl AsRef<str>)>) {
    for (flags, said) in rows {
        assert_eq!(resolve(flags.as_ref(), "", "").expect_err(flags.as_ref()), said.as_ref(), "{}", flags.as_ref());
    }
}

#[test]
fn wrong_members_are_refused() {
    let d = "--data-dir d ";
    let id_1 = "--data-dir d --id 1 ";
    let peer = "expected ID=HOST:PORT with an id from 1 and a port from 1, such as 2=10.0.0.2:7101";
    let eight = (1..=8).map(|id| format!("--peer {id}=h:{id} ")).collect::<String>();
    assert_refused([
        (&String::new(), "data-dir is missing: expected a directory for the node's data (--data-dir DIR)".to_owned()),
        (&format!("{d} --id 0"), "id is \"0\" (--id): expected a number from 1".to_owned()),
        (&format!("{d} --id +1"), "id is \"+1\" (--id): expected a number from 1".to_owned()),
        (&format!("{d} --id one"), "id is \"one\" (--id): expected a number from 1".to_owned()),
        (
            &format!("{d} --id 2"),
            "id is 2 (--id): expected 1 where there is no --peer; or a --peer for each node of the cluster, this one too".to_owned(),
        ),
        (&format!("{d} {THREE}"), "id is missing: expected which of the peers this node is (--id), one of 1, 2, 3".to_owned()),
        (
            &format!("{d} --id 4 {THREE}"),
            "id is 4 (--id): expected one of the peers' ids (1, 2, 3), or a --peer 4=HOST:PORT for this node too".to_owned(),
        ),
        (&format!("{id_1} --peer 1"), format!("peer is \"1\" (--peer): {peer}")),
        (&format!("{id_1} --peer 1=127.0.0.1"), format!("peer is 1=127.0.0.1 (--peer): {peer}")),
        (&format!("{id_1} --peer 1=127.0.0.1:0"), format!("peer is 1=127.0.0.1:0 (--peer): {peer}")),
        (&format!("{id_1} --peer 1=127.0.0.256:1"), format!("peer is 1=127.0.0.256:1 (--peer): {peer}")),
        (&format!("{id_1} --peer 1=h:65536"), format!("peer is 1=h:65536 (--peer): {peer}")),
        (&format!("{id_1} --peer 1=:7101"), format!("peer is 1=:7101 (--peer): {peer}")),
        (&format!("{id_1} --peer 1=fd00::1:7101"), format!("peer is 1=fd00::1:7101 (--peer): {peer}")),
        (&format!("{id_1} --peer 0=h:1"), format!("peer is 0=h:1 (--peer): {peer}")),
        (&format!("{id_1} --peer x=h:1"), format!("peer is x=h:1 (--peer): {peer}")),
        (
            &format!("{id_1} --peer 1=h:1 --peer 1=h:2"),
            "peer is 1=h:2 (--peer): expected each id once; node 1 is at h:1 already".to_owned(),
        ),
        (
            &format!("{id_1} --peer 1=h:1 --peer 2=h:1"),
            "peer is 2=h:1 (--peer): expected each address once; node 1 is there already".to_owned(),
        ),
        (&format!("{id_1} {eight}"), "peer is 8=h:8 (--peer): expected at most 7 peers, this node among them".to_owned()),
        (
            &format!("{id_1} --peer 1=h:1"),
            "listen is missing: expected an IP address of this machine to listen at, since h:1 names a host (such as --listen 0.0.0.0:7101 \
             --insecure)"
                .to_owned(),
        ),
        (
            &format!("{id_1} --listen 127.0.0.1:7109 {THREE}"),
            "listen is 127.0.0.1:7109 (--listen): expected 127.0.0.1:7101, where the other nodes will look for this one (1 of --peer)".to_owned(),
        ),
    ]);
}

#[test]
fn wrong_values_are_refused() {
    let d = "--data-dir d ";
    let size = "expected a size of 64MiB to 4GiB, such as 512MiB";
    assert_refused([
        (&format!("{d} --client 7101"), "client is \"7101\" (--client): expected IP:PORT, such as 127.0.0.1:7101".to_owned()),
        (
            &format!("{d} --admin 127.0.0.1:6391"),
            "admin is 127.0.0.1:6391 (--admin): expected another address than that of client".to_owned(),
        ),
        (&format!("{d} --memory-limit 1MiB"), format!("memory-limit is \"1MiB\" (--memory-limit): {size}")),
        (&format!("{d} --memory-limit 5GiB"), format!("memory-limit is \"5GiB\" (--memory-limit): {size}")),
        (&format!("{d} --memory-limit lots"), format!("memory-limit is \"lots\" (--memory-limit): {size}")),
        (
            &format!("{d} --segment-size 1"),
            "segment-size is \"1\" (--segment-size): expected a size of 4MiB to 1GiB, such as 32MiB".to_owned(),
        ),
        (&format!("{d} --max-clients 0"), "max-clients is \"0\" (--max-clients): expected 1 to 1000000".to_owned()),
        (
            &format!("{d} --client-idle-timeout 5"),
            "client-idle-timeout is \"5\" (--client-idle-timeout): expected a time, such as 150ms or 2s".to_owned(),
        ),
        (
            &format!("{d} --heartbeat-interval 100ms"),
            "election-timeout-min is 150 ms (the default): expected at least twice heartbeat-interval (100 ms)".to_owned(),
        ),
        (
            &format!("{d} --election-timeout-max 150ms"),
            "election-timeout-max is 150 ms (--election-timeout-max): expected more than election-timeout-min (150 ms), at most 60000 ms"
                .to_owned(),
        ),
        (
            &format!("{d} --max-clock-drift 0.1"),
            "max-clock-drift is \"0.1\" (--max-clock-drift): expected a whole number of percent, such as 10%".to_owned(),
        ),
        (&format!("{d} --max-clock-drift 0"), "max-clock-drift is 0 % (--max-clock-drift): expected 1 to 100 %".to_owned()),
        (
            &format!("{d} --disk-stall-timeout 2m"),
            "disk-stall-timeout is 120000 ms (--disk-stall-timeout): expected 10 ms to 60000 ms".to_owned(),
        ),
        (&format!("{d} --failure-threshold 31"), "failure-threshold is \"31\" (--failure-threshold): expected 1 to 30".to_owned()),
        (
            &format!("{d} --failure-pause 61s"),
            "failure-pause is \"61s\" (--failure-pause): expected 0 to 60s in whole milliseconds, such as 400ms".to_owned(),
        ),
        (
            &format!("{d} --failure-min-deviation 0s"),
            "failure-min-deviation is \"0s\" (--failure-min-deviation): expected 1ms to 60s in whole milliseconds, such as 100ms"
                .to_owned(),
        ),
        (&format!("{d} --failure-window 0"), "failure-window is \"0\" (--failure-window): expected 1 to 1000".to_owned()),
        (&format!("{d} --log-format xml"), "log-format is \"xml\" (--log-format): expected human or json".to_owned()),
        (
            &format!("{d} --log-level inof"),
            "log-level is \"inof\" (--log-level): expected off, error, warn, info, debug, trace, or filter directives such as \
             info,amaters_cluster=debug"
                .to_owned(),
        ),
        (&format!("{d} --cluster a/b"), "cluster is \"a/b\" (--cluster): expected 1 to 64 letters, digits, '.', '_' or '-'".to_owned()),
        (&format!("{d} --engine jit"), "engine is \"jit\" (--engine): expected wasm or native".to_owned()),
        (&format!("{d} --config /no/such.toml"), "config is /no/such.toml (--config): the file can't be read".to_owned()),
    ]);
}

#[test]
fn listening_beyond_loopback_is_refused_on_each_port() {
    let own = "--id 1 --no-encryption --peer 1=10.0.0.1:7101 --peer 2=10.0.0.2:7101";
    for (flags, key, at, origin) in [
        ("--listen 0.0.0.0:7101", "listen", "0.0.0.0:7101", "--listen"),
        ("--client [::]:6391", "client", "[::]:6391", "--client"),
        ("--admin 192.168.1.1:8091", "admin", "192.168.1.1:8091", "--admin"),
        (own, "listen", "10.0.0.1:7101", "--peer"),
    ] {
        let flags = format!("--data-dir d {flags}");
        let said = resolve(&flags, "", "").expect_err("refused");
        assert!(said.starts_with(&format!("{key} is {at} ({origin}): expected a loopback address: there is no TLS")), "{said}");
        assert!(said.contains("--insecure allows it"), "{said}");
        resolve(&format!("{flags} --insecure"), "", "").expect("allowed");
    }
    resolve("--data-dir d --client [::ffff:127.0.0.1]:6391", "", "").expect("this is loopback");
}

#[test]
fn a_wrong_value_is_found_where_it_stands() {
    let d = "--data-dir d";
    for (variables, file, said) in [
        ("UKEHI_ID=x", "", "id is \"x\" (UKEHI_ID): expected a number from 1"),
        ("UKEHI_INSECURE=yes", "", "insecure is \"yes\" (UKEHI_INSECURE): expected true or false"),
        (
            "UKEHI_PEER=1=h:1,",
            "",
            "peer is \"\" (UKEHI_PEER): expected ID=HOST:PORT with an id from 1 and a port from 1, such as 2=10.0.0.2:7101",
        ),
        ("", "\n\nmax-clients = -1", "max-clients is \"-1\" (ukehi.toml:3): expected 1 to 1000000"),
        ("", "# a\nid = [1]", "id is of the kind array (ukehi.toml:2): expected a string, a whole number, true or false"),
        ("", "peers = 3", "peers is of the kind integer (ukehi.toml:1): expected a table: [peers] 1 = \"HOST:PORT\""),
        (
            "",
            "[peers]\n1 = \"h:1\"\n2 = 7",
            "peer is 2=7 (ukehi.toml:3): expected ID=HOST:PORT with an id from 1 and a port from 1, such as 2=10.0.0.2:7101",
        ),
        ("", "[peers]\n1 = \"h:1\"\n1 = \"h:2\"", "ukehi.toml:3: duplicate key"),
        ("", "id = 1\nid 2", "ukehi.toml:2: key with no value, expected `=`"),
    ] {
        assert_eq!(resolve(d, variables, file).expect_err("refused"), said, "{variables}{file}");
    }
}

#[test]
fn a_cluster_of_one_has_keys_of_its_own_and_others_name_theirs_or_do_without() {
    let choice =
        |flags: &str, variables: &str, file: &str| resolve(&format!("--data-dir d {flags}"), variables, file).map(|it| it.encryption);
    assert_eq!(choice("", "", ""), Ok(EncryptionChoice::OwnKeys));
    assert_eq!(choice("--id 1 --peer 1=127.0.0.1:7101", "", ""), Ok(EncryptionChoice::OwnKeys), "alone, however that is said");
    let keys = |origin| Ok(EncryptionChoice::Keys(origin));
    let three = format!("--id 1 {PEERS}");
    assert_eq!(choice(&format!("{three} --key-file k"), "", ""), keys(KeyOrigin::File("k".into())));
    assert_eq!(choice(&format!("{three} --key-env K"), "", ""), keys(KeyOrigin::Variable("K".into())));
    assert_eq!(choice(&format!("{three} --key-credential k"), "", ""), keys(KeyOrigin::Credential("k".into())));
    let command = KeyCommand::from_line("vault read").expect("words");
    assert_eq!(choice(&three, "UKEHI_KEY_COMMAND=vault read", ""), keys(KeyOrigin::Command(command)));
    assert_eq!(choice(&format!("{three} --no-encryption"), "", ""), Ok(EncryptionChoice::Off));
    for joins in [&*three, "--id 4 --join 127.0.0.1:8091"] {
        assert_eq!(choice(joins, "", ""), Err("this node is to encrypt its log, and no key was named".to_owned()), "{joins}");
    }
}

#[test]
fn one_place_says_where_the_keys_are_and_it_says_one_thing() {
    let choice =
        |flags: &str, variables: &str, file: &str| resolve(&format!("--data-dir d {flags}"), variables, file).map(|it| it.encryption);
    let file = "key-file = \"k\"\n";
    assert_eq!(choice("", "", file), Ok(EncryptionChoice::Keys(KeyOrigin::File("k".into()))));
    assert_eq!(choice("--no-encryption", "", file), Ok(EncryptionChoice::Off), "a flag replaces what the file says");
    assert_eq!(choice("", "UKEHI_NO_ENCRYPTION=true", file), Ok(EncryptionChoice::Off));
    assert_eq!(choice("", "", "key-file = \"k\"\nno-encryption = false\n"), Ok(EncryptionChoice::Keys(KeyOrigin::File("k".into()))));
    let error = choice("", "", "key-file = \"k\"\nno-encryption = true\n").expect_err("two things");
    assert_eq!(error, "no-encryption is true (ukehi.toml:2): expected one source of keys, and ukehi.toml:1 names another already");
    let error = choice("", "UKEHI_KEY_ENV=K\nUKEHI_KEY_FILE=k", "").expect_err("two things");
    assert_eq!(error, "key-env is K (UKEHI_KEY_ENV): expected one source of keys, and UKEHI_KEY_FILE names another already");
    assert!(choice("--key-file k --key-env K", "", "").expect_err("two flags").contains("cannot be used with"));
    assert_eq!(
        choice("--key-command=", "", "").expect_err("no words"),
        "key-command is \"\" (--key-command): expected a program, and its arguments if it takes any"
    );
}
