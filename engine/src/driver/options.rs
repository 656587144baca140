//! The checked options of a download, and what is derived from them once.

use std::mem;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use url::{Host, Url};

use super::Mirror;
use super::address::{invalid, parse_url};
use super::cookies::CookieJar;
use super::observer::Observers;
use super::refresh::Refresher;
use crate::disk::fitting::refuse_unusable;
use crate::disk::output::SMALL_BYTES;
use crate::disk::partial::Paths;
use crate::disk::storage::window::Window;
use crate::disk::storage::{MemoryStorage, Storage};
use crate::model::config::{
    Checksum, DigestAlgorithm, Existing, Foreign, HostCredential, Resume, StorageKind,
};
use crate::model::error::Error;
use crate::model::options::DownloadOptions;
use crate::model::planner::{FIRST_RANGE_BYTES, Settings};
use crate::model::segment::MIN_CHOSEN_SEGMENT_BYTES;
use crate::net::transport::Transport;

/// What a program attaches to a download besides plain data.
#[derive(Clone, Default)]
pub(crate) struct Attached {
    pub(crate) refresh: Option<Refresher>,
    pub(crate) cookies: Option<Arc<dyn CookieJar>>,
    /// The program keeps the bytes itself, in this storage.
    pub(crate) storage: Option<Arc<dyn Storage>>,
    pub(crate) observers: Observers,
}

/// What becomes of the bytes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// A file, a storage of the program, or nothing at all.
    Output,
    /// The same, but nothing is opened: the outcome says what would be.
    Plan,
    /// They are given out in order from this window instead of being kept.
    Stream(Arc<Window>),
    /// They are collected in this memory. They are wanted as they are, without a content
    /// coding, and wait for no turn among the engine's downloads.
    Document(MemoryStorage),
}

/// A login for one host.
#[derive(Debug, Clone)]
pub(crate) struct HostLogin {
    /// As URLs have it; `None` is the host that the caller named.
    pub(crate) host: Option<String>,
    /// Marked as sensitive.
    pub(crate) authorization: HeaderValue,
}

/// The options of a download after [`Options::resolve`]. It dereferences to the
/// [`DownloadOptions`] that were chosen, without contradictions.
#[derive(Clone)]
pub(crate) struct Options {
    chosen: DownloadOptions,
    pub(crate) url: Url,
    /// The mirrors that were chosen.
    pub(crate) other_sources: Vec<Mirror>,
    /// Sent to the URL's own origin only.
    pub(crate) private_headers: HeaderMap,
    /// Sent to their hosts only; the first that fits counts.
    pub(crate) host_logins: Vec<HostLogin>,
    pub(crate) refresh: Option<Refresher>,
    pub(crate) cookies: Option<Arc<dyn CookieJar>>,
    pub(crate) own_storage: Option<Arc<dyn Storage>>,
    pub(crate) observers: Observers,
    /// The window of [`Target::Stream`].
    pub(crate) window: Option<Arc<Window>>,
    /// Whether the target is [`Target::Document`].
    pub(crate) document: bool,
    /// Whether the target is [`Target::Plan`].
    pub(crate) plan_only: bool,
    /// The least share of the first response.
    pub(crate) first_range_bytes: u64,
    /// An object of at most this size is all or nothing.
    pub(crate) small_bytes: u64,
    /// Seeds the jitter of the waits.
    pub(crate) seed: u64,
}

impl Deref for Options {
    type Target = DownloadOptions;

    fn deref(&self) -> &DownloadOptions {
        &self.chosen
    }
}

impl DerefMut for Options {
    fn deref_mut(&mut self) -> &mut DownloadOptions {
        &mut self.chosen
    }
}

