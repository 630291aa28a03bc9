//! `ukehi demo --membership`: a cluster grows from one node to five and shrinks to three while clients write, and nothing is lost.
#![allow(clippy::print_stdout, reason = "the story is what the command is for")]

use std::cell::Cell;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use super::writes::Writes;
use super::{DemoOptions, GLANCE, agree, bar, conclude, elect, patient, println_above, read_back};
use crate::admin::{ChangeRequest, MemberRoleView};
use crate::cli::member::Admins;

/// How many nodes there are at most.
pub(super) const NODES: u8 = 5;

/// Which nodes are removed again: the one that began, and another.
const REMOVED: [u8; 2] = [1, 2];

/// The story.
pub(super) async fn tell(cluster: &Cluster, options: &DemoOptions, code: &Cell<ExitCode>) -> anyhow::Result<()> {
    elect(cluster, 1).await?;
    let writes = Writes::new(cluster.client_addresses(), options.keys)?;
    let bar = bar(writes.keys(), "keys written");
    let work = async {
        tokio::try_join!(writes.run(options.clients), async {
            let changed = change(cluster, &bar).await;
            writes.note_kill(); // from here on the writers may come to an end
            changed
        })
    };
    tokio::select! {
        done = work => { done?; }
        failed = super::show(&writes, &bar) => failed?,
    }
    bar.finish_and_clear();
    println!("✓ wrote {} keys meanwhile; {} writes had to be tried again", writes.keys(), writes.retries());
    agree(cluster).await?;
    let losses = read_back(cluster, &writes).await?;
    println!();
    conclude(cluster, options, &writes, &losses, code).await
}

async fn change(cluster: &Cluster, bar: &indicatif::ProgressBar) -> anyhow::Result<()> {
    for id in 2..=NODES {
        let begun = Instant::now();
        cluster.start(id)?;
        while !cluster.has_member(id, MemberRoleView::Voter).await {
            patient(begun, "the new node did not become a voter")?;
            sleep(GLANCE).await;
        }
        println_above(bar, &format!("✓ node {id} joined, and votes {:.0} ms after its start", begun.elapsed().as_secs_f64() * 1e3));
    }
    for id in REMOVED {
        let (begun, leads) = (Instant::now(), cluster.leader().await.is_some_and(|(leader, _)| leader == id));
        let admins = Admins::new(cluster.running_admin_addresses());
        let request = ChangeRequest::Remove { id: id.into() };
        tokio::task::spawn_blocking(move || admins.change(&request)).await.context("a thread was lost")??;
        let took = begun.elapsed().as_secs_f64() * 1e3;
        cluster.kill(id).await?;
        println_above(bar, &format!("✓ removed node {id}{} in {took:.0} ms, and ended it", if leads { ", the leader," } else { "" }));
    }
    Ok(())
}
