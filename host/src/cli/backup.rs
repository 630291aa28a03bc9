//! `ukehi backup` and `ukehi restore`: a cluster's state in a file, and a new cluster from it.
//!
//! A backup is a snapshot, byte for byte: the state as of one entry of the log, with checksums in every part. A restored node is not the one that the backup
//! came from, and must not find its way back to those that it knew: the copy that it begins with names it as the only member.
#![allow(clippy::print_stdout, reason = "the command's output")]

use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use amaters_cluster_core::{Effect, EntryId, Input, KeyVersion, LogIndex, Member, NewCluster, Node, NodeId, Operation, Term};
use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use ureq::Agent;

use super::Advice;
use super::key::KeySource;
use super::opener::{Opener, reading_config};
use super::options::cluster_name;
use super::snapshot::Check;
use super::status::{in_words, reason};
use crate::admin::{SnapshotView, StatusView};
use crate::data_dir::{DataDir, Identity};
use crate::repair::write_journal;
use crate::snapshots::NewSnapshot;
use crate::wal::WalOptions;
use crate::wal::disk::{create_dir, sync_dir};

/// How long an answer may take: that for a snapshot comes within 8 s, whether it is taken by then or not.
const ANSWER: Duration = Duration::from_secs(15);

/// The longest part of a snapshot in an answer, in bytes.
const PART_LIMIT: u64 = 4 << 20;

/// How much of a file is read at once.
const PIECE_BYTES: usize = 1 << 20;

/// How long the node may take over a snapshot.
const PATIENCE: Duration = Duration::from_secs(3600);

/// The wait before the node is asked again.
const PAUSE: Duration = Duration::from_millis(200);

/// How often a snapshot may be let go of, for newer ones, before all of it was fetched.
const ATTEMPTS: usize = 3;

/// What is backed up, and where to.
#[derive(Debug, Args)]
pub struct BackupOptions {
    /// The file: one that exists is never overwritten
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// The admin address of a node of the cluster; the leader's has the latest state
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8091")]
    admin: String,
}

/// What is restored, and as what.
#[derive(Debug, Args)]
pub struct RestoreOptions {
    /// The backup
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The new node's data directory: one that is empty, or not there yet
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The new cluster's name: one of its own keeps nodes of the old cluster away, should they still run
    #[arg(long, value_name = "NAME", default_value = "ukehi", value_parser = cluster_name)]
    cluster: String,
    /// The new node's number
    #[arg(long, value_name = "ID", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    id: u64,
    /// The keys of the cluster that was backed up, which the new one goes on with; for a backup that is not encrypted, those of the new one.
    #[command(flatten)]
    keys: KeySource,
    /// The name of the cluster that was backed up, of an encrypted backup [default: that of the new one]
    #[arg(long, value_name = "NAME", value_parser = cluster_name)]
    from_cluster: Option<String>,
    /// Takes a backup that is not encrypted, though keys are named: nothing proves what is in it, and the new cluster has it as its own
    #[arg(long, conflicts_with = "from_cluster")]
    from_unencrypted: bool,
    /// Where nodes that join later reach this one [default: they learn it when this one reaches them]
    #[arg(long, value_name = "HOST:PORT", default_value = "", hide_default_value = true)]
    advertise: String,
}

/// Writes a backup of a running cluster.
///
/// # Errors
/// The node can't be reached or takes no snapshot, what it sends is damaged, or the file exists or can't be written.
pub fn backup(options: &BackupOptions) -> Result<ExitCode> {
    let BackupOptions { to, admin } = options;
    if to.exists() {
        bail!("{} exists, and is not overwritten", to.display());
    }
    let parent = parent_of(to);
    let source = Source::new(admin);
    for _ in 0..ATTEMPTS {
        let snapshot = source.take_snapshot()?;
        let mut file = tempfile::Builder::new().prefix(".ukehi-backup-").tempfile_in(parent).with_context(|| cannot_write(to))?;
        if !source.fetch(snapshot, file.as_file_mut()).with_context(|| cannot_write(to))? {
            continue;
        }
        file.as_file().sync_all().with_context(|| cannot_write(to))?;
        file.persist_noclobber(to).map_err(|error| error.error).with_context(|| cannot_write(to))?;
        sync_dir(parent).with_context(|| cannot_write(to))?;
        let SnapshotView { index, term, bytes } = snapshot;
        println!("{}: the state up to entry {index} of term {term}, {bytes} bytes", to.display());
        return Ok(ExitCode::SUCCESS);
    }
    Err(anyhow!("the node at {admin} let go of {ATTEMPTS} snapshots before they were fetched: it takes new ones faster than that")
        .context(Advice("have it keep more of them (--snapshots-kept of its start)")))
}

