//! Who runs, and with which command line.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Failure;

/// What a contender is to the bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// haul itself, in one of its ways.
    Haul,
    /// One of those that haul is measured against.
    Peer,
    /// Runs along for information: the floor.
    Aside,
}

/// A peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// curl: one connection.
    Curl,
    /// aria2.
    Aria2,
    /// axel.
    Axel,
    /// GNU Wget2, with chunks.
    Wget2,
    /// lftp's `pget`.
    Lftp,
    /// fast-down, whose command is `fd`.
    FastDown,
    /// The Python module that the Hugging Face hub downloads with.
    HfTransfer,
}

/// A peer that is installed here.
#[derive(Clone, Debug)]
pub struct Found {
    /// Which.
    pub peer: Peer,
    program: PathBuf,
}

impl Found {
    /// Its path.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.program
    }
}

/// What a scenario wants of everybody, as far as they have a flag for it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Manner {
    /// Connections; without it what is usual for each.
    pub connections: Option<u32>,
    /// A connection that is silent for so long is given up.
    pub stall: Option<Duration>,
    /// Any number of failures is borne.
    pub stubborn: bool,
    /// An interrupted download is continued.
    pub resume: bool,
}

/// One program in one configuration.
#[derive(Clone, Debug)]
pub struct Contender {
    /// How the tables call it: the command line without the paths.
    pub name: String,
    /// What it is to the bars.
    pub role: Role,
    tool: Tool,
    flags: Vec<String>,
    program: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Haul,
    Peer(Peer),
    Floor,
}

/// What a contender has to do.
#[derive(Clone, Copy, Debug)]
pub struct Job<'a> {
    /// What to fetch.
    pub url: &'a str,
    /// An empty directory.
    pub directory: &'a Path,
    /// The name the file must have in it.
    pub name: &'a str,
    /// The CA to trust, for HTTPS.
    pub ca: Option<&'a Path>,
}

impl Peer {
    /// All, in the order of the tables' legends.
    pub const ALL: [Self; 7] = [
        Self::Curl,
        Self::Aria2,
        Self::Axel,
        Self::Wget2,
        Self::Lftp,
        Self::FastDown,
        Self::HfTransfer,
    ];

    /// The name as typed after `--peers`, which is the command's.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::Aria2 => "aria2c",
            Self::Axel => "axel",
            Self::Wget2 => "wget2",
            Self::Lftp => "lftp",
            Self::FastDown => "fd",
            Self::HfTransfer => "hf_transfer",
        }
    }

    /// How to get it.
    #[must_use]
    pub fn how_to_get(self) -> &'static str {
        match self {
            Self::Curl => "apt-get install curl",
            Self::Aria2 => "apt-get install aria2",
            Self::Axel => "apt-get install axel",
            Self::Wget2 => "apt-get install wget2",
            Self::Lftp => "apt-get install lftp",
            Self::FastDown => "cargo install fast-down-cli",
            Self::HfTransfer => "pip install hf_transfer",
        }
    }

    fn find(self) -> Option<PathBuf> {
        match self {
            Self::HfTransfer => find_program("python3")
                .filter(|python| says(python, &["-c", "import hf_transfer"]).is_some()),
            // Another program of this name finds files.
            Self::FastDown => find_program("fd").filter(|fd| {
                says(fd, &["download", "--help"])
                    .is_some_and(|help| help.contains("--write-method"))
            }),
            _ => find_program(self.name()),
        }
    }

    /// The flags that do not depend on the job.
    fn flags(self, manner: Manner) -> Vec<String> {
        let connections = |usual: u32| manner.connections.unwrap_or(usual);
        let stall_s = manner.stall.map(|stall| stall.as_secs().max(1));
        let mut flags: Vec<String> = Vec::new();
        let mut add = |text: String| flags.extend(text.split(' ').map(str::to_owned));
        match self {
            Self::Curl => {
                add("-s -f".to_owned());
                if let Some(seconds) = stall_s {
                    add(format!("--speed-limit 1 --speed-time {seconds}"));
                }
                if manner.stubborn {
                    add("--retry 1000 --retry-delay 0 --retry-all-errors".to_owned());
                }
                if manner.stubborn || manner.resume {
                    add("-C -".to_owned());
                }
            }
            Self::Aria2 => {
                let count = connections(16);
                add(format!("-x{count} -s{count} -k1M --file-allocation=falloc -q --no-conf"));
                if let Some(seconds) = stall_s {
                    add(format!("--timeout={seconds}"));
                }
                if manner.stubborn {
                    add("--max-tries=0 --retry-wait=0".to_owned());
                }
                if manner.resume {
                    add("-c --auto-save-interval=1".to_owned());
                }
            }
            Self::Axel => {
                add(format!("-n{} -q", connections(8)));
                if let Some(seconds) = stall_s {
                    add(format!("-T {seconds}"));
                }
            }
            Self::Wget2 => {
                let size = if manner.connections.is_some() { "4M" } else { "16M" };
                add(format!("-q --no-config --chunk-size={size} --max-threads={}", connections(8)));
                if let Some(seconds) = stall_s {
                    add(format!("--read-timeout={seconds}"));
                }
                if manner.stubborn {
                    add("--tries=0".to_owned());
                }
                if manner.resume {
                    add("-c".to_owned());
                }
            }
            Self::Lftp => {
                add(format!("-n {}", connections(8)));
                if manner.resume {
                    add("-c".to_owned());
                }
            }
            Self::FastDown => {
                add(format!("download -t {} --write-method std", connections(32)));
                add(if manner.resume { "-y" } else { "--no-resume -f -y" }.to_owned());
                if let Some(stall) = manner.stall {
                    add(format!("--pull-timeout {}", stall.as_millis()));
                }
            }
            Self::HfTransfer => add(format!("{} 10485760", connections(16))),
        }
        flags
    }
}

