//! `SESSION`: a client's session (dissertation, §6.3), carried by its connection.

use std::time::Duration;

use amaters_cluster_core::sessions::{MAX_SESSION_TIMEOUT, MIN_SESSION_TIMEOUT};
use amaters_cluster_core::{SessionChange, SessionId, SessionStamp};

use super::backend::Backend;
use super::local::unknown_subcommand;
use super::reply::{Refusal, Value};
use super::request::Args;
use crate::error::RaftError;
use crate::kv::parse_i64;

/// The session that a connection carries.
#[derive(Clone, Copy, Debug)]
pub(super) struct Carried {
    /// The place of the next write.
    next: SessionStamp,
}

/// The silence that ends a session, where its client does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60 * 60);

const NONE_CARRIED: Refusal =
    Refusal::new("NOSESSION this connection has no session: open one with SESSION OPEN, or go on with one by SESSION RESUME");

impl Carried {
    /// Gives the next writes their places: the first one's, which the others follow.
    pub(super) fn take(&mut self, count: u64) -> SessionStamp {
        let first = self.next;
        self.next = first.later(count);
        first
    }
}

/// `SESSION OPEN [TIMEOUT milliseconds]`, `SESSION RESUME id sequence`, `SESSION INFO`, `SESSION CLOSE`.
pub(super) async fn execute(args: Args<'_>, carried: &mut Option<Carried>, backend: &impl Backend) -> Result<Value, Refusal> {
    let name = args.get(1).to_ascii_lowercase();
    match (&name[..], args.len()) {
        (b"open", 2 | 4) => {
            let timeout = if args.len() == 4 { timeout(args)? } else { DEFAULT_TIMEOUT };
            let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            let session = backend.change_session(SessionChange::Open { timeout_ms }).await.map_err(|error| Refusal::from(&error))?;
            *carried = Some(Carried { next: SessionStamp { session, sequence: 1, acknowledged: 1 } });
            Ok(number(session.0))
        }
        // Whether the session is there shows with the next write: nothing need be asked for what may be repeated often.
        (b"resume", 4) => {
            let (session, sequence) = (SessionId(positive(args.get(2))?), positive(args.get(3))?);
            *carried = Some(Carried { next: SessionStamp { session, sequence, acknowledged: sequence } });
            Ok(Value::Status("OK"))
        }
        (b"info", 2) => {
            let SessionStamp { session, sequence, acknowledged } = carried.ok_or(NONE_CARRIED)?.next;
            // Asks the cluster, and is a sign of life.
            let sign = SessionChange::KeepAlive { session, acknowledged };
            backend.change_session(sign).await.map_err(|error| Refusal::from(&error))?;
            let fields = [("id", session.0), ("sequence", sequence), ("acknowledged", acknowledged)];
            Ok(Value::Map(fields.into_iter().map(|(name, value)| (Value::text(name), number(value))).collect()))
        }
        (b"close", 2) => {
            let SessionStamp { session, .. } = carried.ok_or(NONE_CARRIED)?.next;
            backend.change_session(SessionChange::Close { session }).await.map_err(|error| Refusal::from(&error))?;
            *carried = None;
            Ok(Value::Status("OK"))
        }
        (b"open" | b"resume" | b"info" | b"close", _) => Err(Refusal::arity(&format!("session|{}", String::from_utf8_lossy(&name)))),
        _ => Err(unknown_subcommand(args, "SESSION")),
    }
}

/// What a write's error means for the client: in a session, an unknown outcome is no riddle.
pub(super) fn refusal(error: &RaftError, place: Option<SessionStamp>) -> Refusal {
    match (error, place) {
        (RaftError::UnknownOutcome { waited_ms }, Some(SessionStamp { session, sequence, .. })) => format!(
            "UNCERTAIN no answer came within {waited_ms} ms: repeat the command after SESSION RESUME {session} {sequence}, it is carried out once"
        )
        .into(),
        _ => error.into(),
    }
}

fn timeout(args: Args<'_>) -> Result<Duration, Refusal> {
    if !args.get(2).eq_ignore_ascii_case(b"TIMEOUT") {
        return Err(Refusal::SYNTAX);
    }
    let timeout = Duration::from_millis(positive(args.get(3))?);
    if !(MIN_SESSION_TIMEOUT..=MAX_SESSION_TIMEOUT).contains(&timeout) {
        let (min, max) = (MIN_SESSION_TIMEOUT.as_millis(), MAX_SESSION_TIMEOUT.as_millis());
        return Err(format!("ERR a session's TIMEOUT is {min} to {max} milliseconds").into());
    }
    Ok(timeout)
}

/// A number that a session may have: 1 and up, below 2^62.
fn positive(text: &[u8]) -> Result<u64, Refusal> {
    let number = parse_i64(text).and_then(|number| u64::try_from(number).ok());
    number.filter(|number| (1..1 << 62).contains(number)).ok_or(Refusal::NOT_AN_INTEGER)
}

fn number(value: u64) -> Value {
    Value::Integer(i64::try_from(value).unwrap_or(i64::MAX))
}
