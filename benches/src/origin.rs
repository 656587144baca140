//! nginx on loopback: one worker, HTTP and HTTPS, its access log the witness of what was asked.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::guard::Guard;
use crate::servers::{Source, Traffic};

const READY_WITHIN: Duration = Duration::from_secs(10);
const LOG_WITHIN: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(5);

/// Waits until the nginx that works in `directory` answers the question that `ask` asks it.
///
/// # Errors
///
/// What nginx says of itself, if it has not answered within ten seconds.
pub fn wait_for_nginx<T>(
    directory: &Path,
    ask: impl Fn() -> Result<T, Failure>,
) -> Result<(), Failure> {
    let deadline = Instant::now() + READY_WITHIN;
    while let Err(error) = ask() {
        if Instant::now() > deadline {
            let words = fs::read_to_string(directory.join("origin/error.log")).unwrap_or_default();
            return Err(format!("nginx does not answer ({error})\n{}", words.trim()).into());
        }
        std::thread::sleep(POLL_EVERY);
    }
    Ok(())
}

/// The commit of everything that nginx serves as the Hugging Face hub.
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A running nginx and the directory it works in.
#[derive(Debug)]
pub struct Origin {
    guard: Guard,
    directory: PathBuf,
    http_port: u16,
    tls_port: Option<u16>,
    flushes: std::cell::Cell<u32>,
}

impl Origin {
    /// Starts `nginx` in `directory/origin`; it serves `directory/www`. With `tls` an own CA is
    /// made first, by the `openssl` command. `directory` and `also_remove` go at the end.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written or nginx does not answer; its own words are quoted.
    pub fn start(
        nginx: &Path,
        directory: &Path,
        also_remove: Option<&Path>,
        tls: bool,
    ) -> Result<Self, Failure> {
        let home = directory.join("origin");
        fs::create_dir_all(&home)?;
        fs::create_dir_all(directory.join("www"))?;
        if tls {
            make_certificates(&home)?;
        }
        let (http_port, tls_port) = (free_port()?, if tls { Some(free_port()?) } else { None });
        let config = home.join("nginx.conf");
        fs::write(&config, configuration(directory, http_port, tls_port))?;
        let removed: Vec<&Path> = std::iter::once(directory).chain(also_remove).collect();
        let guard = Guard::start(&[], nginx, &config, &removed)?;
        guard.serve();
        let origin = Self {
            guard,
            directory: directory.to_path_buf(),
            http_port,
            tls_port,
            flushes: std::cell::Cell::new(0),
        };
        wait_for_nginx(&origin.directory, || origin.get("/flush?run=ready"))?;
        Ok(origin)
    }

    /// The guard that watches over nginx, for the runs to report to.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Where the served file `name` lies.
    #[must_use]
    pub fn served(&self, name: &str) -> PathBuf {
        self.directory.join("www").join(name)
    }

    /// The CA to trust, in PEM.
    #[must_use]
    pub fn ca(&self) -> PathBuf {
        self.directory.join("origin/ca.pem")
    }

    /// The URL of `name`; `run` tells one run's requests from another's in the log.
    #[must_use]
    pub fn url(&self, name: &str, run: &str, tls: bool) -> String {
        match self.tls_port.filter(|_| tls) {
            Some(port) => format!("https://127.0.0.1:{port}/{name}?run={run}"),
            None => format!("http://127.0.0.1:{}/{name}?run={run}", self.http_port),
        }
    }

    /// The object `name` as something to download.
    #[must_use]
    pub fn object<'a>(&'a self, name: &'a str, tls: bool) -> Served<'a> {
        Served { origin: self, name, tls }
    }

