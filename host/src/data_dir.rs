//! stub
/// x
pub struct Identity { /// x
pub cluster: String, /// x
pub node: amaters_cluster_core::NodeId }
/// x
pub struct DataDir(std::path::PathBuf);
impl DataDir { /// x
pub fn open(p: &std::path::Path, _: &Identity) -> std::io::Result<Self> { Ok(Self(p.to_owned())) } /// x
#[must_use] pub fn wal(&self) -> std::path::PathBuf { self.0.join("wal") } }
