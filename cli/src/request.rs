//! The flags that shape requests, resolved; `get` and `bench` share them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use haul_engine::{
    ClientCertificate, DownloadBuilder, EngineConfig, HostCredential, HttpVersion, IpFamily,
    Proxies, Proxy, RetryPolicy, redact_url,
};

use url::Url;

use crate::args::{RequestArgs, WayArgs};
use crate::cookies::{self, Jar};
use crate::exit::Failure;
use crate::hints;
use crate::netrc;
use crate::os;
use crate::render::escape;
use crate::text;

/// The shape of the requests, the same for every URL of a run.
#[derive(Debug, Default, Clone)]
pub(crate) struct Request {
    /// Lines to print before the start.
    pub(crate) warnings: Vec<String>,
    headers: Vec<(String, String)>,
    /// Each request names its own URL as its referrer.
    refers_to_itself: bool,
    login: Option<(String, String)>,
    host_logins: Vec<HostCredential>,
    cookies: Option<Arc<Jar>>,
    retry: RetryPolicy,
    stall_timeout: Option<Duration>,
    max_redirects: Option<u32>,
    allow_downgrade: bool,
    https_only: bool,
}

impl Request {
    /// Checks that the URL may be requested.
    ///
    /// # Errors
    /// Exit 2 for a URL without TLS if only https is allowed.
    pub(crate) fn allow(&self, url: &str) -> Result<(), Failure> {
        let is_https = Url::parse(url).is_ok_and(|url| url.scheme() == "https");
        if is_https || !self.https_only {
            return Ok(());
        }
        let text = format!("{} is not https, and nothing else is allowed", redact_url(url));
        Err(Failure::usage(text).hint(
            "--proto =https (--https-only) allows https alone: leave it out, or write https://",
        ))
    }

    /// Sets these options on a download. Headers and the login are for one origin, and are set only
    /// if the URL is of that origin (`own`).
    pub(crate) fn apply(
        &self,
        mut download: DownloadBuilder,
        url: &str,
        own: bool,
    ) -> DownloadBuilder {
        let options = download.options_mut();
        if own {
            let itself = referer_of(url).filter(|_| self.refers_to_itself);
            let itself = itself.map(|itself| ("Referer".to_owned(), itself));
            options.headers = itself.into_iter().chain(self.headers.iter().cloned()).collect();
            options.basic_auth.clone_from(&self.login);
        }
        options.host_credentials.clone_from(&self.host_logins);
        options.retry = self.retry;
        options.stall_timeout = self.stall_timeout;
        options.max_redirects = self.max_redirects.unwrap_or(options.max_redirects);
        options.allow_downgrade = self.allow_downgrade;
        match &self.cookies {
            Some(jar) => download.cookies(Arc::<Jar>::clone(jar)),
            None => download,
        }
    }
}

impl Request {
    /// As [`Self::apply`] for a piece of a film. One of another origin gets those headers that tell
    /// what a browser would tell it too, and that are no secret: many servers want them.
    pub(crate) fn apply_to_piece(
        &self,
        download: DownloadBuilder,
        url: &str,
        own: bool,
    ) -> DownloadBuilder {
        let mut download = self.apply(download, url, own);
        if !own {
            let headers = self.headers.iter().filter(|(name, _)| is_told_to_pieces(name)).cloned();
            download.options_mut().headers = headers.collect();
        }
        download
    }

    /// Whether a header of this name was given.
    pub(crate) fn has_header(&self, name: &str) -> bool {
        self.headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
    }

    /// Whether the flags have a login of their own for the URLs of the run.
    pub(crate) fn has_login(&self) -> bool {
        self.login.is_some() || self.has_header("authorization")
    }

    /// Keeps cookies, as yt-dlp writes those that go with `url`, for the run.
    pub(crate) fn keep_cookies(&self, url: &Url, cookies: &str) {
        if let Some(jar) = &self.cookies {
            jar.keep(url, cookies);
        }
    }
}

