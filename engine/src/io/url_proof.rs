//! Whether two URLs have the same bytes, shown by one segment.
//!
//! A partial of another host or path may continue when size and strong
//! validator agree. But different files of equal size and time share nginx's
//! entity tag, so one segment that is complete is fetched again first, and must
//! hash as it did.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::connector::{FetchError, FetchErrorKind};
use super::fetcher::{self, Counters, RequestSpec, Step};
use crate::model::checkpoint::{Checkpoint, SegmentRecord};
use crate::model::digest_tree::SegmentHasher;
use crate::model::range::ByteRange;
use crate::model::resource::Resource;
use crate::model::response::{Asked, Verdict, classify};
use crate::transport::Transport;

/// Tries without a byte before the proof is given up.
const TRIES: u32 = 4;

/// The segment that is to be fetched again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof {
    /// Its bytes.
    pub(crate) range: ByteRange,
    /// What they hash to.
    hash: [u8; 32],
    /// Whether it is the whole object.
    whole: bool,
}

impl Proof {
    /// The last complete segment of `checkpoint` that was hashed: files that
    /// differ often begin alike. `None` when there is none.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Option<Self> {
        let total = checkpoint.total?;
        let size = checkpoint.segment_size_bytes;
        let (index, hash) = checkpoint.segments.iter().enumerate().rev().find_map(
            |(index, record)| match record {
                SegmentRecord::Complete(hash) | SegmentRecord::Durable(hash) => {
                    hash.map(|hash| (index as u64, hash))
                }
                SegmentRecord::Missing => None,
            },
        )?;
        let range = ByteRange::new(index * size, ((index + 1) * size).min(total));
        Some(Self { range, hash, whole: checkpoint.segments.len() == 1 })
    }

    /// Fetches the segment and compares. `spec_for` makes the request of a range;
    /// nothing may be silent for longer than `patience`.
    ///
    /// # Errors
    /// When the bytes cannot be had; nothing is shown then.
    pub(crate) async fn holds(
        &self,
        transport: &dyn Transport,
        counters: &Arc<Counters>,
        expected: &Resource,
        patience: Duration,
        spec_for: impl Fn(ByteRange) -> RequestSpec,
    ) -> Result<bool, FetchError> {
        let mut hasher = SegmentHasher::new(self.range.start(), self.whole);
        let mut at = self.range.start();
        let mut tries = 0;
        loop {
            let rest = ByteRange::new(at, self.range.end());
            let before = at;
            let spec = spec_for(rest);
            let take = |bytes: &[u8]| {
                hasher.update(bytes);
                at += bytes.len() as u64;
            };
            let ended = fetch(transport, counters, expected, patience, &spec, rest, take).await;
            if at == self.range.end() {
                return Ok(hasher.finish() == self.hash);
            }
            tries = if at > before { 0 } else { tries + 1 };
            match ended {
                Err(error) if tries >= TRIES => return Err(error),
                _ => sleep(Duration::from_millis(500) * 2u32.pow(tries.min(4))).await,
            }
        }
    }
}

/// Gives `take` the bytes of one response, as far as it goes.
async fn fetch(
    transport: &dyn Transport,
    counters: &Arc<Counters>,
    expected: &Resource,
    patience: Duration,
    spec: &RequestSpec,
    asked: ByteRange,
    mut take: impl FnMut(&[u8]),
) -> Result<(), FetchError> {
    let failed = |kind, message: String| FetchError { kind, message };
    let silent = |_| {
        let message = format!("{} sent nothing for {} s", spec.origin, patience.as_secs());
        failed(FetchErrorKind::Reset, message)
    };
    let begun =
        timeout(patience, fetcher::begin(transport, spec, counters)).await.map_err(silent)?;
    let (head, mut body) = begun?.into_parts();
    let asked = Asked::Range(asked);
    let verdict = classify(asked, head.status.as_u16(), &head.headers, Some(expected));
    let Verdict::Partial { range, .. } = verdict else {
        let message = format!("{} answered {} instead of the segment", spec.origin, head.status);
        return Err(failed(FetchErrorKind::Protocol, message));
    };
    let mut left = range.len();
    while left > 0 {
        match timeout(patience, fetcher::next(&mut body)).await.map_err(silent)? {
            Step::Data(data) => {
                let data = &data[..data.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
                counters.received(data.len() as u64);
                left -= data.len() as u64;
                take(data);
            }
            Step::End => break,
            Step::Broken(error) => return Err(error),
        }
    }
    if left == 0 {
        return Ok(());
    }
    Err(failed(FetchErrorKind::Reset, format!("the response of {} ended early", spec.origin)))
}
