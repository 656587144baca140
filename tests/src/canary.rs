//! A secret that every command of the tests gets, in a header and, where the
//! URL has no query of its own, in one. The harness looks for it in all that a
//! command says and in all files that a test leaves.

/// The secret. No escape, quote or percent-encoding alters it.
pub const CANARY: &str = "SecretCanary5d1f0c2e9b";

/// The header that carries it.
pub(crate) fn header() -> String {
    format!("X-Canary: {CANARY}")
}

/// The URL of an origin of the tests with the secret as its query; anything
/// else as it is.
pub(crate) fn added_to(url: &str) -> Option<String> {
    let ours = url.starts_with("http://127.0.0.1:") || url.starts_with("https://127.0.0.1:");
    (ours && !url.contains(['?', '#'])).then(|| format!("{url}?sig={CANARY}"))
}

/// A request's target without the secret: scripts see what a test asked for.
pub(crate) fn taken_from(target: &str) -> &str {
    let target = target.strip_suffix(CANARY).unwrap_or(target);
    target.strip_suffix("?sig=").unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_taken_away() {
        let added = added_to("http://127.0.0.1:80/file").unwrap();
        assert!(added.contains(CANARY));
        assert_eq!(taken_from(&added), "http://127.0.0.1:80/file");
        assert_eq!(taken_from("/file?x=1"), "/file?x=1");
        for url in ["http://127.0.0.1:80/file?x=1", "http://example.org/", "-o", "/file"] {
            assert_eq!(added_to(url), None);
        }
    }
}
