//! Where the object is asked for.
//!
//! A source is a URL that the caller gave or that the server named (RFC 6249). Three URLs are
//! kept of each: the one that was *given*, by which a checkpoint is recognised and whose origin
//! its login is for; the one that is *asked* again when its link has expired, which is the given
//! one until the caller replaces it; and the *current* one, to which that redirected and which
//! the next request goes to. The numbers of sources are the planner's, and so are the numbers
//! of the hosts that they are at.
//!
//! The planner decides which source is used, and the loop tells it what came of that. Here it
//! is decided where a source is now, whether a fresh URL is asked for, and when a link that
//! expires is replaced. Fetching a fresh URL from the caller and the server's Metalink are
//! errands of this part; what they bring back is [`News`].

use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::task::JoinError;
use url::Url;

use super::Mirror;
use super::options::Options;
use crate::driver::address::{follow, parse_url};
use crate::driver::description::Described;
use crate::driver::guard::{self, Panicked, Part};
use crate::driver::inbox::Errands;
use crate::driver::refresh::Refresher;
use crate::model::planner::{Failure, MAX_SOURCES, PlaceId, SourceId};
use crate::model::redact::{redact, redact_url};
use crate::model::validator::Validator;
use crate::model::{expiry, link_fields};
use crate::net::connect::is_same_origin;
use crate::net::transport::Transport;

/// How long the caller may take for a fresh URL.
const REFRESH_WITHIN: Duration = Duration::from_secs(120);

/// A place to ask, which only [`Sources`] changes.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) given: Url,
    /// The given one, or what replaced it: what is asked again when its link has expired.
    asked: Url,
    /// What the caller's fresh URL, which is yet to be proven, is to replace.
    replaced: Option<Replaced>,
    login: Option<HeaderValue>,
    pub(super) current: Url,
    redirects: u32,
    /// Whether one of these redirects led from https to http.
    pub(super) downgraded: bool,
    /// Of the version that is there, once it is known.
    validator: Option<Validator>,
    /// When `current` is to be replaced, because it expires.
    replace_at: Option<Duration>,
}

/// A URL that a fresh one is to replace.
#[derive(Debug, Clone)]
struct Replaced {
    url: Url,
    refused: Option<Failure>,
}

impl Source {
    fn new(url: Url, login: Option<HeaderValue>) -> Self {
        Self {
            given: url.clone(),
            current: url.clone(),
            asked: url,
            replaced: None,
            login,
            redirects: 0,
            downgraded: false,
            validator: None,
            replace_at: None,
        }
    }

    /// As if it had led there.
    pub(super) fn at(&self, url: &Url) -> Self {
        Self { current: url.clone(), ..self.clone() }
    }

    /// The login that was part of the source's own URL, for its origin.
    pub(super) fn own_login(&self) -> Option<HeaderValue> {
        self.login.clone().filter(|_| is_same_origin(&self.current, &self.given))
    }

    /// The field that makes it refuse to send another version than the known one.
    pub(super) fn precondition(&self) -> Option<(HeaderName, String)> {
        self.validator.as_ref()?.precondition()
    }

    /// Where a link in a response leads, which its own login is not for.
    pub(super) fn link_to(&self, url: &Url) -> Self {
        let mut link = Self { login: None, ..self.clone() };
        link.leads_to(url.clone());
        link
    }

    fn leads_to(&mut self, target: Url) {
        self.downgraded |= self.current.scheme() == "https" && target.scheme() == "http";
        self.current = target;
    }
}

/// What came of an errand.
pub(super) enum News {
    Refreshed(Refreshed),
    Described(Described),
    /// The program's refresh function did.
    Panicked(Panicked),
}

/// What came of asking the caller for a fresh URL.
pub(super) struct Refreshed {
    pub(super) source: SourceId,
    /// What the old one was refused with; `None` when it was about to expire.
    pub(super) refused: Option<Failure>,
    /// Why there is none otherwise.
    pub(super) outcome: Result<String, String>,
}

/// How it is found out anew where a source is.
pub(super) enum Resolution {
    /// It is not: this is what the source failed with.
    Unresolved(Failure),
    /// The caller is asked for a fresh URL.
    Refreshing,
    /// The URL that led here is asked again.
    AskAgain,
}

#[derive(Default)]
pub(super) struct Sources {
    list: Vec<Source>,
    /// The source that the object is opened with.
    opener: SourceId,
    /// The hosts that sources are or were at; `None` where connections to a host have no bound.
    hosts: Option<Vec<String>>,
    refresher: Option<Refresher>,
    /// Mirrors that the server named.
    links: Vec<String>,
    /// The Metalink that it named.
    description: Option<String>,
    /// What is wrong with the login, after a 401.
    login_words: Option<String>,
    errands: Errands<News>,
}

impl Sources {
    pub(super) fn new(options: &Options, bound_by_host: bool) -> Self {
        Self {
            list: vec![Source::new(options.url.clone(), None)],
            hosts: bound_by_host.then(Vec::new),
            refresher: options.refresh.clone(),
            ..Self::default()
        }
    }

