//! Which proxy leads to an origin.

use hyper_util::client::proxy::matcher::Matcher;

use crate::model::config::{Proxies, Proxy};
use crate::os;
use crate::os::proxy::ProxySettings;

/// The same proxies, with those of the system where none is named and they are wanted.
pub(super) fn or_of_system(proxies: Proxies) -> Proxies {
    if !proxies.system {
        return proxies;
    }
    match os::proxy::settings() {
        Some(settings) => with_settings(proxies, &settings),
        None => proxies,
    }
}

fn with_settings(mut proxies: Proxies, settings: &ProxySettings) -> Proxies {
    let of = |scheme: &str| {
        let servers = || settings.servers.split(';').map(str::trim);
        let named = servers().find_map(|it| it.strip_prefix(scheme)?.strip_prefix('='));
        let server = named.or_else(|| servers().find(|it| !it.is_empty() && !it.contains('=')))?;
        // Its port is that of the scheme, as in browsers.
        let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let server = if has_port { server.to_owned() } else { format!("{server}:80") };
        Some(server.parse::<Proxy>().ok()?.chosen_by("the settings of the system"))
    };
    let own = proxies.http.is_some() || proxies.https.is_some();
    proxies.http = proxies.http.or_else(|| of("http"));
    proxies.https = proxies.https.or_else(|| of("https"));
    if !own {
        let direct = settings.direct.split(';').map(str::trim).filter_map(bypassed);
        let here = ["localhost", "127.0.0.0/8", "::1"].map(str::to_owned);
        proxies.bypass.extend(direct.chain(here));
    }
    proxies
}

/// All names without a dot, as Windows calls them.
const LOCAL: &str = "<local>";

/// What an exception of Windows means here; `None` for a pattern that means nothing.
fn bypassed(pattern: &str) -> Option<String> {
    if pattern == LOCAL {
        return Some(pattern.to_owned());
    }
    let pattern = pattern.split_once("://").map_or(pattern, |(_, host)| host);
    if let Some(octets) = pattern.strip_suffix(".*") {
        // `10.*` and `192.168.*.*` are networks.
        let octets: Vec<&str> = octets.split('.').filter(|octet| *octet != "*").collect();
        let are_numbers = octets.iter().all(|octet| octet.parse::<u8>().is_ok());
        let count = octets.len();
        let zeros = ".0".repeat(4_usize.saturating_sub(count));
        let is_network = are_numbers && (1..4).contains(&count);
        return is_network.then(|| format!("{}{zeros}/{}", octets.join("."), count * 8));
    }
    let host = pattern.strip_prefix("*.").or_else(|| pattern.strip_prefix('*')).unwrap_or(pattern);
    (!host.is_empty() && !host.contains('*')).then(|| host.to_owned())
}

/// The proxy for an origin, whose `host` is written as in URLs.
pub(super) fn proxy_for<'a>(proxies: &'a Proxies, https: bool, host: &str) -> Option<&'a Proxy> {
    let proxy = if https { proxies.https.as_ref() } else { proxies.http.as_ref() }?;
    (!bypasses(&proxies.bypass, host)).then_some(proxy)
}

fn bypasses(bypass: &[String], host: &str) -> bool {
    if bypass == ["*"] || (bypass.iter().any(|it| it == LOCAL) && !host.contains(['.', ':'])) {
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
    fn the_settings_of_windows_are_read_as_windows_means_them() {
        let of = |servers: &str, direct: &str| {
            let settings = ProxySettings { servers: servers.to_owned(), direct: direct.to_owned() };
            with_settings(Proxies::default(), &settings)
        };
        let shown = |proxies: &Proxies, https| {
            proxy_for(proxies, https, "origin.example").map(ToString::to_string)
        };
        for (servers, http, https) in [
            ("proxy:3128", Some("http://proxy:3128"), Some("http://proxy:3128")),
            ("proxy", Some("http://proxy:80"), Some("http://proxy:80")),
            ("http=a:1;https=b:2", Some("http://a:1"), Some("http://b:2")),
            ("https=b:2;ftp=c:3", None, Some("http://b:2")),
            ("ftp=c:3", None, None),
            ("", None, None),
        ] {
            let proxies = of(servers, "");
            assert_eq!(shown(&proxies, false).as_deref(), http, "{servers}");
            assert_eq!(shown(&proxies, true).as_deref(), https, "{servers}");
        }
        let proxies =
            of("p:1", "*.inside.example; 10.*;192.168.*.*;<local>;https://x.example;a*b.example");
        for (host, direct) in [
            ("www.inside.example", true),
            ("10.1.2.3", true),
            ("11.1.2.3", false),
            ("192.168.7.7", true),
            ("intranet", true),
            ("x.example", true),
            ("localhost", true),
            ("127.0.0.2", true),
            ("[::1]", true),
            ("acb.example", false),
            ("origin.example", false),
        ] {
            assert_eq!(proxy_for(&proxies, false, host).is_none(), direct, "{host}");
        }
        let own = Proxies::all("mine:1".parse().unwrap()).bypassing("a.example");
        let settings = ProxySettings { servers: "p:2".to_owned(), direct: "*.b".to_owned() };
        assert_eq!(with_settings(own.clone(), &settings), own);
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
