//! Which proxy leads to an origin.

use std::borrow::Cow;
use std::sync::LazyLock;

use http::Uri;
use hyper_util::client::proxy::matcher::Matcher;

use crate::model::config::{Proxies, Proxy};
use crate::os;

/// The proxy for an origin, whose `host` is written as in URLs.
pub(super) fn proxy_for<'a>(
    proxies: &'a Proxies,
    https: bool,
    host: &str,
) -> Option<Cow<'a, Proxy>> {
    static SYSTEM: LazyLock<Matcher> = LazyLock::new(Matcher::from_system);
    let proxy = match if https { &proxies.https } else { &proxies.http } {
        Some(proxy) => Cow::Borrowed(proxy),
        None if proxies.system && os::net::HAS_PROXY_SETTINGS => {
            Cow::Owned(of_matcher(&SYSTEM, https, host)?)
        }
        None => return None,
    };
    (!bypasses(&proxies.bypass, host)).then_some(proxy)
}

/// The proxy that the system's settings name.
fn of_matcher(matcher: &Matcher, https: bool, host: &str) -> Option<Proxy> {
    let scheme = if https { "https" } else { "http" };
    let found = matcher.intercept(&uri_of(scheme, host)?)?;
    let uri = found.uri();
    // Its port is that of the scheme, as in browsers.
    let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("https") { 443 } else { 80 });
    let url = format!("{}://{}:{port}", uri.scheme_str().unwrap_or("http"), uri.host()?);
    let proxy: Proxy = url.parse().ok()?;
    let login = found.raw_auth().map(|(name, password)| (name.to_owned(), password.to_owned()));
    Some(Proxy { login, ..proxy.chosen_by("the system's settings") })
}

fn uri_of(scheme: &str, host: &str) -> Option<Uri> {
    let host = host.trim_end_matches('.');
    Uri::builder().scheme(scheme).authority(host).path_and_query("/").build().ok()
}

fn bypasses(bypass: &[String], host: &str) -> bool {
    if bypass == ["*"] {
        return true;
    }
    // The rules are the library's; which proxy it would choose does not matter.
    let matcher = Matcher::builder().all("http://proxy").no(bypass.join(",")).build();
    uri_of("http", host).is_some_and(|uri| matcher.intercept(&uri).is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(variables: &[(&str, &str)]) -> Proxies {
        let found = |name: &str| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned())
        };
        Proxies::from_env(found).unwrap()
    }

    fn chosen(proxies: &Proxies, https: bool) -> Option<String> {
        proxy_for(proxies, https, "origin.example").map(|proxy| proxy.host.clone())
    }

    #[test]
    fn environment_is_read_as_curl_reads_it() {
        // Anybody can set HTTP_PROXY in a CGI program, by a request with `Proxy:`.
        assert_eq!(chosen(&from(&[("HTTP_PROXY", "http://a")]), false), None);
        let both = from(&[("http_proxy", "a"), ("HTTPS_PROXY", "b")]);
        assert_eq!(chosen(&both, false).as_deref(), Some("a"));
        assert_eq!(chosen(&both, true).as_deref(), Some("b"));
        let lower = from(&[("https_proxy", "a"), ("HTTPS_PROXY", "b"), ("all_proxy", "c")]);
        assert_eq!(chosen(&lower, true).as_deref(), Some("a"));
        assert_eq!(chosen(&lower, false).as_deref(), Some("c"));
        let empty = from(&[("http_proxy", ""), ("all_proxy", ""), ("ALL_PROXY", "d")]);
        assert_eq!(chosen(&empty, false).as_deref(), Some("d"));
        for name in ["no_proxy", "NO_PROXY"] {
            let direct = from(&[("all_proxy", "a"), (name, "origin.example")]);
            assert_eq!(chosen(&direct, false), None);
        }
        let error = Proxies::from_env(|name| (name == "ALL_PROXY").then(|| "ftp://x".into()));
        assert!(error.unwrap_err().to_string().starts_with("ALL_PROXY"));
    }

    #[test]
    fn a_proxy_of_the_system_is_read_as_browsers_do() {
        let of = |server: &str, https| {
            let matcher = Matcher::builder().all(server.to_owned()).no("origin.local").build();
            assert_eq!(of_matcher(&matcher, https, "origin.local"), None);
            of_matcher(&matcher, https, "origin.example").map(|proxy| proxy.to_string())
        };
        assert_eq!(of("proxy:3128", true).as_deref(), Some("http://proxy:3128"));
        assert_eq!(of("proxy", false).as_deref(), Some("http://proxy:80"));
        assert_eq!(of("", false), None);
        if !os::net::HAS_PROXY_SETTINGS {
            assert_eq!(proxy_for(&Proxies::default().or_of_system(), true, "origin.example"), None);
        }
    }

    #[test]
    fn hosts_are_bypassed_as_curl_does() {
        let proxy: Proxy = "p".parse().unwrap();
        let bypasses = |list: &str, host: &str| {
            proxy_for(&Proxies::all(proxy.clone()).bypassing(list), false, host).is_none()
        };
        for (list, host, direct) in [
            ("", "example.org", false),
            ("*", "example.org", true),
            ("*", "127.0.0.1", true),
            ("*, other", "example.org", false),
            ("example.org", "example.org", true),
            ("EXAMPLE.org", "example.org", true),
            ("example.org", "www.example.org", true),
            (".example.org", "www.example.org", true),
            ("example.org", "notexample.org", false),
            ("example.org.", "example.org", true),
            ("example.org", "example.org.", true),
            ("a b,example.org c", "example.org", true),
            ("192.168.0.0/16", "192.168.3.4", true),
            ("192.168.0.0/16", "192.169.3.4", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("::1", "[::1]", true),
            ("[::1]", "[::1]", true),
            ("fe80::/10", "[fe80::1]", true),
        ] {
            assert_eq!(bypasses(list, host), direct, "{host} in {list:?}");
        }
    }
}
