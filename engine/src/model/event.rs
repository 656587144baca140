//! What a download reports while it runs: events, snapshots and the summary.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use crate::model::config::DigestAlgorithm;

/// Which validator of the object (RFC 9110 section 8.8) the download rests on.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ValidatorKind {
    /// A strong entity tag.
    StrongEtag,
    /// A weak entity tag.
    WeakEtag,
    /// A Last-Modified date.
    LastModified,
    /// The server sent none.
    None,
}

/// What a [`Notice`] is about; stable words for programs are in [`NoticeCode::as_str`].
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NoticeCode {
    /// One connection only: the server gives no usable ranges or no length.
    SingleStream,
    /// The stored bytes were given up and the download starts from zero.
    Restarted,
    /// The server allows fewer connections than asked for.
    ConnectionLimit,
    /// A storage other than the preferred one is used.
    StorageFallback,
    /// The server insisted on a content coding; the file holds the coded bytes.
    ContentEncoding,
    /// Nothing proves that the object is whole (no length, no digest).
    UnprovenLength,
    /// The name from the server was changed to make it safe.
    NameChanged,
    /// The object ends before a wanted range of it does.
    RangeCut,
    /// The file has its final name from the start ([`crate::DownloadBuilder::in_place`]).
    InPlace,
    /// Stored segments failed their hash and are fetched again.
    Refetch,
    /// A source is no longer used, or another one is used from the start.
    Mirror,
    /// A file that another program began is continued ([`crate::Foreign::Continue`]).
    Adopted,
    /// A link that expired was replaced, or could not be.
    Refreshed,
    /// A page or another text arrived, where the name or the type suggests something else.
    OtherContent,
    /// The file only lists the parts of a film: an HLS playlist or a DASH manifest.
    Playlist,
    /// The first byte takes its time, and the download waits for it.
    FirstByte,
    /// An address that was tried in vain, and why.
    Address,
    /// Anything else worth a line.
    Other,
}

impl NoticeCode {
    /// The stable word for this code, for JSON and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SingleStream => "single-stream",
            Self::Restarted => "restarted",
            Self::ConnectionLimit => "connection-limit",
            Self::StorageFallback => "storage-fallback",
            Self::ContentEncoding => "content-encoding",
            Self::UnprovenLength => "unproven-length",
            Self::NameChanged => "name-changed",
            Self::InPlace => "no-part",
            Self::RangeCut => "range-cut",
            Self::Refetch => "refetch",
            Self::Mirror => "mirror",
            Self::Adopted => "adopted",
            Self::Refreshed => "refreshed",
            Self::OtherContent => "other-content",
            Self::Playlist => "playlist",
            Self::FirstByte => "first-byte",
            Self::Address => "address",
            Self::Other => "notice",
        }
    }
}

/// Tells the downloads of an engine apart, numbered in the order in which they were started.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DownloadId(u64);

impl DownloadId {
    pub(crate) fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number, from 0.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for DownloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Something that happened to a download. Events are few: progress is polled
/// with [`crate::Download::progress`], not sent.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// The first valid response arrived and the output is open.
    Started(Started),
    /// The download waits for its turn, holding nothing: the engine already runs
    /// as many downloads, or has as many connections, as it may. Sent once after a
    /// start or a resume; [`Progress::queued`] tells it at any time.
    Queued,
    /// A round of backoff begins; nothing is being received.
    Retry {
        /// Why, in a few words.
        reason: String,
        /// Which round without progress this is, from 1.
        attempt: u32,
        /// How long until the next request.
        wait: Duration,
    },
    /// Something the user should know; the download goes on.
    Notice(Notice),
    /// Paused by [`crate::Download::pause`]: nothing is received from here on.
    Paused,
    /// The download goes on after a pause.
    Resumed,
    /// All bytes are there; the data is being synced and published.
    Syncing,
    /// The listener was too slow and this many events before this one are lost.
    Lagged(u64),
    /// The output is complete and published. The last event.
    Completed(Summary),
    /// The download failed or was cancelled. The last event;
    /// [`crate::Download::wait`] returns the error itself.
    Failed {
        /// The sort of failure.
        kind: crate::ErrorKind,
        /// The error's text.
        message: String,
        /// Whether the same download continues when started again.
        resumable: bool,
    },
}

