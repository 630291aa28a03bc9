//! A node whose log is sealed: what it seals and opens, which keys it holds and lacks, and how the key of a cluster changes.
//!
//! Which version holds is in the log itself: a log begins with version 1, and an entry that names another one says so for all that follow it ([`EntryKind::KeyVersion`]). A
//! leader writes that entry once every voter has said that it holds the key, so that the change stops none of them. A node that comes upon a version that it lacks takes the
//! entry not into its log, says which version it is, and asks its host again and again: it goes on once the key is there.
//!
//! [`crate::sealing`] has the primitives and formats, `chain` the links.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::chain::{Chain, ChainError, ChainPoint};
use crate::config::{Config, ConfigError};
use crate::entry::{EntryKind, Payload};
use crate::io::{Effect, LogLevel, Rejection};
use crate::log::RaftLog;
use crate::message::NamedKey;
use crate::node::Node;
use crate::planted::Bug;
use crate::role::Role;
use crate::sealing::{
    Accelerator, Boot, EncryptedPayload, EntryEncryptor, KeyFingerprint, KeyRing, KeyVersion, LogEncryptionKey, LogName, MissingKey,
    SealingError, SnapshotKeys, SnapshotSealer,
};
use crate::types::{EntryId, Instant, LogIndex, NodeId, Token};

/// How often a host is asked for a key that is missing.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// What a node needs to seal its log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// The cluster, up to 255 bytes: what was sealed for one opens in no other.
    pub cluster: String,
    /// 16 bytes from the system's random source, drawn at each start of the node. Used twice, they give two payloads the same key and nonce.
    pub boot: Boot,
    /// The keys that are there. A new log needs version 1, another one every version that something in it is sealed with.
    pub keys: KeyRing,
}

/// How a log is sealed at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncryptionStatus {
    /// The version that the next entry is sealed with.
    pub version: KeyVersion,
    /// The versions that this node holds, in order.
    pub held: Vec<KeyVersion>,
    /// The lowest version that anything is sealed with that this node would need after a crash: those before it may be retired here.
    pub oldest_needed: KeyVersion,
    /// The version that this node lacks, and waits for.
    pub missing: Option<KeyVersion>,
    /// The last index of the log.
    pub head_index: LogIndex,
    /// Where the chain stands there.
    pub head: ChainPoint,
    /// Whether somebody else does AES ([`Node::accelerate`]).
    pub accelerated: bool,
}

/// What seals and opens.
#[derive(Debug)]
#[cfg_attr(feature = "model-checking", derive(Clone))]
pub(crate) struct Sealing {
    encryptor: EntryEncryptor,
    bug: Option<Bug>,
    /// Commands that this node has sealed itself, until they are applied: it need not open them.
    plain: VecDeque<(EntryId, Payload)>,
    missing: Option<Missing>,
    /// When the host was last asked for a key, whichever: asking may cost it much, and a peer may name many.
    asked_at: Option<Instant>,
    /// The version where the log on disk began when this run did.
    pub(crate) oldest_needed: KeyVersion,
}

/// A version that a node lacks.
#[derive(Clone, Copy, Debug)]
struct Missing {
    version: KeyVersion,
    /// When something last needed it.
    wanted_at: Instant,
}

/// A change of the key that a leader was asked for.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    token: Token,
    pub(crate) version: KeyVersion,
    deadline: Instant,
    /// The entry, once it is written.
    entry: Option<LogIndex>,
}

impl Sealing {
    /// For a node of this configuration, and an empty log for it: both none where the log is not sealed.
    pub(crate) fn new(config: &Config) -> Result<(Option<Self>, RaftLog), ConfigError> {
        let Some(Encryption { cluster, boot, keys }) = &config.encryption else { return Ok((None, RaftLog::default())) };
        let wrong = |field, error: String, expected: &str| ConfigError { field, got: error, expected: expected.to_owned() };
        let name = LogName::new(cluster.clone(), config.group);
        let name = name.map_err(|_| wrong("encryption.cluster", format!("{} bytes long", cluster.len()), "at most 255 bytes"))?;
        let boot = if config.has_bug(Bug::BootShared) { Boot([7; 16]) } else { *boot };
        let chain = Chain::new(name.clone(), keys, config.bug()).map_err(|_| {
            wrong("encryption.keys", "empty".to_owned(), "every version that the log is sealed with: version 1 for a new log")
        })?;
        let encryptor = EntryEncryptor::new(name, config.id, boot, keys.clone())
            .map_err(|_| wrong("encryption.boot", "all zeros".to_owned(), "16 bytes from the system's random source"))?;
        let oldest_needed = chain.end().version;
        let sealing = Self { encryptor, bug: config.bug(), plain: VecDeque::new(), missing: None, asked_at: None, oldest_needed };
        Ok((Some(sealing), RaftLog::sealed(chain)))
    }

