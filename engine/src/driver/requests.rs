//! Requests: what they carry, and what comes back of them.

use super::*;
use crate::io::limiter::Limits;

impl Driver {
    pub(super) fn fetch(&mut self, lease: LeaseId, range: Option<ByteRange>, conditional: bool) {
        let Some(origin) = Origin::of(&self.current_url) else { return };
        let (commands, receiver) = mpsc::unbounded_channel();
        let wanted = range;
        let start = wanted.map_or(0, ByteRange::start);
        let range = wanted.map(|wanted| self.in_object(wanted));
        let asked = range.map_or(Asked::Whole, Asked::Range);
        let headers = self.headers(range, conditional);
        let digests = FieldDigests::default();
        self.running.insert(
            lease,
            Running {
                commands,
                asked,
                wanted,
                decision: None,
                url: self.current_url.clone(),
                digests,
                range: None,
            },
        );
        let fetch = Fetch {
            lease,
            spec: RequestSpec { url: self.current_url.clone(), origin, headers },
            start,
            commands: receiver,
            events: self.fetch_events.0.clone(),
            counters: Arc::clone(&self.counters),
            limits: self.limits(),
            drain_limit_bytes: DRAIN_LIMIT_BYTES,
        };
        self.fetches.spawn(fetcher::run(Arc::clone(&self.engine.transport), fetch));
    }

    pub(super) fn limits(&self) -> Limits {
        let shared = self.engine.limiters(self.options.url.host_str());
        Limits::new(shared.cloned().chain([Arc::clone(&self.shared.limiter)]))
    }

