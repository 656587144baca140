//! Whether what an earlier run left belongs to the requested object.

use bytes::Bytes;

use super::request::Request;
use crate::model::checkpoint::{Checkpoint, Claim, Match};
use crate::model::config::Resume;
use crate::model::range::ByteRange;
use crate::model::samples::Proof;

/// The verdict on an earlier run's checkpoint.
pub(super) enum Sifted {
    /// It belongs to this object, and now names this URL.
    Counts(Box<Checkpoint>),
    /// It belongs to it if this proof holds.
    Prove(Proof),
    /// It does not belong to it, for this reason.
    Refused(String),
}

/// Judges the checkpoint of the data called `what`, which may have been `proven` to
/// have the same bytes as this URL, or other bytes.
pub(super) fn sift(
    request: &Request,
    mut checkpoint: Checkpoint,
    proven: Option<bool>,
    what: &str,
    read: impl Fn(ByteRange) -> Option<Bytes>,
) -> Sifted {
    let same_url = checkpoint.identity.matches(&request.url, &request.answered);
    match (judge(request, &checkpoint, same_url, what), proven) {
        (Ok(believed), _) if believed || proven == Some(true) => {
            // Nobody has compared bytes: a digest may show it in the end.
            checkpoint.mixed |= !same_url && proven.is_none();
            checkpoint.identity = request.identity(checkpoint.identity.salt);
            request.url.host_str().unwrap_or_default().clone_into(&mut checkpoint.host);
            Sifted::Counts(Box::new(checkpoint))
        }
        (Ok(_), Some(_)) => {
            Sifted::Refused(format!("{what} is of another URL that has other bytes"))
        }
        (Ok(_), None) => match proof(&checkpoint, request.seed, read) {
            Some(proof) => Sifted::Prove(proof),
            None => Sifted::Refused(format!(
                "{what} is of another URL and has nothing that can be compared with this one"
            )),
        },
        (Err(why), _) => Sifted::Refused(why),
    }
}

/// Stored bytes that this URL can be compared with.
fn proof(
    checkpoint: &Checkpoint,
    seed: u64,
    read: impl Fn(ByteRange) -> Option<Bytes>,
) -> Option<Proof> {
    let begun = checkpoint.prefixes.iter().map(|prefix| {
        let start = u64::from(prefix.segment) * checkpoint.segment_size_bytes;
        ByteRange::new(start, start + prefix.len_bytes)
    });
    Proof::of(checkpoint, seed, &read).or_else(|| Proof::of_begun(begun, seed, &read))
}

/// Whether the checkpoint belongs to this object; `false` where that must be
/// proven. The error says why it does not.
pub(super) fn judge(
    request: &Request,
    checkpoint: &Checkpoint,
    same_url: bool,
    what: &str,
) -> Result<bool, String> {
    if !request.resource.ranges {
        return Err("the server gives no byte ranges".to_owned());
    }
    if checkpoint.selected != request.selected {
        return Err(format!("{what} has other bytes of the object"));
    }
    let claim = Claim {
        same_url,
        digest: request.has_digest,
        told: request.told_digest,
        always: request.resume == Resume::Always,
    };
    match checkpoint.matches(&request.resource, claim) {
        Match::Same => Ok(true),
        Match::Prove => Ok(false),
        Match::Different(why) => Err(why),
    }
}
