//! URLs as the engine takes them.

use url::Url;

use crate::model::charset::percent_decode;
use crate::model::error::{Error, ErrorKind};
use crate::model::hint::Hint;
use crate::model::name;
use crate::model::redact::{redact, redact_url};
use crate::net::transport::Transport;

/// The URL without a fragment and without its login, and that login.
///
/// # Errors
/// [`ErrorKind::InvalidInput`] for text that is not a URL that `transport` speaks.
pub(crate) fn parse_url(
    text: &str,
    transport: &dyn Transport,
) -> Result<(Url, Option<(String, String)>), Error> {
    let shown = || redact_url(text);
    if text.chars().any(char::is_control) {
        return Err(invalid(format!("the URL {} has control characters", shown())));
    }
    let mut url = Url::parse(text).map_err(|error| {
        invalid(format!("{} is not a URL: {error}", shown()))
            .with_hint("write it in full: https://host/path")
            .with_source(error)
    })?;
    if !transport.speaks(url.scheme()) {
        return Err(invalid(format!("{}: the scheme {:?} is not known", shown(), url.scheme()))
            .with_hint("haul speaks http and https"));
    }
    if url.host_str().is_none() {
        return Err(invalid(format!("{} names no host", shown())));
    }
    url.set_fragment(None);
    let user = (!url.username().is_empty() || url.password().is_some()).then(|| {
        let decode = |text: &str| String::from_utf8_lossy(&percent_decode(text)).into_owned();
        (decode(url.username()), decode(url.password().unwrap_or_default()))
    });
    // The credential is in the header from here on, and in no text.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Ok((url, user))
}

/// An error in what the program asks for.
pub(crate) fn invalid(message: String) -> Error {
    Error::new(ErrorKind::InvalidInput, message)
}

/// Why a redirect is not followed, and what can be done about it.
#[derive(Debug)]
pub(super) struct NotFollowed {
    pub(super) why: String,
    pub(super) hint: Option<Hint>,
}

/// Where a `Location` that `base` answered with leads. No server may lead to
/// what a program's own transport reaches by another scheme.
///
/// # Errors
/// Why the redirect is not followed.
pub(super) fn follow(
    transport: &dyn Transport,
    base: &Url,
    location: &str,
    allow_downgrade: bool,
) -> Result<Url, NotFollowed> {
    let refuse = |why: &str, hint| {
        let why = format!("{} redirects {why}: not followed", redact(base));
        Err(NotFollowed { why, hint })
    };
    let Ok(mut target) = base.join(location) else {
        return refuse(&format!("to `{}`", name::brief(&redact_url(location))), None);
    };
    let (from, to) = (base.scheme(), target.scheme());
    if !transport.speaks(to)
        || !target.has_host()
        || !(from == to || matches!(to, "http" | "https"))
    {
        return refuse(&format!("to the scheme `{}`", name::brief(target.scheme())), None);
    }
    if base.scheme() == "https" && target.scheme() == "http" && !allow_downgrade {
        return refuse("from https to http", Some(Hint::Downgrade));
    }
    // Userinfo from a server is not a credential of ours.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::EngineConfig;
    use crate::net::http::HttpTransport;

    fn parse(text: &str) -> Result<(Url, Option<(String, String)>), Error> {
        parse_url(text, &HttpTransport::new(&EngineConfig::default())?)
    }

    #[test]
    fn a_url_with_a_login_keeps_it_out_of_the_url() {
        let (url, user) = parse("http://me:p%40ss@example.org/a#b").unwrap();
        assert_eq!(url.as_str(), "http://example.org/a");
        assert_eq!(user, Some(("me".to_owned(), "p@ss".to_owned())));
    }

    #[test]
    fn errors_of_urls_do_not_show_their_secrets() {
        for url in
            ["ftp://u:hunter2@h/x?sig=hunter2", "http://u:hunter2@/x?hunter2", "http://h/\nx"]
        {
            let error = parse(url).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
