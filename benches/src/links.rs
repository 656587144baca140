//! `race --links`: downloads over real TCP on shaped links.
//!
//! Loopback has no round trip, no loss and no queue, so what congestion control makes of
//! connections does not show there. Here server and clients live in two network namespaces, and a
//! process of the race moves the packets between them, with a rate, a delay, loss and a bounded
//! queue: kernels need neither `netem` nor virtual Ethernet for that, only TUN.
//!
//! [`table`] says which scenarios there are and the least time that each allows; `line` what a link
//! does to packets, without any device; `tun` and `mover` are the devices and the process; `site`
//! is the place of one scenario; [`summary`] has a row for each.
//!
//! haul runs with nothing learnt of the server, and again with what that run left in its home.
//! With `--fixed` it also runs with fixed numbers of connections: the best of them is what its own
//! choice of a number should come near.

pub mod line;
pub mod mover;
pub mod site;
pub mod summary;
pub mod table;
mod tun;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::Failure;
use crate::args::Args;
use crate::contender::{Contender, Found, Job, Manner, batch_peers, find_peers, find_program};
use crate::namespace::Inside;
use crate::scenario::{Outcome, describe_place};
use crate::track::{Course, Entry, OUTPUT_NAME, Patience, race};
use crate::verify;
use site::Site;
use table::{AGAIN, Congestion, FILES, HAUL, Link, Midway, Work};

const FIXED: [u32; 5] = [1, 2, 4, 8, 16];
/// Where packets get lost, more connections may be worth it.
const FIXED_MORE: [u32; 2] = [32, 64];
/// How long a silent connection is borne where the client's address changes, by peers.
const STALL: Duration = Duration::from_secs(10);
/// How much of the object's size must be free in memory.
const ROOM_FACTOR: u64 = 3;

/// What is missing here to run anything on a link, in a sentence.
#[must_use]
pub fn what_is_missing() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("the links need root, for namespaces and devices: they were skipped".into());
    }
    let tun = std::fs::File::options().read(true).write(true).open("/dev/net/tun");
    if let Err(error) = tun {
        return Some(format!("the links need /dev/net/tun ({error}): they were skipped"));
    }
    let package = |program| match program {
        "nginx" => "nginx-light",
        "ip" => "iproute2",
        other => other,
    };
    let missing = ["nginx", "ip", "openssl"].into_iter().find(|name| find_program(name).is_none());
    missing.map(|name| {
        format!("the links need {name} (apt-get install {}): they were skipped", package(name))
    })
}

/// Runs `links`, one after the other.
///
/// # Errors
///
/// When a place fails; a contender that fails only leaves its lane.
pub fn run(
    links: &[Link],
    args: &Args,
    haul: &Path,
    shuffle: &mut fastrand::Rng,
) -> Result<Vec<Outcome>, Failure> {
    let nginx = find_program("nginx").ok_or("nginx is not installed")?;
    let (peers, missing) = find_peers(args.clients.as_deref());
    for sentence in missing {
        eprintln!("note: {sentence}");
    }
    let field = Field { args, haul, nginx: &nginx, peers };
    let mut outcomes = Vec::new();
    for link in links {
        let congestion = link.congestion.unwrap_or(args.cc);
        if has(congestion) {
            eprintln!("{}: {}", link.name, link.about);
            outcomes.push(field.run(*link, congestion, shuffle)?);
        } else {
            let name = congestion.name();
            eprintln!("note: this kernel has no {name}, so {} was skipped", link.name);
        }
    }
    Ok(outcomes)
}

fn has(congestion: Congestion) -> bool {
    let available = "/proc/sys/net/ipv4/tcp_available_congestion_control";
    let names = std::fs::read_to_string(available).unwrap_or_default();
    names.split_ascii_whitespace().any(|name| name == congestion.name())
}

/// What all scenarios have in common.
struct Field<'a> {
    args: &'a Args,
    haul: &'a Path,
    nginx: &'a Path,
    peers: Vec<Found>,
}

/// Somebody who runs.
struct Runner {
    contender: Contender,
    /// The directory that is its `HOME`.
    home: PathBuf,
    /// It finds nothing in its home.
    fresh: bool,
    /// Its connections are fixed, for comparison.
    fixed: bool,
    after: Option<usize>,
}

impl Runner {
    fn fresh(contender: Contender, home: &Path) -> Self {
        Self { contender, home: home.to_path_buf(), fresh: true, fixed: false, after: None }
    }

    /// The command that fetches what `link` asks for from `url` into `output`.
    fn command(
        &self,
        link: &Link,
        url: &str,
        output: &Path,
        ca: Option<&Path>,
    ) -> Result<Command, Failure> {
        if self.fresh && self.home.exists() {
            std::fs::remove_dir_all(&self.home)?;
        }
        std::fs::create_dir_all(&self.home)?;
        let mut command = match link.work {
            Work::Object(_) => {
                let job = Job { url, directory: output, name: OUTPUT_NAME, ca };
                self.contender.command(&job)
            }
            Work::List => {
                let urls: Vec<String> =
                    (0..FILES).map(|number| format!("{url}/{number}")).collect();
                let list = output.with_extension("list");
                self.contender.batch_command(&urls, &list, output, ca)?
            }
        };
        command.env("HOME", &self.home);
        for kind in ["STATE", "CONFIG", "CACHE", "DATA"] {
            command.env_remove(format!("XDG_{kind}_HOME"));
        }
        Ok(command)
    }
}

