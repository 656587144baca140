//! Where the object is requested.
//!
//! A source is a URL that the caller gave or that the server named (RFC 6249). Each has three URLs:
//! the one that was *given*, which identifies its checkpoint and whose origin its login is for; the
//! one that is *asked* again when its link has expired, which is the given one until the caller
//! replaces it; and the *current* one, which that redirected to and the next request goes to. The
//! planner uses the same numbers for sources and for the hosts that they are at.
//!
//! The planner decides which source is used, and the loop tells it the result. This part decides
//! where a source is now, whether to ask for a fresh URL, and when to replace a link that expires.
//! Getting a fresh URL from the caller and fetching the server's Metalink are errands of this part;
//! they bring back [`News`].

use std::future::{pending, poll_fn};
use std::time::{Duration, SystemTime};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use tokio::task::JoinError;
use url::Url;

use super::Mirror;
use super::options::Options;
use crate::driver::address::{NotFollowed, follow, parse_url};
use crate::driver::description::Described;
use crate::driver::guard::{self, Panicked, Part};
use crate::driver::inbox::Errands;
use crate::driver::refresh::Refresher;
use crate::model::hint::Hint;
use crate::model::planner::{Failure, MAX_SOURCES, PlaceId, SourceId};
use crate::model::redact::{redact, redact_url};
use crate::model::validator::Validator;
use crate::model::{expiry, link_fields};
use crate::net::connect::is_same_origin;
use crate::net::transport::{PathChanges, Transport};

/// How long the caller may take for a fresh URL.
const REFRESH_WITHIN: Duration = Duration::from_secs(120);

/// A place to ask, which only [`Sources`] changes.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) given: Url,
    /// The given URL or its replacement, asked again when the link has expired.
    asked: Url,
    /// What the caller's fresh URL is to replace, while that is yet to be proven.
    replaced: Option<Replaced>,
    login: Option<HeaderValue>,
    pub(super) current: Url,
    redirects: u32,
    /// Whether one of these redirects led from https to http.
    pub(super) downgraded: bool,
    /// The validator of the version that is there, once it is known.
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

    /// This source as if it had led to `url`.
    pub(super) fn at(&self, url: &Url) -> Self {
        Self { current: url.clone(), ..self.clone() }
    }

    /// The login that was part of the source's own URL, for its origin.
    pub(super) fn own_login(&self) -> Option<HeaderValue> {
        self.login.clone().filter(|_| is_same_origin(&self.current, &self.given))
    }

    /// The field that makes the server refuse to send any version but the known one.
    pub(super) fn precondition(&self) -> Option<(HeaderName, String)> {
        self.validator.as_ref()?.precondition()
    }

    /// This source as if a link in a response had led to `url`, without its own login.
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

/// The result of an errand.
pub(super) enum News {
    Refreshed(Refreshed),
    Described(Described),
    /// The program's refresh function panicked.
    Panicked(Panicked),
    /// The network path to all sources may have changed. Pass this to [`Sources::listen`] again to
    /// hear of the next change.
    PathChanged(PathChanges),
}

/// The result of asking the caller for a fresh URL.
pub(super) struct Refreshed {
    pub(super) source: SourceId,
    /// The failure of the old URL, if it was refused; `None` when it was about to expire.
    pub(super) refused: Option<Failure>,
    /// The fresh URL, or why there is none.
    pub(super) outcome: Result<String, String>,
}

/// How a source is located anew.
pub(super) enum Resolution {
    /// It is not located anew: the source failed with this.
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
    /// The Metalink that the server named.
    description: Option<String>,
    /// What is wrong with the login, after a 401.
    login_hint: Option<Hint>,
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

    /// Adds a mirror and returns its number, unless it is already known or there are too many.
    pub(super) fn add(&mut self, mirror: Mirror) -> Option<SourceId> {
        let Mirror { url, login } = mirror;
        let known = self.list.iter().any(|it| it.given == url || it.current == url);
        if known || self.list.len() >= MAX_SOURCES {
            return None;
        }
        self.list.push(Source::new(url, login));
        Some(self.list.len() - 1)
    }

    /// The host that `source` is at, towards which its connections count from now on.
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

    /// Sets the validator of `source`, unless it is already known.
    pub(super) fn learn_validator(&mut self, source: SourceId, validator: &Validator) {
        self.list[source].validator.get_or_insert_with(|| validator.clone());
    }