    pub(super) fn get(&self, source: SourceId) -> &Source {
        &self.list[source]
    }

    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    /// The source that the object was, or is being, opened with.
    pub(super) fn opener(&self) -> &Source {
        &self.list[self.opener]
    }

    pub(super) fn opener_id(&self) -> SourceId {
        self.opener
    }

    pub(super) fn open_with(&mut self, source: SourceId) {
        self.opener = source;
    }

    /// The source whose given URL this is.
    pub(super) fn source_of(&self, matches: impl Fn(&Url) -> bool) -> Option<SourceId> {
        self.list.iter().position(|source| matches(&source.given))
    }

    /// Takes part from now on, unless it does already or there are too many. The number it has.
    pub(super) fn add(&mut self, mirror: Mirror) -> Option<SourceId> {
        let Mirror { url, login } = mirror;
        let known = self.list.iter().any(|it| it.given == url || it.current == url);
        if known || self.list.len() >= MAX_SOURCES {
            return None;
        }
        self.list.push(Source::new(url, login));
        Some(self.list.len() - 1)
    }

    /// The host that `source` is at, where its connections count from now on.
    pub(super) fn locate(&mut self, source: SourceId) -> Option<PlaceId> {
        let hosts = self.hosts.as_mut()?;
        let name = self.list[source].current.host_str().unwrap_or_default();
        let known = hosts.iter().position(|host| host == name);
        Some(known.unwrap_or_else(|| {
            hosts.push(name.to_owned());
            hosts.len() - 1
        }))
    }

    /// The hosts by their numbers.
    pub(super) fn hosts(&self) -> &[String] {
        self.hosts.as_deref().unwrap_or_default()
    }

    /// Which version `source` has, once that is known.
    pub(super) fn validator_of(&self, source: SourceId) -> Validator {
        self.list[source].validator.clone().unwrap_or_default()
    }

    /// The object is opened with the version that the opener has.
    pub(super) fn opened(&mut self, validator: Validator) {
        self.set_validator(self.opener, validator);
        self.delivers(self.opener);
        self.settle_all();
    }

    pub(super) fn set_validator(&mut self, source: SourceId, validator: Validator) {
        self.list[source].validator = Some(validator);
    }

    /// The same, where it is not known yet.
    pub(super) fn learn_validator(&mut self, source: SourceId, validator: &Validator) {
        self.list[source].validator.get_or_insert_with(|| validator.clone());
    }

    /// The object may be another one from now on.
    pub(super) fn forget_validators(&mut self) {
        self.list.iter_mut().for_each(|source| source.validator = None);
    }

    /// Bytes of the object came from it: what it redirects from now on is counted anew.
    pub(super) fn delivers(&mut self, source: SourceId) {
        self.list[source].redirects = 0;
    }

    /// A request to `base` of this source was redirected.
    ///
    /// # Errors
    /// Why it is not followed.
    pub(super) fn redirect(
        &mut self,
        source: SourceId,
        base: &Url,
        location: &str,
        transport: &dyn Transport,
        options: &Options,
    ) -> Result<(), String> {
        let of = &mut self.list[source];
        of.redirects += 1;
        let most = options.max_redirects;
        if of.redirects > most {
            let from = redact(base);
            return Err(format!("{from} redirects more than {most} times: not followed"));
        }
        of.leads_to(follow(transport, base, location, options.allow_downgrade)?);
        Ok(())
    }

    /// Only the caller's own URL is the caller's to refresh.
    fn can_refresh(&self, source: SourceId) -> bool {
        source == 0 && self.refresher.is_some()
    }

    /// What the planner is to be told that wants to know again where `source` is, which was
    /// refused where it is now, and maybe where that was found `again`.
    pub(super) fn resolve(
        &mut self,
        source: SourceId,
        refused: Option<Failure>,
        again: bool,
    ) -> Resolution {
        let can_refresh = self.can_refresh(source);
        match refused {
            Some(failure) if again && !can_refresh => Resolution::Unresolved(failure),
            Some(failure) if can_refresh && (again || !self.is_redirected(source)) => {
                self.refresh(source, Some(failure));
                Resolution::Refreshing
            }
            _ => Resolution::AskAgain,
        }
    }

    fn is_redirected(&self, source: SourceId) -> bool {
        self.list[source].current != self.list[source].asked
    }

    /// The next request goes to the URL that led to where the source is now.
    pub(super) fn ask_again(&mut self, source: SourceId, now: Duration) {
        let of = &mut self.list[source];
        of.current = of.asked.clone();
        of.redirects = 0;
        of.downgraded = false;
        self.watch(source, now);
    }

    /// Sets when the URL of `source` is to be replaced.
    pub(super) fn watch(&mut self, source: SourceId, now: Duration) {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let can = self.is_redirected(source) || self.can_refresh(source);
        let within = expiry::expires_at(&self.list[source].current)
            .filter(|_| can)
            .and_then(|end| expiry::replace_within(end, unix.as_secs()));
        self.list[source].replace_at = within.map(|within| now + within);
    }

