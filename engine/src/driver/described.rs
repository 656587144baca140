//! The Metalink that a response names for its object (RFC 6249 section 4): it is
//! fetched while the object comes, and what it says counts as the server's word.

use super::requests::follow;
use super::*;
use crate::model::metalink::MetalinkFile;
use crate::model::size::{differing, size_words};
use crate::net::document;
use crate::net::transport::Transport;

/// A smaller object is here before its description, in bytes.
const LEAST_BYTES: u64 = 1 << 20;
/// A longer document is not read, in bytes.
const MOST_BYTES: usize = 1 << 20;
/// How long it may take, redirects and all.
const WITHIN: Duration = Duration::from_secs(20);

/// What came of looking for it.
pub(super) struct Described {
    url: Url,
    outcome: Result<Vec<u8>, String>,
}

impl Driver {
    /// Has the Metalink fetched that the response of the opened object named,
    /// where it can be of use.
    pub(super) fn look_up_description(&mut self) {
        let Some(link) = self.description.take() else { return };
        let total = self.expected.as_ref().and_then(|resource| resource.total).unwrap_or(0);
        // What is given out as it comes, or not kept, is proven by nothing that is
        // told later; who gave pieces has had a Metalink.
        let useless = self.options.window.is_some() || self.options.forgets_bytes();
        let known = self.options.pieces.is_some() || self.options.range.is_some();
        if total < LEAST_BYTES || useless || known {
            return;
        }
        let opener = self.opener();
        let base = opener.current.clone();
        let allow_downgrade = self.options.allow_downgrade;
        let url = match follow(&*self.engine.transport, &base, &link, allow_downgrade) {
            Ok(url) => url,
            Err(why) => return self.not_described(&link, &why),
        };
        let mut asked = Source::new(base, None);
        asked.downgraded = opener.downgraded;
        asked.leads_to(url.clone());
        let mut headers = self.headers_of(&asked, None, false);
        headers.remove(header::IF_NONE_MATCH);
        headers.remove(header::IF_MODIFIED_SINCE);
        let errand = Errand {
            transport: Arc::clone(&self.engine.transport),
            counters: Arc::clone(&self.counters),
            headers,
            max_redirects: self.options.max_redirects,
            allow_downgrade,
            patience: self.options.patience(),
        };
        self.errands.spawn(async move {
            let outcome = match tokio::time::timeout(WITHIN, errand.run(url.clone())).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("it did not come within {} s", WITHIN.as_secs())),
            };
            Returned::Described(Described { url, outcome })
        });
    }

    /// Takes in what it says, where it is of this object: its digest as a field
    /// of the server's would be, and its mirrors under that digest.
    pub(super) fn on_described(&mut self, described: Described) {
        let Described { url, outcome } = described;
        // It may have begun again meanwhile, and will be told anew.
        let total = self.expected.as_ref().and_then(|resource| resource.total);
        let (Some(total), true) = (total, self.store.is_some()) else { return };
        let file = outcome.and_then(|bytes| {
            let files = MetalinkFile::parse(&bytes).map_err(|error| error.to_string())?;
            self.file_of(files, total)
        });
        let taken = file.and_then(|file| self.take_in(file));
        if let Err(why) = taken {
            self.not_described(url.as_str(), &why);
        }
    }

    fn not_described(&self, url: &str, why: &str) {
        let url = redact_url(url);
        let message = format!("the server's Metalink, {url}, is not used: {why}");
        self.notice(NoticeCode::Mirror, message);
    }

    /// The one that is this object: the only one or the one of its name, and of
    /// its size.
    fn file_of(&self, files: Vec<MetalinkFile>, total: u64) -> Result<MetalinkFile, String> {
        let last = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
        let output = self.output.as_ref().and_then(|output| output.file_name()?.to_str());
        let of_url = last(self.options.url.path());
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

    fn take_in(&mut self, file: MetalinkFile) -> Result<(), String> {
        if let Some(checksum) = file.checksum {
            let given = self.options.checksum.as_ref();
            let differs = given.is_some_and(|given| given.contradicts(&checksum));
            let claim = digest_fields::FieldDigest { field: "Metalink", checksum };
            if differs || !self.claims.described(claim) {
                return Err("its file has another digest".to_owned());
            }
        }
        self.links.extend(file.urls);
        self.join_sources();
        Ok(())
    }
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

/// Everything that fetching it needs, away from the driver.
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
            let spec = RequestSpec { url: url.clone(), origin, headers: self.headers.clone() };
            let answer =
                document::fetch(&*self.transport, &self.counters, &spec, self.patience, MOST_BYTES);
            let answer = answer.await.map_err(|error| error.message)?;
            match read(answer)? {
                Read::Body(bytes) => return Ok(bytes),
                Read::Elsewhere(location) => {
                    url = follow(&*self.transport, &url, &location, self.allow_downgrade)?;
                    if !is_same_origin(&url, &first) {
                        self.keep_only_what_is_for_all();
                    }
                }
            }
        }
        Err(format!("more than {} redirects", self.max_redirects))
    }

    /// Nothing that was meant for the origin so far goes to another one.
    fn keep_only_what_is_for_all(&mut self) {
        let public = [header::USER_AGENT, header::ACCEPT, header::ACCEPT_ENCODING];
        let kept = public.into_iter().filter_map(|name| {
            let value = self.headers.get(&name)?.clone();
            Some((name, value))
        });
        self.headers = kept.collect();
    }
}
