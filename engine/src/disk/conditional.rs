//! Which version of an object a finished file is, so that it is fetched again
//! only if the server has another one.
//!
//! A file's own time is the object's `Last-Modified` where the server's time was kept. Its entity
//! tag has no place in a file, so it is recorded beside the data in an extended attribute, where
//! the file system has those, together with the file's size and time at that moment. When these
//! differ later, somebody changed the file, and it is no version of the object at all. Without the
//! attribute nothing shows that the file is whole, so a server's word that nothing is newer than it
//! is not enough.
//!
//! Where the server tells no version that could be recorded, the attribute may say where the file is
//! [from](Source): a caller that repeats a list of downloads takes that for enough.

use std::fs::File;
use std::io;
use std::path::Path;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use crate::model::resource::Resource;
use crate::model::validator::{EntityTag, Validator};
use crate::os;
use crate::os::file::Facts;

/// Longer tags are not kept.
const LONGEST_BYTES: usize = 1024;

/// What a file says about which version it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    len_bytes: u64,
    /// In seconds since 1970.
    modified_unix: u64,
    etag: Option<EntityTag>,
    from: Option<Source>,
    /// Whether the file is unchanged since it was complete.
    is_noted: bool,
}

/// The URL that a file was completed from and what its server told of the version, as a salted hash:
/// whoever may read the file need not learn the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Source {
    salt: u32,
    hash: u64,
}

impl Source {
    /// How the record of one begins, unlike any tag.
    const BEGINS: &str = "from:";

    fn new(salt: u32, url: &Url, validator: &Validator) -> Self {
        let key = blake3::derive_key("haul version: where a file is from, 1", &salt.to_le_bytes());
        let mut hasher = blake3::Hasher::new_keyed(&key);
        hasher.update(url[..url::Position::AfterQuery].as_bytes());
        // A URL has no line ends.
        let etag = validator.etag.as_ref().map(ToString::to_string).unwrap_or_default();
        hasher.update(b"\n").update(etag.as_bytes());
        if let Some(date) = validator.steady_date() {
            hasher.update(b"\n").update(&date.unix_seconds.to_le_bytes());
        }
        let hash = hasher.finalize();
        let hash = hash.as_bytes()[..8].iter().fold(0, |hash, byte| hash << 8 | u64::from(*byte));
        Self { salt, hash }
    }

    fn parse(text: &str) -> Option<Self> {
        let (salt, hash) = text.strip_prefix(Self::BEGINS)?.split_once(':')?;
        let (salt, hash) = (u32::from_str_radix(salt, 16), u64::from_str_radix(hash, 16));
        Some(Self { salt: salt.ok()?, hash: hash.ok()? })
    }

    fn is(self, url: &Url, validator: &Validator) -> bool {
        self == Self::new(self.salt, url, validator)
    }
}

