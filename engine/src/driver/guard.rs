//! Calls into code that the program brought: observers, storages, transports, cookie
//! jars and refreshes.
//!
//! A panic in such code must neither take down a thread that other downloads need nor leave
//! somebody waiting for an answer that never comes, and it must not be reported as a defect of the
//! engine. So each call goes through [`call`], and a panic becomes an error that names the part.

mod storage;
mod transport;

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

pub(crate) use self::storage::GuardedStorage;
pub(crate) use self::transport::GuardedTransport;
pub(crate) use crate::model::panicked::{HINT, Panicked, Part};

/// The result of `of`, which is code of the program.
///
/// # Errors
/// When it panics. Its values may then be half changed: they are the program's, which is told, and
/// safe code bears it.
pub(crate) fn call<T>(part: Part, of: impl FnOnce() -> T) -> Result<T, Panicked> {
    catch_unwind(AssertUnwindSafe(of)).map_err(|payload| {
        // The payload of a panic may panic again when it is dropped.
        std::mem::forget(payload);
        Panicked(part)
    })
}

/// The output of a future of the program.
///
/// # Errors
/// As [`call`].
pub(crate) async fn future<T>(
    part: Part,
    future: Pin<Box<dyn Future<Output = T> + Send + '_>>,
) -> Result<T, Panicked> {
    let mut future = Held::new(part, future);
    poll_fn(move |cx| match future.call(|future| future.as_mut().poll(cx)) {
        Ok(Poll::Pending) => Poll::Pending,
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

/// A value of the program. Dropping it is a call like any other.
pub(crate) struct Held<T> {
    part: Part,
    value: Option<T>,
}

impl<T> Held<T> {
    pub(crate) fn new(part: Part, value: T) -> Self {
        Self { part, value: Some(value) }
    }

    /// A call that may change the value.
    pub(crate) fn call<R>(&mut self, of: impl FnOnce(&mut T) -> R) -> Result<R, Panicked> {
        let value = self.value.as_mut().ok_or(Panicked(self.part))?;
        call(self.part, || of(value))
    }

    /// A call that does not change the value.
    pub(crate) fn look<R>(&self, of: impl FnOnce(&T) -> R) -> Result<R, Panicked> {
        let value = self.value.as_ref().ok_or(Panicked(self.part))?;
        call(self.part, || of(value))
    }

    /// A call that uses the value up.
    pub(crate) fn last_call<R>(mut self, of: impl FnOnce(T) -> R) -> Result<R, Panicked> {
        let value = self.value.take().ok_or(Panicked(self.part))?;
        call(self.part, || of(value))
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take()
            && let Err(panicked) = call(self.part, || drop(value))
        {
            tracing::warn!("{panicked} while it was dropped");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::error::{Error, ErrorKind};

    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("in a drop");
        }
    }

    #[test]
    fn a_panic_is_an_error_that_names_the_part() {
        for body in [|| panic!("inside"), || std::panic::panic_any(Bomb)] {
            let panicked = call(Part::CookieJar, body).unwrap_err();
            let error = Error::from(panicked);
            assert_eq!(error.kind(), ErrorKind::Callback);
            assert!(error.to_string().contains("the program's own cookie jar panicked"), "{error}");
        }
    }

    #[test]
    fn a_value_that_panics_when_it_is_dropped_takes_nobody_along() {
        drop(Held::new(Part::Storage, Bomb));
    }
}
