//! A scripted proxy on loopback: HTTP, HTTPS, SOCKS 4, 4a and 5, with a login
//! or without, and a log of all that it was told.
//!
//! It leads to 127.0.0.1 whatever host it is asked for, so that tests can use
//! names that no lookup finds.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::TcpStream;

use crate::loopback::Loopback;
use crate::origin::ServerIdentity;

/// How a proxy is set up before it starts.
#[derive(Debug, Default, Clone)]
pub struct ProxyBuilder {
    socks: bool,
    login: Option<(String, String)>,
    identity: Option<ServerIdentity>,
    status: Option<u16>,
    connected: Option<Vec<u8>>,
}

impl ProxyBuilder {
    /// Says this, byte for byte, before a tunnel.
    #[must_use]
    pub fn connected(mut self, head: &[u8]) -> Self {
        self.connected = Some(head.to_vec());
        self
    }

    /// Wants this login; of SOCKS 4 the name alone.
    #[must_use]
    pub fn login(mut self, name: &str, password: &str) -> Self {
        self.login = Some((name.to_owned(), password.to_owned()));
        self
    }

    /// Speaks TLS under this identity.
    #[must_use]
    pub fn tls(mut self, identity: &ServerIdentity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Leads nowhere: answers with this status, or this code of SOCKS.
    #[must_use]
    pub fn answering(mut self, status: u16) -> Self {
        self.status = Some(status);
        self
    }

    /// Starts it on a free port of 127.0.0.1.
    ///
    /// # Panics
    /// When no socket can be had.
    #[must_use]
    pub fn start(self) -> Proxy {
        let log = Arc::<Mutex<Vec<String>>>::default();
        let identity = self.identity.clone();
        let script = Arc::new(Script { builder: self, log: Arc::clone(&log) });
        let server = Loopback::start(identity.as_ref(), move |socket, _| {
            let script = Arc::clone(&script);
            async move {
                // An error is one side's going.
                let _ = script.serve(socket).await;
            }
        });
        Proxy { server, log }
    }
}

/// A running proxy; dropping it ends it with all its connections.
#[derive(Debug)]
pub struct Proxy {
    server: Loopback,
    log: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// An HTTP proxy to set up.
    #[must_use]
    pub fn http() -> ProxyBuilder {
        ProxyBuilder::default()
    }

    /// A SOCKS proxy to set up, of every version.
    #[must_use]
    pub fn socks() -> ProxyBuilder {
        ProxyBuilder { socks: true, ..ProxyBuilder::default() }
    }

    /// Where it listens, as `HOST:PORT`.
    #[must_use]
    pub fn authority(&self) -> String {
        self.server.address.to_string()
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.server.address.port()
    }

    /// What it was told, in its order: whole heads of HTTP, and of SOCKS lines
    /// such as `socks5 name:NAME:PORT` and `socks5 login:NAME:PASS`.
    #[must_use]
    pub fn log(&self) -> Vec<String> {
        lock(&self.log).clone()
    }
}

#[derive(Debug)]
struct Script {
    builder: ProxyBuilder,
    log: Arc<Mutex<Vec<String>>>,
}

impl Script {
    async fn serve(&self, socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        if self.builder.socks { self.socks(socket).await } else { self.http(socket).await }
    }

    fn note(&self, line: impl Into<String>) {
        lock(&self.log).push(line.into());
    }

    async fn http(&self, socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let (reader, mut writer) = tokio::io::split(socket);
        let mut reader = BufReader::new(reader);
        let Some(head) = read_head(&mut reader).await? else { return Ok(()) };
        self.note(head.clone());
        if let Some(status) = self.builder.status {
            return answer(&mut writer, status, "").await;
        }
        if let Some((name, password)) = &self.builder.login {
            let expected = format!("Basic {}", STANDARD.encode(format!("{name}:{password}")));
            if field(&head, "proxy-authorization") != Some(expected.as_str()) {
                let challenge = "Proxy-Authenticate: Basic realm=\"tests\"\r\n";
                return answer(&mut writer, 407, challenge).await;
            }
        }
        let (method, rest) = head.split_once(' ').unwrap_or_default();
        let target = rest.split(' ').next().unwrap_or_default();
        if method == "CONNECT" {
            let Ok(mut origin) = connect(port_of(target, 443)).await else {
                return answer(&mut writer, 502, "").await;
            };
            let usual = &b"HTTP/1.1 200 Connection established\r\n\r\n"[..];
            writer.write_all(self.builder.connected.as_deref().unwrap_or(usual)).await?;
            let (mut from, mut to) = origin.split();
            let up = tokio::io::copy_buf(&mut reader, &mut to);
            let down = tokio::io::copy(&mut from, &mut writer);
            tokio::select! { _ = up => {}, _ = down => {} }
            return Ok(());
        }
        let Some(target) = target.strip_prefix("http://") else {
            return answer(&mut writer, 400, "").await;
        };
        let (authority, path) = target.split_once('/').unwrap_or((target, ""));
        let Ok(mut origin) = connect(port_of(authority, 80)).await else {
            return answer(&mut writer, 502, "").await;
        };
        let fields = head.lines().skip(1).filter(|line| {
            !line.is_empty() && !line.to_ascii_lowercase().starts_with("proxy-authorization:")
        });
        let mut forwarded = format!("{method} /{path} HTTP/1.1\r\nConnection: close\r\n");
        for line in fields {
            forwarded.push_str(line);
            forwarded.push_str("\r\n");
        }
        origin.write_all(format!("{forwarded}\r\n").as_bytes()).await?;
        // The origin closes after the response, and so does this proxy.
        tokio::io::copy(&mut origin, &mut writer).await?;
        writer.shutdown().await
    }

