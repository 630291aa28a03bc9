//! What a value may look like: each function gives `None` for what is not allowed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use tracing_subscriber::EnvFilter;

use super::{EngineChoice, LogFormat};
use crate::wal::CorruptionPolicy;

pub(super) fn number<T: std::str::FromStr + PartialOrd + Copy>(min: T, max: T) -> impl Fn(&str) -> Option<T> {
    // Rust's own parser takes a sign, which no id and no count has.
    move |text| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten().filter(|n| (min..=max).contains(n))
}

pub(super) fn size(min: u64, max: u64) -> impl Fn(&str) -> Option<u64> {
    move |text| text.parse::<ByteSize>().ok().map(|size| size.as_u64()).filter(|bytes| (min..=max).contains(bytes))
}

pub(super) fn time(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}

pub(super) fn percent(text: &str) -> Option<u32> {
    number(0, u32::MAX)(text.strip_suffix('%').unwrap_or(text))
}

pub(super) fn address(text: &str) -> Option<SocketAddr> {
    text.parse().ok()
}

/// Addresses with commas between them.
pub(super) fn addresses(text: &str) -> Option<Vec<String>> {
    text.split(',').map(str::trim).map(|address| is_host_and_port(address).then(|| address.to_owned())).collect()
}

pub(super) fn path(text: &str) -> Option<PathBuf> {
    (!text.is_empty()).then(|| PathBuf::from(text))
}

pub(super) fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

pub(super) fn aes_in_sandbox(text: &str) -> Option<bool> {
    match text {
        "host" => Some(false),
        "sandbox" => Some(true),
        _ => None,
    }
}

pub(super) fn engine(text: &str) -> Option<EngineChoice> {
    match text {
        "wasm" => Some(EngineChoice::Wasm),
        "native" => Some(EngineChoice::Native),
        _ => None,
    }
}

pub(super) fn format(text: &str) -> Option<LogFormat> {
    match text {
        "human" => Some(LogFormat::Human),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

pub(super) fn corruption_policy(text: &str) -> Option<CorruptionPolicy> {
    match text {
        "refuse" => Some(CorruptionPolicy::Refuse),
        "repair" => Some(CorruptionPolicy::Repair),
        "cut" => Some(CorruptionPolicy::Cut),
        _ => None,
    }
}

/// A cluster's name.
pub(super) fn cluster(text: &str) -> Option<String> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    ((1..=64).contains(&text.len()) && text.bytes().all(allowed)).then(|| text.to_owned())
}

/// A lone word must be a level: the filter's own parser takes a misspelt one for the name of a module, and nothing would be logged.
pub(super) fn log_filter(text: &str) -> Option<String> {
    let is_level = ["off", "error", "warn", "info", "debug", "trace"].contains(&text);
    (is_level || text.contains('=') && EnvFilter::try_new(text).is_ok()).then(|| text.to_owned())
}

/// `HOST:PORT`: an IPv4 address, an IPv6 address in brackets or a name, and a port from 1.
pub(super) fn is_host_and_port(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return address.port() != 0;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let is_name = (1..=253).contains(&host.len())
        && host.split('.').all(|label| {
            let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
            (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
        });
    // A name of digits and dots would be an IPv4 address, had it been a right one.
    let is_number = host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_name && !is_number && number(1, u16::MAX)(port).is_some()
}
