//! A scripted HTTP/1.1 origin on loopback.
//!
//! ```
//! use haul_tests::object::Object;
//! use haul_tests::origin::{End, Origin, standard};
//!
//! let object = Object::new(1, 10 << 20);
//! let origin = Origin::start(move |request, context| {
//!     let honest = standard(&object, request);
//!     // The third request loses its connection after 1000 bytes.
//!     if context.index == 2 { honest.cut(1000, End::Reset) } else { honest }
//! });
//! println!("{}", origin.url("/file"));
//! ```
//!
//! Every connection has a thread; a script is a function from request and
//! [`Context`] to [`Response`], called on these threads. Dropping the
//! [`Origin`] ends all connections, joins all threads and panics if a script
//! did.

pub mod date;

mod connection;
mod raw;
mod request;
mod response;
mod standard;
mod tls;

use std::hash::{BuildHasher as _, RandomState};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub use raw::Raw;
pub use request::{Asked, Record, Request};
pub use response::{End, Gate, Part, Response, Throttle};
pub use standard::standard;
pub use tls::{Authority, ServerIdentity, Validity};

use self::connection::Peeked;
use crate::object::Object;

/// The kernel's send buffer of a connection: small enough that bytes counted
/// as sent are nearly bytes received, large enough for loopback speed.
const SEND_BUFFER_BYTES: usize = 256 << 10;

type Script = dyn Fn(&Request, &Context) -> Response + Send + Sync;

/// What a script may want to know besides the request.
#[derive(Debug, Clone)]
pub struct Context {
    /// The number of the request at this origin, from 0.
    pub index: usize,
    /// The number of its connection, from 0.
    pub connection: usize,
    /// The number of the request on its connection, from 0.
    pub request_on_connection: usize,
    /// Earlier requests with the same target and the same first byte.
    pub repeat: usize,
    /// Responses being sent at this moment, this one not counted.
    pub in_flight: usize,
    /// Body bytes the origin has sent before this request.
    pub sent_bytes: u64,
}

/// What a connection beyond the limit gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// An RST at once.
    Reset,
    /// This status to its first request, then the end.
    Status(u16),
}

/// How an origin is set up before it starts.
#[derive(Debug, Default)]
pub struct OriginBuilder {
    identity: Option<ServerIdentity>,
    limit: Option<(usize, Refusal)>,
    port: u16,
    listener: Option<TcpListener>,
}

impl OriginBuilder {
    /// Speaks TLS under this identity.
    #[must_use]
    pub fn tls(mut self, identity: &ServerIdentity) -> Self {
        self.identity = Some(identity.clone());
        self
    }

    /// Allows at most `connections` at once.
    #[must_use]
    pub fn limit(mut self, connections: usize, refusal: Refusal) -> Self {
        self.limit = Some((connections, refusal));
        self
    }

    /// Listens on this port, for an origin that comes back; else on a free one.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Accepts from this socket, which may be of another loopback address. While the
    /// caller keeps a clone, nobody else gets its port between two origins.
    #[must_use]
    pub fn listener(mut self, listener: TcpListener) -> Self {
        self.listener = Some(listener);
        self
    }

    /// Starts to listen, on 127.0.0.1 if nothing else was said, and to answer by `script`.
    ///
    /// # Panics
    /// When no socket can be had.
    pub fn start(
        self,
        script: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static,
    ) -> Origin {
        let listener = self.listener.unwrap_or_else(|| listen(self.port));
        let address = listener.local_addr().expect("a bound socket has an address");
        let shared = Arc::new(Shared {
            script: Box::new(script),
            identity: self.identity,
            limit: self.limit,
            started: Instant::now(),
            stopping: Mutex::new(false),
            stop: Condvar::new(),
            log: Mutex::default(),
            sent_bytes: AtomicU64::new(0),
            in_flight: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            most_open: AtomicUsize::new(0),
        });
        let accepting = shared.clone();
        let acceptor = thread::spawn(move || accept_all(&listener, &accepting));
        Origin { address, shared, acceptor: Some(acceptor) }
    }
}

/// Listens on this port, or on a free one for 0. A certain port may be in use
/// for a moment, by a connection of anybody.
fn listen(port: u16) -> TcpListener {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => return listener,
            Err(_) if port != 0 && Instant::now() < deadline => {
                thread::sleep(Duration::from_millis(20));
            }
            Err(error) => panic!("port {port}: {error}"),
        }
    }
}

/// A port of 127.0.0.1 where nobody listens. Whoever lets the system choose a port, as the
/// origins of all tests do, gets one of another range: nobody comes to this one.
///
/// # Panics
/// When none can be had.
#[must_use]
pub fn closed_port() -> u16 {
    const LEAST: u16 = 10_000;
    let chosen_by_system = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let chosen_by_system = chosen_by_system.expect("the kernel tells");
    let end: u16 = chosen_by_system.split_whitespace().next().expect("two").parse().expect("two");
    let count = u64::from(end.checked_sub(LEAST).expect("ports below"));
    let mut ports = std::iter::repeat_with(|| RandomState::new().hash_one(0) % count)
        .map(|at| LEAST + at as u16)
        .take(1000);
    let free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    ports.find(free).expect("a free port")
}

/// A running origin; dropping it stops it.
#[derive(Debug)]
pub struct Origin {
    address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<Vec<Served>>>,
}

