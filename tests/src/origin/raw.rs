//! A server that speaks no HTTP of its own: it says what a test makes of a request.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

/// The heads that were asked so far.
type Heads = Arc<Mutex<Vec<String>>>;

/// Such a server on loopback, until the process ends.
#[derive(Debug)]
pub struct Raw {
    port: u16,
    asked: Heads,
}

impl Raw {
    /// Says what `answer` makes of the head of each request, and keeps its connections.
    pub fn start(answer: impl Fn(&str) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self::serving(move |socket, heads| {
            let (mut reader, mut writer) = (BufReader::new(socket), socket);
            while let Some(head) = read_head(&mut reader) {
                heads.lock().expect("the heads are never poisoned").push(head.clone());
                if writer.write_all(&answer(&head)).is_err() {
                    return;
                }
            }
        })
    }

    /// Says `answer` to whatever comes first on a connection, which need not be HTTP, and
    /// nothing more.
    #[must_use]
    pub fn saying(answer: Vec<u8>) -> Self {
        Self::serving(move |mut socket, _| {
            let _ = socket.read(&mut [0; 4096]);
            let _ = socket.write_all(&answer);
            // What is left unread would have the system reset the connection.
            let _ = socket.shutdown(Shutdown::Write);
            while socket.read(&mut [0; 4096]).is_ok_and(|len| len > 0) {}
        })
    }

    fn serving(serve: impl Fn(&TcpStream, &Heads) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let asked = Heads::default();
        let (serve, heads) = (Arc::new(serve), Arc::clone(&asked));
        thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (serve, heads) = (Arc::clone(&serve), Arc::clone(&heads));
                thread::spawn(move || serve(&socket, &heads));
            }
        });
        Self { port, asked }
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The URL of `/file` here.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/file", self.port)
    }

    /// The heads of the requests so far.
    ///
    /// # Panics
    /// When a thread of this server did.
    #[must_use]
    pub fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("the heads are never poisoned").clone()
    }
}

/// The head of the next request, with its empty line; `None` at the end of the connection.
fn read_head(reader: &mut BufReader<&TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if !matches!(reader.read_line(&mut head), Ok(1..)) {
            return None;
        }
    }
    Some(head)
}
