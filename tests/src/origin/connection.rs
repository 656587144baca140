//! One accepted connection: read a request, ask the script, do what it says.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::net::{RecvFlags, sockopt};
use rustls::{ServerConnection, StreamOwned};

use super::request::{Record, Request, Sending};
use super::response::{End, Fault, Framing, Pace, Part, Response};
use super::{Context, Shared};

/// Longer request heads are not answered.
const HEAD_LIMIT_BYTES: usize = 64 << 10;
/// The most that is made and written at once.
const WRITE_BYTES: usize = 128 << 10;
/// How often a held response looks whether its peer is still there.
const PEER_CHECK: Duration = Duration::from_millis(20);

/// Serves requests until one side ends the connection or the origin stops.
/// With `refused` the first request gets this status and the end.
pub(super) fn serve(
    socket: Arc<TcpStream>,
    shared: &Shared,
    connection: usize,
    refused: Option<u16>,
) {
    let Ok(transport) = Transport::accept(socket.clone(), shared) else { return };
    let mut served = Connection { socket, transport, pending: Vec::new(), shared, connection };
    // An error is the peer's going or the origin's stopping; both end the connection.
    let end = served.run(refused).unwrap_or(End::Close);
    if end == End::Reset {
        reset_on_close(&served.socket);
    } else {
        let _ = served.socket.shutdown(Shutdown::Write);
    }
}

/// Makes the close of `socket` an RST instead of a FIN.
pub(super) fn reset_on_close(socket: &TcpStream) {
    let _ = sockopt::set_socket_linger(socket, Some(Duration::ZERO));
}

struct Connection<'a> {
    socket: Arc<TcpStream>,
    transport: Transport,
    /// Bytes read beyond the last request.
    pending: Vec<u8>,
    shared: &'a Shared,
    connection: usize,
}

impl Connection<'_> {
    fn run(&mut self, refused: Option<u16>) -> io::Result<End> {
        let mut count = 0;
        loop {
            let Some(request) = self.read_request()? else { return Ok(End::Close) };
            let keep = request
                .header("Connection")
                .is_none_or(|value| !value.eq_ignore_ascii_case("close"));
            let (context, sending) = self.record(&request, count);
            let response = match refused {
                Some(status) => Response::empty(status).close(),
                None => (self.shared.script)(&request, &context),
            };
            let end = self.answer(&response, &sending);
            self.shared.in_flight.fetch_sub(1, Ordering::AcqRel);
            match end? {
                End::KeepAlive if keep && response.version == "HTTP/1.1" => count += 1,
                End::KeepAlive => return Ok(End::Close),
                end => return Ok(end),
            }
        }
    }

    fn record(&self, request: &Request, on_connection: usize) -> (Context, Arc<Sending>) {
        let shared = self.shared;
        let sending = Arc::new(Sending::default());
        let mut log = shared.log.lock().expect("the log is never poisoned");
        let alike = |earlier: &&Record| {
            earlier.request.target == request.target
                && earlier.request.range().is_some() == request.range().is_some()
                && earlier.request.start() == request.start()
        };
        let context = Context {
            index: log.len(),
            connection: self.connection,
            request_on_connection: on_connection,
            repeat: log.iter().filter(alike).count(),
            in_flight: shared.in_flight.fetch_add(1, Ordering::AcqRel),
            sent_bytes: shared.sent_bytes.load(Ordering::Acquire),
        };
        log.push(Record {
            index: context.index,
            connection: self.connection,
            request_on_connection: on_connection,
            at: shared.started.elapsed(),
            request: request.clone(),
            progress: sending.clone(),
        });
        (context, sending)
    }

    /// Reads up to the empty line after a head; `None` at an orderly end.
    fn read_request(&mut self) -> io::Result<Option<Request>> {
        let mut buffer = [0; 4096];
        loop {
            if let Some(end) = self.pending.windows(4).position(|four| four == b"\r\n\r\n") {
                let request = Request::parse(&self.pending[..end]);
                self.pending.drain(..end + 4);
                return request.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into());
            }
            if self.pending.len() > HEAD_LIMIT_BYTES {
                return Err(io::ErrorKind::InvalidData.into());
            }
            match self.transport.read(&mut buffer)? {
                0 => return Ok(None),
                len => self.pending.extend_from_slice(&buffer[..len]),
            }
        }
    }

    fn answer(&mut self, response: &Response, sending: &Sending) -> io::Result<End> {
        self.hold(response.delay, || false)?;
        if response.silent {
            return Ok(response.end);
        }
        sending.status.store(response.status, Ordering::Release);
        self.transport.write_all(&response.interim)?;
        self.transport.write_all(&response.head())?;
        let mut body = Body { connection: self, sending, framing: response.framing, pace: None };
        if let Some(end) = body.send(response)? {
            return Ok(end);
        }
        if response.framing == (Framing::Chunked { terminated: true }) {
            self.transport.write_all(b"0\r\n\r\n")?;
        }
        self.transport.flush()?;
        sending.finished.store(true, Ordering::Release);
        Ok(response.end)
    }

    /// Waits for a time, or until `done`.
    ///
    /// # Errors
    /// When the peer went or the origin stops meanwhile.
    fn hold(&self, time: Duration, done: impl Fn() -> bool) -> io::Result<()> {
        let started = Instant::now();
        while let Some(left) = time.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) {
            if done() {
                return Ok(());
            }
            if self.shared.stops_within(left.min(PEER_CHECK)) || self.peer_is_gone() {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }

    fn peer_is_gone(&self) -> bool {
        // No client of ours pipelines; during a response over TLS only the closing
        // alert comes.
        match peeked(&self.socket) {
            Peeked::Gone => true,
            Peeked::Bytes => matches!(self.transport, Transport::Tls(_)),
            Peeked::Nothing => false,
        }
    }
}

