//! Where the object is asked for: the URL that was given and its mirrors, where
//! each led to, and how links that expire are replaced.

use std::time::SystemTime;

use super::requests::follow;
use super::*;
use crate::download::parse_url;
use crate::io::url_proof::Proof;
use crate::model::planner::{MAX_SOURCES, SourceId};
use crate::model::validator::Validator;
use crate::model::{expiry, link_fields};

/// How long the caller may take for a fresh URL.
const REFRESH_WITHIN: Duration = Duration::from_secs(120);

/// How soon it is looked again for a segment by which a fresh URL can be compared,
/// and how often once nothing is under way: the storage may be behind.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
const LOOKS: u32 = 40;

/// Another place that has the object, by the caller or by the server.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    pub(crate) url: Url,
    /// The login that its URL had: for its own origin.
    pub(crate) login: Option<HeaderValue>,
}

/// A place to ask, in the planner's numbering.
#[derive(Debug)]
pub(super) struct Source {
    /// As it was given: what a checkpoint is of.
    pub(super) given: Url,
    /// The same, or what replaced it: what is resolved again.
    url: Url,
    login: Option<HeaderValue>,
    /// Where that led to: what is asked.
    pub(super) current: Url,
    pub(super) redirects: u32,
    /// Whether one of these redirects led from https to http.
    pub(super) downgraded: bool,
    /// Of the version that is there, once it is known.
    validator: Option<Validator>,
    /// When `current` is to be replaced, because it expires.
    replace_at: Option<Duration>,
}

impl Source {
    pub(super) fn new(url: Url, login: Option<HeaderValue>) -> Self {
        Self {
            given: url.clone(),
            current: url.clone(),
            url,
            login,
            redirects: 0,
            downgraded: false,
            validator: None,
            replace_at: None,
        }
    }

    /// It redirected there.
    pub(super) fn leads_to(&mut self, target: Url) {
        self.downgraded |= self.current.scheme() == "https" && target.scheme() == "http";
        self.current = target;
    }

    /// The field that makes it refuse to send another version than the known one.
    pub(super) fn precondition(&self) -> Option<(header::HeaderName, String)> {
        self.validator.as_ref()?.precondition()
    }
}

/// What came of asking the caller for a fresh URL.
pub(super) struct Refreshed {
    source: SourceId,
    /// What the old one was refused with; `None` when it was about to expire.
    refused: Option<Failure>,
    outcome: Result<Fresh, String>,
    /// How often nothing to compare it with was found.
    looks: u32,
}

enum Fresh {
    /// As the caller gave it.
    Text(String),
    /// A URL that was shown to have the same bytes.
    Proven(Url),
}

impl Driver {
    /// The source that the object was, or is being, opened with.
    pub(super) fn opener(&self) -> &Source {
        &self.sources[self.opener]
    }

    /// The URL that a checkpoint of this download is of.
    pub(super) fn identity_url(&self) -> Url {
        if self.is_proven_by_digest() {
            self.options.url.clone()
        } else {
            self.opener().given.clone()
        }
    }

    /// Whether a digest was given: any source's bytes belong to one object then.
    pub(super) fn is_proven_by_digest(&self) -> bool {
        self.options.checksum.is_some() || self.options.pieces.is_some()
    }

    /// The same, with more than one source.
    pub(super) fn is_proven_among_several(&self) -> bool {
        self.is_proven_by_digest() && self.sources.len() > 1
    }

    /// The source whose object the checkpoint is of; the first if none is.
    pub(super) fn source_of(&self, matches: impl Fn(&Url) -> bool) -> SourceId {
        self.sources.iter().position(|source| matches(&source.given)).unwrap_or(0)
    }

    /// What a response of `source` is judged by: size and coding are the
    /// object's, the validator is its own.
    pub(super) fn expected_of(&self, source: SourceId) -> Option<Resource> {
        let validator = self.sources[source].validator.clone().unwrap_or_default();
        self.expected_of_object().map(|expected| Resource { validator, ..expected })
    }

    /// Which version `source` has.
    pub(super) fn set_validator(&mut self, source: SourceId, validator: Validator) {
        self.sources[source].validator = Some(validator);
    }

    /// The same, where it is not known yet.
    pub(super) fn learn_validator(&mut self, source: SourceId, validator: &Validator) {
        self.sources[source].validator.get_or_insert_with(|| validator.clone());
    }

    /// The object may be another one from now on.
    pub(super) fn forget_validators(&mut self) {
        self.sources.iter_mut().for_each(|source| source.validator = None);
    }

    /// The login that was part of the source's own URL, for its origin.
    pub(super) fn own_login(&self, source: &Source) -> Option<HeaderValue> {
        let own = source.current.origin() == source.given.origin();
        source.login.clone().filter(|_| own)
    }

