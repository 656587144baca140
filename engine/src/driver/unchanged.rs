//! The loop's step for an output that is the object already.
//!
//! Either the caller asked for the object only if it changed, or a finished file has the output's
//! name and stays in any case: then the only question is whether it is the object. Both end the
//! download successfully without storing a byte, and readers read the file that is there.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use super::{Driver, Outcome};
use crate::disk::conditional::Version;
use crate::disk::partials;
use crate::disk::readable::Readable;
use crate::disk::resume::refusing::refuse_finished;
use crate::disk::storage::existing::ExistingFile;
use crate::disk::verify::{FileReport, verify_file};
use crate::driver::contents::Open;
use crate::model::config::{Checksum, Existing};
use crate::model::digest_fields::FieldDigest;
use crate::model::error::{Error, ErrorKind};
use crate::model::event::Summary;
use crate::model::hint::{Hint, Way};
use crate::model::layout::Layout;
use crate::model::resource::Resource;
use crate::model::size::differing;

/// A file that was shown to be the object.
struct Shown {
    version: Version,
    /// The result of hashing it, if that was the proof.
    report: Option<FileReport>,
}

impl Driver {
    /// Whether a finished file can be shown to be what is wanted. What is recorded about a file
    /// says nothing about parts of the object.
    pub(super) fn can_be_shown(&self) -> bool {
        self.options.range.is_none() || self.options.checksum.is_some()
    }

    /// If a finished file has the name and stays, ends the download, successfully if that file is
    /// the object. False if the name is free.
    ///
    /// # Errors
    /// If that file was not shown to be the object.
    pub(super) async fn end_with_finished(
        &mut self,
        output: &Path,
        resource: &Resource,
    ) -> Result<bool, Error> {
        // What this run has begun ends by being published.
        if self.storing.keeps_place() {
            return Ok(false);
        }
        let Some(refused) = self.refuse_finished(output) else { return Ok(false) };
        if !self.can_be_shown() || !output.is_file() {
            return Err(refused);
        }
        let Shown { version, report } = self.compared(output, resource).await?;
        self.end_unchanged(output.to_owned(), version, resource.clone(), report);
        Ok(true)
    }

    /// Whether [`Self::end_with_finished`] would end the download successfully.
    pub(super) async fn is_finished(&self, output: &Path, resource: &Resource) -> bool {
        self.can_be_shown()
            && self.refuse_finished(output).is_some()
            && output.is_file()
            && self.compared(output, resource).await.is_ok()
    }

    /// Why nothing else may be stored at `output`, if what is there is compared.
    fn refuse_finished(&self, output: &Path) -> Option<Error> {
        if self.options.existing != Existing::Verify || self.options.keeps_nothing() {
            return None;
        }
        let paths = self.options.paths(output);
        refuse_finished(&paths, self.options.continues_foreign()).err()
    }

    async fn compared(&self, output: &Path, of: &Resource) -> Result<Shown, Error> {
        let (checksum, told) = (self.options.checksum.clone(), self.proofs.claimed());
        let (file, of) = (output.to_owned(), of.clone());
        let url = self.options.trust_url.then(|| self.options.url.clone());
        let compare = move || compare(&file, &of, checksum.as_ref(), &told, url.as_ref());
        self.blocking(compare).await?
    }

    /// Ends the download with the file that is here. Readers read it, and the metadata is what is
    /// known about it.
    pub(super) fn end_unchanged(
        &mut self,
        output: PathBuf,
        version: Version,
        resource: Resource,
        report: Option<FileReport>,
    ) {
        partials::forget_published(&output);
        let bytes = version.len_bytes();
        self.meter.found(bytes);
        self.storing.set_output(Some(output.clone()));
        let metadata = self.metadata(&resource);
        self.opening.expect(resource);
        let contents = &self.shared.contents;
        let layout = Layout { total: None, segment_size_bytes: 1 };
        let stored = Readable::new(layout, Arc::clone(contents.alarm()));
        stored.up_to(0, bytes);
        contents.open(Open {
            storage: Arc::new(ExistingFile::new(output, version)),
            stored: Arc::new(stored),
            metadata,
            crew: self.engine.writers.crew(),
        });
        contents.complete(bytes);
        self.publish_progress(false);
        let of_checksum = self.options.checksum.is_some();
        let summary = Summary {
            unchanged: true,
            bytes,
            blake3: report.as_ref().map(|report| report.blake3),
            verified: report.and_then(|report| report.verified).filter(|_| of_checksum),
            ..self.summary()
        };
        self.ending.set(Ok(Outcome::Completed(Box::new(summary))));
    }
}

/// Compares the file with the object, by the digest that was given or else `told` by the server, if
/// there is one; that it is from `url` is enough if nothing more can be known. Blocking.
///
/// # Errors
/// [`ErrorKind::OutputExists`] where nothing shows that it is the object.
fn compare(
    file: &Path,
    resource: &Resource,
    checksum: Option<&Checksum>,
    told: &[FieldDigest],
    url: Option<&Url>,
) -> Result<Shown, Error> {
    let refused = |why: &str| {
        let message = format!("{} exists {why}; it was left as it is", file.display());
        Error::new(ErrorKind::OutputExists, message)
    };
    let Some(by_time) = Version::unnoted(file) else {
        return Err(refused("and cannot be examined").with_hint(REPLACE_HINT));
    };
    let len_bytes = by_time.len_bytes();
    if let Some(total) = resource.total.filter(|total| *total != len_bytes) {
        let hint = if len_bytes < total { SHORTER_HINT } else { REPLACE_HINT };
        let (len, total) = differing(len_bytes, total);
        let why = format!("with {len}, and the object has {total}");
        return Err(refused(&why).with_hint(hint));
    }
    if checksum.is_none()
        && let Some(version) = Version::of(file)
        && (version.is_provably(resource) || url.is_some_and(|url| version.is_from(url, resource)))
    {
        return Ok(Shown { version, report: None });
    }
    let told = told.first().map(|field| &field.checksum);
    let Some(checksum) = checksum.or(told) else {
        let why = match resource.total {
            Some(_) => "with the size of the object, but nothing shows that it is the object",
            None => "and the server does not tell the size of the object",
        };
        return Err(refused(why).with_hint(COMPARE_HINT));
    };
    match verify_file(file, Some(checksum)) {
        Ok(report) => Ok(Shown { version: by_time, report: Some(report) }),
        // What was to be fetched is not wrong: the file in its place is another one.
        Err(error) if error.kind() == ErrorKind::DigestMismatch => {
            Err(Error::new(ErrorKind::OutputExists, error.to_string()).with_hint(REPLACE_HINT))
        }
        Err(error) => Err(error),
    }
}

const SHORTER_HINT: Hint = Hint::File(&[Way::Continue, Way::Replace, Way::ChooseOutput]);
const REPLACE_HINT: Hint = Hint::File(&[Way::Replace, Way::ChooseOutput]);
const COMPARE_HINT: Hint = Hint::File(&[Way::GiveDigest, Way::Replace, Way::ChooseOutput]);
