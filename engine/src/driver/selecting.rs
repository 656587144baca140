//! Parts of an object: what is asked for and what is answered count from the
//! object's first byte, everything else from the first byte that is wanted.

use super::*;
use crate::model::selection::Selected;
use crate::model::size::exact_words;

impl Driver {
    /// The bytes of the object that a lease of `range` asks for. Where the wanted
    /// bytes do not follow each other there, the first ones that do: a shorter
    /// response than asked for is nothing unusual.
    pub(super) fn in_object(&self, range: ByteRange) -> ByteRange {
        let Some(selection) = &self.options.range else { return range };
        match &self.selected {
            Some(selected) => selected.in_object(range).unwrap_or(ByteRange::new(0, 1)),
            None => selection.opening(range.len()),
        }
    }

    /// Whether the bytes of an earlier run are those that are wanted.
    pub(super) fn wants_the_same(&self, earlier: Option<&Selected>) -> bool {
        match (&self.options.range, earlier) {
            (None, None) => true,
            (Some(wanted), Some(earlier)) => {
                wanted.of(earlier.object_bytes).as_ref() == Ok(earlier)
            }
            _ => false,
        }
    }

    /// What responses are compared with.
    pub(super) fn expected_of_object(&self) -> Option<Resource> {
        let mut expected = self.expected.clone()?;
        if let Some(selected) = &self.selected {
            expected.total = Some(selected.object_bytes);
        }
        Some(expected)
    }

    /// The verdict on a response, as if the wanted bytes were the object.
    ///
    /// # Errors
    /// When the object has not the bytes that are wanted.
    pub(super) fn select(&mut self, lease: LeaseId, verdict: Verdict) -> Result<Verdict, Failure> {
        let Some(selection) = self.options.range.clone() else { return Ok(verdict) };
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
            if let Some(part) = selection.cut_by(object_bytes) {
                self.notice(
                    NoticeCode::RangeCut,
                    format!(
                        "the object has {}: of the range {part} there is only a part",
                        exact_words(object_bytes)
                    ),
                );
            }
            self.selected = Some(selected);
        }
        let Some(selected) = &self.selected else { return Ok(verdict) };
        let local = |mut resource: Resource| {
            resource.total = local_total(selected, resource.total);
            resource
        };
        Ok(match verdict {
            Verdict::Partial { range, resource } => {
                let wanted = self.running.get(&lease).and_then(|running| running.wanted);
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
        })
    }
}

/// The part of `wanted` that is in a response with `got` of the object; nothing
/// where that was only asked for its size.
fn answered(selected: &Selected, wanted: ByteRange, got: ByteRange) -> ByteRange {
    match selected.in_object(wanted).filter(|of| of.start() == got.start()) {
        Some(of) => ByteRange::new(wanted.start(), wanted.start() + of.len().min(got.len())),
        None => ByteRange::new(0, 0),
    }
}

/// The total of what is downloaded, of an object of `total` bytes. Of another
/// object only that it is another one matters.
fn local_total(selected: &Selected, total: Option<u64>) -> Option<u64> {
    if total == Some(selected.object_bytes) { selected.len_bytes() } else { total }
}