impl Field<'_> {
    fn run(
        &self,
        link: Link,
        congestion: Congestion,
        shuffle: &mut fastrand::Rng,
    ) -> Result<Outcome, Failure> {
        let directory = self.place(&link)?;
        let site = Site::start(link, congestion, self.nginx, &directory)?;
        let (output, ca, ideal) = (directory.join("out"), site.ca(), link.ideal());
        let runners = self.runners(&link, &directory);
        let (to, trusted) = (&output, ca.as_deref());
        let entries: Vec<Entry<'_>> = runners
            .iter()
            .map(|runner| Entry {
                name: runner.contender.name.clone(),
                role: runner.contender.role,
                source: &site,
                after: runner.after,
                prepare: Box::new(move |url| runner.command(&link, url, to, trusted)),
            })
            .collect();
        let course = Course {
            guard: site.guard(),
            scenario: link.name,
            output: output.clone(),
            keep: false,
            check: &|_, directory| check(&link, &site, directory),
            then_sync: false,
            patience: Patience {
                limit: (ideal * 10).clamp(Duration::from_secs(60), Duration::from_secs(180)),
                // One connection alone takes minutes where each is capped: seen once is enough.
                once_above: (ideal * 3).max(Duration::from_secs(20)),
            },
        };
        let mut lanes = {
            let _inside = Inside::enter(site.client())?;
            race(&course, &entries, self.args.rounds, shuffle)?
        };
        for (lane, runner) in lanes.iter_mut().zip(&runners) {
            lane.fixed = runner.fixed;
        }
        Ok(Outcome {
            scenario: link.name,
            size_bytes: link.work.bytes(),
            files: if link.work == Work::List { FILES } else { 1 },
            output: describe_place(&output),
            limit_s: Some(ideal.as_secs_f64()),
            lanes,
            notes: vec![format!("{}; {} at the server", link.about, congestion.name())],
            bars: Vec::new(),
        })
    }

    fn runners(&self, link: &Link, directory: &Path) -> Vec<Runner> {
        let flags = if link.work == Work::List { "-q -i" } else { "-q" };
        let haul = |flags: &str| Contender::haul(self.haul, flags);
        let (home, other) = (directory.join("home"), directory.join("other-home"));
        let mut runners = Vec::new();
        if self.wants(HAUL) {
            runners.push(Runner::fresh(haul(flags), &home));
            if self.wants(AGAIN) {
                let mut contender = haul(flags);
                contender.name.push_str(", again");
                let runner = Runner::fresh(contender, &home);
                runners.push(Runner { fresh: false, after: Some(0), ..runner });
            }
        }
        if self.args.fixed && link.work != Work::List {
            let more = FIXED_MORE.iter().filter(|_| link.loses());
            for count in FIXED.iter().chain(more) {
                let runner = Runner::fresh(haul(&format!("{flags} -x {count}")), &other);
                runners.push(Runner { fixed: true, ..runner });
            }
        }
        let peers = match link.work {
            Work::List => batch_peers(&self.peers),
            Work::Object(_) => {
                let manner = manner(link);
                self.peers.iter().map(|found| Contender::peer(found, manner)).collect()
            }
        };
        let able = peers.into_iter().filter(|peer| !link.tls() || peer.speaks_tls());
        runners.extend(able.map(|peer| Runner::fresh(peer, &other)));
        runners
    }

    fn wants(&self, name: &str) -> bool {
        self.args.clients.as_ref().is_none_or(|names| names.iter().any(|one| one == name))
    }

    /// Where everything of `link` lies: in memory if there is room, for disks are slower than some
    /// links and never twice the same.
    fn place(&self, link: &Link) -> Result<PathBuf, Failure> {
        let memory = Path::new("/dev/shm");
        let free = rustix::fs::statvfs(memory).map_or(0, |space| space.f_bavail * space.f_frsize);
        let base = match &self.args.dir {
            Some(directory) => std::path::absolute(directory)?,
            None if free >= ROOM_FACTOR * link.work.bytes() => memory.to_path_buf(),
            None => std::env::temp_dir(),
        };
        Ok(base.join(format!("haul-links-{}-{}", std::process::id(), link.name)))
    }
}

fn manner(link: &Link) -> Manner {
    let moved = link.midway == Midway::Readdressed;
    Manner {
        connections: Some(16),
        stall: moved.then_some(STALL),
        stubborn: link.refuses || moved,
        resume: false,
    }
}

fn check(link: &Link, site: &Site, directory: &Path) -> Result<(), Failure> {
    match link.work {
        Work::Object(_) => {
            verify::same_whole(&site.served(site::OBJECT), &directory.join(OUTPUT_NAME))
        }
        Work::List => (0..FILES).map(|number| number.to_string()).try_for_each(|name| {
            verify::same_whole(&site.served(site::LIST).join(&name), &directory.join(name))
        }),
    }
}