/// The peers that are installed here and, unless `wanted` is `None`, named in it; and a sentence
/// for each that is missing.
#[must_use]
pub fn find_peers(wanted: Option<&[String]>) -> (Vec<Found>, Vec<String>) {
    let known = Peer::ALL.map(|peer| (peer, peer.name(), peer.how_to_get()));
    let (found, missing) = look_for(&known, wanted, Peer::find);
    (found.into_iter().map(|(peer, program)| Found { peer, program }).collect(), missing)
}

/// Of programs with their names and how to get them: those that are installed here and, unless
/// `wanted` is `None`, named in it; and a sentence for each that is missing.
pub(crate) fn look_for<P: Copy>(
    known: &[(P, &str, &str)],
    wanted: Option<&[String]>,
    find: impl Fn(P) -> Option<PathBuf>,
) -> (Vec<(P, PathBuf)>, Vec<String>) {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for &(peer, name, how_to_get) in known {
        if wanted.is_some_and(|names| !names.iter().any(|one| one == name)) {
            continue;
        }
        match find(peer) {
            Some(program) => found.push((peer, program)),
            None => missing.push(format!("{name} is not installed and does not run: {how_to_get}")),
        }
    }
    (found, missing)
}

impl Contender {
    /// haul with these flags, separated by spaces.
    #[must_use]
    pub fn haul(program: &Path, flags: &str) -> Self {
        Self {
            name: format!("haul {flags}").trim_end().to_owned(),
            role: Role::Haul,
            tool: Tool::Haul,
            flags: flags.split_ascii_whitespace().map(str::to_owned).collect(),
            program: program.to_path_buf(),
        }
    }

    /// The floor, a mode of this program.
    #[must_use]
    pub fn floor(program: &Path, connections: u32, sync: bool) -> Self {
        let suffix = if sync { " + fdatasync" } else { "" };
        Self {
            name: format!("floor: {connections} raw sockets, pwrite{suffix}"),
            role: Role::Aside,
            tool: Tool::Floor,
            flags: std::iter::once(connections.to_string())
                .chain(sync.then(|| "--sync".to_owned()))
                .collect(),
            program: program.to_path_buf(),
        }
    }

    /// A peer in the manner of the scenario.
    #[must_use]
    pub fn peer(found: &Found, manner: Manner) -> Self {
        let flags = found.peer.flags(manner);
        let command = match found.peer {
            Peer::Lftp => "lftp pget",
            Peer::HfTransfer => "hf_transfer.download",
            other => other.name(),
        };
        Self {
            name: format!("{command} {}", flags.join(" ")),
            role: Role::Peer,
            tool: Tool::Peer(found.peer),
            flags,
            program: found.program.clone(),
        }
    }