    /// What carried this `run`, whatever became of it.
    ///
    /// # Errors
    ///
    /// When nginx stopped answering.
    pub fn traffic(&self, run: &str) -> Result<Traffic, Failure> {
        // nginx logs a request when it ends. A request sent after the client is gone is handled
        // by the same worker after the client's end, so its line closes the account.
        self.flushes.set(self.flushes.get() + 1);
        let marker = format!("flush-{}", self.flushes.get());
        self.get(&format!("/flush?run={marker}"))?;
        let deadline = Instant::now() + LOG_WITHIN;
        loop {
            let log = fs::read_to_string(self.directory.join("origin/access.log"))?;
            if logged(&log, &marker).requests > 0 {
                return Ok(logged(&log, run));
            }
            if Instant::now() > deadline {
                return Err("nginx does not write its access log".into());
            }
            std::thread::sleep(POLL_EVERY);
        }
    }

    fn get(&self, target: &str) -> Result<(), Failure> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.http_port))?;
        stream.set_read_timeout(Some(LOG_WITHIN))?;
        write!(stream, "GET {target} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if answer.starts_with("HTTP/1.1 204") {
            return Ok(());
        }
        Err(format!("unexpected answer `{}`", answer.lines().next().unwrap_or("")).into())
    }
}

/// An object of nginx.
#[derive(Clone, Copy, Debug)]
pub struct Served<'a> {
    origin: &'a Origin,
    name: &'a str,
    tls: bool,
}

impl Source for Served<'_> {
    fn begin(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn url(&self, run: &str) -> String {
        self.origin.url(self.name, run, self.tls)
    }

    fn traffic(&self, run: &str) -> Result<Traffic, Failure> {
        self.origin.traffic(run)
    }
}

/// The files of the directory `name`, whose URLs carry the run in their path: some programs name
/// a file after the query too.
#[derive(Clone, Copy, Debug)]
pub struct ServedDirectory<'a> {
    /// Whose.
    pub origin: &'a Origin,
    /// Below the served directory.
    pub name: &'a str,
    /// Over HTTPS.
    pub tls: bool,
}

impl Source for ServedDirectory<'_> {
    fn begin(&self) -> Result<(), Failure> {
        Ok(())
    }

    fn url(&self, run: &str) -> String {
        match self.origin.tls_port.filter(|_| self.tls) {
            Some(port) => format!("https://127.0.0.1:{port}/r/{run}/{}", self.name),
            None => format!("http://127.0.0.1:{}/r/{run}/{}", self.origin.http_port, self.name),
        }
    }

    fn traffic(&self, run: &str) -> Result<Traffic, Failure> {
        self.origin.traffic(run)
    }
}

/// What nginx says when there are too many requests or connections: the last is its own, for
/// closing the connection without a word.
const REFUSALS: [&str; 3] = ["429", "503", "444"];

/// Adds up the lines of `run`: `RUN METHOD STATUS BODY_BYTES RANGE`.
pub(crate) fn logged(log: &str, run: &str) -> Traffic {
    let mut traffic = Traffic::default();
    for line in log.lines() {
        let mut words = line.split(' ');
        if words.next() != Some(run) {
            continue;
        }
        traffic.requests += 1;
        let status = words.nth(1).unwrap_or_default();
        traffic.refused += u64::from(REFUSALS.contains(&status));
        traffic.body_bytes += words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
    }
    traffic
}

/// Writes `size` bytes that no file system or program can compress or guess, synced, so that
/// their write-back is not paid by the first contender.
///
/// # Errors
///
/// When the disk refuses.
pub fn make_object(path: &Path, size: u64) -> Result<(), Failure> {
    let mut file = File::create(path)?;
    let mut source = fastrand::Rng::with_seed(size);
    let mut block = vec![0; 64 * 1024];
    let mut left = size;
    while left > 0 {
        source.fill(&mut block);
        let length = block.len().min(usize::try_from(left).unwrap_or(block.len()));
        file.write_all(&block[..length])?;
        left -= length as u64;
    }
    file.sync_all()?;
    Ok(())
}

/// A file of `size` bytes without blocks: it reads as zeros and takes no space.
///
/// # Errors
///
/// When the file system refuses that size.
pub fn make_sparse(path: &Path, size: u64) -> Result<(), Failure> {
    Ok(File::create(path)?.set_len(size)?)
}

