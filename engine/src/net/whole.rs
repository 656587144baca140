//! A small response that is read whole before anybody decides about it.
//!
//! Where it does not come whole in time, nothing is lost: what came so far is put back in front,
//! and the response is as good as one that comes only now.

use std::collections::VecDeque;
use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode, response};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::failures::FetchError;
use super::fetcher::{Counters, RequestSpec, Step, begin, finish, next};
use crate::net::transport::{Answered, Begun, Body, Transport};

/// What came within the time.
pub(crate) enum Read {
    Whole(Whole),
    /// Anything else, which may still come.
    Other(Begun),
}

/// A response and its body, to the last byte.
pub(crate) struct Whole {
    pub(crate) head: response::Parts,
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) bytes: u64,
    /// Their share of the engine's budget.
    permit: OwnedSemaphorePermit,
}

/// Which response is read whole.
#[derive(Debug, Clone)]
pub(crate) struct Bounds {
    /// One that is not larger.
    pub(crate) bytes: u64,
    /// One that is here so soon.
    pub(crate) within: Duration,
    /// One for which this has enough left.
    pub(crate) budget: Arc<Semaphore>,
}

/// Sends the request, and counts it; bytes are counted when [`Whole::accept`] is called, or by
/// whoever reads the rest.
pub(crate) async fn read(
    transport: Arc<dyn Transport>,
    spec: RequestSpec,
    counters: Arc<Counters>,
    bounds: Bounds,
) -> Read {
    let deadline = tokio::time::sleep(bounds.within);
    tokio::pin!(deadline);
    let sent = Arc::clone(&counters);
    let mut begun: Begun = Box::pin(async move { begin(&*transport, &spec, &sent).await });
    let answered = tokio::select! {
        biased;
        answered = &mut begun => answered,
        () = &mut deadline => return Read::Other(begun),
    };
    let (head, mut body) = match answered {
        Ok(response) => response.into_parts(),
        Err(error) => return again(Err(error)),
    };
    let good = matches!(head.status, StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    let left = body.left_bytes().filter(|left| good && *left <= bounds.bytes);
    let reserve = |left| {
        bounds.budget.try_acquire_many_owned(u32::try_from(left).ok()?).ok().map(|it| (left, it))
    };
    let Some((left, permit)) = left.and_then(reserve) else {
        return again(Ok(Response::from_parts(head, body)));
    };
    let (mut pieces, mut bytes) = (VecDeque::new(), 0);
    while bytes < left {
        let rest = tokio::select! {
            biased;
            step = next(&mut body) => match step {
                Step::Data(data) => {
                    counters.first_byte.get_or_init(Instant::now);
                    bytes += data.len() as u64;
                    pieces.push_back(data);
                    continue;
                }
                Step::End => Rest::Nothing,
                Step::Broken(error) => Rest::Broken(error),
            },
            () = &mut deadline => Rest::Body(body),
        };
        let body: Pin<Box<dyn Body>> = Box::pin(PutBack { pieces, rest });
        return again(Ok(Response::from_parts(head, body)));
    }
    finish(body).await;
    Read::Whole(Whole { head, pieces: pieces.into(), bytes, permit })
}

fn again(answered: Answered) -> Read {
    Read::Other(Box::pin(ready(answered)))
}

impl Whole {
    /// Counts the bytes, which are wanted, and gives them with their share of the budget.
    pub(crate) fn accept(self, counters: &Counters) -> (Vec<Bytes>, OwnedSemaphorePermit) {
        if self.bytes > 0 {
            counters.received(self.bytes);
        }
        (self.pieces, self.permit)
    }

    /// The response as it came.
    pub(crate) fn back(self) -> Begun {
        let body = PutBack { pieces: self.pieces.into(), rest: Rest::Nothing };
        let body: Pin<Box<dyn Body>> = Box::pin(body);
        Box::pin(ready(Ok(Response::from_parts(self.head, body))))
    }
}

/// What comes after the pieces that were read.
enum Rest {
    Body(Pin<Box<dyn Body>>),
    Broken(FetchError),
    Nothing,
}

struct PutBack {
    pieces: VecDeque<Bytes>,
    rest: Rest,
}

impl Body for PutBack {
    fn poll_data(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, FetchError>>> {
        if let Some(piece) = self.pieces.pop_front() {
            return Poll::Ready(Some(Ok(piece)));
        }
        if let Rest::Body(body) = &mut self.rest {
            return body.as_mut().poll_data(context);
        }
        match std::mem::replace(&mut self.rest, Rest::Nothing) {
            Rest::Broken(error) => Poll::Ready(Some(Err(error))),
            _ => Poll::Ready(None),
        }
    }

    fn left_bytes(&self) -> Option<u64> {
        let here: u64 = self.pieces.iter().map(|piece| piece.len() as u64).sum();
        let behind = match &self.rest {
            Rest::Body(body) => body.left_bytes()?,
            Rest::Broken(_) => return None,
            Rest::Nothing => 0,
        };
        Some(here + behind)
    }

    fn finish(self: Pin<Box<Self>>) {
        if let Rest::Body(body) = Pin::into_inner(self).rest {
            body.finish();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use http::{HeaderMap, Request};
    use url::Url;

    use super::*;
    use crate::net::connect::Origin;
    use crate::net::fetcher::Step;
    use crate::net::transport::{Answering, TransportError, TransportErrorKind};

    /// What a body does, step by step.
    #[derive(Debug, Clone)]
    enum Does {
        Sends(&'static str),
        Waits(Duration),
        Breaks,
    }

    /// Answers after a while with a body that claims `len` bytes.
    #[derive(Debug)]
    struct Script {
        after: Duration,
        status: u16,
        len: Option<u64>,
        steps: Vec<Does>,
    }

    struct Scripted {
        left: Option<u64>,
        steps: VecDeque<Does>,
        wait: Option<Pin<Box<tokio::time::Sleep>>>,
    }

    impl Transport for Script {
        fn send(&self, _: Request<()>) -> Answering<'_> {
            let body = Scripted { left: self.len, steps: self.steps.clone().into(), wait: None };
            let body: Pin<Box<dyn Body>> = Box::pin(body);
            let answer = Response::builder().status(self.status).body(body).unwrap();
            Box::pin(async {
                tokio::time::sleep(self.after).await;
                Ok(answer)
            })
        }
    }

    impl Body for Scripted {
        fn poll_data(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Bytes, TransportError>>> {
            loop {
                if let Some(wait) = &mut self.wait {
                    std::task::ready!(wait.as_mut().poll(context));
                    self.wait = None;
                }
                return Poll::Ready(match self.steps.pop_front() {
                    None => None,
                    Some(Does::Waits(time)) => {
                        self.wait = Some(Box::pin(tokio::time::sleep(time)));
                        continue;
                    }
                    Some(Does::Sends(text)) => {
                        self.left = self.left.map(|left| left - text.len() as u64);
                        Some(Ok(Bytes::from(text)))
                    }
                    Some(Does::Breaks) => {
                        let reset = TransportErrorKind::Reset;
                        Some(Err(TransportError::new(reset, "it broke off")))
                    }
                });
            }
        }

        fn left_bytes(&self) -> Option<u64> {
            self.left
        }
    }

    async fn read_of(script: Script, budget: usize) -> (Read, Arc<Counters>, Arc<Semaphore>) {
        let url = Url::parse("http://h/x").unwrap();
        let origin = Origin::of(&url).unwrap();
        let spec = RequestSpec::new(url, origin, HeaderMap::new());
        let counters = Arc::new(Counters::default());
        let budget = Arc::new(Semaphore::new(budget));
        let within = Duration::from_millis(100);
        let bounds = Bounds { bytes: 10, within, budget: Arc::clone(&budget) };
        let read = read(Arc::new(script), spec, Arc::clone(&counters), bounds).await;
        (read, counters, budget)
    }

    /// The status and everything of the body, as whoever comes later reads it.
    async fn later(begun: Begun) -> (u16, String) {
        let (head, mut body) = begun.await.unwrap().into_parts();
        let mut text = String::new();
        loop {
            match next(&mut body).await {
                Step::Data(data) => text.push_str(std::str::from_utf8(&data).unwrap()),
                Step::End => break text.push('.'),
                Step::Broken(_) => break text.push('!'),
            }
        }
        (head.status.as_u16(), text)
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_response_that_comes_soon_is_whole() {
        use Does::*;
        let ms = Duration::from_millis;
        for steps in
            [vec![Sends("abc"), Sends("de")], vec![Sends("a"), Waits(ms(50)), Sends("bcde")]]
        {
            for status in [200, 206] {
                let script = Script { after: ms(40), status, len: Some(5), steps: steps.clone() };
                let (read, counters, budget) = read_of(script, 5).await;
                let Read::Whole(whole) = read else { panic!("{steps:?} is not whole") };
                assert_eq!((whole.bytes, budget.available_permits()), (5, 0));
                assert_eq!(counters.body_bytes.load(Ordering::Relaxed), 0);
                let (pieces, permit) = whole.accept(&counters);
                assert_eq!(pieces.concat(), b"abcde");
                assert_eq!(counters.body_bytes.load(Ordering::Relaxed), 5);
                drop(permit);
                assert_eq!(budget.available_permits(), 5);
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whatever_else_comes_is_as_good_as_new() {
        use Does::*;
        let ms = Duration::from_millis;
        let five = vec![Sends("abc"), Sends("de")];
        let late = vec![Sends("abc"), Waits(ms(500)), Sends("de")];
        let cases = [
            ("late", 5, Script { after: ms(300), status: 200, len: Some(5), steps: five.clone() }),
            ("slow", 5, Script { after: ms(0), status: 200, len: Some(5), steps: late }),
            ("large", 5, Script { after: ms(0), status: 200, len: Some(11), steps: five.clone() }),
            ("unknown", 5, Script { after: ms(0), status: 200, len: None, steps: five.clone() }),
            ("refused", 5, Script { after: ms(0), status: 404, len: Some(5), steps: five.clone() }),
            ("short", 9, Script { after: ms(0), status: 200, len: Some(9), steps: five.clone() }),
            ("no room", 4, Script { after: ms(0), status: 200, len: Some(5), steps: five }),
        ];
        for (what, budget, script) in cases {
            let status = script.status;
            let (read, counters, room) = read_of(script, budget).await;
            let Read::Other(begun) = read else { panic!("{what} is whole") };
            assert_eq!(later(begun).await, (status, "abcde.".to_owned()), "{what}");
            assert_eq!(counters.requests.load(Ordering::Relaxed), 1, "{what}");
            assert_eq!(counters.body_bytes.load(Ordering::Relaxed), 0, "{what}");
            assert!(room.available_permits() >= budget, "{what} keeps a share of the budget");
        }
        let steps = vec![Sends("abc"), Breaks];
        let broken = Script { after: ms(0), status: 200, len: Some(5), steps };
        let (Read::Other(begun), ..) = read_of(broken, 5).await else { panic!("it broke off") };
        assert_eq!(later(begun).await, (200, "abc!".to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_response_can_be_put_back() {
        let steps = vec![Does::Sends("abc"), Does::Sends("de")];
        let script = Script { after: Duration::ZERO, status: 200, len: Some(5), steps };
        let (Read::Whole(whole), ..) = read_of(script, 5).await else { panic!("it is whole") };
        assert_eq!(later(whole.back()).await, (200, "abcde.".to_owned()));
    }
}
