//! Parts of an object: requests and responses count from the object's first
//! byte, everything else from the first wanted byte.

use super::Opening;
use crate::model::error::ErrorKind;
use crate::model::planner::Failure;
use crate::model::range::ByteRange;
use crate::model::resource::Resource;
use crate::model::response::Verdict;
use crate::model::selection::{Selected, Selection};
use crate::model::size::exact_words;

impl Opening {
    /// The bytes of the object that a lease of `range` asks for. If these are
    /// not contiguous, only the first ones that are: a shorter response than
    /// asked for is nothing unusual.
    pub(in crate::driver) fn in_object(
        &self,
        selection: Option<&Selection>,
        range: ByteRange,
    ) -> ByteRange {
        let Some(selection) = selection else { return range };
        match &self.selected {
            Some(selected) => selected.in_object(range).unwrap_or(ByteRange::new(0, 1)),
            None => selection.opening(range.len()),
        }
    }

    pub(in crate::driver) fn selected(&self) -> Option<&Selected> {
        self.selected.as_ref()
    }

    /// The size of the object of which `total` bytes are wanted.
    pub(in crate::driver) fn object_bytes(&self, total: Option<u64>) -> Option<u64> {
        self.selected.as_ref().map(|selected| selected.object_bytes).or(total)
    }

    /// The verdict on a response to a request for `wanted`, as if the wanted bytes were the object,
    /// and a message about a range that is only partly in the object.
    ///
    /// # Errors
    /// When the object does not have the wanted bytes.
    pub(in crate::driver) fn select(
        &mut self,
        selection: Option<&Selection>,
        wanted: Option<ByteRange>,
        verdict: Verdict,
    ) -> Result<(Verdict, Option<String>), Failure> {
        let mut cut = None;
        let Some(selection) = selection else { return Ok((verdict, cut)) };
        let object_bytes = match &verdict {
            Verdict::Partial { resource, .. } => resource.total,
            Verdict::Unsatisfied { total } => *total,
            _ => None,
        };
        if self.expected.is_none()
            && let Some(object_bytes) = object_bytes
        {
            let beyond =
                |message: String| Failure::new(ErrorKind::HttpStatus, message).with_status(416);
            let selected = selection.of(object_bytes).map_err(|error| beyond(error.to_string()))?;
            if selected.len_bytes().is_none() {
                return Err(beyond("the ranges have more bytes than any file".to_owned()));
            }
            cut = selection.cut_by(object_bytes).map(|part| {
                let size = exact_words(object_bytes);
                format!("the object has {size}: of the range {part} there is only a part")
            });
            self.selected = Some(selected);
        }
        let Some(selected) = &self.selected else { return Ok((verdict, cut)) };
        let local = |mut resource: Resource| {
            resource.total = local_total(selected, resource.total);
            resource
        };
        let verdict = match verdict {
            Verdict::Partial { range, resource } => {
                let range =
                    wanted.map_or(ByteRange::new(0, 0), |wanted| answered(selected, wanted, range));
                Verdict::Partial { range, resource: local(resource) }
            }
            Verdict::Unsatisfied { total } => {
                Verdict::Unsatisfied { total: local_total(selected, total) }
            }
            Verdict::Changed { seen } => Verdict::Changed { seen: local(seen) },
            Verdict::TagDiffers { seen } => Verdict::TagDiffers { seen: local(seen) },
            other => other,
        };
        Ok((verdict, cut))
    }
}

/// The part of `wanted` that is in a response with `got` of the object; nothing
/// if the request was only for the size.
fn answered(selected: &Selected, wanted: ByteRange, got: ByteRange) -> ByteRange {
    match selected.in_object(wanted).filter(|of| of.start() == got.start()) {
        Some(of) => ByteRange::new(wanted.start(), wanted.start() + of.len().min(got.len())),
        None => ByteRange::new(0, 0),
    }
}

/// The number of wanted bytes in an object of `total` bytes. Of another object
/// it matters only that it is another one.
fn local_total(selected: &Selected, total: Option<u64>) -> Option<u64> {
    if total == Some(selected.object_bytes) { selected.len_bytes() } else { total }
}

/// Whether the bytes of an earlier run are those that are wanted.
pub(in crate::driver) fn wants_the_same(
    wanted: Option<&Selection>,
    earlier: Option<&Selected>,
) -> bool {
    match (wanted, earlier) {
        (None, None) => true,
        (Some(wanted), Some(earlier)) => wanted.of(earlier.object_bytes).as_ref() == Ok(earlier),
        _ => false,
    }
}
