//! What a caller can choose for one download: plain data, documented here once.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::config::{
    Allocation, Checksum, Connections, Existing, Foreign, HostCredential, Pieces, Resume,
    RetryPolicy, StorageKind,
};
use super::error::{Error, ErrorKind};
use super::metalink::MetalinkFile;
use super::redact::redact_url;
use super::segment::MIN_CHOSEN_SEGMENT_BYTES;
use super::selection::Selection;
use super::size::exact_words;

/// A connection may be silent for this long.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Browsers wait this long for the very first byte.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(300);
const MIN_STALL_TIMEOUT: Duration = Duration::from_millis(100);
/// Leaves room for sums of times.
const MAX_STALL_TIMEOUT: Duration = Duration::from_secs(24 * 3600);
const WINDOW_BYTES: u64 = 32 << 20;
const MIN_WINDOW_BYTES: u64 = 4 << 20;

/// The options of one download, for [`crate::Engine::download_with`]. The setters of
/// [`crate::DownloadBuilder`] have the same names and set the same fields.
///
/// ```
/// use haul_engine::{Connections, DownloadOptions, Resume};
///
/// let mut options = DownloadOptions::default();
/// options.directory = "films".into();
/// options.connections = Connections::Fixed(8);
/// options.resume = Resume::Never;
/// ```
///
/// Values that are out of range, and options that exclude each other, are
/// [`ErrorKind::InvalidInput`] when the download starts; nothing is done then.
///
/// With the feature `serde` the options can be written and read. A field that is absent
/// has its default and an unknown field is an error. Durations are seconds, digests and
/// ranges are text as they are parsed from, and variants are in snake case (`"auto"`,
/// `{"fixed": 8}`). What is written contains the headers and logins in the clear.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct DownloadOptions {
    /// The output file, below [`Self::directory`] if relative. Default: the server's
    /// Content-Disposition names the file, else the URL; such a name is always one safe
    /// component.
    pub output: Option<PathBuf>,
    /// The directory of the output, created if needed. Default `.`.
    pub directory: PathBuf,
    /// How many connections to use at once.
    pub connections: Connections,
    /// Request headers as names and values. They are sent to the URL's own origin only, not
    /// to the target of a redirect. `Range` and `Accept-Encoding` stay the engine's.
    pub headers: Vec<(String, String)>,
    /// User and password for basic authentication (RFC 7617), for the URL's own origin only.
    pub basic_auth: Option<(String, String)>,
    /// Logins by host, as a netrc file holds them: each request carries the first one for
    /// the host that it goes to, also after a redirect. A login for the URL's own origin
    /// that was given otherwise (in the URL, by [`Self::basic_auth`] or as a header) takes
    /// precedence there. After a redirect from https to http none of these is sent in the
    /// clear.
    pub host_credentials: Vec<HostCredential>,
    /// Whether an earlier partial is continued.
    pub resume: Resume,
    /// Whether a file that another program began is continued.
    pub foreign: Foreign,
    /// What happens when the output exists.
    pub existing: Existing,
    /// Whether nothing is fetched when the output already is the object
    /// ([`crate::Summary::unchanged`]): the file's time is sent as `If-Modified-Since`, and
    /// the entity tag that an earlier such download left in the extended attribute
    /// `user.haul.version` as `If-None-Match`. If a server ignores these, its validator and
    /// size decide. A changed object replaces the file once it is complete, whatever
    /// [`Self::existing`] says. Default false.
    ///
    /// Readers of an unchanged file read that file. Downloads that have no whole file of
    /// the object to compare are refused: with a [`Self::range`], [`Self::in_place`],
    /// [`crate::DownloadBuilder::store_in`], [`StorageKind::Null`],
    /// [`crate::DownloadBuilder::stream`] and [`crate::DownloadBuilder::bytes`]. A
    /// [`crate::DownloadBuilder::plan`] asks without conditions.
    pub if_changed: bool,
    /// Whether [`Existing::Verify`] takes a file for the object that an earlier download with this
    /// option completed from the same URL, where the server tells no version that could show it: no
    /// strong entity tag, and no date that the file has. The file must be as it was completed, and
    /// what the server tells of the object, with its size, must be the same. This serves callers
    /// that repeat a list of downloads after some of them have ended. The record is in the
    /// extended attribute `user.haul.version`, without the URL itself. Default false.
    pub trust_url: bool,
    /// Whether the data has the final name from the start, for programs that rename it
    /// themselves. Then only the checkpoint beside it tells an incomplete file from a
    /// complete one, and [`Existing::Replace`] removes the old file at once. Excludes
    /// [`Existing::Rename`]. Default false.
    pub in_place: bool,
    /// Fetches only these bytes of the object, written one after the other; size, digests
    /// and offsets then refer to them. A server without ranges is [`ErrorKind::Protocol`],
    /// and a range that begins beyond the object's end is [`ErrorKind::HttpStatus`] with
    /// 416. Digests that the server gives for the whole object are not compared. A partial
    /// of other bytes is not continued. Default: the whole object.
    pub range: Option<Selection>,
    /// The digest that the object must have to be published.
    pub checksum: Option<Checksum>,
    /// The digests that the parts of the object must have. A part with another digest is
    /// fetched again, from another source if there is one.
    pub pieces: Option<Pieces>,
    /// Other URLs of the same object; at most 32 sources are used.
    ///
    /// With a [`Self::checksum`], [`Self::pieces`] or a digest that the server sends, all
    /// sources are used at once, according to their speed, and one that fails, has another
    /// size or delivers wrong bytes is dropped with a notice. Without a digest nothing shows
    /// that two sources have the same bytes: then a mirror only replaces a source that
    /// failed, from zero. Headers and credentials do not go to a mirror of another origin,
    /// but its URL may have a login of its own.
    pub mirrors: Vec<String>,
    /// The size in bytes that the object must have; any other is
    /// [`ErrorKind::LimitReached`], before anything is written if the server tells the
    /// size.
    pub expected_size_bytes: Option<u64>,
    /// The size in bytes that the object may have at most; a larger one is
    /// [`ErrorKind::LimitReached`], before anything is written if the server tells the
    /// size, else at the first byte too many.
    pub max_size_bytes: Option<u64>,
    /// Bounds of retrying.
    pub retry: RetryPolicy,
    /// A connection without a byte for this long is given up. From 100 ms to 24 hours.
    /// Default 30 s, and five minutes for the very first byte, since some servers have to
    /// produce the object first.
    #[cfg_attr(feature = "serde", serde(with = "super::config::serialized::maybe_seconds"))]
    pub stall_timeout: Option<Duration>,
    /// How bytes get into the file.
    pub storage: StorageKind,
    /// Whether the disk's blocks are reserved first.
    pub allocation: Allocation,
    /// Whether data and directory are synced before the file is published. Without a
    /// sync, a power cut may lose or damage the published file. Default true.
    pub sync: bool,
    /// Whether the BLAKE3 hash of the whole object is computed. Default true.
    ///
    /// Without it [`crate::Summary::blake3`] is `None`, and whatever an interrupted download
    /// stored since its last sync is fetched again, since nothing can show that it is there.
    /// A later run that computes the hash reads the bytes that this one left. A
    /// [`Self::checksum`] of BLAKE3 takes precedence.
    pub digest: bool,
    /// Whether the file gets the server's Last-Modified as its time. Default true.
    pub remote_time: bool,
    /// How many redirects are followed in a row; 0 refuses all. Default 20.
    pub max_redirects: u32,
    /// Whether a redirect from https to http is followed. Default false.
    pub allow_downgrade: bool,
    /// Whether an object of at most 256 KiB is fetched whole or not at all: its data has no
    /// name before it is complete, and there is no partial, no lock and no checkpoint. This
    /// is faster for thousands of them, and a kill leaves nothing behind. Where the system
    /// allows it (Linux), such a download claims its output before its first request: a
    /// second one, in whatever process of this machine, is [`ErrorKind::Locked`] until the
    /// first has ended. Elsewhere the later one finds that the output exists. Default false.
    pub small_all_or_nothing: bool,
    /// The segment size in bytes: a power of two, at least 1 MiB. It is raised where the
    /// object would have more than 16,384 segments. Default: by the object's size.
    pub segment_size_bytes: Option<u64>,
    /// How many bytes of a [`crate::DownloadBuilder::stream`] are in memory at most, besides
    /// those that every download has in flight. A larger window lets connections run further
    /// ahead of the slowest one. At least 4 MiB; default 32 MiB.
    pub window_bytes: u64,
    /// No part smaller than this, in bytes, is split off for another connection. Default:
    /// depends on the connections' speed, so that a request is worth its time.
    pub min_split_bytes: Option<u64>,
    /// The most bytes a second that this download receives, at least 1, beside the engine's
    /// own limit; [`crate::Download::limit_rate`] changes it. Default: no limit.
    pub limit_rate_bytes_per_second: Option<u64>,
    /// Which download comes first when the engine cannot serve all at once: a higher
    /// priority gets the connections it can use before a lower one gets any, and is next in
    /// the queue. Equal priorities share evenly. A running request is not interrupted:
    /// connections change hands as their requests end, within seconds.
    /// [`crate::Download::set_priority`] changes it. Default 0.
    pub priority: i32,
}

