//! The loop's step for what fetchers report.
//!
//! The head of a response passes through every part that has a say in it: the jar sees the
//! cookies, the verdict is made relative to the wanted bytes, a redirect moves the source, a
//! URL that leads elsewhere is proven first, digests are compared. Only what is left is the
//! planner's to decide.

use std::time::Duration;

use http::header::{self, HeaderMap};
use url::Url;

use super::Driver;
use crate::driver::address::NotFollowed;
use crate::driver::failures::end_of;
use crate::driver::opening::NotModified;
use crate::driver::requests::{Outgoing, Request};
use crate::fault_point;
use crate::model::config::hex;
use crate::model::digest_claims::Altered;
use crate::model::digest_fields;
use crate::model::error::ErrorKind;
use crate::model::event::NoticeCode;
use crate::model::planner::{Failure, LeaseEnd, LeaseId, SourceId};
use crate::model::promise::{self, Promise};
use crate::model::range::ByteRange;
use crate::model::response::{Verdict, classify};
use crate::model::size::differing;
use crate::net::connect::Origin;
use crate::net::failures::FetchError;
use crate::net::fetcher::{Ended, FetchEvent, RequestSpec};
use crate::net::limiter::Limits;
use crate::net::transport::Lane;

/// At most this many connections are begun before there is a response.
const MAX_AHEAD: usize = 4;

/// A smaller object comes as fast over one connection as over several.
const SMALL_BYTES: u64 = 1 << 20;

/// Whether an object is large, by its size if that is known, or else by its name.
fn promise_of(size_bytes: Option<u64>, url: &Url) -> Promise {
    match size_bytes {
        Some(bytes) if bytes < SMALL_BYTES => Promise::Small,
        Some(_) => Promise::Large,
        None => promise::of_path(url.path()),
    }
}

impl Driver {
    /// Sends the request of a lease.
    pub(super) fn fetch(
        &mut self,
        lease: LeaseId,
        source: SourceId,
        wanted: Option<ByteRange>,
        conditional: bool,
    ) {
        if !self.storing.is_open() {
            self.sources.open_with(source);
        }
        let of = self.sources.get(source);
        let url = of.current.clone();
        let Some(origin) = Origin::of(&url) else { return };
        let range =
            wanted.map(|wanted| self.opening.in_object(self.options.range.as_ref(), wanted));
        let mut conditions = self.opening.conditions(&self.options);
        conditions.extend(of.precondition().filter(|_| conditional));
        let headers = self.headers_for(of, range, conditions);
        let limits = self.limits(source);
        let is_limited = limits.are_limiting();
        let lane = self.lane(&url);
        let ahead = match lane {
            _ if is_limited => 0,
            Lane::Bulk => self.worth_dialing_ahead(&url),
            // For the next ones of many.
            Lane::Small if self.planner.connections_at_first() > 1 => {
                MAX_AHEAD.min(self.queue.spare().0)
            }
            Lane::Small => 0,
        };
        let spec = RequestSpec { ahead, lane, ..RequestSpec::new(url, origin, headers) };
        let outgoing = Outgoing { lease, source, spec, wanted, range, limits };
        let fetch = self.requests.prepare(outgoing);
        if !is_limited && self.may_come_at_once(wanted) {
            self.requests.hold(fetch);
        } else {
            self.requests.start(self.engine.transport.clone(), fetch, None);
        }
    }

    /// How many connections are worth beginning together with that of a first request: as many as
    /// will be wanted if the object is large, unless something says that it is small.
    pub(super) fn worth_dialing_ahead(&self, url: &Url) -> usize {
        let options = &self.options;
        let begins = !self.storing.is_open() && self.planner.rounds() == 0;
        if !begins || options.plan_only || options.document {
            return 0;
        }
        let (spare, is_alone) = self.queue.spare();
        let is_worth = match promise_of(options.expected_size_bytes, url) {
            Promise::Large => true,
            // Of several downloads, many are small.
            Promise::Unknown => is_alone,
            Promise::Small => false,
        };
        let wanted = self.planner.connections_at_first().saturating_sub(1);
        if is_worth { MAX_AHEAD.min(wanted).min(spare) } else { 0 }
    }