fn cannot_write(to: &Path) -> String {
    format!("the backup {} was not written", to.display())
}

/// Makes the data directory of a new cluster of one. All of the backup is checked before anything is written.
///
/// # Errors
/// The backup is damaged or can't be read, or not encrypted where that was to be expected; or the directory is not empty or can't be written.
pub fn restore(options: &RestoreOptions) -> Result<ExitCode> {
    let RestoreOptions { from, data_dir, .. } = options;
    let ciphers = Ciphers::new(options)?;
    let Checked { last, sealed } = check(from, &ciphers).with_context(|| format!("{} is no whole backup", from.display()))?;
    if sealed.is_none() {
        options.may_be_unencrypted(ciphers.copy.is_some())?;
    }
    if fs::read_dir(data_dir).is_ok_and(|mut names| names.next().is_some()) {
        bail!("{} is not empty: a backup is restored into a directory of its own", data_dir.display());
    }
    // Whole or not at all: half a directory would look like a node's that has lost something.
    let half = half_of(data_dir);
    if half.exists() {
        bail!("{} is left from a restore that did not end: remove it", half.display());
    }
    let parent = parent_of(data_dir);
    create_dir(parent).with_context(|| format!("can't create {}", parent.display()))?;
    if let Err(error) = fill(&half, options, &ciphers, Checked { last, sealed }) {
        let _ = fs::remove_dir_all(&half); // the next restore says that it is there
        return Err(error);
    }
    fs::rename(&half, data_dir).and_then(|()| sync_dir(parent)).with_context(|| format!("can't give {} its name", data_dir.display()))?;
    match sealed {
        Some(version) => println!("{}: encrypted with version {version} of the key, and what its holders wrote", from.display()),
        None => println!("{}: not encrypted, so that nothing proves what is in it", from.display()),
    }
    println!(
        "{}: a new cluster '{}' of node {}, with the state up to entry {} of term {}. Start it with `ukehi start` and {}; others join it with --join",
        data_dir.display(),
        options.cluster,
        options.id,
        last.index,
        last.term,
        if ciphers.copy.is_some() { "the same keys" } else { "--no-encryption" }
    );
    Ok(ExitCode::SUCCESS)
}