/// Whether a header goes to pieces of other origins, too; see [`Request::apply_to_piece`].
pub(crate) fn is_told_to_pieces(name: &str) -> bool {
    TOLD_TO_PIECES.iter().any(|it| it.eq_ignore_ascii_case(name))
}

/// See [`Request::apply_to_piece`].
const TOLD_TO_PIECES: [&str; 5] = ["Referer", "Origin", "User-Agent", "Accept", "Accept-Language"];

/// Stands for the URL itself in a Referer.
pub(crate) const ITSELF: &str = "*";

/// A URL as its own Referer, without a login and a fragment (RFC 9110 section 10.1.3).
pub(crate) fn referer_of(url: &str) -> Option<String> {
    let mut url = Url::parse(url).ok()?;
    url.set_username("").and_then(|()| url.set_password(None)).ok()?;
    url.set_fragment(None);
    Some(url.into())
}

/// The directory in which haul remembers what servers can do.
fn state_directory() -> Option<PathBuf> {
    Some(os::places::state()?.join("haul"))
}

/// Resolves the flags that shape requests, for the engine and for each download.
///
/// # Errors
/// Exit 2 for a header or a login that cannot be sent, and exit 3 for a netrc that cannot be used.
/// Their values are not quoted, because they are often secret.
pub(crate) fn resolve(args: RequestArgs) -> Result<(EngineConfig, Request), Failure> {
    let RequestArgs { headers: given, user_agent, referer, identity, patience, trust, ways } = args;
    let mut engine = EngineConfig::default();
    if let Some(timeout) = patience.connect_timeout {
        engine.connect_timeout = timeout;
    }
    if let Some(agent) = user_agent {
        engine.user_agent = sendable("--user-agent", agent)?;
    }
    engine.state_directory = state_directory();
    engine.ca_file = trust.cacert;
    engine.insecure = trust.insecure;
    engine.client_certificate = trust.cert.map(|certificates| ClientCertificate {
        key: trust.key.unwrap_or_else(|| certificates.clone()),
        certificates,
    });
    engine.proxies = proxies(&ways)?;
    engine.interface = ways.interface;
    engine.ip_family = match (ways.ipv4, ways.ipv6) {
        (true, _) => Some(IpFamily::V4),
        (false, true) => Some(IpFamily::V6),
        (false, false) => None,
    };
    engine.resolve = ways.resolve;
    engine.http_version = match (ways.http1, ways.http2) {
        (true, _) => HttpVersion::Http1,
        (false, true) => HttpVersion::Http2,
        (false, false) => HttpVersion::Auto,
    };

    let mut headers = headers(&given)?;
    if let Some(token) = identity.bearer {
        if headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Authorization")) {
            return Err(Failure::usage(
                "--bearer and --header `Authorization` cannot be given together",
            ));
        }
        let token = sendable("--bearer", token)?;
        headers.push(("Authorization".to_owned(), format!("Bearer {token}")));
    }
    let refers_to_itself = referer.as_deref() == Some(ITSELF);
    if let Some(referer) = referer.filter(|_| !refers_to_itself) {
        headers.push(("Referer".to_owned(), sendable("--referer", referer)?));
    }
    let login = match identity.user {
        None => None,
        Some(login) => {
            let login = sendable("--user", login)?;
            let (name, password) = login.split_once(':').ok_or_else(|| {
                Failure::usage("--user has no `:` in its value").hint("write --user NAME:PASS")
            })?;
            Some((name.to_owned(), password.to_owned()))
        }
    };
    let (host_logins, mut warnings) = match (identity.netrc, identity.netrc_file) {
        (false, None) => Default::default(),
        (_, file) => netrc::load(file)?,
    };
    let jar = match &identity.load_cookies {
        None => Jar::default(),
        Some(given) if cookies::are_typed(given) => {
            let line = sendable("--load-cookies", given.to_string_lossy().into_owned())?;
            headers.push(("Cookie".to_owned(), line));
            Jar::default()
        }
        Some(file) => {
            let (jar, ignored) = Jar::load(file)?;
            warnings.extend(ignored);
            jar
        }
    };
    let headers = with_one_cookie_field(headers);
    let mut retry = RetryPolicy::default();
    if let Some(attempts) = patience.retry {
        retry.max_attempts = attempts;
        // A user who asks for retries also waits for a server that has yet to come up.
        retry.max_hopeless_attempts = attempts;
    }
    retry.max_time = patience.retry_max_time.filter(|time| !time.is_zero());
    let request = Request {
        warnings,
        headers,
        refers_to_itself,
        login,
        host_logins,
        cookies: Some(Arc::new(jar)),
        retry,
        stall_timeout: patience.stall_timeout,
        max_redirects: patience.max_redirect,
        allow_downgrade: trust.allow_downgrade,
        https_only: trust.https_only,
    };
    Ok((engine, request))
}

