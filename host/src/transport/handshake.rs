//! The handshake: who speaks, to whom, in which cluster and in which version. The [grammar](super) is in the module above.

use amaters_cluster_core::NodeId;
use bytes::BufMut;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::TransportConfig;
use super::close::Close;

/// What a connection begins with. The line end shows up transfers that treat it as text.
const MAGIC: [u8; 8] = *b"ukehi/p\n";

/// The version of handshake and frames.
pub(super) const VERSION: u16 = 3;

/// The longest name of a cluster and the longest address, in bytes: its length is one byte.
pub(super) const MAX_NAME_BYTES: usize = 255;

const ACCEPTED: u8 = 0;

/// Why a node does not want a connection, as it tells the other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// The two speak different versions of the protocol.
    #[error("it speaks another version of the protocol")]
    Version,
    /// It belongs to another cluster.
    #[error("it belongs to another cluster")]
    WrongCluster,
    /// Another node was meant.
    #[error("another node was meant")]
    WrongNode,
    /// The sender is none of its peers, and there is no room for more that are none.
    #[error("this node is none of its peers, and too many others that are none are connected")]
    UnknownNode,
    /// One of the two encrypts its log and the other does not: what the one writes, the other could not read, or would leave readable.
    #[error("{}", if *.theirs { "it encrypts its log, and this node does not" } else { "it does not encrypt its log, and this node does" })]
    Encryption {
        /// Whether it is the other side that encrypts.
        theirs: bool,
    },
}

impl Refusal {
    const ALL: [Self; 6] = [
        Self::Version,
        Self::WrongCluster,
        Self::WrongNode,
        Self::UnknownNode,
        Self::Encryption { theirs: true },
        Self::Encryption { theirs: false },
    ];

    fn code(self) -> u8 {
        match self {
            Self::Version => 1,
            Self::WrongCluster => 2,
            Self::WrongNode => 3,
            Self::UnknownNode => 4,
            Self::Encryption { theirs: true } => 5,
            Self::Encryption { theirs: false } => 6,
        }
    }

    /// The same seen from the other side.
    fn reversed(self) -> Self {
        match self {
            Self::Encryption { theirs } => Self::Encryption { theirs: !theirs },
            other => other,
        }
    }

    /// What whoever operates the two nodes should look at.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Encryption { .. } => "Start all nodes of a cluster with the same keys, or all with --no-encryption",
            _ => "Compare cluster name, ids and addresses of the two nodes",
        }
    }

    /// The reason's name in metrics.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::WrongCluster => "wrong_cluster",
            Self::WrongNode => "wrong_node",
            Self::UnknownNode => "unknown_node",
            Self::Encryption { .. } => "encryption",
        }
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Most envelopes.
    Main,
    /// Large ones that are in no hurry.
    Bulk,
}

impl Lane {
    fn code(self) -> u8 {
        match self {
            Self::Main => 0,
            Self::Bulk => 1,
        }
    }

    fn of(code: u8) -> Option<Self> {
        [Self::Main, Self::Bulk].into_iter().find(|lane| lane.code() == code)
    }
}

/// Who has dialled, and what for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) id: NodeId,
    /// Where it can be dialled.
    pub(super) address: String,
    pub(super) lane: Lane,
}

/// What a node says of itself.
#[derive(Debug)]
pub(super) struct Own<'a> {
    pub(super) cluster: &'a str,
    pub(super) id: NodeId,
    /// Where it can be dialled.
    pub(super) address: &'a str,
    /// Whether it encrypts its log.
    pub(super) sealed: bool,
}

impl<'a> Own<'a> {
    pub(super) fn of(config: &'a TransportConfig) -> Self {
        Self { cluster: &config.cluster, id: config.id, address: &config.address, sealed: config.sealed }
    }
}

