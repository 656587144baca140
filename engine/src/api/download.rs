//! The builder of one download.

mod shown;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::oneshot;
use url::Host;

use crate::api::handle::{Download, launch, launch_stream};
use crate::api::stream::ByteStream;
use crate::disk::output::SMALL_BYTES;
use crate::disk::storage::window::Window;
use crate::disk::storage::{MemoryStorage, Storage};
use crate::driver::address::{invalid, parse_url};
use crate::driver::cookies::CookieJar;
use crate::driver::engine::EngineInner;
use crate::driver::guard::GuardedStorage;
use crate::driver::observer::{Observer, Observers};
use crate::driver::refresh::{Refresh, Refresher};
use crate::driver::shared::Shared;
use crate::driver::{Driver, HostLogin, Mirror, Options, Outcome};
use crate::model::config::{
    Allocation, Checksum, Connections, DigestAlgorithm, Existing, Foreign, HostCredential, Pieces,
    Resume, RetryPolicy, StorageKind,
};
use crate::model::error::Error;
use crate::model::event::Plan;
use crate::model::metalink::MetalinkFile;
use crate::model::planner::FIRST_RANGE_BYTES;
use crate::model::segment::MIN_CHOSEN_SEGMENT_BYTES;
use crate::model::selection::Selection;
use crate::model::size::exact_words;
use crate::net::transport::Transport;

/// A connection may be silent for so long.
const STALL_TIMEOUT: Duration = Duration::from_secs(30);
/// The first byte of all is waited for as long as browsers wait.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(300);
const LEAST_TIMEOUT: Duration = Duration::from_millis(100);
/// What of a stream is in memory at most, in bytes: the usual, and the least.
const WINDOW_BYTES: u64 = 32 << 20;
const MIN_WINDOW_BYTES: u64 = 4 << 20;

/// Sums of times have room for it.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

/// The options of one download, from [`crate::Engine::download`]. What cannot
/// be used is told by [`DownloadBuilder::start`], before anything is done.
#[derive(Clone)]
#[must_use = "nothing is downloaded before start() or plan()"]
pub struct DownloadBuilder {
    engine: Arc<EngineInner>,
    url: String,
    selection: Option<Selection>,
    mirrors: Vec<String>,
    refresh: Option<Refresher>,
    pieces: Option<Pieces>,
    headers: Vec<(String, String)>,
    basic_auth: Option<(String, String)>,
    host_credentials: Vec<HostCredential>,
    cookies: Option<Arc<dyn CookieJar>>,
    output: Option<PathBuf>,
    directory: PathBuf,
    connections: Connections,
    existing: Existing,
    if_changed: bool,
    in_place: bool,
    resume: Resume,
    foreign: Foreign,
    checksum: Option<Checksum>,
    expected_size_bytes: Option<u64>,
    max_size_bytes: Option<u64>,
    retry: RetryPolicy,
    stall_timeout: Option<Duration>,
    storage: StorageKind,
    allocation: Allocation,
    own_storage: Option<Arc<dyn Storage>>,
    observers: Observers,
    sync: bool,
    digest: bool,
    remote_time: bool,
    max_redirects: u32,
    allow_downgrade: bool,
    segment_size_bytes: Option<u64>,
    min_split_bytes: Option<u64>,
    small_all_or_nothing: bool,
    window_bytes: u64,
    limit_rate_bytes_per_second: Option<u64>,
    priority: i32,
}