impl Default for DownloadOptions {
    fn default() -> Self {
        Self {
            output: None,
            directory: PathBuf::from("."),
            connections: Connections::default(),
            headers: Vec::new(),
            basic_auth: None,
            host_credentials: Vec::new(),
            resume: Resume::default(),
            foreign: Foreign::default(),
            existing: Existing::default(),
            if_changed: false,
            trust_url: false,
            in_place: false,
            range: None,
            checksum: None,
            pieces: None,
            mirrors: Vec::new(),
            expected_size_bytes: None,
            max_size_bytes: None,
            retry: RetryPolicy::default(),
            stall_timeout: None,
            storage: StorageKind::default(),
            allocation: Allocation::default(),
            sync: true,
            digest: true,
            remote_time: true,
            max_redirects: 20,
            allow_downgrade: false,
            small_all_or_nothing: false,
            segment_size_bytes: None,
            window_bytes: WINDOW_BYTES,
            min_split_bytes: None,
            limit_rate_bytes_per_second: None,
            priority: 0,
        }
    }
}

impl DownloadOptions {
    /// Takes over what a Metalink says about its file: mirrors, which are all of its URLs but the
    /// first, size, digests and name. A size, digest or name that is already set stays.
    pub fn add_metalink(&mut self, file: &MetalinkFile) {
        self.mirrors.extend(file.urls.iter().skip(1).cloned());
        self.output.get_or_insert_with(|| PathBuf::from(&file.name));
        self.checksum = self.checksum.take().or_else(|| file.checksum.clone());
        self.pieces = self.pieces.take().or_else(|| file.pieces.clone());
        self.expected_size_bytes = self.expected_size_bytes.or(file.size_bytes);
    }

