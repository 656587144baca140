//! The output of a running command.

use std::io::Read;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

/// Bytes of a pipe, collected by a thread.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Stream {
    /// Reads `pipe` to its end, without which there are no bytes.
    pub(super) fn read(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = bytes.clone();
        let reader = pipe.map(|mut pipe| {
            thread::spawn(move || {
                let mut buffer = [0; 8192];
                while let Ok(len @ 1..) = pipe.read(&mut buffer) {
                    into.lock().expect("nobody panics with it").extend_from_slice(&buffer[..len]);
                }
            })
        });
        Self { bytes, reader }
    }

    /// Waits for the end and takes all bytes.
    pub(super) fn finish(&mut self) -> Vec<u8> {
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        std::mem::take(&mut self.bytes.lock().expect("nobody panics with it"))
    }
}
