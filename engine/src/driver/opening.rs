//! What is known about the object and about what is already here, before its bytes are stored.
//!
//! At first only an earlier run's checkpoint, or the version of a finished output, says anything
//! about the object: this is *claimed*, and makes the first request ask for what is missing or
//! whether there is another version. The response that the object is opened with then says what is
//! *expected* of all later ones. When the download begins again, both are forgotten as far as they
//! may be wrong. If only parts of the object are wanted, what is known counts from the first wanted
//! byte, and [`selecting`] translates.

mod selecting;

use std::path::{Path, PathBuf};

use http::HeaderName;
use http::header::HeaderMap;
use url::Url;

pub(super) use self::selecting::wants_the_same;
use super::options::Options;
use crate::disk::conditional::{Note, Version, is_shown};
use crate::model::config::{Existing, Resume};
use crate::model::error::Kept;
use crate::model::resource::Resource;
use crate::model::selection::Selected;
use crate::model::validator::Validator;

#[derive(Default)]
pub(super) struct Opening {
    /// The head of the last response, for a plan.
    head: Option<(u16, HeaderMap)>,
    /// Whether the body of the last whole object marks its own end.
    chunked: bool,
    /// What is known about the object; the total is that of the wanted bytes.
    expected: Option<Resource>,
    /// Where the wanted bytes are in the object, if not all of it is wanted.
    selected: Option<Selected>,
    /// The version of the output, while the server is asked for another one.
    known: Option<(PathBuf, Version)>,
    /// The output, if a server said that it has no newer version.
    not_modified: Option<PathBuf>,
    /// The URL of the response that the object was opened with.
    opened_from: Option<Url>,
    /// Whether an earlier run's checkpoint may still be believed.
    believe_earlier: bool,
    /// Where that checkpoint is, until this run has one of its own.
    earlier: Option<Kept>,
}

/// What a 304 means.
pub(super) enum NotModified {
    /// No condition was sent that it could answer.
    Unasked,
    /// The request is to be repeated without conditions.
    AskAgain,
    /// The output is the object.
    Unchanged(PathBuf, Version),
}

impl Opening {
    pub(super) fn new(options: &Options) -> Self {
        Self { believe_earlier: options.resume != Resume::Never, ..Self::default() }
    }

    /// What a response said, for a plan.
    pub(super) fn note_head(&mut self, status: u16, headers: HeaderMap) {
        self.head = Some((status, headers));
    }

    pub(super) fn take_head(&mut self) -> (u16, HeaderMap) {
        self.head.take().unwrap_or_default()
    }

    /// The whole object comes, in a body that marks its own end (`chunked`) or does not.
    pub(super) fn comes_whole(&mut self, chunked: bool) {
        self.chunked = chunked;
    }

    /// Whether nothing but the end of the connection marks the end of the object.
    pub(super) fn has_unproven_end(&self) -> bool {
        self.is_endless() && !self.chunked
    }

    /// What is known about the object, as if the wanted bytes were all of it.
    pub(super) fn expected(&self) -> Option<&Resource> {
        self.expected.as_ref()
    }

    /// How many bytes are wanted, where that is known.
    pub(super) fn total(&self) -> Option<u64> {
        self.expected.as_ref().and_then(|resource| resource.total)
    }

    /// Whether the object is known and its length is not.
    pub(super) fn is_endless(&self) -> bool {
        self.expected.as_ref().is_some_and(|resource| resource.total.is_none())
    }

    pub(super) fn expect(&mut self, resource: Resource) {
        self.expected = Some(resource);
    }

    /// The object is opened with a response that came from there.
    pub(super) fn open_from(&mut self, url: Option<Url>) {
        self.opened_from = url;
    }

    pub(super) fn opened_from(&self) -> Option<&Url> {
        self.opened_from.as_ref()
    }

    pub(super) fn believes_earlier(&self) -> bool {
        self.believe_earlier
    }

    pub(super) fn earlier(&self) -> Option<&Kept> {
        self.earlier.as_ref()
    }

    /// The output whose checkpoint an earlier run left.
    pub(super) fn earlier_output(&self) -> Option<PathBuf> {
        match &self.earlier {
            Some(Kept::File(checkpoint)) => Some(checkpoint.with_extension("")),
            _ => None,
        }
    }

