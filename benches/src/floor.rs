//! The floor: what raw sockets and `pwrite` reach on this machine, without any HTTP library,
//! checking or hashing; over HTTPS with the TLS library that haul has. Runs as a process of its
//! own (`race --floor`), so that its cost is measured the same way as everybody's.

mod list;
mod tls;

pub use self::list::fetch_list;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread::ScopedJoinHandle;

use rustix::fs::FallocateFlags;

use crate::Failure;

const BUFFER_BYTES: usize = 256 * 1024;

/// A connection.
trait Stream: Read + Write {}

impl<T: Read + Write> Stream for T {}

/// A host, and how it is spoken to.
struct Origin<'a> {
    host: &'a str,
    tls: Option<tls::Client>,
}

impl<'a> Origin<'a> {
    /// That of a URL, and the path with its query.
    fn of(url: &'a str) -> Result<(Self, &'a str), Failure> {
        let (https, host, target) = split(url)?;
        let tls = if https { Some(tls::Client::new()?) } else { None };
        Ok((Self { host, tls }, target))
    }

    fn connect(&self) -> Result<Box<dyn Stream>, Failure> {
        let stream = TcpStream::connect(self.host)?;
        stream.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(tls) => Box::new(tls.over(self.host, stream)?),
        })
    }

    /// Whether a buffer is filled before it is written: of TLS a record comes at a time.
    fn gathers(&self) -> bool {
        self.tls.is_some()
    }
}

/// Fetches `url` into `output` over `connections` threads, each with one socket and one range;
/// `sync` ends with one fdatasync. Over HTTPS the CA is that of `SSL_CERT_FILE`.
///
/// # Errors
///
/// Anything unexpected: the floor has no retries.
pub fn fetch(url: &str, output: &Path, connections: u64, sync: bool) -> Result<(), Failure> {
    let (origin, target) = Origin::of(url)?;
    let (_, total) = request(&origin, target, 0, 0)?;
    let file = File::create(output)?;
    if total > 0 {
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, total)?;
    }
    let share = total.div_ceil(connections.max(1)).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..total)
            .step_by(usize::try_from(share)?)
            .map(|start| {
                let (origin, file, end) = (&origin, &file, (start + share).min(total));
                scope.spawn(move || copy(origin, target, start, end, file))
            })
            .collect();
        join(workers)
    })?;
    if sync {
        file.sync_data()?;
    }
    Ok(())
}

/// Whether a URL is of HTTPS, its host, and its path with the query.
fn split(url: &str) -> Result<(bool, &str, &str), Failure> {
    let (https, rest) = match url.strip_prefix("https://") {
        Some(rest) => (true, rest),
        None => (false, url.strip_prefix("http://").ok_or("the floor speaks http and https")?),
    };
    let slash = rest.find('/').ok_or("the floor needs a path in the URL")?;
    let (host, target) = rest.split_at(slash);
    Ok((https, host, target))
}

/// Waits for all, and gives the first error.
fn join(workers: Vec<ScopedJoinHandle<'_, Result<(), Failure>>>) -> Result<(), Failure> {
    workers
        .into_iter()
        .try_for_each(|worker| worker.join().map_err(|_| "a thread of the floor panicked")?)
}

/// Reads a response's head, which must have this `status`, and gives one of its fields.
fn read_head(
    reader: &mut impl BufRead,
    status: &str,
    field: &str,
) -> Result<Option<String>, Failure> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if line.split(' ').nth(1) != Some(status) {
        let line = line.trim_end();
        return Err(format!("the origin answered `{line}` instead of {status}").into());
    }
    let mut found = None;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            return Ok(found);
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case(field)
        {
            found = Some(value.trim().to_owned());
        }
    }
}

/// Asks for `first..=last` and returns the stream at the body's first byte with the total size.
fn request(
    origin: &Origin<'_>,
    target: &str,
    first: u64,
    last: u64,
) -> Result<(BufReader<Box<dyn Stream>>, u64), Failure> {
    let (host, mut stream) = (origin.host, origin.connect()?);
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={first}-{last}\r\nConnection: close\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream);
    let range = read_head(&mut reader, "206", "content-range")?;
    let total = range.and_then(|range| range.rsplit('/').next()?.parse().ok());
    Ok((reader, total.ok_or("the origin sent no total size")?))
}

fn copy(
    origin: &Origin<'_>,
    target: &str,
    start: u64,
    end: u64,
    file: &File,
) -> Result<(), Failure> {
    let (reader, _) = request(origin, target, start, end - 1)?;
    let mut offset = start;
    // What the head's reader took beyond the head comes first; from there on the socket itself.
    let early = reader.buffer().to_vec();
    file.write_all_at(&early, offset)?;
    offset += early.len() as u64;
    let mut stream = reader.into_inner();
    let mut buffer = vec![0; BUFFER_BYTES];
    while offset < end {
        let left = usize::try_from(end - offset)?.min(buffer.len());
        let least = if origin.gathers() { left } else { 1 };
        let mut length = 0;
        while length < least {
            match stream.read(&mut buffer[length..])? {
                0 => return Err(format!("the origin closed before byte {end}").into()),
                more => length += more,
            }
        }
        file.write_all_at(&buffer[..length], offset)?;
        offset += length as u64;
    }
    Ok(())
}
