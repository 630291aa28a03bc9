//! Commands about the server: `COMMAND` and `CONFIG GET`.

use super::local::{Local, unknown_subcommand};
use super::reply::{Refusal, Value};
use super::request::Args;
use super::table::{self, COMMANDS, Command};
use crate::kv::glob_matches;

/// `COMMAND`, with `COUNT`, `LIST`, `INFO` and `DOCS`. There are no docs: redis-cli then does without hints.
pub(super) fn command(args: Args<'_>, _: &mut Local<'_>) -> Result<Value, Refusal> {
    let name = args.get(1).to_ascii_lowercase();
    match (args.len(), &name[..]) {
        (1, _) | (2, b"info") => Ok(Value::Array(COMMANDS.iter().map(describe).collect())),
        (2, b"count") => Ok(Value::Integer(i64::try_from(COMMANDS.len()).unwrap_or(i64::MAX))),
        (2, b"list") => Ok(Value::Array(COMMANDS.iter().map(|command| Value::text(command.name)).collect())),
        (_, b"info") => {
            let found = args.from(2).map(|name| table::find(name).map_or(Value::Null, |index| describe(&COMMANDS[index])));
            Ok(Value::Array(found.collect()))
        }
        (_, b"docs") => Ok(Value::Map(Vec::new())),
        (_, b"count") => Err(Refusal::arity("command|count")),
        _ => Err(unknown_subcommand(args, "COMMAND")),
    }
}

/// Name, arity, flags, keys; then, empty: categories, tips, key specifications and subcommands.
fn describe(command: &Command) -> Value {
    let flags = command.flags.iter().map(|flag| Value::Status(flag)).collect();
    Value::Array(vec![
        Value::text(command.name),
        Value::Integer(command.arity),
        Value::Set(flags),
        Value::Integer(command.keys.first),
        Value::Integer(command.keys.last),
        Value::Integer(command.keys.step),
        Value::Set(Vec::new()),
        Value::Array(Vec::new()),
        Value::Array(Vec::new()),
        Value::Array(Vec::new()),
    ])
}

/// `CONFIG GET pattern…`: the few settings that clients ask for. A pattern that fits none gives an empty map, as in Redis.
pub(super) fn config(args: Args<'_>, local: &mut Local<'_>) -> Result<Value, Refusal> {
    if !args.get(1).eq_ignore_ascii_case(b"GET") {
        return Err(unknown_subcommand(args, "CONFIG"));
    }
    if args.len() < 3 {
        return Err(Refusal::arity("config|get"));
    }
    let limits = &local.shared.limits;
    let settings = [
        // Every write is in the log, and on disk, before its answer.
        ("appendonly", "yes".to_owned()),
        ("appendfsync", "always".to_owned()),
        ("save", String::new()),
        ("databases", "1".to_owned()),
        ("maxclients", limits.max_connections.to_string()),
        ("timeout", limits.idle_timeout.as_secs().to_string()),
        ("proto-max-bulk-len", limits.max_request_bytes.to_string()),
    ];
    let asked = |name: &str| args.from(2).any(|pattern| glob_matches(&pattern.to_ascii_lowercase(), name.as_bytes()));
    let found = settings.into_iter().filter(|(name, _)| asked(name));
    Ok(Value::Map(found.map(|(name, value)| (Value::text(name), Value::bulk(value))).collect()))
}