    pub(super) fn headers(&self, range: Option<ByteRange>, conditional: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Ok(agent) = HeaderValue::from_str(&self.engine.config.user_agent) {
            headers.insert(header::USER_AGENT, agent);
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(login) = self.host_login() {
            headers.insert(header::AUTHORIZATION, login.clone());
        }
        if let Some(cookies) = self.cookies() {
            headers.insert(header::COOKIE, cookies);
        }
        // Custom headers and credentials are for the origin they were given for,
        // and there they count more than a host's.
        if self.current_url.origin() == self.options.url.origin()
            || fault_point::has(Bug::SecretsToAnyone)
        {
            for name in self.options.private_headers.keys() {
                headers.remove(name);
                for value in self.options.private_headers.get_all(name) {
                    headers.append(name.clone(), value.clone());
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
            && let Some((name, value)) =
                self.expected.as_ref().and_then(|expected| expected.validator.precondition())
            && let Ok(value) = HeaderValue::from_str(&value)
        {
            headers.insert(name, value);
        }
        headers
    }

    /// What the jar has for the URL that is asked now.
    fn cookies(&self) -> Option<HeaderValue> {
        let cookies = self.options.cookies.as_ref()?.cookies(self.current_url.as_str())?;
        let mut value = HeaderValue::from_str(&cookies).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The login of the host that is asked now.
    pub(super) fn host_login(&self) -> Option<&HeaderValue> {
        if fault_point::has(Bug::SecretsToAnyone) {
            return self.options.host_logins.first().map(|login| &login.authorization);
        }
        // What was meant to go over TLS is not told to the path without it.
        if self.downgraded && self.current_url.scheme() != "https" {
            return None;
        }
        let host = self.current_url.host_str()?;
        let named_by_caller = self.options.url.host_str() == Some(host);
        let logins = &self.options.host_logins;
        let found = logins.iter().find(|login| match &login.host {
            Some(of) => of == host,
            None => named_by_caller,
        });
        found.map(|login| &login.authorization)
    }

    pub(super) fn decide(&mut self, lease: LeaseId, range: Option<ByteRange>) {
        let Some(running) = self.running.get_mut(&lease) else { return };
        let Some(decision) = running.decision.take() else { return };
        let answer = match (range, &self.store) {
            (Some(range), Some(store)) => {
                let proof = running.proof(range);
                Decision::Store { sink: store.sink(), range, proof }
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
                let Some(running) = self.running.get_mut(&lease) else { return };
                running.decision = Some(decision);
                if let Some(jar) = &self.options.cookies {
                    let fields = headers.get_all(header::SET_COOKIE).iter();
                    for field in fields.filter_map(|field| field.to_str().ok()) {
                        jar.set_cookie(running.url.as_str(), field);
                    }
                }
                if status == 304 && self.on_not_modified(lease) {
                    return;
                }
                let Some(running) = self.running.get(&lease) else { return };
                let headers = misread(headers, running.asked);
                let asked = running.asked;
                let verdict = classify(asked, status, &headers, self.expected_of_object().as_ref());
                let verdict = match self.select(lease, verdict) {
                    Ok(verdict) => verdict,
                    Err(failure) => return self.planner.give_up(failure),
                };
                if fault_point::has(Bug::StallIsProgress) {
                    self.planner.on_received(lease, 0, now);
                }
                tracing::debug!(lease, status, "response");
                if let Verdict::Whole { .. } = verdict {
                    self.chunked = is_chunked(&headers);
                }
                if let Verdict::Redirect { location } = &verdict {
                    return self.redirect(lease, location, now);
                }
                self.on_digests(lease, &verdict, &headers, now);
                self.planner.on_verdict(lease, verdict, now);
            }
            FetchEvent::Received { lease, bytes } => {
                self.redirects = 0;
                self.bytes += bytes;
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
                    Ended::BodyEnded => LeaseEnd::BodyEnded,
                    Ended::Dropped => LeaseEnd::Dropped,
                    Ended::Failed(error) => LeaseEnd::Failed {
                        refused: matches!(
                            error.kind,
                            FetchErrorKind::Connect | FetchErrorKind::Reset
                        ),
                        failure: Failure::new(kind_of(error.kind), error.message),
                    },
                };
                self.planner.on_ended(lease, end, now);
            }
        }
    }

    /// Whether a redirect between these schemes may be followed: no server is to
    /// lead to what a program's own transport reaches by another one.
    fn follows(&self, from: &str, to: &str) -> bool {
        self.engine.transport.speaks(to) && (from == to || matches!(to, "http" | "https"))
    }

    pub(super) fn redirect(&mut self, lease: LeaseId, location: &str, now: Duration) {
        self.redirects += 1;
        // Of the request itself: another lease may have been redirected meanwhile.
        let Some(base) = self.running.get(&lease).map(|running| running.url.clone()) else {
            return;
        };
        let from = redact_url(base.as_str());
        let refuse = |why: String| {
            Failure::new(ErrorKind::Protocol, format!("{from} redirects {why}: not followed"))
        };
        let target = base.join(location);
        let failure = match &target {
            Err(_) => Some(refuse(format!("to `{}`", name::brief(&redact_url(location))))),
            Ok(target) if !self.follows(base.scheme(), target.scheme()) => {
                Some(refuse(format!("to the scheme `{}`", name::brief(target.scheme()))))
            }
            Ok(target)
                if base.scheme() == "https"
                    && target.scheme() == "http"
                    && !self.options.allow_downgrade =>
            {
                Some(refuse("from https to http (--allow-downgrade allows it)".to_owned()))
            }
            Ok(_) if self.redirects > self.options.max_redirects => {
                Some(refuse(format!("more than {} times", self.options.max_redirects)))
            }
            Ok(_) => None,
        };
        match (failure, target) {
            (None, Ok(mut target)) => {
                // Userinfo from a server is not a credential of ours.
                let _ = target.set_username("");
                let _ = target.set_password(None);
                self.downgraded |=
                    self.current_url.scheme() == "https" && target.scheme() == "http";
                self.current_url = target;
                // Of the connections to the new host none is granted yet.
                self.planner.allow(0, now);
                self.planner.on_redirected(lease, now);
            }
            (failure, _) => {
                self.decide(lease, None);
                if let Some(failure) = failure {
                    self.planner.give_up(failure);
                }
            }
        }
    }
}

/// Whether the body tells its own end: any other transfer coding that comes last
/// ends with the connection (RFC 9112 section 6.3), which proves nothing.
pub(super) fn is_chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(header::TRANSFER_ENCODING).iter().next_back();
    let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
    last.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}

/// The fields as they are, except where a test's bug blinds the engine.
pub(super) fn misread(mut headers: HeaderMap, asked: Asked) -> HeaderMap {
    if fault_point::has(Bug::AnyTag) {
        headers.remove(header::ETAG);
    }
    if fault_point::has(Bug::AnyRange)
        && let Asked::Range(asked) = asked
        && let Some(total) = headers
            .get(header::CONTENT_RANGE)
            .and_then(|value| value.to_str().ok()?.rsplit_once('/'))
            .and_then(|(_, total)| total.parse::<u64>().ok())
        && let Ok(value) = HeaderValue::from_str(&format!(
            "bytes {}-{}/{total}",
            asked.start(),
            asked.end().min(total) - 1
        ))
    {
        headers.insert(header::CONTENT_RANGE, value);
    }
    headers
}
