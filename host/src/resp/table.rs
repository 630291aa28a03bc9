//! The commands, in one table: dispatch, arity errors and `COMMAND` all come from it.

use super::local::Local;
use super::reply::{Refusal, Value};
use super::request::Args;
use super::run::Item;
use super::{data, fence, introspect, local};
use crate::kv::{Query, Write};

/// A command that clients can send.
#[derive(Debug)]
pub(super) struct Command {
    /// In lower case.
    pub(super) name: &'static str,
    /// The number of arguments, the name among them; where it is negative, the least number.
    pub(super) arity: i64,
    /// As `COMMAND` names them.
    pub(super) flags: &'static [&'static str],
    pub(super) keys: Keys,
    pub(super) handler: Handler,
}

/// Which arguments are keys: the first and the last of them, from the end where negative, and their distance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keys {
    pub(super) first: i64,
    pub(super) last: i64,
    pub(super) step: i64,
}

/// What a command does.
#[derive(Clone, Copy, Debug)]
pub(super) enum Handler {
    /// It goes through the log.
    Write(for<'a> fn(Args<'a>) -> Result<Write<'a>, Refusal>),
    /// It is a linearizable read, unless the connection is content with less.
    Read(for<'a> fn(Args<'a>) -> Result<Query<'a>, Refusal>),
    /// One or the other, by its second word.
    Either(for<'a> fn(Args<'a>) -> Result<Item, Refusal>),
    /// A linearizable read that goes on where a cursor stands.
    Scan,
    /// It asks the node for its state.
    Info,
    /// It concerns the client's session.
    Session,
    /// It concerns this connection, or what every node knows.
    Local(fn(Args<'_>, &mut Local<'_>) -> Result<Value, Refusal>),
}

const NO_KEY: Keys = Keys { first: 0, last: 0, step: 0 };
const ONE_KEY: Keys = Keys { first: 1, last: 1, step: 1 };
const ALL_KEYS: Keys = Keys { first: 1, last: -1, step: 1 };
const PAIRS: Keys = Keys { first: 1, last: -1, step: 2 };

const READ: &[&str] = &["readonly", "fast"];
const SLOW_READ: &[&str] = &["readonly"];
const WRITE: &[&str] = &["write", "denyoom"];
const FAST_WRITE: &[&str] = &["write", "denyoom", "fast"];
const REMOVE: &[&str] = &["write"];
const FAST_REMOVE: &[&str] = &["write", "fast"];
const FAST: &[&str] = &["fast"];
const CONNECTION: &[&str] = &["noscript", "loading", "stale", "fast"];
const HANDSHAKE: &[&str] = &["noscript", "loading", "stale", "fast", "no_auth", "allow_busy"];
const ADMIN: &[&str] = &["admin", "noscript", "loading", "stale"];
const ABOUT: &[&str] = &["loading", "stale"];