    /// What opens snapshots.
    pub(crate) fn snapshot_keys(&self) -> SnapshotKeys {
        self.encryptor.snapshot_keys()
    }

    /// Has somebody else do AES.
    fn accelerate(&mut self, accelerator: Arc<dyn Accelerator>) {
        self.encryptor.accelerate(accelerator);
    }

    /// What seals a snapshot up to an entry, behind which the chain stands at `point`.
    pub(crate) fn snapshot_sealer(&mut self, id: EntryId, point: ChainPoint) -> Result<SnapshotSealer, SealingError> {
        self.encryptor.use_version(point.version)?;
        self.encryptor.snapshot_sealer(id)
    }

    fn seal(&mut self, id: EntryId, version: KeyVersion, payload: &Payload) -> Result<Payload, SealingError> {
        self.encryptor.use_version(version)?;
        let sealed = self.encryptor.seal(self.place(id), payload)?.into_bytes();
        self.plain.push_back((id, payload.clone()));
        Ok(sealed)
    }

    /// What a payload is bound to.
    fn place(&self, id: EntryId) -> EntryId {
        if self.bug == Some(Bug::SealedForNoPlace) { EntryId::default() } else { id }
    }

    /// The command of an entry that is to be applied.
    pub(crate) fn open(&mut self, id: EntryId, payload: &Payload) -> Result<Payload, SealingError> {
        while let Some((own, plain)) = self.plain.pop_front_if(|(own, _)| own.index <= id.index) {
            if own == id {
                return Ok(plain);
            }
        }
        let sealed = EncryptedPayload::parse(payload.clone())?;
        let newest = self.encryptor.keys().versions().last();
        if self.bug == Some(Bug::EarlierKeysForgotten) && newest > Some(sealed.header().version) {
            return Err(SealingError::NoVersion);
        }
        self.encryptor.open(self.place(id), &sealed)
    }

    fn holds(&self, version: KeyVersion) -> bool {
        self.expect_key(version).is_ok()
    }

    fn fingerprint(&self, version: KeyVersion) -> Option<KeyFingerprint> {
        self.encryptor.keys().get(version).ok().map(LogEncryptionKey::fingerprint)
    }

    /// Whether a version is there.
    pub(crate) fn expect_key(&self, version: KeyVersion) -> Result<(), MissingKey> {
        self.encryptor.keys().get(version).map(drop)
    }
}

// Sealing.
impl Node {
    /// What an entry says, as the log stores it: a command is sealed for its place.
    pub(crate) fn seal(&mut self, id: EntryId, kind: EntryKind) -> EntryKind {
        let (Some(sealing), Some(end)) = (&mut self.sealing, self.log.chain_end()) else { return kind };
        let mut sealed = |payload: &Payload| {
            // Its version holds in this log, so that it is there; and an encryptor goes on for longer than any node.
            sealing.seal(id, end.version, payload).expect("a node seals what it takes into its log")
        };
        match kind {
            EntryKind::Command { origin, payload } => EntryKind::Command { origin, payload: sealed(&payload) },
            EntryKind::SessionCommand { origin, time, stamp, payload } => {
                EntryKind::SessionCommand { origin, time, stamp, payload: sealed(&payload) }
            }
            other @ (EntryKind::NoOp | EntryKind::Session { .. } | EntryKind::Configuration(_) | EntryKind::KeyVersion(_)) => other,
        }
    }

    /// Has somebody else do AES, with the same bytes: before anything was given back, or at any time. It says nothing to a node whose log is not sealed.
    pub fn accelerate(&mut self, accelerator: Arc<dyn Accelerator>) {
        if let Some(sealing) = &mut self.sealing {
            sealing.accelerate(accelerator);
        }
    }

