//! Proxies: which one a request goes through.

use std::fmt;
use std::str::FromStr;

use url::{Host, Url};

use crate::model::charset::percent_decode;
use crate::model::error::{Error, ErrorKind};
use crate::model::redact::redact_url;

/// The port of a proxy whose URL has none, as in curl; 443 over TLS.
const DEFAULT_PORT: u16 = 1080;

/// SOCKS gives the length of a name or an address in one byte.
const LONGEST_SOCKS_TEXT: usize = 255;

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ProxyKind {
    /// HTTP in the clear: CONNECT for `https` origins, requests in absolute
    /// form for `http` (RFC 9112 section 3.2.2).
    Http,
    /// The same inside TLS.
    Https,
    /// SOCKS 4; names are looked up here.
    Socks4,
    /// SOCKS 4a; names are looked up by the proxy.
    Socks4a,
    /// SOCKS 5 (RFC 1928); names are looked up here.
    Socks5,
    /// SOCKS 5; names are looked up by the proxy.
    Socks5h,
}

impl ProxyKind {
    /// The scheme in a proxy's URL.
    #[must_use]
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Socks4 => "socks4",
            Self::Socks4a => "socks4a",
            Self::Socks5 => "socks5",
            Self::Socks5h => "socks5h",
        }
    }
}

/// A proxy, parsed from `[SCHEME://][NAME[:PASS]@]HOST[:PORT]`.
///
/// The scheme is `http`, `https`, `socks4`, `socks4a`, `socks5` or `socks5h`,
/// and `http` if it is left out; the default port is 1080, or 443 for `https`.
/// Name and password may be percent-encoded. `Display` leaves them out.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Proxy {
    pub(crate) kind: ProxyKind,
    /// As URLs have it: lower case, IPv6 in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) login: Option<(String, String)>,
    pub(crate) chosen_by: Option<String>,
}

impl Proxy {
    /// The protocol that the proxy speaks.
    #[must_use]
    pub fn kind(&self) -> ProxyKind {
        self.kind
    }

    /// What it is parsed from, with its login.
    #[cfg(feature = "serde")]
    pub(super) fn to_url(&self) -> String {
        let encoded = |text: &str| -> String {
            let as_it_is = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
            let encode = |byte| match as_it_is(byte) {
                true => char::from(byte).to_string(),
                false => format!("%{byte:02X}"),
            };
            text.bytes().map(encode).collect()
        };
        let login = match &self.login {
            None => String::new(),
            Some((name, password)) if password.is_empty() => format!("{}@", encoded(name)),
            Some((name, password)) => format!("{}:{}@", encoded(name), encoded(password)),
        };
        format!("{}://{login}{}:{}", self.kind.scheme(), self.host, self.port)
    }

    /// The same proxy, which errors describe as chosen by `who`: a flag, an environment
    /// variable, or a setting in a file.
    #[must_use]
    pub fn chosen_by(self, who: impl Into<String>) -> Self {
        Self { chosen_by: Some(who.into()), ..self }
    }
}

impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.kind.scheme(), self.host, self.port)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proxy({self})")
    }
}

impl FromStr for Proxy {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        // The login is not shown, whichever part is wrong.
        let shown = redact_url(&format!("http://{rest}"));
        let shown = shown.strip_prefix("http://").unwrap_or_default().trim_end_matches('/');
        let invalid = |why: &str| {
            Error::new(
                ErrorKind::InvalidInput,
                format!("the proxy {shown:?} cannot be used: {why}"),
            )
            .with_hint(
                "write SCHEME://[NAME:PASS@]HOST:PORT with SCHEME one of http, https, socks4, \
                     socks4a, socks5, socks5h",
            )
        };
        let kind = match scheme.to_ascii_lowercase().as_str() {
            "http" => ProxyKind::Http,
            "https" => ProxyKind::Https,
            "socks4" => ProxyKind::Socks4,
            "socks4a" => ProxyKind::Socks4a,
            "socks5" => ProxyKind::Socks5,
            "socks5h" => ProxyKind::Socks5h,
            other => return Err(invalid(&format!("the scheme {other:?} is not known"))),
        };
        // A scheme without a default port: `http://proxy:80` keeps its port.
        let url = Url::parse(&format!("proxy://{rest}")).map_err(|e| invalid(&e.to_string()))?;
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or_else(|| invalid("no host is in it"))?;
        let host = Host::parse(host).map_err(|error| invalid(&error.to_string()))?.to_string();
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("something follows host and port"));
        }
        let default_port = if kind == ProxyKind::Https { 443 } else { DEFAULT_PORT };
        let decode = |text: &str| {
            String::from_utf8(percent_decode(text)).map_err(|_| invalid("its login is not UTF-8"))
        };
        let login = if url.username().is_empty() && url.password().is_none() {
            None
        } else {
            Some((decode(url.username())?, decode(url.password().unwrap_or_default())?))
        };
        if let Some((name, password)) = &login {
            let http = matches!(kind, ProxyKind::Http | ProxyKind::Https);
            if http && name.contains(':') {
                return Err(invalid("a name for basic authentication has no colon"));
            }
            if !http && (name.len() > LONGEST_SOCKS_TEXT || password.len() > LONGEST_SOCKS_TEXT) {
                return Err(invalid("name and password have at most 255 bytes each"));
            }
            if kind == ProxyKind::Socks4 || kind == ProxyKind::Socks4a {
                if !password.is_empty() {
                    return Err(invalid("SOCKS 4 has a name and no password"));
                }
                if name.contains('\0') {
                    return Err(invalid("a name for SOCKS 4 has no NUL"));
                }
            }
        }
        let port = url.port().unwrap_or(default_port);
        Ok(Self { kind, host, port, login, chosen_by: None })
    }
}