impl DownloadBuilder {
    pub(crate) fn new(engine: Arc<EngineInner>, url: &str) -> Self {
        Self {
            engine,
            url: url.to_owned(),
            selection: None,
            mirrors: Vec::new(),
            refresh: None,
            pieces: None,
            headers: Vec::new(),
            basic_auth: None,
            host_credentials: Vec::new(),
            cookies: None,
            output: None,
            directory: PathBuf::from("."),
            connections: Connections::default(),
            existing: Existing::default(),
            if_changed: false,
            in_place: false,
            resume: Resume::default(),
            foreign: Foreign::default(),
            checksum: None,
            expected_size_bytes: None,
            max_size_bytes: None,
            retry: RetryPolicy::default(),
            stall_timeout: None,
            storage: StorageKind::default(),
            allocation: Allocation::default(),
            own_storage: None,
            observers: Observers::default(),
            sync: true,
            digest: true,
            remote_time: true,
            max_redirects: 20,
            allow_downgrade: false,
            segment_size_bytes: None,
            min_split_bytes: None,
            small_all_or_nothing: false,
            window_bytes: WINDOW_BYTES,
            limit_rate_bytes_per_second: None,
            priority: 0,
        }
    }

    /// Only these bytes of the object, written one after the other; they are what is
    /// meant by size, digests and offsets from here on. A server without ranges is
    /// [`ErrorKind::Protocol`], and a range that begins beyond the object's end
    /// [`ErrorKind::HttpStatus`] with 416. Digests that the server has of the
    /// whole are not compared. A partial of other bytes is not continued.
    pub fn range(mut self, selection: Selection) -> Self {
        self.selection = Some(selection);
        self
    }

    /// The output file. Without it the server's Content-Disposition names the
    /// file, else the URL; such a name is always one safe component.
    pub fn output(mut self, path: impl Into<PathBuf>) -> Self {
        self.output = Some(path.into());
        self
    }

    /// The directory of the output, created if needed; default `.`. A relative
    /// output is below it.
    pub fn directory(mut self, dir: impl Into<PathBuf>) -> Self {
        self.directory = dir.into();
        self
    }

    /// How many connections at once.
    pub fn connections(mut self, connections: Connections) -> Self {
        self.connections = connections;
        self
    }

    /// Adds a request header. It is sent to the URL's own origin only, not to
    /// where that redirects. `Range` and `Accept-Encoding` stay the engine's.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Basic authentication (RFC 7617) for the URL's own origin only.
    pub fn basic_auth(mut self, user: &str, password: &str) -> Self {
        self.basic_auth = Some((user.to_owned(), password.to_owned()));
        self
    }

    /// Logins by host, such as a netrc file has them: each request gets the
    /// first one of the host that it goes to, also after a redirect. A login
    /// for the URL's own origin given otherwise (in the URL, by
    /// [`Self::basic_auth`] or as a header) counts more there. After a redirect
    /// from https to http none of these is sent in the clear.
    pub fn host_credentials(mut self, credentials: Vec<HostCredential>) -> Self {
        self.host_credentials = credentials;
        self
    }

    /// Cookies for the requests, and a place for those that responses set. A
    /// `Cookie` given by [`Self::header`] goes before them, at the URL's own origin.
    ///
    /// Without a jar nothing is kept: a server that sets a cookie with a redirect, and
    /// then wants it, is not got past. The command gives all downloads of a run one.
    pub fn cookies(mut self, jar: Arc<dyn CookieJar>) -> Self {
        self.cookies = Some(jar);
        self
    }

    /// Whether an earlier partial is continued.
    pub fn resume(mut self, resume: Resume) -> Self {
        self.resume = resume;
        self
    }

    /// Whether what another program began is continued.
    pub fn foreign(mut self, foreign: Foreign) -> Self {
        self.foreign = foreign;
        self
    }

    /// What happens when the output exists.
    pub fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// Whether nothing is fetched when the output is the object already
    /// ([`crate::Summary::unchanged`]): its time is sent as `If-Modified-Since`, and
    /// the entity tag that such a download left in the extended attribute
    /// `user.haul.version` as `If-None-Match`. A server that does not heed them is
    /// believed by its validator and size. What changed replaces the file when it
    /// is complete, whatever [`Self::existing`] says. Default false.
    ///
    /// Readers of an unchanged file read that file. What has no whole file of the object
    /// to compare is refused as [`ErrorKind::InvalidInput`]: a [`Self::range`],
    /// [`Self::in_place`], [`Self::store_in`], [`StorageKind::Null`], [`Self::stream`] and
    /// [`Self::bytes`]. A [`Self::plan`] asks without conditions.
    pub fn if_changed(mut self, on: bool) -> Self {
        self.if_changed = on;
        self
    }

