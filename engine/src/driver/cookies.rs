//! Cookies, which are kept in a jar of the program.

use std::fmt;

/// A program's cookies (RFC 6265). The engine keeps none of its own: it asks
/// the jar for each request, and shows it each response, redirects included.
///
/// A jar is asked from the runtime's threads and by all downloads that share
/// it, so it must not wait for anything.
pub trait CookieJar: fmt::Debug + Send + Sync {
    /// The value of the `Cookie` field of a request to `url` (RFC 6265 section
    /// 5.4): `name=value` pairs with `; ` between them, only those for this
    /// host, path and scheme. `None` when there are none.
    fn cookies(&self, url: &str) -> Option<String>;

    /// A response from `url` has this `Set-Cookie` field (section 5.2).
    fn set_cookie(&self, url: &str, field: &str);
}
