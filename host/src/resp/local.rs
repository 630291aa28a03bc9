//! Commands that concern one connection.

use bytes::Bytes;

use super::reply::{Protocol, Refusal, Value};
use super::request::Args;
use super::server::Shared;
use super::session::Session;
use crate::kv::parse_i64;

/// The version of Redis whose commands, words and errors these are. Client libraries choose by it what they send.
pub(super) const REDIS_VERSION: &str = "7.0.0";

/// What a command of this kind may look at and change.
#[derive(Debug)]
pub(super) struct Local<'a> {
    pub(super) session: &'a mut Session,
    pub(super) shared: &'a Shared,
}

type LocalResult = Result<Value, Refusal>;

const OK: LocalResult = Ok(Value::Status("OK"));
const WRONG_PASSWORD: Refusal = Refusal::new("WRONGPASS invalid username-password pair or user is disabled.");

pub(super) fn ping(args: Args<'_>, _: &mut Local<'_>) -> LocalResult {
    match args.len() {
        1 => Ok(Value::Status("PONG")),
        2 => Ok(copy(args.get(1))),
        _ => Err(Refusal::arity("ping")),
    }
}

pub(super) fn echo(args: Args<'_>, _: &mut Local<'_>) -> LocalResult {
    Ok(copy(args.get(1)))
}

/// There is one database.
pub(super) fn select(args: Args<'_>, _: &mut Local<'_>) -> LocalResult {
    match parse_i64(args.get(1)) {
        Some(0) => OK,
        Some(_) => Err(Refusal::new("ERR DB index is out of range")),
        None => Err(Refusal::NOT_AN_INTEGER),
    }
}

/// There are no passwords: the one user is Redis' `default`, who needs none.
pub(super) fn auth(args: Args<'_>, _: &mut Local<'_>) -> LocalResult {
    match args.len() {
        2 => Err(Refusal::new(
            "ERR AUTH <password> called without any password configured for the default user. Are you sure your configuration is correct?",
        )),
        3 if args.get(1) == b"default" => OK,
        3 => Err(WRONG_PASSWORD),
        _ => Err(Refusal::SYNTAX),
    }
}

/// `HELLO [version [AUTH user password] [SETNAME name]]`. Changes nothing unless all of it is right.
pub(super) fn hello(args: Args<'_>, local: &mut Local<'_>) -> LocalResult {
    let protocol = match (args.len(), parse_i64(args.get(1))) {
        (1, _) => local.session.protocol,
        (_, Some(2)) => Protocol::Resp2,
        (_, Some(3)) => Protocol::Resp3,
        (_, Some(_)) => return Err(Refusal::new("NOPROTO unsupported protocol version")),
        (_, None) => return Err(Refusal::new("ERR Protocol version is not an integer or out of range")),
    };
    let (mut index, mut name) = (2, None);
    while index < args.len() {
        let (option, left) = (args.get(index), args.len() - index - 1);
        if option.eq_ignore_ascii_case(b"AUTH") && left >= 2 {
            if args.get(index + 1) != b"default" {
                return Err(WRONG_PASSWORD);
            }
            index += 3;
        } else if option.eq_ignore_ascii_case(b"SETNAME") && left >= 1 {
            name = Some(args.get(index + 1));
            index += 2;
        } else {
            return Err(format!("ERR Syntax error in HELLO option '{}'", String::from_utf8_lossy(option)).into());
        }
    }
    if let Some(name) = name {
        local.session.set_name(name)?;
    }
    local.session.protocol = protocol;
    Ok(greeting(local.session))
}

fn greeting(session: &Session) -> Value {
    let protocol = match session.protocol {
        Protocol::Resp2 => 2,
        Protocol::Resp3 => 3,
    };
    let id = i64::try_from(session.id).unwrap_or(i64::MAX);
    let fields = [
        ("server", Value::text("ukehi")),
        ("version", Value::text(REDIS_VERSION)),
        ("proto", Value::Integer(protocol)),
        ("id", Value::Integer(id)),
        ("mode", Value::text("standalone")),
        // To a client every node is one: it takes writes, and passes them on.
        ("role", Value::text("master")),
        ("modules", Value::Array(Vec::new())),
    ];
    Value::Map(fields.into_iter().map(|(name, value)| (Value::text(name), value)).collect())
}

pub(super) fn reset(_: Args<'_>, local: &mut Local<'_>) -> LocalResult {
    local.session.reset();
    Ok(Value::Status("RESET"))
}

pub(super) fn quit(_: Args<'_>, local: &mut Local<'_>) -> LocalResult {
    local.session.quitting = true;
    OK
}

/// `READONLY`: from here on, reads are served from this node's own state, which may be stale, as a replica of a Redis Cluster does.
pub(super) fn readonly(_: Args<'_>, local: &mut Local<'_>) -> LocalResult {
    local.session.read_only = true;
    OK
}

/// `READWRITE`: from here on, reads are linearizable again.
pub(super) fn readwrite(_: Args<'_>, local: &mut Local<'_>) -> LocalResult {
    local.session.read_only = false;
    OK
}

/// `CLIENT`: what client libraries send when they connect.
pub(super) fn client(args: Args<'_>, local: &mut Local<'_>) -> LocalResult {
    let session = &mut *local.session;
    let name = args.get(1).to_ascii_lowercase();
    let expect = |count: usize| {
        if args.len() == count { Ok(()) } else { Err(Refusal::arity(&format!("client|{}", String::from_utf8_lossy(&name)))) }
    };
    match &name[..] {
        b"id" => expect(2).map(|()| Value::Integer(i64::try_from(session.id).unwrap_or(i64::MAX))),
        b"info" => expect(2).map(|()| Value::Text(session.describe())),
        b"getname" => {
            expect(2)?;
            Ok(if session.name.is_empty() { Value::Null } else { Value::Bulk(session.name.clone()) })
        }
        b"setname" => {
            expect(3)?;
            session.set_name(args.get(2))?;
            OK
        }
        b"setinfo" => {
            expect(4)?;
            session.set_info(args.get(2), args.get(3))?;
            OK
        }
        // Nothing is evicted here, and nothing is touched.
        b"no-evict" | b"no-touch" => {
            expect(3)?;
            let switch = args.get(2);
            if switch.eq_ignore_ascii_case(b"ON") || switch.eq_ignore_ascii_case(b"OFF") { OK } else { Err(Refusal::SYNTAX) }
        }
        _ => Err(unknown_subcommand(args, "CLIENT")),
    }
}

/// What Redis says where it does not know the second word of a command.
pub(super) fn unknown_subcommand(args: Args<'_>, command: &str) -> Refusal {
    let shown = &args.get(1)[..args.get(1).len().min(128)];
    format!("ERR unknown subcommand '{}'. Try {command} HELP.", String::from_utf8_lossy(shown)).into()
}

fn copy(bytes: &[u8]) -> Value {
    Value::Bulk(Bytes::copy_from_slice(bytes))
}
