//! stub
/// x
#[derive(Clone, Debug, Default)]
pub struct WalOptions { /// x
pub segment_size: u64 }
/// x
#[derive(Debug, thiserror::Error)]
#[error("x")]
pub struct WalError;
/// x
pub struct WalDiagnostics;
/// x
pub struct WalReader;
/// x
pub struct WalWriter;
