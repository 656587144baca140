//! The Metalink that a response names for its object (RFC 6249 section 4):
//! fetched while the object downloads; what it says counts as the server's
//! word.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderMap};
use url::Url;

use super::options::Options;
use crate::driver::address::follow;
use crate::model::metalink::MetalinkFile;
use crate::model::redact::redact_url;
use crate::model::response::{Asked, Verdict, classify};
use crate::model::size::{differing, size_words};
use crate::net::connect::{Origin, is_same_origin};
use crate::net::document;
use crate::net::fetcher::{Counters, RequestSpec};
use crate::net::transport::Transport;

/// An object smaller than this, in bytes, is here before its description.
const LEAST_BYTES: u64 = 1 << 20;
/// A document longer than this, in bytes, is not read.
const MOST_BYTES: usize = 1 << 20;
/// How long fetching it may take, including redirects.
const WITHIN: Duration = Duration::from_secs(20);

/// The result of fetching the Metalink.
pub(super) struct Described {
    url: Url,
    outcome: Result<Vec<u8>, String>,
}

/// Whether a Metalink can be of use to an object of this size.
pub(super) fn is_of_use(options: &Options, total: u64) -> bool {
    // Bytes that are given out as they come, or not kept, cannot be proven
    // later; a caller that gave pieces has had a Metalink.
    let useless = options.window.is_some() || options.forgets_bytes();
    let known = options.pieces.is_some() || options.range.is_some();
    total >= LEAST_BYTES && !useless && !known
}

/// Fetches the document at `url`, with the fields of a request to it.
pub(super) fn fetch(
    url: Url,
    mut headers: HeaderMap,
    options: &Options,
    transport: Arc<dyn Transport>,
    counters: Arc<Counters>,
) -> impl Future<Output = Described> + Send + use<> {
    headers.remove(header::IF_NONE_MATCH);
    headers.remove(header::IF_MODIFIED_SINCE);
    let errand = Errand {
        transport,
        counters,
        headers,
        max_redirects: options.max_redirects,
        allow_downgrade: options.allow_downgrade,
        patience: options.patience(),
    };
    async move {
        let outcome = match tokio::time::timeout(WITHIN, errand.run(url.clone())).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("it did not come within {} s", WITHIN.as_secs())),
        };
        Described { url, outcome }
    }
}

impl Described {
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// What it says about the object of `total` bytes, which was requested by the URL's path
    /// `asked` and is stored as `output`: its only file or the one of that name, if it has that
    /// size.
    ///
    /// # Errors
    /// Why the Metalink is not used.
    pub(super) fn file_of(
        self,
        total: u64,
        asked: &str,
        output: Option<&Path>,
    ) -> Result<MetalinkFile, String> {
        let files = MetalinkFile::parse(&self.outcome?).map_err(|error| error.to_string())?;
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let output = output.and_then(|output| output.file_name()?.to_str());
        let of_url = last(asked);
        let only = files.len() == 1;
        let mut fitting = files.into_iter().filter(|file| {
            let name = last(&file.name);
            only || name == of_url || Some(&*name) == output
        });
        let file = fitting.next().ok_or("it has several files, and none of this name")?;
        match file.size_bytes {
            Some(size) if size == total => Ok(file),
            Some(size) => {
                let (size, total) = differing(size, total);
                Err(format!("its file has {size}, and the object has {total}"))
            }
            None => Err("it does not tell its file's size".to_owned()),
        }
    }
}

/// Says that the Metalink at `url` is not used.
pub(super) fn unused(url: &str, why: &str) -> String {
    format!("the server's Metalink, {}, is not used: {why}", redact_url(url))
}

/// A response with a document.
enum Read {
    Body(Vec<u8>),
    /// It redirects there.
    Elsewhere(String),
}

fn read(answer: document::Answer) -> Result<Read, String> {
    match classify(Asked::Whole, answer.status, &answer.headers, None) {
        Verdict::Redirect { location } => Ok(Read::Elsewhere(location)),
        Verdict::Whole { resource } if resource.encoding.is_some() => {
            Err("the server insists on a content coding".to_owned())
        }
        Verdict::Whole { .. } => {
            let longer = || format!("it is longer than {}", size_words(MOST_BYTES as u64));
            answer.body.map(Read::Body).ok_or_else(longer)
        }
        Verdict::Lie(lie) => Err(lie.to_string()),
        _ => Err(format!("the server answered {}", answer.status)),
    }
}

/// Everything needed to fetch it, away from the driver.
struct Errand {
    transport: Arc<dyn Transport>,
    counters: Arc<Counters>,
    headers: HeaderMap,
    max_redirects: u32,
    allow_downgrade: bool,
    patience: Duration,
}

impl Errand {
    async fn run(mut self, first: Url) -> Result<Vec<u8>, String> {
        let mut url = first.clone();
        for _ in 0..=self.max_redirects {
            let origin = Origin::of(&url).ok_or("its URL has no host")?;
            let spec = RequestSpec::new(url.clone(), origin, self.headers.clone());
            let answer =
                document::fetch(&*self.transport, &self.counters, &spec, self.patience, MOST_BYTES);
            let answer = answer.await.map_err(|error| error.message)?;
            match read(answer)? {
                Read::Body(bytes) => return Ok(bytes),
                Read::Elsewhere(location) => {
                    url = follow(&*self.transport, &url, &location, self.allow_downgrade)
                        .map_err(|not| not.why)?;
                    if !is_same_origin(&url, &first) {
                        self.keep_only_what_is_for_all();
                    }
                }
            }
        }
        Err(format!("more than {} redirects", self.max_redirects))
    }

    /// Nothing that was meant for the first origin goes to another one.
    fn keep_only_what_is_for_all(&mut self) {
        let public = [header::USER_AGENT, header::ACCEPT, header::ACCEPT_ENCODING];
        let kept = public.into_iter().filter_map(|name| {
            let value = self.headers.get(&name)?.clone();
            Some((name, value))
        });
        self.headers = kept.collect();
    }
}
