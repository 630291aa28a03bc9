//! stub
use std::sync::Arc;
/// x
#[derive(Default)]
pub struct RespLimits { /// x
pub max_clients: usize, /// x
pub idle: std::time::Duration }
/// x
pub struct RespMetrics;
impl RespMetrics { /// x
pub fn register(_: &prometheus::Registry) -> prometheus::Result<Self> { Ok(Self) } }
/// x
pub async fn serve(_: tokio::net::TcpListener, _: crate::Handle, _: RespLimits, _: Arc<RespMetrics>, mut s: tokio::sync::watch::Receiver<bool>) { let _ = s.wait_for(|s| *s).await; }
