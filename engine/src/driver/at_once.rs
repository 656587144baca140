//! The loop's step for a small object that comes whole with the first response.
//!
//! Of thousands of files each is a few packets, and what a download costs beside its bytes counts:
//! the task of a request and its channels, a keeper, the planner's round for each piece. Such an
//! object needs none of that. The first response of one that may be small is read in the download's
//! own task, for as long as nothing else would happen anyway; if it is the whole object, and the
//! name is free, it is published at once.
//!
//! Nothing is decided here that the loop would decide otherwise: wherever something is not as
//! simple as that, what has come goes to a fetcher as if it came only now.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use http::{HeaderMap, Version};
use tokio::sync::oneshot;

use super::beginning::Stored;
use super::{Driver, TICK};
use crate::disk::fitting::accepted;
use crate::disk::keeper::Gathered;
use crate::disk::output;
use crate::disk::readable::Readable;
use crate::disk::storage::Storage as _;
use crate::disk::unnamed::Unnamed;
use crate::fault_point;
use crate::model::digest_fields::{self, FieldDigests};
use crate::model::error::{Error, ErrorKind};
use crate::model::layout::Layout;
use crate::model::name::plain_name;
use crate::model::planner::LeaseId;
use crate::model::range::ByteRange;
use crate::model::resource::Resource;
use crate::model::response::{Verdict, classify};
use crate::model::segment::segment_size;
use crate::net::fetcher::Fetch;
use crate::net::whole::{self, Bounds, Read, Whole};

/// An object that came whole, and may be published as it is.
struct Simple {
    resource: Resource,
    unnamed: Unnamed,
}

impl Driver {
    /// Whether a request that asks for this may be answered with the whole of a small object, of
    /// which nothing is known so far.
    pub(super) fn may_come_at_once(&self, wanted: Option<ByteRange>) -> bool {
        let options = &self.options;
        options.small_bytes > 0
            && options.existing.keeps_old()
            && !options.keeps_nothing()
            && options.range.is_none()
            && options.pieces.is_none()
            && !(options.plan_only || options.in_place || options.if_changed)
            && !self.storing.is_open()
            && self.opening.expected().is_none()
            && self.requests.count() == 1
            && (self.planner.rounds(), self.planner.live_sources()) == (0, 1)
            // A shorter one only asks what the object is: something is there already.
            && wanted.is_none_or(|wanted| wanted.start() == 0 && wanted.len() >= options.small_bytes)
    }

    /// Sends the request, and publishes the object if all of it comes at once.
    pub(super) async fn at_once(&mut self, fetch: Box<Fetch>) -> Result<(), Error> {
        let (transport, counters) = (self.engine.transport.clone(), Arc::clone(&fetch.counters));
        let bounds = Bounds {
            bytes: self.options.small_bytes,
            within: TICK,
            budget: Arc::clone(self.engine.writers.budget()),
        };
        let read = whole::read(Arc::clone(&transport), fetch.spec.clone(), counters, bounds);
        let begun = match read.await {
            Read::Other(begun) => begun,
            Read::Whole(whole) => match self.simple(fetch.lease, &whole).await {
                Some(simple) => return self.publish_at_once(fetch.lease, whole, simple).await,
                None => whole.back(),
            },
        };
        self.requests.start(transport, *fetch, Some(begun));
        Ok(())
    }

    /// The object and its place, if there is nothing else to be said or done about them.
    async fn simple(&mut self, lease: LeaseId, whole: &Whole) -> Option<Simple> {
        let asked = self.requests.get(lease)?.asked;
        let headers = &whole.head.headers;
        let resource = match classify(asked, whole.head.status.as_u16(), headers, None) {
            Verdict::Whole { resource } => resource,
            Verdict::Partial { range, resource } if range.start() == 0 => resource,
            _ => return None,
        };
        let is_plain = resource.total == Some(whole.bytes)
            && resource.encoding.is_none()
            && self.refuse_object(&resource).is_ok()
            && !self.claims_digest(headers);
        let (output, changed) = self.output_for(&resource);
        if !is_plain || changed || !self.looked_for_earlier_at(&output) {
            return None;
        }
        let request = self.request_for(output, &resource);
        let (holds, leaving) = (&self.engine.holds, &self.shared.leaving);
        self.storing.take_name(holds, &request.output, leaving).await.ok()?;
        let unnamed = output::place_at_once(&request).ok()??;
        Some(Simple { resource, unnamed })
    }

    /// Whether what an earlier run may have left there was looked for already.
    fn looked_for_earlier_at(&self, output: &Path) -> bool {
        let plain = || accepted(&plain_name(self.options.url.path()));
        self.options.output.is_some() || output.file_name() == Some(OsStr::new(&plain()))
    }

    /// Whether the server says what the object hashes to, and is to be believed.
    fn claims_digest(&self, headers: &HeaderMap) -> bool {
        let FieldDigests { part, object, md5 } = digest_fields::read(headers, true);
        let claims = part.is_some() || object.is_some() || md5.is_some();
        claims && !self.options.is_proven_by_digest() && !fault_point::has_bug!(NoFieldDigests)
    }

    async fn publish_at_once(
        &mut self,
        lease: LeaseId,
        whole: Whole,
        simple: Simple,
    ) -> Result<(), Error> {
        let Simple { resource, unnamed } = simple;
        let url = self.requests.get(lease).map(|request| request.url.clone());
        if let Some(url) = &url {
            self.keep_cookies(url, &whole.head.headers);
        }
        self.requests.heard(whole.head.version == Version::HTTP_2);
        self.opening.open_from(url);
        let bytes = whole.bytes;
        let (pieces, permit) = whole.accept(self.requests.counters());
        unnamed.bytes().fill(&pieces);
        drop((pieces, permit));
        let segment_size_bytes = segment_size(bytes, self.options.segment_size_bytes);
        let layout = Layout { total: Some(bytes), segment_size_bytes };
        let stored = Arc::new(Readable::new(layout, Arc::clone(self.shared.contents.alarm())));
        (0..).zip(0..layout.count()).for_each(|(segment, _)| stored.whole(segment));
        self.storing.set_output(Some(unnamed.output().to_owned()));
        self.meter.opened(0, segment_size_bytes);
        if bytes > 0 {
            self.meter.received(bytes, self.now());
        }
        let storage = Arc::new(unnamed.bytes().clone());
        let how = Stored {
            storage_name: storage.name(),
            unmapped: None,
            segment_size_bytes,
            restored_bytes: 0,
        };
        self.tell_opened(resource, storage, stored, how);
        self.requests.ended(lease);
        let publish = self.before_publishing()?;
        let (reply, published) = oneshot::channel();
        let gathered = Gathered {
            unnamed,
            directories: Arc::clone(&self.engine.directories),
            digest: self.options.digest,
            publish,
            expected: self.expected_digests(),
            hold: self.storing.hold(),
            reply,
        };
        self.engine.endings.publish(&self.engine.writers, gathered);
        let lost = |_| Error::new(ErrorKind::Internal, "the thread that publishes ended early");
        let finished = published.await.map_err(lost)?;
        self.published(finished.map_err(|(error, _)| error)).await;
        Ok(())
    }
}
