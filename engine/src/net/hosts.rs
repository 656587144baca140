//! What earlier downloads have learned about servers: the file `hosts` in the state
//! directory.
//!
//! The file is only a hint: if it is missing, damaged or cannot be written, the
//! next download spends a second on growth, and no error is reported. It names
//! hosts and ports, never a path, a query or a login; only its owner can read it;
//! and it has at most [`MAX_HOSTS`] lines, for the hosts met last.
//!
//! The file is replaced as a whole. The name of its successor serves as a lock: of
//! two processes that record at the same moment, one does without.

use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::connect::Origin;
use crate::model::concurrency::{Bound, Learned};
use crate::os;

const FIRST_LINE: &str = "haul hosts 1";
const MAX_HOSTS: usize = 512;
/// No file of that many lines is larger: a host's name has at most 255 bytes.
const MAX_BYTES: u64 = 300 * MAX_HOSTS as u64;
const DAY_S: u64 = 24 * 3600;
/// How long measurements are believed.
const FORGET_AFTER_S: u64 = 30 * DAY_S;
/// Refusals are forgotten sooner: they may come from a bad hour.
const FORGET_REFUSAL_AFTER_S: u64 = DAY_S;
/// A successor this old was left behind by a process that is gone.
const ABANDONED: Duration = Duration::from_secs(60);

/// The file of hosts in one state directory.
#[derive(Debug, Clone)]
pub(crate) struct Hosts {
    directory: PathBuf,
}

/// What is remembered of one host.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// How many connections were worth having.
    pub(crate) learned: Option<Learned>,
    /// Longer parts are refused, in bytes.
    pub(crate) part_bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    host: String,
    of: Remembered,
    unix_seconds: u64,
}