impl Options {
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for what cannot be used or cannot go together.
    pub(crate) fn resolve(
        url: &str,
        mut chosen: DownloadOptions,
        attached: Attached,
        target: Target,
        transport: &dyn Transport,
    ) -> Result<Self, Error> {
        let Attached { refresh, cookies, mut storage, observers } = attached;
        refuse_if_changed(&chosen, storage.is_some(), &target)?;
        let (mut window, document) = (None, matches!(target, Target::Document(_)));
        let plan_only = matches!(target, Target::Plan);
        match target {
            Target::Output | Target::Plan => {}
            Target::Stream(_) if storage.is_some() => {
                return Err(cannot_go_together("store_in", "stream, which keeps nothing"));
            }
            Target::Stream(of) => {
                // How a file would be written does not matter.
                chosen.storage = StorageKind::Auto;
                // Fine segments, so that a window has several for each connection.
                chosen.segment_size_bytes.get_or_insert(MIN_CHOSEN_SEGMENT_BYTES);
                // Bytes that were given out are not here to be compared.
                if chosen.pieces.take().is_some() && chosen.checksum.is_none() {
                    return Err(invalid("pieces cannot be compared in a stream".to_owned())
                        .with_hint("give a checksum of the whole, or download to a file"));
                }
                window = Some(of);
            }
            Target::Document(_) if storage.is_some() => {
                return Err(cannot_go_together("store_in", "bytes, which gives them out"));
            }
            Target::Document(memory) => storage = Some(Arc::new(memory)),
        }
        let (url, user) = parse_url(url, transport)?;
        let mut private_headers = HeaderMap::new();
        for (name, value) in mem::take(&mut chosen.headers) {
            let (name, value) = parse_header(&name, &value)?;
            private_headers.append(name, value);
        }
        if let Some((user, password)) = chosen.basic_auth.take().or(user) {
            private_headers.insert(AUTHORIZATION, basic(&user, &password)?);
        }
        let login = |given: HostCredential| {
            let authorization = basic(&given.user, &given.password)?;
            Ok(HostLogin { host: given.host.as_deref().map(host_of_url), authorization })
        };
        let host_logins = mem::take(&mut chosen.host_credentials).into_iter().map(login);
        let host_logins = host_logins.collect::<Result<_, Error>>()?;
        chosen.check()?;
        let makes_file =
            storage.is_none() && window.is_none() && chosen.storage != StorageKind::Null;
        if makes_file {
            let output = chosen.output.as_deref().unwrap_or(Path::new(""));
            refuse_unusable(&chosen.directory.join(output))?;
        }
        if chosen.storage == StorageKind::Null && storage.is_none() {
            refuse_null_storage(&chosen)?;
        }
        if chosen.pieces.is_some() && chosen.range.is_some() {
            return Err(pieces_cannot("only a part of the object is wanted"));
        }
        let other_sources = mem::take(&mut chosen.mirrors);
        let other_sources = other_sources.iter().map(|text| mirror(text, transport));
        let other_sources = other_sources.collect::<Result<_, Error>>()?;
        if chosen.if_changed {
            chosen.existing = Existing::Replace;
        }
        let asked_for = chosen.checksum.as_ref().map(Checksum::algorithm);
        chosen.digest |= asked_for == Some(DigestAlgorithm::Blake3);
        Ok(Self {
            url,
            other_sources,
            private_headers,
            host_logins,
            refresh,
            cookies,
            own_storage: storage,
            observers,
            window,
            document,
            plan_only,
            first_range_bytes: FIRST_RANGE_BYTES.max(chosen.min_split_bytes.unwrap_or(0)),
            small_bytes: if chosen.small_all_or_nothing { SMALL_BYTES } else { 0 },
            seed: fastrand::u64(..),
            chosen,
        })
    }

    /// Whether no file is written and no checkpoint kept.
    pub(super) fn keeps_nothing(&self) -> bool {
        self.storage == StorageKind::Null || self.window.is_some() || self.own_storage.is_some()
    }

    /// Whether nothing that was stored can be read again.
    pub(super) fn forgets_bytes(&self) -> bool {
        self.storage == StorageKind::Null && self.own_storage.is_none()
    }

    /// Whether what another program began may become the output.
    pub(super) fn continues_foreign(&self) -> bool {
        self.foreign == Foreign::Continue
            && self.resume != Resume::Never
            && self.existing != Existing::Rename
            && self.range.is_none()
            && !self.in_place
            && !self.if_changed
            && !self.keeps_nothing()
    }

    /// Whether a digest was given: then the bytes of all sources belong to one object.
    pub(super) fn is_proven_by_digest(&self) -> bool {
        self.checksum.is_some() || self.pieces.is_some()
    }

    /// The names that belong to `output`.
    pub(super) fn paths(&self, output: &Path) -> Paths {
        if self.in_place { Paths::in_place(output) } else { Paths::of(output) }
    }

    /// What the planner needs to know.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            connections: self.connections,
            stall_timeout: self.patience(),
            first_byte_timeout: self.first_byte_patience(),
            retry: self.retry,
            first_range_bytes: self.first_range_bytes,
            min_split_bytes: self.min_split_bytes.unwrap_or(0),
            // Told with each tick, since it may change.
            speed_limited: false,
            ranges_only: self.range.is_some(),
            refreshes: self.refresh.is_some(),
            seed: self.seed,
        }
    }
}

/// Refuses a comparison with what is there if that is not a whole file of the object.
fn refuse_if_changed(
    options: &DownloadOptions,
    own_storage: bool,
    target: &Target,
) -> Result<(), Error> {
    let other = match target {
        Target::Stream(_) => "stream, which writes no file",
        Target::Document(_) => "bytes, which writes no file",
        _ if own_storage => "store_in, which writes no file",
        _ if options.storage == StorageKind::Null => "the null storage, which writes no file",
        _ if options.range.is_some() => "range: the file has other bytes",
        _ if options.in_place => "in_place, which replaces the file at once",
        _ => return Ok(()),
    };
    if options.if_changed { Err(cannot_go_together("if_changed", other)) } else { Ok(()) }
}

/// Refuses digests that could only be compared with bytes that are kept.
fn refuse_null_storage(options: &DownloadOptions) -> Result<(), Error> {
    let algorithm = options.checksum.as_ref().map(Checksum::algorithm);
    if let Some(algorithm) = algorithm.filter(|it| *it != DigestAlgorithm::Blake3) {
        return Err(invalid(format!(
            "a {algorithm} checksum cannot be compared: the null storage keeps no bytes"
        ))
        .with_hint("give a blake3 checksum, or another storage"));
    }
    match options.pieces {
        Some(_) => Err(pieces_cannot("the null storage keeps no bytes")),
        None => Ok(()),
    }
}

fn pieces_cannot(why: &str) -> Error {
    invalid(format!("pieces cannot be compared: {why}"))
}

pub(crate) fn cannot_go_together(one: &str, other: &str) -> Error {
    invalid(format!("{one} cannot go with {other}"))
}

fn mirror(text: &str, transport: &dyn Transport) -> Result<Mirror, Error> {
    let (url, user) = parse_url(text, transport)?;
    let login = user.map(|(user, password)| basic(&user, &password)).transpose()?;
    Ok(Mirror { url, login })
}

/// A host as URLs have it; text that is not a host stays as it is and never matches.
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