    /// What opens snapshots, if they are sealed.
    pub(crate) fn snapshot_keys(&self) -> Option<SnapshotKeys> {
        self.sealing.as_ref().map(Sealing::snapshot_keys)
    }

    /// Entries from a peer don't fit the chain.
    pub(crate) fn refuse_entries(&mut self, from: NodeId, error: &ChainError) {
        match error {
            ChainError::MissingKey(missing) => self.lack_key(from, missing),
            ChainError::Diverged { .. } if self.config.has_bug(Bug::DivergenceOverwritten) => {
                self.log.truncate_from(self.log.commit_index().next());
            }
            ChainError::Diverged { .. } => self.diverge(format!("node {from}'s log and this one's are not one log: {error}")),
            _ => self.refuse(from, &error.to_string()),
        }
    }

    /// Something from a peer needs a key that this node lacks.
    pub(crate) fn lack_key(&mut self, from: NodeId, missing: &MissingKey) {
        self.complain(from, LogLevel::Error, &format!("can't take what node {from} sends: {missing}; it goes on once the key is there"));
        self.want_key(missing.wanted);
    }

    fn want_key(&mut self, version: KeyVersion) {
        let wanted_at = self.now;
        if let Some(sealing) = self.sealing.as_mut().filter(|sealing| !sealing.holds(version)) {
            sealing.missing = Some(Missing { version, wanted_at });
        }
    }

    /// Asks the host for a key that is missing, for as long as something needs it.
    pub(crate) fn ask_for_key(&mut self, effects: &mut Vec<Effect>) {
        let now = self.now;
        let Some(sealing) = &mut self.sealing else { return };
        sealing.missing.take_if(|missing| now.since(missing.wanted_at) >= ASK_EVERY * 10);
        if let Some(missing) = &sealing.missing
            && sealing.asked_at.is_none_or(|asked| now.since(asked) >= ASK_EVERY)
        {
            sealing.asked_at = Some(now);
            effects.push(Effect::RequestKey { version: missing.version });
        }
    }

    /// The host's keys, as they are now. Those that this node has it keeps, whatever the host says of them.
    pub(crate) fn keys_loaded(&mut self, keys: &KeyRing) {
        let Some(sealing) = &mut self.sealing else { return };
        let mut refused = Vec::new();
        for version in keys.versions() {
            let taken = keys.get(version).map_err(SealingError::from).and_then(|key| sealing.encryptor.add_key(version, key.clone()));
            refused.extend(taken.err());
        }
        self.log.take_keys(sealing.encryptor.keys());
        let shown: Vec<_> = keys
            .versions()
            .filter(|_| self.config.has_bug(Bug::KeyInLine))
            .filter_map(|version| keys.get(version).ok())
            .map(|key| *key.as_bytes())
            .collect();
        let found = |missing: &mut Missing| sealing.encryptor.keys().get(missing.version).is_ok();
        if let Some(Missing { version, .. }) = sealing.missing.take_if(found) {
            self.snapshots.expect_again(self.now);
            self.note(LogLevel::Info, format!("version {version} of the key is there"));
        }
        if !shown.is_empty() {
            self.note(LogLevel::Debug, format!("keys: {shown:02x?}"));
        }
        for error in refused {
            self.note(LogLevel::Error, format!("a key of the host is not taken: {error}"));
        }
    }

    /// This node's log, or its state, is not what the key's holders have written: it says so, and does nothing any more.
    pub(crate) fn diverge(&mut self, reason: String) {
        self.diverged.get_or_insert(reason);
    }

    pub(crate) fn encryption_status(&self) -> Option<EncryptionStatus> {
        let sealing = self.sealing.as_ref()?;
        let head = self.log.chain_end()?;
        Some(EncryptionStatus {
            version: head.version,
            held: sealing.encryptor.keys().versions().collect(),
            oldest_needed: self.outbox.durable_base_version(self.config.has_bug(Bug::KeyRetiredEarly)).unwrap_or(sealing.oldest_needed),
            missing: sealing.missing.map(|missing| missing.version),
            head_index: self.log.last().index,
            head,
            accelerated: sealing.encryptor.is_accelerated(),
        })
    }
}

