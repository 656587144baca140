//! One scenario's place: the namespaces, the link between them, and nginx behind it.

use std::cell::Cell;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::line::{Turn, Way};
use super::mover::{Report, SERVER, Spec};
use super::table::{self, Congestion, FILE_BYTES, FILES, Link, Midway, Protocol, Work};
use crate::Failure;
use crate::guard::Guard;
use crate::helper::Helper;
use crate::namespace::inside;
use crate::origin::{logged, make_certificates, make_object, wait_for_nginx};
use crate::servers::{Source, Traffic};

const SETTINGS: &str = "/proc/sys/net/ipv4";

/// Longer than nginx bears a connection that takes nothing, where some are left like that.
const QUIET_WITHIN: Duration = Duration::from_secs(8);
const POLL_EVERY: Duration = Duration::from_millis(10);
const STATUS_WITHIN: Duration = Duration::from_secs(5);
const STATUS_PORT: u16 = 81;
/// Until a server that counts requests has forgotten those of the last run.
const FORGOTTEN_AFTER: Duration = Duration::from_millis(1200);
/// No queue is shorter than this link's would be.
const LEAST_QUEUE_RTT: Duration = Duration::from_millis(20);
const LEAST_QUEUE_BYTES: u64 = 64 * 1024;
/// Acknowledgements do not wait for long.
const UP_QUEUE_BYTES: u64 = 1024 * 1024;

/// Everything of one scenario, gone when this is dropped.
#[derive(Debug)]
pub struct Site {
    // Before the guard, which removes the namespaces that the link is in.
    link: Option<Helper>,
    guard: Guard,
    scenario: Link,
    directory: PathBuf,
    server: String,
    client: String,
    /// Where the log of this run begins.
    log_start: Cell<usize>,
}

impl Site {
    /// Makes the namespaces and the link of `scenario` and starts `nginx`; all files lie in
    /// `directory`, which goes at the end.
    ///
    /// # Errors
    ///
    /// When this process may not do that, or nginx does not answer.
    pub fn start(
        scenario: Link,
        congestion: Congestion,
        nginx: &Path,
        directory: &Path,
    ) -> Result<Self, Failure> {
        let server = format!("haul-{}-s", std::process::id());
        let client = match scenario.path {
            table::Path::Loopback => server.clone(),
            table::Path::Link { .. } => format!("haul-{}-c", std::process::id()),
        };
        let mut namespaces = vec![server.as_str(), client.as_str()];
        namespaces.dedup();
        let home = directory.join("origin");
        let config = home.join("nginx.conf");
        let guard = Guard::start(&namespaces, nginx, &config, &[directory])?;
        fs::create_dir_all(&home)?;
        serve_files(&directory.join("www"), scenario.work)?;
        if scenario.tls() {
            make_certificates(&home)?;
        }
        fs::write(&config, configuration(&scenario, directory))?;
        allow(congestion)?;
        for name in namespaces {
            inside(name, || {
                let settings = Path::new(SETTINGS);
                // What one connection learned of the path must not speed up the next one's start.
                fs::write(settings.join("tcp_no_metrics_save"), "1")?;
                Ok(fs::write(settings.join("tcp_congestion_control"), congestion.name())?)
            })?;
        }
        let link = match spec(&scenario, &server, &client) {
            Some(spec) => Some(start_link(&spec)?),
            None => None,
        };
        guard.serve();
        let (directory, log_start) = (directory.to_path_buf(), Cell::new(0));
        let site = Self { link, guard, scenario, directory, server, client, log_start };
        wait_for_nginx(&site.directory, || site.open_connections())?;
        Ok(site)
    }

    /// The guard that watches over all of it, for the runs to report to.
    #[must_use]
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The namespace of the clients.
    #[must_use]
    pub fn client(&self) -> &str {
        &self.client
    }

    /// The CA to trust, in PEM, if the scenario needs one.
    #[must_use]
    pub fn ca(&self) -> Option<PathBuf> {
        self.scenario.tls().then(|| self.directory.join("origin/ca.pem"))
    }

    /// Where the served file `name` lies.
    #[must_use]
    pub fn served(&self, name: &str) -> PathBuf {
        self.directory.join("www").join(name)
    }

