//! Bugs that a test must notice, each put into the program by `HAUL_BUG=NAME` and queried with
//! [`has_bug`](crate::fault_point::has_bug).
//!
//! This module exists only with the feature `fault-points`, which only the test package turns on.
//! `.ci/check-tests-see-bugs` puts in one bug after the other, and `.ci/check-release` looks for
//! their names in a release build.

use std::sync::OnceLock;

use http::{HeaderMap, HeaderValue, header};

use crate::model::event::ValidatorKind;
use crate::model::resource::Resource;
use crate::model::response::Asked;

/// Each bug, with its name in `HAUL_BUG`.
macro_rules! bugs {
    ($($(#[$doc:meta])* $bug:ident = $name:literal,)+) => {
        /// A bug that some test must notice.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Bug {
            $($(#[$doc])* $bug,)+
        }

        const NAMES: &[(&str, Bug)] = &[$(($name, Bug::$bug),)+];
    };
}

bugs! {
    /// Publish without syncing the data.
    NoDataSync = "no-data-sync",
    /// Publish without syncing the directory.
    NoDirectorySync = "no-directory-sync",
    /// Replace the checkpoint without syncing the directory.
    NoCheckpointDirectorySync = "no-checkpoint-directory-sync",
    /// Take a 206 without looking at its Content-Range.
    AnyRange = "any-range",
    /// Take a 206 without looking at its ETag.
    AnyTag = "any-tag",
    /// Take a response without a strong ETag as if it had shown the known one.
    ConditionIsProof = "condition-is-proof",
    /// Take any transfer coding for `chunked`.
    AnyTransferCoding = "any-transfer-coding",
    /// Believe complete segments of an earlier run without hashing them.
    TrustComplete = "trust-complete",
    /// Store what a server sends beyond the range.
    BeyondRange = "beyond-range",
    /// Send credentials wherever a redirect points.
    SecretsToAnyone = "secrets-to-anyone",
    /// Count a response that brings no byte as progress.
    StallIsProgress = "stall-is-progress",
    /// Look at no digest that a server sends.
    NoFieldDigests = "no-field-digests",
    /// Believe that a URL which leads elsewhere has the bytes that are stored.
    NoUrlProof = "no-url-proof",
    /// Believe a checkpoint, whichever file is beside it.
    AnyDataFile = "any-data-file",
    /// Take files for ours because of their names.
    ForeignSideFiles = "foreign-side-files",
    /// Fetch a small file without claiming it first.
    NoClaims = "no-claims",
}

pub(crate) fn is_in_the_program(bug: Bug) -> bool {
    static CHOSEN: OnceLock<Option<Bug>> = OnceLock::new();
    let chosen = CHOSEN.get_or_init(|| {
        let name = std::env::var("HAUL_BUG").ok()?;
        let found = NAMES.iter().find(|(its_name, _)| *its_name == name);
        Some(found.expect("HAUL_BUG: the name of a bug").1)
    });
    *chosen == Some(bug)
}

/// The fields of a response as they are, except where a bug blinds the engine.
pub(crate) fn misread(
    mut headers: HeaderMap,
    asked: Asked,
    expected: Option<&Resource>,
) -> HeaderMap {
    if is_in_the_program(Bug::ConditionIsProof)
        && let Some(tag) = expected.and_then(|expected| expected.validator.etag.as_ref())
        && crate::model::validator::Validator::from_headers(&headers).kind()
            != ValidatorKind::StrongEtag
        && let Ok(value) = HeaderValue::from_str(&tag.to_string())
    {
        headers.insert(header::ETAG, value);
    }
    if is_in_the_program(Bug::AnyTransferCoding) {
        headers.remove(header::TRANSFER_ENCODING);
    }
    if is_in_the_program(Bug::AnyTag) {
        headers.remove(header::ETAG);
    }
    if is_in_the_program(Bug::AnyRange)
        && let Asked::Range(asked) = asked
        && let Some(total) = headers
            .get(header::CONTENT_RANGE)
            .and_then(|value| value.to_str().ok()?.rsplit_once('/'))
            .and_then(|(_, total)| total.parse::<u64>().ok())
        && let Ok(value) = HeaderValue::from_str(&format!(
            "bytes {}-{}/{total}",
            asked.start(),
            asked.end().min(total) - 1
        ))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    headers
}