    /// The object may be another one from now on.
    pub(super) fn forget_validators(&mut self) {
        self.list.iter_mut().for_each(|source| source.validator = None);
    }

    /// Bytes of the object came from `source`: its redirects are counted anew from now on.
    pub(super) fn delivers(&mut self, source: SourceId) {
        self.list[source].redirects = 0;
    }

    /// A request to `base` of this source was redirected.
    ///
    /// # Errors
    /// Why the redirect is not followed.
    pub(super) fn redirect(
        &mut self,
        source: SourceId,
        base: &Url,
        location: &str,
        transport: &dyn Transport,
        options: &Options,
    ) -> Result<(), NotFollowed> {
        let of = &mut self.list[source];
        of.redirects += 1;
        let most = options.max_redirects;
        if of.redirects > most {
            let from = redact(base);
            let why = format!("{from} redirects more than {most} times: not followed");
            return Err(NotFollowed { why, hint: None });
        }
        of.leads_to(follow(transport, base, location, options.allow_downgrade)?);
        Ok(())
    }

    /// Only the caller's own URL is the caller's to refresh.
    fn can_refresh(&self, source: SourceId) -> bool {
        source == 0 && self.refresher.is_some()
    }

    /// Answers the planner, which wants `source` located anew: `refused` is what it failed with
    /// where it is now, `again` whether it was already asked anew since it last brought a byte.
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
    /// What the old URL was refused with, and why there is no fresh one.
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

    /// The URL that `source` has now counts from now on.
    pub(super) fn settle(&mut self, source: SourceId) {
        self.list[source].replaced = None;
    }

    /// The same, if that URL is `url`: an earlier request may be answered while a fresh URL is yet
    /// to be proven.
    pub(super) fn settle_at(&mut self, source: SourceId, url: &Url) {
        let of = &mut self.list[source];
        of.replaced.take_if(|_| of.current == *url);
    }

    /// The same for all sources.
    pub(super) fn settle_all(&mut self) {
        self.list.iter_mut().for_each(|source| source.replaced = None);
    }

    /// The caller's fresh URL, which was to be proven, is another object: restores the URL that it
    /// replaced. `None` if there was no such fresh URL, otherwise what the restored URL was refused
    /// with.
    pub(super) fn take_back(&mut self, source: SourceId) -> Option<Option<Failure>> {
        let of = &mut self.list[source];
        let Replaced { url, refused } = of.replaced.take()?;
        of.current.clone_from(&url);
        of.asked = url;
        Some(refused)
    }

    /// Notes the mirrors named by the response that the object is opened with (RFC 6249).
    pub(super) fn note_links(&mut self, headers: &HeaderMap) {
        let found = link_fields::duplicates(headers);
        for link_fields::Duplicate { target, country } in &found {
            tracing::debug!(mirror = %redact_url(target), ?country, "the server names a mirror");
        }
        self.links = found.into_iter().map(|found| found.target).collect();
        self.description = link_fields::description(headers);
    }

    /// Adds the mirrors that a Metalink names.
    pub(super) fn add_links(&mut self, urls: Vec<String>) {
        self.links.extend(urls);
    }

    /// Takes the mirrors that the server named, each of them once.
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

    /// Takes the Metalink named by the response that the object was opened with.
    pub(super) fn take_description(&mut self) -> Option<String> {
        self.description.take()
    }

    /// Sends an errand that fetches the Metalink.
    pub(super) fn send(&mut self, errand: impl Future<Output = Described> + Send + 'static) {
        self.errands.send(async move { News::Described(errand.await) });
    }

    /// Waits for the next of these changes.
    pub(super) fn listen(&mut self, mut changes: PathChanges) {
        self.errands.send(async move {
            match poll_fn(|context| changes.as_mut().poll_next(context)).await {
                Some(()) => News::PathChanged(changes),
                None => pending().await,
            }
        });
    }

    /// Waits for what the next errand brings. Cancel safe.
    pub(super) async fn next(&mut self) -> Result<News, JoinError> {
        self.errands.next().await
    }

    /// What to do about the login, if the server refuses it.
    pub(super) fn note_login(&mut self, hint: Option<Hint>) {
        self.login_hint = hint;
    }

    pub(super) fn login_hint(&self) -> Option<&Hint> {
        self.login_hint.as_ref()
    }
}
