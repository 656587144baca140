//! Decides who may request the endpoint, and what.
//!
//! The endpoint listens on loopback, which every web page and every program on this machine can
//! reach. Against pages, the `Host` must be ours, which a name rebound to 127.0.0.1 is not; an
//! `Origin` must be ours; and a request that the browser marks as coming from another site is
//! refused. Against guessing, the path begins with 128 random bits. Nothing but the one object or
//! film and its page is served.

use std::fs::File;
use std::io::{self, Read as _};

use http::header::{HOST, HeaderMap, HeaderName, ORIGIN};
use http::{Method, StatusCode, Uri};

use super::served::Named;

/// The field in which a browser says who caused a request (Fetch Metadata).
const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The object.
    Object,
    /// The page that plays it.
    Page,
    /// The state of the download, for the page.
    Status,
    /// Another file of this name, of a film that is shown as a playlist.
    File(String),
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct Guard {
    port: u16,
    token: String,
    name: String,
    /// Whether there are files beside it.
    has_files: bool,
}

impl Guard {
    /// A guard with a new token for what has this name.
    ///
    /// # Errors
    /// When the system provides no randomness.
    pub(super) fn new(port: u16, named: Named) -> io::Result<Self> {
        let Named { name, has_files } = named;
        Ok(Self { port, token: secret()?, name, has_files })
    }

    /// The URL of the object.
    pub(crate) fn endpoint(&self) -> String {
        format!("{}{}", self.page(), encoded(&self.name))
    }

    /// The URL of the page.
    pub(crate) fn page(&self) -> String {
        format!("http://127.0.0.1:{}/{}/", self.port, self.token)
    }

    /// Decides what the request asks for.
    ///
    /// # Errors
    /// The status that refuses it.
    pub(crate) fn judge(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<Asked, StatusCode> {
        let host = one(headers, &HOST).filter(|host| self.is_own(host));
        let target = uri.authority().is_none_or(|authority| self.is_own(authority.as_str()));
        let Some(host) = host.filter(|_| target) else {
            return Err(StatusCode::MISDIRECTED_REQUEST);
        };
        let origin = !headers.contains_key(ORIGIN)
            || one(headers, &ORIGIN).and_then(|origin| origin.strip_prefix("http://"))
                == Some(host);
        let site = !headers.contains_key(FETCH_SITE)
            || matches!(one(headers, &FETCH_SITE), Some("same-origin" | "none"));
        if !origin || !site {
            return Err(StatusCode::FORBIDDEN);
        }
        let mut parts = uri.path().strip_prefix('/').unwrap_or_default().splitn(2, '/');
        let (token, name) = (parts.next().unwrap_or_default(), parts.next());
        let Some(name) = name.filter(|_| same(token, &self.token)) else {
            return Err(StatusCode::NOT_FOUND);
        };
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(StatusCode::METHOD_NOT_ALLOWED);
        }
        match (name, uri.query()) {
            ("", None) => Ok(Asked::Page),
            ("", Some("status")) => Ok(Asked::Status),
            (name, None) if decoded(name) == self.name.as_bytes() => match self.has_files {
                true => Ok(Asked::File(self.name.clone())),
                false => Ok(Asked::Object),
            },
            (name, None) if self.has_files => Ok(Asked::File(name.to_owned())),
            _ => Err(StatusCode::NOT_FOUND),
        }
    }

    fn is_own(&self, host: &str) -> bool {
        let Some((name, port)) = host.rsplit_once(':') else { return false };
        port == self.port.to_string() && matches!(name, "127.0.0.1" | "localhost")
    }
}

