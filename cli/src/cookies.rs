//! `--load-cookies`: the cookie file format that Netscape's browser introduced and that curl, wget
//! and yt-dlp write, and the jar that such a file fills.
//!
//! A line has seven fields with TABs between them: domain, whether hosts below it get the cookie
//! too, path, whether it is for https only, when it expires (seconds since 1970, 0 for never), name
//! and value. `#` begins a comment, except that `#HttpOnly_` before a domain is part of the format.
//! No message made here contains a name or a value from the file, because they are secrets.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cookie_store::{CookieStore, RawCookie};
use haul_engine::CookieJar;
use url::Url;

use crate::exit::Failure;
use crate::render::escape;
use crate::text;
use crate::units::{plural, size};

/// A longer file, such as an endless device, is refused; in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// Bounds on what is kept and sent, since servers choose it: the bytes of one cookie, the cookies
/// of a run, and the bytes of one request's field.
const MAX_COOKIE_BYTES: usize = 4096;
const MAX_COOKIES: usize = 3000;
const MAX_FIELD_BYTES: usize = 8 << 10;

/// Whether a value of `--load-cookies` is a list of cookies itself, as in curl: it contains a `=`,
/// and no file has that name.
pub(crate) fn are_typed(given: &Path) -> bool {
    given.to_str().is_some_and(|text| text.contains('=')) && given.symlink_metadata().is_err()
}

/// The cookies of a run, shared by all its downloads: those of a file, and those that servers set
/// during the run and that end with it.
#[derive(Default)]
pub(crate) struct Jar(Mutex<CookieStore>);

impl std::fmt::Debug for Jar {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Jar")
    }
}

impl Jar {
    /// Reads a cookie file, and returns a warning if some lines of it are ignored. Expired cookies
    /// are left out.
    ///
    /// # Errors
    /// Exit 3 when the file cannot be read, or when some of its lines are no cookies and none is
    /// one.
    pub(crate) fn load(path: &Path) -> Result<(Self, Option<String>), Failure> {
        let shown = escape(&path.to_string_lossy());
        let unreadable =
            |error| Failure::local(format!("cannot read the cookie file {shown}: {error}"));
        let mut bytes = Vec::new();
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > MAX_BYTES {
            let most = size(MAX_BYTES);
            return Err(Failure::local(format!(
                "{shown} is longer than {most}, so it is not a cookie file"
            )));
        }
        let (store, ignored) = parse(&text::decode(&bytes));
        let Some(first) = ignored.first() else { return Ok((Self(Mutex::new(store)), None)) };
        if store.iter_any().next().is_none() {
            return Err(Failure::local(format!(
                "{shown} is not a cookie file: line {first} does not have the seven fields of \
                 Netscape's format"
            ))
            .hint("export it as `Netscape` or `cookies.txt`; the lines are not shown, since they are secrets"));
        }
        let count = plural(
            ignored.len() as u64,
            "line that is not a cookie is",
            "lines that are not cookies are",
        );
        let warning = format!("{shown}: {count} ignored, the first is line {first}");
        Ok((Self(Mutex::new(store)), Some(warning)))
    }

