//! Where the object is asked for: the URL that was given and its mirrors, where
//! each led to, and how links that expire are replaced.

use std::time::SystemTime;

use super::requests::follow;
use super::*;
use crate::driver::address::parse_url;
use crate::model::planner::{MAX_SOURCES, SourceId};
use crate::model::validator::Validator;
use crate::model::{expiry, link_fields};

/// How long the caller may take for a fresh URL.
const REFRESH_WITHIN: Duration = Duration::from_secs(120);

/// Another place that has the object, by the caller or by the server.
#[derive(Debug, Clone)]
pub(crate) struct Mirror {
    pub(crate) url: Url,
    /// The login that its URL had: for its own origin.
    pub(crate) login: Option<HeaderValue>,
}

/// A place to ask, in the planner's numbering.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// As it was given: what a checkpoint is of.
    pub(super) given: Url,
    /// The same, or what replaced it: what is resolved again.
    pub(super) url: Url,
    /// What the caller's fresh URL, which is yet to be proven, is to replace.
    pub(super) replaced: Option<Replaced>,
    /// Which proof of where it leads is under way.
    pub(super) proving: Option<u64>,
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
            replaced: None,
            proving: None,
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

/// A URL that a fresh one is to replace.
#[derive(Debug, Clone)]
pub(super) struct Replaced {
    pub(super) url: Url,
    /// What it was refused with; `None` when it was about to expire.
    pub(super) refused: Option<Failure>,
}

/// What came of asking the caller for a fresh URL.
pub(super) struct Refreshed {
    source: SourceId,
    /// What the old one was refused with; `None` when it was about to expire.
    refused: Option<Failure>,
    outcome: Result<String, String>,
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
        let own = is_same_origin(&source.current, &source.given);
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

    pub(super) fn ask_the_original(&mut self, source: SourceId) {
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
            let asked = async {
                let asking = guard::call(Part::Refresh, || refresher.0.refresh(&url))?;
                guard::future(Part::Refresh, asking).await
            };
            let outcome = match tokio::time::timeout(REFRESH_WITHIN, asked).await {
                Ok(Ok(Ok(text))) => Ok(text),
                Ok(Ok(Err(error))) => Err(error.to_string()),
                Ok(Err(panicked)) => return Returned::Panicked(panicked),
                Err(_) => Err(format!("none came within {} s", REFRESH_WITHIN.as_secs())),
            };
            Returned::Refreshed(Refreshed { source, refused, outcome })
        });
    }

    pub(super) fn on_refreshed(&mut self, refreshed: Refreshed) {
        let Refreshed { source, refused, outcome } = refreshed;
        let parse = |text: String| match parse_url(text.trim(), &*self.engine.transport) {
            Ok((url, _)) => Ok(url),
            Err(error) => Err(error.to_string()),
        };
        match outcome.and_then(parse) {
            Ok(url) => {
                let message = format!("going on with a fresh link, {}", redact(&url));
                self.notice(NoticeCode::Refreshed, message);
                let of = &mut self.sources[source];
                let before = std::mem::replace(&mut of.url, url.clone());
                of.replaced = Some(Replaced { url: before, refused });
                if !self.prove_fresh(source, &url) {
                    self.ask_the_original(source);
                }
            }
            Err(why) => self.not_refreshed(source, refused, &why),
        }
    }

    /// There is no fresh URL for `source`, for this reason.
    pub(super) fn not_refreshed(&mut self, source: SourceId, refused: Option<Failure>, why: &str) {
        let now = self.now();
        if let Some(mut refused) = refused {
            refused.message += &format!("; no fresh URL was to be had: {why}");
            self.planner.on_unresolved(source, refused, now);
        } else {
            let message = format!("the link expires, and no fresh URL was to be had: {why}");
            self.notice(NoticeCode::Refreshed, message);
            self.planner.on_resolved(source, false, now);
        }
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
