//! A transport of the program.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;

use super::{Held, Panicked, Part, call, future};
use crate::net::transport::{
    Answering, Body, PathChanges, Transport, TransportError, TransportErrorKind,
};

impl From<Panicked> for TransportError {
    fn from(panicked: Panicked) -> Self {
        Self::new(TransportErrorKind::Panicked, panicked.to_string()).with_source(panicked)
    }
}

/// Answers as the transport does. A panic in it becomes an error of that request, since nothing
/// else would tell the download that no answer comes.
pub(crate) struct GuardedTransport(Arc<dyn Transport>);

impl GuardedTransport {
    pub(crate) fn new(transport: Arc<dyn Transport>) -> Self {
        Self(transport)
    }
}

/// Shows nothing: what a program's own `Debug` shows is nobody's business here.
impl fmt::Debug for GuardedTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transport")
    }
}

impl Transport for GuardedTransport {
    fn send(&self, request: Request<()>) -> Answering<'_> {
        Box::pin(async move {
            let answering = call(Part::Transport, || self.0.send(request))?;
            let response = future(Part::Transport, answering).await??;
            Ok(response.map(|body| {
                let body: Pin<Box<dyn Body>> =
                    Box::pin(GuardedBody(Held::new(Part::Transport, body)));
                body
            }))
        })
    }

    fn path_changes(&self) -> Option<PathChanges> {
        call(Part::Transport, || self.0.path_changes()).unwrap_or_else(|panicked| {
            tracing::error!("{panicked} when it was asked for changes of the way");
            None
        })
    }

    fn speaks(&self, scheme: &str) -> bool {
        call(Part::Transport, || self.0.speaks(scheme)).unwrap_or_else(|panicked| {
            tracing::error!("{panicked} when it was asked for its schemes");
            false
        })
    }
}

struct GuardedBody(Held<Pin<Box<dyn Body>>>);

impl Body for GuardedBody {
    fn poll_data(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, TransportError>>> {
        let polled = self.0.call(|body| body.as_mut().poll_data(context));
        polled.unwrap_or_else(|panicked| Poll::Ready(Some(Err(panicked.into()))))
    }

    fn left_bytes(&self) -> Option<u64> {
        self.0.look(|body| body.left_bytes()).ok().flatten()
    }

    fn finish(self: Pin<Box<Self>>) {
        let Self(body) = *Pin::into_inner(self);
        if let Err(panicked) = body.last_call(Body::finish) {
            tracing::error!("{panicked} when a body was finished");
        }
    }
}