    /// Tells that a source is used no more.
    pub(super) fn lost(&self, source: SourceId, why: &str, again: bool) {
        let url = redact(&self.sources[source].given);
        let then = if again { "trying the next mirror, from zero" } else { "not used any more" };
        self.notice(NoticeCode::Mirror, format!("{url}: {why}; {then}"));
    }

    /// The planner wants to know again where `source` is.
    pub(super) fn resolve(&mut self, source: SourceId, refused: Option<Failure>, again: bool) {
        let now = self.now();
        let can_refresh = self.can_refresh(source);
        let of = &self.sources[source];
        match refused {
            Some(failure) if again && !can_refresh => {
                self.planner.on_unresolved(source, failure, now);
            }
            Some(failure) if can_refresh && (again || of.current == of.url) => {
                self.refresh(source, Some(failure));
            }
            _ => self.ask_the_original(source),
        }
    }

    fn ask_the_original(&mut self, source: SourceId) {
        let of = &mut self.sources[source];
        of.current = of.url.clone();
        of.redirects = 0;
        of.downgraded = false;
        self.watch(source);
        self.locate(source);
        let now = self.now();
        self.planner.on_resolved(source, true, now);
    }

    /// Sets when the URL of `source` is to be replaced.
    pub(super) fn watch(&mut self, source: SourceId) {
        let now = self.now();
        let of = &self.sources[source];
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let can = of.current != of.url || self.can_refresh(source);
        let within = expiry::expires_at(&of.current)
            .filter(|_| can)
            .and_then(|end| expiry::replace_within(end, unix.as_secs()));
        self.sources[source].replace_at = within.map(|within| now + within);
    }

    /// Replaces links that are about to expire, each once for all connections.
    pub(super) fn replace_expiring(&mut self) {
        if self.store.is_none() || self.paused {
            return;
        }
        let now = self.now();
        for source in 0..self.sources.len() {
            let of = &mut self.sources[source];
            if of.replace_at.is_none_or(|at| at > now) {
                continue;
            }
            of.replace_at = None;
            tracing::debug!(source, "the link expires soon");
            if of.current != of.url {
                self.ask_the_original(source);
            } else {
                self.planner.hold(source);
                self.refresh(source, None);
            }
        }
    }

    /// Only the caller's own URL is the caller's to refresh.
    fn can_refresh(&self, source: SourceId) -> bool {
        source == 0 && self.options.refresh.is_some()
    }

    fn refresh(&mut self, source: SourceId, refused: Option<Failure>) {
        let Some(refresher) = self.options.refresh.clone() else { return };
        let url = self.sources[source].url.to_string();
        self.errands.spawn(async move {
            let asked = tokio::time::timeout(REFRESH_WITHIN, refresher.0.refresh(&url));
            let outcome = match asked.await {
                Ok(Ok(text)) => Ok(Fresh::Text(text)),
                Ok(Err(error)) => Err(error.to_string()),
                Err(_) => Err(format!("none came within {} s", REFRESH_WITHIN.as_secs())),
            };
            Returned::Refreshed(Refreshed { source, refused, outcome, looks: 0 })
        });
    }

    pub(super) async fn on_refreshed(&mut self, refreshed: Refreshed) {
        let Refreshed { source, refused, outcome, looks } = refreshed;
        let fresh = match outcome {
            Ok(Fresh::Proven(url)) => Ok(url),
            Ok(Fresh::Text(text)) => match parse_url(text.trim(), &*self.engine.transport) {
                Ok((url, _)) if self.is_same_object(source, &url) => Ok(url),
                Ok((url, _)) => match self.prove(source, refused.clone(), url, looks).await {
                    Ok(()) => return,
                    Err(why) => Err(why),
                },
                Err(error) => Err(error.to_string()),
            },
            Err(why) => Err(why),
        };
        let now = self.now();
        match (fresh, refused) {
            (Ok(url), _) => {
                let message = format!("going on with a fresh link, {}", redact(&url));
                self.notice(NoticeCode::Refreshed, message);
                self.sources[source].url = url;
                self.ask_the_original(source);
            }
            (Err(why), Some(mut refused)) => {
                refused.message += &format!("; no fresh URL was to be had: {why}");
                self.planner.on_unresolved(source, refused, now);
            }
            (Err(why), None) => {
                let message = format!("the link expires, and no fresh URL was to be had: {why}");
                self.notice(NoticeCode::Refreshed, message);
                self.planner.on_resolved(source, false, now);
            }
        }
    }

    /// Whether nothing has to be shown before bytes of `url` join those that are here.
    fn is_same_object(&self, source: SourceId, url: &Url) -> bool {
        let of = &self.sources[source].url;
        let same_place = of.origin() == url.origin() && of.path() == url.path();
        same_place || self.store.is_none() || self.is_proven_by_digest()
    }