/// The dialling side: introduces `own` to the node that should be `peer`.
pub(super) async fn introduce<S>(stream: &mut S, own: &Own<'_>, peer: NodeId, lane: Lane) -> Result<(), Close>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    stream.write_all(&hello(own, peer, lane)).await.map_err(Close::Io)?;
    let version = read_preamble(stream).await?;
    if version != VERSION {
        return Err(Close::OtherVersion { theirs: version });
    }
    let rest = read::<13, _>(stream).await?;
    let (code, node, sum) = (rest[0], u64_at(&rest[1..9]), u32_at(&rest[9..13]));
    if sum != crc32fast::hash(&reply(code, NodeId(node))[..19]) {
        return Err(Close::Garbage);
    }
    if code != ACCEPTED {
        let refusal = Refusal::ALL.into_iter().find(|refusal| refusal.code() == code);
        return Err(refusal.map_or(Close::Garbage, |refusal| Close::RefusedByPeer { refusal, answered: NodeId(node) }));
    }
    if NodeId(node) != peer {
        return Err(Close::AnsweredByOther { answered: NodeId(node) });
    }
    Ok(())
}

/// The accepting side: reads the introduction, answers it, and gives the sender if it is welcome.
pub(super) async fn welcome<S>(stream: &mut S, own: &Own<'_>, admits: impl Fn(NodeId) -> bool) -> Result<Guest, Close>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let version = read_preamble(stream).await?;
    let outcome = if version == VERSION { read_hello(stream, own, admits).await } else { Err(Close::OtherVersion { theirs: version }) };
    let code = match &outcome {
        Ok(_) => ACCEPTED,
        Err(Close::OtherVersion { .. }) => Refusal::Version.code(),
        Err(Close::Refused { refusal, .. }) => refusal.reversed().code(),
        // Whoever does not speak the protocol gets no answer in it.
        Err(_) => return outcome,
    };
    stream.write_all(&reply(code, own.id)).await.map_err(Close::Io)?;
    outcome
}

async fn read_hello<S>(stream: &mut S, own: &Own<'_>, admits: impl Fn(NodeId) -> bool) -> Result<Guest, Close>
where
    S: AsyncRead + Unpin,
{
    let fixed = read::<19, _>(stream).await?;
    let (sender, receiver) = (NodeId(u64_at(&fixed[..8])), NodeId(u64_at(&fixed[8..16])));
    let mut name = vec![0; usize::from(fixed[18]) + 1];
    stream.read_exact(&mut name).await.map_err(Close::in_handshake)?;
    let address_length = name.pop().unwrap_or_default();
    let mut tail = vec![0; usize::from(address_length) + 4];
    stream.read_exact(&mut tail).await.map_err(Close::in_handshake)?;
    let (address, sum) = tail.split_at(usize::from(address_length));

    let mut covered = preamble(VERSION);
    covered.extend_from_slice(&fixed);
    covered.extend_from_slice(&name);
    covered.push(address_length);
    covered.extend_from_slice(address);
    if u32_at(sum) != crc32fast::hash(&covered) {
        return Err(Close::Garbage);
    }
    let refused = |refusal, came: String| Err(Close::Refused { refusal, came });
    if name != own.cluster.as_bytes() {
        return refused(Refusal::WrongCluster, format!("cluster {:?}", String::from_utf8_lossy(&name)));
    }
    if receiver != own.id {
        return refused(Refusal::WrongNode, format!("a connection from node {sender} for node {receiver}"));
    }
    if !admits(sender) {
        return refused(Refusal::UnknownNode, format!("node {sender}"));
    }
    let theirs = match fixed[17] {
        0 => false,
        1 => true,
        _ => return Err(Close::Garbage),
    };
    if theirs != own.sealed {
        return refused(Refusal::Encryption { theirs }, format!("node {sender}"));
    }
    let address = String::from_utf8(address.to_vec()).map_err(|_| Close::Garbage)?;
    let lane = Lane::of(fixed[16]).ok_or(Close::Garbage)?;
    Ok(Guest { id: sender, address, lane })
}

/// The introduction. Name and address were checked when the transport started: [`MAX_NAME_BYTES`].
fn hello(own: &Own<'_>, receiver: NodeId, lane: Lane) -> Vec<u8> {
    let mut out = preamble(VERSION);
    out.put_u64_le(own.id.0);
    out.put_u64_le(receiver.0);
    out.put_u8(lane.code());
    out.put_u8(own.sealed.into());
    for text in [own.cluster, own.address] {
        out.put_u8(u8::try_from(text.len()).unwrap_or(u8::MAX));
        out.put_slice(text.as_bytes());
    }
    sealed(out)
}

fn reply(code: u8, own: NodeId) -> Vec<u8> {
    let mut out = preamble(VERSION);
    out.put_u8(code);
    out.put_u64_le(own.0);
    sealed(out)
}

fn preamble(version: u16) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    out.put_u16_le(version);
    out
}