impl Origin {
    /// An origin to set up.
    #[must_use]
    pub fn builder() -> OriginBuilder {
        OriginBuilder::default()
    }

    /// A plain origin that answers by `script`.
    pub fn start(script: impl Fn(&Request, &Context) -> Response + Send + Sync + 'static) -> Self {
        Self::builder().start(script)
    }

    /// A plain and honest origin of one object under every path.
    #[must_use]
    pub fn serving(object: &Object) -> Self {
        let object = object.clone();
        Self::start(move |request, _| standard(&object, request))
    }

    /// A plain and honest origin of one object, throttled.
    #[must_use]
    pub fn throttled(object: &Object, throttle: &Throttle) -> Self {
        let (object, throttle) = (object.clone(), throttle.clone());
        Self::start(move |request, _| throttle.apply(standard(&object, request)))
    }

    /// The URL of `path_and_query` (with its slash) here.
    #[must_use]
    pub fn url(&self, path_and_query: &str) -> String {
        let scheme = if self.shared.identity.is_some() { "https" } else { "http" };
        format!("{scheme}://{}{path_and_query}", self.address)
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// The requests so far, in the order of their arrival.
    #[must_use]
    pub fn requests(&self) -> Vec<Record> {
        self.shared.log.lock().expect("the log is never poisoned").clone()
    }

    /// Body bytes sent so far by all responses.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.shared.sent_bytes.load(Ordering::Acquire)
    }

    /// Connections accepted so far, refused ones included.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::Acquire)
    }

    /// The most connections that were open at once, refused ones not counted.
    #[must_use]
    pub fn most_open(&self) -> usize {
        self.shared.most_open.load(Ordering::Acquire)
    }

    /// Waits until `condition` holds.
    ///
    /// # Panics
    /// When it does not within 20 s.
    pub fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition(self) {
            assert!(Instant::now() < deadline, "the origin waited in vain until {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        *self.shared.stopping.lock().expect("never poisoned") = true;
        self.shared.stop.notify_all();
        // Wakes the acceptor, which then sees the flag.
        let _ = TcpStream::connect(self.address);
        let served = self.acceptor.take().map_or_else(Vec::new, |acceptor| {
            acceptor.join().expect("the acceptor does not panic")
        });
        for connection in &served {
            if let Some(socket) = connection.socket.upgrade() {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
        let panicked = served.into_iter().filter_map(|it| it.thread.join().err()).count();
        assert!(panicked == 0 || thread::panicking(), "{panicked} connections' scripts panicked");
    }
}

/// An accepted connection.
#[derive(Debug)]
struct Served {
    /// While it is open.
    socket: Weak<TcpStream>,
    thread: JoinHandle<()>,
    /// Beyond the limit it is not counted.
    is_counted: bool,
}

impl Served {
    /// Whether it counts as open. A peer that closes one connection and makes another is
    /// never thought to have both, however late the thread of the first one looks.
    fn is_open(&self) -> bool {
        let open = |socket: Arc<TcpStream>| connection::peeked(&socket) != Peeked::Gone;
        self.is_counted && self.socket.upgrade().is_some_and(open)
    }
}

struct Shared {
    script: Box<Script>,
    identity: Option<ServerIdentity>,
    limit: Option<(usize, Refusal)>,
    started: Instant,
    stopping: Mutex<bool>,
    stop: Condvar,
    log: Mutex<Vec<Record>>,
    sent_bytes: AtomicU64,
    in_flight: AtomicUsize,
    accepted: AtomicUsize,
    most_open: AtomicUsize,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("accepted", &self.accepted).finish_non_exhaustive()
    }
}

impl Shared {
    /// Sleeps for `time`, shorter when the origin stops; whether it does.
    fn stops_within(&self, time: Duration) -> bool {
        let stopping = self.stopping.lock().expect("never poisoned");
        *self.stop.wait_timeout_while(stopping, time, |stopping| !*stopping).expect("as above").0
    }
}

fn accept_all(listener: &TcpListener, shared: &Arc<Shared>) -> Vec<Served> {
    let mut served = Vec::new();
    for stream in listener.incoming() {
        if *shared.stopping.lock().expect("never poisoned") {
            break;
        }
        let Ok(stream) = stream else { continue };
        let number = shared.accepted.fetch_add(1, Ordering::AcqRel);
        let open = served.iter().filter(|it: &&Served| it.is_open()).count();
        let full = |limit: &(usize, _)| open >= limit.0;
        let refusal = shared.limit.filter(full).map(|(_, refusal)| refusal);
        if refusal == Some(Refusal::Reset) {
            connection::reset_on_close(&stream);
            continue;
        }
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES);
        let socket = Arc::new(stream);
        let weak = Arc::downgrade(&socket);
        let shared = shared.clone();
        let is_counted = refusal.is_none();
        let thread = if let Some(Refusal::Status(status)) = refusal {
            thread::spawn(move || connection::serve(socket, &shared, number, Some(status)))
        } else {
            shared.most_open.fetch_max(open + 1, Ordering::AcqRel);
            thread::spawn(move || connection::serve(socket, &shared, number, None))
        };
        served.push(Served { socket: weak, thread, is_counted });
    }
    served
}

#[cfg(test)]
mod tests;