    /// Keeps cookies that yt-dlp would send to `url`: `a=b; Domain=.h; Path=/; Secure; c=d`, with the
    /// attributes of a cookie after it. Those that are none are left out.
    pub(crate) fn keep(&self, url: &Url, cookies: &str) {
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut store = self.lock();
        for cookie in of_ytdlp(cookies) {
            let domain = if cookie.domain.is_empty() { &host } else { &cookie.domain };
            let below = domain.starts_with('.') && !is_public_suffix(domain.trim_matches('.'));
            if store.iter_any().count() < MAX_COOKIES {
                let flag = |it: bool| if it { "TRUE" } else { "FALSE" };
                let OfYtDlp { path, secure, expires, name, value, .. } = &cookie;
                let (below, secure) = (flag(below), flag(*secure));
                let line =
                    format!("{domain}\t{below}\t{path}\t{secure}\t{expires}\t{name}\t{value}");
                let _ = add(&mut store, &line);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, CookieStore> {
        // A panic in another thread leaves the store whole, because each of its calls does.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CookieJar for Jar {
    fn cookies(&self, url: &str) -> Option<String> {
        let url = Url::parse(url).ok()?;
        let store = self.lock();
        let mut found = store.matches(&url);
        // RFC 6265 section 5.4 wants the longest path first. The name orders the rest, so that the
        // same run always sends the same field.
        found.sort_by(|a, b| b.path.len().cmp(&a.path.len()).then_with(|| a.name().cmp(b.name())));
        let mut field = String::new();
        for cookie in found {
            let (name, value) = (cookie.name(), cookie.value());
            if field.len() + name.len() + value.len() + 3 > MAX_FIELD_BYTES {
                continue;
            }
            if !field.is_empty() {
                field.push_str("; ");
            }
            field.extend([name, "=", value]);
        }
        (!field.is_empty()).then_some(field)
    }

    fn set_cookie(&self, url: &str, field: &str) {
        let Ok(url) = Url::parse(url) else { return };
        let Ok(mut cookie) = RawCookie::parse(field.to_owned()) else { return };
        if cookie.name().len() + cookie.value().len() > MAX_COOKIE_BYTES
            || !keeps_its_prefix(&cookie)
            || cookie.secure() == Some(true) && url.scheme() != "https"
        {
            return;
        }
        // Nobody may set a cookie for a domain below which others register names, except such a
        // domain that is itself a host, for that host alone (RFC 6265 section 5.3, step 5).
        let domain = cookie.domain().map(|domain| domain.trim_matches('.').to_ascii_lowercase());
        if let Some(domain) = domain.filter(|domain| is_public_suffix(domain)) {
            if url.host_str() != Some(&domain) {
                return;
            }
            cookie.unset_domain();
        }
        let mut store = self.lock();
        if store.iter_any().count() < MAX_COOKIES {
            // A cookie that the rules of RFC 6265 section 5.3 refuse is not stored.
            let _ = store.insert_raw(&cookie, &url);
        }
    }
}

/// A cookie with its attributes as yt-dlp writes them.
#[derive(Debug, PartialEq, Eq)]
struct OfYtDlp {
    name: String,
    value: String,
    domain: String,
    path: String,
    secure: bool,
    /// In seconds since 1970; 0 for never.
    expires: String,
}

/// Reads a list of cookies, each with its attributes after it.
fn of_ytdlp(text: &str) -> Vec<OfYtDlp> {
    let mut cookies: Vec<OfYtDlp> = Vec::new();
    for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let Some(last) = cookies.last_mut().filter(|_| is_attribute(name)) else {
            let value = unquoted(value);
            cookies.push(OfYtDlp {
                name: name.to_owned(),
                value,
                domain: String::new(),
                path: "/".to_owned(),
                secure: false,
                expires: "0".to_owned(),
            });
            continue;
        };
        match name.to_ascii_lowercase().as_str() {
            "domain" => last.domain = value.to_owned(),
            "path" if value.starts_with('/') => last.path = value.to_owned(),
            "secure" => last.secure = true,
            "expires" => last.expires = value.to_owned(),
            _ => {}
        }
    }
    cookies
}

fn is_attribute(name: &str) -> bool {
    let known =
        ["domain", "path", "secure", "expires", "version", "httponly", "max-age", "samesite"];
    known.iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// A value as it was before Python's `http.cookies` put it into quotes, with `\073` for a semicolon.
fn unquoted(value: &str) -> String {
    let Some(inner) = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')) else {
        return value.to_owned();
    };
    let mut plain = String::new();
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        plain.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let octal = after.get(..3).filter(|it| it.bytes().all(|byte| byte.is_ascii_digit()));
        rest = match octal.and_then(|it| u8::from_str_radix(it, 8).ok()) {
            Some(byte) => {
                plain.push(char::from(byte));
                &after[3..]
            }
            None => {
                plain.extend(after.chars().next());
                &after[after.chars().next().map_or(0, char::len_utf8)..]
            }
        };
    }
    plain + rest
}

/// Whether a cookie keeps the promise of its name's prefix (RFC 6265bis section 4.1.3).
fn keeps_its_prefix(cookie: &RawCookie<'_>) -> bool {
    let has = |prefix: &str| {
        let name = cookie.name().as_bytes();
        name.len() >= prefix.len() && name[..prefix.len()].eq_ignore_ascii_case(prefix.as_bytes())
    };
    let secure = cookie.secure() == Some(true);
    let of_host = secure && cookie.domain().is_none() && cookie.path() == Some("/");
    (!has("__Secure-") || secure) && (!has("__Host-") || of_host)
}

/// Whether names below `domain` are registered by others.
fn is_public_suffix(domain: &str) -> bool {
    psl::suffix(domain.as_bytes()).is_some_and(|suffix| suffix == domain)
}

/// The cookies, and the numbers (from 1) of the lines that are none.
fn parse(text: &str) -> (CookieStore, Vec<usize>) {
    let (mut store, mut ignored) = (CookieStore::default(), Vec::new());
    for (number, line) in (1..).zip(text.lines()) {
        let cookie = line.strip_prefix("#HttpOnly_").unwrap_or(line);
        if cookie.trim().is_empty() || cookie.starts_with('#') {
            continue;
        }
        if add(&mut store, cookie).is_none() {
            ignored.push(number);
        }
    }
    (store, ignored)
}

/// Adds the cookie of a line; `None` if the line is no cookie.
fn add(store: &mut CookieStore, line: &str) -> Option<()> {
    // A cookie without a value may have lost its last TAB.
    let mut fields = line.splitn(7, '\t');
    let domain = fields.next()?;
    let below = flag(fields.next()?)?;
    let path = fields.next().filter(|path| path.starts_with('/'))?;
    let secure = flag(fields.next()?)?;
    let expires: i64 = fields.next()?.trim().split('.').next()?.parse().ok()?;
    let name = fields.next()?;
    let value = fields.next().unwrap_or_default();
    if name.is_empty() || name.chars().chain(value.chars()).any(|c| c.is_control() || c == ';') {
        return None;
    }
    let host = domain.trim_start_matches('.');
    let scheme = if secure { "https" } else { "http" };
    let url = Url::parse(&format!("{scheme}://{host}{path}")).ok()?;
    if url.host_str().is_none_or(str::is_empty) {
        return None;
    }
    let mut cookie = RawCookie::build((name, value)).path(path).secure(secure);
    // An IP address has no hosts below it (RFC 6265 section 5.1.3).
    if below && url.domain().is_some() {
        cookie = cookie.domain(host);
    }
    if expires > 0 {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).ok()?;
        let left = expires.saturating_sub(i64::try_from(now.as_secs()).ok()?);
        if left <= 0 {
            return Some(());
        }
        let field = format!("{}; Max-Age={left}", cookie.build());
        store.insert_raw(&RawCookie::parse(field).ok()?, &url).ok()?;
        return Some(());
    }
    store.insert_raw(&cookie.build(), &url).ok()?;
    Some(())
}

fn flag(text: &str) -> Option<bool> {
    match text {
        _ if text.eq_ignore_ascii_case("true") => Some(true),
        _ if text.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jar(text: &str) -> Jar {
        let (store, ignored) = parse(text);
        assert_eq!(ignored, Vec::<usize>::new());
        Jar(Mutex::new(store))
    }

    #[test]
    fn a_cookie_goes_where_it_is_for_and_nowhere_else() {
        let jar = jar("# Netscape HTTP Cookie File\n\n\
                       .example.org\tTRUE\t/\tFALSE\t0\twide\t1\n\
                       example.org\tFALSE\t/films\tFALSE\t0\tnarrow\t2\n\
                       #HttpOnly_example.org\tFALSE\t/\tTRUE\t0\tsecret\t3\n\
                       example.org\tFALSE\t/\tFALSE\t1\texpired\t4\n\
                       example.org\tFALSE\t/\tFALSE\t33000000000\tlater\t5\n\
                       127.0.0.1\tTRUE\t/\tFALSE\t0\taddress\t6\n");
        for (url, cookies) in [
            ("http://example.org/", Some("later=5; wide=1")),
            ("http://example.org/films/a?b", Some("narrow=2; later=5; wide=1")),
            ("http://example.org/filmstrip", Some("later=5; wide=1")),
            ("https://example.org/", Some("later=5; secret=3; wide=1")),
            ("http://cdn.example.org/films/", Some("wide=1")),
            ("http://notexample.org/", None),
            ("http://127.0.0.1:8080/x", Some("address=6")),
            ("http://1.127.0.0.1.example/", None),
        ] {
            assert_eq!(jar.cookies(url).as_deref(), cookies, "{url}");
        }
    }

    #[test]
    fn servers_set_cookies_for_themselves_and_what_is_above_them() {
        let jar = jar("");
        let from = "https://login.example.org/in";
        jar.set_cookie(from, "session=1; Domain=example.org; Path=/");
        jar.set_cookie(from, "own=2");
        jar.set_cookie(from, "foreign=3; Domain=example.com");
        jar.set_cookie(from, "all=4; Domain=org");
        jar.set_cookie(from, "safe=5; Secure; Domain=example.org; Path=/");
        assert_eq!(jar.cookies("http://cdn.example.org/").as_deref(), Some("session=1"));
        assert_eq!(jar.cookies("https://cdn.example.org/").as_deref(), Some("safe=5; session=1"));
        assert_eq!(jar.cookies("https://login.example.org/").unwrap(), "own=2; safe=5; session=1");
        assert_eq!(jar.cookies("https://example.com/"), None);
        assert_eq!(jar.cookies("https://other.org/"), None);
        for refused in [
            "__Secure-a=1",
            "__secure-b=1",
            "__Host-c=1; Secure",
            "__Host-d=1; Secure; Path=/; Domain=example.org",
            &format!("long={}", "x".repeat(5000)),
        ] {
            jar.set_cookie(from, refused);
        }
        jar.set_cookie("http://login.example.org/", "tls=1; Secure");
        assert_eq!(jar.cookies("https://login.example.org/").unwrap(), "own=2; safe=5; session=1");
        jar.set_cookie(from, "__Secure-a=6; Secure; Path=/a");
        jar.set_cookie(from, "__Host-b=7; Secure; Path=/");
        let all = "__Secure-a=6; __Host-b=7; own=2; safe=5; session=1";
        assert_eq!(jar.cookies("https://login.example.org/a").unwrap(), all);
        jar.set_cookie(from, "session=; Domain=example.org; Path=/; Max-Age=0");
        assert_eq!(jar.cookies("http://cdn.example.org/"), None);
    }

    #[test]
    fn cookies_of_ytdlp_go_where_it_would_send_them() {
        let jar = Jar::default();
        let url = Url::parse("https://www.example.org/watch").unwrap();
        jar.keep(
            &url,
            "wide=1; Domain=.example.org; Path=/; Secure; Expires=33000000000; Version=0; \
             here=\"a\\073\\054\\\"b\"; Domain=www.example.org; Path=/watch; own=3; \
             all=4; Domain=.org; Path=/; old=5; Expires=1; comma=\"a\\054b\"; ; =; Path=x",
        );
        let sent = |url: &str| jar.cookies(url).unwrap_or_default();
        assert_eq!(sent("https://cdn.example.org/"), "wide=1");
        assert_eq!(sent("http://cdn.example.org/"), "");
        assert_eq!(sent("https://www.example.org/"), "comma=a,b; own=3; wide=1");
        assert_eq!(sent("https://other.org/"), "");
        // A semicolon would end the cookie.
        assert!(!sent("https://www.example.org/watch").contains("here"));
    }

    #[test]
    fn a_public_suffix_is_nobodys() {
        let jar = Jar::default();
        for (from, domain) in [
            ("http://a.co.uk/", "co.uk"),
            ("http://a.co.uk/", ".CO.UK"),
            ("http://mine.github.io/", "github.io"),
            ("http://mine.example/", "example"),
        ] {
            jar.set_cookie(from, &format!("a=1; Domain={domain}"));
            assert_eq!(jar.cookies(from), None, "{domain}");
        }
        // A public suffix that is a host may set cookies for itself.
        for (host, below) in [("github.io", "a.github.io"), ("localhost", "a.localhost")] {
            jar.set_cookie(&format!("http://{host}/"), &format!("b=2; Domain={host}"));
            assert_eq!(jar.cookies(&format!("http://{host}/")).as_deref(), Some("b=2"));
            assert_eq!(jar.cookies(&format!("http://{below}/")), None);
        }
        jar.set_cookie("http://b.a.co.uk/", "c=3; Domain=a.co.uk");
        assert_eq!(jar.cookies("http://c.a.co.uk/").as_deref(), Some("c=3"));
    }

    #[test]
    fn what_servers_set_is_bounded() {
        let jar = Jar::default();
        for number in 0..MAX_COOKIES + 10 {
            jar.set_cookie("http://h/", &format!("c{number}={}", "x".repeat(100)));
        }
        assert_eq!(jar.lock().iter_any().count(), MAX_COOKIES);
        assert!(jar.cookies("http://h/").unwrap().len() <= MAX_FIELD_BYTES);
    }

    #[test]
    fn other_lines_are_counted_and_not_quoted() {
        let (store, ignored) = parse(
            "example.org\tFALSE\t/\tFALSE\t0\tempty\nhunter2\nexample.org FALSE / FALSE 0 a b\n\
             example.org\tMAYBE\t/\tFALSE\t0\ta\tb\nexample.org\tTRUE\t/\tFALSE\t0\ta\tb;c\n",
        );
        assert_eq!(store.iter_any().count(), 1);
        assert_eq!(ignored, [2, 3, 4, 5]);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cookies.txt");
        std::fs::write(&path, "hunter2\n").unwrap();
        let failure = Jar::load(&path).unwrap_err();
        assert!(!failure.message.contains("hunter2") && failure.message.contains("line 1"));
        assert_eq!(Jar::load(&dir.path().join("a=b")).unwrap_err().exit, 3);
    }
}