impl RestoreOptions {
    /// Where the cluster seals, its backups do: one that does not may have been put in the place of one of them by somebody who has no key, and would be sealed as the new cluster's own.
    fn may_be_unencrypted(&self, has_keys: bool) -> Result<()> {
        let from = self.from.display();
        if self.from_cluster.is_some() {
            return Err(anyhow!("{from} is not encrypted, and so does not show which cluster it is from")
                .context(Advice("look for who put it there; if it is the right one, leave --from-cluster out")));
        }
        if has_keys && !self.from_unencrypted {
            return Err(anyhow!("{from} is not encrypted: nothing proves that it is a backup, and not what somebody has put in its place")
                .context(Advice(
                    "only if the cluster that was backed up had no encryption, say so with --from-unencrypted: the new one encrypts",
                )));
        }
        Ok(())
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn half_of(data_dir: &Path) -> PathBuf {
    // A path such as `d/` or `d/.` names d as well.
    let mut name = data_dir.components().as_path().as_os_str().to_owned();
    name.push(".restoring");
    name.into()
}

/// What opens a backup, and what seals its copy.
struct Ciphers {
    original: Option<Opener>,
    copy: Option<Opener>,
}

impl Ciphers {
    fn new(options: &RestoreOptions) -> Result<Self> {
        let copy = Opener::new(&options.keys, &options.cluster)?;
        let original = copy.as_ref().map(|copy| copy.in_cluster(options.from_cluster.as_ref().unwrap_or(&options.cluster)));
        Ok(Self { original, copy })
    }

    /// What makes the copy.
    fn copying(&self, founder: Member, is_sealed: bool) -> Result<NewCluster> {
        let (Some(original), Some(copy)) = (&self.original, &self.copy) else { return Ok(NewCluster::of(founder)) };
        let encryptor = copy.encryptor(founder.id)?;
        Ok(if is_sealed {
            NewCluster::sealed(founder, original.snapshot_keys()?, encryptor)
        } else {
            NewCluster::newly_sealed(founder, encryptor)
        })
    }
}

/// A whole backup.
#[derive(Clone, Copy)]
struct Checked {
    last: EntryId,
    /// The version of the key that it is sealed with, if it is.
    sealed: Option<KeyVersion>,
}

/// Reads a backup from end to end.
fn check(from: &Path, ciphers: &Ciphers) -> Result<Checked> {
    let mut file = File::open(from)?;
    let sealed = is_sealed(&mut file)?;
    let opener = ciphers.original.as_ref().filter(|_| sealed);
    if sealed && opener.is_none() {
        return Err(anyhow!("it is encrypted").context(Advice("name the keys of the cluster that it is from: --key-file FILE")));
    }
    let mut check = Check::new(opener)?;
    while let Some(piece) = next_piece(&mut file)? {
        let wrong_name = || Advice("if the cluster that was backed up has another name than the new one, give it with --from-cluster");
        check.push(&piece).map_err(|error| if sealed { error.context(wrong_name()) } else { error })?;
    }
    Ok(Checked { last: check.finish()?, sealed: check.sealed_with()? })
}

/// Looks at the beginning, and goes back there.
fn is_sealed(file: &mut File) -> Result<bool> {
    let mut check = Check::new(None)?;
    while let Some(piece) = next_piece(file)? {
        check.push(&piece)?;
        if check.is_known() {
            break;
        }
    }
    file.rewind()?;
    Ok(check.stays_closed())
}

fn next_piece(file: &mut File) -> io::Result<Option<Vec<u8>>> {
    let mut piece = Vec::new();
    file.take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
    Ok(Some(piece).filter(|piece| !piece.is_empty()))
}

/// Writes all that a node's directory has.
fn fill(dir: &Path, options: &RestoreOptions, ciphers: &Ciphers, original: Checked) -> Result<()> {
    let id = NodeId(options.id);
    let identity = Identity { cluster: options.cluster.clone(), node: id, voters: vec![id], sealed: ciphers.copy.is_some() };
    let dir = DataDir::open(dir, &identity)?;
    let operations = copy(options, ciphers, &dir.snapshots(), original)?;
    write_journal(&dir.wal(), &WalOptions::default(), operations)?;
    // Its only member is the one that the directory names: what the log has is nothing new.
    dir.journal_begun()?;
    Ok(())
}

/// Copies the snapshot with the new member. Gives what the journal begins with.
fn copy(options: &RestoreOptions, ciphers: &Ciphers, snapshots: &Path, original: Checked) -> Result<Vec<Operation>> {
    let Checked { last, sealed } = original;
    create_dir(snapshots)?;
    let id = NodeId(options.id);
    let mut copying = ciphers.copying(Member { id, address: options.advertise.clone() }, sealed.is_some())?;
    let (mut node, mut effects) = (Node::new(reading_config(ciphers.copy.as_ref(), id)?)?, Vec::new());
    let (mut file, mut copy, mut written) = (File::open(&options.from)?, Vec::new(), NewSnapshot::begin(snapshots, last)?);
    while let Some(piece) = next_piece(&mut file)? {
        copying.push(&piece, &mut copy)?;
        node.restore(&copy, &mut effects)?;
        written.push(&copy)?;
        effects.clear();
        copy.clear();
    }
    if copying.finish()? != last {
        bail!("{} has changed meanwhile", options.from.display());
    }
    written.finish()?;
    first_operations(node)
}

/// What the core itself has the journal say of the snapshot: its term, and that what was before it is not there. So the node never starts without the snapshot.
fn first_operations(mut node: Node) -> Result<Vec<Operation>> {
    let (now, mut effects) = (amaters_cluster_core::Instant(0), Vec::new());
    node.start(now)?;
    node.step(now, Input::Tick, &mut effects);
    let persisted = effects.into_iter().find_map(|effect| match effect {
        Effect::Persist { operations, .. } => Some(operations),
        _ => None,
    });
    let compacts = |operations: &Vec<Operation>| operations.iter().any(|it| matches!(it, Operation::Compact { .. }));
    persisted.filter(compacts).context("the core does not take the snapshot for the beginning of its log: this is a bug")
}

/// The admin port of the node that is backed up.
struct Source<'a> {
    admin: &'a str,
    agent: Agent,
}

impl<'a> Source<'a> {
    fn new(admin: &'a str) -> Self {
        let agent = Agent::config_builder().timeout_global(Some(ANSWER)).http_status_as_error(false).proxy(None).build().into();
        Self { admin, agent }
    }

