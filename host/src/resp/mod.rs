//! The front end for clients that speak Redis' protocol, versions 2 and 3.
//!
//! # How a request goes
//!
//! ```text
//! socket ─► Gate (where does it end, is it allowed?) ─► redis-protocol ─► table ─► data: arguments become a command or a query
//!                                                                          │ local, introspect, info: answered here
//!        ◄── one write ◄── Output (RESP2 or RESP3) ◄── results ◄── Backend ◄─┘ in runs
//! ```
//!
//! A connection takes all complete requests that it has read. Consecutive writes make one run, consecutive reads another, and each run is one call
//! of the [`Backend`]; the next run waits for it. So a pipeline costs a few rounds of consensus rather than one for each command, answers keep their
//! order, and a read sees the writes before it on its connection.
//!
//! # What it promises
//!
//! - Reads are linearizable. After `READONLY` those of that connection are served at once from the node's own state, which may be stale, until
//!   `READWRITE` or `RESET`.
//! - Words, errors and results are those of Redis 7.0, for the commands that there are. Keys don't expire, and there is one database.
//! - Errors of the cluster have a code of their own. `CLUSTERDOWN`: no leader; not carried out. `TRYAGAIN`: too much waits; not carried out. `OOM`: a bound is
//!   reached; not carried out. `UNCERTAIN`: the command may or may not have been carried out. `FENCED`: the write's fencing token is out of date; not carried
//!   out. `NOSESSION`, `NORESPONSE`: see `SESSION`.
//! - A connection may carry a session (dissertation, §6.3): then its writes have consecutive sequences there, from 1 or where `SESSION RESUME id sequence`
//!   set in. A client that repeats its writes without an answer from there on, on any connection to any node, has each carried out once and gets the
//!   first answer. It may leave 64 writes without an answer at a time; `SESSION RESUME` says that it has the answers of all before.
//! - `FENCE NEXT name` gives a fencing token greater than all before it, as text of one width that sorts as tokens do ([`FencingToken`](crate::FencingToken)).
//!   `FENCE CHECK name token` gives 1 if the fence has issued no greater one, else 0; `SET key value FENCE name token` writes on the same condition. `FENCE DROP name`
//!   forgets a fence, and with it all its tokens. `FLUSHALL` forgets none.
//! - A key or value over its limit is refused with an error, and the connection lives on. What is longer than a whole request may be
//!   ([`RespLimits::max_request_bytes`]) breaks the protocol: the connection ends at its header, before its bytes are kept.
//! - What clients can make the server hold is bounded: connections, a request, all large requests together, the answers of a run, open scans.
//!   Silence, a request that does not end and answers that nobody takes end a connection; [`RespMetrics`] counts the reasons.
//! - A `SCAN` returns every key that is there from its beginning to its end. Its cursors belong to one node: another one answers `ERR invalid cursor`.

mod alarm;
mod backend;
mod carried;
mod close;
mod connection;
mod cursors;
mod data;
mod fence;
mod info;
mod inline;
mod introspect;
mod local;
mod metrics;
mod reply;
mod request;
mod run;
mod server;
mod session;
mod table;
#[cfg(test)]
mod tests;

pub use backend::Backend;
pub use metrics::RespMetrics;
pub use server::{RespLimits, serve};