/// The facts known once the first response was accepted.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Started {
    /// The final URL, without query and userinfo.
    pub url: String,
    /// Where the complete file will be; empty with [`crate::StorageKind::Null`].
    pub output: PathBuf,
    /// The object's size in bytes, if the server told it.
    pub total_bytes: Option<u64>,
    /// Whether byte ranges are used.
    pub ranges: bool,
    /// What identifies the version of the object.
    pub validator: ValidatorKind,
    /// Bytes that were already there from an earlier run.
    pub resumed_bytes: u64,
    /// How many connections there are now; others follow as they become useful,
    /// and [`Progress::connections`] counts them.
    pub connections: usize,
    /// Whether the connection of the first response carries other responses at the same time, as
    /// with HTTP/2, so that more downloads at a time need no more connections.
    pub shares_connection: bool,
    /// The size of a segment in bytes.
    pub segment_size_bytes: u64,
    /// `"mmap"`, `"pwrite"`, `"null"`, or `"stream"` for an object without a known size.
    pub storage: &'static str,
    /// Why [`crate::StorageKind::Auto`] does not map the file, if it does not: a clause.
    pub unmapped: Option<String>,
}

/// What is known of the object that is downloaded; see
/// [`crate::Download::metadata`].
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Metadata {
    /// The final URL, without query and userinfo.
    pub url: String,
    /// The name of the output, without its directory.
    pub name: String,
    /// Where the complete file will be.
    pub output: PathBuf,
    /// The size in bytes of what is downloaded: the object, or a range of it. If the
    /// server told none, it is known once the download is complete.
    pub total_bytes: Option<u64>,
    /// The size of the whole object in bytes, if the server told it.
    pub object_bytes: Option<u64>,
    /// The `Content-Type` as the server sent it.
    pub content_type: Option<String>,
    /// Whether byte ranges are used. Without ranges, bytes come in order only,
    /// and an interrupted download begins again.
    pub ranges: bool,
    /// What identifies the version of the object.
    pub validator: ValidatorKind,
    /// The entity tag as HTTP writes it (RFC 9110 section 8.8.3).
    pub etag: Option<String>,
    /// The date of the last change, in whole seconds.
    pub last_modified: Option<SystemTime>,
}

/// A line for the user that is not an error.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Notice {
    /// What it is about.
    pub code: NoticeCode,
    /// One line without a trailing full stop.
    pub message: String,
}

/// What `dry-run` learns from one response whose body is not read.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Plan {
    /// The HTTP status of that response.
    pub status: u16,
    /// Its header fields as they came, names in lower case. They may hold secrets, such as a
    /// session in `set-cookie`.
    pub headers: Vec<(String, String)>,
    /// The final URL, without query and userinfo.
    pub url: String,
    /// Where the file would go; empty where none would be written.
    pub output: PathBuf,
    /// The object's size in bytes, if the server told it.
    pub total_bytes: Option<u64>,
    /// Whether byte ranges would be used.
    pub ranges: bool,
    /// What identifies the version of the object.
    pub validator: ValidatorKind,
    /// At most this many connections.
    pub connections: usize,
    /// The size of a segment in bytes.
    pub segment_size_bytes: u64,
    /// Bytes of an earlier run that would be used again.
    pub resumable_bytes: u64,
    /// Whether the file that has the output's name is complete, so that nothing would be
    /// fetched.
    pub unchanged: bool,
}

/// The state of one cell of the segment map; see [`Progress::map`].
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct MapCell {
    /// The part of this cell's bytes that is stored, 0.0 to 1.0.
    pub done: f32,
    /// Whether a connection is fetching in this cell now.
    pub active: bool,
}