    /// Has a snapshot taken that holds at least what the node has applied by now.
    fn take_snapshot(&self) -> Result<SnapshotView> {
        let wanted = self.status()?.applied;
        let (bar, begun) = (ProgressBar::new_spinner().with_message("the node takes a snapshot"), Instant::now());
        bar.enable_steady_tick(Duration::from_millis(100));
        let mut refusals = 0;
        let taken = loop {
            if let Some(taken) = self.status()?.snapshot.filter(|taken| taken.index >= wanted) {
                break taken;
            }
            let mut response =
                self.agent.post(format!("http://{}/snapshots", self.admin)).send_empty().map_err(|error| self.failed(&error))?;
            let (code, body) = (response.status().as_u16(), response.body_mut().read_to_string().map_err(|error| self.failed(&error))?);
            match code {
                // The status has it now; or there is nothing to take a snapshot of.
                200 if body.trim() == "null" => bail!("the node at {} has nothing yet: there is nothing to back up", self.admin),
                200 => {}
                202 if begun.elapsed() < PATIENCE => sleep(PAUSE),
                // An earlier one is being taken: it may have ended since.
                409 if begun.elapsed() < PATIENCE && (refusals < 5 || self.status()?.snapshot_under_way) => {
                    refusals += 1;
                    sleep(PAUSE);
                }
                _ => {
                    bail!("the node at {} took no snapshot: {}", self.admin, reason(&body).unwrap_or_else(|| format!("it answered {code}")))
                }
            }
        };
        bar.finish_and_clear();
        Ok(taken)
    }

    fn status(&self) -> Result<StatusView> {
        let mut response = self.agent.get(format!("http://{}/status", self.admin)).call().map_err(|error| self.failed(&error))?;
        response.body_mut().read_json().map_err(|error| anyhow!("the node at {} gave no status: {error}", self.admin))
    }

    /// Fetches all of a snapshot into a file, and checks it. Says whether it was there to the end.
    fn fetch(&self, snapshot: SnapshotView, file: &mut File) -> Result<bool> {
        let SnapshotView { index, term, bytes } = snapshot;
        let style = ProgressStyle::with_template("{spinner} {bar:40} {bytes}/{total_bytes} {bytes_per_sec} {msg}")?;
        let bar = ProgressBar::new(bytes).with_message("backed up").with_style(style);
        // A sealed one is copied as it is: no keys are needed for that.
        let (mut check, mut offset) = (Check::new(None)?, 0);
        loop {
            let url = format!("http://{}/snapshots/{index}/{term}/{offset}", self.admin);
            let mut response = self.agent.get(url).call().map_err(|error| self.failed(&error))?;
            let code = response.status().as_u16();
            let part = response.body_mut().with_config().limit(PART_LIMIT).read_to_vec().map_err(|error| self.failed(&error))?;
            match code {
                200 if part.is_empty() => break,
                200 => {}
                410 => return Ok(false),
                _ => {
                    let said = reason(&String::from_utf8_lossy(&part)).unwrap_or_else(|| format!("it answered {code}"));
                    bail!("the node at {} gave no snapshot: {said}", self.admin);
                }
            }
            check.push(&part)?;
            file.write_all(&part)?;
            offset += part.len() as u64;
            bar.set_position(offset);
        }
        bar.finish_and_clear();
        let (got, expected) = (check.finish()?, EntryId { index: LogIndex(index), term: Term(term) });
        if got != expected {
            bail!("the node at {} gave snapshot {got}, expected {expected}", self.admin);
        }
        Ok(true)
    }

    fn failed(&self, error: &ureq::Error) -> anyhow::Error {
        anyhow!("the node at {}: {}", self.admin, in_words(error))
    }
}
