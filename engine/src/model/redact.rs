//! URLs that can be shown: without the parts that hold secrets.

use std::fmt::Write as _;

use url::Url;

use super::name::escape_for_terminal;

/// A URL without userinfo, query and fragment, escaped for a terminal; an
/// omitted query shows as `?…`.
///
/// Text that is no URL is shown up to its first `?` or `#` and from its last
/// `@` on; where a password may reach over that cut, only its scheme is shown.
#[must_use]
pub fn redact_url(text: &str) -> String {
    match Url::parse(text) {
        Ok(url) => redact(&url),
        Err(_) => redact_unparsed(text),
    }
}

/// The same for a URL that is already parsed.
pub(crate) fn redact(url: &Url) -> String {
    if url.cannot_be_a_base() {
        // The path of `data:` is itself the content; without a scheme, a user
        // name before its password reads like one.
        let may_be_a_user = url.as_str().contains('@');
        return if may_be_a_user { "…".to_owned() } else { format!("{}:…", url.scheme()) };
    }
    let mut shown = String::with_capacity(url.as_str().len());
    shown += url.scheme();
    shown += "://";
    shown += url.host_str().unwrap_or_default();
    if let Some(port) = url.port() {
        let _ = write!(shown, ":{port}");
    }
    shown += url.path();
    if url.query().is_some() {
        shown += "?…";
    }
    escape_for_terminal(&shown)
}

fn redact_unparsed(text: &str) -> String {
    let stop = text.find(['?', '#']).unwrap_or(text.len());
    let (head, tail) = text.split_at(stop);
    let (scheme, rest) = match head.split_once("://") {
        Some((scheme, rest)) if !scheme.contains('@') => (format!("{scheme}://"), rest),
        _ => (String::new(), head),
    };
    // An unencoded `?` in a password puts its end, and the `@`, behind the cut.
    if tail.contains('@') {
        return escape_for_terminal(&format!("{scheme}…"));
    }
    let shown = rest.rsplit('@').next().unwrap_or_default();
    let query = if tail.starts_with('?') { "?…" } else { "" };
    escape_for_terminal(&format!("{scheme}{shown}{query}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn secrets_are_not_shown() {
        for (url, shown) in [
            ("https://example.com/a/b.iso", "https://example.com/a/b.iso"),
            ("https://u:p@example.com:8443/a?sig=s#f", "https://example.com:8443/a?…"),
            ("https://u@example.com/#f", "https://example.com/"),
            ("http://[::1]:80/x?", "http://[::1]/x?…"),
            ("data:text/plain,secret?x", "data:…"),
            ("mailto:u@example.com", "…"),
            ("file:///etc/hosts", "file:///etc/hosts"),
            // No URLs.
            ("example.com/a?sig=s@x", "…"),
            ("example.com/a?sig=s", "example.com/a?…"),
            ("u:p@example.com/a#sig", "…"),
            ("u%:p@example.com/a#sig", "example.com/a"),
            ("http://u:p@exa mple.com/a?sig", "http://exa mple.com/a?…"),
            ("http://u:pa?ss@example.com/a", "http://…"),
            ("http://u:pa#s@s@example.com/a", "http://…"),
            ("//a\u{1b}[31m\u{202e}", "//a\\u{1b}[31m\\u{202e}"),
            ("", ""),
        ] {
            assert_eq!(redact_url(url), shown, "{url:?}");
        }
    }

    proptest! {
        #[test]
        fn a_query_or_password_is_in_no_output(
            prefix in "(https?://)?", user in "[a-z]{0,3}", path in "[a-z/ \\[%]{0,12}",
            mark in "[?#]",
        ) {
            let url = format!("{prefix}{user}:SECRET@example.com/{path}{mark}key=SECRET");
            prop_assert!(!redact_url(&url).contains("SECRET"), "{}", redact_url(&url));
        }

        #[test]
        fn any_text_is_redacted_without_panic_or_controls(text in any::<String>()) {
            let shown = redact_url(&text);
            prop_assert!(!shown.chars().any(char::is_control));
        }
    }
}