    fn tell_link(&self, question: &str) -> Result<Option<String>, Failure> {
        self.link.as_ref().map(|link| link.ask(question)).transpose()
    }

    /// nginx logs a request when it ends, so a run's account is complete when its connections are
    /// closed. One that stays open in spite of the time given is left out of the account.
    fn wait_until_quiet(&self) -> Result<(), Failure> {
        let deadline = Instant::now() + QUIET_WITHIN;
        while self.open_connections()? > 0 && Instant::now() < deadline {
            std::thread::sleep(POLL_EVERY);
        }
        Ok(())
    }

    /// As nginx tells on a port of its own, beside the one that asks.
    fn open_connections(&self) -> Result<u64, Failure> {
        let answer = inside(&self.server, || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, STATUS_PORT))?;
            stream.set_read_timeout(Some(STATUS_WITHIN))?;
            stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })?;
        let active = active(&answer).ok_or("nginx does not tell its connections")?;
        Ok(active.saturating_sub(1))
    }
}

/// Lets a namespace choose `congestion`: it may have only what the whole system allows to
/// everybody. That outlives the race, and changes nothing for those who do not choose.
fn allow(congestion: Congestion) -> Result<(), Failure> {
    let setting = Path::new(SETTINGS).join("tcp_allowed_congestion_control");
    let allowed = fs::read_to_string(&setting)?;
    if allowed.split_whitespace().any(|name| name == congestion.name()) {
        return Ok(());
    }
    fs::write(setting, format!("{} {}", allowed.trim_end(), congestion.name())).map_err(|error| {
        let name = congestion.name();
        format!("cannot allow the congestion control `{name}` for the links: {error}").into()
    })
}

impl Source for Site {
    fn begin(&self) -> Result<(), Failure> {
        // The first gives the client its old address back, which ends what was sent to it; the
        // second forgets what that was.
        self.tell_link("begin")?;
        self.wait_until_quiet()?;
        if self.scenario.refuses {
            std::thread::sleep(FORGOTTEN_AFTER);
        }
        self.tell_link("begin")?;
        self.log_start.set(fs::read(self.directory.join("origin/access.log"))?.len());
        Ok(())
    }

    fn url(&self, _run: &str) -> String {
        let scheme = if self.scenario.tls() { "https" } else { "http" };
        let host = if self.link.is_some() { SERVER } else { Ipv4Addr::LOCALHOST };
        let path = match self.scenario.work {
            Work::Object(_) => OBJECT,
            Work::List => LIST,
        };
        format!("{scheme}://{host}/{path}")
    }

    fn traffic(&self, _run: &str) -> Result<Traffic, Failure> {
        self.wait_until_quiet()?;
        let log = fs::read_to_string(self.directory.join("origin/access.log"))?;
        let run = log.get(self.log_start.get()..).unwrap_or_default();
        let report = self.tell_link("report")?;
        let report: Option<Report> = report.map(|line| serde_json::from_str(&line)).transpose()?;
        let silent_ms = report.map_or(0, |report| report.silent_ms);
        Ok(Traffic { silent_ms, ..logged(run, RUN) })
    }
}

/// The served object.
pub const OBJECT: &str = "object";
/// The directory of the files of a list.
pub const LIST: &str = "list";
/// The first word of every line in the log, which tells no run from another.
const RUN: &str = "-";

fn serve_files(www: &Path, work: Work) -> Result<(), Failure> {
    fs::create_dir_all(www.join(LIST))?;
    match work {
        Work::Object(bytes) => make_object(&www.join(OBJECT), bytes),
        Work::List => (0..FILES).try_for_each(|number| {
            // No two of them alike: a program that confuses files must not get away with it.
            let mut content = vec![0; usize::try_from(FILE_BYTES)?];
            fastrand::Rng::with_seed(u64::from(number)).fill(&mut content);
            Ok(fs::write(www.join(LIST).join(number.to_string()), content)?)
        }),
    }
}

fn start_link(spec: &Spec) -> Result<Helper, Failure> {
    let (helper, first) = Helper::start(["--link", &serde_json::to_string(spec)?])?;
    if first == "up" { Ok(helper) } else { Err(format!("the link said `{first}`").into()) }
}