    /// How long a connection may be silent.
    pub(crate) fn patience(&self) -> Duration {
        self.stall_timeout.unwrap_or(STALL_TIMEOUT)
    }

    /// How long the very first byte may take.
    pub(crate) fn first_byte_patience(&self) -> Duration {
        self.stall_timeout.unwrap_or(FIRST_BYTE_TIMEOUT)
    }

    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a value that is out of range, which is quoted, and for
    /// options that exclude each other.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let invalid = |message: String| Err(Error::new(ErrorKind::InvalidInput, message));
        if let Some(size) = self.segment_size_bytes
            && !(size.is_power_of_two() && size >= MIN_CHOSEN_SEGMENT_BYTES)
        {
            let size = exact_words(size);
            return invalid(format!(
                "a segment size of {size} is not a power of two of at least 1 MiB"
            ));
        }
        if let Some(time) = self.stall_timeout
            && !(MIN_STALL_TIMEOUT..=MAX_STALL_TIMEOUT).contains(&time)
        {
            return invalid(format!(
                "a stall timeout of {time:?} is out of range: it is from 100 ms to 24 hours"
            ));
        }
        if self.window_bytes < MIN_WINDOW_BYTES {
            let size = exact_words(self.window_bytes);
            return invalid(format!("a window of {size} is too small: 4 MiB is the least"));
        }
        if matches!(self.connections, Connections::Fixed(0) | Connections::AutoUpTo(0)) {
            return invalid("a download needs a connection, and 0 are allowed".to_owned());
        }
        if matches!(self.connections, Connections::AutoUpTo(65..)) {
            return invalid(
                "more than 64 connections are only made where all are asked for".to_owned(),
            );
        }
        if self.limit_rate_bytes_per_second == Some(0) {
            return invalid(
                "a rate of 0 bytes a second would never end: 1 is the least".to_owned(),
            );
        }
        if self.in_place && self.existing == Existing::Rename {
            return invalid(
                "what has its final name from the start cannot get another one".to_owned(),
            );
        }
        Ok(())
    }
}