impl Version {
    /// Which version the file at `path` is; `None` when it is no regular file, or has been changed
    /// since it was complete.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        let found = Facts::behind(path).ok().filter(Facts::is_file)?;
        let modified_unix = u64::try_from(found.modified().0).ok()?;
        // Size, seconds and nanoseconds of the file's time; then an entity tag, or where the file
        // is from, or nothing.
        let mut value = [0; LONGEST_BYTES + 64];
        let (etag, from, is_noted) = match os::attribute::read_version(path, &mut value) {
            Ok(len) => {
                let text = std::str::from_utf8(&value[..len]).ok()?;
                let (stamp, rest) = text.rsplit_once(' ')?;
                if stamp != stamp_of(&found) {
                    return None;
                }
                match rest {
                    "" => (None, None, true),
                    from if from.starts_with(Source::BEGINS) => {
                        (None, Some(Source::parse(from)?), true)
                    }
                    tag => (Some(EntityTag::parse(tag)?), None, true),
                }
            }
            Err(_) => (None, None, false),
        };
        Some(Self { len_bytes: found.len_bytes(), modified_unix, etag, from, is_noted })
    }

    /// The version by time and size alone, whatever was recorded with the file.
    pub(crate) fn unnoted(path: &Path) -> Option<Self> {
        let found = Facts::behind(path).ok().filter(Facts::is_file)?;
        Some(Self {
            len_bytes: found.len_bytes(),
            modified_unix: u64::try_from(found.modified().0).ok()?,
            etag: None,
            from: None,
            is_noted: false,
        })
    }

    /// The fields that make a server answer 304 if it has nothing else (RFC 9110 sections 13.1.2
    /// and 13.1.3). Beside a tag, the date serves servers without tags, where a version no older
    /// than the file's will do.
    pub(crate) fn conditions(&self, by_date: bool) -> Vec<(HeaderName, String)> {
        let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.modified_unix);
        let date = (header::IF_MODIFIED_SINCE, httpdate::fmt_http_date(date));
        let tag = self.etag.as_ref().map(|tag| (header::IF_NONE_MATCH, tag.to_string()));
        tag.into_iter().chain(by_date.then_some(date)).collect()
    }

    /// Whether a server that ignored the conditions has this very version all the same.
    pub(crate) fn is(&self, resource: &Resource) -> bool {
        if resource.total != Some(self.len_bytes) {
            return false;
        }
        let theirs = &resource.validator;
        // A malformed tag is no proof: the date has to decide.
        match (&self.etag, theirs.etag.as_ref().filter(|etag| !etag.is_malformed())) {
            (Some(ours), Some(theirs)) => ours.opaque == theirs.opaque,
            _ => self.has_the_date_of(theirs),
        }
    }

    fn has_the_date_of(&self, theirs: &Validator) -> bool {
        let date = theirs.last_modified.as_ref();
        date.is_some_and(|date| date.unix_seconds == self.modified_unix)
    }

    /// Whether the file is shown to be this object. Leaving it alone for good takes more proof than
    /// a check that each run repeats: a weak tag needs the time beside it.
    pub(crate) fn is_provably(&self, resource: &Resource) -> bool {
        if resource.total != Some(self.len_bytes) {
            return false;
        }
        let theirs = &resource.validator;
        let dated = self.has_the_date_of(theirs);
        match (&self.etag, theirs.etag.as_ref().filter(|etag| !etag.is_malformed())) {
            (Some(ours), Some(theirs)) => {
                ours.opaque == theirs.opaque && (dated || !ours.weak && !theirs.weak)
            }
            // There is only one empty object.
            _ => dated || self.len_bytes == 0,
        }
    }

    /// Whether the file was completed from this URL, and is unchanged since, when the server told of
    /// the object what it tells now, which may be nothing.
    pub(crate) fn is_from(&self, url: &Url, resource: &Resource) -> bool {
        resource.total == Some(self.len_bytes)
            && self.from.is_some_and(|from| from.is(url, &resource.validator))
    }

    /// Whether a server that has this version says so by itself when it is asked for another one: a
    /// strong tag was recorded when the file was complete.
    pub(crate) fn has_strong_tag(&self) -> bool {
        self.is_noted && self.etag.as_ref().is_some_and(|etag| !etag.weak)
    }

    /// Whether the file is known to be complete.
    pub(crate) fn is_noted(&self) -> bool {
        self.is_noted
    }

    /// Whether `found` is still the file that the version was taken from.
    pub(crate) fn is_of(&self, found: &Facts) -> bool {
        found.len_bytes() == self.len_bytes
            && u64::try_from(found.modified().0) == Ok(self.modified_unix)
    }

    /// The object as the file shows it, where the server says only that it has no other version.
    pub(crate) fn resource(&self) -> Resource {
        let mut fields = HeaderMap::new();
        let date = std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.modified_unix);
        let tag = self.etag.as_ref().map(|tag| (header::ETAG, tag.to_string()));
        let date = (header::LAST_MODIFIED, httpdate::fmt_http_date(date));
        for (name, value) in tag.into_iter().chain([date]) {
            if let Ok(value) = HeaderValue::from_str(&value) {
                fields.insert(name, value);
            }
        }
        Resource {
            total: Some(self.len_bytes),
            validator: Validator::from_headers(&fields),
            ranges: true,
            ..Resource::default()
        }
    }

    /// The file's size in bytes.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len_bytes
    }
}

/// What is recorded with a published file: which version it is, or where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Note {
    /// Empty where the version has no tag, or none that can be recorded.
    tag: String,
}

/// What would show that a file with this validator is the object, if nothing were recorded but its
/// entity tag.
pub(crate) fn is_shown(validator: &Validator, has_its_time: bool) -> bool {
    let strong = validator.etag.as_ref().is_some_and(|etag| !etag.weak && !etag.is_malformed());
    strong || has_its_time && validator.steady_date().is_some()
}

impl Note {
    pub(crate) fn of(etag: Option<&EntityTag>) -> Self {
        let tag = etag.map(ToString::to_string).unwrap_or_default();
        // A space would end the tag; RFC 9110 allows none in one.
        let keeps = tag.len() <= LONGEST_BYTES
            && !tag.contains(' ')
            && !etag.is_some_and(EntityTag::is_malformed);
        Self { tag: if keeps { tag } else { String::new() } }
    }

