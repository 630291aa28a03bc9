//! `FENCE`: tokens that tell a lock's present holder from one that only believes to hold it.

use amaters_cluster_core::FencingToken;
use serde_bytes::Bytes as Slice;

use super::local::unknown_subcommand;
use super::reply::Refusal;
use super::request::Args;
use super::run::Item;
use crate::kv::{Query, Write};

/// `FENCE NEXT name`, `FENCE CHECK name token`, `FENCE DROP name`.
pub(super) fn fence(args: Args<'_>) -> Result<Item, Refusal> {
    let subcommand = args.get(1).to_ascii_lowercase();
    let expect = |count: usize| {
        if args.len() == count { Ok(Slice::new(args.get(2))) } else { Err(Refusal::arity(&format!("fence|{}", subcommand.escape_ascii()))) }
    };
    match &subcommand[..] {
        b"next" => write(&Write::FenceNext { name: expect(3)? }),
        b"drop" => write(&Write::FenceDrop { name: expect(3)? }),
        b"check" => {
            let query = Query::FenceCheck { name: expect(4)?, token: token(args.get(3))? };
            query.check()?;
            Ok(Item::read(&query))
        }
        _ => Err(unknown_subcommand(args, "FENCE")),
    }
}

/// A token as a client sends it.
pub(super) fn token(text: &[u8]) -> Result<FencingToken, Refusal> {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.parse().map_err(|error| Refusal::from(format!("ERR {error}")))
}

fn write(write: &Write<'_>) -> Result<Item, Refusal> {
    write.check()?;
    Ok(Item::write(write))
}
