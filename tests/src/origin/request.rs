//! Requests as they came over the wire, and the log of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::time::Duration;

use crate::canary;

/// The head of a request. Header names keep their case; look-ups ignore it.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD`, ...
    pub method: String,
    /// The request target as sent, path and query, without the canary.
    pub target: String,
    /// All header fields in their order, duplicates included.
    pub headers: Vec<(String, String)>,
}

impl Request {
    /// Reads a head without its final empty line; `None` when it is not HTTP/1.
    pub(super) fn parse(head: &[u8]) -> Option<Self> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let mut first = lines.next()?.split(' ');
        let (method, target, version) = (first.next()?, first.next()?, first.next()?);
        if !version.starts_with("HTTP/1.") {
            return None;
        }
        let headers = lines
            .filter(|line| !line.is_empty())
            .map(|line| line.split_once(':').map(|(n, v)| (n.to_owned(), v.trim().to_owned())))
            .collect::<Option<_>>()?;
        let target = canary::taken_from(target).to_owned();
        Some(Self { method: method.to_owned(), target, headers })
    }

    /// The value of the first header called `name`.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(have, _)| have.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The target without its query.
    #[must_use]
    pub fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// The one byte range asked for.
    #[must_use]
    pub fn range(&self) -> Option<Asked> {
        let spec = self.header("Range")?.strip_prefix("bytes=")?;
        let (first, last) = spec.split_once('-')?;
        if first.is_empty() {
            return last.parse().ok().map(Asked::Suffix);
        }
        let start = first.parse().ok()?;
        let end = if last.is_empty() { None } else { Some(last.parse::<u64>().ok()? + 1) };
        Some(Asked::From { start, end })
    }

    /// The first byte asked for; 0 without a usable Range.
    #[must_use]
    pub fn start(&self) -> u64 {
        match self.range() {
            Some(Asked::From { start, .. }) => start,
            _ => 0,
        }
    }

    /// Whether the request rests on a validator: If-Match, If-Unmodified-Since or If-Range.
    #[must_use]
    pub fn is_conditional(&self) -> bool {
        ["If-Match", "If-Unmodified-Since", "If-Range"]
            .iter()
            .any(|name| self.header(name).is_some())
    }
}

/// What a Range header with one range asks for; ends are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// `bytes=A-` or `bytes=A-B`.
    From {
        /// The first byte.
        start: u64,
        /// One past the last byte, if one was named.
        end: Option<u64>,
    },
    /// `bytes=-N`.
    Suffix(u64),
}

impl Asked {
    /// The half-open range within an object of `size_bytes`; `None` when it
    /// cannot be satisfied.
    #[must_use]
    pub fn within(self, size_bytes: u64) -> Option<std::ops::Range<u64>> {
        let range = match self {
            Self::From { start, end } => start..end.unwrap_or(size_bytes).min(size_bytes),
            Self::Suffix(count) => size_bytes.saturating_sub(count)..size_bytes,
        };
        (range.start < range.end).then_some(range)
    }
}

/// What the origin kept of one request. The counters go on while the response
/// is being sent.
#[derive(Debug, Clone)]
pub struct Record {
    /// The number of the request at this origin, from 0.
    pub index: usize,
    /// The number of its connection, from 0.
    pub connection: usize,
    /// The number of the request on its connection, from 0.
    pub request_on_connection: usize,
    /// When its head was complete, since the origin started.
    pub at: Duration,
    /// The request itself.
    pub request: Request,
    pub(super) progress: Arc<Sending>,
}

impl Record {
    /// The status that was answered; `None` before, or when nothing was.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self.progress.status.load(Ordering::Acquire) {
            0 => None,
            status => Some(status),
        }
    }

    /// Body bytes handed to the socket so far, without chunk framing.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.progress.body_bytes.load(Ordering::Acquire)
    }

    /// Whether the scripted response was sent to its end.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.progress.finished.load(Ordering::Acquire)
    }
}

#[derive(Debug, Default)]
pub(super) struct Sending {
    pub(super) status: AtomicU16,
    pub(super) body_bytes: AtomicU64,
    pub(super) finished: AtomicBool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_range(range: &str) -> Request {
        Request::parse(format!("GET /x?y HTTP/1.1\r\nRange: {range}\r\nHost: h").as_bytes())
            .unwrap()
    }

    #[test]
    fn ranges() {
        let asked = |text| with_range(text).range();
        assert_eq!(asked("bytes=0-99"), Some(Asked::From { start: 0, end: Some(100) }));
        assert_eq!(asked("bytes=5-"), Some(Asked::From { start: 5, end: None }));
        assert_eq!(asked("bytes=-7"), Some(Asked::Suffix(7)));
        assert_eq!(asked("bytes=a-b"), None);
        assert_eq!(asked("bytes=0-1,2-3"), None);
        assert_eq!(asked("bytes=5-200").unwrap().within(100), Some(5..100));
        assert_eq!(asked("bytes=100-").unwrap().within(100), None);
        assert_eq!(asked("bytes=0-").unwrap().within(0), None);
        assert_eq!(asked("bytes=-7").unwrap().within(100), Some(93..100));
    }

    #[test]
    fn head_is_split_into_parts() {
        let request = with_range("bytes=3-4");
        assert_eq!((request.method.as_str(), request.path()), ("GET", "/x"));
        assert_eq!(request.target, "/x?y");
        assert_eq!(request.header("host"), Some("h"));
        assert_eq!(request.start(), 3);
        assert!(!request.is_conditional());
        assert!(Request::parse(b"GET / SPDY/3").is_none());
        assert!(Request::parse(b"\x16\x03\x01\x02").is_none());
    }
}
