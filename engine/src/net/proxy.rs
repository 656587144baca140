//! What is said to a proxy before it connects to an origin: CONNECT (RFC 9110
//! section 9.3.6), and the SOCKS handshakes.
//!
//! hyper does CONNECT, and hands over the stream with whatever the origin has said
//! already. The SOCKS handshakes are written out here: hyper-util's look names up
//! on the runtime's thread, send no name in SOCKS 4, and report errors that cannot
//! be told apart.

mod socks;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{HOST, HeaderMap, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Empty;
use hyper::client::conn::http1;

pub(super) use socks::{Endpoint, socks};

use super::causes::cause_text;
use super::connect::{Forward, Origin, Stream};
use super::digest_login::schemes;
use super::failures::{FetchError, FetchErrorKind};
use super::heads::Heads;
use crate::model::config::Proxy;
use crate::model::hint::Hint;
use crate::model::name::at_most;

/// The longest head that a proxy may send before the tunnel, in bytes.
const MAX_HEAD_BYTES: usize = 64 << 10;

/// A proxy as messages name it.
pub(super) struct Named<'a>(pub(super) &'a Proxy);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the proxy {}", self.0)?;
        match &self.0.chosen_by {
            Some(who) => write!(f, " (from {who})"),
            None => Ok(()),
        }
    }
}

/// What to do about a proxy that cannot be used.
pub(super) fn unusable_hint(proxy: &Proxy) -> Hint {
    Hint::Proxy { chosen_by: proxy.chosen_by.clone() }
}

/// How requests for `http` origins are sent to an HTTP proxy.
pub(super) fn forward(proxy: &Proxy) -> Forward {
    Forward { name: Named(proxy).to_string(), authorization: authorization(proxy) }
}

fn authorization(proxy: &Proxy) -> Option<HeaderValue> {
    let (name, password) = proxy.login.as_ref()?;
    let encoded = STANDARD.encode(format!("{name}:{password}"));
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// The proxy answered 407 to a request or to CONNECT.
pub(super) fn login_refused(proxy: &str, has_login: bool, headers: &HeaderMap) -> FetchError {
    let offered = schemes(headers, &PROXY_AUTHENTICATE);
    let basic = offered.iter().any(|scheme| scheme.eq_ignore_ascii_case("basic"));
    let why = if !offered.is_empty() && !basic {
        let offered = at_most(&offered.join(", "), 80);
        format!("wants a login by {offered}, which haul does not do for proxies")
    } else if has_login {
        "refuses the login it was given".to_owned()
    } else {
        "asks for a login".to_owned()
    };
    FetchError::new(FetchErrorKind::ProxyRefused, format!("{proxy} {why} (407)"))
}

/// A tunnel to `origin` through an HTTP proxy.
///
/// # Errors
/// [`FetchErrorKind::ProxyRefused`] for 401, 403 and 407, else
/// [`FetchErrorKind::Connect`].
pub(super) async fn tunnel(
    proxy: &Proxy,
    origin: &Origin,
    stream: Box<dyn Stream>,
) -> Result<Box<dyn Stream>, FetchError> {
    let failed = |error: hyper::Error| {
        let (named, why) = (Named(proxy), cause_text(&error));
        let message = format!("cannot connect to {origin} through {named}: {why}");
        FetchError::new(FetchErrorKind::Connect, message).with_source(error)
    };
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD_BYTES)
        .handshake(Heads::once(stream, MAX_HEAD_BYTES))
        .await
        .map_err(failed)?;
    let request = connect_request(proxy, origin).map_err(|error| {
        FetchError::new(
            FetchErrorKind::Connect,
            format!("cannot ask {} for {origin}: {error}", Named(proxy)),
        )
    })?;
    let answered = sender.send_request(request);
    // The connection's task ends with the response, or is dropped here.
    let driving = connection.with_upgrades();
    tokio::pin!(driving, answered);
    let mut driven = false;
    let response = loop {
        tokio::select! {
            biased;
            response = &mut answered => break response.map_err(failed)?,
            _ = &mut driving, if !driven => driven = true,
        }
    };
    let status = response.status();
    if status.is_success() {
        let upgrade = hyper::upgrade::on(response);
        if !driven {
            driving.await.map_err(failed)?;
        }
        let upgraded = upgrade.await.map_err(failed)?;
        return Ok(Box::new(upgraded));
    }
    Err(match status {
        StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            login_refused(&Named(proxy).to_string(), proxy.login.is_some(), response.headers())
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FetchError::new(
            FetchErrorKind::ProxyRefused,
            format!("{} refuses to connect to {origin} ({})", Named(proxy), status.as_u16()),
        ),
        _ => FetchError::new(
            FetchErrorKind::Connect,
            format!("{} cannot connect to {origin} ({})", Named(proxy), status.as_u16()),
        ),
    })
}

/// It carries nothing of the request that is to follow: the proxy learns the
/// origin's host and port, and no credential but its own.
fn connect_request(proxy: &Proxy, origin: &Origin) -> Result<Request<Empty<Bytes>>, http::Error> {
    let authority = origin.to_string();
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = Uri::builder().authority(authority.as_str()).build()?;
    request.headers_mut().insert(HOST, HeaderValue::from_str(&authority)?);
    if let Some(authorization) = authorization(proxy) {
        request.headers_mut().insert(PROXY_AUTHORIZATION, authorization);
    }
    Ok(request)
}
