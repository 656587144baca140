//! A document in memory instead of an object in a file: lists of digests,
//! Metalinks.

use super::*;
use crate::driver::requests::follow;
use crate::io::document;
use crate::model::response::Verdict;

/// Tries, each after a wait that doubles.
const TRIES: u32 = 4;
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// A response with a document.
pub(super) enum Read {
    Body(Vec<u8>),
    /// It redirects there.
    Elsewhere(String),
}

/// What came of a request for a document of at most `most_bytes`; of a failure
/// whether another try may help.
pub(super) fn read(answer: document::Answer, most_bytes: usize) -> Result<Read, (Failure, bool)> {
    match classify(Asked::Whole, answer.status, &answer.headers, None) {
        Verdict::Redirect { location } => Ok(Read::Elsewhere(location)),
        Verdict::Whole { resource } if resource.encoding.is_some() => {
            Err(protocol("the server insists on a content coding".to_owned()))
        }
        Verdict::Whole { .. } => {
            let longer = || {
                let why = format!("it is longer than {most_bytes} bytes");
                (Failure::new(ErrorKind::LimitReached, why), false)
            };
            answer.body.map(Read::Body).ok_or_else(longer)
        }
        Verdict::Lie(lie) => Err(protocol(lie.to_string())),
        verdict => {
            let kind = match verdict {
                Verdict::Denied { .. } => ErrorKind::AccessDenied,
                _ => ErrorKind::HttpStatus,
            };
            let transient = matches!(verdict, Verdict::Throttled { .. })
                || matches!(verdict, Verdict::Status { transient: true, .. });
            let status = answer.status;
            let message = format!("the server answered {status}");
            Err((Failure { kind, message, status: Some(status) }, transient))
        }
    }
}

fn protocol(why: String) -> (Failure, bool) {
    (Failure::new(ErrorKind::Protocol, why), false)
}

impl Driver {
    /// The whole of it, at most `most_bytes`.
    pub(crate) async fn document(mut self: Box<Self>, most_bytes: usize) -> Result<Vec<u8>, Error> {
        let tries = TRIES.min(self.options.retry.max_attempts + 1);
        for attempt in 1.. {
            match self.document_once(most_bytes).await {
                Ok(bytes) => return Ok(bytes),
                Err((failure, transient)) if !transient || attempt >= tries => {
                    return Err(self.error_of(&failure));
                }
                Err(_) => tokio::time::sleep(FIRST_WAIT * 2u32.pow(attempt - 1)).await,
            }
        }
        unreachable!("the last try returned")
    }

    /// The flag says whether another try may help.
    async fn document_once(&mut self, most_bytes: usize) -> Result<Vec<u8>, (Failure, bool)> {
        self.sources[0].current = self.options.url.clone();
        for _ in 0..=self.options.max_redirects {
            let source = self.opener();
            let url = source.current.clone();
            let Some(origin) = Origin::of(&url) else {
                return Err(protocol("the URL has no host".to_owned()));
            };
            let headers = self.headers_of(source, None, false);
            let spec = RequestSpec { url: url.clone(), origin, headers };
            let patience = self.options.stall_timeout;
            let answer = document::fetch(
                &*self.engine.transport,
                &self.counters,
                &spec,
                patience,
                most_bytes,
            );
            let answer = answer.await.map_err(|error| {
                let kind = kind_of(error.kind);
                (Failure::new(kind, error.message), kind == ErrorKind::Network)
            })?;
            self.keep_cookies(&url, &answer.headers);
            match read(answer, most_bytes)? {
                Read::Body(bytes) => return Ok(bytes),
                Read::Elsewhere(location) => {
                    let target = follow(
                        &*self.engine.transport,
                        &url,
                        &location,
                        self.options.allow_downgrade,
                    );
                    let target = target.map_err(protocol)?;
                    self.sources[0].leads_to(target);
                }
            }
        }
        Err(protocol(format!("more than {} redirects", self.options.max_redirects)))
    }
}
