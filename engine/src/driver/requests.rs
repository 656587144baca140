//! Requests: what they carry, and what comes back of them.

use super::*;
use crate::model::size::differing;
use crate::net::digest_login;
use crate::net::limiter::Limits;
use crate::net::transport::Transport;

impl Driver {
    pub(super) fn fetch(
        &mut self,
        lease: LeaseId,
        source: SourceId,
        range: Option<ByteRange>,
        conditional: bool,
    ) {
        if self.store.is_none() {
            self.opener = source;
        }
        let of = &self.sources[source];
        let url = of.current.clone();
        let Some(origin) = Origin::of(&url) else { return };
        let (commands, receiver) = mpsc::unbounded_channel();
        let wanted = range;
        let start = wanted.map_or(0, ByteRange::start);
        let range = wanted.map(|wanted| self.in_object(wanted));
        let asked = range.map_or(Asked::Whole, Asked::Range);
        let headers = self.headers_of(of, range, conditional);
        let digests = FieldDigests::default();
        self.running.insert(
            lease,
            Running {
                commands,
                asked,
                wanted,
                decision: None,
                source,
                url: url.clone(),
                digests,
                range: None,
            },
        );
        let fetch = Fetch {
            lease,
            spec: RequestSpec { url, origin, headers },
            start,
            commands: receiver,
            events: self.fetch_events.sender(),
            counters: Arc::clone(&self.counters),
            limits: self.limits(source),
            drain_limit_bytes: DRAIN_LIMIT_BYTES,
        };
        self.fetches.spawn(fetcher::run(Arc::clone(&self.engine.transport), fetch));
    }

    /// The limits of what `source` sends: those of its host, wherever that redirects.
    pub(super) fn limits(&self, source: SourceId) -> Limits {
        let shared = self.engine.limiters(self.sources[source].given.host_str());
        Limits::new(shared.cloned().chain([Arc::clone(&self.shared.limiter)]))
    }