    /// Whether this one can fetch from the race's HTTPS server: axel does not find an IP address
    /// in a certificate.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        self.tool != Tool::Peer(Peer::Axel)
    }

    /// The command for `job`, without any proxy.
    #[must_use]
    pub fn command(&self, job: &Job<'_>) -> Command {
        let mut command = quiet(&self.program);
        let output = job.directory.join(job.name);
        self.trust(&mut command, job.ca);
        match self.tool {
            Tool::Floor => {
                command.arg("--floor").arg(job.url).arg(&output).args(&self.flags);
            }
            Tool::Peer(Peer::Lftp) => {
                command.arg("-c").arg(self.lftp_script(job.url, &output, job.ca));
            }
            Tool::Peer(Peer::HfTransfer) => {
                command.arg("-c").arg(HF_SCRIPT).arg(job.url).arg(&output).args(&self.flags);
            }
            Tool::Haul | Tool::Peer(Peer::Curl) => {
                command.args(&self.flags).arg("-o").arg(&output).arg(job.url);
            }
            Tool::Peer(Peer::Aria2 | Peer::FastDown) => {
                command.args(&self.flags).arg("-d").arg(job.directory).arg("-o").arg(job.name);
                command.arg(job.url);
            }
            Tool::Peer(Peer::Axel) => {
                command.args(&self.flags).arg("-o").arg(&output).arg(job.url);
            }
            Tool::Peer(Peer::Wget2) => {
                command.args(&self.flags).arg("-O").arg(&output).arg(job.url);
            }
        }
        command
    }

    /// Has `command` trust the CA `ca` as well.
    fn trust(&self, command: &mut Command, ca: Option<&Path>) {
        let Some(ca) = ca else { return };
        // For those that have no flag for it.
        command.env("SSL_CERT_FILE", ca);
        match self.tool {
            Tool::Haul | Tool::Peer(Peer::Curl) => {
                command.arg("--cacert").arg(ca);
            }
            Tool::Peer(Peer::Aria2 | Peer::Wget2) => {
                command.arg(format!("--ca-certificate={}", ca.display()));
            }
            Tool::Floor | Tool::Peer(_) => {}
        }
    }

    fn lftp_script(&self, url: &str, output: &Path, ca: Option<&Path>) -> String {
        let trust = ca.map_or_else(String::new, |ca| format!("set ssl:ca-file {}; ", ca.display()));
        format!(
            "{trust}set net:reconnect-interval-base 1; set net:max-retries 1000; \
             set net:timeout 5; set cmd:fail-exit yes; pget {} \"{url}\" -o \"{}\"",
            self.flags.join(" "),
            output.display()
        )
    }
}

/// As the hub's client calls it: 10 MiB a request, retried a few times.
const HF_SCRIPT: &str = "import sys, hf_transfer\n\
                         url, output, connections, chunk = sys.argv[1:5]\n\
                         hf_transfer.download(url, output, int(connections), int(chunk), 3, 5)";

/// Who can fetch a list of URLs.
#[must_use]
pub fn batch_peers(found: &[Found]) -> Vec<Contender> {
    let flags = |peer: Peer| match peer {
        Peer::Curl => Some("-s -f --parallel --parallel-max 16 -K"),
        Peer::Aria2 => Some("-q --no-conf -j16 --file-allocation=none -i"),
        Peer::Wget2 => Some("-q --no-config --max-threads=16 -i"),
        _ => None,
    };
    found
        .iter()
        .filter_map(|found| {
            let flags = flags(found.peer)?;
            Some(Contender {
                name: format!("{} {flags} LIST", found.peer.name()),
                role: Role::Peer,
                tool: Tool::Peer(found.peer),
                flags: flags.split(' ').map(str::to_owned).collect(),
                program: found.program.clone(),
            })
        })
        .collect()
}

impl Contender {
    /// The command that fetches every URL in `urls` into `directory`, under the last part of its
    /// path. `list` is a file to write them to, `ca` the CA to trust, for HTTPS.
    ///
    /// # Errors
    ///
    /// When the list cannot be written.
    pub fn batch_command(
        &self,
        urls: &[String],
        list: &Path,
        directory: &Path,
        ca: Option<&Path>,
    ) -> Result<Command, Failure> {
        let name = |url: &str| directory.join(url.rsplit('/').next().unwrap_or(url));
        let lines: String = match self.tool {
            Tool::Peer(Peer::Curl) => urls
                .iter()
                .map(|url| format!("url = \"{url}\"\noutput = \"{}\"\n", name(url).display()))
                .collect(),
            _ => urls.iter().map(|url| format!("{url}\n")).collect(),
        };
        std::fs::write(list, lines)?;
        let mut command = quiet(&self.program);
        if self.tool == Tool::Floor {
            command.arg("--floor-list").arg(list).arg(directory).args(&self.flags);
            return Ok(command);
        }
        self.trust(&mut command, ca);
        command.args(&self.flags).arg(list);
        match self.tool {
            Tool::Peer(Peer::Curl) => {}
            Tool::Peer(Peer::Wget2) => {
                command.arg("-P").arg(directory);
            }
            _ => {
                command.arg("-d").arg(directory);
            }
        }
        Ok(command)
    }
}

