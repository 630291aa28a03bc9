//! The Raft paper's claims, one test each: a node is told things by hand, and its reaction is what the paper says.
//!
//! Sections are those of the extended version of "In Search of an Understandable Consensus Algorithm"; where a claim is the
//! dissertation's alone ("Consensus: Bridging Theory and Practice"), the test says so.

#[path = "paper/availability.rs"]
mod availability;
#[path = "paper/check_quorum.rs"]
mod check_quorum;
#[path = "paper/commitment.rs"]
mod commitment;
#[path = "paper/elections.rs"]
mod elections;
#[path = "paper/figure_8.rs"]
mod figure_8;
#[path = "paper/leases.rs"]
mod leases;
#[path = "paper/membership.rs"]
mod membership;
#[path = "paper/messages.rs"]
mod messages;
#[path = "paper/pre_vote.rs"]
mod pre_vote;
#[path = "paper/reads.rs"]
mod reads;
#[path = "paper/replication.rs"]
mod replication;
#[path = "paper/sessions.rs"]
mod sessions;
#[path = "paper/subject.rs"]
mod subject;
#[path = "paper/terms.rs"]
mod terms;
#[path = "paper/transfer.rs"]
mod transfer;
#[path = "paper/votes.rs"]
mod votes;