    /// The record of a file that was completed from `url`, where the server told this.
    pub(crate) fn of_source(salt: u32, url: &Url, validator: &Validator) -> Self {
        let Source { salt, hash } = Source::new(salt, url, validator);
        Self { tag: format!("{}{salt:08x}:{hash:016x}", Source::BEGINS) }
    }

    /// Whether it adds nothing to the file's size and time.
    pub(crate) fn is_empty(&self) -> bool {
        self.tag.is_empty()
    }

    /// Writes it to a file whose time is already set.
    pub(crate) fn write(&self, file: &File) -> io::Result<()> {
        let value = format!("{} {}", stamp_of(&Facts::of(file)?), self.tag);
        os::attribute::write_version(file, value.as_bytes())
    }
}

fn stamp_of(found: &Facts) -> String {
    let (seconds, nanoseconds) = found.modified();
    format!("{} {seconds} {nanoseconds}", found.len_bytes())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::model::validator::LastModified;

    fn file(seconds: u64) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "0123456789").unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        (dir, path)
    }

    fn resource(total: u64, etag: Option<&str>, modified: Option<u64>) -> Resource {
        let date = |unix_seconds| LastModified {
            text: "".into(),
            unix_seconds,
            strong: true,
            age_seconds: None,
        };
        Resource {
            total: Some(total),
            validator: Validator {
                etag: etag.and_then(EntityTag::parse),
                last_modified: modified.map(date),
            },
            ranges: true,
            ..Resource::default()
        }
    }

    #[test]
    fn a_file_is_the_version_of_its_time_and_size() {
        let (_dir, path) = file(784_111_777);
        let version = Version::of(&path).unwrap();
        assert!(!version.is_noted());
        let date = "Sun, 06 Nov 1994 08:49:37 GMT".to_owned();
        assert_eq!(version.conditions(true), [(header::IF_MODIFIED_SINCE, date)]);
        assert!(version.is(&resource(10, Some("\"a\""), Some(784_111_777))));
        assert!(!version.is(&resource(10, None, Some(784_111_778))));
        assert!(!version.is(&resource(11, None, Some(784_111_777))));
        assert!(!version.is(&resource(10, Some("\"a\""), None)));
        assert_eq!(Version::of(&path.with_extension("none")), None);
    }

    #[test]
    fn where_a_file_is_from_counts_until_anything_differs() {
        let (_dir, path) = file(784_111_777);
        let url = |text: &str| Url::parse(text).unwrap();
        let (here, there) = (url("http://h/a?k=1#x"), url("http://h/a?k=2"));
        let (bare, tagged) = (resource(10, None, None), resource(10, Some("W/\"v1\""), None));
        for served in [&bare, &tagged] {
            let note = Note::of_source(7, &here, &served.validator);
            if note.write(&File::open(&path).unwrap()).is_err() {
                return;
            }
            let version = Version::of(&path).unwrap();
            assert!(version.is_from(&url("http://h/a?k=1"), served));
            assert!(!version.is_provably(served) && !version.has_strong_tag());
            let other = if served == &bare { &tagged } else { &bare };
            assert!(!version.is_from(&there, served) && !version.is_from(&here, other));
            let longer = Resource { total: Some(11), ..served.clone() };
            assert!(!version.is_from(&here, &longer));
            let dated = resource(10, None, Some(784_111_778));
            assert!(!version.is_from(&here, &dated), "another version");
        }
        fs::write(&path, "9876543210").unwrap();
        assert_eq!(Version::of(&path), None, "it is somebody else's work");
    }

    #[test]
    fn a_noted_tag_counts_until_the_file_is_changed() {
        let (_dir, path) = file(784_111_777);
        let tag = EntityTag::parse("W/\"v1\"").unwrap();
        // Without attributes on this file system there is nothing to test.
        let note = |tag| Note::of(tag).write(&File::open(&path).unwrap());
        if note(Some(&tag)).is_err() {
            return;
        }
        let version = Version::of(&path).unwrap();
        assert!(version.is_noted());
        assert_eq!(version.conditions(true)[0], (header::IF_NONE_MATCH, "W/\"v1\"".to_owned()));
        assert!(version.is(&resource(10, Some("\"v1\""), None)));
        assert!(!version.is(&resource(10, Some("\"v2\""), Some(784_111_777))));
        fs::write(&path, "9876543210").unwrap();
        assert_eq!(Version::of(&path), None, "it is somebody else's work");
        note(None).unwrap();
        let version = Version::of(&path).unwrap();
        assert!(version.is_noted() && version.conditions(true).len() == 1);
        File::options().write(true).open(&path).unwrap().set_len(5).unwrap();
        assert_eq!(Version::of(&path), None, "it was cut");
    }
}
