//! A snapshot of one cluster made into the beginning of another.
//!
//! A snapshot names the members of its cluster. A node that began with it elsewhere would ask them for votes, and follow them. So the copy names one member
//! instead, the founder of the new cluster, as if the snapshot's last entry were the configuration that says so: whoever joins later gets its configuration
//! from entries behind that one. State, sessions and the last entry's name stay what they are, so fencing tokens and sessions' ids go on growing.
//!
//! A sealed snapshot is opened, and sealed anew for the new cluster: its log is another one, and so is its chain, which begins where the copy ends.

use super::format::{FrameWriter, Part, SnapshotError, SnapshotMetadata, SnapshotReader};
use crate::chain::ChainPoint;
use crate::cluster_config::{ClusterConfig, ConfigState, Member};
use crate::sealing::{ChainLink, EntryEncryptor, KeyVersion, SnapshotKeys};
use crate::sessions::Sessions;
use crate::types::EntryId;

/// The longest piece of the table of sessions in a frame, in bytes.
const PIECE: usize = 64 << 10;

/// Copies a snapshot, piece by piece, for a new cluster of one. Each piece is checked before anything of it comes out; nothing that came out may be used before
/// [`NewCluster::finish`] has said that the whole is there.
#[derive(Debug)]
pub struct NewCluster {
    founder: Member,
    encryptor: Option<EntryEncryptor>,
    reader: SnapshotReader,
    /// None until the sessions have come.
    writer: Option<FrameWriter>,
}

impl NewCluster {
    /// A copy with this member alone, a voter. Its address may be empty: then others reach it once it has reached them.
    #[must_use]
    pub fn of(founder: Member) -> Self {
        Self { founder, encryptor: None, reader: SnapshotReader::any(None), writer: None }
    }

    /// A copy of a sealed snapshot. `original` opens that; `copy` is the founder's encryptor for the new cluster, and holds the same keys.
    #[must_use]
    pub fn sealed(founder: Member, original: SnapshotKeys, copy: EntryEncryptor) -> Self {
        Self { founder, encryptor: Some(copy), reader: SnapshotReader::any(Some(original)), writer: None }
    }

    /// A sealed copy of a snapshot that is not sealed: `copy` is the founder's encryptor for the new cluster, and seals with the newest of its keys.
    #[must_use]
    pub fn newly_sealed(founder: Member, copy: EntryEncryptor) -> Self {
        Self { founder, encryptor: Some(copy), reader: SnapshotReader::any(None), writer: None }
    }

    /// Takes the next bytes of the original, in any pieces, and adds to `copy` what they give.
    ///
    /// # Errors
    /// What has come is no snapshot, or damaged; or the founder has no id, or an address of more than 255 bytes.
    pub fn push(&mut self, original: &[u8], copy: &mut Vec<u8>) -> Result<(), SnapshotError> {
        self.reader.push(original);
        while let Some(part) = self.reader.next()? {
            if self.writer.is_none() {
                self.writer = Some(self.begin(copy)?);
            }
            let Some(writer) = &mut self.writer else { continue };
            copy.extend(match part {
                Part::State(piece) => writer.state(&piece),
                Part::End => writer.end(),
            });
        }
        Ok(())
    }

    /// Says that this was all, and gives the last entry that the snapshot holds.
    ///
    /// # Errors
    /// It is cut short, something follows its end, or its sessions can't be read.
    pub fn finish(mut self) -> Result<EntryId, SnapshotError> {
        let last = self.reader.metadata().map(|metadata| metadata.last).filter(|_| self.reader.is_complete());
        let last = last.ok_or_else(|| SnapshotError::CutShort { got: self.reader.bytes() })?;
        Sessions::from_image(self.reader.take_sessions()?)?;
        Ok(last)
    }

