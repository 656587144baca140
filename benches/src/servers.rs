//! The race's own servers, for what nginx cannot do: connections capped alike or unevenly, far
//! away, reset, silent, counted.
//!
//! A server is a helper (`race --serve SHAPE FILE`, or a directory of files): its first line is
//! `port N`, then it answers each line that it reads.
//!
//! Its connections are threads that sleep until their next bytes are due, and it counts what it
//! sent. The parts: [`shape`] and [`http`] are pure, `serve` has the loops, `far` the delaying
//! proxy in front.

mod far;
pub mod http;
mod serve;
pub mod shape;

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::Failure;
use crate::helper::Helper;
use serve::Server;
use shape::Shape;

/// What one run asked of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traffic {
    /// Connections accepted; 0 where the server does not tell.
    pub connections: u64,
    /// Requests, whatever became of them.
    pub requests: u64,
    /// Body bytes sent.
    pub body_bytes: u64,
    /// Requests refused because there were too many; 0 where the server does not tell.
    pub refused: u64,
    /// The longest time without a byte for the client, in milliseconds; 0 without a link.
    pub silent_ms: u64,
}

/// Somewhere to download one object from.
pub trait Source {
    /// The next run's traffic counts from zero.
    ///
    /// # Errors
    ///
    /// When the server is gone.
    fn begin(&self) -> Result<(), Failure>;

    /// Where the object is; `run` tells one run from another.
    fn url(&self, run: &str) -> String;

    /// What `run` asked for so far.
    ///
    /// # Errors
    ///
    /// When the server is gone.
    fn traffic(&self, run: &str) -> Result<Traffic, Failure>;
}

/// How long the connections of the last run may take to be noticed as closed.
const QUIET_WITHIN: Duration = Duration::from_secs(3);
const POLL_EVERY: Duration = Duration::from_millis(2);

/// A running server process.
#[derive(Debug)]
pub struct Shaped {
    helper: Helper,
    port: u16,
}

impl Shaped {
    /// Starts a server of `object`, or of the files below it, with this shape.
    ///
    /// # Errors
    ///
    /// When this program cannot be started again.
    pub fn start(shape: &Shape, object: &Path) -> Result<Self, Failure> {
        let shape = serde_json::to_string(shape)?;
        let (helper, line) =
            Helper::start([OsStr::new("--serve"), shape.as_ref(), object.as_os_str()])?;
        let port = line.strip_prefix("port ").and_then(|digits| digits.parse().ok());
        let port = port.ok_or_else(|| format!("the race's server said `{line}`"))?;
        Ok(Self { helper, port })
    }
}

/// A file of a server that has a directory of them.
#[derive(Clone, Copy, Debug)]
pub struct ShapedFile<'a> {
    /// Whose.
    pub server: &'a Shaped,
    /// Below the served directory.
    pub path: &'a str,
}

impl Source for ShapedFile<'_> {
    fn begin(&self) -> Result<(), Failure> {
        self.server.begin()
    }

    fn url(&self, _run: &str) -> String {
        format!("http://127.0.0.1:{}/{}", self.server.port, self.path)
    }

    fn traffic(&self, run: &str) -> Result<Traffic, Failure> {
        self.server.traffic(run)
    }
}

impl Source for Shaped {
    fn begin(&self) -> Result<(), Failure> {
        self.helper.ask("begin").map(|_| ())
    }

    fn url(&self, run: &str) -> String {
        format!("http://127.0.0.1:{}/object?run={run}", self.port)
    }

    fn traffic(&self, _run: &str) -> Result<Traffic, Failure> {
        Ok(serde_json::from_str(&self.helper.ask("traffic")?)?)
    }
}

/// The server's own main: `SHAPE FILE`.
///
/// # Errors
///
/// When arguments are missing or wrong, or no port is free.
pub fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<(), Failure> {
    let (Some(shape), Some(object)) = (arguments.next(), arguments.next()) else {
        return Err("usage: race --serve SHAPE FILE".into());
    };
    let shape: Shape = serde_json::from_str(&shape.to_string_lossy())?;
    let one_way = shape.one_way;
    let server = Arc::new(Server::new(shape, PathBuf::from(object)));
    let near = listen({
        let server = Arc::clone(&server);
        move |stream| server.serve(stream)
    })?;
    let facing = if one_way.is_zero() {
        near
    } else {
        listen(move |client| {
            if let Ok(upstream) = TcpStream::connect(near) {
                far::relay(&client, &upstream, one_way);
            }
        })?
    };
    let mut output = std::io::stdout().lock();
    writeln!(output, "port {}", facing.port())?;
    output.flush()?;
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        if line == "begin" {
            let deadline = Instant::now() + QUIET_WITHIN;
            while server.open() > 0 && Instant::now() < deadline {
                std::thread::sleep(POLL_EVERY);
            }
            server.forget();
            writeln!(output, "ready")?;
        } else {
            writeln!(output, "{}", serde_json::to_string(&server.traffic())?)?;
        }
        output.flush()?;
    }
    Ok(())
}

/// Hands every connection to `serve` on a thread of its own.
fn listen(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            std::thread::spawn(move || serve(stream));
        }
    });
    Ok(address)
}
