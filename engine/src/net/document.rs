//! A small document, fetched whole into memory.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::timeout;

use super::failures::{FetchError, FetchErrorKind};
use super::fetcher::{self, Counters, RequestSpec, Step};
use crate::net::transport::Transport;

/// A response, and its body if that was short enough.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    /// `None` if the body is longer than what was asked for.
    pub(crate) body: Option<Vec<u8>>,
}

/// Sends one request and reads at most `most_bytes` of its body. The server may not
/// be silent for longer than `patience`.
///
/// # Errors
/// When no response comes, or its body breaks off.
pub(crate) async fn fetch(
    transport: &dyn Transport,
    counters: &Arc<Counters>,
    spec: &RequestSpec,
    patience: Duration,
    most_bytes: usize,
) -> Result<Answer, FetchError> {
    let silent = |_| {
        FetchError::new(
            FetchErrorKind::Reset,
            format!("{} sent nothing for {} s", spec.origin, patience.as_secs()),
        )
    };
    let begun =
        timeout(patience, fetcher::begin(transport, spec, counters)).await.map_err(silent)?;
    let (head, mut incoming) = begun?.into_parts();
    let status = head.status.as_u16();
    let mut body = Vec::new();
    if !matches!(status, 200 | 206) {
        return Ok(Answer { status, headers: head.headers, body: Some(body) });
    }
    loop {
        match timeout(patience, fetcher::next(&mut incoming)).await.map_err(silent)? {
            Step::Data(data) if body.len() + data.len() > most_bytes => {
                return Ok(Answer { status, headers: head.headers, body: None });
            }
            Step::Data(data) => {
                counters.received(data.len() as u64);
                body.extend_from_slice(&data);
            }
            Step::End => {
                incoming.finish();
                return Ok(Answer { status, headers: head.headers, body: Some(body) });
            }
            Step::Broken(error) => return Err(error),
        }
    }
}