/// A command that uses no proxy.
pub(crate) fn quiet(program: &Path) -> Command {
    let mut command = Command::new(program);
    for scheme in ["http", "https", "all"] {
        command.env_remove(format!("{scheme}_proxy"));
        command.env_remove(format!("{}_PROXY", scheme.to_uppercase()));
    }
    command
}

/// What this build of haul can do that the race has lanes for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abilities {
    /// `--no-digest`.
    pub no_digest: bool,
    /// `-i LIST`.
    pub input_file: bool,
    /// `haul bench --storage null`.
    pub null_storage: bool,
    /// `haul bench --rounds N`.
    pub bench_rounds: bool,
}

impl Abilities {
    /// Asks `haul` for its help.
    #[must_use]
    pub fn of(haul: &Path) -> Self {
        let help = |arguments: &[&str]| says(haul, arguments).unwrap_or_default();
        Self::read(&help(&["--help-all"]), &help(&["bench", "--help-all"]))
    }

    fn read(help: &str, bench: &str) -> Self {
        let has = |text: &str, flag: &str| {
            text.split(|c: char| c.is_whitespace() || "[]<>,=".contains(c)).any(|word| word == flag)
        };
        // The option itself: others speak of it.
        let lines = format!("\n{bench}");
        let storage = lines.split("\n      --storage").nth(1).unwrap_or_default();
        // Up to the next flag; clap writes the values either in a line or one under another.
        let values = storage.split("\n      --").next().unwrap_or_default();
        Self {
            no_digest: has(help, "--no-digest"),
            input_file: has(help, "--input-file"),
            null_storage: has(&values.replace(':', " "), "null"),
            bench_rounds: has(bench, "--rounds"),
        }
    }
}

/// What `program` prints on stdout, if it succeeds.
pub(crate) fn says(program: &Path, arguments: &[&str]) -> Option<String> {
    let output =
        Command::new(program).args(arguments).stdin(Stdio::null()).stderr(Stdio::null()).output();
    let output = output.ok().filter(|output| output.status.success())?;
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program's path, looked for in PATH and where system programs lie.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn abilities_are_read_from_the_help() {
        let help = "  -i, --input-file <FILE>\n      --no-digest\n          Skip BLAKE3\n";
        let bench = "      --storage <KIND>   How [possible values:\n         auto, mmap, null, \
                     pwrite]\n      --no-sync  x\n      --rounds <N>  y\n";
        let all =
            Abilities { no_digest: true, input_file: true, null_storage: true, bench_rounds: true };
        assert_eq!(Abilities::read(help, bench), all);
        let long = "      --storage <KIND>\n          - auto: Windows\n          - null: Nowhere\n";
        assert!(Abilities::read("", long).null_storage);
        let mentioned =
            "      --rounds <N>  1 with --storage\n      --storage <KIND>\n  null or so\n";
        assert!(Abilities::read("", mentioned).null_storage);
        let without = "      --storage <KIND>  [values: auto, mmap]\n      --json  null of it\n";
        assert_eq!(Abilities::read("--no-sync --input", without), Abilities::default());
    }

    #[test]
    fn a_manner_shows_in_every_peers_name() {
        let manner = Manner {
            connections: Some(16),
            stall: Some(Duration::from_secs(3)),
            stubborn: true,
            resume: false,
        };
        let name =
            |peer| Contender::peer(&Found { peer, program: PathBuf::from("/bin/x") }, manner).name;
        assert_eq!(name(Peer::Axel), "axel -n16 -q -T 3");
        assert_eq!(name(Peer::Lftp), "lftp pget -n 16");
        assert_eq!(
            name(Peer::Aria2),
            "aria2c -x16 -s16 -k1M --file-allocation=falloc -q --no-conf --timeout=3 \
             --max-tries=0 --retry-wait=0"
        );
        assert!(name(Peer::FastDown).contains("--pull-timeout 3000"));
    }
}