/// A snapshot of a running download; cheap to take.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of the object that are here, resumed ones included.
    pub bytes: u64,
    /// The object's size in bytes, once known.
    pub total_bytes: Option<u64>,
    /// Smoothed speed in bytes a second.
    pub bytes_per_second: f64,
    /// Bytes fetched in this run divided by its time, in bytes a second.
    pub mean_bytes_per_second: f64,
    /// How long that speed has been measured: since bytes began to arrive, or arrived
    /// again after a silence. In the first second the speed means little.
    pub measured_for: Duration,
    /// Time until the end at the smoothed speed, where size and speed are known;
    /// `None` while the speed means little.
    pub eta: Option<Duration>,
    /// How long all connections have been silent. Zero while bytes arrive, and while
    /// nothing is expected: in a pause, between two attempts, while the storage is busy.
    pub silent_for: Duration,
    /// The length of silence after which a connection is given up.
    pub gives_up_after: Option<Duration>,
    /// Connections that are fetching now.
    pub connections: usize,
    /// Rounds of backoff so far.
    pub retries: u32,
    /// Whether the download is paused.
    pub paused: bool,
    /// Whether the download waits for its turn among the downloads of its
    /// engine, or for a connection that another one of them has.
    pub queued: bool,
    /// Whether all bytes are there and the data is being synced.
    pub syncing: bool,
    /// The object from its first to its last byte in at most 256 equal cells.
    pub map: Vec<MapCell>,
}

/// What kept a download from being faster.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LimitedBy {
    /// The server gives each connection about this much, and no more
    /// connections were allowed.
    Connection {
        /// The speed of one connection.
        bytes_per_second: u64,
    },
    /// More connections brought no more speed.
    Link {
        /// The speed of all connections together.
        bytes_per_second: u64,
    },
    /// The server refused more connections than these.
    Server {
        /// The number it allows.
        connections: usize,
    },
    /// Received bytes waited for the storage.
    Disk,
    /// Received bytes waited for the reader of the [`crate::ByteStream`].
    Reader,
    /// The limit that the caller set on the speed.
    SpeedLimit,
}

impl LimitedBy {
    /// A stable word, for JSON and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connection { .. } => "connection",
            Self::Link { .. } => "link",
            Self::Server { .. } => "server",
            Self::Disk => "disk",
            Self::Reader => "reader",
            Self::SpeedLimit => "speed-limit",
        }
    }
}

/// The outcome of a completed download.
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Summary {
    /// The published file; empty with [`crate::StorageKind::Null`].
    pub output: PathBuf,
    /// Whether the file already was the object, so that nothing was fetched
    /// ([`crate::Existing::Verify`], [`crate::DownloadBuilder::if_changed`]).
    pub unchanged: bool,
    /// The object's size in bytes.
    pub bytes: u64,
    /// Bytes read from the network in bodies, wasted ones included.
    pub fetched_bytes: u64,
    /// Bytes taken over from an earlier run.
    pub resumed_bytes: u64,
    /// Bytes that this run stored through the mapped file. The others were stored by
    /// positioned writes: while storing took half of a core, or because the file cannot be
    /// mapped. Bytes that were stored twice count twice.
    pub mapped_bytes: u64,
    /// HTTP requests sent.
    pub requests: u64,
    /// Rounds of backoff.
    pub retries: u32,
    /// From the start until the file was published.
    pub elapsed: Duration,
    /// From the start to the first byte of a body.
    pub time_to_first_byte: Option<Duration>,
    /// The most connections used at once.
    pub connections: usize,
    /// What kept the download from being faster, where that was seen.
    pub limited_by: Option<LimitedBy>,
    /// BLAKE3 of the whole object, over the bytes as received; for a stream, as given out. `None`
    /// when [`crate::DownloadBuilder::digest`] is off, or when an earlier run had it off and its
    /// bytes cannot be read.
    pub blake3: Option<[u8; 32]>,
    /// The digest that was asked for by [`crate::DownloadBuilder::checksum`] and verified.
    pub verified: Option<(DigestAlgorithm, Vec<u8>)>,
}

impl Summary {
    /// The BLAKE3 hash in lower-case hexadecimal.
    #[must_use]
    pub fn blake3_hex(&self) -> Option<String> {
        self.blake3.map(|hash| crate::model::config::hex(&hash))
    }
}