/// The proxies of the flags and settings, or else of the environment, or else of the system.
fn proxies(ways: &WayArgs) -> Result<Proxies, Failure> {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let refused = |flag: &str, error: &haul_engine::Error| {
        let failure = Failure::usage(format!("{flag}{error}"));
        match hints::of(error) {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    };
    let of_flag = |flag: &str, url: &str| match url {
        "" => Ok(None),
        url => {
            let proxy = url.parse::<Proxy>().map_err(|error| refused(&format!("{flag}: "), &error));
            proxy.map(|proxy| Some(proxy.chosen_by(flag)))
        }
    };
    let mut proxies = match ways.proxy.as_deref() {
        None => Proxies::from_env(variable).map_err(|error| refused("", &error))?.or_of_system(),
        Some(url) => match of_flag(ways.proxy_from.as_deref().unwrap_or("--proxy"), url)? {
            None => Proxies::default(),
            Some(proxy) => {
                let bypass = ["no_proxy", "NO_PROXY"].into_iter().find_map(variable);
                Proxies::all(proxy).bypassing(&bypass.unwrap_or_default())
            }
        },
    };
    if let Some(url) = &ways.http_proxy {
        proxies.http = of_flag("--http-proxy", url)?;
    }
    if let Some(url) = &ways.https_proxy {
        proxies.https = of_flag("--https-proxy", url)?;
    }
    Ok(match ways.no_proxy.as_deref() {
        Some(hosts) => proxies.bypassing(hosts),
        None => proxies,
    })
}

fn headers(given: &[String]) -> Result<Vec<(String, String)>, Failure> {
    let mut headers = Vec::new();
    for line in given {
        let Some(file) = line.strip_prefix('@') else {
            headers.push(header("--header", line)?);
            continue;
        };
        let text = std::fs::read(file).map(|bytes| text::decode(&bytes)).map_err(|error| {
            Failure::local(format!("the headers in {} cannot be read: {error}", escape(file)))
        })?;
        for (number, line) in (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty()) {
            let read = header("--header", line).map_err(|mut failure| {
                failure.message = format!("line {number} of {}: {}", escape(file), failure.message);
                failure
            });
            headers.push(read?);
        }
    }
    Ok(headers)
}

/// Joins the cookies into one field, since a request has only one (RFC 6265 section 5.4).
fn with_one_cookie_field(headers: Vec<(String, String)>) -> Vec<(String, String)> {
    let (cookies, mut rest): (Vec<_>, Vec<_>) =
        headers.into_iter().partition(|(name, _)| name.eq_ignore_ascii_case("Cookie"));
    let values = cookies.iter().map(|(_, value)| value.trim_end_matches([';', ' ']));
    let all = values.collect::<Vec<_>>().join("; ");
    rest.extend(cookies.first().map(|_| ("Cookie".to_owned(), all)));
    rest
}

/// Splits a header line, given by `flag`, into its two parts. The value is not quoted in errors.
///
/// # Errors
/// Exit 2 for a line that is no header, or that would begin another one.
pub(crate) fn header(flag: &str, line: &str) -> Result<(String, String), Failure> {
    let grammar = format!("write {flag} 'Name: value'");
    let Some((name, value)) = line.split_once(':') else {
        return Err(Failure::usage(format!("{flag} has no `:` in its value")).hint(grammar));
    };
    if http::HeaderName::from_bytes(name.as_bytes()).is_err() {
        let name = escape(name);
        return Err(Failure::usage(format!("{flag} `{name}` is not a header name")).hint(grammar));
    }
    let value = value.trim_matches([' ', '\t']);
    if value.is_empty() {
        return Err(Failure::usage(format!("{flag} `{name}` has no value")).hint(grammar));
    }
    Ok((name.to_owned(), sendable(&format!("{flag} `{name}`"), value.to_owned())?))
}

/// Refuses a value that would end its header line and begin another.
pub(crate) fn sendable(flag: &str, value: String) -> Result<String, Failure> {
    if value.contains(['\r', '\n', '\0']) {
        return Err(Failure::usage(format!(
            "{flag} has a line break or a NUL in its value, which would end the header"
        )));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::args::{self, Command};

    fn resolved(words: &[&str]) -> Result<(EngineConfig, Request), Failure> {
        let words = ["haul"].iter().chain(words).chain(&["http://h/"]).map(OsString::from);
        match args::parse(words).unwrap() {
            Command::Get(args) => resolve(args.how.request),
            other => panic!("not a get: {other:?}"),
        }
    }

    fn refused(words: &[&str]) -> String {
        let failure = resolved(words).unwrap_err();
        assert_eq!(failure.exit, 2, "{words:?}");
        format!("{}\n{}", failure.message, failure.hint.unwrap_or_default())
    }

    #[test]
    fn headers_cannot_carry_another_header() {
        for value in ["A: b\r\nC: d", "A: b\nC", "A\n: b"] {
            refused(&["-H", value]);
        }
        refused(&["-A", "x\r\nY: z"]);
        refused(&["-e", "x\ny"]);
        refused(&["-u", "x\ny:z"]);
        for value in ["NoColon", ": v", "Sp ace: v", "Empty:"] {
            refused(&["-H", value]);
        }
        assert_eq!(
            header("--header", "X-A:\t b: c ").unwrap(),
            ("X-A".to_owned(), "b: c".to_owned())
        );
    }

    #[test]
    fn no_secret_is_quoted() {
        assert!(!refused(&["-u", "hunter2"]).contains("hunter2"));
        let text = refused(&["-H", "Authorization: hunter2\r\nX: y"]);
        assert!(!text.contains("hunter2") && text.contains("Authorization"), "{text}");
        assert!(!refused(&["-H", "hunter2"]).contains("hunter2"));
    }

    #[test]
    fn values_reach_the_engines_types() {
        let (engine, request) = resolved(&[
            "-u",
            "me:p:w",
            "--retry",
            "0",
            "-e",
            "http://r/",
            "-H",
            "A: b",
            "-A",
            "agent",
            "--connect-timeout",
            "2.5",
            "--stall-timeout",
            "1m",
            "--max-redirect",
            "0",
            "--insecure",
        ])
        .unwrap();
        assert_eq!(engine.connect_timeout, Duration::from_millis(2500));
        assert_eq!(engine.user_agent, "agent");
        assert!(engine.insecure);
        assert_eq!(request.login, Some(("me".to_owned(), "p:w".to_owned())));
        assert_eq!(request.retry.max_attempts, 0);
        assert_eq!(request.stall_timeout, Some(Duration::from_secs(60)));
        assert_eq!(request.max_redirects, Some(0));
        let names: Vec<&str> = request.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["A", "Referer"]);
    }
}