/// Which proxy requests go through, by their scheme and host. Without any, the
/// default, all requests go directly.
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    /// For `http` URLs.
    pub http: Option<Proxy>,
    /// For `https` URLs.
    pub https: Option<Proxy>,
    #[cfg_attr(feature = "serde", serde(with = "super::serialized::bypass"))]
    pub(crate) bypass: Vec<String>,
    /// Whether the system's own settings count where there is no other proxy.
    pub(crate) system: bool,
}

impl Proxies {
    /// The same proxy for everything.
    #[must_use]
    pub fn all(proxy: Proxy) -> Self {
        Self { http: Some(proxy.clone()), https: Some(proxy), ..Self::default() }
    }

    /// Where these name no proxy for a scheme, the one that the user has set for the whole system,
    /// with its exceptions: on Windows, and as far as it needs no script to be chosen (PAC). On
    /// other systems nothing of the kind is read.
    #[must_use]
    pub fn or_of_system(mut self) -> Self {
        self.system = true;
        self
    }

    /// Hosts that are asked directly, as a list separated by commas or blanks:
    /// names, which include their subdomains, addresses, networks such as
    /// `192.168.0.0/16`, or `*` alone for all hosts.
    #[must_use]
    pub fn bypassing(mut self, hosts: &str) -> Self {
        let separators = |c: char| c == ',' || c.is_ascii_whitespace();
        self.bypass = hosts
            .split(separators)
            .map(|host| host.trim_end_matches('.').trim_matches(['[', ']']))
            .filter(|host| !host.is_empty())
            .map(str::to_owned)
            .collect();
        if self.bypass.len() > 1 {
            self.bypass.retain(|host| host != "*");
        }
        self
    }

    /// The proxies of an environment, read as curl reads it: `http_proxy` only in lower case,
    /// `https_proxy` and `HTTPS_PROXY`, and for both otherwise `all_proxy` and `ALL_PROXY`;
    /// `no_proxy` and `NO_PROXY` as in [`Self::bypassing`]. Lower case takes precedence, and an
    /// empty variable counts as unset.
    ///
    /// `variable` is the environment, such as `|name| std::env::var(name).ok()`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], which names the variable, for a value that
    /// is no proxy.
    pub fn from_env(variable: impl Fn(&str) -> Option<String>) -> Result<Self, Error> {
        let first = |names: &[&'static str]| {
            names.iter().find_map(|name| {
                variable(name).filter(|value| !value.is_empty()).map(|value| (*name, value))
            })
        };
        let proxy = |names: &[&'static str]| match first(names) {
            None => Ok(None),
            Some((name, value)) => {
                value.parse::<Proxy>().map(|it| Some(it.chosen_by(name))).map_err(|error| {
                    let named = Error::new(error.kind(), format!("{name}: {error}"));
                    match error.hint() {
                        Some(hint) => named.with_hint(hint.clone()),
                        None => named,
                    }
                })
            }
        };
        let proxies = Self {
            http: proxy(&["http_proxy", "all_proxy", "ALL_PROXY"])?,
            https: proxy(&["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])?,
            ..Self::default()
        };
        let bypass = first(&["no_proxy", "NO_PROXY"]).map(|(_, value)| value);
        Ok(proxies.bypassing(&bypass.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxy(text: &str) -> Proxy {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn proxies_are_read_with_what_curl_assumes() {
        for (text, shown) in [
            ("proxy.example", "http://proxy.example:1080"),
            ("proxy.example:3128", "http://proxy.example:3128"),
            ("http://proxy:80/", "http://proxy:80"),
            ("https://proxy", "https://proxy:443"),
            ("HTTPS://PROXY:8443", "https://proxy:8443"),
            ("socks5h://[::1]:9050", "socks5h://[::1]:9050"),
            ("socks4a://127.1", "socks4a://127.0.0.1:1080"),
        ] {
            assert_eq!(proxy(text).to_string(), shown, "{text}");
        }
        let login = proxy("http://m%65:p%40ss:word@proxy:1").login;
        assert_eq!(login, Some(("me".to_owned(), "p@ss:word".to_owned())));
        assert_eq!(proxy("socks4://me@proxy").login, Some(("me".to_owned(), String::new())));
    }

    #[test]
    fn what_is_no_proxy_is_refused_without_its_login() {
        for text in [
            "",
            "http://",
            "ftp://u:hunter2@proxy",
            "http://u:hunter2@proxy/path",
            "http://u:hunter2@proxy?query",
            "http://u:hunter2@pro xy",
            "http://u:hunter2@proxy:99999",
            "socks4://u:hunter2@proxy",
            "socks://u:hunter2@proxy",
            "http://a%3Ab:hunter2@proxy",
        ] {
            let error = text.parse::<Proxy>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!error.to_string().contains("hunter2"), "{error}");
            assert!(error.hint().is_some());
        }
        assert!(!format!("{:?}", proxy("http://me:hunter2@proxy")).contains("hunter2"));
    }
}