fn sealed(mut out: Vec<u8>) -> Vec<u8> {
    let sum = crc32fast::hash(&out);
    out.put_u32_le(sum);
    out
}

/// Magic and version: what every version begins with.
async fn read_preamble<S: AsyncRead + Unpin>(stream: &mut S) -> Result<u16, Close> {
    let bytes = read::<10, _>(stream).await?;
    if bytes[..8] != MAGIC {
        return Err(Close::Garbage);
    }
    Ok(u16::from_le_bytes([bytes[8], bytes[9]]))
}

async fn read<const N: usize, S: AsyncRead + Unpin>(stream: &mut S) -> Result<[u8; N], Close> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes).await.map_err(Close::in_handshake)?;
    Ok(bytes)
}

fn u64_at(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |field| u64::from_le_bytes(*field))
}

fn u32_at(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |field| u32::from_le_bytes(*field))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// An introduction by its fields, for tests of wrong ones.
    pub(in crate::transport) fn hello_of(version: u16, cluster: &str, sender: u64, receiver: u64) -> Vec<u8> {
        let mut bytes = hello(&Own { cluster, id: NodeId(sender), address: "", sealed: false }, NodeId(receiver), Lane::Main);
        bytes.truncate(bytes.len() - 4);
        bytes[8..10].copy_from_slice(&version.to_le_bytes());
        sealed(bytes)
    }

    /// Node 1 of cluster "a", whose log is not encrypted.
    const DIALLER: Own<'_> = Own { cluster: "a", id: NodeId(1), address: "h:1", sealed: false };

    /// What both sides come to when `dialler` dials node 2, and `own` answers, whose peers are these.
    async fn meet(dialler: &Own<'_>, own: &Own<'_>, peers: &[u64]) -> (Result<(), Close>, Result<Guest, Close>) {
        let (mut dialling, mut accepting) = tokio::io::duplex(1024);
        tokio::join!(introduce(&mut dialling, dialler, NodeId(2), Lane::Bulk), welcome(&mut accepting, own, |node| peers.contains(&node.0)),)
    }

    #[test]
    fn the_encoding_is_as_documented() {
        let hello = hello(&Own { cluster: "dev", sealed: true, ..DIALLER }, NodeId(2), Lane::Bulk);
        assert_eq!(hello[..36], *b"ukehi/p\n\x03\0\x01\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\x01\x03dev\x03h:1");
        assert_eq!(hello[36..], crc32fast::hash(&hello[..36]).to_le_bytes());
        let reply = reply(3, NodeId(2));
        assert_eq!(reply[..19], *b"ukehi/p\n\x03\0\x03\x02\0\0\0\0\0\0\0");
        assert_eq!(reply[19..], crc32fast::hash(&reply[..19]).to_le_bytes());
    }

    #[tokio::test]
    async fn both_sides_learn_the_outcome_and_its_reason() {
        let acceptor = |cluster, id| Own { cluster, id: NodeId(id), address: "h:2", sealed: false };
        let (dialler, guest) = meet(&DIALLER, &acceptor("a", 2), &[1, 3]).await;
        assert!(dialler.is_ok());
        assert_eq!(guest.expect("welcome"), Guest { id: NodeId(1), address: "h:1".to_owned(), lane: Lane::Bulk });
        for (cluster, own, peers, reason, said) in [
            ("b", 2, vec![1], "wrong_cluster", "node 2 answered and refused: it belongs to another cluster"),
            ("a", 3, vec![1], "wrong_node", "node 3 answered and refused: another node was meant"),
            (
                "a",
                2,
                vec![3],
                "unknown_node",
                "node 2 answered and refused: this node is none of its peers, and too many others that are none are connected",
            ),
        ] {
            let (dialler, acceptor) = meet(&DIALLER, &acceptor(cluster, own), &peers).await;
            let (dialler, acceptor) = (dialler.expect_err("refused"), acceptor.expect_err("refuses"));
            assert_eq!(acceptor.reason(), reason);
            assert_eq!(dialler.reason(), format!("refused_{reason}"));
            assert!(dialler.to_string().starts_with(said), "{dialler}");
        }
    }

    #[tokio::test]
    async fn a_node_that_encrypts_its_log_and_one_that_does_not_part_and_both_know_why() {
        let acceptor = |sealed| Own { cluster: "a", id: NodeId(2), address: "h:2", sealed };
        for sealed in [false, true] {
            let (ours, theirs) = (Own { sealed, ..DIALLER }, acceptor(!sealed));
            let (dialler, guest) = meet(&ours, &theirs, &[1]).await;
            let (dialler, guest) = (dialler.expect_err("refused"), guest.expect_err("refuses"));
            assert_eq!((dialler.reason(), guest.reason()), ("refused_encryption", "encryption"));
            let (seals, seals_not) = ("it encrypts its log, and this node does not", "it does not encrypt its log, and this node does");
            let (told, tells) = if sealed { (seals_not, seals) } else { (seals, seals_not) };
            assert!(dialler.to_string().starts_with(&format!("node 2 answered and refused: {told}. Start all nodes")), "{dialler}");
            assert!(guest.to_string().starts_with(&format!("refused node 1: {tells}. Start all nodes")), "{guest}");

            let (dialler, guest) = meet(&ours, &acceptor(sealed), &[1]).await;
            assert!(dialler.is_ok() && guest.is_ok(), "two of a kind");
        }
    }

    #[tokio::test]
    async fn another_version_is_told_ours() {
        let (mut dialling, mut accepting) = tokio::io::duplex(1024);
        dialling.write_all(&hello_of(7, "a", 1, 2)).await.unwrap();
        let close = welcome(&mut accepting, &Own { id: NodeId(2), ..DIALLER }, |_| true).await.expect_err("refused");
        assert_eq!(close.reason(), "version");
        let mut answer = [0; 23];
        dialling.read_exact(&mut answer).await.unwrap();
        assert_eq!(answer[..], reply(Refusal::Version.code(), NodeId(2)));
    }

    #[tokio::test]
    async fn a_damaged_introduction_is_garbage_wherever_the_damage_is() {
        let good = hello(&DIALLER, NodeId(2), Lane::Main);
        for at in (0..good.len()).filter(|at| ![8, 9].contains(at)) {
            let mut bytes = good.clone();
            bytes[at] ^= 1;
            let (mut dialling, mut accepting) = tokio::io::duplex(1024);
            dialling.write_all(&bytes).await.unwrap();
            dialling.shutdown().await.unwrap();
            let close = welcome(&mut accepting, &Own { id: NodeId(2), ..DIALLER }, |_| true).await.expect_err("damaged");
            assert!(["garbage", "ended_in_handshake"].contains(&close.reason()), "byte {at}: {}", close.reason());
        }
    }
}
