//! How the commands of a script are read.

use std::time::Duration;

use amaters_cluster_core::NodeId;
use amaters_cluster_core::message::Envelope;
use goldenscript::ArgumentConsumer;

use super::Result;
use crate::render;

/// Which of the messages under way are meant.
pub(super) struct Choice {
    from: Option<NodeId>,
    to: Option<NodeId>,
    kind: Option<String>,
    /// How many at most.
    pub(super) count: usize,
    /// Whether the newest come first.
    pub(super) reversed: bool,
}

impl Choice {
    pub(super) fn take(args: &mut ArgumentConsumer<'_>) -> Result<Self> {
        Ok(Self {
            from: args.take_key("from").map(str::parse).transpose()?.map(NodeId),
            to: args.take_key("to").map(str::parse).transpose()?.map(NodeId),
            kind: args.take_key("kind").map(str::to_owned),
            count: args.take_key("count").map(str::parse).transpose()?.unwrap_or(usize::MAX),
            reversed: args.take_key("reversed").map(str::parse).transpose()?.unwrap_or(false),
        })
    }

    pub(super) fn fits(&self, envelope: &Envelope) -> bool {
        let text = render::message(&envelope.message);
        self.from.is_none_or(|from| from == envelope.from)
            && self.to.is_none_or(|to| to == envelope.to)
            && self.kind.as_ref().is_none_or(|kind| text.split(' ').next() == Some(kind))
    }
}

/// The next word, as a node.
pub(super) fn node(args: &mut ArgumentConsumer<'_>) -> Result<NodeId> {
    Ok(NodeId(text(args, "a node")?.parse()?))
}

/// The words that are left, as nodes.
pub(super) fn nodes(args: &mut ArgumentConsumer<'_>) -> Result<Vec<NodeId>> {
    std::iter::from_fn(|| args.next_pos()).map(|word| Ok(NodeId(word.parse()?))).collect()
}

/// The nodes before a word and those after it.
pub(super) fn sides(args: &mut ArgumentConsumer<'_>, between: &str) -> Result<(Vec<NodeId>, Vec<NodeId>)> {
    let mut one = Vec::new();
    loop {
        let word = text(args, &format!("'{between}'"))?;
        if word == between {
            break;
        }
        one.push(NodeId(word.parse()?));
    }
    let other = nodes(args)?;
    if one.is_empty() || other.is_empty() { Err(format!("expected nodes on both sides of '{between}'").into()) } else { Ok((one, other)) }
}

/// The next word, as a number.
pub(super) fn number(args: &mut ArgumentConsumer<'_>, expected: &str) -> Result<u64> {
    Ok(text(args, expected)?.parse()?)
}

/// The next word, as a time: `50ms`.
pub(super) fn duration(args: &mut ArgumentConsumer<'_>) -> Result<Duration> {
    let word = text(args, "a time such as 50ms")?;
    let number = word.strip_suffix("ms").ok_or_else(|| format!("{word}: expected a time such as 50ms"))?;
    Ok(Duration::from_millis(number.parse()?))
}

/// The next word.
pub(super) fn text<'a>(args: &mut ArgumentConsumer<'a>, expected: &str) -> Result<&'a str> {
    args.next_pos().ok_or_else(|| format!("expected {expected}").into())
}
