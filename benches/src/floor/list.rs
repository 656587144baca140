//! The floor of many small files: kept connections, and for each file what it takes to have it
//! under its name whole or not at all.

use std::fs::{self, File};
use std::io::{BufReader, Read, Write};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Origin, Stream, join, read_head, split};
use crate::Failure;

/// Fetches every URL of the lines of `list` (all of one host) into `directory`, under
/// the last part of its path. `connections` threads, each with one socket, take the next of them
/// in turn; each file gets its name when it is written. With `sync` its data is synced before,
/// and the directory once at the end.
///
/// # Errors
///
/// Anything unexpected: the floor has no retries.
pub fn fetch_list(
    list: &Path,
    directory: &Path,
    connections: u64,
    sync: bool,
) -> Result<(), Failure> {
    let list = fs::read_to_string(list)?;
    let urls: Vec<&str> = list.lines().collect();
    let Some(first) = urls.first() else { return Ok(()) };
    let (origin, _) = Origin::of(first)?;
    fs::create_dir_all(directory)?;
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || -> Result<(), Failure> {
            let mut reader = BufReader::new(origin.connect()?);
            let mut body = Vec::new();
            while let Some(url) = urls.get(next.fetch_add(1, Ordering::Relaxed)) {
                let (.., target) = split(url)?;
                get(&mut reader, origin.host, target, &mut body)?;
                let name = target.split('?').next().and_then(|path| path.rsplit('/').next());
                put(directory, name.unwrap_or(target), &body, sync)?;
            }
            Ok(())
        };
        let workers: Vec<_> = (0..connections).map(|_| scope.spawn(work)).collect();
        join(workers)
    })?;
    if sync {
        File::open(directory)?.sync_all()?;
    }
    Ok(())
}

/// Leaves the body in `body`, whose memory is used again.
fn get(
    reader: &mut BufReader<Box<dyn Stream>>,
    host: &str,
    target: &str,
    body: &mut Vec<u8>,
) -> Result<(), Failure> {
    let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    reader.get_mut().write_all(request.as_bytes())?;
    let length = read_head(reader, "200", "content-length")?;
    let length = length.and_then(|digits| digits.parse().ok());
    body.resize(length.ok_or("the origin sent no length")?, 0);
    // Beyond what came with the head this reads from the socket itself.
    reader.read_exact(body)?;
    Ok(())
}

fn put(directory: &Path, name: &str, body: &[u8], sync: bool) -> Result<(), Failure> {
    let partial = directory.join(format!("{name}.part"));
    let mut file = File::create(&partial)?;
    file.write_all(body)?;
    if sync {
        file.sync_data()?;
    }
    fs::rename(&partial, directory.join(name))?;
    Ok(())
}
