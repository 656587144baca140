//! Who runs, and with which command line.

use std::path::{Path, PathBuf};
use std::process::Command;

/// What a contender is to the bars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// haul itself, in one of its ways.
    Haul,
    /// One of those that haul is measured against.
    Peer,
    /// Runs along for information: the floor, and what is not everybody's tool.
    Aside,
}

/// One program in one configuration.
#[derive(Clone, Debug)]
pub struct Contender {
    /// How the tables call it: the command line without the paths.
    pub name: String,
    /// What it is to the bars.
    pub role: Role,
    tool: Tool,
    program: PathBuf,
}

#[derive(Clone, Debug)]
enum Tool {
    Haul(&'static [&'static str]),
    Curl,
    Aria2,
    Axel,
    Wget2,
    Floor { connections: u32, sync: bool },
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

/// haul's ways in the race; the first two are those of the bars.
pub const HAUL_NO_SYNC: &[&str] = &["-q", "--no-sync"];
/// haul as it is.
pub const HAUL_DEFAULT: &[&str] = &["-q"];
/// haul without mappings.
pub const HAUL_PWRITE: &[&str] = &["-q", "--storage", "pwrite", "--no-sync"];

impl Contender {
    /// haul with these flags.
    #[must_use]
    pub fn haul(program: &Path, flags: &'static [&'static str]) -> Self {
        Self {
            name: format!("haul {}", flags.join(" ")),
            role: Role::Haul,
            tool: Tool::Haul(flags),
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
            tool: Tool::Floor { connections, sync },
            program: program.to_path_buf(),
        }
    }

    /// The others that are installed here, and a sentence for each that is missing.
    #[must_use]
    pub fn others() -> (Vec<Self>, Vec<String>) {
        let known = [
            (Tool::Curl, "curl", "curl -s -o", Role::Peer),
            (
                Tool::Aria2,
                "aria2c",
                "aria2c -x16 -s16 -k1M --file-allocation=falloc -q",
                Role::Peer,
            ),
            (Tool::Axel, "axel", "axel -n8 -q", Role::Peer),
            (Tool::Wget2, "wget2", "wget2 -q --chunk-size=16M --max-threads=8", Role::Aside),
        ];
        let (mut found, mut missing) = (Vec::new(), Vec::new());
        for (tool, command, name, role) in known {
            match find_program(command) {
                Some(program) => {
                    found.push(Self { name: name.to_owned(), role, tool, program });
                }
                None if role == Role::Peer => missing.push(format!(
                    "{command} is not installed and does not run: apt-get install {}",
                    command.trim_end_matches('c')
                )),
                None => {}
            }
        }
        (found, missing)
    }

    /// Whether this one can fetch from the race's HTTPS server: the floor speaks plain HTTP, and
    /// axel does not find an IP address in a certificate.
    #[must_use]
    pub fn speaks_tls(&self) -> bool {
        !matches!(self.tool, Tool::Floor { .. } | Tool::Axel)
    }

    /// The command for `job`, without any proxy.
    #[must_use]
    pub fn command(&self, job: &Job<'_>) -> Command {
        let mut command = Command::new(&self.program);
        for scheme in ["http", "https", "all"] {
            command.env_remove(format!("{scheme}_proxy"));
            command.env_remove(format!("{}_PROXY", scheme.to_uppercase()));
        }
        let output = job.directory.join(job.name);
        match &self.tool {
            Tool::Haul(flags) => {
                command.args(*flags).arg("-o").arg(&output);
                job.ca.map(|ca| command.arg("--cacert").arg(ca));
            }
            Tool::Curl => {
                command.arg("-s").arg("-o").arg(&output);
                job.ca.map(|ca| command.arg("--cacert").arg(ca));
            }
            Tool::Aria2 => {
                command.args(["-x16", "-s16", "-k1M", "--file-allocation=falloc", "-q"]);
                command.arg("-d").arg(job.directory).arg("-o").arg(job.name);
                job.ca.map(|ca| command.arg(format!("--ca-certificate={}", ca.display())));
            }
            Tool::Axel => {
                command.args(["-n8", "-q", "-o"]).arg(&output);
            }
            Tool::Wget2 => {
                command.args(["-q", "--chunk-size=16M", "--max-threads=8", "-O"]).arg(&output);
                job.ca.map(|ca| command.arg(format!("--ca-certificate={}", ca.display())));
            }
            Tool::Floor { connections, sync } => {
                command.arg("--floor").arg(job.url).arg(&output).arg(connections.to_string());
                if *sync {
                    command.arg("--sync");
                }
                return command;
            }
        }
        command.arg(job.url);
        command
    }
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
