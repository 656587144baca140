//! The fields of requests, and who gets to see which.
//!
//! Custom fields and credentials go only to the origin they were given for. A host's login goes
//! only to that host, and what was meant to go over TLS is not sent over a path without it. The
//! cookies are the program's: its jar is asked for each request, and shown each response.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use url::Url;

use super::Driver;
use super::guard::{self, Part};
use super::sources::Source;
use crate::fault_point;
use crate::model::hint::Hint;
use crate::model::name;
use crate::model::range::ByteRange;
use crate::net::connect::is_same_origin;
use crate::net::digest_login;

impl Driver {
    /// The fields of a request to where `source` is now; of several `conditions` with one name, the
    /// last counts.
    pub(super) fn headers_for(
        &self,
        source: &Source,
        range: Option<ByteRange>,
        conditions: Vec<(HeaderName, String)>,
    ) -> HeaderMap {
        let mut headers = HeaderMap::new();
        if let Some(agent) = &self.engine.user_agent {
            headers.insert(header::USER_AGENT, agent.clone());
        }
        headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
        if let Some(login) = self.host_login(source) {
            headers.insert(header::AUTHORIZATION, login.clone());
        }
        if let Some(cookies) = self.cookies(&source.current) {
            headers.insert(header::COOKIE, cookies);
        }
        // Custom headers and credentials go only to the origin they were given
        // for, where they override a host's. A mirror elsewhere gets none.
        if let Some(login) = source.own_login() {
            headers.insert(header::AUTHORIZATION, login);
        }
        if is_same_origin(&source.current, &self.options.url)
            || fault_point::has_bug!(SecretsToAnyone)
        {
            for name in self.options.private_headers.keys() {
                // A server's own cookies go with those that were given.
                let kept = headers.remove(name).filter(|_| name == header::COOKIE);
                for value in self.options.private_headers.get_all(name) {
                    headers.append(name.clone(), value.clone());
                }
                if let Some(both) = kept.and_then(|kept| joined_cookies(&headers[name], &kept)) {
                    headers.insert(header::COOKIE, both);
                }
            }
        }
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.remove(header::RANGE);
        let range = range.map(|range| (header::RANGE, range.to_header_value()));
        for (name, value) in range.into_iter().chain(conditions) {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        headers
    }

    /// Whether the server that the download begins at is sent a login or cookies.
    pub(super) fn sends_secrets(&self) -> bool {
        let sent = self.headers_for(self.sources.opener(), None, Vec::new());
        sent.contains_key(header::AUTHORIZATION) || sent.contains_key(header::COOKIE)
    }

    /// Shows the jar a response of `url`.
    pub(super) fn keep_cookies(&self, url: &Url, headers: &HeaderMap) {
        let Some(jar) = &self.options.cookies else { return };
        let fields = headers.get_all(header::SET_COOKIE).iter();
        for field in fields.filter_map(|field| field.to_str().ok()) {
            let told = guard::call(Part::CookieJar, || jar.set_cookie(url.as_str(), field));
            told.unwrap_or_else(|panicked| self.shared.blame(panicked));
        }
    }

    /// What the jar has for the URL that is asked now.
    fn cookies(&self, url: &Url) -> Option<HeaderValue> {
        let jar = self.options.cookies.as_ref()?;
        let cookies = guard::call(Part::CookieJar, || jar.cookies(url.as_str()));
        let cookies = cookies.unwrap_or_else(|panicked| {
            self.shared.blame(panicked);
            None
        })?;
        let mut value = HeaderValue::from_bytes(cookies.as_bytes()).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The login of the host that is asked now.
    fn host_login(&self, source: &Source) -> Option<&HeaderValue> {
        let logins = &self.options.host_logins;
        if fault_point::has_bug!(SecretsToAnyone) {
            return logins.first().map(|login| &login.authorization);
        }
        // What was meant to go over TLS is not sent over a path without it.
        let current = &source.current;
        if source.downgraded && current.scheme() != "https" {
            return None;
        }
        let host = current.host_str()?;
        let named_by_caller = self.options.url.host_str() == Some(host);
        let found = logins.iter().find(|login| match &login.host {
            Some(of) => of == host,
            None => named_by_caller,
        });
        found.map(|login| &login.authorization)
    }

    /// What to do about a refused login, if the server tells more than the status.
    pub(super) fn hint_of_login(&self, source: &Source, headers: &HeaderMap) -> Option<Hint> {
        let offered = digest_login::schemes(headers, &header::WWW_AUTHENTICATE);
        let usable = ["basic", "digest", "bearer"];
        let is_usable = |scheme: &String| usable.contains(&&*scheme.to_ascii_lowercase());
        let schemes: Vec<String> = offered.iter().map(|scheme| name::brief(scheme)).collect();
        if !offered.is_empty() && !offered.iter().any(is_usable) {
            let named = schemes.join(", ");
            let why = format!("the server wants a login by {named}, which haul does not do");
            return Some(why.into());
        }
        let sent = self.headers_for(source, None, Vec::new());
        sent.contains_key(header::AUTHORIZATION).then_some(Hint::LoginRefused { schemes })
    }
}

/// The given cookies and those of the jar, except any with the name of a given one. `None` if they
/// cannot be told apart.
fn joined_cookies(given: &HeaderValue, kept: &HeaderValue) -> Option<HeaderValue> {
    let name_of = |pair: &str| pair.split('=').next().unwrap_or_default().trim().to_owned();
    let given = given.to_str().ok()?;
    let names: Vec<String> = given.split(';').map(name_of).collect();
    let more = kept.to_str().ok()?.split("; ").filter(|pair| !names.contains(&name_of(pair)));
    let mut both = given.trim_end_matches([';', ' ']).to_owned();
    for pair in more {
        both = both + "; " + pair;
    }
    let mut value = HeaderValue::from_str(&both).ok()?;
    value.set_sensitive(true);
    Some(value)
}
