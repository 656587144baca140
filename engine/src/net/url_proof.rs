//! Whether a URL leads to the bytes that are stored, tested with two samples of them.
//!
//! A link that leads elsewhere than before may lead to another object, and in nginx different files
//! of equal size and time share an entity tag. So before any of its bytes are joined, the samples
//! of a [`Proof`] are fetched from there and must match what is stored.

use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap, HeaderValue};
use tokio::time::{sleep, timeout};
use url::Url;

use super::connect::Origin;
use super::failures::{FetchError, FetchErrorKind};
use super::fetcher::{self, Counters, RequestSpec, Step};
use crate::fault_point;
use crate::model::range::ByteRange;
use crate::model::resource::Resource;
use crate::model::response::{Asked, Verdict, classify};
use crate::model::samples::{Check, Proof, Sample};
use crate::model::selection::Selected;
use crate::net::transport::Transport;

/// Tries in a row without a byte before the proof is given up.
const TRIES: u32 = 4;

/// Where and how to ask for the samples.
#[derive(Debug, Clone)]
pub(crate) struct Asking {
    pub(crate) url: Url,
    pub(crate) origin: Origin,
    /// The request's fields, without a range.
    pub(crate) headers: HeaderMap,
    /// Where the bytes are in the object, if only part of it is wanted.
    pub(crate) selected: Option<Selected>,
    /// What responses are compared with: the whole object.
    pub(crate) expected: Resource,
    /// The longest silence that is accepted.
    pub(crate) patience: Duration,
}

/// The samples cannot be fetched.
#[derive(Debug)]
pub(crate) struct Unproven {
    pub(crate) error: FetchError,
    /// Whether access to them was refused.
    pub(crate) denied: bool,
}

/// Why a sample, or the rest of one, did not come.
enum Failed {
    /// Another try may bring it.
    ForNow(FetchError),
    ForGood(Unproven),
    /// The response says that another object is there.
    Other,
}

/// Fetches the samples of `proof` and compares them.
///
/// # Errors
/// When the samples cannot be fetched, which shows nothing about the URL.
pub(crate) async fn holds(
    proof: &Proof,
    transport: &dyn Transport,
    counters: &Arc<Counters>,
    asking: &Asking,
) -> Result<bool, Unproven> {
    if fault_point::has_bug!(NoUrlProof) {
        return Ok(true);
    }
    for sample in proof.samples() {
        if !is_there(sample, transport, counters, asking).await? {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn is_there(
    sample: &Sample,
    transport: &dyn Transport,
    counters: &Arc<Counters>,
    asking: &Asking,
) -> Result<bool, Unproven> {
    let mut check = Check::of(sample);
    let mut at = sample.range.start();
    let mut tries = 0;
    loop {
        let before = at;
        let rest = ByteRange::new(at, sample.range.end());
        let take = |bytes: &[u8]| {
            at += bytes.len() as u64;
            check.take(bytes)
        };
        let ended = fetch(transport, counters, asking, rest, take).await;
        if at == sample.range.end() || check.differs() {
            return Ok(check.holds());
        }
        tries = if at > before { 0 } else { tries + 1 };
        match ended {
            Err(Failed::Other) => return Ok(false),
            Err(Failed::ForGood(error)) => return Err(error),
            Err(Failed::ForNow(error)) if tries >= TRIES => {
                return Err(Unproven { error, denied: false });
            }
            _ => sleep(Duration::from_millis(500) * 2u32.pow(tries.min(4))).await,
        }
    }
}

impl Asking {
    /// The request for `range`, and which bytes of the object it asks for.
    fn request(&self, range: ByteRange) -> (RequestSpec, ByteRange) {
        let range = match &self.selected {
            Some(selected) => selected.in_object(range).unwrap_or(ByteRange::new(0, 1)),
            None => range,
        };
        let mut headers = self.headers.clone();
        if let Ok(value) = HeaderValue::from_str(&range.to_header_value()) {
            headers.insert(header::RANGE, value);
        }
        (RequestSpec::new(self.url.clone(), self.origin.clone(), headers), range)
    }
}

/// Passes the bytes of one response to `take`, as long as they come and are wanted.
async fn fetch(
    transport: &dyn Transport,
    counters: &Arc<Counters>,
    asking: &Asking,
    wanted: ByteRange,
    mut take: impl FnMut(&[u8]) -> bool,
) -> Result<(), Failed> {
    let failed = |kind, message: String| FetchError::new(kind, message);
    let silent = |_| {
        let message = format!("{} sent nothing for {} s", asking.origin, asking.patience.as_secs());
        Failed::ForNow(failed(FetchErrorKind::Reset, message))
    };
    let (spec, asked) = asking.request(wanted);
    let begun = timeout(asking.patience, fetcher::begin(transport, &spec, counters));
    let (head, mut body) = begun.await.map_err(silent)?.map_err(Failed::ForNow)?.into_parts();
    let asked = Asked::Range(asked);
    let range = match classify(asked, head.status.as_u16(), &head.headers, Some(&asking.expected)) {
        Verdict::Partial { range, .. } => range,
        Verdict::Changed { .. } | Verdict::TagDiffers { .. } => return Err(Failed::Other),
        verdict => {
            let message = format!("{} answered {} instead", asking.origin, head.status);
            let error = failed(FetchErrorKind::Protocol, message);
            return Err(match verdict {
                Verdict::Throttled { .. } | Verdict::Status { transient: true, .. } => {
                    Failed::ForNow(error)
                }
                Verdict::Denied { .. } => Failed::ForGood(Unproven { error, denied: true }),
                _ => Failed::ForGood(Unproven { error, denied: false }),
            });
        }
    };
    let mut left = range.len();
    while left > 0 {
        match timeout(asking.patience, fetcher::next(&mut body)).await.map_err(silent)? {
            Step::Data(data) => {
                let data = &data[..data.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
                counters.received(data.len() as u64);
                left -= data.len() as u64;
                if !take(data) {
                    return Ok(());
                }
            }
            Step::End => break,
            Step::Broken(error) => return Err(Failed::ForNow(error)),
        }
    }
    if left == 0 {
        return Ok(());
    }
    let message = format!("the response of {} ended early", asking.origin);
    Err(Failed::ForNow(failed(FetchErrorKind::Reset, message)))
}
