//! Answers as bytes, in either version of the protocol.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use redis_protocol::error::RedisProtocolError;
use redis_protocol::resp2::encode as encode2;
use redis_protocol::resp2::types::{BorrowedFrame as Borrowed2, BytesFrame as Frame2};
use redis_protocol::resp3::encode::complete as encode3;
use redis_protocol::resp3::types::{BorrowedFrame as Borrowed3, BytesFrame as Frame3, FrameMap, FrameSet, VerbatimStringFormat};
use serde_bytes::Bytes as Slice;

use super::metrics::RespMetrics;
use crate::error::RaftError;
use crate::kv::{Failure, MAX_ANSWER_BYTES, MAX_FENCE_NAME_BYTES, MAX_FENCES, MAX_KEY_BYTES, MAX_PATTERN_BYTES, MAX_VALUE_BYTES, Reply};

/// The version of the protocol that a client has asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Protocol {
    /// What every connection begins with.
    #[default]
    Resp2,
    Resp3,
}

/// An answer that the front end gives itself.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Status(&'static str),
    Integer(i64),
    Bulk(Bytes),
    /// Text for people.
    Text(String),
    Null,
    Array(Vec<Value>),
    Set(Vec<Value>),
    Map(Vec<(Value, Value)>),
}

/// Why a request was refused, with its code as first word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) Cow<'static, str>);

/// Answers on their way to the client.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) protocol: Protocol,
    pub(super) buffer: BytesMut,
    metrics: Arc<RespMetrics>,
}

impl Output {
    pub(super) fn new(metrics: Arc<RespMetrics>) -> Self {
        Self { protocol: Protocol::default(), buffer: BytesMut::new(), metrics }
    }

    /// Adds what a node answered. `keep_cursor` gives the number under which a scan goes on after a key.
    pub(super) fn reply(&mut self, reply: &Reply<'_>, keep_cursor: impl FnOnce(&[u8]) -> u64) {
        match reply {
            Reply::Done => self.shared(&Borrowed2::SimpleString(b"OK")),
            Reply::Integer(number) => self.shared(&Borrowed2::Integer(*number)),
            Reply::Value(Some(value)) => self.shared(&Borrowed2::BulkString(value)),
            Reply::Value(None) => self.values(&[None]),
            Reply::Values(values) => {
                self.shared_array_header(values.len());
                self.values(values);
            }
            Reply::Type { exists } => self.shared(&Borrowed2::SimpleString(if *exists { b"string" } else { b"none" })),
            Reply::Scanned { keys, resume_after } => {
                let cursor = resume_after.map_or(0, |key| keep_cursor(key)).to_string();
                let keys: Vec<_> = keys.iter().map(|key| Borrowed2::BulkString(key)).collect();
                self.shared(&Borrowed2::Array(&[Borrowed2::BulkString(cursor.as_bytes()), Borrowed2::Array(&keys)]));
            }
            Reply::Failed(failure) => self.refuse(&Refusal::from(*failure)),
            Reply::Token(token) => self.shared(&Borrowed2::BulkString(token.to_string().as_bytes())),
        }
    }

    /// Adds an answer of the front end's own.
    pub(super) fn value(&mut self, value: Value) {
        done(match self.protocol {
            Protocol::Resp2 => encode2::extend_encode(&mut self.buffer, &value.into(), false),
            Protocol::Resp3 => encode3::extend_encode(&mut self.buffer, &value.into(), false),
        });
    }

    /// Adds an error.
    pub(super) fn refuse(&mut self, refusal: &Refusal) {
        let one_line: Cow<'_, str> = match refusal.0.contains(char::is_control) {
            true => refusal.0.replace(char::is_control, " ").into(),
            false => (&*refusal.0).into(),
        };
        self.metrics.error(one_line.split(' ').next().unwrap_or_default());
        self.shared(&Borrowed2::Error(&one_line));
    }

    /// Adds what is the same in both versions.
    fn shared(&mut self, frame: &Borrowed2<'_>) {
        done(encode2::extend_encode_borrowed(&mut self.buffer, frame, false));
    }

    fn values(&mut self, values: &[Option<&Slice>]) {
        for value in values {
            done(match (value, self.protocol) {
                (Some(value), _) => encode2::extend_encode_borrowed(&mut self.buffer, &Borrowed2::BulkString(value), false),
                (None, Protocol::Resp2) => encode2::extend_encode_borrowed(&mut self.buffer, &Borrowed2::Null, false),
                (None, Protocol::Resp3) => encode3::extend_encode_borrowed(&mut self.buffer, &Borrowed3::Null, false),
            });
        }
    }

    /// The encoder writes whole arrays alone; this saves a frame for each of many values.
    fn shared_array_header(&mut self, count: usize) {
        self.buffer.extend_from_slice(format!("*{count}\r\n").as_bytes());
    }
}

