//! Which proxy leads to an origin.

use hyper_util::client::proxy::matcher::Matcher;

use crate::model::config::{Proxies, Proxy};

/// The proxy for an origin, whose `host` is written as in URLs.
pub(super) fn proxy_for<'a>(proxies: &'a Proxies, https: bool, host: &str) -> Option<&'a Proxy> {
    let proxy = if https { proxies.https.as_ref() } else { proxies.http.as_ref() }?;
    (!bypasses(&proxies.bypass, host)).then_some(proxy)
}

fn bypasses(bypass: &[String], host: &str) -> bool {
    if bypass == ["*"] {
        return true;
    }
    // The rules are the library's; which proxy it would choose does not matter.
    let matcher = Matcher::builder().all("http://proxy").no(bypass.join(",")).build();
    let uri = http::Uri::builder()
        .scheme("http")
        .authority(host.trim_end_matches('.'))
        .path_and_query("/")
        .build();
    uri.is_ok_and(|uri| matcher.intercept(&uri).is_none())
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
