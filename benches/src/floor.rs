//! The floor: what raw sockets and `pwrite` reach on this machine, without any HTTP library,
//! checking or hashing. Runs as a process of its own (`race --floor`), so that its cost is
//! measured the same way as everybody's.

mod list;

pub use self::list::fetch_list;

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rustix::fs::FallocateFlags;

use crate::Failure;

const BUFFER_BYTES: usize = 256 * 1024;

/// Fetches `url` (plain `http://HOST:PORT/...`) into `output` over `connections` threads, each
/// with one socket and one range; `sync` ends with one fdatasync.
///
/// # Errors
///
/// Anything unexpected: the floor has no retries.
pub fn fetch(url: &str, output: &Path, connections: u64, sync: bool) -> Result<(), Failure> {
    let (host, target) = split(url)?;
    let (_, total) = request(host, target, 0, 0)?;
    let file = File::create(output)?;
    if total > 0 {
        rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, total)?;
    }
    let share = total.div_ceil(connections.max(1)).max(1);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..total)
            .step_by(usize::try_from(share)?)
            .map(|start| {
                let (file, end) = (&file, (start + share).min(total));
                scope.spawn(move || copy(host, target, start, end, file))
            })
            .collect();
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().map_err(|_| "a thread of the floor panicked")?)
    })?;
    if sync {
        file.sync_data()?;
    }
    Ok(())
}

fn split(url: &str) -> Result<(&str, &str), Failure> {
    let rest = url.strip_prefix("http://").ok_or("the floor speaks plain http only")?;
    let slash = rest.find('/').ok_or("the floor needs a path in the URL")?;
    Ok(rest.split_at(slash))
}

/// Asks for `first..=last` and returns the stream at the body's first byte with the total size.
fn request(
    host: &str,
    target: &str,
    first: u64,
    last: u64,
) -> Result<(BufReader<TcpStream>, u64), Failure> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_nodelay(true)?;
    write!(
        stream,
        "GET {target} HTTP/1.1\r\nHost: {host}\r\nRange: bytes={first}-{last}\r\nConnection: close\r\n\r\n"
    )?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    if line.split(' ').nth(1) != Some("206") {
        return Err(format!("the origin answered `{}` instead of 206", line.trim_end()).into());
    }
    let mut total = None;
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-range")
        {
            total = value.trim().rsplit('/').next().and_then(|digits| digits.parse().ok());
        }
    }
    Ok((reader, total.ok_or("the origin sent no total size")?))
}

fn copy(host: &str, target: &str, start: u64, end: u64, file: &File) -> Result<(), Failure> {
    let (reader, _) = request(host, target, start, end - 1)?;
    let mut offset = start;
    // What the head's reader took beyond the head comes first; from there on the socket itself.
    let early = reader.buffer().to_vec();
    file.write_all_at(&early, offset)?;
    offset += early.len() as u64;
    let mut stream = reader.into_inner();
    let mut buffer = vec![0; BUFFER_BYTES];
    while offset < end {
        let length = stream.read(&mut buffer)?;
        if length == 0 {
            return Err(format!("the origin closed at byte {offset} before {end}").into());
        }
        file.write_all_at(&buffer[..length], offset)?;
        offset += length as u64;
    }
    Ok(())
}