fn free_port() -> Result<u16, Failure> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn configuration(directory: &Path, http_port: u16, tls_port: Option<u16>) -> String {
    let home = directory.join("origin");
    let home = home.display();
    // nginx started by root would read the files as another user, who may not reach them.
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let tls = tls_port.map_or_else(String::new, |port| {
        format!(
            "    listen 127.0.0.1:{port} ssl;\n    ssl_certificate \"{home}/server.pem\";\n    \
             ssl_certificate_key \"{home}/server.key\";\n"
        )
    });
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path \"{home}/{kind}\";\n"))
        .collect();
    format!(
        "daemon off;\nmaster_process on;\nworker_processes 1;\n{user}\npid \"{home}/nginx.pid\";\n\
         error_log \"{home}/error.log\" warn;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n{temporary}  default_type application/octet-stream;\n  sendfile on;\n  \
         keepalive_requests 1000000;\n  \
         map $request_uri $run {{ default $arg_run; ~^/r/(?<tag>[^/]+)/ $tag; }}\n  \
         log_format run '$run $request_method $status $body_bytes_sent $http_range';\n  \
         access_log \"{home}/access.log\" run;\n  server {{\n    \
         listen 127.0.0.1:{http_port};\n{tls}    root \"{www}\";\n    \
         location = /flush {{ return 204; }}\n    \
         location ~ ^/r/[^/]+/(.+)$ {{ alias \"{www}/$1\"; \
         add_header X-Repo-Commit {COMMIT}; }}\n  }}\n}}\n",
        www = directory.join("www").display(),
    )
}

/// Makes `ca.pem`, `server.pem` and `server.key` in `home`, for the addresses of the race's servers.
pub(crate) fn make_certificates(home: &Path) -> Result<(), Failure> {
    fs::write(
        home.join("openssl.cnf"),
        // The last of the addresses is the server's on a link.
        "[req]\nprompt = no\ndistinguished_name = name\n[name]\nCN = haul race\n\
         [ca]\nbasicConstraints = critical, CA:TRUE\nkeyUsage = critical, keyCertSign\n\
         subjectKeyIdentifier = hash\n\
         [server]\nbasicConstraints = CA:FALSE\nkeyUsage = critical, digitalSignature\n\
         extendedKeyUsage = serverAuth\n\
         subjectAltName = DNS:localhost, IP:127.0.0.1, IP:10.77.0.1\n",
    )?;
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let steps: [Vec<&str>; 3] = [
        [&["req", "-x509", "-config", "openssl.cnf", "-extensions", "ca", "-days", "2"], &key[..]]
            .concat()
            .into_iter()
            .chain(["-keyout", "ca.key", "-out", "ca.pem"])
            .collect(),
        [&["req", "-new", "-config", "openssl.cnf", "-subj", "/CN=localhost"], &key[..]]
            .concat()
            .into_iter()
            .chain(["-keyout", "server.key", "-out", "server.csr"])
            .collect(),
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
         -extfile openssl.cnf -extensions server -out server.pem"
            .split_ascii_whitespace()
            .collect(),
    ];
    for arguments in steps {
        let output = Command::new("openssl")
            .args(&arguments)
            .current_dir(home)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("cannot start openssl (apt-get install openssl): {error}"))?;
        if !output.status.success() {
            let words = String::from_utf8_lossy(&output.stderr);
            return Err(format!("openssl {} failed: {}", arguments[0], words.trim()).into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_added_up_for_each_run() {
        let log = "plain-1-0 GET 206 100 bytes=0-99\nplain-1-1 GET 200 7 -\n\
                   plain-1-0 GET 503 5 bytes=100-\nplain-1-0 GET\n";
        let sum = Traffic { requests: 3, body_bytes: 105, refused: 1, ..Traffic::default() };
        assert_eq!(logged(log, "plain-1-0"), sum);
        assert_eq!(logged(log, "plain-1"), Traffic::default());
    }
}