    /// What the response may share its connection with. Of several downloads most are small, as
    /// far as nothing says otherwise; a single one has nothing to share with. If an object turns
    /// out to be large, its other parts are not asked for in this lane, so that there must be some.
    fn lane(&self, url: &Url) -> Lane {
        let (_, is_alone) = self.queue.spare();
        let size_bytes = self.opening.total().or(self.options.expected_size_bytes);
        let has_no_length = size_bytes.is_none() && self.storing.is_open();
        let is_small = match promise_of(size_bytes, url) {
            Promise::Small => true,
            Promise::Unknown => self.planner.connections_at_first() > 1,
            Promise::Large => false,
        };
        if is_small && !has_no_length && !is_alone { Lane::Small } else { Lane::Bulk }
    }

    /// The speed limits for `source`: those of its given host, wherever it redirects.
    pub(super) fn limits(&self, source: SourceId) -> Limits {
        let shared = self.engine.limiters(self.sources.get(source).given.host_str());
        Limits::new(shared.chain([&self.shared.limiter]).cloned())
    }

    /// Has the waiting body stored.
    pub(super) fn store(&mut self, lease: LeaseId, range: ByteRange) {
        let Some(sink) = self.storing.sink() else { return self.requests.refuse(lease) };
        let repeat = if range.start() == 0 { self.ending.repeat_proof() } else { None };
        self.requests.store(lease, range, sink, repeat);
    }

    pub(super) fn on_fetch_event(&mut self, event: FetchEvent) {
        let now = self.now();
        match event {
            FetchEvent::Head { lease, status, headers, vitals, shares, decision } => {
                self.requests.answered(lease, vitals, shares, decision);
                self.on_head(lease, status, headers, now);
            }
            FetchEvent::Received { lease, bytes } => {
                if let Some(request) = self.requests.get(lease) {
                    self.sources.delivers(request.source);
                }
                self.meter.received(bytes, now);
                self.planner.on_received(lease, bytes, now);
            }
            FetchEvent::Shrunk { lease, end } => self.planner.on_shrunk(lease, end, now),
            FetchEvent::Ended { lease, position, how } => {
                tracing::debug!(lease, position, ?how, "lease over");
                self.requests.ended(lease);
                let end = match how {
                    Ended::Complete => LeaseEnd::Complete,
                    Ended::Altered(altered) => {
                        if let Some(altered) = self.proofs.on_altered(altered) {
                            self.refuse(&altered, now);
                        }
                        LeaseEnd::Complete
                    }
                    Ended::Unequal => {
                        self.planner.give_up(lease, self.ending.unequal(), now);
                        LeaseEnd::Dropped
                    }
                    Ended::BodyEnded => LeaseEnd::BodyEnded,
                    Ended::Dropped => LeaseEnd::Dropped,
                    Ended::Failed(error) => {
                        self.tell_tried(&error);
                        end_of(error, self.requests.have_been_heard())
                    }
                };
                self.planner.on_ended(lease, end, now);
            }
        }
    }

    fn on_head(&mut self, lease: LeaseId, status: u16, headers: HeaderMap, now: Duration) {
        let Some(request) = self.requests.get(lease) else { return };
        let Request { asked, wanted, source, .. } = *request;
        let url = request.url.clone();
        self.keep_cookies(&url, &headers);
        if matches!(status, 401 | 403 | 407 | 410) {
            let of = self.sources.get(source);
            let hint = (status == 401).then(|| self.hint_of_login(of, &headers));
            self.sources.note_login(hint.flatten());
        }
        if status == 304 {
            match self.opening.on_not_modified(&self.options) {
                NotModified::Unasked => {}
                NotModified::AskAgain => return self.planner.on_redirected(lease, now),
                NotModified::Unchanged(output, version) => {
                    self.requests.refuse(lease);
                    let resource = version.resource();
                    return self.end_unchanged(output, version, resource, None);
                }
            }
        }
        let expected = self.expected_of(source);
        #[cfg(feature = "fault-points")]
        let headers = crate::seeded_bugs::misread(headers, asked, expected.as_ref());
        let verdict = classify(asked, status, &headers, expected.as_ref());
        let selecting = self.opening.select(self.options.range.as_ref(), wanted, verdict);
        let verdict = match selecting {
            Ok((verdict, cut)) => {
                cut.into_iter().for_each(|message| self.notice(NoticeCode::RangeCut, message));
                verdict
            }
            Err(failure) => return self.planner.give_up(lease, failure, now),
        };
        if fault_point::has_bug!(StallIsProgress) {
            self.planner.on_received(lease, 0, now);
        }
        tracing::debug!(lease, status, "response");
        if let Verdict::Whole { .. } = verdict {
            self.opening.comes_whole(is_chunked(&headers));
        }
        if let Verdict::Redirect { location } = &verdict {
            return self.redirect(lease, location, now);
        }
        if let Some(failure) = self.wrong_size(&verdict) {
            self.requests.refuse(lease);
            return self.planner.give_up(lease, failure, now);
        }
        if let Verdict::Partial { .. } = &verdict
            && self.must_be_proven(source, &url)
        {
            return self.hold_back(lease, source, url, now);
        }
        if let Verdict::Partial { resource, .. } = &verdict {
            self.sources.learn_validator(source, &resource.validator);
        }
        self.on_digests(lease, &verdict, &headers, now);
        if !self.storing.is_open() && source == 0 && matches!(verdict, Verdict::Partial { .. }) {
            self.sources.note_links(&headers);
        }
        if self.options.plan_only {
            self.opening.note_head(status, headers);
        }
        self.planner.on_verdict(lease, verdict, now);
    }

