//! What a stolen disk, a backup or a crash tells.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use amaters_cluster_tests::process::{Processes, said, ukehi, wait_until};
use redis::Commands;
use rustix::process::{Pid, Signal, kill_process};

const MARKER: &str = "a-secret-that-is-nowhere-else";

#[test]
fn what_clients_write_is_found_in_no_file_unless_encryption_is_off() {
    for (flags, found) in [(None, false), (Some(["--no-encryption"]), true)] {
        let mut cluster = Processes::prepare(3, &["--snapshot-every-entries", "100"]);
        flags.iter().for_each(|flags| cluster.set_encryption(flags));
        (1..=3).for_each(|id| cluster.restart(id));
        let mut client = cluster.node(cluster.leader()).connect();
        for n in 0..300 {
            let () = client.set(format!("{MARKER}-key-{n}"), format!("{MARKER}-value-{n}")).expect("acknowledged");
        }
        wait_until("all nodes have a snapshot", || {
            cluster.nodes().iter().all(|node| node.status().is_some_and(|status| status.snapshot.is_some())).then_some(())
        });
        let directory = cluster.key_file().parent().expect("it is in a directory").to_owned();
        let admin = cluster.node(1).admin.to_string();
        let (done, words) = said(ukehi().args(["backup", "--admin", &admin, "--to"]).arg(directory.join("backup")));
        assert!(done, "{words}");
        // What is written ahead, and how a node is left that is killed.
        cluster.kill(1);
        for id in [2, 3] {
            cluster.stop(id);
        }
        let with_marker: Vec<_> = files_below(&directory).into_iter().filter(|file| holds(file, MARKER)).collect();
        assert_eq!(!with_marker.is_empty(), found, "{with_marker:?}");
        if found {
            let kinds = ["wal", "snap"].map(|kind| with_marker.iter().any(|file| file.extension().is_some_and(|it| it == kind)));
            assert!(
                kinds == [true; 2] && with_marker.contains(&directory.join("backup")),
                "the search sees all kinds of files: {with_marker:?}"
            );
        }
    }
}

#[test]
fn a_node_leaves_no_core_file() {
    let one = Processes::prepare(1, &[]);
    let directory = one.key_file().parent().expect("it is in a directory").to_owned();
    // A program that holds no keys: where this machine writes no core files at all, what follows shows nothing.
    let mut other = with_core_files(&directory, "sleep".as_ref(), &["60".to_owned()]).spawn().expect("it starts");
    abort(&other);
    let others_do = other.wait().expect("it ends").core_dumped();

    let mut node = with_core_files(&directory, ukehi().get_program(), &one.arguments(1)).spawn().expect("it starts");
    one.leader();
    abort(&node);
    let ended = node.wait().expect("it ends");
    assert_eq!((ended.signal(), ended.core_dumped()), (Some(Signal::ABORT.as_raw()), false), "another program leaves one: {others_do}");
}

fn with_core_files(directory: &Path, program: &std::ffi::OsStr, arguments: &[String]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -c unlimited && exec \"$0\" \"$@\""]).arg(program).args(arguments);
    command.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

/// The shell has become the program by the time that it says what it is.
fn abort(child: &std::process::Child) {
    let name = format!("/proc/{}/comm", child.id());
    wait_until("the program runs", || fs::read_to_string(&name).ok().filter(|name| name.trim() != "sh"));
    kill_process(Pid::from_child(child), Signal::ABORT).expect("ours");
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).expect("it can be read").map(|entry| entry.expect("it can be read").path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

fn holds(file: &Path, words: &str) -> bool {
    let bytes = fs::read(file).expect("it can be read");
    bytes.windows(words.len()).any(|window| window == words.as_bytes())
}