    /// Replaces the link of `source` if it is about to expire, once for all connections.
    /// `None` while it is not.
    pub(super) fn replace_expiring(
        &mut self,
        source: SourceId,
        now: Duration,
    ) -> Option<Resolution> {
        self.list[source].replace_at.take_if(|at| *at <= now)?;
        tracing::debug!(source, "the link expires soon");
        if self.is_redirected(source) {
            return Some(Resolution::AskAgain);
        }
        self.refresh(source, None);
        Some(Resolution::Refreshing)
    }

    fn refresh(&mut self, source: SourceId, refused: Option<Failure>) {
        let Some(refresher) = self.refresher.clone() else { return };
        let url = self.list[source].asked.to_string();
        self.errands.send(async move {
            let asked = async {
                let asking = guard::call(Part::Refresh, || refresher.0.refresh(&url))?;
                guard::future(Part::Refresh, asking).await
            };
            let outcome = match tokio::time::timeout(REFRESH_WITHIN, asked).await {
                Ok(Ok(Ok(text))) => Ok(text),
                Ok(Ok(Err(error))) => Err(error.to_string()),
                Ok(Err(panicked)) => return News::Panicked(panicked),
                Err(_) => Err(format!("none came within {} s", REFRESH_WITHIN.as_secs())),
            };
            News::Refreshed(Refreshed { source, refused, outcome })
        });
    }

    /// Takes the caller's fresh URL, which counts once it is proven or needs no proof.
    ///
    /// # Errors
    /// What the caller failed with, and why there is none.
    pub(super) fn replace(
        &mut self,
        refreshed: Refreshed,
        transport: &dyn Transport,
    ) -> Result<Url, (Option<Failure>, String)> {
        let Refreshed { source, refused, outcome } = refreshed;
        let parse = |text: String| match parse_url(text.trim(), transport) {
            Ok((url, _)) => Ok(url),
            Err(error) => Err(error.to_string()),
        };
        match outcome.and_then(parse) {
            Ok(fresh) => {
                let of = &mut self.list[source];
                let url = std::mem::replace(&mut of.asked, fresh.clone());
                of.replaced = Some(Replaced { url, refused });
                Ok(fresh)
            }
            Err(why) => Err((refused, why)),
        }
    }

    /// Whatever URL `source` has counts from now on.
    pub(super) fn settle(&mut self, source: SourceId) {
        self.list[source].replaced = None;
    }

    /// The same, where it is this one: an earlier request may be answered while a fresh URL
    /// is yet to be proven.
    pub(super) fn settle_at(&mut self, source: SourceId, url: &Url) {
        let of = &mut self.list[source];
        of.replaced.take_if(|_| of.current == *url);
    }

    /// The same for all sources.
    pub(super) fn settle_all(&mut self) {
        self.list.iter_mut().for_each(|source| source.replaced = None);
    }

    /// A fresh URL of the caller's that was to be proven is another object: what it was to
    /// replace is in its place again. `None` where there was none, otherwise what the replaced
    /// one was refused with.
    pub(super) fn take_back(&mut self, source: SourceId) -> Option<Option<Failure>> {
        let of = &mut self.list[source];
        let Replaced { url, refused } = of.replaced.take()?;
        of.current.clone_from(&url);
        of.asked = url;
        Some(refused)
    }

    /// The response that the object is opened with may tell of mirrors (RFC 6249).
    pub(super) fn note_links(&mut self, headers: &HeaderMap) {
        let found = link_fields::duplicates(headers);
        for link_fields::Duplicate { target, country } in &found {
            tracing::debug!(mirror = %redact_url(target), ?country, "the server names a mirror");
        }
        self.links = found.into_iter().map(|found| found.target).collect();
        self.description = link_fields::description(headers);
    }

    /// A Metalink tells of mirrors.
    pub(super) fn add_links(&mut self, urls: Vec<String>) {
        self.links.extend(urls);
    }

    /// The mirrors that the server named, each of them once.
    pub(super) fn take_links(
        &mut self,
        transport: &dyn Transport,
        allow_downgrade: bool,
    ) -> Vec<Mirror> {
        let links = std::mem::take(&mut self.links);
        let base = &self.opener().current;
        let follow = |link: &String| follow(transport, base, link, allow_downgrade).ok();
        links.iter().filter_map(follow).map(|url| Mirror { url, login: None }).collect()
    }

    /// The Metalink that the response named which the object was opened with; told once.
    pub(super) fn take_description(&mut self) -> Option<String> {
        self.description.take()
    }

    /// Has the Metalink fetched.
    pub(super) fn send(&mut self, errand: impl Future<Output = Described> + Send + 'static) {
        self.errands.send(async move { News::Described(errand.await) });
    }

    /// What an errand brings; waits for it. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<News, JoinError> {
        self.errands.next().await
    }

    /// What the server says of the login, if it refuses it.
    pub(super) fn note_login(&mut self, words: Option<String>) {
        self.login_words = words;
    }

    pub(super) fn login_words(&self) -> Option<&str> {
        self.login_words.as_deref()
    }
}