/// Shows no secret: URLs without login and query, and names of headers without their values.
impl fmt::Debug for DownloadOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mirrors: Vec<String> = self.mirrors.iter().map(|url| redact_url(url)).collect();
        let headers: Vec<&str> = self.headers.iter().map(|(name, _)| &**name).collect();
        let mut shown = f.debug_struct("DownloadOptions");
        shown
            .field("headers", &headers)
            .field("basic_auth", &self.basic_auth.is_some())
            .field("mirrors", &mirrors);
        macro_rules! rest {
            ($($field:ident)+) => { $( shown.field(stringify!($field), &self.$field); )+ };
        }
        rest! {
            output directory connections host_credentials resume foreign existing if_changed
            trust_url in_place range checksum pieces expected_size_bytes max_size_bytes retry stall_timeout
            storage allocation sync digest remote_time max_redirects allow_downgrade
            small_all_or_nothing segment_size_bytes window_bytes min_split_bytes
            limit_rate_bytes_per_second priority
        }
        shown.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(change: impl FnOnce(&mut DownloadOptions)) -> String {
        let mut options = DownloadOptions::default();
        change(&mut options);
        let error = options.check().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        error.to_string()
    }

    #[test]
    fn a_value_out_of_range_is_refused_and_quoted() {
        DownloadOptions::default().check().unwrap();
        let stall = |time| refused(|it| it.stall_timeout = Some(time));
        assert!(stall(Duration::from_millis(99)).contains("99ms"));
        assert!(stall(Duration::from_secs(86_401)).contains("86401s"));
        assert!(refused(|it| it.window_bytes = 1 << 20).contains("1 MiB"));
        assert!(refused(|it| it.segment_size_bytes = Some(3 << 20)).contains("3 MiB"));
        assert!(refused(|it| it.connections = Connections::Fixed(0)).contains('0'));
        assert!(refused(|it| it.connections = Connections::AutoUpTo(0)).contains('0'));
        assert!(refused(|it| it.connections = Connections::AutoUpTo(65)).contains("64"));
        assert!(refused(|it| it.limit_rate_bytes_per_second = Some(0)).contains('0'));
    }

    #[test]
    fn what_is_shown_has_no_secret() {
        let mut options = DownloadOptions::default();
        options.headers.push(("Authorization".to_owned(), "secret".to_owned()));
        options.basic_auth = Some(("me".to_owned(), "secret".to_owned()));
        options.mirrors.push("https://me:secret@example.org/a?secret".to_owned());
        let host = Some("example.org".to_owned());
        let (user, password) = ("me".to_owned(), "secret".to_owned());
        options.host_credentials.push(HostCredential { host, user, password });
        let shown = format!("{options:?}");
        assert!(!shown.contains("secret") && shown.contains("Authorization"), "{shown}");
    }
}