    /// The header and the sessions.
    fn begin(&mut self, copy: &mut Vec<u8>) -> Result<FrameWriter, SnapshotError> {
        let unexpected = |got: &str, expected| SnapshotError::Frame { frame: 0, got: got.to_owned(), expected };
        let original = self.reader.metadata().ok_or_else(|| unexpected("missing", "a header"))?;
        let Member { id, address } = self.founder.clone();
        let founded = ClusterConfig { version: original.last.index, voters: [(id, address)].into(), ..ClusterConfig::default() };
        let membership = ConfigState::Stable(founded);
        if !membership.fits(original.last.index) {
            return Err(unexpected("for a founder that can't be a member", "one with an id, and an address of at most 255 bytes"));
        }
        let (mut chain, mut sealer) = (None, None);
        if let Some(encryptor) = &mut self.encryptor {
            let newest = encryptor.keys().versions().last().unwrap_or(KeyVersion::NONE);
            let version = original.chain.map_or(newest, |point| point.version);
            encryptor.use_version(version)?;
            sealer = Some(encryptor.snapshot_sealer(original.last)?);
            // Where a chain begins says nothing: that it began there is what the copy's seal says.
            chain = Some(ChainPoint { link: ChainLink([0; 32]), version });
        }
        let mut writer = FrameWriter::new(original.last, sealer);
        copy.extend(writer.header(&SnapshotMetadata { membership, chain, ..original.clone() }));
        for piece in self.reader.session_bytes().chunks(PIECE) {
            copy.extend(writer.sessions(piece));
        }
        Ok(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::super::format::encode_sessions;
    use super::*;
    use crate::config::Config;
    use crate::io::Effect;
    use crate::node::Node;
    use crate::sessions::SessionImage;
    use crate::types::{Instant, LogIndex, NodeId, Term};

    const LAST: EntryId = EntryId { term: Term(3), index: LogIndex(40) };

    fn members(ids: &[u64]) -> ConfigState {
        let voters = ids.iter().map(|id| (NodeId(*id), format!("old{id}:1"))).collect();
        ConfigState::Stable(ClusterConfig { version: LogIndex(7), voters, ..ClusterConfig::default() })
    }

    fn original() -> Vec<u8> {
        let sessions = encode_sessions(&SessionImage::default());
        let mut writer = FrameWriter::new(LAST, None);
        let metadata = SnapshotMetadata { last: LAST, membership: members(&[1, 2, 3]), session_bytes: sessions.len() as u64, chain: None };
        let header = writer.header(&metadata);
        let sessions: Vec<_> = sessions.chunks(1).flat_map(|piece| writer.sessions(piece)).collect();
        [header, sessions, writer.state(b"one"), writer.state(b"two"), writer.end()].concat()
    }

    fn copy(original: &[u8], step: usize, founder: Member) -> Result<Vec<u8>, SnapshotError> {
        let (mut copying, mut copy) = (NewCluster::of(founder), Vec::new());
        for piece in original.chunks(step) {
            copying.push(piece, &mut copy)?;
        }
        assert_eq!(copying.finish()?, LAST);
        Ok(copy)
    }

    fn founder() -> Member {
        Member { id: NodeId(9), address: "new:1".to_owned() }
    }

    #[test]
    fn the_copy_has_the_founder_as_its_only_member_and_everything_else() {
        for step in [1, 7, 4096] {
            let copy = copy(&original(), step, founder()).unwrap();
            // Whatever voters the configuration names.
            let mut node = Node::new(Config::new(NodeId(9), [1, 2, 3, 9].map(NodeId).to_vec())).unwrap();
            let mut effects = Vec::new();
            node.restore(&copy, &mut effects).unwrap();
            let pieces = effects.iter().filter_map(|effect| match effect {
                Effect::RestoreState { piece } => Some(piece.to_vec()),
                _ => None,
            });
            assert_eq!(pieces.collect::<Vec<_>>().concat(), b"onetwo");
            node.start(Instant(0)).unwrap();
            let status = node.status(Instant(0));
            let members: Vec<_> = status.members.iter().map(|member| (member.id.0, member.address.as_str())).collect();
            assert_eq!((members, status.snapshots.latest), (vec![(9, "new:1")], Some(LAST)));
        }
    }

    #[test]
    fn an_original_that_is_damaged_or_cut_short_gives_no_copy() {
        let original = original();
        for bit in 0..original.len() * 8 {
            let mut damaged = original.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            copy(&damaged, 4096, founder()).expect_err("a bit was flipped");
        }
        for length in 0..original.len() {
            copy(&original[..length], 4096, founder()).expect_err("it is cut short");
        }
        copy(&[&original[..], b"x"].concat(), 4096, founder()).expect_err("something follows");
    }

    #[test]
    fn a_founder_that_can_be_no_member_is_refused() {
        for founder in [Member { id: NodeId::NONE, ..founder() }, Member { address: "x".repeat(256), ..founder() }] {
            assert!(matches!(copy(&original(), 4096, founder), Err(SnapshotError::Frame { frame: 0, .. })));
        }
    }
}