/// All commands. The most frequent stand first.
#[rustfmt::skip]
pub(super) static COMMANDS: [Command; 35] = [
    command("set",      -3, WRITE,       ONE_KEY,  Handler::Write(data::set)),
    command("get",       2, READ,        ONE_KEY,  Handler::Read(data::get)),
    command("incr",      2, FAST_WRITE,  ONE_KEY,  Handler::Write(data::incr)),
    command("del",      -2, REMOVE,      ALL_KEYS, Handler::Write(data::del)),
    command("mget",     -2, READ,        ALL_KEYS, Handler::Read(data::mget)),
    command("mset",     -3, WRITE,       PAIRS,    Handler::Write(data::mset)),
    command("exists",   -2, READ,        ALL_KEYS, Handler::Read(data::exists)),
    command("append",    3, FAST_WRITE,  ONE_KEY,  Handler::Write(data::append)),
    command("decr",      2, FAST_WRITE,  ONE_KEY,  Handler::Write(data::decr)),
    command("decrby",    3, FAST_WRITE,  ONE_KEY,  Handler::Write(data::decrby)),
    command("getdel",    2, FAST_REMOVE, ONE_KEY,  Handler::Write(data::getdel)),
    command("getset",    3, FAST_WRITE,  ONE_KEY,  Handler::Write(data::getset)),
    command("incrby",    3, FAST_WRITE,  ONE_KEY,  Handler::Write(data::incrby)),
    command("strlen",    2, READ,        ONE_KEY,  Handler::Read(data::strlen)),
    command("type",      2, READ,        ONE_KEY,  Handler::Read(data::kind)),
    command("unlink",   -2, FAST_REMOVE, ALL_KEYS, Handler::Write(data::del)),
    command("dbsize",    1, READ,        NO_KEY,   Handler::Read(data::dbsize)),
    command("scan",     -2, SLOW_READ,   NO_KEY,   Handler::Scan),
    command("fence",    -2, FAST_WRITE,  NO_KEY,   Handler::Either(fence::fence)),
    command("flushall", -1, REMOVE,      NO_KEY,   Handler::Write(data::flush)),
    command("flushdb",  -1, REMOVE,      NO_KEY,   Handler::Write(data::flush)),
    command("ping",     -1, FAST,        NO_KEY,   Handler::Local(local::ping)),
    command("echo",      2, FAST,        NO_KEY,   Handler::Local(local::echo)),
    command("select",    2, CONNECTION,  NO_KEY,   Handler::Local(local::select)),
    command("hello",    -1, HANDSHAKE,   NO_KEY,   Handler::Local(local::hello)),
    command("auth",     -2, HANDSHAKE,   NO_KEY,   Handler::Local(local::auth)),
    command("reset",     1, HANDSHAKE,   NO_KEY,   Handler::Local(local::reset)),
    command("quit",     -1, HANDSHAKE,   NO_KEY,   Handler::Local(local::quit)),
    command("readonly",  1, CONNECTION,  NO_KEY,   Handler::Local(local::readonly)),
    command("readwrite", 1, CONNECTION,  NO_KEY,   Handler::Local(local::readwrite)),
    command("client",   -2, CONNECTION,  NO_KEY,   Handler::Local(local::client)),
    command("session",  -2, CONNECTION,  NO_KEY,   Handler::Session),
    command("command",  -1, ABOUT,       NO_KEY,   Handler::Local(introspect::command)),
    command("config",   -2, ADMIN,       NO_KEY,   Handler::Local(introspect::config)),
    command("info",     -1, ABOUT,       NO_KEY,   Handler::Info),
];

const fn command(name: &'static str, arity: i64, flags: &'static [&'static str], keys: Keys, handler: Handler) -> Command {
    Command { name, arity, flags, keys, handler }
}

/// The place of a command in [`COMMANDS`], whatever its case.
pub(super) fn find(name: &[u8]) -> Option<usize> {
    COMMANDS.iter().position(|command| command.name.as_bytes().eq_ignore_ascii_case(name))
}

impl Command {
    /// Checks the number of arguments.
    pub(super) fn check_arity(&self, args: Args<'_>) -> Result<(), Refusal> {
        let count = i64::try_from(args.len()).unwrap_or(i64::MAX);
        let fits = if self.arity < 0 { count >= -self.arity } else { count == self.arity };
        if fits { Ok(()) } else { Err(Refusal::arity(self.name)) }
    }
}

/// What Redis says of a command that it does not know: its name, and some of its arguments.
pub(super) fn unknown(args: Args<'_>) -> Refusal {
    const SHOWN: usize = 128;
    let shown = |text: &[u8], most: usize| String::from_utf8_lossy(&text[..text.len().min(most)]).into_owned();
    let mut arguments = String::new();
    for argument in args.from(1) {
        if arguments.len() >= SHOWN {
            break;
        }
        arguments += &format!("'{}' ", shown(argument, SHOWN - arguments.len()));
    }
    format!("ERR unknown command '{}', with args beginning with: {arguments}", shown(args.get(0), SHOWN)).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_in_lower_case() {
        for (index, command) in COMMANDS.iter().enumerate() {
            assert_eq!(find(command.name.to_ascii_uppercase().as_bytes()), Some(index), "{}", command.name);
            assert_eq!(command.name, command.name.to_ascii_lowercase());
        }
    }
}