    /// Whether the data is under the final name from the start, for programs that
    /// rename it themselves. What is given up: nothing but the checkpoint beside it
    /// tells an incomplete file from a complete one, and with
    /// [`Existing::Replace`] the old file is gone at once. Default false.
    pub fn in_place(mut self, on: bool) -> Self {
        self.in_place = on;
        self
    }

    /// The digest that the object must have to be published.
    pub fn checksum(mut self, checksum: Checksum) -> Self {
        self.checksum = Some(checksum);
        self
    }

    /// Adds another URL of the same object; 32 sources are used at most.
    ///
    /// With a [`Self::checksum`], [`Self::pieces`] or a digest that the server
    /// sends, all sources are used at once, by their speed, and one that fails,
    /// has another size or wrong bytes is dropped with a notice. Without a digest
    /// nothing shows that two sources have the same bytes: then a mirror only
    /// replaces what failed before it, from zero. Headers and credentials do not
    /// go to a mirror of another origin, but its URL may have a login of its own.
    pub fn mirror(mut self, url: &str) -> Self {
        self.mirrors.push(url.to_owned());
        self
    }

    /// Who gives a fresh URL when this one expires.
    pub fn refresh(mut self, refresh: impl Refresh + 'static) -> Self {
        self.refresh = Some(Refresher(Arc::new(refresh)));
        self
    }

    /// The digests that the parts of the object must have. A part that has
    /// another one is fetched again, from another source if there is one.
    pub fn pieces(mut self, pieces: Pieces) -> Self {
        self.pieces = Some(pieces);
        self
    }