/// What a peer has sent that was not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peeked {
    Bytes,
    Nothing,
    /// It closed the connection, or reset it.
    Gone,
}

pub(super) fn peeked(socket: &TcpStream) -> Peeked {
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    match rustix::net::recv(socket, &mut [0], flags) {
        Ok((_, 0)) => Peeked::Gone,
        Ok(_) => Peeked::Bytes,
        Err(rustix::io::Errno::AGAIN) => Peeked::Nothing,
        Err(_) => Peeked::Gone,
    }
}

/// The body of one response on its way out.
struct Body<'a, 'b> {
    connection: &'a mut Connection<'b>,
    sending: &'a Sending,
    framing: Framing,
    pace: Option<(Pace, Instant)>,
}

impl Body<'_, '_> {
    /// Sends parts and lets faults happen at their positions; `Some` when one
    /// of them ended the connection.
    fn send(&mut self, response: &Response) -> io::Result<Option<End>> {
        let mut faults = response.faults.iter().peekable();
        let mut buffer = Vec::new();
        let mut position = 0;
        for part in &response.body {
            let len = match part {
                Part::Object(_, range) => range.end - range.start,
                Part::Bytes(bytes) => bytes.len() as u64,
            };
            let mut done = 0;
            while done < len {
                while let Some((_, fault)) = faults.next_if(|(at, _)| *at <= position) {
                    if let Some(end) = self.happen(fault)? {
                        return Ok(Some(end));
                    }
                }
                let until_fault = faults.peek().map_or(u64::MAX, |(at, _)| at - position);
                let paced = self.pace().map(|(pace, _)| pace.next_chunk());
                let chunk_bytes = paced.map_or(WRITE_BYTES, |(bytes, _)| bytes);
                let size = (len - done).min(until_fault).min(chunk_bytes as u64) as usize;
                match part {
                    Part::Object(object, range) => {
                        buffer.resize(size, 0);
                        object.fill(range.start + done, &mut buffer);
                        self.write(&buffer)?;
                    }
                    Part::Bytes(bytes) => {
                        self.write(&bytes[done as usize..done as usize + size])?;
                    }
                }
                if let Some((_, every)) = paced {
                    self.wait(every)?;
                }
                done += size as u64;
                position += size as u64;
            }
        }
        for (_, fault) in faults.filter(|(at, _)| *at <= position) {
            if let Some(end) = self.happen(fault)? {
                return Ok(Some(end));
            }
        }
        Ok(None)
    }

    /// The pace that holds now, and when its next chunk is due.
    fn pace(&mut self) -> Option<&mut (Pace, Instant)> {
        self.pace.as_mut().filter(|(pace, _)| !pace.lifted.is_open())
    }

    fn happen(&mut self, fault: &Fault) -> io::Result<Option<End>> {
        match fault {
            Fault::End(end) => return Ok(Some(*end)),
            Fault::Stall(gate) => self.connection.hold(Duration::MAX, || gate.is_open())?,
            Fault::Pause(pause) => self.connection.hold(*pause, || false)?,
            Fault::Pace(pace) => self.pace = Some((pace.clone(), Instant::now())),
        }
        Ok(None)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let transport = &mut self.connection.transport;
        if self.framing == Framing::Identity {
            transport.write_all(bytes)?;
        } else {
            let mut chunk = format!("{:x}\r\n", bytes.len()).into_bytes();
            chunk.extend_from_slice(bytes);
            chunk.extend_from_slice(b"\r\n");
            transport.write_all(&chunk)?;
        }
        let sent = bytes.len() as u64;
        self.sending.body_bytes.fetch_add(sent, Ordering::AcqRel);
        self.connection.shared.sent_bytes.fetch_add(sent, Ordering::AcqRel);
        Ok(())
    }

    /// Waits until the chunk that was written, which was for so long, is over.
    fn wait(&mut self, every: Duration) -> io::Result<()> {
        if let Some((_, next)) = self.pace() {
            *next += every;
            let wait = next.saturating_duration_since(Instant::now());
            if self.connection.shared.stops_within(wait) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
        }
        Ok(())
    }
}

enum Transport {
    Plain(Arc<TcpStream>),
    Tls(Box<StreamOwned<ServerConnection, Socket>>),
}

impl Transport {
    fn accept(socket: Arc<TcpStream>, shared: &Shared) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        let Some(identity) = &shared.identity else { return Ok(Self::Plain(socket)) };
        let mut session = ServerConnection::new(identity.0.clone()).map_err(io::Error::other)?;
        let mut socket = Socket(socket);
        session.complete_io(&mut socket)?;
        Ok(Self::Tls(Box::new(StreamOwned::new(session, socket))))
    }
}

impl Read for Transport {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.as_ref().read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Transport {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.as_ref().write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(stream) => stream.flush(),
        }
    }
}

/// A shared socket that rustls can own.
struct Socket(Arc<TcpStream>);

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.as_ref().read(buffer)
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.as_ref().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
