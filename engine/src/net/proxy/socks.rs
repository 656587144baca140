//! The client's side of SOCKS 4, 4a and 5 (RFC 1928, RFC 1929).

use std::io;
use std::net::IpAddr;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::Named;
use crate::model::config::{Proxy, ProxyKind};
use crate::net::connect::{Origin, Stream};
use crate::net::failures::{FetchError, FetchErrorKind};

/// What a SOCKS proxy is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Endpoint<'a> {
    /// An address and a port.
    Address(IpAddr, u16),
    /// A host as URLs have it, which the proxy looks up, and a port.
    Name(&'a str, u16),
}

/// Why the proxy made no connection.
enum Refusal {
    /// The proxy refuses us.
    Us(&'static str),
    /// It could not, or would not, connect to the target.
    Way(String),
    /// It does not keep to the protocol, or the connection broke.
    Broken(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::Broken(error)
    }
}

/// A stream to `origin` through a SOCKS proxy, which is asked for `target`.
///
/// # Errors
/// [`FetchErrorKind::ProxyRefused`] when the proxy wants a login or a different
/// one, or its rules forbid the connection, else [`FetchErrorKind::Connect`].
pub(crate) async fn socks(
    proxy: &Proxy,
    origin: &Origin,
    target: Endpoint<'_>,
    stream: Box<dyn Stream>,
) -> Result<Box<dyn Stream>, FetchError> {
    let mut io = TokioIo::new(stream);
    let target = match target {
        // A literal is an address, whoever does the lookup.
        Endpoint::Name(host, port) => match host.trim_matches(['[', ']']).parse() {
            Ok(address) => Endpoint::Address(address, port),
            Err(_) => target,
        },
        Endpoint::Address(..) => target,
    };
    let led = match proxy.kind {
        ProxyKind::Socks4 | ProxyKind::Socks4a => socks4(&mut io, proxy, target).await,
        _ => socks5(&mut io, proxy, target).await,
    };
    let named = Named(proxy);
    led.map(|()| io.into_inner()).map_err(|refusal| match refusal {
        Refusal::Us(why) => FetchError::new(FetchErrorKind::ProxyRefused, format!("{named} {why}")),
        Refusal::Way(why) => FetchError::new(
            FetchErrorKind::Connect,
            format!("{named} cannot connect to {origin}: {why}"),
        ),
        Refusal::Broken(error) => FetchError::new(
            FetchErrorKind::Connect,
            format!("cannot connect to {origin} through {named}: {error}"),
        )
        .with_source(error),
    })
}

type Io = TokioIo<Box<dyn Stream>>;

async fn socks4(io: &mut Io, proxy: &Proxy, target: Endpoint<'_>) -> Result<(), Refusal> {
    let (port, address, name) = match target {
        Endpoint::Address(IpAddr::V4(address), port) => (port, address.octets(), None),
        Endpoint::Address(IpAddr::V6(_), _) => {
            return Err(Refusal::Way("SOCKS 4 has no IPv6".to_owned()));
        }
        // 4a: an invalid address says that a name follows.
        Endpoint::Name(host, port) => (port, [0, 0, 0, 1], Some(host)),
    };
    let mut request = vec![4, 1];
    request.extend(port.to_be_bytes());
    request.extend(address);
    if let Some((user, _)) = &proxy.login {
        request.extend(user.as_bytes());
    }
    request.push(0);
    if let Some(name) = name {
        request.extend(name.as_bytes());
        request.push(0);
    }
    io.write_all(&request).await?;
    io.flush().await?;
    let mut reply = [0; 8];
    io.read_exact(&mut reply).await?;
    match reply {
        [0, 90, ..] => Ok(()),
        [0, 92 | 93, ..] => Err(Refusal::Us("does not accept the name it was given")),
        [0, code, ..] => Err(Refusal::Way(format!("rejected or failed (code {code})"))),
        _ => Err(unlike_socks()),
    }
}

async fn socks5(io: &mut Io, proxy: &Proxy, target: Endpoint<'_>) -> Result<(), Refusal> {
    // A proxy that wants no login may be given one all the same.
    let methods: &[u8] = if proxy.login.is_some() { &[5, 2, 0, 2] } else { &[5, 1, 0] };
    io.write_all(methods).await?;
    io.flush().await?;
    let mut chosen = [0; 2];
    io.read_exact(&mut chosen).await?;
    match (chosen, &proxy.login) {
        ([5, 0], _) => {}
        ([5, 2], Some((name, password))) => {
            let mut login = vec![1];
            for text in [name, password] {
                login.push(length(text)?);
                login.extend(text.as_bytes());
            }
            io.write_all(&login).await?;
            io.flush().await?;
            let mut reply = [0; 2];
            io.read_exact(&mut reply).await?;
            if reply[1] != 0 {
                return Err(Refusal::Us("refuses the login it was given"));
            }
        }
        ([5, 0xff], None) => return Err(Refusal::Us("asks for a login")),
        ([5, 0xff], Some(_)) => return Err(Refusal::Us("takes no login by name and password")),
        _ => return Err(unlike_socks()),
    }
    let mut request = vec![5, 1, 0];
    let port = match target {
        Endpoint::Address(IpAddr::V4(address), port) => {
            request.push(1);
            request.extend(address.octets());
            port
        }
        Endpoint::Address(IpAddr::V6(address), port) => {
            request.push(4);
            request.extend(address.octets());
            port
        }
        Endpoint::Name(host, port) => {
            request.push(3);
            request.push(length(host)?);
            request.extend(host.as_bytes());
            port
        }
    };
    request.extend(port.to_be_bytes());
    io.write_all(&request).await?;
    io.flush().await?;
    let mut reply = [0; 4];
    io.read_exact(&mut reply).await?;
    let bound_bytes = match reply {
        [5, 0, _, 1] => 4,
        [5, 0, _, 4] => 16,
        [5, 0, _, 3] => usize::from(io.read_u8().await?),
        [5, 2, ..] => return Err(Refusal::Us("does not allow the connection by its rules")),
        [5, code, ..] if code != 0 => return Err(Refusal::Way(reason(code))),
        _ => return Err(unlike_socks()),
    };
    // The address of the proxy's own end must be read whole, but does not matter.
    let mut bound = vec![0; bound_bytes + 2];
    io.read_exact(&mut bound).await?;
    Ok(())
}

fn length(text: &str) -> Result<u8, Refusal> {
    u8::try_from(text.len()).map_err(|_| Refusal::Way("a name has more than 255 bytes".to_owned()))
}

fn unlike_socks() -> Refusal {
    Refusal::Broken(io::Error::new(io::ErrorKind::InvalidData, "it does not answer as SOCKS does"))
}

/// The replies of RFC 1928 section 6.
fn reason(code: u8) -> String {
    match code {
        1 => "a general failure".to_owned(),
        3 => "the network is unreachable".to_owned(),
        4 => "the host is unreachable".to_owned(),
        5 => "the connection is refused".to_owned(),
        6 => "the time to live expired".to_owned(),
        7 => "it does not know the command".to_owned(),
        8 => "it does not know the kind of address".to_owned(),
        code => format!("code {code}"),
    }
}
