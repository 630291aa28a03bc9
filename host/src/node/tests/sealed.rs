//! Nodes whose log is sealed.

use std::error::Error as _;

use amaters_cluster_core::KeyVersion;
use prometheus::Registry;

use super::*;
use crate::keys::{KeyFile, add_version, create_key_file};

const DIVERGENCES: &str = "amaters_cluster_divergences_total";

const SANDBOXED: fn(&Path, Config) -> RaftNodeBuilder = sandboxed;

fn keys(dir: &Path) -> PathBuf {
    let path = dir.join("log.keys");
    if !path.exists() {
        create_key_file(&path).expect("it is new");
    }
    path
}

fn never(id: u64, voters: &[u64]) -> Config {
    let mut config = config(id, voters, 1);
    config.snapshots.policy = SnapshotPolicy { entries: None, bytes: None };
    config
}

/// The sandbox and native code read each other's logs, so that they write the same.
#[test]
fn what_either_engine_has_sealed_the_other_one_opens_and_the_key_changes_in_both() {
    let dir = tempfile::tempdir().expect("a directory");
    let key_file = keys(dir.path());
    for (round, engine) in [SANDBOXED, builder, SANDBOXED, builder].into_iter().enumerate() {
        let round = u32::try_from(round).expect("small");
        let node = engine(dir.path(), never(1, &[1])).encryption("c", KeyFile::new(&key_file)).start().expect("it starts");
        assert_eq!(count(&node), i64::from(round) * 10, "what was there before");
        let status = node.status().expect("a status").encryption.expect("it seals");
        assert_eq!((status.version, status.missing), (KeyVersion(round + 1), None));
        write(&node, round * 10..round * 10 + 5);
        let (version, _) = add_version(&key_file).expect("ours");
        pollster::block_on(node.handle().rotate_key(None)).expect("the only voter holds it");
        let again = pollster::block_on(node.handle().rotate_key(Some(version))).expect_err("it is in use");
        assert!(matches!(again, RaftError::KeyVersionInUse), "{again}");
        let unknown = pollster::block_on(node.handle().rotate_key(Some(KeyVersion(99)))).expect_err("there is none");
        assert!(matches!(unknown, RaftError::Keys(_)), "{unknown}");
        write(&node, round * 10 + 5..round * 10 + 10);
        node.shutdown().expect("it ends well");
    }
    for file in files(&dir.path().join("wal"), ".wal") {
        let bytes = fs::read(file).expect("ours");
        assert!(!bytes.windows(8).any(|window| window == b"vvvvvvvv"), "no value is there in plain");
    }
}

#[test]
fn a_start_without_the_keys_or_with_another_clusters_name_is_refused_in_words() {
    let dir = tempfile::tempdir().expect("a directory");
    let key_file = keys(dir.path());
    for engine in [SANDBOXED, builder] {
        let start = |cluster: &str, key_file: &Path| engine(dir.path(), never(1, &[1])).encryption(cluster, KeyFile::new(key_file)).start();
        let node = start("c", &key_file).expect("it starts");
        write(&node, 0..3);
        node.shutdown().expect("it ends well");
        let refused = |cluster: &str, key_file: &Path| {
            let error = start(cluster, key_file).expect_err("refused");
            format!("{error}: {}", error.source().expect("a cause"))
        };
        assert!(refused("d", &key_file).contains("are not what the holders of the key have written there"));
        let other = tempfile::tempdir().expect("a directory");
        assert!(refused("c", &keys(other.path())).contains("First compare the fingerprints"));
    }
    let unsealed = builder(dir.path(), never(1, &[1])).start().expect_err("it is sealed");
    assert!(unsealed.source().is_some_and(|cause| cause.to_string().contains("sealed entries came where unsealed ones")), "{unsealed:?}");
}

/// Two clusters of one with the same keys and name have each written an entry of their own in the same place. Then they meet.
#[test]
fn a_node_whose_log_differs_from_its_leaders_ends_with_an_alarm_and_drops_nothing() {
    for engine in [SANDBOXED, builder] {
        let dirs = [1, 2].map(|_| tempfile::tempdir().expect("a directory"));
        let key_file = keys(dirs[0].path());
        let node = |id: usize, voters: &[u64], network: &MemoryNetwork, registry: &Registry| {
            let config = never(id as u64, voters);
            let builder = engine(dirs[id - 1].path(), config).encryption("c", KeyFile::new(&key_file)).metrics(registry);
            builder.start_with(|inlet| Ok(network.join(NodeId(id as u64), inlet))).expect("it starts")
        };
        for id in [1, 2] {
            let alone = node(id, &[id as u64], &MemoryNetwork::default(), &Registry::new());
            let number = u32::try_from(id).expect("small") * 100;
            write(&alone, number..number + 1);
            alone.shutdown().expect("it ends well");
        }
        let (network, registries) = (MemoryNetwork::default(), [Registry::new(), Registry::new()]);
        let both = [1, 2].map(|id| node(id, &[1, 2], &network, &registries[id - 1]));
        let end = Instant::now() + Duration::from_secs(20);
        while !both.iter().any(|node| *node.ended().borrow()) {
            assert!(Instant::now() < end, "neither has noticed in 20 s");
            std::thread::sleep(Duration::from_millis(5));
        }
        let alarms: f64 = registries
            .iter()
            .flat_map(Registry::gather)
            .filter(|family| family.name() == DIVERGENCES)
            .map(|family| family.get_metric()[0].get_counter().get_value())
            .sum();
        let [one, two] = both.map(RaftNode::shutdown);
        let errors: Vec<_> = [one, two].into_iter().filter_map(Result::err).collect();
        let said = errors.iter().filter_map(|error| error.source()).map(ToString::to_string).collect::<String>();
        assert!(said.contains("logs differ at entry") && said.contains("This node has ended, and nothing was cut"), "{errors:?}");
        assert!(alarms >= 1.0, "the alarm is counted");
        for id in [1, 2] {
            let alone = node(id, &[id as u64], &MemoryNetwork::default(), &Registry::new());
            assert_eq!(count(&alone), 1, "what each has is still there");
        }
    }
}
