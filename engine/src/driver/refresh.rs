//! Fresh URLs for links that expire.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

/// What [`Refresh::refresh`] returns: a URL, or why there is none. The text of
/// the error is shown to the user and must not contain a secret.
pub type Refreshing<'a> =
    Pin<Box<dyn Future<Output = Result<String, Box<dyn StdError + Send + Sync>>> + Send + 'a>>;

/// Gets a fresh URL for one that expired, such as a signed link of a store.
///
/// A function that takes the expired URL and returns a future is one; see
/// `engine/examples/refresh.rs`.
///
/// It is called when the URL that was given, or the one that the last call returned, is refused
/// with 401, 403 or 410 and was not just found by a redirect, or is about to expire according to
/// its own query ([`url_expires_at`]). It is called once for all connections of a download, which
/// go on receiving meanwhile, and has two minutes. A URL that differs, be it in its query alone,
/// continues the same object only if size and strong validator agree and two stored segments,
/// fetched again, have the same hash, or if a checksum was given. Headers and credentials of the
/// download go to the origin of the URL that it was started with, and to no other.
///
/// [`url_expires_at`]: crate::url_expires_at
pub trait Refresh: Send + Sync {
    /// Gives a URL in place of `url`, which is complete, with all its secrets.
    fn refresh<'a>(&'a self, url: &'a str) -> Refreshing<'a>;
}

impl<F, R, E> Refresh for F
where
    F: Fn(String) -> R + Send + Sync,
    R: Future<Output = Result<String, E>> + Send + 'static,
    E: Into<Box<dyn StdError + Send + Sync>>,
{
    fn refresh<'a>(&'a self, url: &'a str) -> Refreshing<'a> {
        let fresh = self(url.to_owned());
        Box::pin(async move { fresh.await.map_err(Into::into) })
    }
}

/// A `Refresh` that can be shown in a builder.
#[derive(Clone)]
pub(crate) struct Refresher(pub(crate) Arc<dyn Refresh>);

impl fmt::Debug for Refresher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Refresher")
    }
}
