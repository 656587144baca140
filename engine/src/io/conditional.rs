//! Which version of an object a finished file is, so that it is fetched again
//! only if the server has another one.
//!
//! A file's own time is the object's `Last-Modified` where the server's time was
//! kept. Its entity tag has no place in a file, so it is put beside the data as an
//! extended attribute, where the file system has those, together with the size and
//! the time that the file had: when these are other ones, somebody changed the file,
//! and it is no version of the object at all.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use http::header::{self, HeaderName};
use rustix::fs::XattrFlags;

use crate::model::resource::Resource;
use crate::model::validator::EntityTag;

/// The attribute: size, seconds and nanoseconds of the file's time, entity tag.
const ATTRIBUTE: &str = "user.haul.version";
/// Longer tags are not kept.
const LONGEST_BYTES: usize = 1024;

/// What a file says of the version that it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    len_bytes: u64,
    /// In seconds since 1970.
    modified_unix: u64,
    etag: Option<EntityTag>,
}

impl Version {
    /// Which version the file at `path` is; `None` when it is no regular file, or
    /// was changed since.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_file)?;
        let modified_unix = u64::try_from(metadata.mtime()).ok()?;
        let mut value = [0; LONGEST_BYTES + 64];
        let etag = match rustix::fs::getxattr(path, ATTRIBUTE, &mut value) {
            Ok(len) => {
                let text = std::str::from_utf8(&value[..len]).ok()?;
                let (stamp, tag) = text.rsplit_once(' ')?;
                if stamp != stamp_of(&metadata) {
                    return None;
                }
                Some(EntityTag::parse(tag)?)
            }
            Err(_) => None,
        };
        Some(Self { len_bytes: metadata.len(), modified_unix, etag })
    }

    /// Notes at the published file which version it is. That it cannot be noted
    /// costs a download.
    pub(crate) fn note(path: &Path, etag: &EntityTag) -> io::Result<()> {
        let tag = etag.to_string();
        // A space would end it; RFC 9110 has none in a tag.
        if tag.len() > LONGEST_BYTES || tag.contains(' ') {
            return Ok(());
        }
        let file = File::open(path)?;
        let value = format!("{} {tag}", stamp_of(&file.metadata()?));
        Ok(rustix::fs::fsetxattr(&file, ATTRIBUTE, value.as_bytes(), XattrFlags::empty())?)
    }

    /// The fields that have a server answer 304 if it has nothing else (RFC 9110
    /// sections 13.1.2 and 13.1.3). With a tag, the date is for servers without tags.
    pub(crate) fn conditions(&self) -> Vec<(HeaderName, String)> {
        let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.modified_unix);
        let date = (header::IF_MODIFIED_SINCE, httpdate::fmt_http_date(date));
        let tag = self.etag.as_ref().map(|tag| (header::IF_NONE_MATCH, tag.to_string()));
        tag.into_iter().chain([date]).collect()
    }

    /// Whether a server that did not heed them has this very version all the same.
    pub(crate) fn is(&self, resource: &Resource) -> bool {
        if resource.total != Some(self.len_bytes) {
            return false;
        }
        let theirs = &resource.validator;
        match (&self.etag, &theirs.etag) {
            (Some(ours), Some(theirs)) => ours.opaque == theirs.opaque,
            _ => theirs
                .last_modified
                .as_ref()
                .is_some_and(|date| date.unix_seconds == self.modified_unix),
        }
    }

    /// The file's size in bytes.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
}

fn stamp_of(metadata: &fs::Metadata) -> String {
    format!("{} {} {}", metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::model::validator::{LastModified, Validator};

    fn file(seconds: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        (dir, path)
    }

    fn resource(total: u64, etag: Option<&str>, modified: Option<u64>) -> Resource {
        let date = |unix_seconds| LastModified { text: "".into(), unix_seconds, strong: true };
        Resource {
            total: Some(total),
            validator: Validator {
                etag: etag.and_then(EntityTag::parse),
                last_modified: modified.map(date),
            },
            ranges: true,
            encoding: None,
            content_type: None,
            content_disposition: None,
        }
    }

    #[test]
    fn a_file_is_the_version_of_its_time_and_size() {
        let (_dir, path) = file(784_111_777);
        let version = Version::of(&path).unwrap();
        let date = "Sun, 06 Nov 1994 08:49:37 GMT".to_owned();
        assert_eq!(version.conditions(), [(header::IF_MODIFIED_SINCE, date)]);
        assert!(version.is(&resource(10, Some("\"a\""), Some(784_111_777))));
        assert!(!version.is(&resource(10, None, Some(784_111_778))));
        assert!(!version.is(&resource(11, None, Some(784_111_777))));
        assert!(!version.is(&resource(10, Some("\"a\""), None)));
        assert_eq!(Version::of(&path.with_extension("none")), None);
    }

    #[test]
    fn a_noted_tag_counts_until_the_file_is_changed() {
        let (_dir, path) = file(784_111_777);
        let tag = EntityTag::parse("W/\"v1\"").unwrap();
        // Without attributes on this file system there is nothing to show.
        if Version::note(&path, &tag).is_err() {
            return;
        }
        let version = Version::of(&path).unwrap();
        assert_eq!(version.conditions()[0], (header::IF_NONE_MATCH, "W/\"v1\"".to_owned()));
        assert!(version.is(&resource(10, Some("\"v1\""), None)));
        assert!(!version.is(&resource(10, Some("\"v2\""), Some(784_111_777))));
        fs::write(&path, "9876543210").unwrap();
        assert_eq!(Version::of(&path), None, "it is somebody else's work");
    }
}