    /// Sets where an earlier run's checkpoint is; `None` once the checkpoint is this run's.
    pub(super) fn set_earlier(&mut self, kept: Option<Kept>) {
        self.earlier = kept;
    }

    /// An earlier run's checkpoint, which is in `kept`, claims this about the object.
    pub(super) fn claim(&mut self, claimed: Resource, selected: Option<Selected>, kept: Kept) {
        self.expected = Some(claimed);
        self.selected = selected;
        self.earlier = Some(kept);
    }

    /// The resource by which an earlier checkpoint is judged: another source's validator counts for
    /// nothing where a digest decides between them.
    pub(super) fn claimed_or(&self, resource: &Resource, by_digest: bool) -> Resource {
        let claimed = self.expected.as_ref().filter(|_| by_digest);
        let validator = claimed.map_or(&resource.validator, |claimed| &claimed.validator);
        Resource { validator: validator.clone(), ..resource.clone() }
    }

    /// What a response from a source is judged by: the object's size and coding, and the source's
    /// own validator.
    pub(super) fn expected_with(&self, validator: Validator) -> Option<Resource> {
        let expected = self.expected.clone()?;
        let total = self.object_bytes(expected.total);
        Some(Resource { total, validator, ..expected })
    }

    /// What was known may be wrong; with `forget_identity`, the object may be another one, too.
    pub(super) fn begin_again(&mut self, forget_identity: bool) {
        self.believe_earlier = false;
        (self.known, self.not_modified) = (None, None);
        if forget_identity {
            (self.expected, self.selected) = (None, None);
        }
    }

    /// Sets the version of the output, if the server is asked for another one.
    pub(super) fn know(&mut self, known: Option<(PathBuf, Version)>) {
        self.known = known;
    }

    /// The fields that ask for another version; none if a partial shows that there is one.
    pub(super) fn conditions(&self, options: &Options) -> Vec<(HeaderName, String)> {
        match &self.known {
            Some((_, version)) if self.expected.is_none() => version.conditions(options.if_changed),
            _ => Vec::new(),
        }
    }

    /// The server says that it has no version other than ours. If the file may have lost its end,
    /// the request is repeated without conditions, which shows the size.
    pub(super) fn on_not_modified(&mut self, options: &Options) -> NotModified {
        if self.conditions(options).is_empty() {
            return NotModified::Unasked;
        }
        match self.known.take() {
            None => NotModified::Unasked,
            Some((output, version)) if version.is_noted() => {
                NotModified::Unchanged(output, version)
            }
            Some((output, _)) => {
                self.not_modified = Some(output);
                NotModified::AskAgain
            }
        }
    }

    /// The version of the output, if that is what the server has although it sends it.
    pub(super) fn is_unchanged(
        &self,
        options: &Options,
        output: &Path,
        resource: &Resource,
    ) -> Option<Version> {
        if !options.if_changed || options.keeps_nothing() {
            return None;
        }
        // An earlier 304 said so, and only the size was still open.
        let same = |version: &Version| {
            self.not_modified.as_deref() == Some(output)
                && resource.total == Some(version.len_bytes())
        };
        Version::of(output).filter(|version| version.is(resource) || same(version))
    }

    /// What is recorded with the published file, for the next time. Nothing is if the time and the
    /// size tell as much: it would cost two system calls for each of thousands of files.
    pub(super) fn note(&self, options: &Options) -> Option<Note> {
        let whole = options.range.is_none();
        let etag = self.expected.as_ref().and_then(|resource| resource.validator.etag.as_ref());
        let note = whole.then(|| Note::of(etag));
        match options.existing {
            _ if options.if_changed => note,
            Existing::Verify => {
                let validator = self.expected.as_ref().map(|it| &it.validator)?;
                let source = || Note::of_source(options.seed as u32, &options.url, validator);
                match options.trust_url && !is_shown(validator, options.remote_time) {
                    true => whole.then(source),
                    false => note.filter(|note| !note.is_empty()),
                }
            }
            _ => None,
        }
    }
}
