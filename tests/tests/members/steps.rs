//! A cluster that is moved by hand, with some messages held back.

use std::rc::Rc;

use amaters_cluster_core::NodeId;
use amaters_cluster_core::message::{Envelope, Message};
use amaters_cluster_tests::cluster::Cluster;

/// Moves the cluster by small steps until something holds; of the messages, only those that pass are delivered, and others wait.
pub(crate) fn until(cluster: &mut Cluster, passes: impl Fn(&Message) -> bool, holds: impl Fn(&Cluster) -> bool) {
    for _ in 0..1000 {
        cluster.tick_all();
        if holds(cluster) {
            return;
        }
        for id in cluster.ids() {
            cluster.complete_all(id);
        }
        if let Some(position) = cluster.pool().iter().position(|message| passes(&message.envelope.message)) {
            cluster.deliver(position);
        }
    }
    panic!("it never held");
}

/// Lets what a node is sent arrive, and holds its acknowledgement back.
pub(crate) fn hold_answer(cluster: &mut Cluster, node: NodeId) -> Rc<Envelope> {
    let is_answer = |envelope: &Envelope| envelope.from == node && matches!(envelope.message, Message::AppendEntriesResponse(_));
    for _ in 0..1000 {
        cluster.tick_all();
        for id in cluster.ids() {
            cluster.complete_all(id);
        }
        if let Some(position) = cluster.pool().iter().position(|message| is_answer(&message.envelope)) {
            return cluster.drop_message(position);
        }
        if !cluster.pool().is_empty() {
            cluster.deliver(0);
        }
    }
    panic!("node {node} acknowledged nothing");
}
