//! The loops of a shaped server: one thread for each connection.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::Traffic;
use super::http::{NOT_FOUND, Request, TOO_MANY, media_type};
use super::shape::{Bucket, Fate, Shape, Slots, Speed};

/// A client that sends more than this as a head is not one of ours.
const HEAD_BYTES: u64 = 16 * 1024;
/// Small, so that what counts as sent has been received but for a moment's worth.
const SOCKET_BUFFER_BYTES: usize = 128 * 1024;
/// Long enough for the client to read what was sent before the reset takes it away.
const BEFORE_RESET: Duration = Duration::from_millis(5);

/// Everything that the threads of one server share.
#[derive(Debug)]
pub(super) struct Server {
    shape: Shape,
    /// The object, or the directory of the files.
    served: PathBuf,
    started: Instant,
    slots: Mutex<Slots>,
    buckets: Vec<Mutex<Bucket>>,
    open: AtomicUsize,
    admitted: AtomicUsize,
    connections: AtomicU64,
    requests: AtomicU64,
    body_bytes: AtomicU64,
}

impl Server {
    pub(super) fn new(shape: Shape, served: PathBuf) -> Self {
        let speeds: &[u64] = if let Speed::Slots(speeds) = &shape.speed { speeds } else { &[] };
        let (slots, buckets) = (
            Mutex::new(Slots::new(speeds)),
            speeds.iter().map(|&speed| Mutex::new(Bucket::new(speed, Duration::ZERO))).collect(),
        );
        Self {
            shape,
            served,
            started: Instant::now(),
            slots,
            buckets,
            open: AtomicUsize::new(0),
            admitted: AtomicUsize::new(0),
            connections: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            body_bytes: AtomicU64::new(0),
        }
    }

    /// Connections that are open now.
    pub(super) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// What was served since [`Server::forget`].
    pub(super) fn traffic(&self) -> Traffic {
        Traffic {
            connections: self.connections.load(Ordering::SeqCst),
            requests: self.requests.load(Ordering::SeqCst),
            body_bytes: self.body_bytes.load(Ordering::SeqCst),
            ..Traffic::default()
        }
    }

    /// The next run counts from zero and meets the same fates.
    pub(super) fn forget(&self) {
        for count in [&self.connections, &self.requests, &self.body_bytes] {
            count.store(0, Ordering::SeqCst);
        }
    }

    /// Serves one connection to its end; errors are the client's leaving.
    pub(super) fn serve(&self, stream: TcpStream) {
        self.open.fetch_add(1, Ordering::SeqCst);
        let nth = self.connections.fetch_add(1, Ordering::SeqCst) + 1;
        let most = self.shape.most_connections.unwrap_or(usize::MAX);
        // One that is being refused does not keep the next one out.
        let place = self.admitted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |admitted| {
            (admitted < most).then_some(admitted + 1)
        });
        let _ = stream.set_nodelay(true);
        let _ = rustix::net::sockopt::set_socket_send_buffer_size(&stream, SOCKET_BUFFER_BYTES);
        if place.is_err() {
            self.refuse(stream);
        } else {
            match &self.shape.speed {
                Speed::Each(speed) => {
                    let bucket = Mutex::new(Bucket::new(*speed, self.started.elapsed()));
                    let _ = self.converse(stream, &bucket, self.shape.fate(nth));
                }
                Speed::Slots(_) => {
                    let slot = self.slots().hold();
                    let _ = self.converse(stream, &self.buckets[slot], self.shape.fate(nth));
                    self.slots().free(slot);
                }
            }
            self.admitted.fetch_sub(1, Ordering::SeqCst);
        }
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn refuse(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream);
        if read_head(&mut reader).is_ok_and(|head| !head.is_empty()) {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let _ = reader.get_mut().write_all(TOO_MANY.as_bytes());
        }
    }

    fn converse(
        &self,
        stream: TcpStream,
        bucket: &Mutex<Bucket>,
        fate: Fate,
    ) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let mut left_to_live = match fate {
            Fate::Lives => u64::MAX,
            Fate::ResetsAfter(bytes) | Fate::HangsAfter(bytes) => bytes,
        };
        loop {
            let head = read_head(&mut reader)?;
            let Some(request) = Request::parse(&head) else { return Ok(()) };
            self.requests.fetch_add(1, Ordering::SeqCst);
            let stream = reader.get_mut();
            let Some(file) = self.find(&request.path) else {
                return stream.write_all(NOT_FOUND.as_bytes());
            };
            let size = file.metadata()?.len();
            let answer = request.answer(size);
            let head = answer.head(size, media_type(&request.path), request.keep_alive);
            stream.write_all(head.as_bytes())?;
            if !request.head {
                let (start, end) = answer.span(size);
                let stop = end.min(start.saturating_add(left_to_live));
                self.send(stream, &file, start, stop, bucket)?;
                left_to_live -= stop - start;
            }
            if left_to_live == 0 {
                return end_badly(stream, fate);
            }
            if !request.keep_alive {
                return Ok(());
            }
        }
    }

    /// What is asked for by `path`: the one object by any, and of a directory nothing outside it.
    fn find(&self, path: &str) -> Option<File> {
        if self.served.is_file() {
            return File::open(&self.served).ok();
        }
        let below = Path::new(path.trim_start_matches('/'));
        let inside = below.components().all(|part| matches!(part, Component::Normal(_)));
        let file = self.served.join(below);
        (inside && file.is_file()).then(|| File::open(file).ok()).flatten()
    }

    fn send(
        &self,
        stream: &mut TcpStream,
        file: &File,
        start: u64,
        end: u64,
        bucket: &Mutex<Bucket>,
    ) -> std::io::Result<()> {
        let bucket = || bucket.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bucket().begin(self.started.elapsed());
        let mut portion = vec![0; bucket().portion()];
        let mut offset = start;
        while offset < end {
            let length = portion.len().min(usize::try_from(end - offset).unwrap_or(usize::MAX));
            file.read_exact_at(&mut portion[..length], offset)?;
            let passed = bucket().take(length as u64, self.started.elapsed());
            let wait = passed.saturating_sub(self.started.elapsed());
            if !wait.is_zero() {
                std::thread::sleep(wait);
            }
            stream.write_all(&portion[..length])?;
            self.body_bytes.fetch_add(length as u64, Ordering::SeqCst);
            offset += length as u64;
        }
        Ok(())
    }
}

fn end_badly(stream: &mut TcpStream, fate: Fate) -> std::io::Result<()> {
    match fate {
        Fate::Lives => Ok(()),
        Fate::ResetsAfter(_) => {
            std::thread::sleep(BEFORE_RESET);
            // Closing a socket that lingers for no time sends a RST.
            Ok(rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?)
        }
        // Until the client has had enough and closes.
        Fate::HangsAfter(_) => std::io::copy(stream, &mut std::io::sink()).map(|_| ()),
    }
}

/// Everything up to the empty line; empty when the client is gone.
fn read_head(reader: &mut BufReader<TcpStream>) -> std::io::Result<String> {
    let mut head = String::new();
    let mut limited = reader.take(HEAD_BYTES);
    while !head.ends_with("\r\n\r\n") {
        if limited.read_line(&mut head)? == 0 {
            return Ok(String::new());
        }
    }
    Ok(head)
}