// The change of a cluster's key.
impl Node {
    /// A host wants another version used.
    pub(crate) fn rotate_key(&mut self, token: Token, version: KeyVersion) {
        let deadline = self.now + self.config.request_timeout;
        let now = self.now;
        match (self.may_rotate_to(version), &mut self.role) {
            (Ok(()), Role::Leader(leader)) => {
                leader.rotation = Some(Rotation { token, version, deadline, entry: None });
                leader.heartbeat_at = now; // it asks the others
                self.want_key(version);
            }
            (Ok(()), _) => self.reject(token, Rejection::NotLeader),
            (Err(reason), _) => self.reject(token, reason),
        }
    }

    fn may_rotate_to(&self, version: KeyVersion) -> Result<(), Rejection> {
        let Role::Leader(leader) = &self.role else { return Err(Rejection::NotLeader) };
        let end = self.log.chain_end().ok_or(Rejection::NotEncrypted)?;
        if version <= end.version {
            return Err(Rejection::KeyVersionInUse);
        }
        if self.log.commit_index() < leader.first_index {
            return Err(Rejection::NotReady);
        }
        if leader.rotation.is_some() || self.is_transferring() {
            return Err(Rejection::ChangeUnderWay);
        }
        Ok(())
    }

    /// The key that a leader asks the others for, once it holds it itself.
    pub(crate) fn asked_key(&self) -> Option<NamedKey> {
        let Role::Leader(leader) = &self.role else { return None };
        let version = leader.rotation.as_ref()?.version;
        Some(NamedKey { version, fingerprint: self.sealing.as_ref()?.fingerprint(version)? })
    }

    /// A leader asks whether this node holds a key: what it answers. Another key of the same version is worse than none, for nobody could read what the one seals with the other.
    pub(crate) fn held_version(&mut self, from: NodeId, asked: Option<NamedKey>) -> KeyVersion {
        let Some(NamedKey { version, fingerprint }) = asked else { return KeyVersion::NONE };
        self.want_key(version);
        match self.sealing.as_ref().and_then(|sealing| sealing.fingerprint(version)) {
            Some(own) if own == fingerprint || self.config.has_bug(Bug::KeyVersionIsEnough) => version,
            Some(own) => {
                let what = format!("node {from} holds another key as version {version}: {fingerprint}, and this node {own}");
                let advice = "bring the same key file to all nodes, and start this one again; nothing was changed";
                self.complain(from, LogLevel::Error, &format!("{what}; {advice}"));
                KeyVersion::NONE
            }
            None => KeyVersion::NONE,
        }
    }

    /// Writes the entry once all voters hold the key, and says when it is committed.
    pub(crate) fn drive_rotation(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let Some(Rotation { token, version, deadline, entry }) = leader.rotation.clone() else { return };
        if let Some(index) = entry {
            if self.log.commit_index() >= index {
                self.end_rotation();
                self.done.push(token);
            }
            return;
        }
        let holds = |node: &NodeId| match leader.peers.get(node) {
            Some(progress) => progress.held_version == version,
            None => self.sealing.as_ref().is_some_and(|sealing| sealing.holds(version)),
        };
        let unasked = self.config.has_bug(Bug::KeyChangedUnasked);
        // A leader that is about to be removed is no voter, and seals all the same.
        let needed: BTreeSet<_> = self.membership.voters().iter().copied().chain([self.config.id]).collect();
        let lacking: Vec<_> = needed.into_iter().filter(|node| !holds(node) && (*node == self.config.id || !unasked)).collect();
        if lacking.is_empty() {
            self.note(
                LogLevel::Info,
                format!("seals with version {version} of the key from entry {} on", self.log.last().index.next().next()),
            );
            self.append(EntryKind::KeyVersion(version));
            let index = self.log.last().index;
            if let Role::Leader(leader) = &mut self.role {
                leader.rotation = Some(Rotation { token, version, deadline, entry: Some(index) });
            }
        } else if self.now >= deadline {
            let nodes = lacking.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            self.note(
                LogLevel::Warn,
                format!("the key stays what it is: node {nodes} did not say in time that it holds this key as version {version}"),
            );
            self.end_rotation();
            self.reject(token, Rejection::KeyNotHeld);
        }
    }

    fn end_rotation(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        leader.rotation = None;
    }

    /// This node stops leading: what becomes of a change of the key is up to the next leader.
    pub(crate) fn abandon_rotation(&mut self) {
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(rotation) = leader.rotation.take() {
            self.reject(rotation.token, Rejection::UnknownOutcome);
        }
    }
}