    /// The fields of a request to where `source` is now.
    pub(super) fn headers_of(
        &self,
        source: &Source,
        range: Option<ByteRange>,
        conditional: bool,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(agent) = &self.engine.user_agent {
            headers.insert(header::USER_AGENT, agent.clone());
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(login) = self.host_login(source) {
            headers.insert(header::AUTHORIZATION, login.clone());
        }
        if let Some(cookies) = self.cookies(source) {
            headers.insert(header::COOKIE, cookies);
        }
        // Custom headers and credentials are for the origin they were given for,
        // and there they count more than a host's. A mirror elsewhere gets none.
        if let Some(login) = self.own_login(source) {
            headers.insert(header::AUTHORIZATION, login);
        }
        if is_same_origin(&source.current, &self.options.url)
            || fault_point::has_bug!(SecretsToAnyone)
        {
            for name in self.options.private_headers.keys() {
                // A server's own cookies go with those that were given.
                let kept = headers.remove(name).filter(|_| name == header::COOKIE);
                for value in self.options.private_headers.get_all(name) {
                    headers.append(name.clone(), value.clone());
                }
                if let Some(both) = kept.and_then(|kept| joined_cookies(&headers[name], &kept)) {
                    headers.insert(header::COOKIE, both);
                }
            }
        }
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove(header::RANGE);
        if let Some(range) = range
            && let Ok(value) = HeaderValue::from_str(&range.to_header_value())
        {
            headers.insert(header::RANGE, value);
        }
        for (name, value) in self.conditions() {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        if conditional
            && let Some((name, value)) = source.precondition()
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            headers.insert(name, value);
        }
        headers
    }

    /// Shows the jar a response of `url`.
    pub(super) fn keep_cookies(&self, url: &Url, headers: &HeaderMap) {
        let Some(jar) = &self.options.cookies else { return };
        let fields = headers.get_all(header::SET_COOKIE).iter();
        for field in fields.filter_map(|field| field.to_str().ok()) {
            let told = guard::call(Part::CookieJar, || jar.set_cookie(url.as_str(), field));
            told.unwrap_or_else(|panicked| self.shared.blame(panicked));
        }
    }

    /// What the jar has for the URL that is asked now.
    fn cookies(&self, source: &Source) -> Option<HeaderValue> {
        let jar = self.options.cookies.as_ref()?;
        let cookies = guard::call(Part::CookieJar, || jar.cookies(source.current.as_str()));
        let cookies = cookies.unwrap_or_else(|panicked| {
            self.shared.blame(panicked);
            None
        })?;
        let mut value = HeaderValue::from_bytes(cookies.as_bytes()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The login of the host that is asked now.
    pub(super) fn host_login(&self, source: &Source) -> Option<&HeaderValue> {
        if fault_point::has_bug!(SecretsToAnyone) {
            return self.options.host_logins.first().map(|login| &login.authorization);
        }
        // What was meant to go over TLS is not told to the path without it.
        if source.downgraded && source.current.scheme() != "https" {
            return None;
        }
        let host = source.current.host_str()?;
        let named_by_caller = self.options.url.host_str() == Some(host);
        let logins = &self.options.host_logins;
        let found = logins.iter().find(|login| match &login.host {
            Some(of) => of == host,
            None => named_by_caller,
        });
        found.map(|login| &login.authorization)
    }

    /// What the server says of the login, where that tells more than the status.
    fn words_of_login(&self, source: SourceId, headers: &HeaderMap) -> Option<String> {
        let offered = digest_login::schemes(headers, &header::WWW_AUTHENTICATE);
        let usable = ["basic", "digest", "bearer"];
        let is_usable = |scheme: &String| usable.contains(&&*scheme.to_ascii_lowercase());
        let named = offered.iter().map(|scheme| name::brief(scheme)).collect::<Vec<_>>().join(", ");
        if !offered.is_empty() && !offered.iter().any(is_usable) {
            return Some(format!("the server wants a login by {named}, which haul does not do"));
        }
        let sent = self.headers_of(&self.sources[source], None, false);
        let again = "give another with -u";
        sent.contains_key(header::AUTHORIZATION).then(|| match &*named {
            "" => format!("the server refuses the login that it was given: {again}"),
            _ => format!(
                "the server, which takes {named}, refuses the login that it was given: {again}"
            ),
        })
    }

    pub(super) fn decide(&mut self, lease: LeaseId, range: Option<ByteRange>) {
        let Some(running) = self.running.get_mut(&lease) else { return };
        let Some(decision) = running.decision.take() else { return };
        let proof = range.and_then(|range| running.proof(range));
        let repeat = range.filter(|range| range.start() == 0).and_then(|_| self.repeat_proof());
        let answer = match (range, &self.store) {
            (Some(range), Some(store)) => {
                Decision::Store { sink: store.sink(), range, proof, repeat }
            }
            _ => Decision::Drop,
        };
        // A fetcher that is gone says so by its last event.
        let _ = decision.send(answer);
    }

    pub(super) fn command(&self, lease: LeaseId, command: Command) {
        if let Some(running) = self.running.get(&lease) {
            let _ = running.commands.send(command);
        }
    }

    pub(super) fn on_fetch_event(&mut self, event: FetchEvent) {
        let now = self.now();
        match event {
            FetchEvent::Head { lease, status, headers, decision } => {
                self.heard = true;
                let Some(running) = self.running.get_mut(&lease) else { return };
                running.decision = Some(decision);
                let (asked, source, url) = (running.asked, running.source, running.url.clone());
                self.keep_cookies(&url, &headers);
                if matches!(status, 401 | 403 | 407 | 410) {
                    let login = (status == 401).then(|| self.words_of_login(source, &headers));
                    self.login_words = login.flatten();
                }
                if status == 304 && self.on_not_modified(lease, now) {
                    return;
                }
                let expected = self.expected_of(source);
                #[cfg(feature = "fault-points")]
                let headers = crate::seeded_bugs::misread(headers, asked, expected.as_ref());
                let verdict = classify(asked, status, &headers, expected.as_ref());
                let verdict = match self.select(lease, verdict) {
                    Ok(verdict) => verdict,
                    Err(failure) => return self.planner.give_up(lease, failure, now),
                };
                if fault_point::has_bug!(StallIsProgress) {
                    self.planner.on_received(lease, 0, now);
                }
                tracing::debug!(lease, status, "response");
                if let Verdict::Whole { .. } = verdict {
                    self.chunked = is_chunked(&headers);
                }
                if let Verdict::Redirect { location } = &verdict {
                    return self.redirect(lease, location, now);
                }
                if let Some(failure) = self.wrong_size(&verdict) {
                    self.decide(lease, None);
                    return self.planner.give_up(lease, failure, now);
                }
                if let Verdict::Partial { .. } = &verdict
                    && self.must_be_proven(source, &url)
                {
                    return self.hold_back(lease, source, url, now);
                }
                if let Verdict::Partial { resource, .. } = &verdict {
                    self.learn_validator(source, &resource.validator);
                }
                self.on_digests(lease, &verdict, &headers, now);
                self.note_links(source, &verdict, &headers);
                self.head = self.plan_only.then_some((status, headers));
                self.planner.on_verdict(lease, verdict, now);
            }
            FetchEvent::Received { lease, bytes } => {
                if let Some(running) = self.running.get(&lease) {
                    self.sources[running.source].redirects = 0;
                }
                self.bytes += bytes;
                self.rate.forget_after(SILENCE, now);
                self.rate.record(bytes, now);
                self.planner.on_received(lease, bytes, now);
            }
            FetchEvent::Shrunk { lease, end } => self.planner.on_shrunk(lease, end, now),
            FetchEvent::Ended { lease, position, how } => {
                tracing::debug!(lease, position, ?how, "lease over");
                self.running.remove(&lease);
                let end = match how {
                    Ended::Complete => LeaseEnd::Complete,
                    Ended::Altered(altered) => {
                        self.on_altered(altered, now);
                        LeaseEnd::Complete
                    }
                    Ended::Unequal => {
                        self.on_unequal(lease, now);
                        LeaseEnd::Dropped
                    }
                    Ended::BodyEnded => LeaseEnd::BodyEnded,
                    Ended::Dropped => LeaseEnd::Dropped,
                    Ended::Failed(error) => {
                        self.tell_tried(&error);
                        let kind = error.kind;
                        let failure = failure_of(error, self.heard);
                        match kind {
                            FetchErrorKind::Reset => LeaseEnd::Unanswered(failure),
                            kind => {
                                let refused = matches!(
                                    kind,
                                    FetchErrorKind::Connect | FetchErrorKind::Unreachable
                                );
                                LeaseEnd::Failed { failure, refused }
                            }
                        }
                    }
                };
                self.planner.on_ended(lease, end, now);
            }
        }
    }

    /// Names the addresses that were tried, once for connections that fail together.
    fn tell_tried(&self, error: &FetchError) {
        if self.running.is_empty() {
            for tried in &error.tried {
                self.notice(NoticeCode::Address, format!("tried {tried}"));
            }
        }
    }

    /// Of several sources, one whose object has not the size that was given.
    fn wrong_size(&self, verdict: &Verdict) -> Option<Failure> {
        let (Verdict::Partial { resource, .. } | Verdict::Whole { resource }) = verdict else {
            return None;
        };
        let several = self.planner.live_sources() > 1;
        let wanted = self.options.expected_size_bytes.filter(|_| several)?;
        let total = resource.total.filter(|total| *total != wanted)?;
        let (total, wanted) = differing(total, wanted);
        let why = format!("the object there has {total}, and {wanted} were expected");
        Some(Failure::new(ErrorKind::ObjectChanged, why))
    }

    pub(super) fn redirect(&mut self, lease: LeaseId, location: &str, now: Duration) {
        // Of the request itself: another lease may have been redirected meanwhile.
        let Some(running) = self.running.get(&lease) else { return };
        let (base, source) = (running.url.clone(), running.source);
        let of = &mut self.sources[source];
        of.redirects += 1;
        let most = self.options.max_redirects;
        let target = if of.redirects > most {
            let from = redact(&base);
            Err(format!("{from} redirects more than {most} times: not followed"))
        } else {
            follow(&*self.engine.transport, &base, location, self.options.allow_downgrade)
        };
        match target {
            Ok(target) => {
                of.leads_to(target);
                self.watch(source);
                self.locate(source);
                self.planner.on_redirected(lease, now);
            }
            Err(why) => {
                self.decide(lease, None);
                self.planner.give_up(lease, Failure::new(ErrorKind::Protocol, why), now);
            }
        }
    }
}

/// Cookies that were given and those of the jar, of which a given one's name is left out.
/// `None` where they cannot be told apart.
fn joined_cookies(given: &HeaderValue, kept: &HeaderValue) -> Option<HeaderValue> {
    let name_of = |pair: &str| pair.split('=').next().unwrap_or_default().trim().to_owned();
    let given = given.to_str().ok()?;
    let names: Vec<String> = given.split(';').map(name_of).collect();
    let more = kept.to_str().ok()?.split("; ").filter(|pair| !names.contains(&name_of(pair)));
    let mut both = given.trim_end_matches([';', ' ']).to_owned();
    for pair in more {
        both = both + "; " + pair;
    }
    let mut value = HeaderValue::from_str(&both).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Where a `Location` that `base` answered with leads. No server is to lead to
/// what a program's own transport reaches by another scheme.
///
/// # Errors
/// Why it is not followed.
pub(super) fn follow(
    transport: &dyn Transport,
    base: &Url,
    location: &str,
    allow_downgrade: bool,
) -> Result<Url, String> {
    let refuse = |why: String| Err(format!("{} redirects {why}: not followed", redact(base)));
    let Ok(mut target) = base.join(location) else {
        return refuse(format!("to `{}`", name::brief(&redact_url(location))));
    };
    let (from, to) = (base.scheme(), target.scheme());
    if !transport.speaks(to)
        || !target.has_host()
        || !(from == to || matches!(to, "http" | "https"))
    {
        return refuse(format!("to the scheme `{}`", name::brief(target.scheme())));
    }
    if base.scheme() == "https" && target.scheme() == "http" && !allow_downgrade {
        return refuse("from https to http (--allow-downgrade allows it)".to_owned());
    }
    // Userinfo from a server is not a credential of ours.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    Ok(target)
}

/// Whether the body tells its own end, unlike one that ends with the connection.
pub(super) fn is_chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(header::TRANSFER_ENCODING).iter().next_back();
    let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
    last.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}