    /// All that a Metalink says of its file: mirrors but the first of its URLs,
    /// which is the download's own, size, digests and name. Size, digests and name
    /// that the program gives itself, before or after, count instead.
    ///
    /// ```no_run
    /// # async fn example(engine: haul_engine::Engine) -> Result<(), haul_engine::Error> {
    /// use haul_engine::MetalinkFile;
    ///
    /// let document = engine.download("https://example.org/a.meta4").bytes(1 << 20).await?;
    /// for file in MetalinkFile::parse(&document)? {
    ///     engine.download(&file.urls[0]).metalink(&file).start()?.wait().await?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn metalink(mut self, file: &MetalinkFile) -> Self {
        self.mirrors.extend(file.urls.iter().skip(1).cloned());
        self.output = self.output.or_else(|| Some(PathBuf::from(&file.name)));
        self.checksum = self.checksum.or_else(|| file.checksum.clone());
        self.pieces = self.pieces.or_else(|| file.pieces.clone());
        self.expected_size_bytes = self.expected_size_bytes.or(file.size_bytes);
        self
    }

    /// The size in bytes that the object must have; any other is
    /// [`ErrorKind::LimitReached`], before anything is written where the server
    /// tells the size.
    pub fn expected_size_bytes(mut self, bytes: u64) -> Self {
        self.expected_size_bytes = Some(bytes);
        self
    }

    /// The size in bytes that the object may have at most; a larger one is
    /// [`ErrorKind::LimitReached`], before anything is written where the server
    /// tells the size, else at the first byte too many.
    pub fn max_size_bytes(mut self, bytes: u64) -> Self {
        self.max_size_bytes = Some(bytes);
        self
    }

    /// Bounds of retrying.
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.retry = policy;
        self
    }

    /// Without a byte for this long a connection is given up. Default 30 s, and five
    /// minutes for the first byte of all, which some servers have to make first. At
    /// least 100 ms, at most a day.
    pub fn stall_timeout(mut self, timeout: Duration) -> Self {
        self.stall_timeout = Some(timeout);
        self
    }

    /// How bytes get into the file.
    pub fn storage(mut self, kind: StorageKind) -> Self {
        self.storage = kind;
        self
    }

    /// Whether the disk's blocks are reserved first.
    pub fn allocation(mut self, allocation: Allocation) -> Self {
        self.allocation = allocation;
        self
    }

    /// Keeps the bytes in a storage of yours instead of a file: what is about files
    /// (output, directory, [`Self::storage`]) has no effect, and
    /// [`crate::Summary::output`] is empty; [`Self::if_changed`] is refused. It can be continued if the storage keeps its
    /// checkpoint ([`Storage::checkpoints`]). The storage is for one download at a time:
    /// the next may start when [`crate::Download::cancel`] or
    /// [`crate::Download::wait`] has returned.
    pub fn store_in(mut self, storage: Arc<dyn Storage>) -> Self {
        self.own_storage = Some(Arc::new(GuardedStorage::new(storage)));
        self
    }

    /// Has an observer told of everything that happens to the download; several
    /// are called in the order in which they were added.
    pub fn observe(mut self, observer: impl Observer + 'static) -> Self {
        self.observers.add(Arc::new(observer));
        self
    }

    /// Whether data and directory are synced before the file is published.
    /// Default true. Without it a power cut may lose or damage what was published.
    pub fn sync(mut self, sync: bool) -> Self {
        self.sync = sync;
        self
    }

    /// Whether the BLAKE3 hash of the whole object is computed. Default true.
    ///
    /// Without it [`crate::Summary::blake3`] is `None`, and what an interrupted download
    /// stored since its last sync is fetched again: nothing can show that it is
    /// there. A later run with it reads what this one left. A
    /// [`Self::checksum`] of BLAKE3 counts more.
    pub fn digest(mut self, digest: bool) -> Self {
        self.digest = digest;
        self
    }

    /// Whether the file gets the server's Last-Modified as its time. Default true.
    pub fn remote_time(mut self, on: bool) -> Self {
        self.remote_time = on;
        self
    }

    /// So many redirects are followed in a row; 0 refuses all. Default 20.
    pub fn max_redirects(mut self, count: u32) -> Self {
        self.max_redirects = count;
        self
    }

    /// Whether a redirect from https to http is followed. Default false.
    pub fn allow_downgrade(mut self, on: bool) -> Self {
        self.allow_downgrade = on;
        self
    }

    /// Whether an object of at most 256 KiB is fetched whole or not at all: its
    /// data has no name before it is complete, and there is no partial, no lock
    /// and no checkpoint. Faster where there are thousands of them; a kill leaves
    /// nothing of one, and of two downloads to one output the later one finds
    /// that it exists. Default false.
    pub fn small_all_or_nothing(mut self, on: bool) -> Self {
        self.small_all_or_nothing = on;
        self
    }

    /// The segment size in bytes: a power of two, at least 1 MiB. Raised where
    /// the object would have more than 16,384 segments. Default: by the object's size.
    pub fn segment_size_bytes(mut self, bytes: u64) -> Self {
        self.segment_size_bytes = Some(bytes);
        self
    }

    /// How many bytes of a [`Self::stream`] are in memory at most, besides those
    /// that every download has in flight. Default 32 MiB, at least 4 MiB. More of it
    /// lets connections run further ahead of the slowest one.
    pub fn window_bytes(mut self, bytes: u64) -> Self {
        self.window_bytes = bytes;
        self
    }

    /// No part smaller than this, in bytes, is split off for another connection.
    /// Default: by the connections' speed, so that a request is worth its time.
    pub fn min_split_bytes(mut self, bytes: u64) -> Self {
        self.min_split_bytes = Some(bytes);
        self
    }

    /// At most so many bytes a second for this download, beside the limit of
    /// the engine; [`Download::set_rate`] changes it.
    pub fn limit_rate(mut self, bytes_per_second: u64) -> Self {
        self.limit_rate_bytes_per_second = Some(bytes_per_second);
        self
    }

    /// Who comes first where the engine cannot serve all at once: a higher priority
    /// gets the connections it can use before a lower one gets any, and is next
    /// in the queue. Equal ones share evenly. Default 0. What is running is not
    /// interrupted: connections change hands as their requests end, within
    /// seconds. [`Download::set_priority`] changes it.
    pub fn priority(mut self, priority: i32) -> Self {
        self.priority = priority;
        self
    }

    /// Starts the download on the current tokio runtime.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] for a URL, header or size that cannot be
    /// used; nothing was done then.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time enabled.
    pub fn start(self) -> Result<Download, Error> {
        let (engine, options) = self.resolve(Target::Output)?;
        Ok(launch(engine, options))
    }

    /// Starts the download on the current tokio runtime, to be read in order from
    /// memory: nothing is written, there is no checkpoint, and what is about
    /// files does not count; an output is only told. [`Self::pieces`] beside a
    /// [`Self::checksum`] are not compared, since that is of all bytes. See
    /// [`ByteStream`]. The [`Download`] steers it, and dropping that ends it.
    ///
    /// # Errors
    /// As [`DownloadBuilder::start`], and [`ErrorKind::InvalidInput`] with
    /// [`Self::if_changed`], [`Self::store_in`], or pieces without a checksum.
    ///
    /// # Panics
    /// As [`DownloadBuilder::start`].
    pub fn stream(mut self) -> Result<(Download, ByteStream), Error> {
        if self.own_storage.is_some() {
            return Err(cannot_go_together("store_in", "stream, which keeps nothing"));
        }
        // How a file would be written is no matter.
        self.storage = StorageKind::Auto;
        let window = Arc::new(Window::new(self.window_bytes.max(MIN_WINDOW_BYTES)));
        // Fine ones, so that a window has several for each connection.
        self.segment_size_bytes.get_or_insert(MIN_CHOSEN_SEGMENT_BYTES);
        // What was given out is not here to be compared.
        if self.pieces.take().is_some() && self.checksum.is_none() {
            return Err(invalid("pieces cannot be compared in a stream".to_owned())
                .with_hint("give a checksum of the whole, or download to a file"));
        }
        let (engine, mut options) = self.resolve(Target::Stream)?;
        options.window = Some(Arc::clone(&window));
        Ok(launch_stream(engine, options, window))
    }

    /// What a download would do: one request whose body is dropped; nothing is
    /// written. Observers are told nothing of it.
    ///
    /// # Errors
    /// As [`DownloadBuilder::start`], and whatever the request meets.
    pub async fn plan(self) -> Result<Plan, Error> {
        let (engine, options) = self.resolve(Target::Output)?;
        let driver =
            Driver::new(engine, options, Arc::new(Shared::new(None, Observers::default())), true);
        let (_keep, never) = oneshot::channel();
        match driver.run(never).await? {
            Outcome::Planned(plan) => Ok(*plan),
            Outcome::Completed(_) => Err(Error::lost()),
        }
    }

    /// Fetches the whole into memory instead of a file, on the current tokio runtime: for
    /// documents such as lists of digests and Metalinks.
    ///
    /// It is a download like any other, with retries, mirrors, sizes, digests and a range,
    /// but it does not count among [`crate::EngineConfig::max_active`]. What is about files
    /// has no effect, since there is none: output, directory, storage, what exists and what
    /// an earlier run left. A content coding that the server insists on is refused, since
    /// the bytes would not be those of the document.
    ///
    /// # Errors
    /// As [`DownloadBuilder::start`], whatever ends a download,
    /// [`ErrorKind::LimitReached`] for more than `most_bytes`, and
    /// [`ErrorKind::InvalidInput`] with [`Self::if_changed`] or [`Self::store_in`].
    ///
    /// # Panics
    /// As [`DownloadBuilder::start`].
    pub async fn bytes(mut self, most_bytes: usize) -> Result<Vec<u8>, Error> {
        if self.own_storage.is_some() {
            return Err(cannot_go_together("store_in", "bytes, which gives them out"));
        }
        let memory = MemoryStorage::new(usize::MAX);
        self.own_storage = Some(Arc::new(memory.clone()));
        let most = most_bytes as u64;
        self.max_size_bytes = Some(self.max_size_bytes.map_or(most, |given| given.min(most)));
        let (engine, options) = self.resolve(Target::Document)?;
        launch(engine, options).wait().await?;
        Ok(memory.take())
    }

    /// What was built, checked.
    pub(crate) fn resolve(self, target: Target) -> Result<(Arc<EngineInner>, Options), Error> {
        self.refuse_if_changed(target)?;
        let (url, user) = parse_url(&self.url, &*self.engine.transport)?;
        let mut private_headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let (name, value) = parse_header(name, value)?;
            private_headers.append(name, value);
        }
        if let Some((user, password)) = self.basic_auth.or(user) {
            private_headers.insert(AUTHORIZATION, basic(&user, &password)?);
        }
        let login = |given: &HostCredential| {
            let authorization = basic(&given.user, &given.password)?;
            Ok(HostLogin { host: given.host.as_deref().map(host_of_url), authorization })
        };
        let host_logins =
            self.host_credentials.iter().map(login).collect::<Result<Vec<_>, Error>>()?;
        if let Some(size) = self.segment_size_bytes
            && !(size.is_power_of_two() && size >= MIN_CHOSEN_SEGMENT_BYTES)
        {
            return Err(invalid(format!(
                "a segment size of {} is not a power of two of at least 1 MiB",
                exact_words(size)
            )));
        }
        if self.in_place && self.existing == Existing::Rename {
            return Err(invalid(
                "what has its final name from the start cannot get another one".to_owned(),
            ));
        }
        if self.storage == StorageKind::Null
            && self.own_storage.is_none()
            && let Some(checksum) = &self.checksum
            && checksum.algorithm() != DigestAlgorithm::Blake3
        {
            let algorithm = checksum.algorithm();
            return Err(invalid(format!(
                "a {algorithm} checksum cannot be compared: the null storage keeps no bytes"
            ))
            .with_hint("give a blake3 checksum, or another storage"));
        }
        if self.pieces.is_some() {
            let why = match (self.storage, &self.selection) {
                (StorageKind::Null, _) if self.own_storage.is_none() => {
                    Some("the null storage keeps no bytes")
                }
                (_, Some(_)) => Some("only a part of the object is wanted"),
                _ => None,
            };
            if let Some(why) = why {
                return Err(invalid(format!("pieces cannot be compared: {why}")));
            }
        }
        let asked_for = self.checksum.as_ref().map(Checksum::algorithm);
        let transport = &*self.engine.transport;
        let mirrors = self.mirrors.iter().map(|text| mirror(text, transport));
        let mirrors = mirrors.collect::<Result<_, Error>>()?;
        let stall_timeout = self.stall_timeout.unwrap_or(STALL_TIMEOUT);
        let first_byte_timeout = self.stall_timeout.unwrap_or(FIRST_BYTE_TIMEOUT);
        let options = Options {
            url,
            selection: self.selection,
            mirrors,
            refresh: self.refresh,
            pieces: self.pieces,
            output: self.output,
            directory: self.directory,
            connections: self.connections,
            private_headers,
            host_logins,
            cookies: self.cookies,
            existing: if self.if_changed { Existing::Replace } else { self.existing },
            if_changed: self.if_changed,
            in_place: self.in_place,
            resume: self.resume,
            foreign: self.foreign,
            checksum: self.checksum,
            expected_size_bytes: self.expected_size_bytes,
            max_size_bytes: self.max_size_bytes,
            retry: self.retry,
            stall_timeout: stall_timeout.clamp(LEAST_TIMEOUT, LONGEST_TIMEOUT),
            first_byte_timeout: first_byte_timeout.clamp(LEAST_TIMEOUT, LONGEST_TIMEOUT),
            storage: self.storage,
            window: None,
            allocation: self.allocation,
            own_storage: self.own_storage,
            observers: self.observers,
            sync: self.sync,
            digest: self.digest || asked_for == Some(DigestAlgorithm::Blake3),
            remote_time: self.remote_time,
            max_redirects: self.max_redirects,
            allow_downgrade: self.allow_downgrade,
            segment_size_bytes: self.segment_size_bytes,
            limit_rate_bytes_per_second: self.limit_rate_bytes_per_second,
            priority: self.priority,
            first_range_bytes: FIRST_RANGE_BYTES.max(self.min_split_bytes.unwrap_or(0)),
            min_split_bytes: self.min_split_bytes.unwrap_or(0),
            document: target == Target::Document,
            small_bytes: if self.small_all_or_nothing { SMALL_BYTES } else { 0 },
            seed: fastrand::u64(..),
        };
        Ok((self.engine, options))
    }
}