    /// Reads the digests in the fields of a response that holds our object.
    fn on_digests(
        &mut self,
        lease: LeaseId,
        verdict: &Verdict,
        headers: &HeaderMap,
        now: Duration,
    ) {
        // A digest that the user gave is proof enough.
        if self.options.is_proven_by_digest() || fault_point::has_bug!(NoFieldDigests) {
            return;
        }
        let range = match verdict {
            // A part that is all of the object, whose response may be cut: its digest is compared
            // at the end.
            Verdict::Partial { range, resource }
                if range.start() == 0 && Some(range.end()) == resource.total =>
            {
                None
            }
            Verdict::Partial { range, .. } => Some(*range),
            Verdict::Whole { .. } => None,
            _ => return,
        };
        let mut digests = digest_fields::read(headers, range.is_some());
        if self.options.range.is_some() {
            // A digest of the whole object says nothing about parts of it.
            (digests.object, digests.md5) = (None, None);
        }
        if let Some(range) = range
            && let Some(altered) = self.proofs.on_part(range.start(), &digests)
        {
            self.refuse(&altered, now);
        }
        self.requests.claims(lease, digests, range);
    }

    fn refuse(&mut self, altered: &Altered, now: Duration) {
        let Altered { claim, found, range } = altered;
        let message = format!(
            "bytes {range} have {}={}, but {claim} is expected",
            claim.checksum.algorithm(),
            hex(found)
        );
        self.planner.on_altered(Failure::new(ErrorKind::DigestMismatch, message), now);
    }

    /// Names the addresses that were tried, once for connections that fail together.
    fn tell_tried(&self, error: &FetchError) {
        if self.requests.count() == 0 {
            for tried in &error.tried {
                self.notice(NoticeCode::Address, format!("tried {tried}"));
            }
        }
    }

    /// The failure of one source of several whose object does not have the given size.
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

    fn redirect(&mut self, lease: LeaseId, location: &str, now: Duration) {
        // The URL of the request itself: another lease may have been redirected meanwhile.
        let Some(Request { source, url, .. }) = self.requests.get(lease) else { return };
        let (source, transport) = (*source, &*self.engine.transport);
        match self.sources.redirect(source, url, location, transport, &self.options) {
            Ok(()) => {
                self.sources.watch(source, now);
                self.locate(source);
                self.planner.on_redirected(lease, now);
            }
            Err(NotFollowed { why, hint }) => {
                self.requests.refuse(lease);
                let failure = Failure { hint, ..Failure::new(ErrorKind::Protocol, why) };
                self.planner.give_up(lease, failure, now);
            }
        }
    }
}

/// Whether the body marks its own end, unlike one that ends with the connection.
fn is_chunked(headers: &HeaderMap) -> bool {
    let last = headers.get_all(header::TRANSFER_ENCODING).iter().next_back();
    let last = last.and_then(|value| value.to_str().ok()?.rsplit(',').next());
    last.is_some_and(|coding| coding.trim().eq_ignore_ascii_case("chunked"))
}
