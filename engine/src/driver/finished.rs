//! A finished file that has the output's name already and stays: whether it is the object.

use std::path::Path;

use super::*;
use crate::disk::verify::{FileReport, verify_file};
use crate::model::digest_fields::FieldDigest;
use crate::model::size::differing;

/// A file that is the object.
struct Found {
    version: Version,
    /// What hashing it has told, where that was the proof.
    report: Option<FileReport>,
}

impl Driver {
    /// Learns which version the finished file at `output` is, that stays whatever it is: all
    /// that is asked is whether it is the object. False where no answer could show that.
    pub(super) fn know_finished(&mut self, output: &Path) -> bool {
        if !self.can_be_shown() || !output.is_file() {
            return false;
        }
        let has_tag = |version: &Version| version.has_strong_tag();
        if self.options.checksum.is_none() {
            let version = Version::of(output).filter(has_tag);
            self.known = version.map(|version| (output.to_owned(), version));
        }
        self.planner.probe();
        true
    }

    /// Whether a finished file can be shown to be what is wanted. What is recorded of a file
    /// says nothing of parts of the object.
    fn can_be_shown(&self) -> bool {
        self.options.range.is_none() || self.options.checksum.is_some()
    }

    /// Where a finished file has the name and stays: ends the download, well if that file is
    /// the object. False where the name is free.
    pub(super) async fn end_with_finished(&mut self, output: &Path, resource: &Resource) -> bool {
        // What this run has begun is ended by publishing it.
        if self.options.existing != Existing::Verify
            || self.options.keeps_nothing()
            || self.kept.is_some()
        {
            return false;
        }
        let replaces_empty = self.options.continues_foreign();
        let paths = self.options.paths(output);
        let Err(refused) = partial::refuse_finished(&paths, replaces_empty) else {
            return false;
        };
        if !self.can_be_shown() || !output.is_file() {
            self.end_with(refused).await;
            return true;
        }
        match self.compared(output, resource).await {
            Some(Ok(Found { version, report })) => {
                self.end_unchanged(output.to_owned(), version, resource.clone());
                if let (Some(Ok(Outcome::Completed(summary))), Some(report)) =
                    (&mut self.ended, report)
                {
                    summary.blake3 = Some(report.blake3);
                    summary.verified = report.verified.filter(|_| self.options.checksum.is_some());
                }
            }
            other => self.end_with(other.and_then(Result::err).unwrap_or(refused)).await,
        }
        true
    }

    /// Whether [`Self::end_with_finished`] would end the download well.
    pub(super) async fn is_finished(&self, output: &Path, resource: &Resource) -> bool {
        let stays = self.options.existing == Existing::Verify && !self.options.keeps_nothing();
        let (paths, replaces_empty) =
            (self.options.paths(output), self.options.continues_foreign());
        stays
            && self.can_be_shown()
            && partial::refuse_finished(&paths, replaces_empty).is_err()
            && output.is_file()
            && matches!(self.compared(output, resource).await, Some(Ok(_)))
    }

    async fn compared(&self, output: &Path, of: &Resource) -> Option<Result<Found, Error>> {
        let (checksum, told) = (self.options.checksum.clone(), self.claims.of_object());
        let (file, of) = (output.to_owned(), of.clone());
        let compare = move || compare(&file, &of, checksum.as_ref(), &told);
        self.engine.writers.crew().blocking(compare).await
    }
}

/// Compares the file with the object, of which a digest was given, or was `told` by the
/// server, where that is so. Blocking.
///
/// # Errors
/// [`ErrorKind::OutputExists`] where nothing shows that it is the object.
fn compare(
    file: &Path,
    resource: &Resource,
    checksum: Option<&Checksum>,
    told: &[FieldDigest],
) -> Result<Found, Error> {
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
        && let Some(version) = Version::of(file).filter(|version| version.is_provably(resource))
    {
        return Ok(Found { version, report: None });
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
        Ok(report) => Ok(Found { version: by_time, report: Some(report) }),
        // What was to be fetched is not wrong: the file in its place is another one.
        Err(error) if error.kind() == ErrorKind::DigestMismatch => {
            Err(Error::new(ErrorKind::OutputExists, error.to_string()).with_hint(REPLACE_HINT))
        }
        Err(error) => Err(error),
    }
}

const SHORTER_HINT: &str = "continue it if another program began it (-c=always), replace it (--overwrite), or choose another output";
const REPLACE_HINT: &str = "replace it (--overwrite), or choose another output";
const COMPARE_HINT: &str = "give the object's digest (--checksum), replace the file (--overwrite), or choose another output";
