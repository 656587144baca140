//! Outputs that are not files: stdout, devices and FIFOs. Bytes are written there in order as they
//! arrive, by a thread of its own, because writing waits for the reader.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::thread;

use haul_engine::ByteStream;
use tokio::sync::oneshot;

use crate::exit::Failure;
use crate::os;
use crate::render::escape;

/// The capacity that a pipe is asked for, in bytes: the most that Linux grants to everybody. With
/// the usual 64 KiB, reader and writer keep waiting for each other.
const PIPE_BYTES: usize = 1 << 20;

/// Where the bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sink {
    Stdout,
    /// A device or a FIFO.
    Special(PathBuf),
}

impl Sink {
    /// The sink that `output` names; `None` for an ordinary file.
    ///
    /// # Errors
    /// Exit 2 for a socket.
    pub(crate) fn of(output: &Path) -> Result<Option<Self>, Failure> {
        if output == Path::new("-") || output == Path::new("/dev/stdout") {
            return Ok(Some(Self::Stdout));
        }
        // Whatever is wrong with it is reported when it is opened.
        let kind = std::fs::metadata(output).ok().map(|found| found.file_type());
        if kind.is_some_and(os::is_socket) {
            let quoted = escape(&output.to_string_lossy());
            return Err(Failure::usage(format!("--output `{quoted}` is a socket"))
                .hint("write to a file, a device, a FIFO, or `-` for stdout"));
        }
        Ok(os::takes_bytes_in_order(output, kind).then(|| Self::Special(output.to_owned())))
    }

    /// Its name in messages.
    pub(crate) fn name(&self) -> PathBuf {
        match self {
            Self::Stdout => PathBuf::from("-"),
            Self::Special(path) => path.clone(),
        }
    }

    fn open(&self) -> io::Result<File> {
        match self {
            Self::Stdout => os::stdout(),
            // std's own handle would look for line ends.
            // Opening a FIFO waits for its reader.
            Self::Special(path) => OpenOptions::new().write(true).open(path),
        }
    }

    /// Writes all of `stream`, and returns how that ended; an error of the download does not count.
    /// The thread is not waited for when the process ends.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub(crate) fn take(
        self,
        stream: ByteStream,
    ) -> Result<oneshot::Receiver<Result<(), Failure>>, Failure> {
        let (tell, told) = oneshot::channel();
        let write = move || {
            let written = self.write(stream);
            // Nobody waits for an interrupted download.
            let _ = tell.send(written.map_err(|error| self.failure(&error)));
        };
        thread::Builder::new().name("haul-output".to_owned()).spawn(write).map_err(|error| {
            Failure::internal(format!("cannot start a thread to write with: {error}"))
        })?;
        Ok(told)
    }

    fn write(&self, mut stream: ByteStream) -> io::Result<()> {
        let mut file = self.open()?;
        os::widen_pipe(&file, PIPE_BYTES);
        while let Ok(Some(bytes)) = stream.next_blocking() {
            file.write_all(&bytes)?;
        }
        Ok(())
    }

    fn failure(&self, error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Failure::local("nobody reads the output any more").silent();
        }
        let name = match self {
            Self::Stdout => "stdout".to_owned(),
            Self::Special(path) => escape(&path.to_string_lossy()),
        };
        let message = format!("cannot write to {name}: {error}");
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Failure::new(11, "disk-full", message),
            _ => Failure::local(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_file_is_told_from_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(Sink::of(Path::new("-")).unwrap(), Some(Sink::Stdout));
        assert_eq!(Sink::of(Path::new("./-")).unwrap(), None);
        assert_eq!(Sink::of(&file).unwrap(), None);
        assert_eq!(Sink::of(&dir.path().join("none")).unwrap(), None);
        let null = Path::new(if cfg!(windows) { "NUL" } else { "/dev/null" });
        assert_eq!(Sink::of(null).unwrap(), Some(Sink::Special(null.to_owned())));
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(Sink::of(&socket).unwrap_err().exit, 2);
    }
}