/// The link of `scenario`, if it has one. Its queue holds what it carries in a round trip.
fn spec(scenario: &Link, server: &str, client: &str) -> Option<Spec> {
    let table::Path::Link { mbit_per_s, rtt_ms, loss_percent } = scenario.path else {
        return None;
    };
    let (bytes_per_s, rtt) = (mbit_per_s * 1_000_000 / 8, Duration::from_millis(rtt_ms));
    let in_flight = bytes_per_s as f64 * rtt.max(LEAST_QUEUE_RTT).as_secs_f64();
    let after_bytes = scenario.work.bytes() / 2;
    let slower = Turn { after_bytes, bytes_per_s: bytes_per_s / 3 };
    let up =
        Way { bytes_per_s, delay: rtt / 2, loss: 0.0, queue_bytes: UP_QUEUE_BYTES, then: None };
    let down = Way {
        loss: loss_percent / 100.0,
        queue_bytes: (in_flight as u64).max(LEAST_QUEUE_BYTES),
        then: (scenario.midway == Midway::Slower).then_some(slower),
        ..up
    };
    let readdressed = scenario.midway == Midway::Readdressed;
    Some(Spec {
        server: server.to_owned(),
        client: client.to_owned(),
        down,
        up,
        readdress_after_bytes: readdressed.then_some(after_bytes),
    })
}

/// The first figure of nginx's status page.
fn active(answer: &str) -> Option<u64> {
    answer.lines().find_map(|line| line.strip_prefix("Active connections:")?.trim().parse().ok())
}

fn configuration(scenario: &Link, directory: &Path) -> String {
    let home = directory.join("origin");
    let home = home.display();
    let tls = if scenario.tls() {
        let http2 = if scenario.protocol == Protocol::Http2 { " http2" } else { "" };
        format!(
            "    listen 443 ssl{http2};\n    ssl_certificate \"{home}/server.pem\";\n    \
             ssl_certificate_key \"{home}/server.key\";\n"
        )
    } else {
        String::new()
    };
    // Connections to an address that is gone would stay for a minute.
    let patience =
        if scenario.midway == Midway::Readdressed { "    send_timeout 5s;\n" } else { "" };
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("  {kind}_temp_path \"{home}/{kind}\";\n"))
        .collect();
    format!(
        "daemon off;\nworker_processes 1;\nuser root;\npid \"{home}/nginx.pid\";\n\
         error_log \"{home}/error.log\" warn;\n\
         events {{ worker_connections 2048; }}\n\
         http {{\n{temporary}  default_type application/octet-stream;\n  sendfile on;\n  \
         tcp_nopush on;\n  keepalive_requests 1000000;\n  reset_timedout_connection on;\n  \
         limit_conn_zone $binary_remote_addr zone=addr:1m;\n  \
         limit_req_zone $binary_remote_addr zone=requests:1m rate=5r/s;\n  \
         log_format run '{RUN} $request_method $status $body_bytes_sent $http_range';\n  \
         access_log \"{home}/access.log\" run;\n  \
         server {{ listen 127.0.0.1:{STATUS_PORT}; access_log off; stub_status; }}\n  \
         server {{\n    listen 80;\n{tls}{patience}    {manners}\n    \
         root \"{www}\";\n  }}\n}}\n",
        manners = scenario.manners,
        www = directory.join("www").display(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_page_is_read() {
        let page = "HTTP/1.1 200 OK\r\n\r\nActive connections: 17 \nserver accepts\n 1 2 3\n";
        assert_eq!(active(page), Some(17));
        assert_eq!(active("HTTP/1.1 404 Not Found\r\n\r\n"), None);
    }

    #[test]
    fn the_queue_holds_a_round_trip_and_never_less_than_its_least() {
        let queue = |name| {
            let link = Link::named(name).expect(name);
            spec(&link, "s", "c").map(|spec| spec.down.queue_bytes)
        };
        assert_eq!(queue("fast1g80"), Some(10_000_000));
        // 5 ms away, and yet with the queue of 20.
        assert_eq!(queue("clean1g"), Some(2_500_000));
        assert_eq!(queue("cap4m_near"), None);
    }
}
