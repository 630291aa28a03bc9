//! Reads every acknowledged key back from every node.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;

use anyhow::Context as _;
use indicatif::ProgressBar;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::writes::Writes;
use super::{GLANCE, PATIENCE};
use crate::client::connection::{Connection, Frame, command};

/// A key that was acknowledged and isn't what it was.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Loss {
    number: u32,
    key: String,
    node: SocketAddr,
    got: String,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} read from {}: {}", self.key, self.node, self.got)
    }
}

/// How many keys are lost, however many nodes have lost each.
pub(super) fn count(losses: &[Loss]) -> usize {
    losses.iter().map(|loss| loss.number).collect::<BTreeSet<_>>().len()
}

/// Commands on their way at a time.
const PIPELINE: u32 = 100;

/// Reads all keys from all nodes. An error of a node is no loss: the same is asked again.
///
/// # Errors
/// A node does not answer for as long as a step may take.
pub(super) async fn run(nodes: &[SocketAddr], writes: &Writes, bar: &ProgressBar) -> anyhow::Result<Vec<Loss>> {
    let mut readers = JoinSet::new();
    for &node in nodes {
        readers.spawn(read_all(node, writes.clone(), bar.clone()));
    }
    let mut losses = Vec::new();
    while let Some(ended) = readers.join_next().await {
        losses.extend(ended??);
    }
    losses.sort_unstable_by_key(|loss| (loss.number, loss.node));
    Ok(losses)
}

async fn read_all(node: SocketAddr, writes: Writes, bar: ProgressBar) -> anyhow::Result<Vec<Loss>> {
    let mut losses = Vec::new();
    let mut client = None;
    for first in (0..writes.keys()).step_by(PIPELINE as usize) {
        let numbers = first..(first + PIPELINE).min(writes.keys());
        let begun = Instant::now();
        let values = loop {
            let wait = PATIENCE.saturating_sub(begun.elapsed());
            let failure = match timeout(wait, read(&mut client, node, &writes, numbers.clone())).await {
                Ok(Ok(values)) => break values,
                Ok(Err(failure)) => failure,
                Err(_) => anyhow::anyhow!("no reply in time"),
            };
            if begun.elapsed() >= PATIENCE {
                return Err(failure.context(format!("{node} can't be read from")));
            }
            client = None;
            sleep(GLANCE).await;
        };
        bar.inc(values.len() as u64);
        losses.extend(numbers.zip(values).filter_map(|(number, got)| compare(&writes, node, number, got)));
    }
    Ok(losses)
}

async fn read(
    client: &mut Option<Connection>,
    node: SocketAddr,
    writes: &Writes,
    numbers: std::ops::Range<u32>,
) -> anyhow::Result<Vec<Option<Vec<u8>>>> {
    let client = match client {
        Some(client) => client,
        None => client.insert(Connection::connect(node).await.context("no connection")?),
    };
    let mut request = Vec::new();
    for number in numbers.clone() {
        command(&mut request, &[b"GET", writes.key(number).as_bytes()]);
    }
    client.send(&request).await?;
    let mut values = Vec::with_capacity(numbers.len());
    for _ in numbers {
        values.push(match client.reply().await? {
            Frame::BulkString(value) => Some(value.to_vec()),
            Frame::Null => None,
            other => anyhow::bail!("expected a value, got {other:?}"),
        });
    }
    Ok(values)
}

fn compare(writes: &Writes, node: SocketAddr, number: u32, got: Option<Vec<u8>>) -> Option<Loss> {
    if got.as_deref() == Some(writes.value(number).as_bytes()) {
        return None;
    }
    let got = got.map_or_else(|| "nothing".to_owned(), |value| format!("another value, {} bytes", value.len()));
    Some(Loss { number, key: writes.key(number), node, got })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_lost_when_it_is_gone_or_another() {
        let writes = Writes::new(Vec::new(), 2).expect("valid");
        let node = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(compare(&writes, node, 0, Some(writes.value(0).into_bytes())), None);
        let losses = [None, Some(writes.value(1).into_bytes())].map(|got| compare(&writes, node, 0, got).expect("lost"));
        assert_eq!(losses[0].to_string(), "demo:0 read from 127.0.0.1:1: nothing");
        assert_eq!(count(&losses), 1);
    }
}
