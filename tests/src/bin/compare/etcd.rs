//! Closed-loop clients for etcd, over its own gRPC interface.
//!
//! Its two messages are written out here, so that no compiler for its interface files is needed. What the replies hold besides is not looked at.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use amaters_cluster::cli::bench::BenchReport;
use anyhow::Context as _;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use crate::Workload;

/// `etcdserverpb.PutRequest`, as far as it is used.
#[derive(Clone, PartialEq, prost::Message)]
struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `etcdserverpb.PutResponse`: that it came is all that matters.
#[derive(Clone, PartialEq, prost::Message)]
struct PutResponse {}

/// So many clients share a connection. One for all would make them wait for each other, one for each would cost etcd more than it gains.
const CLIENTS_PER_CONNECTION: u32 = 8;

const WARM_UP: Duration = Duration::from_secs(1);

/// Waits until every node takes writes, then loads them.
pub(crate) async fn load(nodes: &[SocketAddr], workload: Workload, start_up: Duration) -> anyhow::Result<BenchReport> {
    let deadline = Instant::now() + start_up;
    let connections = usize::try_from(workload.clients.div_ceil(CLIENTS_PER_CONNECTION))?.max(nodes.len());
    let mut channels = Vec::new();
    for number in 0..connections {
        channels.push(connect(nodes[number % nodes.len()], deadline).await?);
    }
    let start = Instant::now() + WARM_UP;
    let end = start + Duration::from_secs(workload.seconds.into());
    let shared = Arc::new(Mutex::new(Counts { latencies: Histogram::new_with_max(600_000_000, 3)?, errors: BTreeMap::new() }));
    let mut clients = JoinSet::new();
    for number in 0..workload.clients {
        let channel = channels[number as usize % channels.len()].clone();
        clients.spawn(run_client(channel, number.into(), workload.value, start..end, Arc::clone(&shared)));
    }
    while let Some(ended) = clients.join_next().await {
        ended.context("a client failed")?;
    }
    Ok(report(&counts(&shared), workload))
}

struct Counts {
    /// Microseconds.
    latencies: Histogram<u64>,
    errors: BTreeMap<String, u64>,
}

fn counts(shared: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection through which a write has succeeded.
async fn connect(node: SocketAddr, deadline: Instant) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{node}"))?.tcp_nodelay(true);
    let attempt = async {
        loop {
            if let Ok(channel) = endpoint.connect().await {
                let request = PutRequest { key: b"ready".to_vec(), value: Vec::new() };
                if put(&mut Grpc::new(channel.clone()), request).await.is_ok() {
                    return channel;
                }
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout_at(deadline, attempt).await.with_context(|| format!("{node} took no write in time"))
}

async fn run_client(channel: Channel, number: u64, value_bytes: u32, measured: Range<Instant>, shared: Arc<Mutex<Counts>>) {
    let mut grpc = Grpc::new(channel);
    let mut random = fastrand::Rng::with_seed(number);
    let value = vec![b'x'; value_bytes as usize];
    while Instant::now() < measured.end {
        let key = format!("key:{:010}", random.u32(0..Workload::KEYS)).into_bytes();
        let sent = Instant::now();
        let outcome = put(&mut grpc, PutRequest { key, value: value.clone() }).await;
        let now = Instant::now();
        match outcome {
            Ok(()) if measured.contains(&now) => {
                counts(&shared).latencies.saturating_record(u64::try_from((now - sent).as_micros()).unwrap_or(u64::MAX));
            }
            Ok(()) => {}
            Err(status) => *counts(&shared).errors.entry(status.message().to_owned()).or_default() += 1,
        }
    }
}

async fn put(grpc: &mut Grpc<Channel>, request: PutRequest) -> Result<(), Status> {
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/etcdserverpb.KV/Put");
    grpc.unary(Request::new(request), path, ProstCodec::<PutRequest, PutResponse>::default()).await.map(drop)
}

fn report(counts: &Counts, workload: Workload) -> BenchReport {
    let latencies = &counts.latencies;
    let seconds = f64::from(workload.seconds);
    BenchReport {
        operations: latencies.len(),
        seconds,
        per_second: latencies.len() as f64 / seconds,
        p50_us: latencies.value_at_quantile(0.5),
        p99_us: latencies.value_at_quantile(0.99),
        p999_us: latencies.value_at_quantile(0.999),
        max_us: latencies.max(),
        errors: counts.errors.values().sum(),
        errors_by_kind: counts.errors.clone(),
    }
}