    /// Has one stored segment fetched from `url` and compared, in the background;
    /// what the old link still brings may be the first of them.
    async fn prove(
        &mut self,
        source: SourceId,
        refused: Option<Failure>,
        url: Url,
        looks: u32,
    ) -> Result<(), String> {
        let Some(expected) = self.expected_of(source) else { return Err("nothing is here".into()) };
        let elsewhere = "it is of another host or path";
        if self.selected.is_some() {
            return Err(format!("{elsewhere}, and only a part of the object is here"));
        }
        if expected.validator.kind() != crate::event::ValidatorKind::StrongEtag {
            return Err(format!("{elsewhere}, and no strong validator shows it the same object"));
        }
        let under_way = !self.running.is_empty();
        let proof: Option<Proof> = match &self.store {
            Some(store) => store.proof().await,
            None => None,
        };
        let Some(proof) = proof else {
            if under_way || looks < LOOKS {
                let looks = if under_way { 0 } else { looks + 1 };
                let outcome = Ok(Fresh::Text(url.into()));
                self.errands.spawn(async move {
                    tokio::time::sleep(LOOK_AGAIN).await;
                    Returned::Refreshed(Refreshed { source, refused, outcome, looks })
                });
                return Ok(());
            }
            return Err(format!("{elsewhere}, and no complete segment is here to compare"));
        };
        let Some(origin) = Origin::of(&url) else { return Err("it has no host".into()) };
        let asked = Source::new(url.clone(), None);
        let headers = self.headers_of(&asked, None, false);
        let transport = Arc::clone(&self.engine.transport);
        let counters = Arc::clone(&self.counters);
        let patience = self.options.stall_timeout;
        self.errands.spawn(async move {
            let spec_for = |range: ByteRange| {
                let mut headers = headers.clone();
                if let Ok(value) = HeaderValue::from_str(&range.to_header_value()) {
                    headers.insert(header::RANGE, value);
                }
                RequestSpec { url: url.clone(), origin: origin.clone(), headers }
            };
            let outcome =
                match proof.holds(&*transport, &counters, &expected, patience, spec_for).await {
                    Ok(true) => Ok(Fresh::Proven(url)),
                    Ok(false) => Err(format!("{elsewhere}, and that has other bytes")),
                    Err(error) => Err(format!("{elsewhere}, and cannot be compared: {error}")),
                };
            Returned::Refreshed(Refreshed { source, refused, outcome, looks })
        });
        Ok(())
    }

    /// The response that the object is opened with may tell of mirrors (RFC 6249).
    pub(super) fn note_links(&mut self, source: SourceId, verdict: &Verdict, headers: &HeaderMap) {
        if self.store.is_none() && source == 0 && matches!(verdict, Verdict::Partial { .. }) {
            let found = link_fields::duplicates(headers);
            for link_fields::Duplicate { target, country } in &found {
                tracing::debug!(mirror = %redact_url(target), ?country, "the server names a mirror");
            }
            self.links = found.into_iter().map(|found| found.target).collect();
            self.description = link_fields::description(headers);
        }
    }

    /// Takes in what shows that sources belong together: a digest that the server
    /// sent. With a strong one, the mirrors that it names take part.
    pub(super) fn join_sources(&mut self) {
        let claims = self.claims.of_object();
        let digests: Vec<&Checksum> = match &self.options.checksum {
            Some(checksum) => vec![checksum],
            None => claims.iter().map(|claim| &claim.checksum).collect(),
        };
        if digests.is_empty() {
            return;
        }
        self.planner.use_together();
        let is_weak = |algorithm| matches!(algorithm, DigestAlgorithm::Sha1 | DigestAlgorithm::Md5);
        let strong = digests.iter().any(|digest| !is_weak(digest.algorithm()));
        let links = std::mem::take(&mut self.links);
        if !strong || links.is_empty() {
            return;
        }
        let base = self.opener().current.clone();
        let allow = self.options.allow_downgrade;
        let transport = &*self.engine.transport;
        let followed = links.iter().filter_map(|link| follow(transport, &base, link, allow).ok());
        let mirrors = followed.map(|url| Mirror { url, login: None }).collect();
        self.add_mirrors(mirrors);
    }

    /// Other places that have the object, which take part from now on.
    pub(super) fn add_mirrors(&mut self, mirrors: Vec<Mirror>) {
        for Mirror { url, login } in mirrors {
            let known =
                self.sources.iter().any(|source| source.given == url || source.current == url);
            if !known && self.sources.len() < MAX_SOURCES {
                self.sources.push(Source::new(url, login));
                self.planner.add_sources(1);
                self.locate(self.sources.len() - 1);
            }
        }
    }
}