    async fn socks(&self, mut socket: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
        let port = match socket.read_u8().await? {
            4 => self.socks4(&mut socket).await?,
            5 => self.socks5(&mut socket).await?,
            _ => None,
        };
        let Some(port) = port else { return Ok(()) };
        let mut origin = connect(port).await?;
        tokio::io::copy_bidirectional(&mut socket, &mut origin).await.map(drop)
    }

    async fn socks4(
        &self,
        socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> io::Result<Option<u16>> {
        socket.read_u8().await?;
        let port = socket.read_u16().await?;
        let address = Ipv4Addr::from(socket.read_u32().await?);
        let user = read_to_nul(socket).await?;
        if !user.is_empty() {
            self.note(format!("socks4 login:{user}:"));
        }
        if address.octets()[..3] == [0, 0, 0] {
            let name = read_to_nul(socket).await?;
            self.note(format!("socks4 name:{name}:{port}"));
        } else {
            self.note(format!("socks4 address:{address}:{port}"));
        }
        let wanted = self.builder.login.as_ref().map_or("", |(name, _)| name);
        let code = match self.builder.status {
            Some(code) => code as u8,
            None if user != wanted => 93,
            None => 90,
        };
        socket.write_all(&[0, code, 0, 0, 0, 0, 0, 0]).await?;
        Ok((code == 90).then_some(port))
    }

    async fn socks5(
        &self,
        socket: &mut (impl AsyncRead + AsyncWrite + Unpin),
    ) -> io::Result<Option<u16>> {
        let count = socket.read_u8().await?;
        let mut methods = vec![0; usize::from(count)];
        socket.read_exact(&mut methods).await?;
        let method = if self.builder.login.is_some() { 2 } else { 0 };
        if !methods.contains(&method) {
            socket.write_all(&[5, 0xff]).await?;
            return Ok(None);
        }
        socket.write_all(&[5, method]).await?;
        if let Some((wanted_name, wanted_password)) = &self.builder.login {
            socket.read_u8().await?;
            let name = read_counted(socket).await?;
            let password = read_counted(socket).await?;
            self.note(format!("socks5 login:{name}:{password}"));
            let right = name == *wanted_name && password == *wanted_password;
            socket.write_all(&[1, u8::from(!right)]).await?;
            if !right {
                return Ok(None);
            }
        }
        let mut head = [0; 4];
        socket.read_exact(&mut head).await?;
        let asked = match head[3] {
            1 => format!("address:{}", Ipv4Addr::from(socket.read_u32().await?)),
            3 => format!("name:{}", read_counted(socket).await?),
            _ => {
                let address = std::net::Ipv6Addr::from(socket.read_u128().await?);
                format!("address:[{address}]")
            }
        };
        let port = socket.read_u16().await?;
        self.note(format!("socks5 {asked}:{port}"));
        let code = self.builder.status.unwrap_or(0) as u8;
        // The proxy's own end by name: as long as any reply can be.
        socket.write_all(&[5, code, 0, 3, 5]).await?;
        socket.write_all(b"proxy\0\0").await?;
        Ok((code == 0).then_some(port))
    }
}

async fn connect(port: u16) -> io::Result<TcpStream> {
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
}

async fn answer(
    writer: &mut (impl AsyncWrite + Unpin),
    status: u16,
    fields: &str,
) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status} Scripted\r\n{fields}Content-Length: 0\r\n\r\n");
    writer.write_all(head.as_bytes()).await?;
    writer.shutdown().await
}

/// A head with its line breaks, without the final empty line; `None` at the end.
async fn read_head(
    reader: &mut (impl tokio::io::AsyncBufRead + Unpin),
) -> io::Result<Option<String>> {
    let mut head = String::new();
    loop {
        let before = head.len();
        if reader.read_line(&mut head).await? == 0 {
            return Ok(None);
        }
        if &head[before..] == "\r\n" {
            head.truncate(before);
            return Ok(Some(head));
        }
    }
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(have, _)| have.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim())
}

fn port_of(authority: &str, default: u16) -> u16 {
    authority.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap_or(default)
}

async fn read_to_nul(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let mut text = Vec::new();
    loop {
        match socket.read_u8().await? {
            0 => return Ok(String::from_utf8_lossy(&text).into_owned()),
            byte => text.push(byte),
        }
    }
}

async fn read_counted(socket: &mut (impl AsyncRead + Unpin)) -> io::Result<String> {
    let count = socket.read_u8().await?;
    let mut text = vec![0; usize::from(count)];
    socket.read_exact(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