/// The value of a field; `None` if it is missing, sent twice or no text.
fn one<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// 128 bits of the system's randomness, in hexadecimal.
///
/// # Errors
/// When the system provides none.
pub(super) fn secret() -> io::Result<String> {
    let mut bytes = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether both are equal, compared in a time that does not reveal where they differ.
fn same(one: &str, other: &str) -> bool {
    let differences = one.bytes().zip(other.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
    one.len() == other.len() && differences == 0
}

/// Encodes a name as one segment of a path (RFC 3986 section 3.3).
fn encoded(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                text.push(char::from(byte));
            }
            byte => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

fn decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let pair = after.get(..2).filter(|_| *first == b'%');
        let value = pair
            .and_then(|pair| std::str::from_utf8(pair).ok())
            .filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|pair| u8::from_str_radix(pair, 16).ok());
        match value {
            Some(value) => {
                bytes.push(value);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(guard: &Guard, path: &str, fields: &[(&str, &str)]) -> Result<Asked, u16> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let uri = path.parse().unwrap();
        guard.judge(&Method::GET, &uri, &headers).map_err(|status| status.as_u16())
    }

    #[test]
    fn only_the_own_host_origin_and_path_are_answered() {
        let name = "ä b.mp4".to_owned();
        let token = "secret".to_owned();
        let guard = Guard { port: 8000, token, name, has_files: false };
        let own = ("host", "127.0.0.1:8000");
        assert_eq!(guard.endpoint(), "http://127.0.0.1:8000/secret/%C3%A4%20b.mp4");
        assert_eq!(judge(&guard, "/secret/", &[own]), Ok(Asked::Page));
        assert_eq!(judge(&guard, "/secret/?status", &[own]), Ok(Asked::Status));
        for name in ["%C3%A4%20b.mp4", "%c3%a4%20b%2emp4"] {
            assert_eq!(judge(&guard, &format!("/secret/{name}"), &[own]), Ok(Asked::Object));
        }
        let localhost = [("host", "localhost:8000"), ("origin", "http://localhost:8000")];
        assert_eq!(judge(&guard, "/secret/", &localhost), Ok(Asked::Page));
        for host in ["127.0.0.1", "127.0.0.1:80", "evil.test:8000", "[::1]:8000", "", ":8000"] {
            assert_eq!(judge(&guard, "/secret/", &[("host", host)]), Err(421), "{host}");
        }
        assert_eq!(judge(&guard, "/secret/", &[]), Err(421));
        assert_eq!(judge(&guard, "/secret/", &[own, ("host", "evil.test")]), Err(421));
        assert_eq!(judge(&guard, "http://evil.test:8000/secret/", &[own]), Err(421));
        for foreign in [
            ("origin", "http://evil.test"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:8001"),
            ("origin", "https://127.0.0.1:8000"),
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
        ] {
            assert_eq!(judge(&guard, "/secret/", &[own, foreign]), Err(403), "{foreign:?}");
        }
        for path in [
            "/",
            "/secret",
            "/secre/",
            "/secret1/",
            "//secret/",
            "/secret/x",
            "/secret/?x",
            "/secret/%C3%A4%20b.mp4?x",
            "/x/secret/",
            "/secret/../secret/",
            "/%73ecret/",
        ] {
            assert_eq!(judge(&guard, path, &[own]), Err(404), "{path}");
        }
        let uri = "/secret/".parse().unwrap();
        let headers = [(HOST, "127.0.0.1:8000".parse().unwrap())].into_iter().collect();
        assert_eq!(guard.judge(&Method::POST, &uri, &headers), Err(StatusCode::METHOD_NOT_ALLOWED));
    }

    #[test]
    fn files_beside_a_playlist_are_answered() {
        let (name, token) = ("film.m3u8".to_owned(), "secret".to_owned());
        let guard = Guard { port: 8000, token, name, has_files: true };
        let own = ("host", "127.0.0.1:8000");
        let asked = |path: &str| judge(&guard, path, &[own]);
        assert_eq!(asked("/secret/film.m3u8"), Ok(Asked::File("film.m3u8".to_owned())));
        assert_eq!(asked("/secret/0-1.ts"), Ok(Asked::File("0-1.ts".to_owned())));
        assert_eq!(asked("/secret/0-1.ts?x"), Err(404));
        assert_eq!(asked("/other/0-1.ts"), Err(404));
    }

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let (one, other) = (secret().unwrap(), secret().unwrap());
        assert_eq!(one.len(), 32);
        assert_ne!(one, other);
    }
}