/// What becomes of the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// A file, a storage of the program, or nothing at all.
    Output,
    Stream,
    Document,
}

impl DownloadBuilder {
    /// Says no where there is no whole file of the object to compare.
    fn refuse_if_changed(&self, target: Target) -> Result<(), Error> {
        let other = match target {
            Target::Stream => "stream, which writes no file",
            Target::Document => "bytes, which writes no file",
            Target::Output if self.own_storage.is_some() => "store_in, which writes no file",
            Target::Output if self.storage == StorageKind::Null => {
                "the null storage, which writes no file"
            }
            Target::Output if self.selection.is_some() => "range: the file has other bytes",
            Target::Output if self.in_place => "in_place, which replaces the file at once",
            Target::Output => return Ok(()),
        };
        if self.if_changed { Err(cannot_go_together("if_changed", other)) } else { Ok(()) }
    }
}

fn cannot_go_together(one: &str, other: &str) -> Error {
    invalid(format!("{one} cannot go with {other}"))
}

fn mirror(text: &str, transport: &dyn Transport) -> Result<Mirror, Error> {
    let (url, user) = parse_url(text, transport)?;
    let login = user.map(|(user, password)| basic(&user, &password)).transpose()?;
    Ok(Mirror { url, login })
}

/// A host as URLs have it; what is none stays as it is and never matches.
fn host_of_url(host: &str) -> String {
    Host::parse(host)
        .or_else(|_| Host::parse(&format!("[{host}]")))
        .map_or_else(|_| host.to_owned(), |host| host.to_string())
}

fn parse_header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Error> {
    let parsed = HeaderName::from_bytes(name.as_bytes())
        .map_err(|_| invalid(format!("{name:?} is not a header name")))?;
    // The value may be a secret: it is not quoted.
    let mut value = HeaderValue::from_str(value)
        .map_err(|_| invalid(format!("the value of the header {parsed} cannot be sent")))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

fn basic(user: &str, password: &str) -> Result<HeaderValue, Error> {
    if user.contains(':') {
        return Err(invalid("a user name for basic authentication has no colon".to_owned()));
    }
    let mut value =
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
            .map_err(|_| invalid("the login cannot be sent in a header".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use url::Url;

    use super::*;

    #[test]
    fn hosts_are_compared_as_urls_have_them() {
        for (host, url) in [
            ("Example.ORG", "http://example.org/"),
            ("::1", "http://[::1]:8080/"),
            ("[::1]", "http://[0:0:0:0:0:0:0:1]/"),
            ("127.0.0.1", "http://127.1/"),
            ("bücher.example", "http://bücher.example/"),
        ] {
            let url = Url::parse(url).unwrap();
            assert_eq!(Some(host_of_url(host).as_str()), url.host_str());
        }
        assert_eq!(host_of_url("not a host"), "not a host");
    }
}