impl Hosts {
    /// The file `hosts` in `directory`, which is made when something is recorded.
    pub(crate) fn of(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// What is remembered of `origin`, as far as it is still believed. Reads a file.
    pub(crate) fn look_up(&self, origin: &Origin) -> Option<Remembered> {
        let host = origin.to_string();
        let now = unix_now();
        let line = parse(&self.read().ok()?, now).into_iter().find(|line| line.host == host)?;
        let age = Duration::from_secs(now.saturating_sub(line.unix_seconds));
        let learned = line.of.learned.and_then(|learned| learned.aged(age));
        Some(Remembered { learned, ..line.of })
    }

    /// Remembers what was learned of `origin`. Writes a file, unless the same was
    /// recorded within a day.
    pub(crate) fn record(&self, origin: &Origin, shown: Remembered) {
        if let Err(error) = self.try_record(origin, shown, unix_now()) {
            tracing::debug!(%error, "what was learned of the server is not remembered");
        }
    }

    fn try_record(&self, origin: &Origin, shown: Remembered, now: u64) -> io::Result<()> {
        let mut line = Line { host: origin.to_string(), of: shown, unix_seconds: now };
        if !is_host(&line.host) {
            return Ok(());
        }
        if !self.directory.is_dir() {
            os::file::create_private_directory(&self.directory)?;
        }
        let successor = self.directory.join("hosts.new");
        let Some(mut file) = claim(&successor)? else { return Ok(()) };
        let replaced = (|| {
            let mut lines = parse(&self.read().unwrap_or_default(), now);
            if let Some(old) = lines.iter().find(|old| old.host == line.host) {
                // What this download did not learn is still known.
                line.of.learned = shown.learned.or(old.of.learned);
                line.of.part_bytes = shown.part_bytes.or(old.of.part_bytes);
                if old.of == line.of && old.unix_seconds + DAY_S > now {
                    return fs::remove_file(&successor);
                }
            }
            lines.retain(|old| old.host != line.host);
            lines.push(line);
            file.write_all(format(&lines).as_bytes())?;
            fs::rename(&successor, self.directory.join("hosts"))
        })();
        if replaced.is_err() {
            let _ = fs::remove_file(&successor);
        }
        replaced
    }

    fn read(&self) -> io::Result<String> {
        // Whatever lies at this path, opening it must not wait.
        let file = os::file::open_followed(&self.directory.join("hosts"))?;
        if !file.metadata()?.is_file() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

/// The successor, created by this process alone; `None` while another process has it.
fn claim(path: &Path) -> io::Result<Option<File>> {
    for _ in 0..2 {
        match os::file::create_private(path) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
        let made = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
        let age = made.ok().and_then(|made| SystemTime::now().duration_since(made).ok());
        if age.is_none_or(|age| age < ABANDONED) {
            return Ok(None);
        }
        fs::remove_file(path)?;
    }
    Ok(None)
}

fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Whether this is a host and a port, in characters that a line can hold.
fn is_host(text: &str) -> bool {
    let allowed = |c: u8| c.is_ascii_alphanumeric() || b".-_:[]%".contains(&c);
    text.len() <= 262 && text.bytes().all(allowed) && text.rsplit_once(':').is_some()
}

fn format(lines: &[Line]) -> String {
    let mut text = format!("{FIRST_LINE}\n");
    for Line { host, of, unix_seconds } in &lines[lines.len().saturating_sub(MAX_HOSTS)..] {
        let why = of.learned.map_or("-", |learned| match learned.why {
            Bound::Connection => "connection",
            Bound::Link => "link",
            Bound::Server => "server",
        });
        let connections = of.learned.map_or(0, |learned| learned.connections);
        let part = of.part_bytes.map(|bytes| format!(" part={bytes}")).unwrap_or_default();
        text += &format!("{host} {connections} {why} {unix_seconds}{part}\n");
    }
    text
}

/// The valid lines that are not too old, in order of time.
fn parse(text: &str, now: u64) -> Vec<Line> {
    let mut lines = text.lines();
    if lines.next() != Some(FIRST_LINE) {
        return Vec::new();
    }
    let mut lines: Vec<Line> = lines.filter_map(parse_line).collect();
    lines.retain(|line| {
        let refuses = line.of.learned.is_some_and(|learned| learned.why == Bound::Server);
        let keep_s = if refuses { FORGET_REFUSAL_AFTER_S } else { FORGET_AFTER_S };
        // A clock that was set back must not keep anything for ever.
        line.unix_seconds <= now + DAY_S && now <= line.unix_seconds.saturating_add(keep_s)
    });
    lines.sort_by_key(|line| line.unix_seconds);
    lines
}

fn parse_line(line: &str) -> Option<Line> {
    let mut words = line.split(' ');
    let host = words.next().filter(|host| is_host(host))?.to_owned();
    let connections = words.next()?.parse().ok().filter(|count| *count <= 64)?;
    let why = match words.next()? {
        "connection" => Some(Bound::Connection),
        "link" => Some(Bound::Link),
        "server" => Some(Bound::Server),
        "-" => None,
        _ => return None,
    };
    if why.is_some() != (connections > 0) {
        return None;
    }
    let learned = why.map(|why| Learned { connections, why });
    let unix_seconds = words.next()?.parse().ok()?;
    let part_bytes = match words.next() {
        Some(word) => Some(word.strip_prefix("part=")?.parse().ok().filter(|bytes| *bytes > 0)?),
        None => None,
    };
    let of = Remembered { learned, part_bytes };
    words.next().is_none().then_some(Line { host, of, unix_seconds })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::testing::{HAS_MODES, mode};

    fn origin(host: &str) -> Origin {
        Origin { https: true, host: host.to_owned(), port: 443 }
    }

    const fn learned(connections: usize, why: Bound) -> Remembered {
        Remembered { learned: Some(Learned { connections, why }), part_bytes: None }
    }

    const SIXTEEN: Remembered = learned(16, Bound::Connection);
    const TWO: Remembered = learned(2, Bound::Server);

    #[test]
    fn what_was_learned_is_remembered_privately() {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("state/haul");
        let hosts = Hosts::of(directory.clone());
        assert_eq!(hosts.look_up(&origin("a.test")), None);
        hosts.record(&origin("a.test"), SIXTEEN);
        hosts.record(&origin("[::1]"), TWO);
        assert_eq!(hosts.look_up(&origin("a.test")), Some(SIXTEEN));
        assert_eq!(hosts.look_up(&origin("[::1]")), Some(TWO));
        hosts.record(&origin("a.test"), TWO);
        assert_eq!(hosts.look_up(&origin("a.test")), Some(TWO));
        if HAS_MODES {
            assert_eq!(mode(&directory.join("hosts")), 0o600);
            assert_eq!(mode(&directory), 0o700);
        }
        assert!(!directory.join("hosts.new").exists());
    }

    #[test]
    fn the_longest_part_is_remembered_beside_the_connections() {
        let home = tempfile::tempdir().unwrap();
        let hosts = Hosts::of(home.path().to_owned());
        let part = Remembered { learned: None, part_bytes: Some(1 << 20) };
        hosts.record(&origin("a.test"), part);
        assert_eq!(hosts.look_up(&origin("a.test")), Some(part));
        hosts.record(&origin("a.test"), SIXTEEN);
        let both = Remembered { part_bytes: Some(1 << 20), ..SIXTEEN };
        assert_eq!(hosts.look_up(&origin("a.test")), Some(both));
    }

    #[test]
    fn damage_and_foreign_files_are_no_error() {
        let home = tempfile::tempdir().unwrap();
        let hosts = Hosts::of(home.path().to_owned());
        let path = home.path().join("hosts");
        for damage in [
            &b""[..],
            b"\xff\xfe\x00garbage",
            b"haul hosts 1\na.test:443 99 link 5\na.test:443 4\na.test:443 4 link x\n",
            b"haul hosts 2\na.test:443 4 link 1\n",
        ] {
            fs::write(&path, damage).unwrap();
            assert_eq!(hosts.look_up(&origin("a.test")), None);
            hosts.record(&origin("a.test"), SIXTEEN);
            assert_eq!(hosts.look_up(&origin("a.test")), Some(SIXTEEN));
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(hosts.look_up(&origin("a.test")), None);
        hosts.record(&origin("a.test"), SIXTEEN);
        let nowhere = Hosts::of(PathBuf::from("/proc/no/such"));
        nowhere.record(&origin("a.test"), SIXTEEN);
        assert_eq!(nowhere.look_up(&origin("a.test")), None);
    }

    #[test]
    fn it_is_bounded_and_old_things_are_forgotten() {
        let now = 100 * DAY_S;
        let line = |index: u64, of| Line {
            host: format!("h{index}.test:80"),
            of,
            unix_seconds: now - index,
        };
        let lines: Vec<Line> = (0..2000).rev().map(|index| line(index, SIXTEEN)).collect();
        let kept = parse(&format(&lines), now);
        assert_eq!(kept.len(), MAX_HOSTS);
        assert_eq!(kept.last(), Some(&line(0, SIXTEEN)), "the latest stay");
        assert!(format(&lines).len() as u64 <= MAX_BYTES);
        let lines = [line(2 * DAY_S, SIXTEEN), line(2 * DAY_S, TWO), line(40 * DAY_S, SIXTEEN)];
        assert_eq!(parse(&format(&lines), now), [line(2 * DAY_S, SIXTEEN)]);
    }

    #[test]
    fn writers_at_the_same_time_leave_a_whole_file() {
        let home = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let hosts = Hosts::of(home.path().to_owned());
                scope.spawn(move || {
                    for turn in 0..50 {
                        let of = if turn % 2 == 0 { SIXTEEN } else { TWO };
                        hosts.record(&origin(&format!("h{thread}.test")), of);
                    }
                });
            }
        });
        let text = fs::read_to_string(home.path().join("hosts")).unwrap();
        assert!(text.lines().skip(1).all(|line| parse_line(line).is_some()), "{text}");
        assert!(text.lines().count() > 1);
        assert!(!home.path().join("hosts.new").exists());
    }
}