fn done(encoded: Result<usize, RedisProtocolError>) {
    encoded.expect("the encoder makes the room that it needs");
}

impl Value {
    pub(super) fn bulk(bytes: impl Into<Bytes>) -> Self {
        Self::Bulk(bytes.into())
    }

    pub(super) fn text(text: &'static str) -> Self {
        Self::Bulk(Bytes::from_static(text.as_bytes()))
    }
}

impl From<Value> for Frame2 {
    fn from(value: Value) -> Self {
        let frames = |values: Vec<Value>| Self::Array(values.into_iter().map(Self::from).collect());
        match value {
            Value::Status(status) => Self::SimpleString(Bytes::from_static(status.as_bytes())),
            Value::Integer(number) => Self::Integer(number),
            Value::Bulk(bytes) => Self::BulkString(bytes),
            Value::Text(text) => Self::BulkString(text.into()),
            Value::Null => Self::Null,
            Value::Array(values) | Value::Set(values) => frames(values),
            Value::Map(pairs) => frames(pairs.into_iter().flat_map(|(key, value)| [key, value]).collect()),
        }
    }
}

impl From<Value> for Frame3 {
    fn from(value: Value) -> Self {
        match value {
            Value::Status(status) => Self::SimpleString { data: Bytes::from_static(status.as_bytes()), attributes: None },
            Value::Integer(data) => Self::Number { data, attributes: None },
            Value::Bulk(data) => Self::BlobString { data, attributes: None },
            Value::Text(text) => Self::VerbatimString { data: text.into(), format: VerbatimStringFormat::Text, attributes: None },
            Value::Null => Self::Null,
            Value::Array(values) => Self::Array { data: values.into_iter().map(Self::from).collect(), attributes: None },
            Value::Set(values) => Self::Set { data: values.into_iter().map(Self::from).collect::<FrameSet<_>>(), attributes: None },
            Value::Map(pairs) => {
                let data = pairs.into_iter().map(|(key, value)| (key.into(), value.into())).collect::<FrameMap<_, _>>();
                Self::Map { data, attributes: None }
            }
        }
    }
}

impl Refusal {
    pub(super) const NOT_AN_INTEGER: Self = Self::new("ERR value is not an integer or out of range");
    pub(super) const SYNTAX: Self = Self::new("ERR syntax error");

    pub(super) const fn new(text: &'static str) -> Self {
        Self(Cow::Borrowed(text))
    }

    pub(super) fn arity(command: &str) -> Self {
        Self(format!("ERR wrong number of arguments for '{command}' command").into())
    }
}

impl From<String> for Refusal {
    fn from(text: String) -> Self {
        Self(text.into())
    }
}

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NotAnInteger => Self::NOT_AN_INTEGER,
            Failure::Overflow => Self::new("ERR increment or decrement would overflow"),
            Failure::KeyTooLong { bytes } => format!("ERR the key has {bytes} bytes: at most {MAX_KEY_BYTES} are allowed").into(),
            Failure::ValueTooLong { bytes } => format!("ERR the value has {bytes} bytes: at most {MAX_VALUE_BYTES} are allowed").into(),
            Failure::AnswerTooLong => format!("ERR the values have more than {MAX_ANSWER_BYTES} bytes: ask for fewer keys").into(),
            Failure::PatternTooLong => format!("ERR the pattern is too long: at most {MAX_PATTERN_BYTES} bytes are allowed").into(),
            Failure::NotUnderstood => Self::new("ERR a node does not understand this command: are all nodes of the same version?"),
            Failure::FenceNameTooLong { bytes } => {
                format!("ERR the fence's name has {bytes} bytes: at most {MAX_FENCE_NAME_BYTES} are allowed").into()
            }
            Failure::TooManyFences => format!("ERR there are {MAX_FENCES} fences already: make room with FENCE DROP").into(),
            Failure::Stale { last: Some(last) } => {
                format!("FENCED the token is out of date: {last} has been issued since, and its holder replaces this one").into()
            }
            Failure::Stale { last: None } => Self::new("FENCED there is no such fence, or no more: FENCE NEXT gives a token"),
        }
    }
}

impl From<&RaftError> for Refusal {
    fn from(error: &RaftError) -> Self {
        let code = match error {
            RaftError::NoLeader { .. } | RaftError::NotLeader { .. } | RaftError::ShuttingDown => "CLUSTERDOWN",
            RaftError::Overloaded | RaftError::SessionFull => "TRYAGAIN",
            RaftError::SessionExpired => "NOSESSION",
            RaftError::ResponseDropped => "NORESPONSE",
            RaftError::UnknownOutcome { .. } => "UNCERTAIN",
            RaftError::LogFull => "OOM",
            RaftError::DiskFull => "MISCONF",
            _ => "ERR",
        };
        format!("{code} {error}").into()
    }
}
